package train

import (
	"unsafe"

	"dunlin/kernels"
	"dunlin/model"
)

// lineFloats is how many float32 a cache line, and the widest register, holds.
const lineFloats = model.Alignment / 4

// floats returns n zeros that begin where a cache line does.
func floats(n int) []float32 {
	if n == 0 {
		return nil
	}
	return unsafe.Slice((*float32)(unsafe.Pointer(unsafe.SliceData(model.Aligned(4*n)))), n)
}

// bytesOf sees x as bytes.
func bytesOf(x []float32) []byte {
	return unsafe.Slice((*byte)(unsafe.Pointer(unsafe.SliceData(x))), 4*len(x))
}

func roundUp(n, unit int) int { return (n + unit - 1) / unit * unit }

// addTo adds x to sum.
func addTo(sum, x []float32) {
	x = x[:len(sum)]
	for i, v := range x {
		sum[i] += v
	}
}

// product is a matrix product of two computed operands that a step holds.
type product struct {
	net *Net
	p   *kernels.ProductF32
	at  [1]kernels.Offsets
}

// product returns the product of p's lengths and strides.
func (c *call) product(p kernels.ProductF32) (*product, error) {
	ready, err := kernels.PickProductF32(c.target(), p)
	if err != nil {
		return nil, err
	}
	c.b.scratch = max(c.b.scratch, ready.Scratch())
	return &product{net: c.b.net, p: ready}, nil
}

func (p *product) run(out, a, b []float32) { p.p.Run(out, a, b, p.at[:], p.net.scratch) }

// rows are strides of a matrix whose rows of n lie one behind the other, and
// columns those of its transpose.
func rows(n int) kernels.Strides    { return kernels.Strides{Row: n, Column: 1} }
func columns(n int) kernels.Strides { return kernels.Strides{Row: 1, Column: n} }
