package kernels

import (
	"cmp"
	"slices"
)

// Places is what gathers and scatters of single elements share: for an index
// tensor, where in a data tensor each of its elements points, its own place
// on all axes but one.
type Places struct {
	index   []int // shape of the index tensor
	strides []int // of the data tensor
	axis, n int   // the axis that the index replaces, and its length
}

// NewPlaces returns the places of an index tensor of that shape in a data
// tensor. The index must fit the data on all axes but axis.
func NewPlaces(data, index []int, axis int) *Places {
	p := &Places{index: index, strides: make([]int, len(data)), axis: axis, n: data[axis]}
	step := 1
	for a := len(data) - 1; a >= 0; a-- {
		p.strides[a] = step
		step *= data[a]
	}
	return p
}

// at returns where element i of the index tensor points, -1 where k is out of
// range. A k below 0 counts from the end.
func (p *Places) at(i int, k int64) int {
	if k < 0 {
		k += int64(p.n)
	}
	if k < 0 || k >= int64(p.n) {
		return -1
	}
	at := int(k) * p.strides[p.axis]
	for a := len(p.index) - 1; a >= 0; a-- {
		if a != p.axis {
			at += i % p.index[a] * p.strides[a]
		}
		i /= p.index[a]
	}
	return at
}

// GatherElements writes out[i] = in at the place of index[i]. It returns the
// first index that is out of range, -1 where none is.
func GatherElements[T any](p *Places, out, in []T, index []int64) int {
	for i, k := range index {
		at := p.at(i, k)
		if at < 0 {
			return i
		}
		out[i] = in[at]
	}
	return -1
}

// ScatterElements puts updates[i] at the place of index[i] in out, which is a
// copy of the data; reduce, where it is not nil, combines it with what is
// there. It returns like GatherElements.
func ScatterElements[T any](p *Places, out, updates []T, index []int64, reduce func(old, new T) T) int {
	for i, k := range index {
		at := p.at(i, k)
		switch {
		case at < 0:
			return i
		case reduce != nil:
			out[at] = reduce(out[at], updates[i])
		default:
			out[at] = updates[i]
		}
	}
	return -1
}

// Blocks finds the blocks that tuples of indices name: tuple j holds the
// first len(dims) coordinates of a block of the data.
type Blocks struct {
	dims, strides []int
	block         int // elements of a block
}

// NewBlocks returns the blocks of a data tensor that are named by tuples of n
// indices.
func NewBlocks(data []int, n int) *Blocks {
	b := &Blocks{dims: data[:n], strides: make([]int, n), block: 1}
	for _, d := range data[n:] {
		b.block *= d
	}
	step := b.block
	for a := n - 1; a >= 0; a-- {
		b.strides[a] = step
		step *= data[a]
	}
	return b
}

// at returns where the block of a tuple begins, -1 where it is out of range.
func (b *Blocks) at(tuple []int64) int {
	at := 0
	for a, k := range tuple {
		if k < 0 {
			k += int64(b.dims[a])
		}
		if k < 0 || k >= int64(b.dims[a]) {
			return -1
		}
		at += int(k) * b.strides[a]
	}
	return at
}

// GatherND copies the blocks that count tuples name, within each of batches
// parts of in. It returns the first tuple out of range, -1 where none is.
func GatherND[T any](b *Blocks, out, in []T, index []int64, batches, count int) int {
	width := len(b.dims)
	for i := range batches * count {
		part := in[i/count*(len(in)/batches):]
		at := b.at(index[i*width : (i+1)*width])
		if at < 0 {
			return i
		}
		copy(out[i*b.block:(i+1)*b.block], part[at:])
	}
	return -1
}

// ScatterND puts the blocks of updates where count tuples say in out, which
// is a copy of the data, as ScatterElements does.
func ScatterND[T any](b *Blocks, out, updates []T, index []int64, count int, reduce func(old, new T) T) int {
	width := len(b.dims)
	for i := range count {
		at := b.at(index[i*width : (i+1)*width])
		if at < 0 {
			return i
		}
		to, from := out[at:at+b.block], updates[i*b.block:(i+1)*b.block]
		if reduce == nil {
			copy(to, from)
			continue
		}
		for j, v := range from {
			to[j] = reduce(to[j], v)
		}
	}
	return -1
}

// ArgBest writes, for each column of in [outer, n, inner], the number of the
// largest element (of the smallest, where smallest is set): of several equal
// ones the first, or the last where last is set. NaN is larger than all.
func ArgBest[T Number](out []int64, in []T, outer, n, inner int, smallest, last bool) {
	for o := range outer {
		for i := range inner {
			best := 0
			for k := range n {
				c := compareNumbers(in[(o*n+k)*inner+i], in[(o*n+best)*inner+i])
				if smallest {
					c = -c
				}
				if c > 0 || (c == 0 && last) {
					best = k
				}
			}
			out[o*inner+i] = int64(best)
		}
	}
}

// compareNumbers orders numbers, NaN last.
func compareNumbers[T Number](a, b T) int {
	switch {
	case a < b:
		return -1
	case a > b:
		return 1
	case a == b:
		return 0
	}
	return -cmp.Compare(btoi(b != b), btoi(a != a))
}

func btoi(b bool) int {
	if b {
		return 1
	}
	return 0
}

// TopK writes the k best elements of each column of in [outer, n, inner], the
// best first, and their numbers; of equal ones the one with the lower number
// comes first. order has room for n numbers. values or index may be nil.
func TopK[T Number](values []T, index []int64, in []T, order []int64, outer, n, inner, k int, smallest bool) {
	order = order[:n]
	for o := range outer {
		for i := range inner {
			for j := range order {
				order[j] = int64(j)
			}
			base := o*n*inner + i
			slices.SortFunc(order, func(a, b int64) int {
				c := compareNumbers(in[base+int(b)*inner], in[base+int(a)*inner])
				if smallest {
					c = -c
				}
				return cmp.Or(c, cmp.Compare(a, b))
			})
			for j, from := range order[:k] {
				to := (o*k+j)*inner + i
				if values != nil {
					values[to] = in[base+int(from)*inner]
				}
				if index != nil {
					index[to] = from
				}
			}
		}
	}
}
