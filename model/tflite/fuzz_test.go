package tflite

import (
	"bytes"
	"encoding/binary"
	"errors"
	"os"
	"runtime"
	"testing"

	"dunlin/internal/shared"
	"dunlin/model"
)

// seeds are small files made by hand that reach most of the reader.
func seeds() [][]byte {
	var list [][]byte
	add := func(build func(n *net)) {
		n := newNet()
		build(n)
		list = append(list, n.bytes())
	}
	add(func(n *net) { relu(n) })
	add(func(n *net) { // quantised convolution, depthwise, pool, dense, softmax
		x := n.quantise(n.tensor("x", model.I8, 1, 4, 4, 2), -3, 0, 0.5)
		n.in = []int32{x}
		w := n.quantise(n.constant("w", model.Of(model.I8, make([]int8, 4), 2, 1, 1, 2)), 0, 0, 1, 2)
		b := n.quantise(n.constant("b", model.Of(model.I32, make([]int32, 2), 2)), 0, 0, 1, 2)
		y := n.quantise(n.tensor("y", model.I8, 1, 4, 4, 2), 0, 0, 1)
		n.op("CONV_2D", conv(0, 1, 1), []int32{x, w, b}, y)
		d := n.quantise(n.constant("d", model.Of(model.U8, make([]uint8, 18), 1, 3, 3, 2)), 128, 0, 1)
		z := n.quantise(n.tensor("z", model.I8, 1, 4, 4, 2), 0, 0, 1)
		n.op("DEPTHWISE_CONV_2D", tab{1: int32(1), 2: int32(1), 4: int8(3)}, []int32{y, d}, z)
		p := n.quantise(n.tensor("p", model.I8, 1, 2, 2, 2), 0, 0, 1)
		n.op("AVERAGE_POOL_2D", tab{1: int32(2), 2: int32(2), 3: int32(2), 4: int32(2)}, []int32{z}, p)
		f := n.op("FULLY_CONNECTED", tab{2: int8(1)}, []int32{p, n.constant("k", model.Of(model.F16, make([]uint16, 6), 3, 2)), -1})
		n.op("SOFTMAX", tab{0: float32(2)}, []int32{f})
	})
	add(func(n *net) { // shapes
		x := n.input("x", 1, 4, 4, 1)
		s := n.op("SHAPE", nil, []int32{x}, n.tensor("s", model.I32))
		one := n.op("STRIDED_SLICE", tab{4: int32(1)}, []int32{s, n.list("a", 0), n.list("b", 1), n.list("c", 1)}, n.tensor("o", model.I32))
		p := n.op("PACK", tab{}, []int32{one, n.constant("m", model.Of(model.I32, []int32{-1}))}, n.tensor("p", model.I32))
		r := n.op("RESHAPE", nil, []int32{x, p})
		parts := []int32{n.tensor("q", model.F32), n.tensor("t", model.F32)}
		n.op("SPLIT", tab{0: int32(2)}, []int32{n.list("d", 1), r}, parts...)
		n.op("CONCATENATION", tab{0: int32(-1)}, parts)
	})
	add(func(n *net) { // space and batch
		x := n.input("x", 1, 4, 4, 2)
		pads := n.constant("e", model.Of(model.I32, []int32{0, 0, 1, 1, 1, 1, 0, 0}, 4, 2))
		x = n.op("PAD", tab{}, []int32{x, pads})
		block, none := n.list("k", 2, 2), n.constant("z", model.Of(model.I32, make([]int32, 4), 2, 2))
		x = n.op("SPACE_TO_BATCH_ND", nil, []int32{x, block, none})
		x = n.op("CONV_2D", conv(1, 1, 1), []int32{x, n.floats("w", make([]float32, 18), 1, 3, 3, 2)})
		x = n.op("BATCH_TO_SPACE_ND", nil, []int32{x, block, none})
		x = n.op("RESIZE_BILINEAR", tab{3: int8(1)}, []int32{x, n.list("h", 5, 5)})
		n.op("MEAN", tab{0: int8(0)}, []int32{x, n.list("i", 1, 2)})
	})
	add(func(n *net) { lstm(n, 3, 2, 2, nil) })
	return list
}

// FuzzImport asks of any bytes that Import returns one of its errors or a
// graph that passes its check, within its promise on memory.
func FuzzImport(f *testing.F) {
	for _, s := range seeds() {
		f.Add(s)
	}
	shared.Corpus(f, ".tflite", 100<<10, "models")
	f.Fuzz(func(t *testing.T, data []byte) { importWithin(t, data) })
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
	var lacks *UnsupportedError
	switch {
	case err == nil && g.Check() != nil:
		t.Errorf("an imported graph is broken: %v", g.Check())
	case err != nil && (g != nil || !errors.As(err, &typed) && !errors.As(err, &lacks)):
		t.Errorf("%T beside a graph, or of no type: %v", err, err)
	}
	return err
}

// The seeds are sound models.
func TestSeeds(t *testing.T) {
	for i, s := range seeds() {
		if err := importWithin(t, s); err != nil {
			t.Errorf("seed %d: %v", i, err)
		}
	}
}

// TestCutOff cuts and damages each seed at each byte.
func TestCutOff(t *testing.T) {
	for _, s := range seeds() {
		for i := range s {
			if g, err := Import(s[:i]); err == nil && g.Check() != nil {
				t.Errorf("%d of %d bytes: %v", i, len(s), g.Check())
			}
			for _, flip := range []byte{0x01, 0x80, 0xff} {
				d := bytes.Clone(s)
				d[i] ^= flip
				if g, err := Import(d); err == nil && g.Check() != nil {
					t.Errorf("byte %d damaged: %v", i, g.Check())
				}
			}
		}
	}
}

// TestDamage writes numbers that are near to something over words of the
// seeds, several at once.
func TestDamage(t *testing.T) {
	near := []uint32{0, 1, 2, 3, 4, 8, 12, 31, 127, 255, 1 << 16, 1 << 20, 1<<31 - 1, 1 << 31, 1<<32 - 1, 1<<32 - 2, 1<<32 - 8}
	x := uint32(1)
	random := func(n int) int {
		x = x*1664525 + 1013904223
		return int(uint64(x>>8) * uint64(n) >> 24)
	}
	for i, s := range seeds() {
		for round := range 4000 {
			d := bytes.Clone(s)
			for range 1 + random(3) {
				at := 4 * (2 + random(len(d)/4-2))
				if round%2 == 0 {
					binary.LittleEndian.PutUint32(d[at:], near[random(len(near))])
				} else {
					d[at+random(4)] = byte(near[random(10)])
				}
			}
			if g, err := Import(d); err == nil && g.Check() != nil {
				t.Fatalf("seed %d, round %d: %v", i, round, g.Check())
			}
		}
	}
}

// TestMemory imports files made to cost much: most name one table many times.
func TestMemory(t *testing.T) {
	const n = 200000
	for name, data := range map[string][]byte{
		"operators": repeated(relu(newNet()), n),
		"chain":     chain(20000, "RELU"),
		"long names": func() []byte {
			m := newNet()
			x := m.input(string(bytes.Repeat([]byte{'a'}, 1<<20)), 1, 2, 2, 1)
			for range 50 {
				x = m.op("RELU", nil, []int32{x})
			}
			return m.bytes()
		}(),
		"weights": func() []byte {
			m := newNet()
			x, w := m.input("x", 1, 1, 1, 512), m.floats("w", make([]float32, 1<<20), 512, 2, 2, 512)
			for range 40 {
				x = m.op("CONV_2D", conv(0, 1, 1), []int32{x, w})
			}
			return m.bytes()
		}(),
		"huge shape": func() []byte {
			m := newNet()
			m.op("RELU", nil, []int32{m.input("x", 1<<30, 1<<30, 1<<30, 1<<30)})
			return m.bytes()
		}(),
	} {
		t.Logf("%-12s %8d bytes: %v", name, len(data), importWithin(t, data))
	}
}

// chain is a net of that many operators of one input.
func chain(length int, op string) []byte {
	m := newNet()
	x := m.input("x", 1, 2, 2, 1)
	for range length {
		x = m.op(op, nil, []int32{x})
	}
	return m.bytes()
}

// repeated returns m's file with the vector of operators replaced by one, at
// the end of the file, of count distances to one operator.
func repeated(m *net, count int) []byte {
	b := m.bytes()
	r := &reader{b: b, budget: newBudget(len(b))}
	root := r.table(0, "model", -1)
	_, at := root.vector(2, 4)
	sub := r.table(at, "subgraph", 0)
	field := sub.field(3, 4)
	_, first := sub.vector(3, 4)
	target, _ := r.follow(first)
	for len(b)%4 != 0 {
		b = append(b, 0)
	}
	// Distances lead forward only: the whole file once more behind the vector.
	moved := len(b) + 4 + 4*count + int(target)
	binary.LittleEndian.PutUint32(b[field:], uint32(int64(len(b))-field))
	b = binary.LittleEndian.AppendUint32(b, uint32(count))
	for range count {
		b = binary.LittleEndian.AppendUint32(b, uint32(moved-len(b)))
	}
	return append(b, m.bytes()...)
}

// TestRealModelMemory: real files keep the promise with room to spare.
func TestRealModelMemory(t *testing.T) {
	for _, path := range files(t) {
		data, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if err := importWithin(t, data); errors.Is(err, ErrTooLarge) || errors.Is(err, ErrMalformed) {
			t.Errorf("%s: %v", path, err)
		}
	}
}
