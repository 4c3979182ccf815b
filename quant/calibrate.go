package quant

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"

	"dunlin/engine"
	"dunlin/model"
)

// Ranges is what calibration saw of each float value of the prepared graph: a
// histogram, and the mean and the mean square of each channel.
type Ranges struct {
	Samples int
	values  map[string]*Histogram
	means   map[string]*means
}

// means are the sums of a value's channels: of axis 1, which is the channels
// of an activation [N, C, ...] and the columns of a matrix.
type means struct {
	sums    []float64
	squares []float64 // sums of squares
	count   int       // of elements that each sum has
}

// add counts a tensor. One whose channels are of another number than those
// before makes the means unknown.
func (m *means) add(t *model.Tensor) {
	if len(t.Shape) < 2 || (m.sums != nil && len(m.sums) != t.Shape[1]) {
		m.sums, m.squares, m.count = []float64{}, []float64{}, 0
		return
	}
	channels := t.Shape[1]
	if m.sums == nil {
		m.sums, m.squares = make([]float64, channels), make([]float64, channels)
	}
	inner := 1
	for _, d := range t.Shape[2:] {
		inner *= d
	}
	for i, v := range t.F32() {
		c := i / inner % channels
		m.sums[c] += float64(v)
		m.squares[c] += float64(float64(v) * float64(v))
	}
	m.count += t.Shape[0] * inner
}

// mean returns the mean of each of a value's channels, nil where it is not
// known.
func (r *Ranges) mean(value string) []float64 {
	m := r.means[value]
	if m == nil || m.count == 0 {
		return nil
	}
	all := make([]float64, len(m.sums))
	for c, s := range m.sums {
		all[c] = s / float64(m.count)
	}
	return all
}

// meanSquare returns the mean square of each of a value's channels, nil where
// it is not known.
func (r *Ranges) meanSquare(value string) []float64 {
	m := r.means[value]
	if m == nil || m.count == 0 {
		return nil
	}
	all := make([]float64, len(m.squares))
	for c, s := range m.squares {
		all[c] = s / float64(m.count)
	}
	return all
}

// Values returns the names of the values that were seen, sorted.
func (r *Ranges) Values() []string { return slices.Sorted(maps.Keys(r.values)) }

// Histogram returns what was seen of a value, nil where that is nothing.
func (r *Ranges) Histogram(value string) *Histogram { return r.values[value] }

// Calibrate runs g on n samples and counts the values on each edge. next
// returns the i-th sample, a tensor for each input of the graph in order; it
// is asked for each i once, in order, and what it returns is not kept. It fails
// with ErrRange where a value is NaN or infinite, and with what engine or
// next fail with.
func Calibrate(g *model.Graph, next func(i int) ([]*model.Tensor, error), n int, o Options) (*Ranges, error) {
	if err := o.check(); err != nil {
		return nil, err
	}
	if n <= 0 {
		return nil, fmt.Errorf("calibrate %s: %w", g.Name, ErrSamples)
	}
	p, err := prepare(g)
	if err != nil {
		return nil, err
	}
	r := &Ranges{values: map[string]*Histogram{}, means: map[string]*means{}}
	if err := r.observe(p, func(string) bool { return true }, next, n, o); err != nil {
		return nil, fmt.Errorf("calibrate %s: %w", g.Name, err)
	}
	return r, nil
}

// observe runs g on n samples and counts the float values that are wanted.
func (r *Ranges) observe(g *model.Graph, wanted func(string) bool, next func(i int) ([]*model.Tensor, error), n int, o Options) error {
	var broken error
	run := newRunner(g, o, func(value string, t *model.Tensor) {
		if t.Type != model.F32 || broken != nil || !wanted(value) {
			return
		}
		h := r.values[value]
		if h == nil {
			h = &Histogram{}
			r.values[value], r.means[value] = h, &means{}
		}
		r.means[value].add(t)
		if err := h.Add(t.F32()); err != nil {
			broken = fmt.Errorf("value %s: %w", value, err)
		}
	})
	for i := range n {
		in, err := next(i)
		if err == nil {
			err = run.run(in)
		}
		if err == nil {
			err = broken
		}
		if err != nil {
			return fmt.Errorf("sample %d: %w", i, err)
		}
		r.Samples++
		if o.Progress != nil {
			o.Progress(i+1, n)
		}
	}
	return nil
}

// drawn returns so many of n samples, in order: one of each part, by a fixed
// draw, since the classes of a set may take turns.
func drawn(many, n int) []int {
	at, r := make([]int, many), rand.New(rand.NewPCG(uint64(many), uint64(n)))
	for i := range at {
		first, end := i*n/many, (i+1)*n/many
		at[i] = first + r.IntN(end-first)
	}
	return at
}

// runner runs a graph on samples and shows each value; a program is compiled
// again when the shapes of a sample differ from those of the one before.
type runner struct {
	g       *model.Graph // nil where its shapes are fixed and it was compiled
	inputs  []string
	observe func(string, *model.Tensor)
	packed  func(*model.Tensor)
	shapes  map[string]model.Shape
	program *engine.Program
	session *engine.Session // nil: at rest
	arena   *[]byte         // of the session, shared with runners that are at rest meanwhile
}

func newRunner(g *model.Graph, o Options, observe func(string, *model.Tensor)) *runner {
	return &runner{g: g, inputs: g.Inputs, observe: observe, packed: o.Rest, arena: &[]byte{}}
}

// ready compiles where that has not been done for inputs of such shapes.
func (r *runner) ready(in []*model.Tensor) error {
	if len(in) != len(r.inputs) {
		return fmt.Errorf("%d tensors for %d inputs", len(in), len(r.inputs))
	}
	if r.program == nil || r.g != nil && !r.fits(in) {
		r.shapes = map[string]model.Shape{}
		for i, name := range r.inputs {
			r.shapes[name] = slices.Clone(in[i].Shape)
		}
		p, err := engine.Compile(r.g, engine.Options{Shapes: r.shapes, Observe: r.observe, Packed: r.packed})
		if err != nil {
			return err
		}
		r.program, r.session = p, nil
		if !slices.ContainsFunc(r.inputs, func(name string) bool { return !r.g.Value(name).Shape.Known() }) {
			r.g = nil // its constants may go, where nobody else has them
		}
	}
	return nil
}

func (r *runner) run(in []*model.Tensor) error {
	if err := r.ready(in); err != nil {
		return err
	}
	if r.session == nil {
		if need := r.program.Memory().Arena; len(*r.arena) < need {
			*r.arena = model.Aligned(need)
		}
		r.session = r.program.NewSessionIn(*r.arena)
	}
	for i, t := range in {
		to := r.session.Input(i)
		if to.Type != t.Type || len(to.Data) != len(t.Data) {
			return fmt.Errorf("input %s is %v %v, the sample has %v %v", r.inputs[i], to.Type, to.Shape, t.Type, t.Shape)
		}
		copy(to.Data, t.Data)
	}
	return r.session.Run()
}

// rest gives up the memory of a run, which another runner may use until the
// next one.
func (r *runner) rest() { r.session = nil }

func (r *runner) fits(in []*model.Tensor) bool {
	for i, name := range r.inputs {
		if !r.shapes[name].Equal(in[i].Shape) {
			return false
		}
	}
	return true
}
