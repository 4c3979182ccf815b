package tflite

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"unsafe"

	"dunlin/internal/shared"
	"dunlin/model"
)

// files returns the TFLite files of the shared folder.
func files(t *testing.T) []string {
	t.Helper()
	list, err := filepath.Glob(filepath.Join(shared.Dir(t, "models", "tflite"), "*.tflite"))
	if err != nil || len(list) < 20 {
		t.Fatalf("%d models: %v", len(list), err)
	}
	return list
}

// imported imports n, which must be sound.
func (n *net) imported(t *testing.T) *model.Graph {
	t.Helper()
	g, err := Import(n.bytes())
	if err != nil {
		t.Fatal(err)
	}
	if err := g.Check(); err != nil {
		t.Fatal(err)
	}
	return g
}

// count returns how many nodes of that operator g has.
func count(g *model.Graph, op string) int {
	c := 0
	for _, n := range g.Nodes {
		if n.Op == op {
			c++
		}
	}
	return c
}

// Real models come in, but for the two that must not, each of which says
// exactly why.
func TestRealModels(t *testing.T) {
	for _, path := range files(t) {
		data, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		name := strings.TrimSuffix(filepath.Base(path), ".tflite")
		g, err := Import(data)
		switch name {
		case "tflm-person-detect-int8":
			want := "tflite: tensor 33 (MobilenetV1/MobilenetV1/Conv2d_0/Conv2D_bias): its quantisation is not valid: " +
				"8 scales along quantized_dimension 3, but its shape [8] has 1 axes"
			if !errors.Is(err, ErrQuantisation) || err.Error() != want {
				t.Errorf("%s: %v, want %s", name, err, want)
			}
		case "mediapipe-selfie-segmentation-fp16":
			var lacks *UnsupportedError
			if !errors.As(err, &lacks) || !errors.Is(err, ErrUnsupported) || len(lacks.Operators) != 1 ||
				lacks.Operators[0].Name != "Convolution2DTransposeBias" || lacks.Operators[0].Index != 244 {
				t.Errorf("%s: %v", name, err)
			}
		default:
			if err != nil {
				t.Errorf("%s: %v", name, err)
				continue
			}
			if err := g.Check(); err != nil {
				t.Errorf("%s: %v", name, err)
			}
		}
	}
}

// Every operator that cannot run is listed, behind those that can and behind
// each other.
func TestUnsupportedListsAll(t *testing.T) {
	n := newNet()
	x := n.input("x", 1, 4)
	x = n.op("SVDF", nil, []int32{x})
	x = n.op("RELU", nil, []int32{x})
	x = n.op("MyOperator", nil, []int32{x})
	n.tensors[x][0] = []int32{1, 4}
	x = n.op("GATHER", tab{0: int32(0), 1: int32(1)}, []int32{x, n.list("i", 0)})
	n.op("SQUEEZE", tab{0: []int32{7}}, []int32{x}) // cannot be judged
	_, err := Import(n.bytes())
	want := "tflite: 3 unsupported operators: operator 0 (SVDF): no such operator; " +
		"operator 2 (MyOperator): a custom operator, which only the program that made it runs; operator 3 (GATHER): batch_dims 1"
	if err == nil || err.Error() != want {
		t.Errorf("%v\nwant %s", err, want)
	}
}

// A BATCH_TO_SPACE_ND looks at what its convolution reads, which may be a
// tensor that is refused. Found by FuzzImport.
func TestDilatedOfRefused(t *testing.T) {
	n := newNet()
	x := n.floats("x", make([]float32, 32), 1, 4, 4, 2)
	n.tensors[x][6] = tab{} // sparse
	pads := n.constant("e", model.Of(model.I32, make([]int32, 4), 2, 2))
	block := n.list("k", 2, 2)
	n.op("SPACE_TO_BATCH_ND", nil, []int32{x, block, pads}, n.tensor("s", model.F32, 4, 2, 2, 2))
	y := n.op("CONV_2D", conv(1, 1, 1), []int32{x, n.floats("w", make([]float32, 4), 2, 1, 1, 2)}, n.tensor("c", model.F32, 1, 4, 4, 2))
	n.op("BATCH_TO_SPACE_ND", nil, []int32{y, block, pads})
	var lacks *UnsupportedError
	if _, err := Import(n.bytes()); !errors.As(err, &lacks) || len(lacks.Operators) != 3 {
		t.Error(err)
	}
}

// A file that is damaged, or says what cannot be, is refused with a reason.
func TestMalformed(t *testing.T) {
	for name, c := range map[string]struct {
		build func(n *net) []byte
		want  error
		text  string
	}{
		"empty":      {func(*net) []byte { return nil }, ErrMalformed, "identifier"},
		"identifier": {func(n *net) []byte { b := relu(n).bytes(); b[5] = 'x'; return b }, ErrMalformed, "TFL3"},
		"version": {func(n *net) []byte {
			return flatbuffer(tab{0: int32(2), 2: []tab{{2: []int32{}}}})
		}, ErrUnsupported, "version 2"},
		"output of no type": {func(n *net) []byte { // found by FuzzImport
			relu(n)
			x := n.tensor("s", model.F32, 1)
			n.tensors[x][1] = int8(32)
			n.out = []int32{x}
			return n.bytes()
		}, ErrUnsupported, "tensor 2 (s) is of type number 32"},
		"no subgraph": {func(n *net) []byte { return flatbuffer(tab{0: int32(3)}) }, ErrMalformed, "no subgraph"},
		"reads nothing": {func(n *net) []byte {
			n.op("RELU", nil, []int32{n.tensor("x", model.F32, 1)})
			return n.bytes()
		}, ErrMalformed, "nothing makes it"},
		"made twice": {func(n *net) []byte {
			y := relu(n).ops[0][2].([]int32)[0]
			n.op("RELU", nil, []int32{0}, y)
			return n.bytes()
		}, ErrMalformed, "made twice"},
		"tensor number": {func(n *net) []byte { relu(n).ops[0][1] = []int32{9}; return n.bytes() }, ErrMalformed, "reads tensor 9 of 2"},
		"buffer size": {func(n *net) []byte {
			relu(n)
			i := n.floats("c", []float32{1}, 1)
			n.tensors[i][0] = []int32{2}
			n.op("ADD", tab{}, []int32{1, i})
			return n.bytes()
		}, ErrMalformed, "needs 8 bytes, has 4"},
		"options of another": {func(n *net) []byte {
			n.op("SOFTMAX", tab{}, []int32{n.input("x", 1, 2)})
			n.ops[0][3] = int8(1)
			return n.bytes()
		}, ErrMalformed, "those of another"},
		"scales": {func(n *net) []byte {
			relu(n)
			n.tensors[1][1] = int8(9)
			n.quantise(1, 0, 0, 1, 1, 1)
			return n.bytes()
		}, ErrQuantisation, "3 scales"},
		"zero point": {func(n *net) []byte {
			relu(n)
			n.tensors[1][1] = int8(9)
			n.quantise(1, 200, 0, 1)
			return n.bytes()
		}, ErrQuantisation, "int8 does not hold"},
		"kernel": {func(n *net) []byte {
			n.op("CONV_2D", conv(1, 1, 1), []int32{n.input("x", 1, 2, 2, 1), n.floats("w", make([]float32, 9), 1, 3, 3, 1)})
			return n.bytes()
		}, ErrMalformed, "kernel of 3"},
	} {
		b := c.build(newNet())
		_, err := Import(b)
		if !errors.Is(err, c.want) || !strings.Contains(err.Error(), c.text) {
			t.Errorf("%s: %v, want %v: …%s…", name, err, c.want, c.text)
		}
	}
}

// relu is a net of one operator, x to y.
func relu(n *net) *net {
	n.op("RELU", nil, []int32{n.input("x", 1, 2)}, n.tensor("y", model.F32, 1, 2))
	return n
}

// conv is the options of CONV_2D: padding SAME (0) or VALID (1).
func conv(padding int8, stride int32, dilation int32) tab {
	return tab{0: padding, 1: stride, 2: stride, 3: int8(0), 4: dilation, 5: dilation}
}

// Old files have an operator's number in a byte alone, large ones a buffer's
// bytes behind the flatbuffer.
func TestOlderAndLargerForms(t *testing.T) {
	n := relu(newNet())
	c := n.floats("c", []float32{5, 6}, 2)
	n.op("ADD", tab{}, []int32{1, c}, n.tensor("z", model.F32, 1, 2))
	for _, c := range n.codes {
		delete(c, 3)
	}
	data := n.buffers[1][0].([]byte)
	n.buffers[1] = tab{1: uint64(2), 2: uint64(len(data))}
	size := uint64(len(n.bytes()))
	n.buffers[1][1] = size
	g, err := Import(append(n.bytes(), data...))
	if err != nil {
		t.Fatal(err)
	}
	if got := g.Const("c"); got == nil || !slices.Equal(got.F32(), []float32{5, 6}) {
		t.Errorf("constant %v", got)
	}
	n.buffers[1][1] = size + 1
	if _, err := Import(append(n.bytes(), data...)); !errors.Is(err, ErrMalformed) {
		t.Errorf("a buffer past the end: %v", err)
	}
}

// Weights alias the file where no element moves.
func TestZeroCopy(t *testing.T) {
	n := newNet()
	x := n.input("x", 1, 4, 4, 8)
	x = n.op("CONV_2D", conv(0, 1, 1), []int32{x, n.floats("pointwise", make([]float32, 128), 16, 1, 1, 8)})
	n.op("CONV_2D", conv(0, 1, 1), []int32{x, n.floats("three", make([]float32, 9*16), 1, 3, 3, 16)})
	data := n.bytes()
	if skip := uintptr(unsafe.Pointer(&data[0])) % 4; skip != 0 {
		t.Skip("the file is not aligned") // never seen: Go aligns slices of this size
	}
	g, err := Import(data)
	if err != nil {
		t.Fatal(err)
	}
	within := func(name string) bool {
		p, from := uintptr(unsafe.Pointer(&g.Const(name).Data[0])), uintptr(unsafe.Pointer(&data[0]))
		return p >= from && p < from+uintptr(len(data))
	}
	if !within("pointwise") {
		t.Error("weights in the right order were copied")
	}
	if within("three") || !g.Const("three").Shape.Equal(model.Shape{1, 16, 3, 3}) {
		t.Errorf("weights to be turned: %v", g.Const("three").Shape)
	}
}

// int4 weights are widened.
func TestInt4(t *testing.T) {
	if got := nibbles([]byte{0x8f, 0x07}, 3); !slices.Equal(got, []byte{0xff, 0xf8, 0x07}) {
		t.Errorf("%x", got)
	}
}
