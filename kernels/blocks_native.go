//go:build !purego && (amd64 || arm64)

package kernels

// blocks cuts channels into blocks that a function computes side by side.
// With masks, the last block leaves out what does not exist; without, it
// begins so early that it ends with the last channel. Fewer channels than a
// block then go through scratch.
type blocks struct {
	channels, block int
	masked          bool
}

func (b blocks) count() int { return roundUp(b.channels, b.block) / b.block }

// first returns the first channel of block i.
func (b blocks) first(i int) int {
	if !b.masked && b.channels >= b.block {
		return min(i*b.block, b.channels-b.block)
	}
	return i * b.block
}

// peels reports whether results go through scratch.
func (b blocks) peels() bool { return !b.masked && b.channels < b.block }

// mask has a bit for each channel of the last block.
func (b blocks) mask() uint64 { return ^uint64(0) >> (64 - uint(b.channels-(b.count()-1)*b.block)) }

// row calls f for the blocks of a row: for all at once, or for the last apart,
// with the addresses of taps, of values of size bytes, moved to its first
// channel.
func (b blocks) row(taps []uintptr, size int, f func(from, count, channel int)) {
	n := b.count()
	last := b.first(n - 1)
	if last == (n-1)*b.block {
		f(0, n, 0)
		return
	}
	f(0, n-1, 0)
	for i := range taps {
		taps[i] += uintptr(last * size)
	}
	f(n-1, 1, last)
}
