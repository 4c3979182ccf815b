package wire

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"errors"
	"reflect"
	"testing"

	"dunlin/internal/sign"
)

func FuzzDecodeBatch(f *testing.F) {
	for _, records := range [][]Record{
		{result(1)},
		{GapRecord(Gap{First: 3, Count: 4, Why: GapQuota}), result(7), result(8)},
	} {
		data, err := EncodeBatch(epoch, records)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
		f.Add(data[:len(data)/2])
	}
	f.Add(pack([]byte(`{"t":"batch"}` + "\n")))
	f.Add(pack(bytes.Repeat([]byte{'\n'}, 1<<20)))
	f.Fuzz(func(t *testing.T, data []byte) {
		b, records, err := DecodeBatch(data)
		if err != nil {
			return
		}
		if len(records) != b.Count || records[0].Seq != b.First {
			t.Fatalf("%+v has %d records", b, len(records))
		}
		if _, _, err := Unseen(records, b.First); err != nil {
			t.Fatal(err)
		}
	})
}

// store is pack without the work of compressing.
func store(text []byte) []byte {
	var b bytes.Buffer
	z, _ := gzip.NewWriterLevel(&b, gzip.NoCompression)
	_, _ = z.Write(text)
	_ = z.Close()
	return b.Bytes()
}

// FuzzBatchText fuzzes what is inside the gzip, which mutation alone would
// hardly get past.
func FuzzBatchText(f *testing.F) {
	data, err := EncodeBatch(epoch, []Record{result(1), GapRecord(Gap{First: 2, Count: 9}), result(11)})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(gunzip(f, data))
	f.Fuzz(func(t *testing.T, text []byte) {
		if len(text) > MaxBatch {
			return
		}
		b, records, err := DecodeBatch(store(text))
		if err != nil {
			return
		}
		again, err := EncodeBatch(b.Epoch, records)
		if errors.Is(err, ErrTooLarge) {
			return
		}
		if err != nil {
			t.Fatal(err)
		}
		b2, records2, err := DecodeBatch(again)
		if err != nil || b2 != b || len(records2) != len(records) {
			t.Fatalf("%+v is read again as %+v, %v", b, b2, err)
		}
	})
}

func FuzzToken(f *testing.F) {
	line, err := token(f).Encode()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(line)
	f.Add("dunlin1.e30")
	f.Add("dunlin1." + line[20:])
	f.Fuzz(func(t *testing.T, s string) {
		k, err := ParseToken(s)
		if err != nil {
			return
		}
		again, err := k.Encode()
		if err != nil {
			t.Fatal(err)
		}
		if k2, err := ParseToken(again); err != nil || !reflect.DeepEqual(k, k2) {
			t.Fatalf("%#v, %#v, %v", k, k2, err)
		}
	})
}

func FuzzParseTopic(f *testing.F) {
	f.Add(Topic(Device{"acme", "pi-7"}, UpHello))
	f.Add("dunlin/v1/acme/pi-7/")
	f.Add("dunlin/v1/a+/b#/up/hello")
	f.Fuzz(func(t *testing.T, s string) {
		d, k, err := ParseTopic(s)
		if err == nil && Topic(d, k) != s {
			t.Fatalf("%q is written again as %q", s, Topic(d, k))
		}
	})
}

func FuzzUnseal(f *testing.F) {
	key := newKey(f)
	d := Device{"acme", "pi-7"}
	payload, err := Seal(key, d, DownCmd, Cmd{ID: "1", Name: CmdStatus})
	if err != nil {
		f.Fatal(err)
	}
	var s Signed
	if err := json.Unmarshal(payload, &s); err != nil {
		f.Fatal(err)
	}
	f.Add(payload)
	f.Add([]byte(`{"doc":null,"sig":{"key":"","sig":""}}`))
	f.Add([]byte(`{"doc":{"t":"cmd"}}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		var m Cmd
		if err := Unseal(sign.Trust{key.Public()}, d, DownCmd, data, &m); err == nil && m.ID != "1" {
			t.Fatalf("%q was taken for the hub's", data)
		}
	})
}
