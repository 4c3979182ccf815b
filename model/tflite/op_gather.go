package tflite

import "slices"

// Operators that choose or repeat elements by place.

// lowerGather is that of GATHER.
func lowerGather(l *lowering, o *op) error {
	x, index := l.shape(o.in[0]), l.shape(o.in[1])
	axis := l.axis(int(o.options.int32(0, 0)), len(x))
	if o.options.int32(1, 0) != 0 {
		return refuse("batch_dims %d", o.options.int32(1, 0))
	}
	if l.err != nil {
		return l.err
	}
	y := l.emit("Gather", attrs{"axis": int64(axis)}, l.plain(o.in[0], asFile), l.plain(o.in[1], asFile))
	l.define(o.out[0], y, asFile, slices.Concat(x[:axis], index, x[axis+1:]))
	return l.err
}

// lowerEmbedding is that of EMBEDDING_LOOKUP: rows of the second input.
func lowerEmbedding(l *lowering, o *op) error {
	index, table := l.shape(o.in[0]), l.shape(o.in[1])
	if l.err == nil && len(table) == 0 {
		return o.bad("rows of %v", table)
	}
	if l.err != nil {
		return l.err
	}
	y := l.emit("Gather", attrs{"axis": int64(0)}, l.plain(o.in[1], asFile), l.plain(o.in[0], asFile))
	l.define(o.out[0], y, asFile, slices.Concat(index, table[1:]))
	return l.err
}

// lowerGatherND is that of GATHER_ND: the last axis of the second input is
// the place along the first axes of the first.
func lowerGatherND(l *lowering, o *op) error {
	x, index := l.shape(o.in[0]), l.shape(o.in[1])
	n := len(index) - 1
	if l.err == nil && (n < 0 || index[n] < 0 || index[n] > len(x)) {
		return o.bad("places %v in %v", index, x)
	}
	if l.err != nil {
		return l.err
	}
	y := l.emit("GatherND", attrs{"batch_dims": int64(0)}, l.plain(o.in[0], asFile), l.int64Of(o.in[1]))
	l.define(o.out[0], y, asFile, slices.Concat(index[:n], x[index[n]:]))
	return l.err
}

// lowerTile is that of TILE.
func lowerTile(l *lowering, o *op) error {
	shape, times := slices.Clone(l.shape(o.in[0])), l.constants(o.in[1], "multiples")
	if l.err == nil && len(times) != len(shape) {
		return o.bad("multiples %v of %v", times, shape)
	}
	for a, n := range times {
		if n < 1 || tooLong(shape[a], n) {
			return o.bad("multiples %v of %v", times, shape)
		}
		if shape[a] > 0 {
			shape[a] *= n
		}
	}
	l.define(o.out[0], l.emit("Tile", nil, l.plain(o.in[0], asFile), l.ints(times...)), asFile, shape)
	return l.err
}

// lowerBroadcastTo is that of BROADCAST_TO.
func lowerBroadcastTo(l *lowering, o *op) error {
	to := l.constants(o.in[1], "shape")
	if l.err != nil {
		return l.err
	}
	shape, err := broadcast(o, l.shape(o.in[0]), to)
	if err != nil {
		return err
	}
	l.define(o.out[0], l.emit("Expand", nil, l.plain(o.in[0], asFile), l.ints(to...)), asFile, shape)
	return l.err
}
