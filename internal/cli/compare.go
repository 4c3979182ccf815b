package cli

import (
	"fmt"
	"math"

	"dunlin/engine"
	"dunlin/model"
)

// The tolerance for floats is that of ONNX's own test runner
// (onnx/backend/test/loader, 2022): |got - want| <= 1e-7 + 1e-3*|want|.
const (
	relativeTolerance = 1e-3
	absoluteTolerance = 1e-7
)

// sameTensor fails where got is not want: another type or shape, floats
// beyond the tolerance, integers more than step apart.
func sameTensor(got, want *model.Tensor, step float64) error {
	if got.Type != want.Type || !got.Shape.Equal(want.Shape) {
		return fmt.Errorf("%v %v, want %v %v", got.Type, got.Shape, want.Type, want.Shape)
	}
	a, b := engine.Numbers(got), engine.Numbers(want)
	relative := relativeTolerance
	switch want.Type {
	case model.F32, model.F64, model.F16:
		step = absoluteTolerance
	case model.BF16: // one unit in the last place: ONNX's files were cut off, not rounded
		step, relative = absoluteTolerance, 1.0/128
	default:
		relative = 0
	}
	for i, w := range b {
		g := a[i]
		if g == w || (g != g && w != w) {
			continue
		}
		if !(math.Abs(g-w) <= step+relative*math.Abs(w)) {
			return fmt.Errorf("element %d of %v is %v, want %v", i, want.Shape, g, w)
		}
	}
	return nil
}
