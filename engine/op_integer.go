package engine

import (
	"fmt"
	"slices"

	"dunlin/kernels"
	"dunlin/model"
)

// eightBits are the types of integer operators' inputs.
var eightBits = []model.DType{model.I8, model.U8}

// inferDynamicQuantize makes integers, their scale and their zero point; those
// of dunlin.DynamicQuantize are int8.
func inferDynamicQuantize(c *call) error {
	if err := c.want(0, model.F32); err != nil {
		return err
	}
	whole := model.U8
	if c.node.Op == "dunlin.DynamicQuantize" {
		whole = model.I8
	}
	for i, t := range []model.DType{whole, model.F32, whole} {
		if i < len(c.out) {
			c.out[i].Type, c.out[i].Shape = t, model.Shape{}
		}
	}
	c.out[0].Shape = c.shape(0)
	return nil
}

func lowerDynamicQuantize(c *call) (*kernel, error) {
	k := named("dynamic-quantize")
	tier, quantize := kernels.DynamicQuantizer(c.target)
	k.tier = tier
	signed := c.out[0].Type == model.I8
	k.bind = func(in, out []*model.Tensor, _ []byte) func() error {
		x, y := in[0].F32(), out[0].Data
		return func() error {
			scale, zero := quantize(y, x)
			if signed {
				kernels.FlipSign(y, y)
				zero ^= flip
			}
			if len(out) > 1 && out[1] != nil {
				out[1].F32()[0] = scale
			}
			if len(out) > 2 && out[2] != nil {
				out[2].Data[0] = zero
			}
			return nil
		}
	}
	return k, nil
}

// wantIntegers checks the types of MatMulInteger and ConvInteger: two
// operands of 8 bits, and their zero points.
func wantIntegers(c *call) error {
	for i := range 2 {
		if err := c.want(i, eightBits...); err != nil {
			return err
		}
		if err := c.want(i+2, c.in[i].Type); err != nil {
			return err
		}
	}
	return nil
}

func inferMatMulInteger(c *call) error {
	if err := wantIntegers(c); err != nil {
		return err
	}
	a, b := c.shape(0), c.shape(1)
	if len(a) < 2 || len(b) < 2 {
		return notYet(fmt.Sprintf("product of %v and %v; 2 axes or more each are supported", a, b))
	}
	m, k, n := a[len(a)-2], a[len(a)-1], b[len(b)-1]
	if b[len(b)-2] != k {
		return fmt.Errorf("product of %v and %v: %d is not %d", a, b, k, b[len(b)-2])
	}
	for i, want := range []int{m, n} {
		if c.has(i + 2) {
			if count, err := c.shape(i + 2).Elements(); err != nil || (count != 1 && count != want) {
				return fmt.Errorf("zero points %v for %d", c.shape(i+2), want)
			}
		}
	}
	w, err := kernels.NewBroadcast(a[:len(a)-2], b[:len(b)-2])
	if err != nil {
		return err
	}
	return c.set(model.I32, append(w.Shape, m, n)...)
}

func lowerMatMulInteger(c *call) (*kernel, error) {
	a, b := c.shape(0), c.shape(1)
	m, k, n := a[len(a)-2], a[len(a)-1], b[len(b)-1]
	if c.constant(1) != nil && len(b) == 2 && k <= maxDepth && k > 0 && n > 0 && (!c.has(3) || c.constant(3) != nil) {
		return lowerMatMulIntegerPacked(c)
	}
	batch, _ := c.out[0].Shape[:len(c.out[0].Shape)-2].Elements()
	na, _ := a[:len(a)-2].Elements()
	nb, _ := b[:len(b)-2].Elements()
	if (na != batch && na != 1) || (nb != batch && nb != 1) {
		return nil, notYet(fmt.Sprintf("product of %v and %v", a, b))
	}
	out := named("matmul-any-int8")
	out.macs = int64(batch) * int64(m) * int64(n) * int64(k)
	out.bind = func(in, out []*model.Tensor, _ []byte) func() error {
		y := out[0].I32()
		zeros := [2]*model.Tensor{}
		for i := range zeros {
			zeros[i] = zeroPoint(in, i+2, in[i].Type)
		}
		return func() error {
			for i := range batch {
				multiplyIntegers(y[i*m*n:(i+1)*m*n], in[0], in[1], zeros[0], zeros[1], i%na*m*k, i%nb*k*n, m, k, n)
			}
			return nil
		}
	}
	return out, nil
}

// zeroPoint returns input i, a single 0 of that type where there is none.
func zeroPoint(in []*model.Tensor, i int, t model.DType) *model.Tensor {
	if i < len(in) && in[i] != nil {
		return in[i]
	}
	return &model.Tensor{Type: t, Shape: model.Shape{}, Data: make([]byte, 1)}
}

// multiplyIntegers runs MatMulInteger for the types of a and b.
func multiplyIntegers(y []int32, a, b, za, zb *model.Tensor, fromA, fromB, m, k, n int) {
	switch {
	case a.Type == model.I8 && b.Type == model.I8:
		kernels.MatMulInteger(y, a.I8()[fromA:], b.I8()[fromB:], za.I8(), zb.I8(), m, k, n)
	case a.Type == model.I8:
		kernels.MatMulInteger(y, a.I8()[fromA:], b.U8()[fromB:], za.I8(), zb.U8(), m, k, n)
	case b.Type == model.I8:
		kernels.MatMulInteger(y, a.U8()[fromA:], b.I8()[fromB:], za.U8(), zb.I8(), m, k, n)
	default:
		kernels.MatMulInteger(y, a.U8()[fromA:], b.U8()[fromB:], za.U8(), zb.U8(), m, k, n)
	}
}

// signedWeights returns a constant of 8 bits [k, n] as int8 [n, k], and its
// zero points as int8, one a column, nil where all are 0.
func signedWeights(w, zero *model.Tensor, k, n int) (values, zeros []int8) {
	flipU8 := func(t *model.Tensor) []int8 {
		if t.Type == model.U8 {
			t = flipped(t)
		}
		return t.I8()
	}
	values = transposed(flipU8(w), k, n)
	if zero == nil && w.Type == model.I8 {
		return values, nil
	}
	if zero == nil {
		zero = model.Of(model.U8, []uint8{0})
	}
	zeros = flipU8(zero)
	if len(zeros) == 1 {
		zeros = repeat(zeros[0], n)
	}
	for _, z := range zeros {
		if z != 0 {
			return values, zeros
		}
	}
	return values, nil
}

// integerProduct is a product with packed weights of which the zero point of
// the other operand is known in the run only: the sums are taken with that
// zero point as 0, and less zero times the sum of a column's weights.
type integerProduct struct {
	gemm    *kernels.GEMMInt8
	columns []int32
}

func packIntegerProduct(t kernels.Target, w, zero *model.Tensor, k, n int) (*integerProduct, error) {
	values, zeros := signedWeights(w, zero, k, n)
	g, err := kernels.PackGEMMInt8(t, n, k, kernels.WeightsInt8{W: values, WZero: zeros})
	if err != nil {
		return nil, err
	}
	p := &integerProduct{gemm: g, columns: make([]int32, n)}
	for j := range p.columns {
		for _, v := range values[j*k : (j+1)*k] {
			p.columns[j] += int32(v)
		}
		if zeros != nil {
			p.columns[j] -= int32(k) * int32(zeros[j])
		}
	}
	return p, nil
}

// correct takes the zero points of the rows off the sums; more is what was
// taken off each element before.
func (p *integerProduct) correct(y []int32, zero *model.Tensor, more int32) {
	n := len(p.columns)
	for i := 0; i*n < len(y); i++ {
		z := int32(int8(zero.Data[i%len(zero.Data)]))
		if zero.Type == model.U8 {
			z = int32(zero.Data[i%len(zero.Data)])
		}
		if z -= more; z == 0 {
			continue
		}
		for j, sum := range p.columns {
			y[i*n+j] -= z * sum
		}
	}
}

func lowerMatMulIntegerPacked(c *call) (*kernel, error) {
	a := c.shape(0)
	k, n := c.shape(1)[0], c.shape(1)[1]
	rows, _ := a[:len(a)-1].Elements()
	p, err := packIntegerProduct(c.target, c.constant(1), c.constant(3), k, n)
	if err != nil {
		return nil, err
	}
	out := &kernel{
		name: "gemm-int8-int32", tier: p.gemm.Tier(), macs: int64(rows) * int64(n) * int64(k), weights: p.gemm.Bytes() + 4*n, scratch: p.gemm.Scratch(),
	}
	unsigned, own := c.in[0].Type == model.U8, align(p.gemm.Scratch())
	if unsigned {
		out.scratch = own + rows*k
	}
	out.bind = func(in, out []*model.Tensor, scratch []byte) func() error {
		x, y, zero := in[0], out[0].I32(), zeroPoint(in, 2, in[0].Type)
		signed := x
		if unsigned {
			signed = &model.Tensor{Type: model.I8, Shape: x.Shape, Data: scratch[own : own+rows*k]}
		}
		values := signed.I8()
		return func() error {
			more := int32(0)
			if unsigned {
				kernels.FlipSign(signed.Data, x.Data)
				more = flip
			}
			p.gemm.RunInt32(y, values, rows, scratch)
			p.correct(y, zero, more)
			return nil
		}
	}
	return out, nil
}

// inferDynamicGemm is that of dunlin.DynamicGemm: int8 rows [..., K], constant
// weights [K, N], the rows' zero point, the scale of the sums or one for each
// column, and the weights' zero points or none, to float32 [..., N].
func inferDynamicGemm(c *call) error {
	x, w := c.shape(0), c.shape(1)
	if len(x) < 1 || len(w) != 2 || x[len(x)-1] != w[0] {
		return fmt.Errorf("integer product of %v and %v", x, w)
	}
	for i, t := range map[int]model.DType{0: model.I8, 2: model.I8, 3: model.F32} {
		if err := c.want(i, t); err != nil {
			return err
		}
	}
	return c.set(model.F32, append(slices.Clone(x[:len(x)-1]), w[1])...)
}

func lowerDynamicGemm(c *call) (*kernel, error) {
	k, n := c.shape(1)[0], c.shape(1)[1]
	rows, _ := c.shape(0)[:len(c.shape(0))-1].Elements()
	values, zeros := signedWeights(c.constant(1), c.constant(4), k, n)
	g, err := kernels.PackGEMMInt8(c.target, n, k, kernels.WeightsInt8{W: values, WZero: zeros})
	if err != nil {
		return nil, err
	}
	return gemmDynamicKernel(g, rows, 0), nil
}

func inferConvInteger(c *call) error {
	if err := wantIntegers(c); err != nil {
		return err
	}
	s, err := convOf(c)
	if err != nil {
		return err
	}
	for i, want := range []int{1, s.outputs} {
		if c.has(i + 2) {
			if count, err := c.shape(i + 2).Elements(); err != nil || (count != 1 && count != want) {
				return fmt.Errorf("zero points %v for %d", c.shape(i+2), want)
			}
		}
	}
	return c.setPlanes(0, model.I32, s.batch, s.outputs, s.out)
}

func lowerConvInteger(c *call) (*kernel, error) {
	v, err := convVolume(c)
	if err != nil {
		return nil, err
	}
	k := named("conv-any-int8")
	k.macs = int64(v.N) * int64(v.OutSize()) * int64(v.OC) * int64(v.Taps()) * int64(v.C/v.Groups)
	k.bind = func(in, out []*model.Tensor, _ []byte) func() error {
		x, w, y := in[0], in[1], out[0].I32()
		zx, zw := zeroPoint(in, 2, x.Type), zeroPoint(in, 3, w.Type)
		return func() error {
			switch {
			case x.Type == model.I8 && w.Type == model.I8:
				kernels.ConvInteger(&v, y, x.I8(), w.I8(), zx.I8()[0], zw.I8())
			case x.Type == model.I8:
				kernels.ConvInteger(&v, y, x.I8(), w.U8(), zx.I8()[0], zw.U8())
			case w.Type == model.I8:
				kernels.ConvInteger(&v, y, x.U8(), w.I8(), zx.U8()[0], zw.I8())
			default:
				kernels.ConvInteger(&v, y, x.U8(), w.U8(), zx.U8()[0], zw.U8())
			}
			return nil
		}
	}
	return k, nil
}
