package kernels

import (
	"fmt"
	"math"
)

// Cell is a kind of recurrent network.
type Cell uint8

// The cells, with the gates in the order in which weights hold them. x is the
// input of a step, h and c the state before it, σ and ∘ the sums and products
// element by element; f, g and k are the activations, W and R the weights, b
// the sum of both biases, p the peepholes.
//
//	RNN   h' = f(Wx + Rh + b)
//
//	GRU   z  = f(Wz x + Rz h + bz)
//	      r  = f(Wr x + Rr h + br)
//	      n  = g(Wn x + Rn (r∘h) + bn)            or, with ResetAfter,
//	      n  = g(Wn x + bWn + r∘(Rn h + bRn))
//	      h' = (1-z)∘n + z∘h
//
//	LSTM  i  = f(Wi x + Ri h + bi + pi∘c)
//	      o  = f(Wo x + Ro h + bo + po∘c')
//	      u  = f(Wu x + Ru h + bu + pu∘c)         the forget gate; 1-i with Coupled
//	      n  = g(Wn x + Rn h + bn)
//	      c' = u∘c + i∘n
//	      h' = o∘k(c')
//
// (https://onnx.ai/onnx/operators/onnx__LSTM.html and its like.)
const (
	CellRNN Cell = iota
	CellGRU
	CellLSTM
)

var cellGates = [...]int{CellRNN: 1, CellGRU: 3, CellLSTM: 4}

// Gates returns how many gates the cell has.
func (c Cell) Gates() int { return cellGates[c] }

// RecurrentShape is the shape of a recurrent operator. With BatchFirst the
// axes of a step and of the batch change places in x, and the batch is the
// first axis of everything else but the weights.
//
//	x         [Steps, Batch, Input]
//	w         [D, G*Hidden, Input]        G gates, D directions
//	r         [D, G*Hidden, Hidden]
//	b         [D, 2*G*Hidden]             first that of w, then that of r; or nil: 0
//	peephole  [D, 3*Hidden]               of i, o and the forget gate; or nil: 0
//	h, c      [D, Batch, Hidden]          the first state; or nil: 0
//	y         [Steps, D, Batch, Hidden]   h after each step
//	yh, yc    [D, Batch, Hidden]          the last state
type RecurrentShape struct {
	Cell                        Cell
	Steps, Batch                int
	Input, Hidden               int
	Reverse                     []bool // for each direction, whether it begins at the last step
	BatchFirst                  bool
	ResetAfter                  bool    // GRU: the reset gate after the product
	Coupled                     bool    // LSTM: the forget gate is 1-i
	Clip                        float32 // bound of what goes into an activation; 0: none
	Activations                 []Unary // f, g, k for each direction: as many as the cell has
	gates, directions, perFirst int
}

// cellActivations is how many activations a direction has.
var cellActivations = [...]int{CellRNN: 1, CellGRU: 2, CellLSTM: 3}

// Recurrent is an RNN, GRU or LSTM ready to run. Its float order is exact: a
// gate is (b + Σ x*w, inputs ascending) + (Σ h*r, units ascending), each
// product and each sum rounded.
type Recurrent struct {
	RecurrentShape
	packed []directionF32 // nil where the weights are not constant
}

// directionF32 are the packed weights of one direction. rn is the last gate
// of a GRU without ResetAfter, whose product waits for the others; r then
// lacks it.
type directionF32 struct{ w, r, rn *GEMMF32 }

// NewRecurrent checks s. Weights are then given to each Run.
func NewRecurrent(s RecurrentShape) (*Recurrent, error) {
	s.gates, s.directions = s.Cell.Gates(), len(s.Reverse)
	s.perFirst = cellActivations[s.Cell]
	for _, n := range []int{s.Batch, s.Input, s.Hidden} {
		if n < 1 || n > maxAxis {
			return nil, fmt.Errorf("recurrent: an axis of length %d", n)
		}
	}
	if s.Steps < 0 || s.Steps > maxAxis || int64(s.gates)*int64(s.Hidden) > maxAxis {
		return nil, fmt.Errorf("recurrent: %d steps of %d units", s.Steps, s.Hidden)
	}
	if s.directions < 1 || s.directions > 2 || len(s.Activations) != s.directions*s.perFirst {
		return nil, fmt.Errorf("recurrent: %d activations for %d directions", len(s.Activations), s.directions)
	}
	return &Recurrent{RecurrentShape: s}, nil
}

// Pack lays constant weights out for t; Run then does not look at those it is
// given. It fails where lengths do not fit.
func (r *Recurrent) Pack(t Target, w, u, b []float32) error {
	n := r.gates * r.Hidden
	if len(w) != r.directions*n*r.Input || len(u) != r.directions*n*r.Hidden || (b != nil && len(b) != r.directions*2*n) {
		return fmt.Errorf("recurrent: %d, %d weights and %d biases for %d directions of %d", len(w), len(u), len(b), r.directions, n)
	}
	bias := make([]float32, 2*n)
	for d := range r.directions {
		r.biases(bias[:n], bias[n:], part(b, d, 2*n))
		var p directionF32
		var err error
		if p.w, err = PackGEMMF32(t, n, r.Input, WeightsF32{W: part(w, d, n*r.Input), Bias: bias[:n], Clamp: NoClamp}); err != nil {
			return err
		}
		uw, m := part(u, d, n*r.Hidden), n
		if r.lateGate() {
			m = n - r.Hidden
			if p.rn, err = PackGEMMF32(t, r.Hidden, r.Hidden, WeightsF32{W: uw[m*r.Hidden:], Clamp: NoClamp}); err != nil {
				return err
			}
		}
		if p.r, err = PackGEMMF32(t, m, r.Hidden, WeightsF32{W: uw[:m*r.Hidden], Bias: bias[n : n+m], Clamp: NoClamp}); err != nil {
			return err
		}
		r.packed = append(r.packed, p)
	}
	return nil
}

// lateGate reports whether the last gate's product with the state comes after
// the others.
func (r *Recurrent) lateGate() bool { return r.Cell == CellGRU && !r.ResetAfter }

// part returns part i of v, n long each, nil where v is.
func part(v []float32, i, n int) []float32 {
	if v == nil {
		return nil
	}
	return v[i*n : (i+1)*n]
}

// biases writes what the products with x and with h begin at: both biases go
// with x, but for the last gate of a GRU with ResetAfter.
func (r *Recurrent) biases(x, h, b []float32) {
	clear(x)
	clear(h)
	if b == nil {
		return
	}
	n := len(x)
	for i := range x {
		if r.Cell == CellGRU && r.ResetAfter && i >= 2*r.Hidden {
			x[i], h[i] = b[i], b[n+i]
			continue
		}
		x[i] = float32(b[i] + b[n+i])
	}
}

// Tier returns the tier of the products.
func (r *Recurrent) Tier() Tier {
	if r.packed == nil {
		return Generic
	}
	return r.packed[0].w.Tier()
}

// Bytes returns the memory that the packed weights take.
func (r *Recurrent) Bytes() int {
	n := 0
	for _, p := range r.packed {
		n += p.w.Bytes() + p.r.Bytes()
		if p.rn != nil {
			n += p.rn.Bytes()
		}
	}
	return n
}

// MACs returns the multiplications with weights in one Run.
func (r *Recurrent) MACs() int64 {
	return int64(r.directions) * int64(r.Steps) * int64(r.Batch) * int64(r.gates) * int64(r.Hidden) * int64(r.Input+r.Hidden)
}

// Scratch returns the bytes of scratch that Run needs, aligned to 64.
func (r *Recurrent) Scratch() int {
	n := r.gates * r.Hidden
	most := 0
	for _, p := range r.packed {
		most = max(most, p.w.Scratch(), p.r.Scratch())
		if p.rn != nil {
			most = max(most, p.rn.Scratch())
		}
	}
	return roundUp(4*(r.Steps*r.Batch*n+r.Batch*(n+3*r.Hidden)+2*n), 64) + most
}

// RecurrentInputs are what a Run reads: see RecurrentShape. Lengths, where it
// is not nil, says how many steps each sequence of the batch has: later steps
// of y are 0, and a direction in reverse begins at the last of them.
type RecurrentInputs struct {
	X, W, R, B, H, C, Peephole []float32
	Lengths                    []int32
}

// RecurrentOutputs are what a Run writes; each may be nil.
type RecurrentOutputs struct{ Y, H, C []float32 }

// Run runs all steps. It fails where a length is out of range.
func (r *Recurrent) Run(out RecurrentOutputs, in RecurrentInputs, scratch []byte) error {
	for i, n := range in.Lengths {
		if n < 0 || int(n) > r.Steps {
			return fmt.Errorf("sequence %d has %d steps of %d", i, n, r.Steps)
		}
	}
	clear(out.Y)
	for d := range r.directions {
		r.direction(d, out, in, scratch)
	}
	return nil
}

// direction runs one direction.
func (r *Recurrent) direction(d int, out RecurrentOutputs, in RecurrentInputs, scratch []byte) {
	n, hid, rows := r.gates*r.Hidden, r.Hidden, r.Steps*r.Batch
	floats := view[float32](scratch[:4*(rows*n+r.Batch*(n+3*hid)+2*n)])
	rest := scratch[roundUp(4*len(floats), 64):]
	take := func(k int) []float32 {
		s := floats[:k]
		floats = floats[k:]
		return s
	}
	xw, hw, h, c, gated := take(rows*n), take(r.Batch*n), take(r.Batch*hid), take(r.Batch*hid), take(r.Batch*hid)
	bx, bh := take(n), take(n)
	w, u := part(in.W, d, n*r.Input), part(in.R, d, n*hid)
	var p directionF32
	if r.packed != nil {
		p = r.packed[d]
	} else {
		r.biases(bx, bh, part(in.B, d, 2*n))
	}
	r.first(h, in.H, d)
	r.first(c, in.C, d)
	productF32(p.w, xw, in.X, w, bx, rows, n, r.Input, rest)
	early := n
	if r.lateGate() {
		early = n - hid
	}
	step := cellStep{
		Recurrent: r, acts: r.Activations[d*r.perFirst : (d+1)*r.perFirst], peephole: part(in.Peephole, d, 3*hid),
	}
	for s := range r.Steps {
		productF32(p.r, hw[:r.Batch*early], h, u, bh, r.Batch, early, hid, rest)
		if r.lateGate() {
			r.reset(&step, gated, xw, hw, h, in.Lengths, s, d)
			productF32(p.rn, hw[r.Batch*early:], gated, u[min(len(u), early*hid):], bh[early:], r.Batch, hid, hid, rest)
		}
		for b := range r.Batch {
			t, ok := r.at(in.Lengths, s, b, d)
			if !ok {
				continue
			}
			gates := xw[r.row(t, b)*n:][:n]
			addTo(gates[:early], hw[b*early:][:early], r.Cell == CellGRU && r.ResetAfter, hid)
			state, cell := h[b*hid:][:hid], c[b*hid:][:hid]
			switch r.Cell {
			case CellRNN:
				step.rnn(gates, state)
			case CellGRU:
				late := hw[b*early:][:early]
				if r.ResetAfter {
					late = late[2*hid:]
				} else {
					late = hw[r.Batch*early+b*hid:][:hid]
				}
				step.gru(gates, late, state)
			case CellLSTM:
				step.lstm(gates, state, cell)
			}
			if out.Y != nil {
				copy(out.Y[r.place(t, b, d):], state)
			}
		}
	}
	r.last(out.H, h, d)
	r.last(out.C, c, d)
}

// at returns which step of sequence b is the s-th to be run, and whether
// there is one.
func (r *Recurrent) at(lengths []int32, s, b, d int) (int, bool) {
	n := r.Steps
	if lengths != nil {
		n = int(lengths[b])
	}
	if s >= n {
		return 0, false
	}
	if r.Reverse[d] {
		return n - 1 - s, true
	}
	return s, true
}

// row returns where step t of sequence b stands in x.
func (r *Recurrent) row(t, b int) int {
	if r.BatchFirst {
		return b*r.Steps + t
	}
	return t*r.Batch + b
}

// place returns where h after step t of sequence b stands in y.
func (r *Recurrent) place(t, b, d int) int {
	if r.BatchFirst {
		return ((b*r.Steps+t)*r.directions + d) * r.Hidden
	}
	return ((t*r.directions+d)*r.Batch + b) * r.Hidden
}

// state returns where the state of sequence b stands.
func (r *Recurrent) state(b, d int) int {
	if r.BatchFirst {
		return (b*r.directions + d) * r.Hidden
	}
	return (d*r.Batch + b) * r.Hidden
}

func (r *Recurrent) first(to, from []float32, d int) {
	clear(to)
	for b := range r.Batch {
		if from != nil {
			copy(to[b*r.Hidden:][:r.Hidden], from[r.state(b, d):])
		}
	}
}

func (r *Recurrent) last(to, from []float32, d int) {
	for b := range r.Batch {
		if to != nil {
			copy(to[r.state(b, d):], from[b*r.Hidden:][:r.Hidden])
		}
	}
}

// reset finishes the gates z and r of a GRU without ResetAfter for step s, as
// far as the last gate needs them: gated is r∘h.
func (r *Recurrent) reset(c *cellStep, gated, xw, hw, h []float32, lengths []int32, s, d int) {
	hid, n := r.Hidden, r.gates*r.Hidden
	for b := range r.Batch {
		t, ok := r.at(lengths, s, b, d)
		if !ok {
			continue
		}
		to, from, more := gated[b*hid:][:hid], xw[r.row(t, b)*n+hid:][:hid], hw[b*2*hid+hid:][:hid]
		for i := range to {
			to[i] = float32(from[i] + more[i])
		}
		c.activate(0, to)
		for i, v := range h[b*hid:][:hid] {
			to[i] = float32(to[i] * v)
		}
	}
}

// addTo adds more to gates; the last of a GRU with ResetAfter is left to its
// cell.
func addTo(gates, more []float32, resetAfter bool, hidden int) {
	if resetAfter {
		more = more[:2*hidden]
	}
	for i, v := range more {
		gates[i] = float32(gates[i] + v)
	}
}

// cellStep is one step of one direction.
type cellStep struct {
	*Recurrent
	acts     []Unary
	peephole []float32
}

// activate clips v and applies activation i to it.
func (c *cellStep) activate(i int, v []float32) {
	if c.Clip > 0 {
		Clamp{-c.Clip, c.Clip}.Clip(v, v)
	}
	c.acts[i](v, v)
}

func (c *cellStep) rnn(gates, h []float32) {
	c.activate(0, gates)
	copy(h, gates)
}

// gru finishes a step. late is the last gate's product with the state.
func (c *cellStep) gru(gates, late, h []float32) {
	hid := c.Hidden
	z, r, n := gates[:hid], gates[hid:2*hid], gates[2*hid:3*hid]
	c.activate(0, z)
	if c.ResetAfter {
		c.activate(0, r)
		for i, v := range late {
			n[i] = float32(n[i] + float32(r[i]*v))
		}
	} else {
		for i, v := range late {
			n[i] = float32(n[i] + v)
		}
	}
	c.activate(1, n)
	for i := range h {
		h[i] = float32(float32(float32(1-z[i])*n[i]) + float32(z[i]*h[i]))
	}
}

func (c *cellStep) lstm(gates, h, state []float32) {
	hid := c.Hidden
	in, o, u, n := gates[:hid], gates[hid:2*hid], gates[2*hid:3*hid], gates[3*hid:4*hid]
	c.peep(in, state, 0)
	c.activate(0, in)
	if c.Coupled {
		for i, v := range in {
			u[i] = float32(1 - v)
		}
	} else {
		c.peep(u, state, 2)
		c.activate(0, u)
	}
	c.activate(1, n)
	for i := range state {
		state[i] = float32(float32(u[i]*state[i]) + float32(in[i]*n[i]))
	}
	c.peep(o, state, 1)
	c.activate(0, o)
	copy(n, state)
	c.acts[2](n, n)
	for i := range h {
		h[i] = float32(o[i] * n[i])
	}
}

// peep adds what gate k sees of the state.
func (c *cellStep) peep(gate, state []float32, k int) {
	if c.peephole == nil {
		return
	}
	for i, p := range c.peephole[k*c.Hidden:][:c.Hidden] {
		gate[i] = float32(gate[i] + float32(p*state[i]))
	}
}

// productF32 writes bias + a*w' to out [m, n], with packed weights where there
// are some.
func productF32(g *GEMMF32, out, a, w, bias []float32, m, n, k int, scratch []byte) {
	if g != nil {
		g.Run(out, a, m, scratch)
		return
	}
	MatMulRowsF32(out, a, w, bias, m, n, k)
}

// MatMulRowsF32 writes the product of a [m, k] and w [n, k], both computed,
// to out [m, n], in the order of GEMMF32; bias may be nil.
func MatMulRowsF32(out, a, w, bias []float32, m, n, k int) {
	for i := range m {
		row := a[i*k : (i+1)*k]
		for j := range n {
			sum := float32(0)
			if bias != nil {
				sum = bias[j]
			}
			for l, v := range w[j*k : (j+1)*k] {
				sum += float32(row[l] * v)
			}
			out[i*n+j] = sum
		}
	}
}

// Activation returns the activation of a recurrent operator by its name in
// ONNX as t computes it, and whether there is one of that name.
func Activation(t Target, name string, alpha, beta float32) (Unary, bool) {
	one := func(f func(x float32) float32) (Unary, bool) {
		return func(dst, src []float32) { each(dst, src, f) }, true
	}
	smooth := func(s Smooth) (Unary, bool) {
		_, f := s.For(t)
		return f, true
	}
	switch name {
	case "Relu":
		return Clamp{0, NoClamp.Max}.Clip, true
	case "Tanh":
		return smooth(SmoothTanh)
	case "Sigmoid":
		return smooth(SmoothSigmoid)
	case "Affine":
		return one(func(x float32) float32 { return float32(float32(alpha*x) + beta) })
	case "LeakyRelu":
		return LeakyRelu(alpha), true
	case "ThresholdedRelu":
		return one(func(x float32) float32 {
			if x >= alpha {
				return x
			}
			return 0
		})
	case "ScaledTanh":
		return one(func(x float32) float32 { return float32(alpha * tanh(float32(beta*x))) })
	case "HardSigmoid":
		return HardSigmoid(alpha, beta), true
	case "Elu":
		return one(func(x float32) float32 {
			if x >= 0 {
				return x
			}
			return float32(alpha * float32(exp(x)-1))
		})
	case "Softsign":
		return one(func(x float32) float32 { return float32(x / float32(1+max(x, -x))) })
	case "Softplus":
		return one(func(x float32) float32 { return float32(math.Log1p(float64(exp(x)))) })
	}
	return nil, false
}
