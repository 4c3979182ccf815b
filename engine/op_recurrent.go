package engine

import (
	"fmt"
	"math"

	"dunlin/kernels"
	"dunlin/model"
)

// cells are the recurrent operators; their inputs are x, w, r, b, lengths,
// the first h and, of LSTM alone, the first c and the peepholes.
var cells = map[string]struct {
	cell        kernels.Cell
	activations []string // of one direction, where the node names none
}{
	"RNN":  {kernels.CellRNN, []string{"Tanh"}},
	"GRU":  {kernels.CellGRU, []string{"Sigmoid", "Tanh"}},
	"LSTM": {kernels.CellLSTM, []string{"Sigmoid", "Tanh", "Tanh"}},
}

// activationDefaults are alpha and beta of the activations that have them.
var activationDefaults = map[string][]float32{
	"LeakyRelu": {0.01}, "ThresholdedRelu": {1}, "Elu": {1}, "HardSigmoid": {0.2, 0.5}, "Affine": {1, 0}, "ScaledTanh": {1, 1},
}

func checkRecurrent(n *model.Node) string {
	reverse := directions(n)
	if reverse == nil {
		return fmt.Sprintf("direction %q is unknown", n.Str("direction", ""))
	}
	_, why := activationsOf(n, len(reverse), kernels.Target{})
	return why
}

// directions says for each direction of n whether it is in reverse, nil where
// the attribute is none of ONNX's.
func directions(n *model.Node) []bool {
	switch n.Str("direction", "forward") {
	case "forward":
		return []bool{false}
	case "reverse":
		return []bool{true}
	case "bidirectional":
		return []bool{false, true}
	}
	return nil
}

// activationsOf returns the activations of all directions for t, or why there
// are none.
func activationsOf(n *model.Node, directions int, t kernels.Target) (list []kernels.Unary, why string) {
	cell := cells[n.Op]
	names, _ := n.Attrs["activations"].([]string)
	if names == nil {
		for range directions {
			names = append(names, cell.activations...)
		}
	}
	if len(names) != directions*len(cell.activations) {
		return nil, fmt.Sprintf("%d activations for %d directions", len(names), directions)
	}
	alphas, _ := n.Attrs["activation_alpha"].([]float32)
	betas, _ := n.Attrs["activation_beta"].([]float32)
	next := func(from *[]float32, defaults []float32, i int) float32 {
		switch {
		case i >= len(defaults):
			return 0
		case len(*from) == 0:
			return defaults[i]
		}
		v := (*from)[0]
		*from = (*from)[1:]
		return v
	}
	for _, name := range names {
		defaults := activationDefaults[name]
		f, ok := kernels.Activation(t, name, next(&alphas, defaults, 0), next(&betas, defaults, 1))
		if !ok {
			return nil, fmt.Sprintf("activation %q is unknown", name)
		}
		list = append(list, f)
	}
	return list, ""
}

// recurrentShape reads the attributes, and checks the shapes of all inputs.
func recurrentShape(c *call) (s kernels.RecurrentShape, err error) {
	x, w, r := c.shape(0), c.shape(1), c.shape(2)
	n := c.node
	s.Cell, s.Reverse = cells[n.Op].cell, directions(n)
	if len(x) != 3 || len(w) != 3 || len(r) != 3 {
		return s, fmt.Errorf("inputs %v, %v, %v have not 3 axes each", x, w, r)
	}
	d, gates := len(s.Reverse), s.Cell.Gates()
	s.Steps, s.Batch, s.Input, s.Hidden = x[0], x[1], x[2], r[2]
	if s.BatchFirst = n.Int("layout", 0) == 1; s.BatchFirst {
		s.Steps, s.Batch = x[1], x[0]
	}
	if h := n.Int("hidden_size", int64(s.Hidden)); h != int64(s.Hidden) {
		return s, fmt.Errorf("hidden_size %d does not fit weights %v", h, r)
	}
	if s.Hidden > math.MaxInt32/8 {
		return s, fmt.Errorf("weights %v", r)
	}
	state := model.Shape{d, s.Batch, s.Hidden}
	if s.BatchFirst {
		state = model.Shape{s.Batch, d, s.Hidden}
	}
	for i, want := range []model.Shape{
		x, {d, gates * s.Hidden, s.Input}, {d, gates * s.Hidden, s.Hidden}, {d, 2 * gates * s.Hidden}, {s.Batch}, state, state, {d, 3 * s.Hidden},
	} {
		if c.has(i) && !c.shape(i).Equal(want) {
			return s, fmt.Errorf("input %d is %v, not %v", i, c.shape(i), want)
		}
	}
	s.ResetAfter = n.Int("linear_before_reset", 0) != 0
	s.Coupled = n.Int("input_forget", 0) != 0
	s.Clip = n.Float("clip", 0)
	var why string
	if s.Activations, why = activationsOf(n, d, c.target); why != "" {
		return s, notYet(why)
	}
	return s, nil
}

func inferRecurrent(c *call) error {
	for i := range c.in {
		want := model.F32
		if i == 4 {
			want = model.I32
		}
		if err := c.want(i, want); err != nil {
			return err
		}
	}
	s, err := recurrentShape(c)
	if err != nil {
		return err
	}
	d := len(s.Reverse)
	all, last := model.Shape{s.Steps, d, s.Batch, s.Hidden}, model.Shape{d, s.Batch, s.Hidden}
	if s.BatchFirst {
		all, last = model.Shape{s.Batch, s.Steps, d, s.Hidden}, model.Shape{s.Batch, d, s.Hidden}
	}
	for i, v := range c.out {
		v.Type, v.Shape = model.F32, last
		if i == 0 {
			v.Shape = all
		}
		if _, err := v.Shape.Elements(); err != nil {
			return err
		}
	}
	return nil
}

func lowerRecurrent(c *call) (*kernel, error) {
	s, err := recurrentShape(c)
	if err != nil {
		return nil, err
	}
	r, err := kernels.NewRecurrent(s)
	if err != nil {
		return nil, err
	}
	w, u, b := c.constant(1), c.constant(2), c.constant(3)
	if w != nil && u != nil && (b != nil || !c.has(3)) {
		if err := r.Pack(c.target, w.F32(), u.F32(), float32s(b)); err != nil {
			return nil, err
		}
	}
	k := &kernel{name: c.node.Op + "-f32", tier: r.Tier(), macs: r.MACs(), weights: r.Bytes(), scratch: r.Scratch()}
	k.bind = func(in, out []*model.Tensor, scratch []byte) func() error {
		at := func(list []*model.Tensor, i int) []float32 {
			if i < len(list) {
				return float32s(list[i])
			}
			return nil
		}
		inputs := kernels.RecurrentInputs{
			X: at(in, 0), W: at(in, 1), R: at(in, 2), B: at(in, 3), H: at(in, 5), C: at(in, 6), Peephole: at(in, 7),
		}
		if len(in) > 4 && in[4] != nil {
			inputs.Lengths = in[4].I32()
		}
		outputs := kernels.RecurrentOutputs{Y: at(out, 0), H: at(out, 1), C: at(out, 2)}
		return func() error { return r.Run(outputs, inputs, scratch) }
	}
	return k, nil
}

// float32s returns the elements of t, nil where there is no tensor.
func float32s(t *model.Tensor) []float32 {
	if t == nil {
		return nil
	}
	return t.F32()
}
