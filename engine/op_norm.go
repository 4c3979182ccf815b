package engine

import (
	"fmt"

	"dunlin/kernels"
	"dunlin/model"
)

// lowerSoftmax is for Softmax, LogSoftmax, Hardmax and LpNormalization: over
// one axis, the last by default.
func lowerSoftmax(c *call) (*kernel, error) {
	s, op := c.shape(0), c.node.Op
	axis, err := c.axis("axis", -1, len(s))
	if err != nil {
		return nil, err
	}
	x, err := columnsOf(c.in[0].Type, s, []int{axis})
	if err != nil {
		return nil, err
	}
	k := named(op + "-" + c.in[0].Type.String())
	if c.in[0].Type == model.F64 {
		f := map[string]func([]float64){
			"Softmax": kernels.Softmax64, "LogSoftmax": kernels.LogSoftmax[float64], "Hardmax": kernels.Hardmax[float64],
		}[op]
		k.bind, k.scratch = byColumns(x, f), 8*x.n
		return k, nil
	}
	tier, softmax := kernels.Softmaxer(c.target)
	if op == "Softmax" {
		k.tier = tier
	}
	if op == "Softmax" && x.inner == 1 {
		k.name = "softmax-f32"
		k.bind = floats(func(out, in []float32, _ []byte) { softmax(out, in, x.n) })
		return k, nil
	}
	f := map[string]func([]float32){
		"Softmax":    func(row []float32) { softmax(row, row, len(row)) },
		"LogSoftmax": kernels.LogSoftmax[float32], "Hardmax": kernels.Hardmax[float32],
	}[op]
	k.bind, k.scratch = byColumns(x, f), 4*x.n
	return k, nil
}

func byColumns[T float32 | float64](x columns, f func(row []T)) binder {
	return func(in, out []*model.Tensor, scratch []byte) func() error {
		a, y := elementsOf[T](in[0]), elementsOf[T](out[0])
		var one T
		row := elementsOf[T](&model.Tensor{Type: in[0].Type, Data: scratch[:x.n*sizeOf(one)]})
		return func() error { kernels.Columns(y, a, row, x.outer, x.n, x.inner, f); return nil }
	}
}

func sizeOf[T float32 | float64](one T) int {
	if _, ok := any(one).(float32); ok {
		return 4
	}
	return 8
}

// inferAxis is inferFloats for operators with an axis.
func inferAxis(c *call) error {
	if _, err := c.axis("axis", -1, len(c.shape(0))); err != nil {
		return err
	}
	return inferFloats(c)
}

func checkLpNorm(n *model.Node) string {
	if p := n.Int("p", 2); p != 1 && p != 2 {
		return fmt.Sprintf("p is %d; 1 and 2 are supported", p)
	}
	return ""
}

func lowerLpNorm(c *call) (*kernel, error) {
	axis, err := c.axis("axis", -1, len(c.shape(0)))
	if err != nil {
		return nil, err
	}
	x, err := columnsOf(c.in[0].Type, c.shape(0), []int{axis})
	if err != nil {
		return nil, err
	}
	p := int(c.node.Int("p", 2))
	k := named("lp-norm")
	if c.in[0].Type == model.F64 {
		k.bind, k.scratch = byColumns(x, func(row []float64) { kernels.LpNormalize(row, p) }), 8*x.n
	} else {
		k.bind, k.scratch = byColumns(x, func(row []float32) { kernels.LpNormalize(row, p) }), 4*x.n
	}
	return k, nil
}

// norm is a normalisation of rows of n elements; element i of a row has
// scale and shift number i/each, and in row r those from r%of*count on.
type norm struct {
	n, each, of, count int
	epsilon            float64
}

// parameters checks that inputs 1 and 2, where they are there, have n
// elements of the type of input 0.
func (c *call) parameters(n int) error {
	for i := 1; i < 3; i++ {
		if !c.has(i) {
			continue
		}
		if err := c.want(i, c.in[0].Type); err != nil {
			return err
		}
		if m, err := c.shape(i).Elements(); err != nil || m != n {
			return fmt.Errorf("input %d is %v, not %d values", i, c.shape(i), n)
		}
	}
	return nil
}

// inferLayerNorm makes the normalised tensor, the means, and the inverse
// deviations.
func inferLayerNorm(c *call) error {
	if err := c.want(0, floating...); err != nil {
		return err
	}
	s := c.shape(0)
	axis, err := c.axis("axis", -1, len(s))
	if err != nil {
		return err
	}
	n, err := s[axis:].Elements()
	if err != nil {
		return err
	}
	if err := c.parameters(n); err != nil {
		return notYet(err.Error())
	}
	rest := append(model.Shape{}, s...)
	for i := axis; i < len(rest); i++ {
		rest[i] = 1
	}
	for _, v := range c.out[1:] {
		v.Type, v.Shape = c.in[0].Type, rest
	}
	return inferSame(c)
}

func lowerLayerNorm(c *call) (*kernel, error) {
	s := c.shape(0)
	axis, err := c.axis("axis", -1, len(s))
	if err != nil {
		return nil, err
	}
	n, _ := s[axis:].Elements()
	return c.normKernel(norm{n: n, each: 1, of: 1, count: n}, 1e-5)
}

func (c *call) normKernel(x norm, epsilon float32) (*kernel, error) {
	x.epsilon = float64(c.node.Float("epsilon", epsilon))
	k := named(c.node.Op + "-" + c.in[0].Type.String())
	if c.in[0].Type == model.F64 {
		k.bind = standardize(x, kernels.Standardize64)
	} else {
		tier, run := kernels.Standardizer(c.target)
		k.tier, k.bind = tier, standardize(x, run)
	}
	return k, nil
}

func standardize[T float32 | float64](x norm, run func(dst, src, scale, shift []T, each int, epsilon float64) (mean, inverse T)) binder {
	return func(in, out []*model.Tensor, _ []byte) func() error {
		a, y := elementsOf[T](in[0]), elementsOf[T](out[0])
		optional := func(list []*model.Tensor, i int) []T {
			if i < len(list) && list[i] != nil {
				return elementsOf[T](list[i])
			}
			return nil
		}
		scale, shift := optional(in, 1), optional(in, 2)
		means, inverses := optional(out, 1), optional(out, 2)
		return func() error {
			for r := 0; (r+1)*x.n <= len(a) && x.n > 0; r++ {
				var s, b []T
				if first := r % x.of * x.count; scale != nil {
					s = scale[first : first+x.count]
				}
				if first := r % x.of * x.count; shift != nil {
					b = shift[first : first+x.count]
				}
				mean, inverse := run(y[r*x.n:], a[r*x.n:(r+1)*x.n], s, b, x.each, x.epsilon)
				if means != nil {
					means[r] = mean
				}
				if inverses != nil {
					inverses[r] = inverse
				}
			}
			return nil
		}
	}
}

// inferInstanceNorm wants a scale and a shift for each channel.
func inferInstanceNorm(c *call) error {
	s := c.shape(0)
	if err := c.want(0, floating...); err != nil {
		return err
	}
	if len(s) < 2 {
		return fmt.Errorf("%s of %v", c.node.Op, s)
	}
	if err := c.parameters(s[1]); err != nil {
		return err
	}
	return inferSame(c)
}

func lowerInstanceNorm(c *call) (*kernel, error) {
	n, _ := c.shape(0)[2:].Elements()
	return c.normKernel(norm{n: n, each: max(n, 1), of: c.shape(0)[1], count: 1}, 1e-5)
}

// inferGroupNorm wants as many scales as channels, or as groups.
func inferGroupNorm(c *call) error {
	s := c.shape(0)
	groups := c.node.Int("num_groups", 0)
	if len(s) < 2 || groups < 1 || groups > int64(s[1]) || s[1]%int(groups) != 0 {
		return fmt.Errorf("%v in %d groups", s, groups)
	}
	if err := c.want(0, floating...); err != nil {
		return err
	}
	if c.parameters(s[1]) != nil {
		if err := c.parameters(int(groups)); err != nil {
			return err
		}
	}
	return inferSame(c)
}

func lowerGroupNorm(c *call) (*kernel, error) {
	s, groups := c.shape(0), int(c.node.Int("num_groups", 1))
	plane, _ := s[2:].Elements()
	x := norm{n: s[1] / groups * plane, of: groups}
	scales, _ := c.shape(1).Elements()
	x.count = scales / groups
	x.each = max(x.n/max(x.count, 1), 1)
	return c.normKernel(x, 1e-5)
}

func inferLRN(c *call) error {
	if err := inferFloat(c); err != nil {
		return err
	}
	if len(c.shape(0)) < 2 {
		return fmt.Errorf("LRN of %v", c.shape(0))
	}
	return nil
}

func checkLRN(n *model.Node) string {
	if size := n.Int("size", 0); size < 1 || size > 1<<20 {
		return fmt.Sprintf("size %d", size)
	}
	return ""
}

func lowerLRN(c *call) (*kernel, error) {
	s, n := c.shape(0), c.node
	inner, _ := s[2:].Elements()
	size := int(n.Int("size", 1))
	alpha, beta, bias := float64(n.Float("alpha", 1e-4)), float64(n.Float("beta", 0.75)), float64(n.Float("bias", 1))
	k := named("lrn")
	k.bind = floats(func(out, in []float32, _ []byte) { kernels.LRN(out, in, s[0], s[1], inner, size, alpha, beta, bias) })
	return k, nil
}

// meanVarianceAxes are the axes over which MeanVarianceNormalization takes
// its mean: all but the channels by default.
func meanVarianceAxes(c *call) ([]int, error) {
	list := c.node.Ints("axes")
	if list == nil {
		list = []int64{0, 2, 3}
	}
	axes := make([]int, len(list))
	for i, a := range list {
		var err error
		if axes[i], err = axisOf(a, len(c.shape(0))); err != nil {
			return nil, err
		}
	}
	return axes, nil
}

func inferMeanVariance(c *call) error {
	if _, err := meanVarianceAxes(c); err != nil {
		return err
	}
	return inferFloat(c)
}

// lowerMeanVariance moves the axes last, normalises rows, and moves them
// back.
func lowerMeanVariance(c *call) (*kernel, error) {
	axes, err := meanVarianceAxes(c)
	if err != nil {
		return nil, err
	}
	s := c.shape(0)
	order := lastAxes(len(s), axes)
	there, err := kernels.NewTranspose(4, s, order)
	if err != nil {
		return nil, err
	}
	shape, back, n := make(model.Shape, len(s)), make([]int, len(s)), 1
	for i, a := range order {
		shape[i], back[a] = s[a], i
		if i >= len(s)-len(axes) {
			n *= s[a]
		}
	}
	home, err := kernels.NewTranspose(4, shape, back)
	if err != nil {
		return nil, err
	}
	total := c.elements()
	k := named("mean-variance-norm")
	k.scratch = 4 * total
	k.bind = func(in, out []*model.Tensor, scratch []byte) func() error {
		moved := &model.Tensor{Type: model.F32, Data: scratch[:4*total]}
		row := moved.F32()
		return func() error {
			there.Run(moved.Data, in[0].Data)
			for at := 0; at+n <= total && n > 0; at += n {
				// ONNX defines it as a function of ReduceMean and Pow with 1e-9 added to the deviation, not to its square.
				kernels.MeanVariance(row[at:at+n], 1e-9)
			}
			home.Run(out[0].Data, moved.Data)
			return nil
		}
	}
	return k, nil
}

// lastAxes returns the order of axes that puts these last.
func lastAxes(rank int, axes []int) []int {
	var kept, gone []int
	for i := range rank {
		last := false
		for _, a := range axes {
			last = last || a == i
		}
		if last {
			gone = append(gone, i)
		} else {
			kept = append(kept, i)
		}
	}
	return append(kept, gone...)
}
