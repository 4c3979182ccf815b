package onnx

import (
	"bytes"
	"errors"
	"os"
	"runtime"
	"testing"

	"dunlin/internal/shared"
)

// seeds are small files made by hand that reach most of the reader.
func seeds() [][]byte {
	x, y := []string{"x"}, []string{"y"}
	sub := parts{nodes: []msg{op("Neg", x, []string{"z"})}, outputs: []msg{unshaped("z")}}.graph()
	return [][]byte{
		one(13, op("Relu", x, y), 1, -1),
		one(11, op("Softmax", x, y), 1, 2, 3),
		one(6, op("Add", []string{"x", "x"}, y, attrI("broadcast", 1), attrI("axis", 0)), 2),
		one(9, op("Slice", x, y, attrIs("starts", 1), attrIs("ends", 2)), 4),
		one(7, op("Upsample", x, y, attrFs("scales", 1, 2), attrS("mode", "linear")), 1, 4),
		one(13, op("If", x, y, attrG("then_branch", sub), attrG("else_branch", sub)), 1),
		one(13, op("Constant", nil, y, attrT("value", head("", 7, 2).packed(7, 1, 2))), 1),
		one(8, op("BatchNormalization", []string{"x", "x", "x", "x", "x"}, y, attrI("spatial", 0), attrF("epsilon", 1)), 1),
		one(13, op("Foo", []string{"x", "", "x", ""}, []string{"y", ""}).str(3, "n").str(7, "com.example"), 1),
		parts{inits: []msg{floatTensor("y", []int64{2}, 1, 2), head("h", 10, 1).bytes(fieldRaw, []byte{0, 60}), head("q", protoInt4, 3).bytes(fieldRaw, []byte{1, 2})}, outputs: []msg{unshaped("y")}}.file(21),
	}
}

// FuzzImport asks of any bytes that Import returns an *Error or a graph that
// passes its check, within its promise on memory.
func FuzzImport(f *testing.F) {
	for _, s := range seeds() {
		f.Add(s)
	}
	shared.Corpus(f, ".onnx", 100<<10, "models")
	f.Fuzz(func(t *testing.T, data []byte) {
		importWithin(t, data)
	})
}

// importWithin imports data and checks what FuzzImport asks for.
func importWithin(t *testing.T, data []byte) error {
	t.Helper()
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	g, err := Import(data)
	runtime.ReadMemStats(&after)
	if got, most := after.TotalAlloc-before.TotalAlloc, uint64(budgetFactor*len(data)+budgetBase); got > most {
		t.Errorf("%d bytes allocated for a file of %d, at most %d promised", got, len(data), most)
	}
	var typed *Error
	switch {
	case err == nil && g.Check() != nil:
		t.Errorf("an imported graph is broken: %v", g.Check())
	case err != nil && (g != nil || !errors.As(err, &typed)):
		t.Errorf("%T beside a graph, or of no type: %v", err, err)
	}
	return err
}

// TestMemory imports files made to cost much: each is a few bytes of file
// many times over.
func TestMemory(t *testing.T) {
	repeat := func(num int, m msg, n int) []byte {
		return fileOf(bytes.Repeat(msg{}.bytes(num, m), n), 11)
	}
	constant := func(t msg) []byte { return parts{inits: []msg{t}, outputs: []msg{unshaped("t")}}.file(13) }
	const n = 100000
	var manyAttrs, manyNames, nested, chain msg
	for i := range n {
		name := string([]byte{'a' + byte(i%26), 'a' + byte(i/26%26), 'a' + byte(i/676%26), 'a' + byte(i/17576%26)})
		manyAttrs = manyAttrs.bytes(5, attrI(name, 1))
		manyNames = manyNames.bytes(5, head(name, 1, 0))
		chain = chain.bytes(1, op("A", []string{name, "q", "r"}, nil))
	}
	nested = bytes.Clone(chain)
	for range maxDepth {
		nested = msg{}.bytes(1, op("If", nil, nil, attrG("b", nested)))
	}
	for name, data := range map[string][]byte{
		"nodes":         repeat(1, op("A", nil, nil), 10*n),
		"empty nodes":   repeat(1, nil, 10*n),
		"empty inputs":  fileOf(msg{}.bytes(1, bytes.Repeat(msg{}.str(1, ""), 20*n)), 13),
		"empty outputs": fileOf(msg{}.bytes(1, append(op("A", nil, nil), bytes.Repeat(msg{}.str(2, ""), 20*n)...)), 13),
		"inputs":        repeat(11, msg{}.str(1, "a"), 5*n),
		"values":        repeat(13, value("v", 1, 1, 1), 5*n),
		"squeezes":      repeat(1, op("Squeeze", []string{"x"}, nil, attrIs("axes", 0)), n),
		"softmaxes":     repeat(1, op("Softmax", []string{"x"}, []string{"y"}), n),
		"attributes":    fileOf(msg{}.bytes(1, append(op("A", nil, nil), manyAttrs...)), 13),
		"names":         fileOf(manyNames, 13),
		"chain":         fileOf(chain, 13),
		"nested":        fileOf(nested, 13),
		"axes":          constant(head("t", 1).bytes(1, bytes.Repeat([]byte{1}, 50*n))),
		"integers":      constant(head("t", 7, 50*n).bytes(fieldInt64, bytes.Repeat([]byte{1}, 50*n))),
		"integer list":  one(13, op("A", nil, nil, msg{}.str(1, "a").bytes(8, bytes.Repeat([]byte{1}, 50*n)))),
		"nibbles":       constant(head("t", protoInt4, 20*n).bytes(fieldInt32, bytes.Repeat([]byte{1}, 10*n))),
		"strings":       one(13, op("A", nil, nil, bytes.Repeat(msg{}.str(9, ""), 20*n))),
		"announced":     constant(head("t", 7, 1<<30)),
	} {
		t.Logf("%-14s %8d bytes: %v", name, len(data), importWithin(t, data))
	}
}

// TestRealModelMemory: real files keep the promise with room to spare.
func TestRealModelMemory(t *testing.T) {
	for _, path := range files(t, shared.Dir(t, "models")) {
		data, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if err := importWithin(t, data); err != nil {
			t.Errorf("%s: %v", path, err)
		}
	}
}

// TestCutOff cuts and damages each seed at each byte.
func TestCutOff(t *testing.T) {
	for _, s := range seeds() {
		for i := range s {
			if _, err := Import(s[:i]); err == nil && i < len(s)-6 {
				// Only the opset's own bytes, at the end, can be missed.
				t.Errorf("%d of %d bytes are a model", i, len(s))
			}
			d := bytes.Clone(s)
			d[i] ^= 0x80
			if g, err := Import(d); err == nil && g.Check() != nil {
				t.Errorf("byte %d damaged: %v", i, g.Check())
			}
		}
	}
}
