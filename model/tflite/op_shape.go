package tflite

import (
	"slices"

	"dunlin/model"
)

// Operators that move elements, and those that work on shapes. Where a shape
// is known, arithmetic on it is done here and leaves constants.

// lowerReshape is that of RESHAPE. The new shape is an input, or in files
// without one an option.
func lowerReshape(l *lowering, o *op) error {
	v := l.value(o.in[0])
	dims, ok := l.known(o.input(1))
	if !ok && o.input(1) < 0 {
		dims, ok = o.options.ints(0), o.options.field(0, 4) >= 0
	}
	switch {
	case l.err != nil:
		return l.err
	case o.input(1) >= 0 && !ok:
		return l.reshapeUnknown(o)
	case !ok:
		return o.bad("it has no shape to go to")
	}
	shape, err := reshaped(o, v.shape, dims)
	if err != nil {
		return err
	}
	if v.raw != nil && (v.quant == nil || len(v.quant.scale) == 1) && shape.Known() {
		l.values[o.out[0]] = &value{shape: shape, quant: v.quant, raw: &model.Tensor{Type: v.raw.Type, Shape: shape, Data: v.raw.Data}}
		return nil
	}
	if shape.Equal(v.shape) && shape.Known() && v.quant.equal(l.activation(o.out[0])) {
		l.alias(o.out[0], o.in[0])
		return l.err
	}
	positive := v.positive
	l.define(o.out[0], l.reshape(l.plain(o.in[0], asFile), dims...), asFile, shape).positive = positive
	return l.err
}

// reshapeUnknown is for a shape that is computed in the run.
func (l *lowering) reshapeUnknown(o *op) error {
	s := l.shape(o.in[1])
	if len(s) != 1 || s[0] < 0 || s[0] > 16 {
		return refuse("a new shape of %v lengths, which are not known before the run", s)
	}
	y := l.emit("Reshape", nil, l.plain(o.in[0], asFile), l.int64Of(o.in[1]))
	l.define(o.out[0], y, asFile, slices.Repeat(model.Shape{model.Unknown}, s[0]))
	return l.err
}

// int64Of returns tensor i as I64.
func (l *lowering) int64Of(i int) string {
	if l.f.tensors[i].dtype() == model.I64 {
		return l.plain(i, asFile)
	}
	return l.cast(l.plain(i, asFile), model.I64)
}

// reshaped returns dims with the length that -1 stands for.
func reshaped(o *op, from model.Shape, dims []int) (model.Shape, error) {
	shape, rest, known := model.Shape(append([]int{}, dims...)), -1, int64(1)
	for i, d := range dims {
		switch {
		case d == -1 && rest < 0:
			rest = i
		case d < 1 || int64(d) > model.MaxElements/known:
			return nil, o.bad("%v to %v", from, dims)
		default:
			known *= int64(d)
		}
	}
	total, err := from.Elements()
	if err != nil {
		return shape, nil // with lengths that are not known, the rest is not known either
	}
	if rest >= 0 && int64(total)%known == 0 {
		shape[rest] = int(int64(total) / known)
		known *= int64(shape[rest])
	}
	if known != int64(total) {
		return nil, o.bad("%v to %v: %d elements", from, dims, total)
	}
	return shape, nil
}

// viewed defines tensor out as tensor in with axes of length 1 put in or
// taken out, which the operator of that name does.
func (l *lowering) viewed(o *op, name string, axes []int, shape model.Shape) error {
	v := l.value(o.in[0])
	if l.err != nil {
		return l.err
	}
	if v.raw != nil && v.quant == nil && shape.Known() {
		l.values[o.out[0]] = &value{shape: shape, raw: &model.Tensor{Type: v.raw.Type, Shape: shape, Data: v.raw.Data}}
		return nil
	}
	positive := v.positive
	l.define(o.out[0], l.emit(name, nil, l.plain(o.in[0], asFile), l.ints(axes...)), asFile, shape).positive = positive
	return l.err
}

func lowerExpandDims(l *lowering, o *op) error {
	shape := slices.Clone(l.shape(o.in[0]))
	axes := l.axes(o.in[1], len(shape)+1)
	if l.err == nil && len(axes) != 1 {
		return o.bad("axes %v", axes)
	}
	if l.err != nil {
		return l.err
	}
	return l.viewed(o, "Unsqueeze", axes, slices.Insert(shape, axes[0], 1))
}

func lowerSqueeze(l *lowering, o *op) error {
	from := l.shape(o.in[0])
	axes := o.options.ints(0)
	for k, a := range axes {
		axes[k] = l.axis(a, len(from))
	}
	if len(axes) == 0 {
		for a, d := range from {
			if d == 1 {
				axes = append(axes, a)
			}
		}
	}
	shape := model.Shape{}
	for a, d := range from {
		if !slices.Contains(axes, a) {
			shape = append(shape, d)
		} else if d > 1 {
			return o.bad("axis %d of %v is not 1", a, from)
		}
	}
	slices.Sort(axes)
	return l.viewed(o, "Squeeze", slices.Compact(axes), shape)
}

// lowerShape is that of SHAPE.
func lowerShape(l *lowering, o *op) error {
	s := l.shape(o.in[0])
	if s.Known() {
		l.fold(o.out[0], s, model.Shape{len(s)})
		return l.err
	}
	y := l.emit("Shape", nil, l.plain(o.in[0], asFile))
	if t := l.f.tensors[o.out[0]].dtype(); t != model.I64 {
		y = l.cast(y, t)
	}
	l.define(o.out[0], y, asFile, model.Shape{len(s)}).positive = true
	return l.err
}

func lowerTranspose(l *lowering, o *op) error {
	from := l.shape(o.in[0])
	axes := l.axes(o.in[1], len(from))
	shape, perm := make(model.Shape, len(axes)), int64s(axes...)
	for k, a := range axes {
		if l.err == nil {
			shape[k] = from[a]
		}
	}
	if l.err == nil && (len(axes) != len(from) || len(slices.Compact(slices.Sorted(slices.Values(axes)))) != len(from)) {
		return o.bad("order %v of the axes of %v", axes, from)
	}
	l.define(o.out[0], l.emit("Transpose", attrs{"perm": perm}, l.plain(o.in[0], asFile)), asFile, shape)
	return l.err
}

// lowerConcat is that of CONCATENATION.
func lowerConcat(l *lowering, o *op) error {
	shape := slices.Clone(l.shape(o.in[0]))
	axis := l.axis(int(o.options.int32(0, 0)), len(shape))
	for _, i := range o.in[1:] {
		s := l.shape(i)
		if l.err != nil {
			return l.err
		}
		if len(s) != len(shape) {
			return o.bad("%v beside %v", s, shape)
		}
		for a, d := range s {
			switch {
			case a == axis && (d == model.Unknown || shape[a] == model.Unknown):
				shape[a] = model.Unknown
			case a == axis:
				shape[a] += d
			case shape[a] == model.Unknown:
				shape[a] = d
			}
		}
	}
	if l.err == nil && len(shape) == 1 && l.joined(o, shape) {
		return l.err
	}
	lay := l.follow(o.in...)
	var in []string
	for _, i := range o.in {
		in = append(in, l.plain(i, lay))
	}
	y := l.emit("Concat", attrs{"axis": int64(lay.axis(axis, len(shape)))}, in...)
	l.define(o.out[0], l.activate(y, o.options.int8(1, 0)), lay, shape)
	return l.err
}

// joined makes a constant of inputs that are all known integers, and reports
// whether they are.
func (l *lowering) joined(o *op, shape model.Shape) bool {
	if t := l.f.tensors[o.out[0]].dtype(); (t != model.I32 && t != model.I64) || l.f.tensors[o.out[0]].quant != nil {
		return false
	}
	var all []int
	for _, i := range o.in {
		list, ok := l.known(i)
		if !ok || len(all)+len(list) > maxKnown {
			return false
		}
		all = append(all, list...)
	}
	if n, err := shape.Elements(); err != nil || n != len(all) {
		return false
	}
	l.fold(o.out[0], all, shape)
	return true
}

// lowerPack is that of PACK: each input gets a new axis, along which they
// are joined.
func lowerPack(l *lowering, o *op) error {
	from := l.shape(o.in[0])
	axis := l.axis(int(o.options.int32(1, 0)), len(from)+1)
	if l.err != nil {
		return l.err
	}
	shape := slices.Insert(slices.Clone(from), axis, len(o.in))
	if len(shape) == 1 && l.joined(o, shape) {
		return l.err
	}
	at := l.ints(axis)
	var in []string
	for _, i := range o.in {
		if s := l.shape(i); l.err == nil && len(s) != len(from) {
			return o.bad("%v beside %v", s, from)
		}
		in = append(in, l.emit("Unsqueeze", nil, l.plain(i, asFile), at))
	}
	y := in[0]
	if len(in) > 1 {
		y = l.emit("Concat", attrs{"axis": int64(axis)}, in...)
	}
	l.define(o.out[0], y, asFile, shape)
	return l.err
}

// lowerUnpack is that of UNPACK, the inverse of PACK.
func lowerUnpack(l *lowering, o *op) error {
	from := l.shape(o.in[0])
	axis := l.axis(int(o.options.int32(1, 0)), len(from))
	if l.err != nil {
		return l.err
	}
	if d := from[axis]; d != len(o.out) && d != model.Unknown {
		return o.bad("%d results of axis %d of %v", len(o.out), axis, from)
	}
	parts := []string{l.plain(o.in[0], asFile)}
	if len(o.out) > 1 {
		parts = l.emitAll("Split", attrs{"axis": int64(axis)}, len(o.out), parts...)
	}
	at := l.ints(axis)
	if l.err != nil {
		return l.err
	}
	shape := slices.Delete(slices.Clone(from), axis, axis+1)
	for k, i := range o.out {
		l.define(i, l.emit("Squeeze", nil, parts[k], at), asFile, shape)
	}
	return l.err
}

// lowerSplit is that of SPLIT, in equal parts, and SPLIT_V, in given ones.
func lowerSplit(l *lowering, o *op) error {
	x, axisInput, sizes := o.in[1], o.in[0], []int(nil)
	if o.name == "SPLIT_V" {
		if len(o.in) < 3 {
			return o.bad("%d inputs", len(o.in))
		}
		x, axisInput, sizes = o.in[0], o.in[2], l.constants(o.in[1], "sizes")
	}
	from := l.shape(x)
	axes := l.axes(axisInput, len(from))
	if l.err == nil && (len(axes) != 1 || (sizes != nil && len(sizes) != len(o.out))) {
		return o.bad("axes %v, sizes %v for %d results", axes, sizes, len(o.out))
	}
	if l.err != nil {
		return l.err
	}
	axis, total := axes[0], from[axes[0]]
	if total == model.Unknown {
		return refuse("the length of axis %d is not known before the run", axis)
	}
	if sizes == nil {
		if total%len(o.out) != 0 {
			return o.bad("axis %d of %v in %d equal parts", axis, from, len(o.out))
		}
		sizes = slices.Repeat([]int{total / len(o.out)}, len(o.out))
	}
	for _, n := range sizes {
		total -= max(n, 0)
	}
	if k := slices.Index(sizes, -1); k >= 0 {
		sizes[k], total = total, 0
	}
	if total != 0 || slices.ContainsFunc(sizes, func(n int) bool { return n < 0 }) {
		return o.bad("axis %d of %v in parts of %v", axis, from, sizes)
	}
	lay := l.follow(x)
	in := []string{l.plain(x, lay)}
	if o.name == "SPLIT_V" {
		in = append(in, l.ints(sizes...))
	}
	parts := l.emitAll("Split", attrs{"axis": int64(lay.axis(axis, len(from)))}, len(o.out), in...)
	if l.err != nil {
		return l.err
	}
	for k, i := range o.out {
		shape := slices.Clone(from)
		shape[axis] = sizes[k]
		l.define(i, parts[k], lay, shape)
	}
	return l.err
}
