package pack

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"dunlin/model"
)

// A safetensors file (https://github.com/huggingface/safetensors):
//
//	0        8               8+N
//	+--------+----------------+------------------------------------+
//	| N, u64 | JSON, spaces   | tensor | pad | tensor | pad | ... |
//	+--------+----------------+------------------------------------+
//
// The format allows no holes between tensors. So that each of ours begins at
// a multiple of 64 all the same, the header ends in spaces up to such a
// multiple, and what a tensor lacks to one is a tensor of zero bytes of its
// own, "~pad.0" and so on. Any safetensors reader accepts the file.
//
// Reading accepts any file that the format allows, aligned or not; a tensor
// that is not aligned for its elements is copied.

const (
	padPrefix   = "~pad."
	metadataKey = "__metadata__"
)

var safeTypes = map[model.DType]string{
	model.F32: "F32", model.F64: "F64", model.F16: "F16", model.BF16: "BF16",
	model.I8: "I8", model.U8: "U8", model.I16: "I16", model.U16: "U16",
	model.I32: "I32", model.U32: "U32", model.I64: "I64", model.U64: "U64", model.Bool: "BOOL",
}

// named is a tensor and its name in a file.
type named struct {
	name   string
	tensor *model.Tensor
}

// entry is one tensor in the header; offsets count from the header's end.
type entry struct {
	DType   string  `json:"dtype"`
	Shape   []int64 `json:"shape"`
	Offsets []int64 `json:"data_offsets"`
}

// encodeTensors returns a safetensors file and its size. The tensors' data
// is read, not copied, when the reader is.
func encodeTensors(all []named) (int64, io.Reader, error) {
	if len(all) > MaxTensors {
		return 0, nil, invalid("%d tensors, at most %d", len(all), MaxTensors)
	}
	var header bytes.Buffer
	var zeros [model.Alignment]byte
	header.WriteByte('{')
	parts := []io.Reader{nil} // the header comes first, once it is known
	at := int64(0)
	put := func(name, dtype string, shape model.Shape, data []byte) error {
		key, err := marshal(name)
		if err != nil {
			return err
		}
		if header.Len() > 1 {
			header.WriteByte(',')
		}
		fmt.Fprintf(&header, `%s:{"dtype":"%s","shape":%s,"data_offsets":[%d,%d]}`,
			key, dtype, jsonInts(shape), at, at+int64(len(data)))
		parts = append(parts, bytes.NewReader(data))
		at += int64(len(data))
		return nil
	}
	pads := 0
	for _, n := range all {
		if err := checkTensor(n); err != nil {
			return 0, nil, err
		}
		if err := put(n.name, safeTypes[n.tensor.Type], n.tensor.Shape, n.tensor.Data); err != nil {
			return 0, nil, err
		}
		if pad := -at & (model.Alignment - 1); pad > 0 {
			if err := put(padPrefix+strconv.Itoa(pads), "U8", model.Shape{int(pad)}, zeros[:pad]); err != nil {
				return 0, nil, err
			}
			pads++
		}
	}
	header.WriteByte('}')
	for (8+header.Len())%model.Alignment != 0 {
		header.WriteByte(' ')
	}
	if header.Len() > MaxHeader {
		return 0, nil, invalid("safetensors header of %d bytes, at most %d", header.Len(), MaxHeader)
	}
	if err := scan(header.Bytes()); err != nil {
		return 0, nil, err
	}
	start := binary.LittleEndian.AppendUint64(nil, uint64(header.Len()))
	parts[0] = bytes.NewReader(append(start, header.Bytes()...))
	return int64(8+header.Len()) + at, io.MultiReader(parts...), nil
}

func checkTensor(n named) error {
	if err := checkTensorName(n.name); err != nil {
		return err
	}
	if err := n.tensor.Check(); err != nil {
		return invalid("tensor %q: %w", clip(n.name), err)
	}
	if len(n.tensor.Shape) > MaxRank {
		return invalid("tensor %q: %d axes, at most %d", clip(n.name), len(n.tensor.Shape), MaxRank)
	}
	return nil
}

func checkTensorName(name string) error {
	if name == "" || name == metadataKey || strings.HasPrefix(name, padPrefix) || !utf8.ValidString(name) {
		return invalid("tensor name %q cannot be written", clip(name))
	}
	return nil
}

func jsonInts(s model.Shape) string {
	b := []byte{'['}
	for i, d := range s {
		if i > 0 {
			b = append(b, ',')
		}
		b = strconv.AppendInt(b, int64(d), 10)
	}
	return string(append(b, ']'))
}

// decodeTensors reads a safetensors file and returns tensors over its bytes
// (see the top of this file for when they are copies). It allocates for the
// header only, and only what MaxHeader and len(data) allow, whatever the
// header claims. Paddings are left out.
func decodeTensors(data []byte) (map[string]*model.Tensor, error) {
	if len(data) < 8 {
		return nil, invalid("safetensors file of %d bytes", len(data))
	}
	n := binary.LittleEndian.Uint64(data)
	if n > MaxHeader || n > uint64(len(data)-8) {
		return nil, invalid("safetensors header of %d bytes in a file of %d, at most %d", n, len(data), MaxHeader)
	}
	head, body := data[8:8+n], data[8+n:]
	entries, err := decodeHeader(head)
	if err != nil {
		return nil, err
	}
	if err := checkOffsets(entries, int64(len(body))); err != nil {
		return nil, err
	}
	out := make(map[string]*model.Tensor, len(entries))
	for _, e := range entries {
		if strings.HasPrefix(e.name, padPrefix) {
			continue
		}
		t, err := e.view(body)
		if err != nil {
			return nil, invalid("tensor %q: %w", clip(e.name), err)
		}
		out[e.name] = t
	}
	return out, nil
}

type namedEntry struct {
	name string
	entry
}

// decodeHeader reads the header's entries, in order. It goes key by key, so
// that a name that stands twice is seen.
func decodeHeader(head []byte) ([]*namedEntry, error) {
	if err := scan(head); err != nil {
		return nil, err
	}
	d := json.NewDecoder(bytes.NewReader(head))
	d.DisallowUnknownFields()
	if t, err := d.Token(); err != nil || t != json.Delim('{') {
		return nil, invalid("safetensors header does not begin an object")
	}
	var entries []*namedEntry
	seen := map[string]bool{}
	for d.More() {
		key, err := d.Token()
		if err != nil {
			return nil, invalid("safetensors header: %w", err)
		}
		name, _ := key.(string) // the decoder lets nothing else be a key
		if seen[name] {
			return nil, invalid("tensor %q stands twice", clip(name))
		}
		seen[name] = true
		if name == metadataKey {
			var text map[string]string
			if err := d.Decode(&text); err != nil {
				return nil, invalid("safetensors header: %s: %w", metadataKey, err)
			}
			continue
		}
		e := &namedEntry{name: name}
		if err := d.Decode(&e.entry); err != nil {
			return nil, invalid("tensor %q: %w", clip(name), err)
		}
		if entries = append(entries, e); len(entries) > 2*MaxTensors {
			return nil, invalid("more than %d tensors", MaxTensors)
		}
	}
	if t, err := d.Token(); err != nil || t != json.Delim('}') {
		return nil, invalid("safetensors header does not end")
	}
	if rest := bytes.TrimRight(head[d.InputOffset():], " "); len(rest) > 0 {
		return nil, invalid("safetensors header: %d bytes after its end", len(rest))
	}
	return entries, nil
}

// checkOffsets fails unless the entries, by offset, cover the data exactly:
// no hole, no overlap, nothing outside.
func checkOffsets(entries []*namedEntry, size int64) error {
	for _, e := range entries {
		if len(e.Offsets) != 2 {
			return invalid("tensor %q: %d offsets, want 2", clip(e.name), len(e.Offsets))
		}
	}
	// Empty tensors share their begin with the next; the end breaks the tie.
	sorted := slices.SortedFunc(slices.Values(entries), func(a, b *namedEntry) int {
		return cmp.Or(cmp.Compare(a.Offsets[0], b.Offsets[0]), cmp.Compare(a.Offsets[1], b.Offsets[1]))
	})
	at := int64(0)
	for _, e := range sorted {
		begin, end := e.Offsets[0], e.Offsets[1]
		if begin != at || end < begin || end > size {
			return invalid("tensor %q: bytes [%d, %d) of %d, want them to begin at %d", clip(e.name), begin, end, size, at)
		}
		at = end
	}
	if at != size {
		return invalid("tensors end at byte %d, the file at %d", at, size)
	}
	return nil
}

// view returns the tensor over body; checkOffsets passed before.
func (e *namedEntry) view(body []byte) (*model.Tensor, error) {
	t, err := parseSafeType(e.DType)
	if err != nil {
		return nil, err
	}
	if len(e.Shape) > MaxRank {
		return nil, fmt.Errorf("%d axes, at most %d", len(e.Shape), MaxRank)
	}
	shape := make(model.Shape, len(e.Shape))
	for i, d := range e.Shape {
		if d < 0 || d > model.MaxElements || int64(int(d)) != d {
			return nil, fmt.Errorf("axis of length %d", d)
		}
		shape[i] = int(d)
	}
	begin, end := e.Offsets[0], e.Offsets[1]
	return view(t, shape, body[begin:end:end])
}

// view is model.View that also looks at the values of booleans.
func view(t model.DType, shape model.Shape, data []byte) (*model.Tensor, error) {
	v, err := model.View(t, shape, data)
	if err != nil {
		return nil, err
	}
	if t == model.Bool && slices.ContainsFunc(data, func(b byte) bool { return b > 1 }) {
		return nil, fmt.Errorf("a bool that is neither 0 nor 1")
	}
	return v, nil
}

func parseSafeType(s string) (model.DType, error) {
	for t, name := range safeTypes {
		if name == s {
			return t, nil
		}
	}
	return 0, fmt.Errorf("element type %q is unknown", clip(s))
}
