package train

import "dunlin/kernels"

// loops are the elementwise kernels that steps share.
type loops struct {
	pass, give, add, addProduct, line, addSquare, addCentred kernels.StridedFunc
}

func newLoops(t kernels.Target) *loops {
	l := &loops{}
	for op, to := range map[kernels.StridedOp]*kernels.StridedFunc{
		kernels.StridedPass: &l.pass, kernels.StridedGive: &l.give, kernels.StridedAdd: &l.add, kernels.StridedAddProduct: &l.addProduct,
		kernels.StridedLine: &l.line, kernels.StridedAddSquare: &l.addSquare, kernels.StridedAddCentred: &l.addCentred,
	} {
		_, *to = kernels.StridedF32(t, op)
	}
	return l
}

// addTo adds x to sum.
func (l *loops) addTo(sum, x []float32) {
	l.add(sum, x, nil, nil, kernels.Strided{Rows: 1, N: len(sum)})
}

// addRows adds row to each row of x.
func (l *loops) addRows(x, row []float32) {
	l.add(x, row, nil, nil, kernels.Strided{Rows: len(x) / len(row), N: len(row), Out: len(row)})
}
