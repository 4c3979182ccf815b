package train

import "dunlin/kernels"

// gru is a step of a GRU; gates lie in the order z, r, n. With resetAfter the
// reset gate acts on the state's share of n, as torch has it; without, on the
// state before the product.
type gru struct {
	*direction
	after           bool
	sigmoid, tanh   kernels.Unary
	share           []float32 // [T, B, H] after: the state's share of n, with its bias
	reset           []float32 // [T, B, H] before: r∘h
	dReset          []float32 // [B, H]
	back, dState    *product  // of all gates, or of z and r
	backN, dReseted *product  // of n, where it waits for r
	drFirst, drLast *product
}

func newGRU(c *call, d *direction) (cell, error) {
	s := d.s
	h, n, all := s.hidden, 3*s.hidden, s.steps*s.batch
	g := &gru{direction: d, after: s.resetAfter, dReset: floats(len(d.dh))}
	_, g.sigmoid = kernels.SmoothSigmoid.For(c.target())
	_, g.tanh = kernels.SmoothTanh.For(c.target())
	wide := n
	if g.after {
		g.share, d.dBack = floats(len(d.state)), floats(len(d.dGate))
	} else {
		g.reset, wide = floats(len(d.state)), 2*h
	}
	var err error
	for _, p := range []struct {
		to **product
		of kernels.ProductF32
	}{
		{&g.back, kernels.ProductF32{M: s.batch, K: h, N: wide, A: rows(h), B: columns(h), OutRow: n}},
		{&g.dState, kernels.ProductF32{M: s.batch, K: wide, N: h, A: rows(n), B: rows(h), OutRow: h}},
		{&g.backN, kernels.ProductF32{M: s.batch, K: h, N: h, A: rows(h), B: columns(h), OutRow: n}},
		{&g.dReseted, kernels.ProductF32{M: s.batch, K: h, N: h, A: rows(n), B: rows(h), OutRow: h}},
		{&g.drFirst, kernels.ProductF32{M: wide, K: all, N: h, A: columns(n), B: rows(h), OutRow: h}},
		{&g.drLast, kernels.ProductF32{M: h, K: all, N: h, A: columns(n), B: rows(h), OutRow: h}},
	} {
		if *p.to, err = c.product(p.of); err != nil {
			return nil, err
		}
	}
	return g, nil
}

func (g *gru) begin() {}

func (g *gru) forward(i, _ int, h []float32) {
	k := g.s.hidden
	gate, was, r := g.step(g.gate, i), g.step(g.state, i), g.of(g.s.r.data)
	back := g.direction.back
	clear(back)
	g.back.run(back, was, r)
	if g.s.b != nil {
		_, bias := g.biases(g.s.b.data)
		g.s.net.loops.addRows(back, bias)
	}
	for b := range g.s.batch {
		row := gate[b*3*k:][:2*k]
		addTo(row, back[b*3*k:])
		g.sigmoid(row, row)
	}
	if g.after {
		g.shares(i, back)
	} else {
		g.resets(i, back)
	}
	for b := range g.s.batch {
		row := gate[b*3*k:][:3*k]
		z, n := row[:k], row[2*k:]
		g.tanh(n, n)
		for j := range k {
			at := b*k + j
			h[at] = n[j] + float32(z[j]*(was[at]-n[j]))
		}
	}
}

// shares adds r times the state's share of n.
func (g *gru) shares(i int, back []float32) {
	k := g.s.hidden
	gate, share := g.step(g.gate, i), g.step(g.share, i)
	for b := range g.s.batch {
		row := gate[b*3*k:][:3*k]
		copy(share[b*k:][:k], back[b*3*k+2*k:])
		addProducts(row[2*k:], row[k:2*k], share[b*k:][:k])
	}
}

// resets adds the share of r∘h.
func (g *gru) resets(i int, back []float32) {
	k := g.s.hidden
	gate, was, reset := g.step(g.gate, i), g.step(g.state, i), g.step(g.reset, i)
	for b := range g.s.batch {
		r := gate[b*3*k+k:][:k]
		for j, v := range r {
			reset[b*k+j] = v * was[b*k+j]
		}
		addTo(gate[b*3*k+2*k:][:k], back[b*3*k+2*k:]) // the bias alone
	}
	g.backN.run(back, reset, g.of(g.s.r.data)[2*k*k:])
	for b := range g.s.batch {
		addTo(gate[b*3*k+2*k:][:k], back[b*3*k:])
	}
}

func (g *gru) backward(i int) {
	k := g.s.hidden
	gate, was := g.step(g.gate, i), g.step(g.state, i)
	dGate, r := g.step(g.dGate, i), g.of(g.s.r.data)
	for b := range g.s.batch {
		row, d := gate[b*3*k:][:3*k], dGate[b*3*k:][:3*k]
		for j := range k {
			at := b*k + j
			z, n, dh := row[j], row[2*k+j], g.dh[at]
			d[2*k+j] = float32(dh*(1-z)) * (1 - float32(n*n))
			d[j] = float32(dh*(was[at]-n)) * (z - float32(z*z))
			g.dh[at] = dh * z
		}
	}
	if g.after {
		g.backwardShares(i)
	} else {
		g.dReseted.run(g.dReset, dGate[2*k:], r[2*k*k:])
		g.backwardResets(i)
	}
	g.dState.run(g.part, g.step(g.dBack, i), r)
	g.s.net.loops.addTo(g.dh, g.part)
}

// backwardShares gives r its gradient, and sets dBack.
func (g *gru) backwardShares(i int) {
	k := g.s.hidden
	gate, dGate, dBack, share := g.step(g.gate, i), g.step(g.dGate, i), g.step(g.dBack, i), g.step(g.share, i)
	for b := range g.s.batch {
		row, d, back := gate[b*3*k:][:3*k], dGate[b*3*k:][:3*k], dBack[b*3*k:][:3*k]
		for j := range k {
			r := row[k+j]
			d[k+j] = float32(d[2*k+j]*share[b*k+j]) * (r - float32(r*r))
			back[2*k+j] = d[2*k+j] * r
		}
		copy(back[:2*k], d)
	}
}

// backwardResets gives r, and h through r∘h, their gradients.
func (g *gru) backwardResets(i int) {
	k := g.s.hidden
	gate, dGate, was := g.step(g.gate, i), g.step(g.dGate, i), g.step(g.state, i)
	for b := range g.s.batch {
		row, d := gate[b*3*k:][:3*k], dGate[b*3*k:][:3*k]
		for j := range k {
			at := b*k + j
			r := row[k+j]
			d[k+j] = float32(g.dReset[at]*was[at]) * (r - float32(r*r))
			g.dh[at] += float32(g.dReset[at] * r)
		}
	}
}

func (g *gru) end() {}

func (g *gru) weights(dr []float32) {
	g.drFirst.run(dr, g.dBack, g.state)
	if !g.after {
		k := g.s.hidden
		g.drLast.run(dr[2*k*k:], g.dBack[2*k:], g.reset)
	}
}

// addProducts adds a[i]*b[i] to sum[i].
func addProducts(sum, a, b []float32) {
	a, b = a[:len(sum)], b[:len(sum)]
	for i := range sum {
		sum[i] += float32(a[i] * b[i])
	}
}
