package pack

import (
	"encoding/binary"
	"encoding/json"
	"io"
	"maps"
	"math/rand/v2"
	"runtime"
	"slices"
	"strings"
	"testing"
	"unsafe"

	"dunlin/model"
)

func encodeAll(t testing.TB, all []named) []byte {
	t.Helper()
	size, r, err := encodeTensors(all)
	if err != nil {
		t.Fatal(err)
	}
	data := model.Aligned(int(size))
	if _, err := io.ReadFull(r, data); err != nil {
		t.Fatal(err)
	}
	if n, err := r.Read(make([]byte, 1)); n != 0 || err != io.EOF {
		t.Fatalf("more than %d bytes", size)
	}
	return data
}

// file returns a safetensors file of any header and body.
func file(header, body string) []byte {
	return append(append(binary.LittleEndian.AppendUint64(nil, uint64(len(header))), header...), body...)
}

func TestTensorsRoundTrip(t *testing.T) {
	for seed := range uint64(100) {
		r := rand.New(rand.NewPCG(seed, 4))
		var all []named
		for i := range r.IntN(12) {
			all = append(all, named{strings.Repeat("n", i+1) + "\"é", randomTensor(t, r)})
		}
		got, err := decodeTensors(encodeAll(t, all))
		if err != nil {
			t.Fatalf("seed %d: %v", seed, err)
		}
		if len(got) != len(all) {
			t.Fatalf("seed %d: %d tensors of %d", seed, len(got), len(all))
		}
		for _, n := range all {
			if !sameTensor(got[n.name], n.tensor) {
				t.Errorf("seed %d: %q came back different", seed, n.name)
			}
		}
	}
}

// Each tensor begins at a multiple of 64, and the file is what the format
// asks for: no hole between one tensor and the next.
func TestAlignment(t *testing.T) {
	var all []named
	for i, n := range []int{1, 63, 64, 65, 0, 127, 3} {
		v, err := model.NewTensor(model.I8, n)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, named{string(rune('a' + i)), v})
	}
	data := encodeAll(t, all)
	n := binary.LittleEndian.Uint64(data)
	if (8+n)%model.Alignment != 0 || data[8] != '{' || len(data)%model.Alignment != 0 {
		t.Errorf("header of %d bytes, file of %d", n, len(data))
	}
	var header map[string]entry
	if err := json.Unmarshal(data[8:8+n], &header); err != nil {
		t.Fatal(err)
	}
	for _, e := range all {
		if b := header[e.name].Offsets[0]; b%model.Alignment != 0 {
			t.Errorf("%s begins at %d", e.name, b)
		}
	}
	end := int64(0)
	for _, e := range slices.SortedFunc(maps.Values(header), func(a, b entry) int {
		return slices.Compare(a.Offsets, b.Offsets)
	}) {
		if e.Offsets[0] != end {
			t.Errorf("a hole at %d", end)
		}
		end = e.Offsets[1]
	}
	got, err := decodeTensors(data)
	if err != nil || len(got) != len(all) {
		t.Fatalf("%d tensors, %v", len(got), err)
	}
	body := uintptr(unsafe.Pointer(unsafe.SliceData(data)))
	for _, e := range all {
		if p := unsafe.SliceData(got[e.name].Data); len(got[e.name].Data) > 0 && (uintptr(unsafe.Pointer(p))-body)%model.Alignment != 0 {
			t.Errorf("%s was copied or is not aligned", e.name)
		}
	}
}

func TestForeignFiles(t *testing.T) {
	// Written by others: metadata, another order, not aligned for float32.
	data := file(`{"__metadata__":{"format":"pt"},"b":{"dtype":"F32","shape":[1],"data_offsets":[1,5]},"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}}`, "\x07\x00\x00\x80\x3f")
	got, err := decodeTensors(data)
	if err != nil {
		t.Fatal(err)
	}
	if v := got["b"].F32()[0]; v != 1 || got["a"].U8()[0] != 7 || len(got) != 2 {
		t.Errorf("b is %v, %d tensors", v, len(got))
	}
}

func TestBadTensors(t *testing.T) {
	cases := []struct {
		name string
		data []byte
		want string
	}{
		{"nothing", nil, "0 bytes"},
		{"short", []byte("1234567"), "7 bytes"},
		{"header longer than the file", file(`{}`, "")[:9], "header"},
		{"header of 2^60 bytes", binary.LittleEndian.AppendUint64(nil, 1<<60), "header"},
		{"header of 2^64-1 bytes", append(binary.LittleEndian.AppendUint64(nil, 1<<64-1), "{}"...), "header"},
		{"no object", file(`[]`, ""), "object"},
		{"header that does not end", file(`{"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}`, "x"), "header"},
		{"rubbish after the header", file(`{}x`, ""), "after its end"},
		{"name twice", file(`{"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},"a":{"dtype":"U8","shape":[1],"data_offsets":[1,2]}}`, "xy"), "twice"},
		{"unknown field", file(`{"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1],"x":1}}`, "x"), "unknown field"},
		{"unknown type", file(`{"a":{"dtype":"U7","shape":[1],"data_offsets":[0,1]}}`, "x"), "U7"},
		{"overlap", file(`{"a":{"dtype":"U8","shape":[2],"data_offsets":[0,2]},"b":{"dtype":"U8","shape":[2],"data_offsets":[1,3]}}`, "xyz"), "begin at 2"},
		{"the same bytes twice", file(`{"a":{"dtype":"U8","shape":[2],"data_offsets":[0,2]},"b":{"dtype":"U8","shape":[2],"data_offsets":[0,2]}}`, "xy"), "begin at 2"},
		{"hole", file(`{"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},"b":{"dtype":"U8","shape":[1],"data_offsets":[2,3]}}`, "xyz"), "begin at 1"},
		{"bytes that nobody names", file(`{"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}}`, "xy"), "the file at 2"},
		{"offset past the end", file(`{"a":{"dtype":"U8","shape":[4],"data_offsets":[0,4]}}`, "x"), "of 1"},
		{"offsets turned round", file(`{"a":{"dtype":"U8","shape":[1],"data_offsets":[0,-1]}}`, "x"), "begin at 0"},
		{"offset of 2^63", file(`{"a":{"dtype":"U8","shape":[1],"data_offsets":[0,9223372036854775808]}}`, "x"), "data_offsets"},
		{"one offset", file(`{"a":{"dtype":"U8","shape":[1],"data_offsets":[0]}}`, "x"), "1 offsets"},
		{"shape larger than the data", file(`{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,4]}}`, "wxyz"), "needs 8 bytes"},
		{"shape that overflows", file(`{"a":{"dtype":"F64","shape":[1073741824,1073741824,16],"data_offsets":[0,0]}}`, ""), "elements"},
		{"negative axis", file(`{"a":{"dtype":"U8","shape":[-1],"data_offsets":[0,1]}}`, "x"), "axis"},
		{"rank", file(`{"a":{"dtype":"U8","shape":[1`+strings.Repeat(",1", MaxRank)+`],"data_offsets":[0,1]}}`, "x"), "axes"},
		{"bool of 2", file(`{"a":{"dtype":"BOOL","shape":[1],"data_offsets":[0,1]}}`, "\x02"), "bool"},
		{"nested", file(strings.Repeat(`{"a":`, 1000), ""), "levels"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			got, err := decodeTensors(c.data)
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, %v, want %q", got, err, c.want)
			}
		})
	}
}

// What a hostile header claims costs nothing: memory follows the bytes that
// are there.
func TestHostileHeadersCostNoMemory(t *testing.T) {
	const bound = 1 << 20
	files := map[string][]byte{
		"header of 2^60 bytes": append(binary.LittleEndian.AppendUint64(nil, 1<<60), make([]byte, 100)...),
		"tensor of 2^62 bytes": file(`{"a":{"dtype":"U8","shape":[4611686018427387904],"data_offsets":[0,4611686018427387904]}}`, "x"),
		"axes of 2^40":         file(`{"a":{"dtype":"F64","shape":[1099511627776,1],"data_offsets":[0,1]}}`, "x"),
	}
	for name, data := range files {
		if got := allocated(func() {
			if _, err := decodeTensors(data); err == nil {
				t.Errorf("%s: accepted", name)
			}
		}); got > bound {
			t.Errorf("%s: %d bytes allocated, at most %d", name, got, bound)
		}
	}
}

// The package promises at most 512 bytes for each value of JSON, besides 8
// times the blob. The worst texts are those with the shortest values.
func TestMemoryForGraphs(t *testing.T) {
	for name, item := range map[string]string{"nodes": `{}`, "attributes": `{"attrs":{"":{}}}`, "lists": `{"in":[]}`} {
		text := `{"opset":13,"graph":{"nodes":[` + item + strings.Repeat(","+item, MaxItems/8) + `]}}`
		items := uint64(strings.Count(text, ",") + strings.Count(text, "{") + strings.Count(text, "["))
		bound := items*512 + 8*uint64(len(text))
		got := allocated(func() {
			if _, err := decodeGraph([]byte(text), nil); err == nil {
				t.Errorf("%s: accepted", name)
			}
		})
		t.Logf("%s: %d bytes of text, %d values, %d bytes allocated", name, len(text), items, got)
		if got > bound {
			t.Errorf("%s: %d bytes allocated, at most %d", name, got, bound)
		}
	}
}

func allocated(f func()) uint64 {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	f()
	runtime.ReadMemStats(&after)
	return after.TotalAlloc - before.TotalAlloc
}

func FuzzTensors(f *testing.F) {
	r := rand.New(rand.NewPCG(5, 5))
	f.Add(encodeAll(f, nil))
	f.Add(encodeAll(f, []named{{"a", randomTensor(f, r)}, {"b", randomTensor(f, r)}}))
	f.Add(file(`{"__metadata__":{"a":"b"},"a":{"dtype":"BOOL","shape":[1],"data_offsets":[0,1]}}`, "\x01"))
	f.Fuzz(func(t *testing.T, data []byte) {
		got, err := decodeTensors(data)
		if err != nil {
			return
		}
		var all []named
		for _, name := range slices.Sorted(maps.Keys(got)) {
			if err := got[name].Check(); err != nil {
				t.Fatalf("%q: %v", name, err)
			}
			if checkTensorName(name) == nil {
				all = append(all, named{name, got[name]})
			}
		}
		again, err := decodeTensors(encodeAll(t, all))
		if err != nil {
			t.Fatalf("written, but not read: %v", err)
		}
		for _, n := range all {
			if !sameTensor(again[n.name], n.tensor) {
				t.Fatalf("%q came back different", n.name)
			}
		}
	})
}
