package engine

import (
	"fmt"
	"math"
	"slices"

	"dunlin/kernels"
	"dunlin/model"
)

func checkResize(n *model.Node) string {
	oneOf := func(name, or string, list ...string) string {
		if v := n.Str(name, or); !slices.Contains(list, v) {
			return fmt.Sprintf("%s %q", name, v)
		}
		return ""
	}
	for _, why := range []string{
		oneOf("mode", "nearest", "nearest", "linear", "cubic"),
		oneOf("coordinate_transformation_mode", "half_pixel", "half_pixel", "half_pixel_symmetric", "pytorch_half_pixel",
			"align_corners", "asymmetric", "tf_half_pixel_for_nn", "tf_crop_and_resize"),
		oneOf("nearest_mode", "round_prefer_floor", "round_prefer_floor", "round_prefer_ceil", "floor", "ceil"),
		oneOf("keep_aspect_ratio_policy", "stretch", "stretch", "not_larger", "not_smaller"),
	} {
		if why != "" {
			return why
		}
	}
	return ""
}

// resizeAxes returns how each axis is resized, in the node's layout.
func resizeAxes(c *call) ([]kernels.ResizeAxis, error) {
	s := c.shape(0)
	list := make([]kernels.ResizeAxis, len(s))
	place := make([]int, len(s)) // of the graph's axes in the node's layout
	for i := range place {
		place[i] = i
	}
	if isChannelsLast(c.node) {
		for i, from := range toLast(len(s)) {
			place[from] = i
		}
	}
	for i, d := range s {
		list[i] = kernels.ResizeAxis{In: d, Out: d, Scale: 1, To: 1}
	}
	axes := make([]int, len(s))
	for i := range axes {
		axes[i] = i
	}
	if given := c.node.Ints("axes"); given != nil {
		axes = axes[:0]
		for _, a := range given {
			axis, err := axisOf(a, len(s))
			if err != nil {
				return nil, err
			}
			axes = append(axes, axis)
		}
	}
	numbers := func(i, want int) ([]float64, error) {
		t, err := c.known(i)
		if err != nil {
			return nil, err
		}
		if t.Elements() != want || !slices.Contains(append(slices.Clone(floating), model.I64), t.Type) {
			return nil, fmt.Errorf("input %d is %v %v, %d values are needed", i, t.Type, t.Shape, want)
		}
		return Numbers(t), nil
	}
	if c.node.Str("coordinate_transformation_mode", "") == "tf_crop_and_resize" {
		roi, err := numbers(1, 2*len(axes))
		if err != nil {
			return nil, err
		}
		for i, a := range axes {
			list[place[a]].From, list[place[a]].To = float32(roi[i]), float32(roi[len(axes)+i])
		}
	}
	switch {
	case c.has(3):
		sizes, err := numbers(3, len(axes))
		if err != nil {
			return nil, err
		}
		return list, resizeTo(c.node, list, axes, place, sizes)
	case c.has(2):
		scales, err := numbers(2, len(axes))
		if err != nil {
			return nil, err
		}
		for i, a := range axes {
			x := &list[place[a]]
			x.Scale = float32(scales[i])
			n := math.Floor(float64(x.Scale * float32(x.In)))
			if !(x.Scale > 0) || !(n <= math.MaxInt32) {
				return nil, fmt.Errorf("scales %v", scales)
			}
			x.Out = int(n)
		}
		return list, nil
	}
	return nil, fmt.Errorf("it has neither scales nor sizes")
}

// resizeTo sets lengths and scales of axes to sizes, or to the nearest sizes
// that keep the ratio of the axes.
func resizeTo(n *model.Node, list []kernels.ResizeAxis, axes, place []int, sizes []float64) error {
	policy, common := n.Str("keep_aspect_ratio_policy", "stretch"), math.NaN()
	for i, a := range axes {
		x := &list[place[a]]
		if !(sizes[i] >= 1 && sizes[i] <= math.MaxInt32) || x.In == 0 {
			return fmt.Errorf("sizes %v", sizes)
		}
		scale := sizes[i] / float64(x.In)
		if i == 0 || (scale < common) == (policy == "not_larger") {
			common = scale
		}
		x.Out, x.Scale = int(sizes[i]), float32(sizes[i])/float32(x.In)
	}
	if policy == "stretch" {
		return nil
	}
	for _, a := range axes {
		x := &list[place[a]]
		x.Scale = float32(common)
		n := math.Floor(float64(common*float64(x.In)) + 0.5)
		if !(n <= math.MaxInt32) {
			return fmt.Errorf("sizes %v", sizes)
		}
		x.Out = int(max(n, 1))
	}
	return nil
}

func inferResize(c *call) error {
	if c.node.Str("mode", "nearest") != "nearest" {
		if err := c.want(0, model.F32); err != nil {
			return err
		}
	}
	list, err := resizeAxes(c)
	if err != nil {
		return err
	}
	shape := make(model.Shape, len(list))
	for i, a := range list {
		if shape[i] = a.Out; a.In == 0 && a.Out > 0 {
			return fmt.Errorf("axis %d of %v is empty", i, c.shape(0))
		}
	}
	return c.set(c.in[0].Type, shape...)
}

// resizeStep is one axis of a Resize being done.
type resizeStep struct {
	taps         *kernels.Taps
	outer, inner int // elements before and behind the axis
	size         int // elements of the result
}

func lowerResize(c *call) (*kernel, error) {
	list, err := resizeAxes(c)
	if err != nil {
		return nil, err
	}
	n := c.node
	p := kernels.Interpolation{
		Mode: n.Str("mode", "nearest"), Coordinates: n.Str("coordinate_transformation_mode", "half_pixel"),
		Nearest: n.Str("nearest_mode", "round_prefer_floor"), CubicA: n.Float("cubic_coeff_a", -0.75),
		ExcludeOutside: n.Int("exclude_outside", 0) != 0, Antialias: n.Int("antialias", 0) != 0,
	}
	shape := slices.Clone(c.shape(0))
	var steps []resizeStep
	crop := p.Coordinates == "tf_crop_and_resize"
	for a := range list {
		if p.Mode == "nearest" && !crop { // any order will do: the innermost first, while there is least to copy
			a = len(list) - 1 - a
		}
		axis := list[a]
		if axis.In == axis.Out && axis.Scale == 1 && !crop {
			continue
		}
		shape[a] = axis.Out
		outer, _ := shape[:a].Elements()
		inner, _ := shape[a+1:].Elements()
		steps = append(steps, resizeStep{kernels.NewTaps(axis, p), outer, inner, outer * axis.Out * inner})
	}
	if len(steps) == 0 || c.elements() == 0 {
		k, err := lowerAlias(c)
		if err == nil && c.elements() == 0 && !c.out[0].Shape.Equal(c.shape(0)) {
			k = copyKernel(k)
		}
		return k, err
	}
	k := named("resize-" + p.Mode)
	tier, rows := kernels.CopyRows(c.target)
	if p.Mode == "nearest" {
		k.tier = tier
	}
	size := c.in[0].Type.Size()
	most := 0 // elements of a result between two steps
	for _, s := range steps[:len(steps)-1] {
		most = max(most, s.size)
	}
	half := align(most * size)
	if len(steps) > 1 {
		k.scratch = 2 * half
	}
	value := n.Float("extrapolation_value", 0)
	if crop && c.in[0].Type != model.F32 {
		return nil, notYet(fmt.Sprintf("tf_crop_and_resize of %v", c.in[0].Type))
	}
	k.bind = func(in, out []*model.Tensor, scratch []byte) func() error {
		stage := make([]*model.Tensor, len(steps)+1) // what each step reads; the last is the result
		stage[0], stage[len(steps)] = in[0], out[0]
		for i := 1; i < len(steps); i++ {
			stage[i] = &model.Tensor{Type: in[0].Type, Data: scratch[i%2*half:][:steps[i-1].size*size]}
		}
		return func() error {
			for i, s := range steps {
				if p.Mode == "nearest" {
					s.taps.Nearest(rows, stage[i+1].Data, stage[i].Data, s.outer, s.inner*size)
				} else {
					s.taps.Run(stage[i+1].F32(), stage[i].F32(), s.outer, s.inner)
				}
			}
			if crop {
				y, at := out[0].F32(), 1
				for _, s := range steps {
					s.taps.Outside(y, at, len(y)/max(at*s.taps.Len(), 1), value)
					at *= s.taps.Len()
				}
			}
			return nil
		}
	}
	return k, nil
}
