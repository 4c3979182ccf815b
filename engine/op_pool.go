package engine

import (
	"fmt"
	"math"
	"strings"

	"dunlin/kernels"
	"dunlin/model"
)

func checkPool(n *model.Node) string {
	if n.Ints("kernel_shape") == nil {
		return "kernel_shape is missing"
	}
	return checkPads(n)
}

// poolShape is what a pool's shape and attributes say.
type poolShape struct {
	batch, channels int
	windows
}

func poolOf(c *call) (s poolShape, err error) {
	x := c.shape(0)
	if len(x) < 3 || len(x) > 5 {
		return s, notYet(fmt.Sprintf("pool of %v; 3 to 5 axes are supported", x))
	}
	var space []int
	s.batch, s.channels, space = planes(c.node, x)
	if strings.Contains(c.node.Op, "Global") {
		one, zero := repeat(1, len(space)), make([]int, len(space))
		s.windows = windows{in: space, kernel: space, stride: one, dilation: one, before: zero, end: zero, out: one}
		return s, nil
	}
	k, err := positive(c.node, "kernel_shape", len(space))
	if err != nil {
		return s, err
	}
	if s.windows, err = windowsOf(c.node, space, k); err != nil {
		return s, err
	}
	for i, p := range s.before {
		if p >= s.kernel[i]*s.dilation[i] {
			return s, fmt.Errorf("pads %v are not smaller than the kernel %v", s.before, s.kernel)
		}
	}
	return s, nil
}

// geometry is for pools of one or two axes, volume for all.
func (s poolShape) geometry() (kernels.Geometry, error) {
	g := s.windows.geometry(kernels.Geometry{N: s.batch, C: s.channels, OC: s.channels, Groups: 1})
	return g, g.Check()
}

func (s poolShape) volume() (kernels.Volume, error) {
	v := s.windows.volume(kernels.Volume{N: s.batch, C: s.channels, OC: s.channels, Groups: 1})
	return v, v.Check()
}

func inferPool(c *call) error {
	want := []model.DType{model.F32}
	switch {
	case strings.HasPrefix(c.node.Op, "dunlin.Q"):
		want = []model.DType{model.I8}
	case c.node.Op == "MaxPool":
		want = append(want, model.I8, model.U8, model.F64)
	}
	if err := c.want(0, want...); err != nil {
		return err
	}
	s, err := poolOf(c)
	if err != nil {
		return err
	}
	if len(c.out) > 1 {
		if err := c.setPlanes(1, model.I64, s.batch, s.channels, s.out); err != nil {
			return err
		}
	}
	return c.setPlanes(0, c.in[0].Type, s.batch, s.channels, s.out)
}

func lowerMaxPool(c *call) (*kernel, error) {
	s, err := poolOf(c)
	if err != nil {
		return nil, err
	}
	t := c.in[0].Type
	if len(s.in) > 2 || (len(c.node.Out) > 1 && c.node.Out[1] != "") || (t != model.I8 && t != model.F32) {
		return lowerMaxPoolVolume(c, s)
	}
	g, err := s.geometry()
	if err != nil {
		return lowerMaxPoolVolume(c, s)
	}
	p, err := kernels.NewMaxPool(g)
	if err != nil {
		return nil, err
	}
	p.Use(c.target)
	return maxPoolKernel(p, t), nil
}

// lowerMaxPoolVolume is for three axes, for other types and for indices.
func lowerMaxPoolVolume(c *call, s poolShape) (*kernel, error) {
	v, err := s.volume()
	if err != nil {
		return nil, err
	}
	columns := c.node.Int("storage_order", 0) == 1
	k := named("maxpool-any-" + c.in[0].Type.String())
	k.bind = func(in, out []*model.Tensor, _ []byte) func() error {
		x, y := in[0], out[0]
		var index []int64
		if len(out) > 1 && out[1] != nil {
			index = out[1].I64()
		}
		return func() error {
			switch x.Type {
			case model.F32:
				kernels.MaxPoolVolume(&v, y.F32(), index, x.F32(), float32(math.Inf(-1)), columns)
			case model.F64:
				kernels.MaxPoolVolume(&v, y.F64(), index, x.F64(), math.Inf(-1), columns)
			case model.I8:
				kernels.MaxPoolVolume(&v, y.I8(), index, x.I8(), math.MinInt8, columns)
			case model.U8:
				kernels.MaxPoolVolume(&v, y.U8(), index, x.U8(), 0, columns)
			}
			return nil
		}
	}
	return k, nil
}

func lowerAveragePool(c *call) (*kernel, error) {
	s, err := poolOf(c)
	if err != nil {
		return nil, err
	}
	countPad := c.node.Int("count_include_pad", 0) == 1
	if len(s.in) > 2 {
		v, err := s.volume()
		if err != nil {
			return nil, err
		}
		if c.in[0].Type != model.F32 {
			return nil, notYet("an integer pool of three axes")
		}
		k := named("averagepool-any-f32")
		k.bind = floats(func(out, in []float32, _ []byte) { v.AveragePool(out, in, countPad) })
		return k, nil
	}
	g, err := s.geometry()
	if err != nil {
		return nil, err
	}
	endH, endW := 0, s.end[len(s.end)-1]
	if len(s.end) > 1 {
		endH = s.end[0]
	}
	p, err := kernels.NewAveragePool(g, countPad, endH, endW)
	if err != nil {
		return nil, err
	}
	if c.in[0].Type == model.F32 {
		p.Use(c.target)
		return averagePoolKernel(p, model.F32), nil
	}
	q := attrsOf(c.node)
	if err := p.Quantise(q.xScale, int8(q.xZero), q.yScale, q.requant()); err != nil {
		return nil, err
	}
	p.Use(c.target)
	return averagePoolKernel(p, model.I8), nil
}

// maxPower bounds p of LpPool: a power is formed by multiplying.
const maxPower = 64

func checkLpPool(n *model.Node) string {
	if p := n.Int("p", 2); p < 1 || p > maxPower {
		return fmt.Sprintf("p is %d; 1 to %d are supported", p, maxPower)
	}
	if strings.Contains(n.Op, "Global") {
		return ""
	}
	return checkPool(n)
}

func lowerLpPool(c *call) (*kernel, error) {
	s, err := poolOf(c)
	if err != nil {
		return nil, err
	}
	v, err := s.volume()
	if err != nil {
		return nil, err
	}
	p := int(c.node.Int("p", 2))
	k := named("lppool-f32")
	k.bind = floats(func(out, in []float32, _ []byte) { v.LpPool(out, in, p) })
	return k, nil
}

// inferMaxUnpool: the output has the size from which a MaxPool with the same
// attributes would have made the input, unless input 2 says another.
func inferMaxUnpool(c *call) error {
	if err := c.want(0, model.F32); err != nil {
		return err
	}
	if err := c.want(1, model.I64); err != nil {
		return err
	}
	shape, err := unpooled(c)
	if err != nil {
		return err
	}
	if c.has(2) {
		given, err := c.ints(2)
		if err != nil {
			return err
		}
		if len(given) != len(shape) {
			return fmt.Errorf("output_shape %v", given)
		}
		for i, d := range given {
			if d < int64(shape[i]) || d > model.MaxElements {
				return fmt.Errorf("output_shape %v is smaller than %v", given, shape)
			}
			shape[i] = int(d)
		}
	}
	return c.set(model.F32, shape...)
}

// unpooled returns the shape that the indices of a MaxUnpool count in.
func unpooled(c *call) (model.Shape, error) {
	x := c.shape(0)
	if len(x) < 3 || !c.shape(1).Equal(x) {
		return nil, fmt.Errorf("indices %v for %v", c.shape(1), x)
	}
	axes := len(x) - 2
	kernel, err := positive(c.node, "kernel_shape", axes)
	if err != nil {
		return nil, err
	}
	stride, err := positive(c.node, "strides", axes)
	if err != nil {
		return nil, err
	}
	pads, err := padsOf(c.node, axes)
	if err != nil {
		return nil, err
	}
	shape := append(model.Shape{}, x...)
	for i := range axes {
		n := (int64(x[2+i])-1)*int64(stride[i]) + int64(kernel[i]) - pads[i] - pads[axes+i]
		if n < 1 || n > math.MaxInt32 {
			return nil, fmt.Errorf("axis %d would have length %d", 2+i, n)
		}
		shape[2+i] = int(n)
	}
	return shape, nil
}

func lowerMaxUnpool(c *call) (*kernel, error) {
	from, err := unpooled(c)
	if err != nil {
		return nil, err
	}
	to := c.out[0].Shape
	count, err := from.Elements()
	if err != nil {
		return nil, err
	}
	k := named("maxunpool-f32")
	k.bind = func(in, out []*model.Tensor, _ []byte) func() error {
		x, index, y := in[0].F32(), in[1].I64(), out[0].F32()
		return func() error {
			clear(y)
			for i, at := range index {
				if at < 0 || at >= int64(count) {
					return fmt.Errorf("index %d of %d", at, count)
				}
				place, unit, rest := 0, 1, int(at)
				for a := len(to) - 1; a >= 0; a-- {
					place += rest % from[a] * unit
					rest /= from[a]
					unit *= to[a]
				}
				y[place] = x[i]
			}
			return nil
		}
	}
	return k, nil
}
