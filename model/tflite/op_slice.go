package tflite

import (
	"math"
	"slices"

	"dunlin/model"
)

// cut is what of one axis is taken: start, end and step as numpy has them,
// or a single place.
type cut struct {
	axis, start, end, step int
	single                 bool
}

// lowerStridedSlice is that of STRIDED_SLICE. Bit i of a mask says of entry i
// of begin, end and strides: begin or end is left out, the entry stands for
// all axes that no other names (ellipsis), it is a new axis of length 1, or
// it takes a single place and the axis goes.
func lowerStridedSlice(l *lowering, o *op) error {
	t := &o.options
	from := l.shape(o.in[0])
	begin, end, step := l.constants(o.in[1], "begin"), l.constants(o.in[2], "end"), l.constants(o.in[3], "strides")
	if l.err != nil {
		return l.err
	}
	if len(begin) != len(end) || len(begin) != len(step) || len(begin) > 31 {
		return o.bad("begin %v, end %v, strides %v", begin, end, step)
	}
	bit := func(mask, i int) bool { return t.int32(mask, 0)>>i&1 != 0 }
	named := 0 // axes that have an entry of their own
	for i := range begin {
		if !bit(2, i) && !bit(3, i) {
			named++
		}
	}
	var cuts []cut
	var fresh []int // places of new axes in the result
	axis, place := 0, 0
	for i := range begin {
		switch {
		case bit(2, i):
			skip := max(0, len(from)-named)
			axis, place = axis+skip, place+skip
		case bit(3, i):
			fresh = append(fresh, place)
			place++
		case axis >= len(from) || step[i] == 0:
			return o.bad("entry %d of begin %v, strides %v for %v", i, begin, step, from)
		default:
			c := cut{axis: axis, start: begin[i], end: end[i], step: step[i], single: bit(4, i)}
			if t.bool(5) {
				c.end += c.start
			}
			if err := c.open(o, bit(0, i), bit(1, i), from[axis]); err != nil {
				return err
			}
			if !c.single {
				place++
			}
			cuts = append(cuts, c)
			axis++
		}
	}
	return l.cut(o, cuts, fresh)
}

// open applies the masks of an entry over an axis of length n.
func (c *cut) open(o *op, noBegin, noEnd bool, n int) error {
	if c.single {
		if c.step = 1; noBegin {
			c.start = 0
		}
		if n >= 0 && (c.start < -n || c.start >= n) {
			return o.bad("place %d of axis %d, which has %d", c.start, c.axis, n)
		}
		if c.end = c.start + 1; c.end == 0 {
			c.end = math.MaxInt32
		}
		return nil
	}
	if noBegin {
		c.start = 0
		if c.step < 0 {
			c.start = math.MaxInt32
		}
	}
	if noEnd {
		c.end = math.MaxInt32
		if c.step < 0 {
			c.end = math.MinInt32
		}
	}
	return nil
}

// over returns the places that c takes of n: the first, and how many.
func (c *cut) over(n int) (first, count int) {
	lo, hi := 0, n
	if c.step < 0 {
		lo, hi = -1, n-1
	}
	bound := func(v int) int {
		if v < 0 {
			v = max(v, -n-1) + n
		}
		return min(max(v, lo), hi)
	}
	start, end, step := bound(c.start), bound(c.end), c.step
	room := end - start
	if step < 0 {
		room, step = -room, -step
	}
	if room <= 0 {
		return 0, 0
	}
	return start, (room-1)/step + 1
}

// cut defines the result of o as what cuts take of its first input, with new
// axes at the places fresh.
func (l *lowering) cut(o *op, cuts []cut, fresh []int) error {
	from := l.shape(o.in[0])
	length := slices.Clone(from)
	var starts, ends, axes, steps, gone []int
	for _, c := range cuts {
		n := from[c.axis]
		if n >= 0 {
			_, length[c.axis] = c.over(n)
		}
		if c.single {
			gone = append(gone, c.axis)
		}
		if n >= 0 && length[c.axis] == n && c.step == 1 {
			continue
		}
		starts, ends, axes, steps = append(starts, c.start), append(ends, c.end), append(axes, c.axis), append(steps, c.step)
	}
	shape := model.Shape{}
	for a, n := range length {
		if !slices.Contains(gone, a) {
			shape = append(shape, n)
		}
	}
	for _, at := range fresh {
		shape = slices.Insert(shape, min(at, len(shape)), 1)
	}
	if list, ok := l.known(o.in[0]); ok && len(from) == 1 && len(cuts) == 1 {
		first, count := cuts[0].over(from[0])
		some := make([]int, count)
		for k := range some {
			some[k] = list[first+k*cuts[0].step]
		}
		l.fold(o.out[0], some, shape)
		return l.err
	}
	positive := l.value(o.in[0]).positive
	y := l.plain(o.in[0], asFile)
	if starts != nil {
		y = l.emit("Slice", nil, y, l.ints(starts...), l.ints(ends...), l.ints(axes...), l.ints(steps...))
	}
	if gone != nil {
		y = l.emit("Squeeze", nil, y, l.ints(gone...))
	}
	if fresh != nil {
		y = l.emit("Unsqueeze", nil, y, l.ints(fresh...))
	}
	l.define(o.out[0], y, asFile, shape).positive = positive
	return l.err
}

// lowerSlice is that of SLICE: where it begins on each axis, and how many, -1
// for all that follow.
func lowerSlice(l *lowering, o *op) error {
	from := l.shape(o.in[0])
	begin, size := l.constants(o.in[1], "begin"), l.constants(o.in[2], "size")
	if l.err != nil {
		return l.err
	}
	if len(begin) != len(from) || len(size) != len(from) {
		return o.bad("begin %v, size %v of %v", begin, size, from)
	}
	cuts := make([]cut, len(from))
	for a, n := range size {
		cuts[a] = cut{axis: a, start: begin[a], end: math.MaxInt32, step: 1}
		if n >= 0 {
			cuts[a].end = begin[a] + n
		}
		if begin[a] < 0 || n < -1 || (from[a] >= 0 && n >= 0 && n > from[a]-begin[a]) {
			return o.bad("begin %v, size %v of %v", begin, size, from)
		}
	}
	return l.cut(o, cuts, nil)
}
