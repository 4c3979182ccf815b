package train

import "dunlin/kernels"

// lstm is a step of an LSTM; gates lie in the order i, o, forget, n.
type lstm struct {
	*direction
	sigmoid, tanh kernels.Unary
	before        []float32 // [T, B, H] c before each step
	bent          []float32 // [T, B, H] tanh of c after it
	now, dc       []float32 // [B, H] c after the step that runs, and its gradient
	back, dState  *product
}

func newLSTM(c *call, d *direction) (cell, error) {
	s := d.s
	n, h := s.gates*s.hidden, s.hidden
	l := &lstm{direction: d, before: floats(len(d.state)), bent: floats(len(d.state)), now: floats(len(d.dh)), dc: floats(len(d.dh))}
	_, l.sigmoid = kernels.SmoothSigmoid.For(c.target())
	_, l.tanh = kernels.SmoothTanh.For(c.target())
	var err error
	if l.back, err = c.product(kernels.ProductF32{M: s.batch, K: h, N: n, A: rows(h), B: columns(h), OutRow: n}); err != nil {
		return nil, err
	}
	l.dState, err = c.product(kernels.ProductF32{M: s.batch, K: n, N: h, A: rows(n), B: rows(h), OutRow: h})
	return l, err
}

func (l *lstm) begin() {
	clear(l.now)
	if l.s.c0 != nil {
		copy(l.now, l.of(l.s.c0.data))
	}
	if l.s.b != nil {
		_, r := l.biases(l.s.b.data)
		l.s.net.loops.addRows(l.gate, r)
	}
}

func (l *lstm) forward(i, next int, h []float32) {
	gate, before, bent := l.step(l.gate, i), l.step(l.before, i), l.step(l.bent, i)
	l.back.run(l.direction.back, l.step(l.state, i), l.of(l.s.r.data))
	l.s.net.loops.addTo(gate, l.direction.back)
	copy(before, l.now)
	k := l.s.hidden
	for b := range l.s.batch {
		g, c, was := gate[b*4*k:][:4*k], l.now[b*k:][:k], before[b*k:][:k]
		l.sigmoid(g[:3*k], g[:3*k])
		l.tanh(g[3*k:], g[3*k:])
		for j := range c {
			c[j] = float32(g[2*k+j]*was[j]) + float32(g[j]*g[3*k+j])
		}
	}
	l.tanh(bent, l.now)
	for b := range l.s.batch {
		o := gate[b*4*k+k:][:k]
		for j, v := range o {
			h[b*k+j] = v * bent[b*k+j]
		}
	}
	if next < 0 {
		copy(l.of(l.s.yc.data), l.now)
	}
}

func (l *lstm) backward(i int) {
	if i == l.at(l.s.steps-1) {
		copy(l.dc, l.of(l.s.yc.grad))
	}
	gate, dGate, before, bent := l.step(l.gate, i), l.step(l.dGate, i), l.step(l.before, i), l.step(l.bent, i)
	k := l.s.hidden
	for b := range l.s.batch {
		g, d := gate[b*4*k:][:4*k], dGate[b*4*k:][:4*k]
		for j := range k {
			at := b*k + j
			in, out, forget, n, t, dh := g[j], g[k+j], g[2*k+j], g[3*k+j], bent[at], l.dh[at]
			dc := l.dc[at] + float32(float32(dh*out)*(1-float32(t*t)))
			d[j] = float32(dc*n) * (in - float32(in*in))
			d[k+j] = float32(dh*t) * (out - float32(out*out))
			d[2*k+j] = float32(dc*before[at]) * (forget - float32(forget*forget))
			d[3*k+j] = float32(dc*in) * (1 - float32(n*n))
			l.dc[at] = dc * forget
		}
	}
	l.dState.run(l.dh, dGate, l.of(l.s.r.data))
}

func (l *lstm) end() {
	if l.s.c0 != nil && l.s.c0.dx != nil {
		copy(l.of(l.s.c0.dx), l.dc)
	}
}

func (l *lstm) weights(dr []float32) { l.dr.run(dr, l.dBack, l.state) }
