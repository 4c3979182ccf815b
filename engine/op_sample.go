package engine

import (
	"fmt"
	"slices"

	"dunlin/kernels"
	"dunlin/model"
)

func checkGridSample(n *model.Node) string {
	if m := n.Str("mode", "linear"); !slices.Contains([]string{"linear", "nearest", "cubic"}, m) {
		return fmt.Sprintf("mode %q", m)
	}
	if p := n.Str("padding_mode", "zeros"); !slices.Contains([]string{"zeros", "border", "reflection"}, p) {
		return fmt.Sprintf("padding_mode %q", p)
	}
	return ""
}

// inferGridSample wants pictures [N, C, H, W] and places [N, OH, OW, 2].
func inferGridSample(c *call) error {
	for i := range 2 {
		if err := c.want(i, model.F32); err != nil {
			return err
		}
	}
	x, grid := c.shape(0), c.shape(1)
	if len(x) != 4 || len(grid) != 4 {
		return notYet(fmt.Sprintf("samples of %v at %v; 4 axes are supported", x, grid))
	}
	if grid[0] != x[0] || grid[3] != 2 || x[2] < 1 || x[3] < 1 {
		return fmt.Errorf("samples of %v at %v", x, grid)
	}
	return c.set(model.F32, x[0], x[1], grid[1], grid[2])
}

func lowerGridSample(c *call) (*kernel, error) {
	x, grid := c.shape(0), c.shape(1)
	g := kernels.GridSample{
		Mode: c.node.Str("mode", "linear"), Padding: c.node.Str("padding_mode", "zeros"), AlignCorners: c.node.Int("align_corners", 0) != 0,
		C: x[1], H: x[2], W: x[3], OH: grid[1], OW: grid[2],
	}
	picture, places := x[1]*x[2]*x[3], grid[1]*grid[2]
	k := named("grid-sample")
	k.bind = func(in, out []*model.Tensor, _ []byte) func() error {
		a, p, y := in[0].F32(), in[1].F32(), out[0].F32()
		return func() error {
			for i := range x[0] {
				g.Run(y[i*x[1]*places:], a[i*picture:], p[i*2*places:])
			}
			return nil
		}
	}
	return k, nil
}

func checkRoiAlign(n *model.Node) string {
	for _, name := range []string{"output_height", "output_width"} {
		if v := n.Int(name, 1); v < 1 || v > 1<<15 {
			return fmt.Sprintf("%s %d", name, v)
		}
	}
	if m := n.Str("mode", "avg"); m != "avg" && m != "max" {
		return fmt.Sprintf("mode %q", m)
	}
	if v := n.Int("sampling_ratio", 0); v < 0 || v > 1<<10 {
		return fmt.Sprintf("sampling_ratio %d", v)
	}
	return ""
}

// inferRoiAlign wants pictures [N, C, H, W], regions [R, 4], and for each the
// number of its picture.
func inferRoiAlign(c *call) error {
	for i := range 2 {
		if err := c.want(i, model.F32); err != nil {
			return err
		}
	}
	if err := c.want(2, model.I64); err != nil {
		return err
	}
	x, rois := c.shape(0), c.shape(1)
	if len(x) != 4 || len(rois) != 2 || rois[1] != 4 || !c.shape(2).Equal(rois[:1]) || x[2] < 1 || x[3] < 1 {
		return fmt.Errorf("regions %v of %v, numbers %v", rois, x, c.shape(2))
	}
	return c.set(model.F32, rois[0], x[1], int(c.node.Int("output_height", 1)), int(c.node.Int("output_width", 1)))
}

func lowerRoiAlign(c *call) (*kernel, error) {
	x, n, out := c.shape(0), c.node, c.out[0].Shape
	r := kernels.RoiAlign{
		C: x[1], H: x[2], W: x[3], OH: out[2], OW: out[3], Ratio: int(n.Int("sampling_ratio", 0)),
		Scale: float64(n.Float("spatial_scale", 1)), Max: n.Str("mode", "avg") == "max",
		HalfPixel: n.Str("coordinate_transformation_mode", "half_pixel") == "half_pixel",
	}
	picture, region := x[1]*x[2]*x[3], out[1]*out[2]*out[3]
	k := named("roi-align")
	k.bind = func(in, out []*model.Tensor, _ []byte) func() error {
		a, rois, batch, y := in[0].F32(), in[1].F32(), in[2].I64(), out[0].F32()
		return func() error {
			for i, b := range batch {
				if b < 0 || b >= int64(x[0]) {
					return fmt.Errorf("region %d is of picture %d of %d", i, b, x[0])
				}
				r.Run(y[i*region:], a[int(b)*picture:], rois[4*i:4*i+4])
			}
			return nil
		}
	}
	return k, nil
}

func inferDet(c *call) error {
	s := c.shape(0)
	if err := c.want(0, floating...); err != nil {
		return err
	}
	if len(s) < 2 || s[len(s)-1] != s[len(s)-2] {
		return fmt.Errorf("determinant of %v", s)
	}
	return c.set(c.in[0].Type, s[:len(s)-2]...)
}

func lowerDet(c *call) (*kernel, error) {
	s := c.shape(0)
	n := s[len(s)-1]
	k := named("det")
	k.scratch = 8 * n * n
	if c.in[0].Type == model.F64 {
		k.bind = det[float64](n)
	} else {
		k.bind = det[float32](n)
	}
	return k, nil
}

func det[T float32 | float64](n int) binder {
	return func(in, out []*model.Tensor, scratch []byte) func() error {
		x, y := elementsOf[T](in[0]), elementsOf[T](out[0])
		work := elementsOf[float64](&model.Tensor{Type: model.F64, Data: scratch[:8*n*n]})
		return func() error {
			for i := range y {
				y[i] = kernels.Det(x[i*n*n:], n, work)
			}
			return nil
		}
	}
}
