package train

import "dunlin/kernels"

// direction is one pass over the steps of a recurrent operator. What it keeps
// of a step lies at the step's own place in the sequence, whether it begins at
// the first or at the last.
type direction struct {
	s       *recurrent
	cell    cell
	number  int
	reverse bool

	gate  []float32 // [T, B, G*H] what goes into the gates, then the gates
	dGate []float32 // [T, B, G*H] the gradient of what goes into them from the inputs
	dBack []float32 // the same from the state: of a GRU that resets after the product another
	state []float32 // [T, B, H] h before each step
	back  []float32 // [B, G*H] the state's share of the gates of one step
	dh    []float32 // [B, H]
	part  []float32 // [B, H]
	more  []float32 // the gradient of x, where another direction has set it

	input, dInput, dw, dr *product
	sums                  *columnSums
}

// cell is a step of an LSTM or a GRU.
type cell interface {
	// begin sets the state before the first step, beside h.
	begin()
	// forward makes the gates of the step at i, of which gate and back hold
	// the shares, and writes the new h.
	forward(i, next int, h []float32)
	// backward sets dGate and dBack of the step at i from dh, and dh to what
	// the step before gets.
	backward(i int)
	// end gives the gradient of the first state, beside h.
	end()
	// weights sets the gradient of r.
	weights(dr []float32)
}

// lay makes the buffers and products.
func (d *direction) lay(c *call) (err error) {
	s := d.s
	n, all := s.gates*s.hidden, s.steps*s.batch
	d.gate, d.dGate, d.state = floats(all*n), floats(all*n), floats(all*s.hidden)
	d.back, d.dh, d.part = floats(s.batch*n), floats(s.batch*s.hidden), floats(s.batch*s.hidden)
	d.dBack = d.dGate
	if d.number > 0 {
		d.more = floats(len(s.x.data))
	}
	for _, p := range []struct {
		to **product
		of kernels.ProductF32
	}{
		{&d.input, kernels.ProductF32{M: all, K: s.inputs, N: n, A: rows(s.inputs), B: columns(s.inputs), OutRow: n}},
		{&d.dInput, kernels.ProductF32{M: all, K: n, N: s.inputs, A: rows(n), B: rows(s.inputs), OutRow: s.inputs}},
		{&d.dw, kernels.ProductF32{M: n, K: all, N: s.inputs, A: columns(n), B: rows(s.inputs), OutRow: s.inputs}},
		{&d.dr, kernels.ProductF32{M: n, K: all, N: s.hidden, A: columns(n), B: rows(s.hidden), OutRow: s.hidden}},
	} {
		if *p.to, err = c.product(p.of); err != nil {
			return err
		}
	}
	if d.sums, err = newColumnSums(c, all, n); err != nil {
		return err
	}
	if s.gates == 3 {
		d.cell, err = newGRU(c, d)
	} else {
		d.cell, err = newLSTM(c, d)
	}
	return err
}

// at returns the place of the t-th step that runs.
func (d *direction) at(t int) int {
	if d.reverse {
		return d.s.steps - 1 - t
	}
	return t
}

// of returns this direction's part of a tensor that has one for each.
func (d *direction) of(x []float32) []float32 {
	n := len(x) / len(d.s.directions)
	return x[d.number*n : (d.number+1)*n]
}

// step returns the part of x, [T, ...], that belongs to the step at i.
func (d *direction) step(x []float32, i int) []float32 {
	n := len(x) / d.s.steps
	return x[i*n : (i+1)*n]
}

// biases returns those of w and of r, nil where there are none.
func (d *direction) biases(b []float32) (w, r []float32) {
	if b == nil {
		return nil, nil
	}
	b = d.of(b)
	return b[:len(b)/2], b[len(b)/2:]
}

func (d *direction) forward() {
	s := d.s
	d.input.run(d.gate, s.x.data, d.of(s.w.data))
	if s.b != nil {
		w, _ := d.biases(s.b.data)
		s.net.loops.addRows(d.gate, w)
	}
	first := d.step(d.state, d.at(0))
	clear(first)
	if s.h0 != nil {
		copy(first, d.of(s.h0.data))
	}
	d.cell.begin()
	for t := range s.steps {
		i, next := d.at(t), -1
		if t+1 < s.steps {
			next = d.at(t + 1)
		}
		h := d.of(d.step(s.y.data, i))
		d.cell.forward(i, next, h)
		if next >= 0 {
			copy(d.step(d.state, next), h)
		} else {
			copy(d.of(s.yh.data), h)
		}
	}
}

func (d *direction) backward() {
	s := d.s
	copy(d.dh, d.of(s.yh.grad))
	for t := s.steps - 1; t >= 0; t-- {
		i := d.at(t)
		s.net.loops.addTo(d.dh, d.of(d.step(s.y.grad, i)))
		d.cell.backward(i)
	}
	if s.h0 != nil && s.h0.dx != nil {
		copy(d.of(s.h0.dx), d.dh)
	}
	d.cell.end()
	if s.w.dx != nil {
		d.dw.run(d.of(s.w.dx), d.dGate, s.x.data)
	}
	if s.r.dx != nil {
		d.cell.weights(d.of(s.r.dx))
	}
	if s.b != nil && s.b.dx != nil {
		w, r := d.biases(s.b.dx)
		d.sums.run(w, d.dGate)
		d.sums.run(r, d.dBack)
	}
	d.backwardInput()
}

func (d *direction) backwardInput() {
	s := d.s
	switch {
	case s.x.dx == nil:
	case d.more == nil:
		d.dInput.run(s.x.dx, d.dGate, d.of(s.w.data))
	default:
		d.dInput.run(d.more, d.dGate, d.of(s.w.data))
		s.net.loops.addTo(s.x.dx, d.more)
	}
}
