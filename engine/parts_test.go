package engine

import (
	"runtime"
	"slices"
	"sync"
	"testing"

	"dunlin/model"
)

// threaded lets Go run four threads, however few CPUs there are, so that the
// pool has workers.
func threaded(t testing.TB) {
	before := runtime.GOMAXPROCS(4)
	t.Cleanup(func() { runtime.GOMAXPROCS(before) })
}

// transformerNet has the products of an attention, with a softmax, a
// normalisation and functions between them.
func transformerNet(seed uint64) *model.Graph {
	b := newBuild(seed)
	x := b.input("x", 1, 20, 24)
	head := func(perm ...int64) string {
		y := b.node("Add", nil, b.node("MatMul", nil, x, b.normal(24, 24)), b.normal(24))
		return b.node("Transpose", attrs{"perm": perm}, b.node("Reshape", nil, y, b.ints(1, 20, 3, 8)))
	}
	q, k, v := head(0, 2, 1, 3), head(0, 2, 3, 1), head(0, 2, 1, 3)
	s := b.node("Softmax", nil, b.node("Div", nil, b.node("MatMul", nil, q, k), b.scalar(2.83)))
	y := b.node("Transpose", attrs{"perm": []int64{0, 2, 1, 3}}, b.node("MatMul", nil, s, v))
	y = b.node("Add", nil, b.node("Reshape", nil, y, b.ints(1, 20, 24)), x)
	y = b.node("LayerNormalization", nil, y, b.normal(24), b.normal(24))
	z := b.node("Gelu", nil, b.node("MatMul", nil, y, b.normal(24, 130)))
	z = b.node("Concat", attrs{"axis": int64(2)}, z, y)
	z = b.node("Where", nil, b.node("Greater", nil, z, b.scalar(0.1)), z, b.normal(154))
	b.output(b.node("MatMul", nil, z, b.normal(154, 200)), s)
	return b.Graph
}

// nets are graphs of all kinds of kernels that are cut.
func nets(seed uint64) map[string]*model.Graph {
	return map[string]*model.Graph{
		"float": floatNet(seed), "int8": integerNet(seed, model.I8), "uint8": integerNet(seed, model.U8),
		"staged": stagedNet(), "transformer": transformerNet(seed), "quantised": quantisedNet(seed%2 == 0),
	}
}

func TestPartsGiveTheSameBits(t *testing.T) {
	threaded(t)
	for seed := range uint64(5) {
		for name, g := range nets(seed) {
			want := runOnce(t, compiled(t, g, Options{Threads: 1}), seed)
			for _, parts := range []int{2, 3, 7} {
				p := compiled(t, g, Options{parts: parts})
				for i, out := range runOnce(t, p, seed) {
					if !slices.Equal(out.Data, want[i].Data) {
						t.Errorf("%s, seed %d: output %d differs in %d parts", name, seed, i, parts)
					}
				}
			}
		}
	}
}

// productNet is a convolution, a depthwise and a pointwise one, and a product
// of many rows, all large enough to be cut; in integers where quantised.
func productNet(quantised bool) *model.Graph {
	b := newBuild(1)
	q := func(x string) string {
		if quantised {
			x = b.quantised(x, model.I8, 0.25, -3)
		}
		return x
	}
	w := func(shape ...int) string {
		if quantised {
			return b.weights(0, shape...)
		}
		return b.normal(shape...)
	}
	pads := []int64{1, 1, 1, 1}
	x := q(b.input("x", 1, 8, 40, 30))
	x = q(b.node("Conv", attrs{"pads": pads}, x, w(72, 8, 3, 3)))
	x = q(b.node("Conv", attrs{"pads": pads, "group": int64(72)}, x, w(72, 1, 3, 3)))
	x = q(b.node("Conv", nil, x, w(40, 72, 1, 1)))
	x = b.node("Transpose", attrs{"perm": []int64{0, 2, 3, 1}}, x)
	x = q(b.node("Reshape", nil, x, b.ints(1200, 40)))
	b.output(q(b.node("Gemm", attrs{"transB": int64(1)}, x, w(50, 40))))
	return b.Graph
}

// Whatever computes with weights can be cut: a net is not one thread's for
// want of a cutter.
func TestProductsAreCut(t *testing.T) {
	threaded(t)
	for _, quantised := range []bool{false, true} {
		g := productNet(quantised)
		p, products := compiled(t, g, Options{parts: 2}), 0
		for _, s := range p.Steps() {
			if s.MACs == 0 {
				continue
			}
			products++
			if s.Parts != 2 {
				t.Errorf("%s (%s) of %v is in %d parts", s.Name, s.Kernel, s.Out, s.Parts)
			}
		}
		if products != 4 {
			t.Errorf("%d products", products)
		}
		got, want := runOnce(t, p, 1), runOnce(t, compiled(t, g, Options{Threads: 1}), 1)
		if !slices.Equal(got[0].Data, want[0].Data) {
			t.Error("the outputs differ")
		}
	}
}

func TestPartsAllocateNothing(t *testing.T) {
	threaded(t)
	for name, g := range nets(1) {
		if name == "staged" {
			continue // results of NonZero are new in each run
		}
		s := compiled(t, g, Options{parts: 3}).NewSession()
		if n := testing.AllocsPerRun(20, func() {
			if err := s.Run(); err != nil {
				t.Error(err)
			}
		}); n != 0 {
			t.Errorf("%s: %v allocations a run", name, n)
		}
	}
}

// Sessions on many goroutines share the pool: one has its help at a time, and
// all give the same answers.
func TestManySessionsShareThePool(t *testing.T) {
	threaded(t)
	p := compiled(t, integerNet(3, model.I8), Options{parts: 3})
	want := runOnce(t, p, 1)[0].Data
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			s := p.NewSession()
			fillInputs(p, s, 1)
			for range 50 {
				if err := s.Run(); err != nil || !slices.Equal(s.Output(0).Data, want) {
					t.Errorf("a session differs, or %v", err)
					return
				}
			}
		})
	}
	wg.Wait()
}

// With one thread for all of Go, parts run one after the other.
func TestPartsOnOneProcessor(t *testing.T) {
	g := integerNet(4, model.I8)
	want := runOnce(t, compiled(t, g, Options{Threads: 1}), 2)
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	got := runOnce(t, compiled(t, g, Options{parts: 2}), 2)
	if !slices.Equal(got[0].Data, want[0].Data) {
		t.Error("the outputs differ")
	}
	if n := (Options{Threads: 8}).threads(1e9); n != 1 {
		t.Errorf("%d threads on one processor", n)
	}
}

// The error of a part is the step's.
func TestErrorInAPart(t *testing.T) {
	threaded(t)
	want := error(notYet("part 1"))
	parts := []part{}
	for i := range 3 {
		parts = append(parts, part{kernel: &kernel{bind: func(_, _ []*model.Tensor, _ []byte) func() error {
			return func() error {
				if i > 0 {
					return notYet("part " + string(rune('0'+i)))
				}
				return nil
			}
		}}})
	}
	if err := bindParts(parts, nil, nil, nil, inTurn{})(); err != want {
		t.Errorf("%v, want %v", err, want)
	}
}

// inTurn are workers that are none.
type inTurn struct{}

func (inTurn) Run(n int, job interface{ Run(part int) }) {
	for i := range n {
		job.Run(i)
	}
}

func TestCutters(t *testing.T) {
	for _, c := range []struct {
		units, step, n int
		bounds         []int
		gain           float64
	}{
		{10, 1, 2, []int{0, 5, 10}, 2},
		{7, 1, 2, []int{0, 4, 7}, 1.75},
		{49, 6, 2, []int{0, 24, 49}, 49.0 / 25},
		{1, 1, 4, []int{0, 1}, 1},
		{13, 6, 4, []int{0, 6, 13}, 13.0 / 7},
		{0, 1, 2, []int{0, 0}, 0},
	} {
		k := cutter{units: c.units, step: c.step}
		if b := k.bounds(c.n); !slices.Equal(b, c.bounds) {
			t.Errorf("%+v: bounds %v", c, b)
		}
		if g := k.gain(c.n); g != c.gain {
			t.Errorf("%+v: gain %v", c, g)
		}
	}
	made := func(which string) func(from, to int) (part, error) {
		return func(int, int) (part, error) { return part{kernel: named(which)}, nil }
	}
	for _, c := range []struct {
		first, second int // units
		want          string
	}{{8, 8, "first"}, {3, 8, "second"}, {1, 1, ""}, {49, 50, "first"}} {
		parts := cutInto([]cutter{{c.first, 1, made("first")}, {c.second, 1, made("second")}}, 2)
		got := ""
		if parts != nil {
			got = parts[0].kernel.name
		}
		if got != c.want {
			t.Errorf("%+v: cut by %q", c, got)
		}
	}
}

// A graph of a few microseconds has one thread, however many it may have.
func TestSmallGraphsHaveOneThread(t *testing.T) {
	threaded(t)
	for _, threads := range []int{0, 2} {
		for _, s := range compiled(t, integerNet(1, model.I8), Options{Threads: threads}).Steps() {
			if s.Parts != 1 {
				t.Errorf("%d threads: %s has %d parts", threads, s.Name, s.Parts)
			}
		}
	}
	for _, c := range []struct {
		threads int
		nanos   float64
		want    int
	}{{0, usualPlan - 1, 1}, {0, usualPlan, 4}, {2, leastPlan, 2}, {2, leastPlan - 1, 1}, {9, usualPlan, 4}, {1, 1e9, 1}} {
		if n := (Options{Threads: c.threads}).threads(c.nanos); n != c.want {
			t.Errorf("%+v: %d threads", c, n)
		}
	}
}
