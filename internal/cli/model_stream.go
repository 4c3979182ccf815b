package cli

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"dunlin/engine"
	"dunlin/model"
	"dunlin/model/prep"
	"dunlin/model/samples"
)

// portOptions say what goes into the inputs that no sample fills.
type portOptions struct {
	Set   []string // INPUT=VALUE: it is always that
	Carry []string // INPUT=OUTPUT: zero as a sound begins, then what the window before gave
}

func (o *portOptions) register(c *cobra.Command) {
	c.Flags().StringArrayVar(&o.Set, "set", nil, "`INPUT=VALUE`: that input is always this number; what follows from it is computed now, and the pack does not have it")
	c.Flags().StringArrayVar(&o.Carry, "carry", nil, "`INPUT=OUTPUT`: that input is the network's state, what the output gave for the window of sound before; the pack keeps both, and no preprocessing")
}

func (o portOptions) check(data rewriteOptions, eval string) error {
	if len(o.Carry) > 0 && (data.DataFree || eval != "") {
		return usagef("--carry: a state comes from sounds, and is not known to --data-free and --eval")
	}
	return nil
}

// carried is a state: the index of an input, and of the output that it was.
type carried struct{ in, out int }

// fix returns g with the inputs that o speaks of as it says, that of the
// sample first and of the shape that its preprocessing makes, and the states.
// Branches are chosen where that tells them: quant does not look into them.
func (o portOptions) fix(g *model.Graph, spec prep.Spec) (*model.Graph, []carried, error) {
	values, err := o.values(g)
	if err != nil {
		return nil, nil, err
	}
	var states, outputs []string
	for _, arg := range o.Carry {
		name, out, err := inputKey(g, arg)
		if err != nil {
			return nil, nil, err
		}
		if !slices.Contains(g.Outputs, out) {
			return nil, nil, usagef("--carry %s: the model has no output %q; it has %s", arg, out, strings.Join(g.Outputs, ", "))
		}
		states, outputs = append(states, name), append(outputs, out)
	}
	g = g.Clone()
	g.Inputs = slices.DeleteFunc(g.Inputs, func(name string) bool { return slices.Contains(states, name) })
	sample := slices.DeleteFunc(slices.Clone(g.Inputs), func(name string) bool { return values[name] != nil })
	if err := fixInputs(g, sample, spec); err != nil {
		return nil, nil, err
	}
	g.Inputs = append(g.Inputs, states...)
	if len(values) > 0 || len(states) > 0 || branches(g) {
		if g, err = engine.Specialise(g, engine.Options{Values: values, Symbolic1: true}); err != nil {
			return nil, nil, explain(err)
		}
	}
	var list []carried
	for i, name := range states {
		list = append(list, carried{slices.Index(g.Inputs, name), slices.Index(g.Outputs, outputs[i])})
	}
	return g, list, nil
}

// branches reports whether a node of g has a graph of its own.
func branches(g *model.Graph) bool {
	return slices.ContainsFunc(g.Nodes, func(n *model.Node) bool {
		for a := range maps.Values(n.Attrs) {
			if _, ok := a.(*model.Graph); ok {
				return true
			}
		}
		return false
	})
}

// values returns what --set says.
func (o portOptions) values(g *model.Graph) (map[string]*model.Tensor, error) {
	values := map[string]*model.Tensor{}
	for _, arg := range o.Set {
		name, text, err := inputKey(g, arg)
		if err != nil {
			return nil, err
		}
		x, err := strconv.ParseFloat(text, 64)
		if err != nil {
			return nil, usagef("--set %s: %q is no number", arg, text)
		}
		v := g.Value(name)
		t, err := model.NewTensor(v.Type, v.Shape...)
		if err != nil {
			return nil, fmt.Errorf("--set %s: the model's input is %v %v: %w", arg, v.Type, v.Shape, err)
		}
		switch whole := x == float64(int32(x)); {
		case v.Type == model.F32:
			fillWith(t.F32(), float32(x))
		case v.Type == model.I64 && whole:
			fillWith(t.I64(), int64(x))
		case v.Type == model.I32 && whole:
			fillWith(t.I32(), int32(x))
		case v.Type == model.Bool && (x == 0 || x == 1):
			fillWith(t.Bools(), uint8(x))
		default:
			return nil, usagef("--set %s: the model's input is %v", arg, v.Type)
		}
		values[name] = t
	}
	return values, nil
}

func fillWith[T any](list []T, v T) {
	for i := range list {
		list[i] = v
	}
}

// stream runs a network over sounds, window by window, and carries its states
// through each.
type stream struct {
	in      prep.Input
	session *engine.Session
	states  []carried
}

// over calls before with each window's number, and how many there are, once
// the inputs are filled, and after once it was run.
func (s stream) over(x samples.Sample, before func(i, n int), after func() error) error {
	if x.Sound == nil {
		return fmt.Errorf("%s is no sound: a network with a state takes sounds", x.Name)
	}
	f, err := s.in.Frames(*x.Sound)
	if err != nil {
		return fmt.Errorf("%s: %w", x.Name, err)
	}
	for _, c := range s.states {
		in, out := s.session.Input(c.in), s.session.Output(c.out)
		if in.Type != out.Type || len(in.Data) != len(out.Data) {
			return fmt.Errorf("--carry: the state goes in as %v %v and comes out as %v %v", in.Type, in.Shape, out.Type, out.Shape)
		}
		clear(in.Data)
	}
	n := s.in.Windows(f)
	for i := range n {
		if err := s.in.Window(f, i, s.session.Input(0)); err != nil {
			return fmt.Errorf("%s: %w", x.Name, err)
		}
		before(i, n)
		if err := s.session.Run(); err != nil {
			return fmt.Errorf("%s: %w", x.Name, err)
		}
		if err := after(); err != nil {
			return fmt.Errorf("%s: %w", x.Name, err)
		}
		for _, c := range s.states {
			copy(s.session.Input(c.in).Data, s.session.Output(c.out).Data)
		}
	}
	return nil
}

// windowBytes bounds the windows that are kept to calibrate with.
const windowBytes = 16 << 20

// calibrator returns the samples at of set, to calibrate with. Of a network
// with a state these are windows of the sounds, as many as wanted, evenly
// spread, each with the state that the float network has there.
func (w *material) calibrator(set *samples.Set, at []int, wanted int) error {
	w.calib.set, w.calib.in, w.calib.at = set, w.spec.Inputs[0], at
	if len(w.states) == 0 {
		return nil
	}
	_, session, err := session(w.graph, nil, engine.Options{})
	if err != nil {
		return err
	}
	size := 0
	for i := range w.graph.Inputs {
		size += len(session.Input(i).Data)
	}
	of := max(1, min(wanted, windowBytes/size)/len(at)) // each sound
	run := stream{w.calib.in, session, w.states}
	var from []int
	var windows [][]*model.Tensor
	for _, i := range at {
		if err := w.calib.ctx.Err(); err != nil {
			return err
		}
		x, err := set.At(i)
		if err != nil {
			return err
		}
		var chosen []int
		err = run.over(x, func(window, n int) {
			if chosen == nil {
				chosen = samples.Spread(min(of, n), n)
			}
			if !slices.Contains(chosen, window) || len(windows)*size > windowBytes {
				return
			}
			var in []*model.Tensor
			for k := range w.graph.Inputs {
				in = append(in, session.Input(k).Clone())
			}
			from, windows = append(from, i), append(windows, in)
		}, func() error { return nil })
		if err != nil {
			return err
		}
	}
	w.calib.at, w.calib.windows = from, windows
	return nil
}
