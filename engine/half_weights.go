package engine

import (
	"dunlin/kernels"
	"dunlin/model"
)

// A model with weights in half precision casts them to float32 before it
// multiplies; folding makes float32 constants of that, each a binary16 number
// still. A product takes them as such again where that pays: half the bytes to
// read, and arithmetic in binary16 where the CPU has it and bits may differ.
// Weights that happen to be such numbers in a model of float32 stay float32,
// so that it keeps that precision.

// holdsHalves reports whether g has constants in binary16.
func holdsHalves(g *model.Graph) bool {
	for _, v := range g.Values {
		if v.Const != nil && v.Const.Type == model.F16 {
			return true
		}
	}
	return false
}

// packGEMMF32 is kernels.PackGEMMF32 for a product of m rows.
func (c *call) packGEMMF32(m, n, k int, w kernels.WeightsF32) (*kernels.GEMMF32, error) {
	if c.halves && kernels.HalvesPay(c.target, m) {
		if half := kernels.Halves(w.W); half != nil {
			w.W, w.Half = nil, half
		}
	}
	return kernels.PackGEMMF32(c.target, n, k, w)
}
