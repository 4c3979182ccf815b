package tflite

import (
	"slices"

	"dunlin/model"
)

// reduce returns the function for an operator over axes that an input names.
func reduce(name string) lowerFunc {
	return func(l *lowering, o *op) error {
		from := l.shape(o.in[0])
		rank, keep := len(from), o.options.bool(0)
		axes := l.axes(o.in[1], rank)
		if l.err != nil {
			return l.err
		}
		slices.Sort(axes)
		axes = slices.Compact(axes)
		shape := model.Shape{}
		for a, d := range from {
			switch {
			case !slices.Contains(axes, a):
				shape = append(shape, d)
			case keep:
				shape = append(shape, 1)
			}
		}
		area := rank == 4 && slices.Equal(axes, []int{1, 2})
		if name == "ReduceMean" && area {
			return l.globalPool(o, shape, keep)
		}
		lay := asFile
		if keep || area { // what is left of nchw without its area is N, C in both
			lay = l.follow(o.in[0])
		}
		to := make([]int, len(axes))
		for k, a := range axes {
			to[k] = lay.axis(a, rank)
		}
		kept := int64(0)
		if keep {
			kept = 1
		}
		y := l.emit(name, attrs{"keepdims": kept}, l.plain(o.in[0], lay), l.ints(to...))
		l.define(o.out[0], y, lay, shape)
		return l.err
	}
}

// globalPool is the mean over height and width.
func (l *lowering) globalPool(o *op, shape model.Shape, keep bool) error {
	y := l.emit("GlobalAveragePool", nil, l.plain(o.in[0], nchw))
	if !keep {
		y = l.emit("Flatten", attrs{"axis": int64(1)}, y)
	}
	l.define(o.out[0], y, nchw, shape)
	return l.err
}

// argument returns the function for ARG_MAX and ARG_MIN.
func argument(name string) lowerFunc {
	return func(l *lowering, o *op) error {
		from := l.shape(o.in[0])
		axes := l.axes(o.in[1], len(from))
		if l.err == nil && len(axes) != 1 {
			return o.bad("axes %v", axes)
		}
		if l.err != nil {
			return l.err
		}
		lay := asFile
		if axes[0] == len(from)-1 { // what is left of nchw without its channels is N, H, W in both
			lay = l.follow(o.in[0])
		}
		a := attrs{"axis": int64(lay.axis(axes[0], len(from))), "keepdims": int64(0)}
		y := l.emit(name, a, l.plain(o.in[0], lay))
		if t := l.f.tensors[o.out[0]].dtype(); t != model.I64 {
			y = l.cast(y, t)
		}
		l.define(o.out[0], y, asFile, slices.Delete(slices.Clone(from), axes[0], axes[0]+1)).positive = true
		return l.err
	}
}

// lowerTopK is that of TOPK_V2, along the last axis.
func lowerTopK(l *lowering, o *op) error {
	shape, k := slices.Clone(l.shape(o.in[0])), l.constants(o.in[1], "k")
	if l.err == nil && (len(shape) == 0 || len(k) != 1 || k[0] < 1 || len(o.out) != 2) {
		return o.bad("the %v greatest of %v", k, shape)
	}
	if l.err != nil {
		return l.err
	}
	shape[len(shape)-1] = k[0]
	a := attrs{"axis": int64(-1), "largest": int64(1), "sorted": int64(1)}
	out := l.emitAll("TopK", a, 2, l.plain(o.in[0], asFile), l.ints(k...))
	if l.err != nil {
		return l.err
	}
	index := out[1]
	if t := l.f.tensors[o.out[1]].dtype(); t != model.I64 {
		index = l.cast(index, t)
	}
	l.define(o.out[0], out[0], asFile, shape)
	l.define(o.out[1], index, asFile, shape).positive = true
	return l.err
}
