package engine

import (
	"fmt"

	"dunlin/kernels"
	"dunlin/model"
)

// inferQMul is that of dunlin.QMul: two int8 tensors, broadcast.
func inferQMul(c *call) error {
	for i := range 2 {
		if err := c.want(i, model.I8); err != nil {
			return err
		}
	}
	w, err := kernels.NewBroadcast(c.shape(0), c.shape(1))
	if err != nil {
		return err
	}
	return c.set(model.I8, w.Shape...)
}

func lowerQMul(c *call) (*kernel, error) {
	w, err := kernels.NewBroadcast(c.shape(0), c.shape(1))
	if err != nil {
		return nil, err
	}
	q := attrsOf(c.node)
	p, err := kernels.NewMulInt8(kernels.Multiplier(q.xScale, q.bScale, q.yScale), int8(q.xZero), int8(q.bZero), q.requant())
	if err != nil {
		return nil, err
	}
	k := named("mul-int8")
	k.bind = func(in, out []*model.Tensor, _ []byte) func() error {
		a, b, y := in[0].I8(), in[1].I8(), out[0].I8()
		rows := kernels.Binary[int8](p.Rows)
		return func() error { kernels.Elementwise(w, rows, y, a, b); return nil }
	}
	return k, nil
}

// inferQMatMul is that of dunlin.QMatMul: two computed int8 tensors. The
// result is int8, or float32 where there is no y_scale.
func inferQMatMul(c *call) error {
	for i := range 2 {
		if err := c.want(i, model.I8); err != nil {
			return err
		}
	}
	a, b := c.shape(0), c.shape(1)
	if len(a) < 2 || len(b) < 2 || a[len(a)-1] != b[len(b)-2] {
		return fmt.Errorf("integer product of %v and %v", a, b)
	}
	w, err := kernels.NewBroadcast(a[:len(a)-2], b[:len(b)-2])
	if err != nil {
		return err
	}
	t := model.I8
	if attrsOf(c.node).yScale == 0 {
		t = model.F32
	}
	return c.set(t, append(w.Shape, a[len(a)-2], b[len(b)-1])...)
}

func lowerQMatMul(c *call) (*kernel, error) {
	a, b := c.shape(0), c.shape(1)
	m, k, n := a[len(a)-2], a[len(a)-1], b[len(b)-1]
	batch, _ := c.out[0].Shape[:len(c.out[0].Shape)-2].Elements()
	na, _ := a[:len(a)-2].Elements()
	nb, _ := b[:len(b)-2].Elements()
	if (na != batch && na != 1) || (nb != batch && nb != 1) {
		return nil, notYet(fmt.Sprintf("integer product of %v and %v", a, b))
	}
	q := attrsOf(c.node)
	y := q.yScale
	if y == 0 {
		y = 1
	}
	p, err := kernels.NewMatMulInt8(c.target, m, k, n, kernels.Multiplier(q.xScale, q.bScale, y), int8(q.xZero), int8(q.bZero), q.requant())
	if err != nil {
		return nil, err
	}
	out := named("matmul-int8")
	out.tier, out.scratch, out.macs = p.Tier(), p.Scratch(), int64(batch)*int64(m)*int64(n)*int64(k)
	out.bind = func(in, out []*model.Tensor, scratch []byte) func() error {
		x, w := in[0].I8(), in[1].I8()
		if q.yScale == 0 {
			y := out[0].F32()
			return func() error {
				for i := range batch {
					p.RunF32(y[i*m*n:(i+1)*m*n], x[i%na*m*k:], w[i%nb*k*n:], scratch)
				}
				return nil
			}
		}
		y := out[0].I8()
		return func() error {
			for i := range batch {
				p.Run(y[i*m*n:(i+1)*m*n], x[i%na*m*k:], w[i%nb*k*n:], scratch)
			}
			return nil
		}
	}
	return out, nil
}

// lowerQConvFloat makes an integer convolution whose sums become floats: the
// windows of a row side by side, and a matrix product.
func lowerQConvFloat(c *call, g kernels.Geometry) (*kernel, error) {
	w, err := quantWeights(c, g.OC)
	if err != nil {
		return nil, err
	}
	if g.Groups != 1 {
		return nil, notYet("an integer convolution in groups with a float result")
	}
	w.W = tapsFirst(w.W, c.shape(1))
	p, err := kernels.NewPatches(g)
	if err != nil {
		return nil, err
	}
	m, err := kernels.PackGEMMInt8(c.target, g.OC, p.Depth(), w)
	if err != nil {
		return nil, err
	}
	scale := floatScales(c, g.OC)
	own := align(m.Scratch())
	k := &kernel{name: "conv-int8-f32", tier: m.Tier(), macs: convMACs(g), weights: m.Bytes() + p.Bytes() + 4*len(scale), scratch: own + g.OW*p.Depth()}
	if g.Pointwise() {
		k.scratch = own
	}
	pad := w.InZero
	k.bind = func(in, out []*model.Tensor, scratch []byte) func() error {
		x, y := in[0].I8(), out[0].F32()
		if g.Pointwise() {
			return func() error { m.RunF32(y, x, g.N*g.H*g.W, scale, scratch); return nil }
		}
		row := (&model.Tensor{Type: model.I8, Data: scratch[own : own+g.OW*p.Depth()]}).I8()
		return func() error {
			for i := range g.N * g.OH {
				p.Row(row, x[i/g.OH*g.H*g.W*g.C:], i%g.OH, pad)
				m.RunF32(y[i*g.OW*g.OC:], row, g.OW, scale, scratch)
			}
			return nil
		}
	}
	return k, nil
}

// floatScales returns what the sums of dunlin.QConv and dunlin.QGemm are
// multiplied by to be floats, for a multiple of 16 channels.
func floatScales(c *call, n int) []float32 {
	scale, scales := make([]float32, (n+15)&^15), c.constant(3).F32()
	for i := range n {
		scale[i] = kernels.Multiplier(attrsOf(c.node).xScale, scales[i%len(scales)], 1)
	}
	return scale
}
