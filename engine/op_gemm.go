package engine

import (
	"fmt"

	"dunlin/kernels"
	"dunlin/model"
)

// inferGemm is that of Gemm and dunlin.Gemm: y = alpha*A'*B' + beta*C.
func inferGemm(c *call) error {
	for i := range 3 {
		if err := c.want(i, model.F32); err != nil {
			return err
		}
	}
	a, b := c.shape(0), c.shape(1)
	if len(a) != 2 || len(b) != 2 {
		return fmt.Errorf("product of %v and %v; 2 axes each are needed", a, b)
	}
	m, k := a[0], a[1]
	if c.node.Int("transA", 0) != 0 {
		m, k = k, m
	}
	kb, n := b[0], b[1]
	if c.node.Int("transB", 0) != 0 {
		kb, n = n, kb
	}
	if k != kb {
		return fmt.Errorf("product of %v and %v: %d is not %d", a, b, k, kb)
	}
	if c.has(2) {
		if w, err := kernels.NewBroadcast(c.shape(2), []int{m, n}); err != nil || len(w.Shape) != 2 || w.Shape[0] != m || w.Shape[1] != n {
			return fmt.Errorf("%v cannot be added to [%d %d]", c.shape(2), m, n)
		}
	}
	return c.set(model.F32, m, n)
}

func lowerGemm(c *call) (*kernel, error) {
	m, n := c.out[0].Shape[0], c.out[0].Shape[1]
	w := c.constant(1)
	switch {
	case w == nil:
		return nil, notYet("the second matrix must be a constant")
	case c.node.Int("transA", 0) != 0:
		return nil, notYet("a transposed first matrix")
	case c.has(2) && c.constant(2) == nil:
		return nil, notYet("what is added must be a constant")
	}
	k := c.shape(0)[1]
	weights := kernels.WeightsF32{W: w.F32(), Clamp: clamp(c.node)}
	if c.node.Int("transB", 0) == 0 {
		weights.W = transposed(w.F32(), k, n)
	}
	if alpha := c.node.Float("alpha", 1); alpha != 1 {
		scaled := make([]float32, len(weights.W))
		for i, v := range weights.W {
			scaled[i] = alpha * v
		}
		weights.W = scaled
	}
	if bias := c.constant(2); bias != nil {
		values, ok := perColumn(bias, n)
		if !ok {
			return nil, notYet(fmt.Sprintf("adding %v, which differs from row to row", bias.Shape))
		}
		beta := c.node.Float("beta", 1)
		weights.Bias = make([]float32, n)
		for i := range weights.Bias {
			weights.Bias[i] = beta * values[i]
		}
	}
	g, err := kernels.PackGEMMF32(c.target, n, k, weights)
	if err != nil {
		return nil, err
	}
	return gemmF32Kernel("gemm-f32", g, m), nil
}

// perColumn returns the n values that t adds to every row of a matrix, and
// whether it is the same for each row.
func perColumn(t *model.Tensor, n int) ([]float32, bool) {
	values := t.F32()
	switch len(values) {
	case n:
		if s := t.Shape; n != 1 && s[len(s)-1] != n {
			return nil, false
		}
		return values, true
	case 1:
		return repeat(values[0], n), true
	}
	return nil, false
}

// transposed turns w [rows, cols] into [cols, rows].
func transposed[T any](w []T, rows, cols int) []T {
	out := make([]T, len(w))
	for r := range rows {
		for c := range cols {
			out[c*rows+r] = w[r*cols+c]
		}
	}
	return out
}

func gemmF32Kernel(name string, g *kernels.GEMMF32, m int) *kernel {
	return &kernel{
		name: name, tier: g.Tier(), macs: int64(m) * int64(g.N) * int64(g.K), weights: g.Bytes(), scratch: g.Scratch(),
		bind: floats(func(out, in []float32, scratch []byte) { g.Run(out, in, m, scratch) }),
	}
}

func gemmInt8Kernel(name string, g *kernels.GEMMInt8, m int) *kernel {
	return &kernel{
		name: name, tier: g.Tier(), macs: int64(m) * int64(g.N) * int64(g.K), weights: g.Bytes(), scratch: g.Scratch(),
		bind: int8s(func(out, in []int8, scratch []byte) { g.Run(out, in, m, scratch) }),
	}
}

// inferMatMul follows numpy.matmul.
func inferMatMul(c *call) error {
	for i := range 2 {
		if err := c.want(i, model.F32); err != nil {
			return err
		}
	}
	a, b := c.shape(0), c.shape(1)
	if len(a) < 2 || len(b) < 2 {
		return notYet(fmt.Sprintf("product of %v and %v; 2 axes or more each are supported", a, b))
	}
	m, k, n := a[len(a)-2], a[len(a)-1], b[len(b)-1]
	if b[len(b)-2] != k {
		return fmt.Errorf("product of %v and %v: %d is not %d", a, b, k, b[len(b)-2])
	}
	w, err := kernels.NewBroadcast(a[:len(a)-2], b[:len(b)-2])
	if err != nil {
		return err
	}
	return c.set(model.F32, append(w.Shape, m, n)...)
}

func lowerMatMul(c *call) (*kernel, error) {
	a, b := c.shape(0), c.shape(1)
	m, k, n := a[len(a)-2], a[len(a)-1], b[len(b)-1]
	if w := c.constant(1); w != nil && len(b) == 2 {
		rows, _ := a[:len(a)-1].Elements()
		g, err := kernels.PackGEMMF32(c.target, n, k, kernels.WeightsF32{W: transposed(w.F32(), k, n), Clamp: kernels.NoClamp})
		if err != nil {
			return nil, err
		}
		return gemmF32Kernel("gemm-f32", g, rows), nil
	}
	batch, _ := c.out[0].Shape[:len(c.out[0].Shape)-2].Elements()
	na, _ := a[:len(a)-2].Elements()
	nb, _ := b[:len(b)-2].Elements()
	if (na != batch && na != 1) || (nb != batch && nb != 1) {
		return nil, notYet(fmt.Sprintf("product of %v and %v", a, b))
	}
	out := named("matmul-f32")
	out.macs = int64(batch) * int64(m) * int64(n) * int64(k)
	out.bind = func(in, out []*model.Tensor, _ []byte) func() error {
		x, w, y := in[0].F32(), in[1].F32(), out[0].F32()
		return func() error {
			for i := range batch {
				kernels.MatMulF32(y[i*m*n:(i+1)*m*n], x[i%na*m*k:], w[i%nb*k*n:], m, k, n)
			}
			return nil
		}
	}
	return out, nil
}

// inferQGemm is that of dunlin.QGemm: rows of x [..., K] with w int8 [N, K].
// Inputs and attributes are those of dunlin.QConv. The result is int8, or
// float32 where there is no y_scale.
func inferQGemm(c *call) error {
	x, w := c.shape(0), c.shape(1)
	if len(x) < 1 || len(w) != 2 || x[len(x)-1] != w[1] {
		return fmt.Errorf("integer product of %v and %v", x, w)
	}
	t := model.I8
	if attrsOf(c.node).yScale == 0 {
		t = model.F32
	}
	return c.set(t, append(append(model.Shape{}, x[:len(x)-1]...), w[0])...)
}

func lowerQGemm(c *call) (*kernel, error) {
	n, k := c.shape(1)[0], c.shape(1)[1]
	rows, _ := c.shape(0)[:len(c.shape(0))-1].Elements()
	w, err := quantWeights(c, n)
	if err != nil {
		return nil, err
	}
	g, err := kernels.PackGEMMInt8(c.target, n, k, w)
	if err != nil {
		return nil, err
	}
	if w.Out.Scale != nil {
		return gemmInt8Kernel("gemm-int8", g, rows), nil
	}
	scale := make([]float32, (n+15)&^15)
	scales := c.constant(3).F32()
	for i := range n {
		scale[i] = kernels.Multiplier(attrsOf(c.node).xScale, scales[i%len(scales)], 1)
	}
	kern := gemmInt8Kernel("gemm-int8", g, rows)
	kern.bind = func(in, out []*model.Tensor, scratch []byte) func() error {
		x, y := in[0].I8(), out[0].F32()
		return func() error { g.RunF32(y, x, rows, scale, scratch); return nil }
	}
	return kern, nil
}
