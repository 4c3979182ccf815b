package engine

import (
	"fmt"
	"unsafe"

	"dunlin/kernels"
	"dunlin/model"
)

// onnxTypes are the numbers of TensorProto.DataType.
var onnxTypes = map[int64]model.DType{
	1: model.F32, 2: model.U8, 3: model.I8, 4: model.U16, 5: model.I16, 6: model.I32, 7: model.I64, 9: model.Bool,
	10: model.F16, 11: model.F64, 12: model.U32, 13: model.U64, 16: model.BF16,
}

func checkCast(n *model.Node) string {
	if _, ok := onnxTypes[n.Int("to", 0)]; !ok {
		return fmt.Sprintf("cast to type %d", n.Int("to", 0))
	}
	return ""
}

func inferCast(c *call) error { return c.set(onnxTypes[c.node.Int("to", 0)], c.shape(0)...) }

// inferCastLike casts to the type of input 1.
func inferCastLike(c *call) error { return c.set(c.in[1].Type, c.shape(0)...) }

func lowerCast(c *call) (*kernel, error) {
	from, to := c.in[0].Type, c.out[0].Type
	if from == to {
		return lowerAlias(c)
	}
	k := named("cast")
	if to == model.F32 {
		switch from {
		case model.I8:
			return asFloats[int8](c, k)
		case model.U8, model.Bool:
			return asFloats[uint8](c, k)
		case model.I32:
			return asFloats[int32](c, k)
		}
	}
	k.bind = func(in, out []*model.Tensor, _ []byte) func() error {
		x, y := in[0], out[0]
		return func() error { castTensor(y, x); return nil }
	}
	return k, nil
}

// asFloats makes k a cast to float32: dequantisation with a scale of 1.
func asFloats[T int8 | uint8 | int32](c *call, k *kernel) (*kernel, error) {
	tier, dequantize := kernels.Dequantizer[T](c.target)
	k.tier = tier
	k.bind = func(in, out []*model.Tensor, _ []byte) func() error {
		x, y := elementsOf[T](in[0]), out[0].F32()
		return func() error { dequantize(y, x, 1, 0); return nil }
	}
	return k, nil
}

// castTensor converts numbers. Floats become integers towards 0, saturated,
// NaN 0, the same on every CPU; integers that do not fit lose their upper
// bits; floats are rounded to the nearest, ties to even; a bool is whether a
// number is not 0.
func castTensor(y, x *model.Tensor) {
	switch x.Type {
	case model.F32:
		castFrom(y, x.F32())
	case model.F64:
		castFrom(y, x.F64())
	case model.F16:
		castHalves(y, x.F16(), kernels.Float16)
	case model.BF16:
		castHalves(y, x.BF16(), kernels.BFloat16)
	case model.I8:
		castFrom(y, x.I8())
	case model.U8:
		castFrom(y, x.U8())
	case model.I16:
		castFrom(y, x.I16())
	case model.U16:
		castFrom(y, x.U16())
	case model.I32:
		castFrom(y, x.I32())
	case model.U32:
		castFrom(y, x.U32())
	case model.I64:
		castFrom(y, x.I64())
	case model.U64:
		castFrom(y, x.U64())
	case model.Bool:
		castFrom(y, x.Bools())
	}
}

// castHalves converts through float32, which holds every half exactly.
func castHalves(y *model.Tensor, x []uint16, wide func(uint16) float32) {
	if y.Type == model.F32 {
		for i, v := range x {
			y.F32()[i] = wide(v)
		}
		return
	}
	one := model.Tensor{Type: y.Type}
	size := y.Type.Size()
	var v [1]float32
	for i, h := range x {
		v[0] = wide(h)
		one.Data = y.Data[i*size : (i+1)*size]
		castFrom(&one, v[:])
	}
}

func castFrom[F real](y *model.Tensor, x []F) {
	switch y.Type {
	case model.F32:
		castFloat(y.F32(), x)
	case model.F64:
		castFloat(y.F64(), x)
	case model.F16:
		castHalf(y.F16(), x, kernels.Float16Bits)
	case model.BF16:
		castHalf(y.BF16(), x, kernels.BFloat16Bits)
	case model.I8:
		castInteger(y.I8(), x)
	case model.U8:
		castInteger(y.U8(), x)
	case model.I16:
		castInteger(y.I16(), x)
	case model.U16:
		castInteger(y.U16(), x)
	case model.I32:
		castInteger(y.I32(), x)
	case model.U32:
		castInteger(y.U32(), x)
	case model.I64:
		castInteger(y.I64(), x)
	case model.U64:
		castInteger(y.U64(), x)
	case model.Bool:
		for i, v := range x {
			y.Data[i] = 0
			if v != 0 {
				y.Data[i] = 1
			}
		}
	}
}

// whole is every integer type; real is every type that computes.
type (
	whole interface {
		int8 | uint8 | int16 | uint16 | int32 | uint32 | int64 | uint64
	}
	real interface{ whole | float32 | float64 }
)

func castFloat[T float32 | float64, F real](y []T, x []F) {
	for i, v := range x {
		y[i] = T(v)
	}
}

func castHalf[F real](y []uint16, x []F, bits func(float32) uint16) {
	for i, v := range x {
		y[i] = bits(kernels.RoundOdd(float64(v)))
	}
}

func castInteger[T whole, F real](y []T, x []F) {
	if F(1)/2 == 0 { // from an integer
		for i, v := range x {
			y[i] = T(v)
		}
		return
	}
	least, most, limit := bounds[T]()
	for i, v := range x {
		switch f := float64(v); {
		case f != f:
			y[i] = 0
		case f <= float64(least):
			y[i] = least
		case f >= limit:
			y[i] = most
		default:
			y[i] = T(v)
		}
	}
}

// bounds returns the least and the largest T, and the float behind the
// largest.
func bounds[T whole]() (least, most T, limit float64) {
	n := 8 * int(unsafe.Sizeof(least))
	if least-1 < 0 {
		n--
		least = T(1) << n
	}
	most = ^least
	limit = 1
	for range n {
		limit *= 2
	}
	return least, most, limit
}

// elementsOf returns the elements of t as a slice over its memory; T stands for
// its type, uint8 for Bool, uint16 for halves.
func elementsOf[T real](t *model.Tensor) []T {
	if len(t.Data) == 0 {
		return nil
	}
	var one T
	return unsafe.Slice((*T)(unsafe.Pointer(unsafe.SliceData(t.Data))), len(t.Data)/int(unsafe.Sizeof(one)))
}
