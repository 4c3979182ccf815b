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
	if n.Int("storage_order", 0) != 0 {
		return "storage_order 1 is for indices, which are not supported"
	}
	return checkPads(n)
}

// poolGeometry returns the geometry of a pool, and the padding below and to
// the right.
func poolGeometry(c *call) (g kernels.Geometry, endH, endW int, err error) {
	x := c.shape(0)
	if len(x) != 4 {
		return g, 0, 0, notYet(fmt.Sprintf("pool of %v; 4 axes are supported", x))
	}
	g.N, g.C, g.H, g.W = planes(c.node, x)
	g.OC, g.Groups = g.C, 1
	if strings.Contains(c.node.Op, "Global") {
		g.KH, g.KW, g.OH, g.OW = g.H, g.W, 1, 1
		g.StrideH, g.StrideW, g.DilationH, g.DilationW = 1, 1, 1, 1
		return g, 0, 0, g.Check()
	}
	k := c.node.Ints("kernel_shape")
	if len(k) != 2 || k[0] < 1 || k[1] < 1 || k[0] > math.MaxInt32 || k[1] > math.MaxInt32 {
		return g, 0, 0, fmt.Errorf("kernel_shape %v", k)
	}
	g.KH, g.KW = int(k[0]), int(k[1])
	if g, endH, endW, err = spatial(c.node, g); err != nil {
		return g, 0, 0, err
	}
	if g.PadTop >= g.KH*g.DilationH || g.PadLeft >= g.KW*g.DilationW {
		return g, 0, 0, fmt.Errorf("pads %d,%d are not smaller than the kernel %dx%d", g.PadTop, g.PadLeft, g.KH, g.KW)
	}
	return g, endH, endW, g.Check()
}

func inferPool(c *call) error {
	want := []model.DType{model.F32}
	switch {
	case strings.HasPrefix(c.node.Op, "dunlin.Q"):
		want = []model.DType{model.I8}
	case c.node.Op == "MaxPool":
		want = append(want, model.I8)
	}
	if err := c.want(0, want...); err != nil {
		return err
	}
	g, _, _, err := poolGeometry(c)
	if err != nil {
		return err
	}
	return c.setPlanes(c.in[0].Type, g.N, g.C, g.OH, g.OW)
}

func lowerMaxPool(c *call) (*kernel, error) {
	g, _, _, err := poolGeometry(c)
	if err != nil {
		return nil, err
	}
	p, err := kernels.NewMaxPool(g)
	if err != nil {
		return nil, err
	}
	if c.in[0].Type == model.I8 {
		k := named("maxpool-int8")
		k.bind = int8s(func(out, in []int8, _ []byte) { p.Int8(out, in) })
		return k, nil
	}
	k := named("maxpool-f32")
	k.bind = floats(func(out, in []float32, _ []byte) { p.F32(out, in) })
	return k, nil
}

func lowerAveragePool(c *call) (*kernel, error) {
	g, endH, endW, err := poolGeometry(c)
	if err != nil {
		return nil, err
	}
	p, err := kernels.NewAveragePool(g, c.node.Int("count_include_pad", 0) == 1, endH, endW)
	if err != nil {
		return nil, err
	}
	if c.in[0].Type == model.F32 {
		k := named("averagepool-f32")
		k.bind = floats(func(out, in []float32, _ []byte) { p.F32(out, in) })
		return k, nil
	}
	q := attrsOf(c.node)
	if err := p.Quantise(q.xScale, int8(q.xZero), q.yScale, q.requant()); err != nil {
		return nil, err
	}
	k := named("averagepool-int8")
	k.scratch = p.Scratch()
	k.bind = int8s(p.Int8)
	return k, nil
}
