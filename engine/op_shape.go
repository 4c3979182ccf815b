package engine

import (
	"fmt"
	"math"
	"slices"

	"dunlin/kernels"
	"dunlin/model"
)

// lowerAlias is for operators whose output has the bytes of their first
// input, in another shape.
func lowerAlias(c *call) (*kernel, error) {
	k := named("copy")
	k.alias = true
	return k, nil
}

func inferReshape(c *call) error {
	dims, err := c.ints(1)
	if err != nil {
		return err
	}
	total, err := c.shape(0).Elements()
	if err != nil {
		return err
	}
	shape, rest, known := make(model.Shape, len(dims)), -1, 1
	for i, d := range dims {
		switch {
		case d == -1 && rest < 0:
			rest = i
			continue
		case d == 0 && c.node.Int("allowzero", 0) == 0:
			if i >= len(c.shape(0)) {
				return fmt.Errorf("%v to %v: there is no axis %d to keep", c.shape(0), dims, i)
			}
			d = int64(c.shape(0)[i])
		case d < 0 || d > model.MaxElements:
			return fmt.Errorf("%v to %v", c.shape(0), dims)
		}
		if d != 0 && int64(known) > int64(math.MaxInt)/max(d, 1) {
			return fmt.Errorf("%v to %v", c.shape(0), dims)
		}
		shape[i] = int(d)
		known *= int(d)
	}
	if rest >= 0 {
		if known == 0 || total%known != 0 {
			return fmt.Errorf("%v to %v: %d elements do not split into %d", c.shape(0), dims, total, known)
		}
		shape[rest] = total / known
		known *= shape[rest]
	}
	if known != total {
		return fmt.Errorf("%v to %v: %d elements are not %d", c.shape(0), dims, total, known)
	}
	return c.set(c.in[0].Type, shape...)
}

func inferFlatten(c *call) error {
	s := c.shape(0)
	axis := c.node.Int("axis", 1)
	if axis < 0 {
		axis += int64(len(s))
	}
	if axis < 0 || axis > int64(len(s)) {
		return fmt.Errorf("axis %d of %v", axis, s)
	}
	rows, err := s[:axis].Elements()
	if err != nil {
		return err
	}
	cols, err := s[axis:].Elements()
	if err != nil {
		return err
	}
	return c.set(c.in[0].Type, rows, cols)
}

// axes returns constant input i as sorted axes of a tensor of that rank.
func (c *call) axes(i, rank int) ([]int, error) {
	list, err := c.ints(i)
	if err != nil {
		return nil, err
	}
	axes := make([]int, len(list))
	for j, a := range list {
		if axes[j], err = axisOf(a, rank); err != nil {
			return nil, err
		}
	}
	slices.Sort(axes)
	if len(slices.Compact(slices.Clone(axes))) != len(axes) {
		return nil, fmt.Errorf("axes %v repeat", list)
	}
	return axes, nil
}

func inferSqueeze(c *call) error {
	s := c.shape(0)
	var shape model.Shape
	if !c.has(1) {
		for _, d := range s {
			if d != 1 {
				shape = append(shape, d)
			}
		}
		return c.set(c.in[0].Type, shape...)
	}
	axes, err := c.axes(1, len(s))
	if err != nil {
		return err
	}
	for i, d := range s {
		if !slices.Contains(axes, i) {
			shape = append(shape, d)
		} else if d != 1 {
			return fmt.Errorf("axis %d of %v is not 1", i, s)
		}
	}
	return c.set(c.in[0].Type, shape...)
}

func inferUnsqueeze(c *call) error {
	s := c.shape(0)
	list, err := c.ints(1)
	if err != nil {
		return err
	}
	axes, err := c.axes(1, len(s)+len(list))
	if err != nil {
		return err
	}
	shape := slices.Clone(s)
	for _, a := range axes {
		shape = slices.Insert(shape, a, 1)
	}
	return c.set(c.in[0].Type, shape...)
}

// permutation returns the order of a Transpose: reversed by default.
func permutation(n *model.Node, rank int) ([]int, error) {
	perm := make([]int, rank)
	given := n.Ints("perm")
	if given != nil && len(given) != rank {
		return nil, fmt.Errorf("order %v of %d axes", given, rank)
	}
	for i := range perm {
		perm[i] = rank - 1 - i
		if given != nil {
			if given[i] < 0 || given[i] >= int64(rank) {
				return nil, fmt.Errorf("order %v of %d axes", given, rank)
			}
			perm[i] = int(given[i])
		}
	}
	return perm, nil
}

func inferTranspose(c *call) error {
	s := c.shape(0)
	perm, err := permutation(c.node, len(s))
	if err != nil {
		return err
	}
	if _, err := kernels.NewTranspose(c.in[0].Type.Size(), s, perm); err != nil {
		return err
	}
	shape := make(model.Shape, len(s))
	for i, p := range perm {
		shape[i] = s[p]
	}
	return c.set(c.in[0].Type, shape...)
}

func lowerTranspose(c *call) (*kernel, error) {
	perm, err := permutation(c.node, len(c.shape(0)))
	if err != nil {
		return nil, err
	}
	t, err := kernels.NewTranspose(c.in[0].Type.Size(), c.shape(0), perm)
	if err != nil {
		return nil, err
	}
	if !t.Moves() {
		return lowerAlias(c)
	}
	t.Use(c.target)
	return transposeKernel(t), nil
}

// moves binds a kernel that moves the bytes of its first input.
func moves(run func(out, in []byte)) func(in, out []*model.Tensor, scratch []byte) func() error {
	return func(in, out []*model.Tensor, _ []byte) func() error {
		x, y := in[0].Data, out[0].Data
		return func() error { run(y, x); return nil }
	}
}

func inferConcat(c *call) error {
	s := slices.Clone(c.shape(0))
	axis, err := c.axis("axis", 0, len(s))
	if err != nil {
		return err
	}
	s[axis] = 0
	for i, v := range c.in {
		if v == nil || v.Type != c.in[0].Type || len(v.Shape) != len(s) {
			return fmt.Errorf("input %d does not fit the first", i)
		}
		for a, d := range v.Shape {
			if a == axis {
				s[a] += d
			} else if d != s[a] {
				return fmt.Errorf("%v cannot stand beside %v along axis %d", v.Shape, c.shape(0), axis)
			}
		}
	}
	return c.set(c.in[0].Type, s...)
}

func lowerConcat(c *call) (*kernel, error) {
	axis, err := c.axis("axis", 0, len(c.shape(0)))
	if err != nil {
		return nil, err
	}
	outer, _ := c.shape(0)[:axis].Elements()
	widths := make([]int, len(c.in))
	for i := range c.in {
		n, _ := c.shape(i)[axis:].Elements()
		widths[i] = n * c.in[0].Type.Size()
	}
	k := named("concat")
	tier, rows := kernels.CopyRows(c.target)
	k.tier = tier
	k.bind = func(in, out []*model.Tensor, _ []byte) func() error {
		parts := make([][]byte, len(in))
		for i, t := range in {
			parts[i] = t.Data
		}
		dst := out[0].Data
		return func() error { kernels.Concat(rows, dst, parts, widths, outer); return nil }
	}
	return k, nil
}

func inferGather(c *call) error {
	if err := c.want(1, model.I64, model.I32); err != nil {
		return err
	}
	s := c.shape(0)
	axis, err := c.axis("axis", 0, len(s))
	if err != nil {
		return err
	}
	return c.set(c.in[0].Type, slices.Concat(s[:axis], c.shape(1), s[axis+1:])...)
}

// chosen returns a Gather's index into n elements, where it is constant and
// in range.
func chosen(c *call, n int) []int32 {
	if c.constant(1) == nil {
		return nil
	}
	index, err := integers(c.constant(1))
	if err != nil {
		return nil
	}
	list := make([]int32, len(index))
	for i, k := range index {
		if k < 0 {
			k += int64(n)
		}
		if k < 0 || k >= int64(n) || n > math.MaxInt32 {
			return nil
		}
		list[i] = int32(k)
	}
	return list
}

func lowerGather(c *call) (*kernel, error) {
	s := c.shape(0)
	axis, err := c.axis("axis", 0, len(s))
	if err != nil {
		return nil, err
	}
	outer, _ := s[:axis].Elements()
	block, _ := s[axis+1:].Elements()
	block *= c.in[0].Type.Size()
	n := s[axis]
	k := named("gather")
	if list := chosen(c, n); block == 4 && list != nil {
		k.name = "choose"
		k.bind = func(in, out []*model.Tensor, _ []byte) func() error {
			x, y := elementsOf[uint32](in[0]), elementsOf[uint32](out[0])
			return func() error { kernels.Choose(y, x, list, outer, n); return nil }
		}
		return k, nil
	}
	count, _ := c.shape(1).Elements()
	k.bind = func(in, out []*model.Tensor, _ []byte) func() error {
		index, x, y := in[1], in[0].Data, out[0].Data
		wide := make([]int64, count)
		return func() error {
			list := wide
			if index.Type == model.I64 {
				list = index.I64()
			} else {
				for i, v := range index.I32() {
					list[i] = int64(v)
				}
			}
			if bad := kernels.Gather(y, x, list, outer, n, block); bad >= 0 {
				return fmt.Errorf("index %d of %d", list[bad], n)
			}
			return nil
		}
	}
	return k, nil
}

// cut is what Slice takes of each axis.
type cut struct{ start, step, length []int }

// cutOf reads the constants of a Slice node: starts, ends, axes, steps.
func cutOf(c *call) (cut, error) {
	s := c.shape(0)
	x := cut{start: make([]int, len(s)), step: repeat(1, len(s)), length: slices.Clone(s)}
	var lists [4][]int64
	for i := range lists {
		if i >= 2 && !c.has(i+1) {
			continue
		}
		var err error
		if lists[i], err = c.ints(i + 1); err != nil {
			return x, err
		}
		if len(lists[i]) != len(lists[0]) {
			return x, fmt.Errorf("input %d has %d values for %d axes", i+1, len(lists[i]), len(lists[0]))
		}
	}
	for i, start := range lists[0] {
		a, step := int64(i), int64(1)
		if lists[2] != nil {
			a = lists[2][i]
		}
		if lists[3] != nil {
			step = lists[3][i]
		}
		axis, err := axisOf(a, len(s))
		if err != nil {
			return x, err
		}
		if step == 0 || step < -math.MaxInt32 || step > math.MaxInt32 {
			return x, fmt.Errorf("step %d", step)
		}
		x.start[axis], x.length[axis] = sliceOf(int64(s[axis]), start, lists[1][i], step)
		x.step[axis] = int(step)
	}
	return x, nil
}

// sliceOf returns the first element and the count of start:end:step over n
// elements, as numpy does.
func sliceOf(n, start, end, step int64) (first, count int) {
	lo, hi := int64(0), n
	if step < 0 {
		lo, hi = -1, n-1
	}
	bound := func(v int64) int64 {
		if v < 0 {
			v = max(v, -n-1) + n
		}
		return min(max(v, lo), hi)
	}
	start, end = bound(start), bound(end)
	room := end - start
	if step < 0 {
		room, step = -room, -step
	}
	if room <= 0 {
		return 0, 0
	}
	return int(start), int((room + step - 1) / step)
}

func inferSlice(c *call) error {
	x, err := cutOf(c)
	if err != nil {
		return err
	}
	return c.set(c.in[0].Type, x.length...)
}

func lowerSlice(c *call) (*kernel, error) {
	x, err := cutOf(c)
	if err != nil {
		return nil, err
	}
	k := named("slice")
	tier, rows := kernels.CopyRows(c.target)
	part := kernels.NewSlice(c.shape(0), x.start, x.step, x.length, c.in[0].Type.Size())
	k.tier, k.bind = tier, moves(func(out, in []byte) { part.Run(rows, out, in) })
	return k, nil
}

// inferShape is of the operator Shape: the fold pass makes a constant of it.
func inferShape(c *call) error { return c.set(model.I64, len(shapeOf(c))) }

func shapeOf(c *call) []int64 {
	n := int64(len(c.shape(0)))
	bound := func(v int64) int64 {
		if v < 0 {
			v += n
		}
		return min(max(v, 0), n)
	}
	start, end := bound(c.node.Int("start", 0)), bound(c.node.Int("end", n))
	var list []int64
	for i := start; i < end; i++ {
		list = append(list, int64(c.shape(0)[i]))
	}
	return list
}

func lowerShape(c *call) (*kernel, error) {
	list := shapeOf(c)
	k := named("shape")
	k.bind = func(_, out []*model.Tensor, _ []byte) func() error {
		y := out[0].I64()
		return func() error { copy(y, list); return nil }
	}
	return k, nil
}

// transposeTensor returns a copy of t, seen in shape s, in another order of
// axes.
func transposeTensor(t *model.Tensor, s model.Shape, perm []int64) (*model.Tensor, error) {
	order, shape := make([]int, len(s)), make(model.Shape, len(s))
	for i, p := range perm {
		order[i], shape[i] = int(p), s[p]
	}
	move, err := kernels.NewTranspose(t.Type.Size(), s, order)
	if err != nil {
		return nil, err
	}
	out, err := model.NewTensor(t.Type, shape...)
	if err == nil {
		move.Run(out.Data, t.Data)
	}
	return out, err
}
