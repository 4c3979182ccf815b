package engine

import (
	"fmt"

	"dunlin/kernels"
	"dunlin/model"
)

// inferGemm is that of Gemm and dunlin.Gemm: y = alpha*A'*B' + beta*C. Where B is
// a constant, A of dunlin.Gemm may have more axes before the two, each a matrix.
func inferGemm(c *call) error {
	for i := range 3 {
		if err := c.want(i, model.F32); err != nil {
			return err
		}
	}
	a, b := c.shape(0), c.shape(1)
	if len(a) < 2 || len(b) != 2 || (len(a) > 2 && c.node.Op != "dunlin.Gemm") {
		return fmt.Errorf("product of %v and %v; 2 axes each are needed", a, b)
	}
	before := a[:len(a)-2] // of the rows of dunlin.Gemm
	m, k := a[len(a)-2], a[len(a)-1]
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
	if err := c.set(model.F32, append(append(model.Shape{}, before...), m, n)...); err != nil || c.node.Op != "dunlin.Gemm" {
		return err
	}
	return c.wantResidual()
}

func lowerGemm(c *call) (*kernel, error) {
	n := c.out[0].Shape[len(c.out[0].Shape)-1]
	w, bias := c.constant(1), c.constant(2)
	if w == nil || c.node.Int("transA", 0) != 0 || (c.has(2) && bias == nil) {
		return lowerGemmAny(c)
	}
	rows := c.out[0].Shape[:len(c.out[0].Shape)-1]
	m, err := rows.Elements()
	if err != nil {
		return nil, err
	}
	k := c.shape(1)[0]
	if c.node.Int("transB", 0) != 0 {
		k = c.shape(1)[1]
	}
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
	if bias != nil {
		values, ok := perColumn(bias, n)
		if !ok {
			return lowerGemmAny(c)
		}
		beta := c.node.Float("beta", 1)
		weights.Bias = make([]float32, n)
		for i := range weights.Bias {
			weights.Bias[i] = beta * values[i]
		}
	}
	g, err := c.packGEMMF32(m, n, k, weights)
	if err != nil {
		return nil, err
	}
	return gemmF32Kernel("gemm", g, m, c.has(3)), nil
}

// lowerGemmAny is for computed matrices. The exact order is: the sum of
// products from 0, times alpha, plus beta times what is added.
func lowerGemmAny(c *call) (*kernel, error) {
	m, n := c.out[0].Shape[0], c.out[0].Shape[1]
	transA, transB := c.node.Int("transA", 0) != 0, c.node.Int("transB", 0) != 0
	alpha, beta, act := c.node.Float("alpha", 1), c.node.Float("beta", 1), clamp(c.node)
	k := c.shape(0)[1]
	if transA {
		k = c.shape(0)[0]
	}
	var more *kernels.Broadcast
	if c.has(2) {
		var err error
		if more, err = kernels.NewBroadcast([]int{m, n}, c.shape(2)); err != nil {
			return nil, err
		}
	}
	out := named("gemm-any-f32")
	out.macs = int64(m) * int64(n) * int64(k)
	if transA {
		out.scratch = 4 * m * k
	}
	add := func(out, sum, c []float32, a, b int) {
		for i := range out {
			out[i] = float32(float32(alpha*sum[i*a]) + float32(beta*c[i*b]))
		}
	}
	scale := kernels.Unary(func(dst, src []float32) {
		for i, v := range src {
			dst[i] = float32(alpha * v)
		}
	})
	turn, err := kernels.NewTranspose(4, c.shape(0), []int{1, 0})
	if err != nil {
		return nil, err
	}
	out.bind = func(in, out []*model.Tensor, scratch []byte) func() error {
		a, b, y := in[0], in[1].F32(), out[0].F32()
		var bias []float32
		if len(in) > 2 {
			bias = float32s(in[2])
		}
		rows := a.F32()
		if transA {
			rows = (&model.Tensor{Type: model.F32, Shape: model.Shape{m, k}, Data: scratch[:4*m*k]}).F32()
		}
		return func() error {
			if transA {
				turn.Run(scratch, a.Data)
			}
			if transB {
				kernels.MatMulRowsF32(y, rows, b, nil, m, n, k)
			} else {
				kernels.MatMulF32(y, rows, b, m, k, n)
			}
			if bias != nil {
				kernels.Elementwise(more, add, y, y, bias)
			} else if alpha != 1 {
				scale(y, y)
			}
			act.Clip(y, y)
			return nil
		}
	}
	return out, nil
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
	return gemmInt8Floats("gemm-int8", g, rows, floatScales(c, n)), nil
}
