package train

import "dunlin/kernels"

// loops are the elementwise kernels that steps share.
type loops struct {
	pass, give, addProduct, line, addSquare, addCentred kernels.StridedFunc
}

func newLoops(t kernels.Target) *loops {
	l := &loops{}
	for op, to := range map[kernels.StridedOp]*kernels.StridedFunc{
		kernels.StridedPass: &l.pass, kernels.StridedGive: &l.give, kernels.StridedAddProduct: &l.addProduct,
		kernels.StridedLine: &l.line, kernels.StridedAddSquare: &l.addSquare, kernels.StridedAddCentred: &l.addCentred,
	} {
		_, *to = kernels.StridedF32(t, op)
	}
	return l
}
