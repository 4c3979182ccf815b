package wire

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"reflect"
	"strings"
	"testing"
	"time"

	"dunlin/internal/sign"
)

const epoch = "0123456789abcdef"

func gunzip(t testing.TB, data []byte) []byte {
	t.Helper()
	z, err := gzip.NewReader(bytes.NewReader(data))
	if err != nil {
		t.Fatal(err)
	}
	text, err := io.ReadAll(z)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func pack(text []byte) []byte {
	var b bytes.Buffer
	z, _ := gzip.NewWriterLevel(&b, gzip.BestCompression)
	_, _ = z.Write(text)
	_ = z.Close()
	return b.Bytes()
}

func result(seq int64) Record {
	return Record{Seq: seq, Kind: RecordResult, Body: json.RawMessage(fmt.Sprintf(`{"id":"r%d","note":"<&>"}`, seq))}
}

func TestBatchRoundTrip(t *testing.T) {
	records := []Record{result(5), GapRecord(Gap{First: 6, Count: 10, Why: GapQuota}), result(16)}
	data, err := EncodeBatch(epoch, records)
	if err != nil {
		t.Fatal(err)
	}
	b, got, err := DecodeBatch(data)
	if err != nil {
		t.Fatal(err)
	}
	if want := (Batch{T: "batch", Epoch: epoch, First: 5, Count: 3}); b != want {
		t.Errorf("batch is %+v, want %+v", b, want)
	}
	if !reflect.DeepEqual(got, records) {
		t.Errorf("records are %+v, want %+v", got, records)
	}
}

// TestLargestRecordFits: Drain relies on it, or one record could block all.
func TestLargestRecordFits(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	noise := make([]byte, MaxBody-2)
	for i := range noise {
		const plain = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789!#$%&'()*+,-./:;<=>?@[]^_`{|}~"
		noise[i] = plain[r.IntN(len(plain))]
	}
	rec := Record{Seq: math.MaxInt64 - 1, Kind: RecordResult, Body: json.RawMessage(`"` + string(noise) + `"`)}
	data, err := EncodeBatch(epoch, []Record{rec})
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := DecodeBatch(data); err != nil {
		t.Fatal(err)
	}
}

func TestEncodeBatchRefuses(t *testing.T) {
	big := make([]byte, 48<<10)
	r := rand.New(rand.NewPCG(3, 4))
	for i := range big {
		big[i] = "0123456789abcdef"[r.IntN(16)]
	}
	var many []Record
	for i := range 4 {
		many = append(many, Record{Seq: int64(i + 1), Kind: RecordResult, Body: json.RawMessage(`"` + string(big) + `"`)})
	}
	if _, err := EncodeBatch(epoch, many); !errors.Is(err, ErrTooLarge) {
		t.Errorf("four large records: %v, want ErrTooLarge", err)
	}
	cases := map[string][]Record{
		"none":           {},
		"hole":           {result(1), result(3)},
		"twice":          {result(1), result(1)},
		"hole after gap": {GapRecord(Gap{First: 1, Count: 2}), result(4)},
		"seq 0":          {result(0)},
		"gap elsewhere":  {{Seq: 1, Kind: RecordGap, Body: json.RawMessage(`{"first":2,"count":1}`)}},
		"gap of nothing": {GapRecord(Gap{First: 1})},
		"not JSON":       {{Seq: 1, Kind: RecordResult, Body: json.RawMessage(`{`)}},
	}
	for name, records := range cases {
		if _, err := EncodeBatch(epoch, records); !errors.Is(err, ErrMalformed) {
			t.Errorf("%s: %v, want ErrMalformed", name, err)
		}
	}
	if _, err := EncodeBatch("0123456789ABCDEF", []Record{result(1)}); err == nil {
		t.Error("an epoch in capitals was taken")
	}
}

func TestDecodeBatchRefuses(t *testing.T) {
	head := func(first, count int) string {
		return fmt.Sprintf(`{"t":"batch","epoch":%q,"first":%d,"count":%d}`+"\n", epoch, first, count)
	}
	line := func(seq int) string { return fmt.Sprintf(`{"seq":%d,"kind":"result","body":1}`+"\n", seq) }
	good := pack([]byte(head(1, 1) + line(1)))
	if _, _, err := DecodeBatch(good); err != nil {
		t.Fatal(err)
	}
	cases := []struct {
		name string
		data []byte
		want error
	}{
		{"bomb", pack(bytes.Repeat([]byte{' '}, 2*MaxBatchText)), ErrTooLarge},
		{"bomb of lines", pack([]byte(head(1, 1000) + strings.Repeat(line(1), 200000))), ErrMalformed},
		{"bomb after the records", pack([]byte(head(1, 1) + line(1) + strings.Repeat("\n", 2*MaxBatchText))), ErrMalformed},
		{"long line", pack([]byte(head(1, 1) + `{"seq":1,"kind":"result","body":"` + strings.Repeat("x", 300<<10) + "\"}\n")), ErrTooLarge},
		{"long message", make([]byte, 2<<20), ErrTooLarge},
		{"empty", nil, ErrMalformed},
		{"plain JSON", []byte(head(1, 1) + line(1)), ErrMalformed},
		{"cut off", good[:len(good)-9], ErrMalformed},
		{"more after it", append(bytes.Clone(good), 0), ErrMalformed},
		{"a second member", append(bytes.Clone(good), good...), ErrMalformed},
		{"no lines", pack(nil), ErrMalformed},
		{"another t", pack([]byte(strings.Replace(head(1, 1), "batch", "hello", 1) + line(1))), ErrMalformed},
		{"too few", pack([]byte(head(1, 2) + line(1))), ErrMalformed},
		{"too many", pack([]byte(head(1, 1) + line(1) + line(2))), ErrMalformed},
		{"count too high", pack([]byte(head(1, MaxBatchRecords+1) + line(1))), ErrMalformed},
		{"hole", pack([]byte(head(1, 2) + line(1) + line(3))), ErrMalformed},
		{"another first", pack([]byte(head(2, 1) + line(1))), ErrMalformed},
		{"no body", pack([]byte(head(1, 1) + `{"seq":1,"kind":"result"}` + "\n")), ErrMalformed},
		{"no kind", pack([]byte(head(1, 1) + `{"seq":1,"body":1}` + "\n")), ErrMalformed},
		{"epoch", pack([]byte(strings.Replace(head(1, 1), epoch, "../../../etc/pass", 1) + line(1))), ErrMalformed},
	}
	for _, c := range cases {
		if _, _, err := DecodeBatch(c.data); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", c.name, err, c.want)
		}
	}
}

func TestUnseen(t *testing.T) {
	gap := func(first, count int64) Record { return GapRecord(Gap{First: first, Count: count, Why: GapQuota}) }
	cases := []struct {
		name      string
		records   []Record
		watermark int64
		want      []Record
		next      int64
	}{
		{"all new", []Record{result(1), result(2)}, 1, []Record{result(1), result(2)}, 3},
		{"all known", []Record{result(1), result(2)}, 3, nil, 3},
		{"known long ago", []Record{result(1), result(2)}, 9, nil, 9},
		{"half known", []Record{result(1), result(2), result(3)}, 3, []Record{result(3)}, 4},
		{"too early", []Record{result(5)}, 4, nil, 4},
		{"gap new", []Record{gap(1, 9), result(10)}, 1, []Record{gap(1, 9), result(10)}, 11},
		{"gap that grew", []Record{gap(1, 9), result(10)}, 6, []Record{gap(6, 4), result(10)}, 11},
		{"gap over what is stored", []Record{gap(1, 9), result(10)}, 10, []Record{result(10)}, 11},
		{"gap known", []Record{gap(1, 9)}, 10, nil, 10},
		{"nothing", nil, 7, nil, 7},
	}
	for _, c := range cases {
		got, next, err := Unseen(c.records, c.watermark)
		if err != nil || next != c.next || !reflect.DeepEqual(got, c.want) {
			t.Errorf("%s: %+v, %d, %v, want %+v, %d", c.name, got, next, err, c.want, c.next)
		}
	}
	if _, _, err := Unseen([]Record{result(1), result(3)}, 1); !errors.Is(err, ErrMalformed) {
		t.Errorf("records with a hole: %v", err)
	}
}

func TestDecodeRefuses(t *testing.T) {
	if _, err := Decode[Ack]([]byte(`{"t":"hello"}`)); !errors.Is(err, ErrMalformed) {
		t.Errorf("another t: %v", err)
	}
	if _, err := Decode[Ack]([]byte(`{"t":"ack","upto":"1"}`)); !errors.Is(err, ErrMalformed) {
		t.Errorf("wrong type: %v", err)
	}
	if _, err := Decode[Ack]([]byte(`{"t":"ack"}` + strings.Repeat(" ", 512))); !errors.Is(err, ErrTooLarge) {
		t.Errorf("too long: %v", err)
	}
	if m, err := Decode[Ack]([]byte(`{"t":"ack","upto":3,"new":{"x":1}}`)); err != nil || m.Upto != 3 {
		t.Errorf("an unknown field: %+v, %v", m, err)
	}
	if _, err := Encode(Reported{Reports: []Report{{Error: strings.Repeat("x", 17<<10)}}}); !errors.Is(err, ErrTooLarge) {
		t.Errorf("long Reported: %v", err)
	}
}

func newKey(t testing.TB) sign.PrivateKey {
	t.Helper()
	k, err := sign.Generate()
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func TestSeal(t *testing.T) {
	key, other := newKey(t), newKey(t)
	trust := sign.Trust{key.Public()}
	pi7, pi8 := Device{"acme", "pi-7"}, Device{"acme", "pi-8"}
	cmd := Cmd{ID: "1", Name: CmdLogLevel, Args: json.RawMessage(`{"level":"<debug>\u2028&"}`), NotAfter: time.Unix(1e9, 0).UTC()}
	payload, err := Seal(key, pi7, DownCmd, cmd)
	if err != nil {
		t.Fatal(err)
	}
	var got Cmd
	if err := Unseal(trust, pi7, DownCmd, payload, &got); err != nil {
		t.Fatal(err)
	}
	cmd.T = "cmd"
	if !reflect.DeepEqual(got, cmd) {
		t.Errorf("got %+v, want %+v", got, cmd)
	}
	flipped := bytes.Replace(payload, []byte(`"id":"1"`), []byte(`"id":"2"`), 1)
	cases := []struct {
		name    string
		trust   sign.Trust
		device  Device
		kind    Kind
		payload []byte
		want    error
	}{
		{"another device", trust, pi8, DownCmd, payload, sign.ErrBadSignature},
		{"another topic", trust, pi7, DownWanted, payload, sign.ErrBadSignature},
		{"another key", sign.Trust{other.Public()}, pi7, DownCmd, payload, sign.ErrUnknownKey},
		{"nobody", nil, pi7, DownCmd, payload, sign.ErrUnknownKey},
		{"changed", trust, pi7, DownCmd, flipped, sign.ErrBadSignature},
		{"not JSON", trust, pi7, DownCmd, payload[1:], ErrMalformed},
		{"too long", trust, pi7, DownCmd, make([]byte, 2<<20), ErrTooLarge},
	}
	for _, c := range cases {
		var m Cmd
		if err := Unseal(c.trust, c.device, c.kind, c.payload, &m); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", c.name, err, c.want)
		}
		if m.ID != "" {
			t.Errorf("%s: the document was read", c.name)
		}
	}
	var d Desired
	if err := Unseal(trust, pi7, DownCmd, payload, &d); !errors.Is(err, ErrMalformed) {
		t.Errorf("a Cmd read as Desired: %v", err)
	}
}

// TestNamesHaveNoLineBreak: SignedText is unambiguous because of it.
func TestNamesHaveNoLineBreak(t *testing.T) {
	for _, s := range []string{"ab\n", "a\nb", "\nab", "a", "", "-ab", "Ab", "a.b", "a/b", "a+", "a#", strings.Repeat("a", 64), "ä1"} {
		if CheckName("device", s) == nil {
			t.Errorf("name %q was taken", s)
		}
	}
}

func TestTopics(t *testing.T) {
	d := Device{"acme", "pi-7"}
	for _, k := range append(append([]Kind{}, UpKinds...), DownKinds...) {
		got, kind, err := ParseTopic(Topic(d, k))
		if err != nil || got != d || kind != k {
			t.Errorf("%s: %v %v %v", Topic(d, k), got, kind, err)
		}
	}
	for _, s := range []string{"", "dunlin/v1/", "dunlin/v2/acme/pi-7/up/hello", "dunlin/v1/acme/pi-7", "dunlin/v1/a/pi-7/up/hello", "x/dunlin/v1/acme/pi-7/up/hello"} {
		if _, _, err := ParseTopic(s); err == nil {
			t.Errorf("topic %q was taken", s)
		}
	}
}

func token(t testing.TB) Token {
	key := newKey(t)
	return Token{
		MQTT: "tcp://127.0.0.1:1883", HTTP: "http://127.0.0.1:8080", Tenant: "acme", Device: "pi-7",
		Secret: "0123456789abcdef", HubKey: key.Public(), ReleaseKeys: sign.Trust{newKey(t).Public()},
	}
}

func TestTokenSaysWhichPart(t *testing.T) {
	cases := []struct {
		part   string
		change func(*Token)
	}{
		{"mqtt", func(k *Token) { k.MQTT = "http://hub" }},
		{"mqtt", func(k *Token) { k.MQTT = "tcp://user:pw@hub:1883" }},
		{"http", func(k *Token) { k.HTTP = "https://hub/path" }},
		{"tenant", func(k *Token) { k.Tenant = "A" }},
		{"device", func(k *Token) { k.Device = "pi/7" }},
		{"secret", func(k *Token) { k.Secret = "short" }},
		{"secret", func(k *Token) { k.Secret = "0123456789 abcdef" }},
		{"hub_key", func(k *Token) { k.HubKey = sign.PublicKey{} }},
		{"release_keys", func(k *Token) { k.ReleaseKeys = nil }},
		{"ca_pem", func(k *Token) { k.CAPEM = "x" }},
		{"form", func(k *Token) { k.MQTT = "tcp://" + strings.Repeat("h", MaxToken) }},
	}
	for _, c := range cases {
		k := token(t)
		c.change(&k)
		_, err := k.Encode()
		if e, ok := errors.AsType[*TokenError](err); !ok || e.Part != c.part {
			t.Errorf("%s: %v", c.part, err)
		}
	}
	good, err := token(t).Encode()
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range []string{"", "dunlin2." + good[8:], good[:len(good)-4], good[3:], "dunlin1.e30", strings.Repeat("x", MaxToken+1)} {
		_, err := ParseToken(s)
		if _, ok := errors.AsType[*TokenError](err); !ok {
			t.Errorf("%.20s…: %v", s, err)
		}
	}
	if k, err := ParseToken(" " + good + "\r\n"); err != nil || k.ID() != (Device{"acme", "pi-7"}) {
		t.Errorf("space around it: %v, %v", k, err)
	}
}

func TestTokenIsNotPrinted(t *testing.T) {
	k := token(t)
	for _, s := range []string{fmt.Sprint(k), fmt.Sprintf("%+v", k), fmt.Sprintf("%#v", k)} {
		if strings.Contains(s, k.Secret) {
			t.Errorf("the secret is in %q", s)
		}
	}
}

func TestClock(t *testing.T) {
	a := ReadClock(ClockNone)
	b := ReadClock(ClockNone)
	if b.MonoMS < a.MonoMS || a.MonoMS <= 0 || a.Wall.Location() != time.UTC {
		t.Errorf("clocks %+v, %+v", a, b)
	}
	// A result taken 90 s before the hub told the time, on a clock that is wrong by decades.
	taken, told := Clock{MonoMS: 10_000}, Clock{MonoMS: 100_000, Wall: time.Unix(0, 0)}
	really := time.Date(2026, 11, 23, 9, 0, 0, 0, time.UTC)
	if got, want := taken.Correct(told, really), really.Add(-90*time.Second); !got.Equal(want) {
		t.Errorf("corrected to %v, want %v", got, want)
	}
}
