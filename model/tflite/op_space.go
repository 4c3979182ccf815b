package tflite

import (
	"math"
	"slices"

	"dunlin/model"
)

// lowerPad is that of PAD, and of PADV2, which names the value put in. Where
// zeros go around height and width alone, a convolution behind it takes them
// over; Pad is then read by nobody and goes.
func lowerPad(l *lowering, o *op) error {
	v, flat := l.value(o.in[0]), l.constants(o.in[1], "paddings")
	if l.err != nil {
		return l.err
	}
	rank := len(v.shape)
	if len(flat) != 2*rank {
		return o.bad("paddings %v of %v", flat, v.shape)
	}
	lay, shape, pads := l.follow(o.in[0]), slices.Clone(v.shape), make([]int, 2*rank)
	for a := range rank {
		before, after := flat[2*a], flat[2*a+1]
		if before < 0 || after < 0 || before > maxPad || after > maxPad {
			return o.bad("paddings %v of %v", flat, v.shape)
		}
		to := lay.axis(a, rank)
		pads[to], pads[to+rank] = before, after
		if shape[a] >= 0 {
			shape[a] += before + after
		}
	}
	in, a := []string{l.plain(o.in[0], lay), l.ints(pads...)}, attrs{"mode": "constant"}
	switch {
	case o.name == "MIRROR_PAD" && o.options.int8(0, 0) != 0:
		return refuse("padding that repeats the border (SYMMETRIC)")
	case o.name == "MIRROR_PAD":
		a["mode"] = "reflect"
	case o.input(2) >= 0:
		in = append(in, l.plain(o.in[2], asFile))
	}
	w := l.define(o.out[0], l.emit("Pad", a, in...), lay, shape)
	if o.name == "PAD" && rank == 4 && flat[0]+flat[1]+flat[6]+flat[7] == 0 && v.quant.equal(w.quant) {
		w.padded = &padding{from: o.in[0], pads: [4]int{flat[2], flat[4], flat[3], flat[5]}}
	}
	return l.err
}

// maxPad bounds paddings, crops and blocks, so that no sum overflows.
const maxPad = 1 << 20

// tooLong reports whether an axis n times as long passes what the file can
// write.
func tooLong(axis, n int) bool { return int64(axis)*int64(n) > math.MaxInt32 }

// spaces are the inputs that SPACE_TO_BATCH_ND and its inverse share: the
// block, and the paddings or crops, of the m axes behind the first.
func (l *lowering) spaces(o *op) (m int, block, edges []int, err error) {
	block, edges = l.constants(o.in[1], "block"), l.constants(o.in[2], "paddings")
	if l.err != nil {
		return 0, nil, nil, l.err
	}
	s := l.shape(o.in[0])
	if m = len(block); m < 1 || len(s) < m+1 || len(edges) != 2*m {
		return 0, nil, nil, o.bad("block %v, edges %v of %v", block, edges, s)
	}
	for k, b := range block {
		if b < 1 || b > maxPad || edges[2*k] < 0 || edges[2*k+1] < 0 || max(edges[2*k], edges[2*k+1]) > maxPad {
			return 0, nil, nil, o.bad("block %v, edges %v of %v", block, edges, s)
		}
	}
	if !s.Known() {
		return 0, nil, nil, refuse("its input %v is not known before the run", s)
	}
	return m, block, edges, nil
}

// lowerSpaceToBatch is that of SPACE_TO_BATCH_ND:
//
//	[N, H, W, …] -> pad -> [N, H/b, b, W/c, c, …] -> [b, c, N, H/b, W/c, …] -> [b*c*N, H/b, W/c, …]
func lowerSpaceToBatch(l *lowering, o *op) error {
	m, block, edges, err := l.spaces(o)
	if err != nil {
		return err
	}
	s := slices.Clone(l.shape(o.in[0]))
	rank, pads := len(s), make([]int, 2*len(s))
	split, perm, batch := []int{s[0]}, []int{}, s[0]
	for k, b := range block {
		pads[k+1], pads[k+1+rank] = edges[2*k], edges[2*k+1]
		s[k+1] += edges[2*k] + edges[2*k+1]
		if s[k+1]%b != 0 || tooLong(batch, b) {
			return o.bad("axis %d of length %d in blocks of %d", k+1, s[k+1], b)
		}
		s[k+1] /= b
		batch *= b
		split, perm = append(split, s[k+1], b), append(perm, 2*k+2)
	}
	perm = append(perm, 0)
	for k := range m {
		perm = append(perm, 2*k+1)
	}
	for a := m + 1; a < rank; a++ {
		split, perm = append(split, s[a]), append(perm, a+m)
	}
	s[0] = batch
	y := l.emit("Pad", attrs{"mode": "constant"}, l.plain(o.in[0], asFile), l.ints(pads...))
	y = l.emit("Transpose", attrs{"perm": int64s(perm...)}, l.reshape(y, split...))
	v := l.define(o.out[0], l.reshape(y, s...), asFile, s)
	if m == 2 && rank == 4 {
		v.batched = &batching{o.in[0], [2]int{block[0], block[1]}, [4]int{edges[0], edges[2], edges[1], edges[3]}}
	}
	return l.err
}

// lowerBatchToSpace is that of BATCH_TO_SPACE_ND, the inverse.
func lowerBatchToSpace(l *lowering, o *op) error {
	m, block, crops, err := l.spaces(o)
	if err != nil {
		return err
	}
	if c := l.dilated(o, block, crops); c != nil {
		return l.convolve(c, o.out[0])
	}
	s := slices.Clone(l.shape(o.in[0]))
	split, perm := slices.Clone(block), []int{m}
	var starts, ends, axes []int
	for k, b := range block {
		if s[0]%b != 0 || tooLong(s[k+1], b) {
			return o.bad("%d batches in blocks of %v", s[0], block)
		}
		s[0] /= b
		perm = append(perm, m+1+k, k)
	}
	split = append(split, s...)
	for a := m + 1; a < len(s); a++ {
		perm = append(perm, m+a)
	}
	for k, b := range block {
		s[k+1] *= b
	}
	y := l.emit("Transpose", attrs{"perm": int64s(perm...)}, l.reshape(l.plain(o.in[0], asFile), split...))
	y = l.reshape(y, s...)
	for k := range block {
		if crops[2*k]+crops[2*k+1] > s[k+1] {
			return o.bad("crops %v of %v", crops, s)
		}
		starts, ends, axes = append(starts, crops[2*k]), append(ends, s[k+1]-crops[2*k+1]), append(axes, k+1)
		s[k+1] -= crops[2*k] + crops[2*k+1]
	}
	if slices.ContainsFunc(crops, func(n int) bool { return n != 0 }) {
		y = l.emit("Slice", nil, y, l.ints(starts...), l.ints(ends...), l.ints(axes...))
	}
	l.define(o.out[0], y, asFile, s)
	return l.err
}

// dilated returns the one convolution that o, which is a BATCH_TO_SPACE_ND,
// and the two operators before it are:
//
//	SPACE_TO_BATCH_ND -> CONV_2D, VALID, stride 1 -> BATCH_TO_SPACE_ND
//
// or nil where they are none. Each batch holds every b-th row and column, so
// the kernel reaches places that are b apart. What is cropped off the result
// comes from padding that need not be there.
func (l *lowering) dilated(o *op, block, crops []int) *convolution {
	if l.maker[o.in[0]] < 0 || len(block) != 2 {
		return nil
	}
	before := &op{operator: l.f.operators[l.maker[o.in[0]]], index: l.maker[o.in[0]]}
	code := l.f.codes[before.code]
	before.name = operatorName(code)
	if code.builtin == builtinCustom || (before.name != "CONV_2D" && before.name != "DEPTHWISE_CONV_2D") {
		return nil
	}
	c := convOf(before, before.name == "DEPTHWISE_CONV_2D")
	b := l.value(c.from).batched
	if b == nil || c.same || c.stride != [2]int{1, 1} || c.dilation != [2]int{1, 1} || b.block != [2]int(block) ||
		!l.activation(o.in[0]).equal(l.activation(o.out[0])) {
		return nil
	}
	c.from, c.dilation = b.from, b.block
	for i, n := range b.pads {
		if c.pads[i] = n - crops[[4]int{0, 2, 1, 3}[i]]; c.pads[i] < 0 {
			return nil
		}
	}
	return c
}

// depthSpace returns the function for DEPTH_TO_SPACE and SPACE_TO_DEPTH,
// whose channels are in the order that ONNX calls DCR.
func depthSpace(name string, deeper bool) lowerFunc {
	return func(l *lowering, o *op) error {
		s, b := slices.Clone(l.shape(o.in[0])), int(o.options.int32(0, 0))
		if len(s) != 4 || b < 1 || b > 1024 || !s.Known() {
			return o.bad("blocks of %d in %v", b, s)
		}
		if deeper {
			s[1], s[2], s[3] = s[1]/b, s[2]/b, s[3]*b*b
		} else {
			s[1], s[2], s[3] = s[1]*b, s[2]*b, s[3]/(b*b)
		}
		a := attrs{"blocksize": int64(b)}
		if !deeper {
			a["mode"] = "DCR"
		}
		l.define(o.out[0], l.emit(name, a, l.plain(o.in[0], nchw)), nchw, s)
		return l.err
	}
}

// lowerResize is that of RESIZE_BILINEAR and RESIZE_NEAREST_NEIGHBOR. Fields
// align_corners and half_pixel_centers of the options follow each other.
func lowerResize(l *lowering, o *op) error {
	s, size := l.shape(o.in[0]), l.constants(o.in[1], "size")
	if l.err != nil {
		return l.err
	}
	if len(s) != 4 || len(size) != 2 || size[0] < 1 || size[1] < 1 {
		return o.bad("%v to %v", s, size)
	}
	if s[0] < 0 || s[3] < 0 {
		return refuse("its input %v is not known before the run", s)
	}
	a, first := attrs{"mode": "linear", "coordinate_transformation_mode": "asymmetric"}, 2
	if o.name == "RESIZE_NEAREST_NEIGHBOR" {
		// TFLite rounds up from the half with corners or centres, else down.
		a["mode"], a["nearest_mode"], first = "nearest", "floor", 0
	}
	switch {
	case o.options.bool(first):
		a["coordinate_transformation_mode"] = "align_corners"
	case o.options.bool(first + 1):
		a["coordinate_transformation_mode"] = "half_pixel"
	}
	if first == 0 && (o.options.bool(0) || o.options.bool(1)) {
		a["nearest_mode"] = "round_prefer_ceil"
	}
	y := l.emit("Resize", a, l.plain(o.in[0], nchw), "", "", l.ints(s[0], s[3], size[0], size[1]))
	l.define(o.out[0], y, nchw, model.Shape{s[0], size[0], size[1], s[3]})
	return l.err
}
