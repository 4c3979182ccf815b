package engine

import (
	"fmt"
	"math"
	"slices"

	"dunlin/kernels"
	"dunlin/model"
)

// known returns the constant that is input i; without one, the node waits for
// its value.
func (c *call) known(i int) (*model.Tensor, error) {
	if t := c.constant(i); t != nil {
		return t, nil
	}
	if !c.has(i) {
		return nil, fmt.Errorf("input %d is left out", i)
	}
	return nil, waits{i, c.node.Input(i)}
}

// lengths returns constant input i as the axes of a shape.
func (c *call) lengths(i int) (model.Shape, error) {
	list, err := c.ints(i)
	if err != nil {
		return nil, err
	}
	s := make(model.Shape, len(list))
	for j, d := range list {
		if d < 0 || d > model.MaxElements || int64(int(d)) != d {
			return nil, fmt.Errorf("input %d asks for the shape %v", i, list)
		}
		s[j] = int(d)
	}
	return s, nil
}

func inferExpand(c *call) error {
	s, err := c.lengths(1)
	if err != nil {
		return err
	}
	w, err := kernels.NewBroadcast(c.shape(0), s)
	if err != nil {
		return err
	}
	return c.set(c.in[0].Type, w.Shape...)
}

func lowerExpand(c *call) (*kernel, error) {
	if c.out[0].Shape.Equal(c.shape(0)) {
		return lowerAlias(c)
	}
	return expandKernel(c, "expand", c.out[0].Shape, c.shape(0))
}

// expandKernel copies input 0, seen as shape from, broadcast to shape to.
func expandKernel(c *call, name string, to, from []int) (*kernel, error) {
	k := named(name)
	if c.in[0].Type.Size() == 4 {
		w, err := kernels.NewBroadcast(from, to)
		if err != nil {
			return nil, err
		}
		tier, f := kernels.ExpandF32(c.target, w)
		k.tier = tier
		k.bind = func(in, out []*model.Tensor, _ []byte) func() error {
			x, y := elementsOf[float32](in[0]), elementsOf[float32](out[0])
			return func() error { f(y, x); return nil }
		}
		return k, nil
	}
	w, err := kernels.NewWalk(to, from)
	if err != nil {
		return nil, err
	}
	k.bind = bySize(c.in[0].Type, expand[uint8](w), expand[uint16](w), expand[uint32](w), expand[uint64](w))
	return k, nil
}

func expand[T whole](w *kernels.Walk) binder {
	return func(in, out []*model.Tensor, _ []byte) func() error {
		x, y := elementsOf[T](in[0]), elementsOf[T](out[0])
		return func() error { kernels.Expand(w, y, x); return nil }
	}
}

func inferTile(c *call) error {
	repeats, err := c.lengths(1)
	if err != nil {
		return err
	}
	s := slices.Clone(c.shape(0))
	if len(repeats) != len(s) {
		return fmt.Errorf("%d repeats for %v", len(repeats), s)
	}
	for i, r := range repeats {
		if n := int64(s[i]); n > 0 && int64(r) > min(model.MaxElements, math.MaxInt)/n {
			return fmt.Errorf("%v repeated %v times", s, repeats)
		}
		s[i] *= r
	}
	return c.set(c.in[0].Type, s...)
}

// lowerTile broadcasts [d] to [repeat, d], axis for axis.
func lowerTile(c *call) (*kernel, error) {
	var from, to []int
	for i, d := range c.shape(0) {
		repeats := 0
		if d > 0 {
			repeats = c.out[0].Shape[i] / d
		}
		from, to = append(from, 1, d), append(to, repeats, d)
	}
	return expandKernel(c, "tile", to, from)
}

// padding is what a Pad node adds before and behind each axis; negative
// numbers take away.
type padding struct{ before, behind []int }

func paddingOf(c *call) (padding, error) {
	rank := len(c.shape(0))
	p := padding{make([]int, rank), make([]int, rank)}
	list, err := c.ints(1)
	if err != nil {
		return p, err
	}
	axes := make([]int, rank)
	for i := range axes {
		axes[i] = i
	}
	if c.has(3) {
		given, err := c.ints(3)
		if err != nil {
			return p, err
		}
		axes = axes[:0]
		for _, a := range given {
			axis, err := axisOf(a, rank)
			if err != nil {
				return p, err
			}
			axes = append(axes, axis)
		}
	}
	if len(list) != 2*len(axes) {
		return p, fmt.Errorf("%d pads for %d axes", len(list), len(axes))
	}
	for _, v := range list {
		if v < -math.MaxInt32 || v > math.MaxInt32 {
			return p, fmt.Errorf("pads %v", list)
		}
	}
	for i, a := range axes {
		p.before[a], p.behind[a] = int(list[i]), int(list[len(axes)+i])
	}
	return p, nil
}

func checkPad(n *model.Node) string {
	switch mode := n.Str("mode", "constant"); mode {
	case "constant", "edge", "reflect", "wrap":
		return ""
	default:
		return fmt.Sprintf("mode %q", mode)
	}
}

func inferPad(c *call) error {
	if err := c.want(2, c.in[0].Type); err != nil {
		return err
	}
	if c.has(2) {
		if n, err := c.shape(2).Elements(); err != nil || n != 1 {
			return fmt.Errorf("the value %v is no single one", c.shape(2))
		}
	}
	p, err := paddingOf(c)
	if err != nil {
		return err
	}
	s := slices.Clone(c.shape(0))
	for i, d := range s {
		s[i] = d + p.before[i] + p.behind[i]
		if s[i] < 0 {
			return fmt.Errorf("pads %d and %d take more than axis %d of %v has", p.before[i], p.behind[i], i, c.shape(0))
		}
		mode := c.node.Str("mode", "constant")
		if s[i] > 0 && d == 0 && mode != "constant" {
			return fmt.Errorf("mode %s needs an element along axis %d of %v", mode, i, c.shape(0))
		}
	}
	return c.set(c.in[0].Type, s...)
}

func lowerPad(c *call) (*kernel, error) {
	p, err := paddingOf(c)
	if err != nil {
		return nil, err
	}
	mode := kernels.PadMode(c.node.Str("mode", "constant"))
	pad := kernels.NewPad(mode, c.shape(0), c.out[0].Shape, p.before)
	k := named("pad-" + string(mode))
	k.bind = bySize(c.in[0].Type, padded[uint8](pad), padded[uint16](pad), padded[uint32](pad), padded[uint64](pad))
	return k, nil
}

func padded[T whole](p *kernels.Pad) binder {
	return func(in, out []*model.Tensor, _ []byte) func() error {
		x, y := elementsOf[T](in[0]), elementsOf[T](out[0])
		value := make([]T, 1)
		if len(in) > 2 && in[2] != nil {
			value = elementsOf[T](in[2])
		}
		return func() error { kernels.RunPad(p, y, x, value[0]); return nil }
	}
}

// parts returns how long the outputs of a Split are along its axis.
func parts(c *call, n int) ([]int, error) {
	count := len(c.out)
	if !c.has(1) {
		each := (n + count - 1) / count
		list := make([]int, count)
		for i := range list {
			list[i] = max(0, min(each, n-i*each))
		}
		return list, nil
	}
	list, err := c.lengths(1)
	if err != nil {
		return nil, err
	}
	sum := 0
	for _, d := range list {
		if d > n {
			return nil, fmt.Errorf("parts %v of an axis of %d", list, n)
		}
		sum += d
	}
	if len(list) != count || sum != n {
		return nil, fmt.Errorf("parts %v for %d outputs of an axis of %d", list, count, n)
	}
	return list, nil
}

func inferSplit(c *call) error {
	s := c.shape(0)
	axis, err := c.axis("axis", 0, len(s))
	if err != nil {
		return err
	}
	list, err := parts(c, s[axis])
	if err != nil {
		return err
	}
	for i, v := range c.out {
		v.Type, v.Shape = c.in[0].Type, slices.Clone(s)
		v.Shape[axis] = list[i]
	}
	return nil
}

func lowerSplit(c *call) (*kernel, error) {
	s := c.shape(0)
	axis, err := c.axis("axis", 0, len(s))
	if err != nil {
		return nil, err
	}
	list, err := parts(c, s[axis])
	if err != nil {
		return nil, err
	}
	outer, _ := s[:axis].Elements()
	block, _ := s[axis+1:].Elements()
	for i := range list {
		list[i] *= block * c.in[0].Type.Size()
	}
	k := named("split")
	tier, rows := kernels.CopyRows(c.target)
	k.tier = tier
	k.bind = func(in, out []*model.Tensor, _ []byte) func() error {
		x, y := in[0].Data, make([][]byte, len(out))
		for i, t := range out {
			if t != nil {
				y[i] = t.Data
			}
		}
		return func() error { kernels.Split(rows, y, x, list, outer); return nil }
	}
	return k, nil
}

// blocks checks the block size of DepthToSpace and SpaceToDepth.
func blocks(c *call) (b int, err error) {
	n := c.node.Int("blocksize", 0)
	if len(c.shape(0)) != 4 || n < 1 || n > math.MaxInt16 {
		return 0, fmt.Errorf("blocks of %d in %v", n, c.shape(0))
	}
	return int(n), nil
}

// depthToSpace is the move as Reshape, Transpose, Reshape: the shape between
// and the order of its axes.
func depthToSpace(c *call) (between model.Shape, order []int, err error) {
	b, err := blocks(c)
	s := c.shape(0)
	switch {
	case err != nil:
		return nil, nil, err
	case c.node.Op == "SpaceToDepth":
		if s[2]%b != 0 || s[3]%b != 0 {
			return nil, nil, fmt.Errorf("blocks of %d in %v", b, s)
		}
		return model.Shape{s[0], s[1], s[2] / b, b, s[3] / b, b}, []int{0, 3, 5, 1, 2, 4}, nil
	case s[1]%(b*b) != 0:
		return nil, nil, fmt.Errorf("blocks of %d in %v", b, s)
	case c.node.Str("mode", "DCR") == "CRD":
		return model.Shape{s[0], s[1] / (b * b), b, b, s[2], s[3]}, []int{0, 1, 4, 2, 5, 3}, nil
	}
	return model.Shape{s[0], b, b, s[1] / (b * b), s[2], s[3]}, []int{0, 3, 4, 1, 5, 2}, nil
}

func inferDepthToSpace(c *call) error {
	if _, _, err := depthToSpace(c); err != nil {
		return err
	}
	b, _ := blocks(c)
	s := c.shape(0)
	if c.node.Op == "SpaceToDepth" {
		return c.set(c.in[0].Type, s[0], s[1]*b*b, s[2]/b, s[3]/b)
	}
	return c.set(c.in[0].Type, s[0], s[1]/(b*b), s[2]*b, s[3]*b)
}

func lowerDepthToSpace(c *call) (*kernel, error) {
	between, order, err := depthToSpace(c)
	if err != nil {
		return nil, err
	}
	t, err := kernels.NewTranspose(c.in[0].Type.Size(), between, order)
	if err != nil {
		return nil, err
	}
	k := transposeKernel(t)
	k.name = c.node.Op
	return k, nil
}

// inferTrilu keeps one triangle of the last two axes.
func inferTrilu(c *call) error {
	if len(c.shape(0)) < 2 {
		return fmt.Errorf("triangle of %v", c.shape(0))
	}
	if err := c.want(1, model.I64); err != nil {
		return err
	}
	if c.has(1) {
		if n, err := c.shape(1).Elements(); err != nil || n != 1 {
			return fmt.Errorf("diagonal %v is no single number", c.shape(1))
		}
	}
	return inferSame(c)
}

func lowerTrilu(c *call) (*kernel, error) {
	s, size := c.shape(0), c.in[0].Type.Size()
	rows, cols := s[len(s)-2], s[len(s)-1]
	upper := c.node.Int("upper", 1) != 0
	k := named("trilu")
	k.bind = func(in, out []*model.Tensor, _ []byte) func() error {
		x, y, diagonal := in[0].Data, out[0].Data, make([]int64, 1)
		if len(in) > 1 && in[1] != nil {
			diagonal = in[1].I64()
		}
		return func() error { kernels.Triangle(y, x, rows, cols, size, diagonal[0], upper); return nil }
	}
	return k, nil
}

func inferReverseSequence(c *call) error {
	s, batch, time := c.shape(0), c.node.Int("batch_axis", 1), c.node.Int("time_axis", 0)
	if len(s) < 2 || min(batch, time) != 0 || max(batch, time) != 1 {
		return fmt.Errorf("sequences along axis %d, batches along %d of %v", time, batch, s)
	}
	if err := c.want(1, model.I64); err != nil {
		return err
	}
	if !c.shape(1).Equal(model.Shape{s[batch]}) {
		return fmt.Errorf("lengths %v for %d sequences", c.shape(1), s[batch])
	}
	return inferSame(c)
}

func lowerReverseSequence(c *call) (*kernel, error) {
	s := c.shape(0)
	block, _ := s[2:].Elements()
	block *= c.in[0].Type.Size()
	timeFirst := c.node.Int("time_axis", 0) == 0
	k := named("reverse-sequence")
	k.bind = func(in, out []*model.Tensor, _ []byte) func() error {
		x, y, lengths := in[0].Data, out[0].Data, in[1].I64()
		return func() error {
			if bad := kernels.ReverseSequence(y, x, lengths, s[0], s[1], block, timeFirst); bad >= 0 {
				return fmt.Errorf("sequence %d has length %d in %v", bad, lengths[bad], s)
			}
			return nil
		}
	}
	return k, nil
}
