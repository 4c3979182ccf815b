package train

import (
	"fmt"
	"slices"

	"dunlin/model"
)

// recurrent is LSTM and GRU, unrolled over the steps of a sequence
// (backpropagation through time, Werbos 1990). Forward, the inputs' share of
// all gates is one product; backward, each step in reverse gives the gradients
// of its gates and of the state before it, and those of the weights are one
// product each in the end.
//
//	x   [T, B, I]        w [D, G*H, I]   r [D, G*H, H]   b [D, 2*G*H]
//	y   [T, D, B, H]     yh, yc, h0, c0 [D, B, H]
//
// kernels.Cell has the formulas.
type recurrent struct {
	x, w, r, b, h0, c0   *port // the last three may be nil
	y, yh, yc            *value
	steps, batch, inputs int
	hidden, gates        int
	resetAfter           bool // GRU
	directions           []*direction
	net                  *Net
}

func makeRecurrent(c *call) (step, error) {
	s := &recurrent{gates: 4, net: c.b.net, resetAfter: c.node.Int("linear_before_reset", 0) != 0}
	if c.node.Op == "GRU" {
		s.gates = 3
	}
	if err := checkRecurrent(c); err != nil {
		return nil, err
	}
	if err := s.read(c); err != nil {
		return nil, err
	}
	d := len(s.directions)
	for i, to := range []**value{&s.y, &s.yh, &s.yc} {
		shape := model.Shape{s.steps, d, s.batch, s.hidden}
		if i > 0 {
			shape = shape[1:]
		}
		v, err := c.write(i, shape, false)
		if err != nil {
			return nil, err
		}
		*to = v
	}
	for _, d := range s.directions {
		if err := d.lay(c); err != nil {
			return nil, err
		}
	}
	return s, nil
}

// checkRecurrent fails on what the two operators can do beyond this.
func checkRecurrent(c *call) error {
	n := c.node
	usual := []string{"Sigmoid", "Tanh", "Tanh"}
	if n.Op == "GRU" {
		usual = usual[:2]
	}
	list, _ := n.Attrs["activations"].([]string)
	for len(list) > 0 {
		if len(list) < len(usual) || !slices.Equal(list[:len(usual)], usual) {
			return fmt.Errorf("activations %v; train takes %v", list, usual)
		}
		list = list[len(usual):]
	}
	switch {
	case n.Int("layout", 0) != 0:
		return fmt.Errorf("layout 1; train takes [steps, batch, ...]")
	case n.Float("clip", 0) != 0:
		return fmt.Errorf("it clips what goes into the gates; train does not")
	case n.Int("input_forget", 0) != 0 || c.has(7):
		return fmt.Errorf("coupled gates or peepholes; train has none")
	case c.has(4):
		return fmt.Errorf("sequences of their own lengths; train takes those of one length")
	}
	return nil
}

// read reads all inputs and checks their shapes.
func (s *recurrent) read(c *call) (err error) {
	for _, p := range []struct {
		to *(*port)
		i  int
	}{{&s.x, 0}, {&s.w, 1}, {&s.r, 2}, {&s.b, 3}, {&s.h0, 5}, {&s.c0, 6}} {
		if p.i < 3 {
			*p.to, err = c.readIn(p.i, false)
		} else {
			*p.to, err = c.optional(p.i)
		}
		if err != nil {
			return err
		}
	}
	x, r := s.x.shape, s.r.shape
	if len(x) != 3 || len(r) != 3 {
		return fmt.Errorf("inputs %v and %v have not 3 axes each", x, r)
	}
	s.steps, s.batch, s.inputs, s.hidden = x[0], x[1], x[2], r[2]
	switch way := c.node.Str("direction", "forward"); way {
	case "forward", "reverse":
		s.directions = []*direction{{s: s, reverse: way == "reverse"}}
	case "bidirectional":
		s.directions = []*direction{{s: s}, {s: s, number: 1, reverse: true}}
	default:
		return fmt.Errorf("direction %q is unknown", way)
	}
	return s.checkShapes()
}

func (s *recurrent) checkShapes() error {
	d, n := len(s.directions), s.gates*s.hidden
	state := model.Shape{d, s.batch, s.hidden}
	for i, p := range []*port{s.w, s.r, s.b, s.h0, s.c0} {
		want := []model.Shape{{d, n, s.inputs}, {d, n, s.hidden}, {d, 2 * n}, state, state}[i]
		if p != nil && !p.shape.Equal(want) {
			return fmt.Errorf("%s is %v, not %v", []string{"w", "r", "b", "the first h", "the first c"}[i], p.shape, want)
		}
	}
	return nil
}

func (s *recurrent) forward(bool) {
	for _, d := range s.directions {
		d.forward()
	}
}

func (s *recurrent) backward() {
	for _, d := range s.directions {
		d.backward()
	}
}
