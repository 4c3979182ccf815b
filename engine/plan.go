package engine

import (
	"cmp"
	"slices"

	"dunlin/model"
)

// buffer is memory that lives from one step to another, both included. What
// is there before the first step is born at -1.
type buffer struct {
	bytes      int
	born, dies int
	offset     int
}

// place gives each buffer an offset so that no two that live at once
// overlap, and returns the bytes of the arena. Greedy by size: the largest
// first, each into the smallest gap that holds it between those already
// placed that live when it does (Pisarchyk and Lee 2020, arXiv:2001.03288,
// section 5.2). Offsets are multiples of model.Alignment.
func place(buffers []*buffer) int {
	order := slices.Clone(buffers)
	slices.SortStableFunc(order, func(a, b *buffer) int {
		return cmp.Or(cmp.Compare(b.bytes, a.bytes), cmp.Compare(a.born, b.born))
	})
	var placed []*buffer // by offset
	total := 0
	for _, b := range order {
		at, best, gap := 0, -1, int(^uint(0)>>1)
		for _, p := range placed {
			if p.born > b.dies || b.born > p.dies {
				continue
			}
			if room := p.offset - at; room >= b.bytes && room < gap {
				best, gap = at, room
			}
			at = max(at, align(p.offset+p.bytes))
		}
		if best < 0 {
			best = at
		}
		b.offset = best
		total = max(total, best+b.bytes)
		i, _ := slices.BinarySearchFunc(placed, b, func(x, y *buffer) int { return cmp.Compare(x.offset, y.offset) })
		placed = slices.Insert(placed, i, b)
	}
	return total
}

// lowerBound returns the most bytes that live at one step: no arena can be
// smaller.
func lowerBound(buffers []*buffer, steps int) int {
	most := 0
	for i := -1; i < steps; i++ {
		live := 0
		for _, b := range buffers {
			if b.born <= i && i <= b.dies {
				live += b.bytes
			}
		}
		most = max(most, live)
	}
	return most
}

func align(n int) int { return (n + model.Alignment - 1) &^ (model.Alignment - 1) }
