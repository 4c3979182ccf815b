// Package explain says which part of a picture a network's answer rests on:
// by class activation maps from the program that runs (CAM), by covering parts
// of the picture (Occlusion), and by integrated gradients, where somebody has
// gradients to give (IntegratedGradients). Start with New, Network.Explain and
// Map; Overlay draws one.
//
// Its promise: the network that is explained is the one that answers. It is
// compiled once more, with the values before its pooling and its softmax as
// further outputs, so normal runs pay nothing, and a quantised network's
// answers are the same bits. The same picture and the same number of runs give
// the same map.
//
// A map says what the network looked at, not whether that was right. How well
// the maps do is measured, not assumed: see Faithfulness. The package computes
// no gradients itself, so that a device that explains does not link training.
package explain

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"

	"dunlin/engine"
	"dunlin/model"
	"dunlin/model/prep"
)

// Methods of Explain.
const (
	Auto      = "auto" // CAM where the network allows it, else Occlusion
	CAM       = "cam"
	Occlusion = "occlusion"
	Gradients = "gradients" // IntegratedGradients makes these maps; Explain does not
)

// ErrMethod is wrapped where a method does not suit a network; the error says
// why.
var ErrMethod = errors.New("this way of explaining does not suit the network")

// ErrClass is wrapped where a class is asked for that the network does not
// have.
var ErrClass = errors.New("no such class")

// ErrBudget is wrapped where a budget ended before there was anything to show.
var ErrBudget = errors.New("the budget is too small")

// Options of New.
type Options struct {
	Engine engine.Options // Shapes, Observe and Trace are New's own

	// Batch is how many covered pictures Occlusion runs at once, where the
	// network takes more than one; 0: 1, which needs no second program.
	Batch int
}

// Network is a classifier of one picture that can be explained. It is not
// safe for concurrent use.
type Network struct {
	in       prep.Input
	graph    *model.Graph // with the further outputs
	options  Options
	head     *head // nil: the network has none that CAM can use
	headless error // why

	logits  int // index of the output that the softmax reads, -1 where there is none
	one     *runner
	many    *runner // for Options.Batch pictures; nil: not compiled yet, or one
	classes int
}

// runner is a compiled form of a network for a number of pictures at once.
type runner struct {
	program *engine.Program
	session *engine.Session
	batch   int
}

// New compiles g, which has one input that spec makes of a picture, and one
// output of float32 scores [1, N], the one that spec reads or else the first.
// g is not changed. It fails where that is not so, and as engine.Compile does.
func New(g *model.Graph, spec prep.Spec, o Options) (*Network, error) {
	if len(g.Inputs) != 1 || len(spec.Inputs) != 1 || spec.Inputs[0].Kind != "picture" {
		return nil, fmt.Errorf("explain %s: it has %d inputs, its preprocessing makes %d: want one picture", g.Name, len(g.Inputs), len(spec.Inputs))
	}
	scores, err := scoresOf(g, spec)
	if err != nil {
		return nil, err
	}
	n := &Network{in: spec.Inputs[0], options: o, logits: -1}
	n.head, n.headless = findHead(g, scores)
	n.graph = g.Clone()
	n.graph.Outputs = []string{scores}
	freeFirstAxis(n.graph)
	if z := softmaxInput(g, scores); z != "" {
		n.logits = n.output(z)
	} else if len(spec.Outputs) > 0 && spec.Outputs[0].Softmax {
		n.logits = 0 // the network ends in logits
	}
	if n.head != nil {
		n.head.output = n.output(n.head.features)
	}
	if n.one, err = n.compile(1); err != nil {
		return nil, err
	}
	port := n.one.program.Outputs()[0]
	elements, err := port.Shape.Elements()
	if err != nil || port.Type != model.F32 || elements == 0 || len(port.Shape) == 0 || elements != port.Shape[len(port.Shape)-1] {
		return nil, fmt.Errorf("explain %s: output %q is %v %v, want float32 scores [1, N]", g.Name, scores, port.Type, port.Shape)
	}
	n.classes = elements
	return n, n.checkHead()
}

// scoresOf returns the name of the output that holds the scores.
func scoresOf(g *model.Graph, spec prep.Spec) (string, error) {
	if len(g.Outputs) == 0 {
		return "", fmt.Errorf("explain %s: it has no output", g.Name)
	}
	for _, o := range spec.Outputs {
		if o.Kind != "" && o.Kind != "classes" {
			return "", fmt.Errorf("explain %s: output %q has %s: only classes are explained", g.Name, o.Name, o.Kind)
		}
		if o.Name != "" && !slices.Contains(g.Outputs, o.Name) {
			return "", fmt.Errorf("explain %s: its preprocessing reads an output %q, it has %q", g.Name, o.Name, g.Outputs)
		}
		if o.Name != "" {
			return o.Name, nil
		}
	}
	return g.Outputs[0], nil
}

// output makes a value an output of the graph and returns its index.
func (n *Network) output(value string) int {
	if i := slices.Index(n.graph.Outputs, value); i >= 0 {
		return i
	}
	n.graph.Outputs = append(n.graph.Outputs, value)
	return len(n.graph.Outputs) - 1
}

// freeFirstAxis lets compile say how many pictures the input holds: a pack's
// graph says one.
func freeFirstAxis(g *model.Graph) {
	if v := g.Values[g.Inputs[0]]; v != nil && len(v.Shape) > 0 && v.Shape[0] == 1 {
		v.Shape[0] = model.Unknown
	}
}

// compile compiles the graph for so many pictures at once.
func (n *Network) compile(batch int) (*runner, error) {
	o := n.options.Engine
	o.Observe, o.Trace = nil, nil
	shape := append(model.Shape{}, n.in.Shape()...)
	shape[0] = batch
	o.Shapes = map[string]model.Shape{n.graph.Inputs[0]: shape}
	p, err := engine.Compile(n.graph, o)
	if err != nil {
		return nil, fmt.Errorf("explain: %w", err)
	}
	if in := p.Inputs()[0]; in.Type != model.F32 {
		return nil, fmt.Errorf("explain %s: input %q is %v, want float32", n.graph.Name, in.Name, in.Type)
	}
	return &runner{p, p.NewSession(), batch}, nil
}

// batched returns the runner for many pictures at once: of Options.Batch where
// the network takes so many and each has the answer that it has alone, x being
// the picture to try that with; else of one.
func (n *Network) batched(x []float32) *runner {
	if n.many != nil {
		return n.many
	}
	n.many = n.one
	if n.options.Batch <= 1 {
		return n.many
	}
	// A reshape with a fixed 1 in it, or memory, may stand against more; and
	// where the first axis is 1 in the file, it need not be that of samples.
	r, err := n.compile(n.options.Batch)
	if err == nil && n.alike(r, x) {
		n.many = r
	}
	return n.many
}

// alike reports whether the last picture of a batch has the answer that it has
// alone, within what another order of sums may make.
func (n *Network) alike(r *runner, x []float32) bool {
	s := r.program.Outputs()[0].Shape
	if len(s) < 2 || s[0] != r.batch || s[len(s)-1] != n.classes {
		return false
	}
	batch := make([]float32, r.batch*len(x))
	copy(batch[len(batch)-len(x):], x)
	if r.run(batch) != nil || n.one.run(x) != nil {
		return false
	}
	got, want := n.answer(r, r.batch-1).Scores, n.answer(n.one, 0).Scores
	for i, v := range want {
		if !(math.Abs(float64(got[i]-v)) <= 1e-4*math.Max(1, math.Abs(float64(v)))) {
			return false
		}
	}
	return true
}

// Classes returns how many classes the network tells apart.
func (n *Network) Classes() int { return n.classes }

// Input returns how a picture becomes the network's input.
func (n *Network) Input() prep.Input { return n.in }

// HasCAM returns nil where the network has a class activation map, and else an
// error that wraps ErrMethod and says why.
func (n *Network) HasCAM() error { return n.headless }

// Answer is what the network says of a picture.
type Answer struct {
	Scores []float32 // [Classes], as the network gives them
	// Odds are log(p/(1-p)) of each class, where the network ends in a softmax;
	// else they are Scores. A score close to 1 hardly moves; its odds do.
	Odds []float32
}

// Best returns the class with the highest score, the first of several.
func (a Answer) Best() int {
	best := 0
	for i, v := range a.Scores {
		if v > a.Scores[best] {
			best = i
		}
	}
	return best
}

// Ask runs the network on an input as Input().Picture makes it:
//
//	x  float32, Input().Shape()
func (n *Network) Ask(x []float32) (Answer, error) {
	if err := n.one.run(x); err != nil {
		return Answer{}, err
	}
	return n.answer(n.one, 0), nil
}

// run runs on what x holds, which may be fewer pictures than the batch.
func (r *runner) run(x []float32) error {
	in := r.session.Input(0).F32()
	if len(x) > len(in) || len(x)%(len(in)/r.batch) != 0 {
		return fmt.Errorf("explain: input of %d values, want %d", len(x), len(in)/r.batch)
	}
	copy(in, x)
	return r.session.Run()
}

// answer reads the answer to picture i of the last run.
func (n *Network) answer(r *runner, i int) Answer {
	part := func(output int) []float32 {
		all := r.session.Output(output).F32()
		size := len(all) / r.batch
		return slices.Clone(all[i*size : (i+1)*size])
	}
	a := Answer{Scores: part(0)}
	a.Odds = a.Scores
	if n.logits >= 0 {
		a.Odds = odds(part(n.logits))
	}
	return a
}

// odds returns log(p/(1-p)) of softmax(z), which is z_i minus the logarithm of
// the sum of exp of all others.
func odds(z []float32) []float32 {
	if len(z) < 2 {
		return z
	}
	out := make([]float32, len(z))
	top, second := math.Inf(-1), math.Inf(-1)
	at := 0
	for i, v := range z {
		if f := float64(v); f > top {
			top, second, at = f, top, i
		} else if f > second {
			second = f
		}
	}
	var rest float64 // of all but the best, beside the second
	for i, v := range z {
		if i != at {
			rest += math.Exp(float64(v) - second)
		}
	}
	all := rest*math.Exp(second-top) + 1 // beside the best
	for i, v := range z {
		others := second + math.Log(rest)
		if i != at {
			others = top + math.Log(math.Max(all-math.Exp(float64(v)-top), math.SmallestNonzeroFloat64))
		}
		out[i] = float32(float64(v) - others)
	}
	return out
}

// Budget bounds an explanation. Zero values mean no bound.
type Budget struct {
	Runs int // of the network, pictures in a batch counted one by one
	// Stop, where not nil, is asked between two runs; true ends the
	// explanation with what is known by then.
	Stop func() bool
}

// Map says how much each part of a picture counted for a class.
type Map struct {
	Method string
	Class  int
	Score  float32 // of the class, as the network gives it

	// Values are row-major, [Height, Width], over the network's whole input;
	// positive: speaks for the class.
	//
	//	cam          in the unit of the class's logit: their mean, and the bias, is the logit
	//	occlusion    by how much the odds (Answer) fall where the part is covered
	//	gradients    in the unit of the logit: their sum is the logit less that of the baseline
	Width, Height int
	Values        []float32

	Runs     int  // of the network that it took
	Complete bool // false where the budget ended it before the finest part was covered
}

// Explain makes a map for a class of an input as Input().Picture makes it.
// method is Auto, CAM or Occlusion. Where ctx ends it returns its error; where
// the budget ends, the map as far as it came, or ErrBudget.
func (n *Network) Explain(ctx context.Context, method string, x []float32, class int, b Budget) (*Map, error) {
	if class < 0 || class >= n.classes {
		return nil, fmt.Errorf("class %d: %w; the network has %d, from 0 on", class, ErrClass, n.classes)
	}
	switch {
	case method == CAM || method == Auto && n.headless == nil:
		return n.cam(x, class)
	case method == Occlusion || method == Auto:
		return n.occlusion(ctx, x, class, b)
	}
	return nil, fmt.Errorf("method %q: %w: want %s, %s or %s", method, ErrMethod, Auto, CAM, Occlusion)
}

// At returns the map at x, y, both from 0 to 1 of the input, interpolated
// between the middles of its cells.
func (m *Map) At(x, y float64) float64 {
	left, right, fx := between(x, m.Width)
	top, bottom, fy := between(y, m.Height)
	v := func(x, y int) float64 { return float64(m.Values[y*m.Width+x]) }
	upper := v(left, top)*(1-fx) + v(right, top)*fx
	lower := v(left, bottom)*(1-fx) + v(right, bottom)*fx
	return upper*(1-fy) + lower*fy
}

// between returns the two of n cells whose middles are about u, and how far u
// is from the first to the second.
func between(u float64, n int) (a, b int, f float64) {
	at := min(max(u*float64(n)-0.5, 0), float64(n-1))
	a = int(at)
	return a, min(a+1, n-1), at - float64(a)
}
