package quant

import (
	"math"

	"github.com/x448/float16"

	"dunlin/model"
)

// halfLeast is the fewest elements for which a constant becomes float16 and
// a Cast: below it the node costs more than the bytes.
const halfLeast = 64

// castFloat is ONNX's number for float32, the attribute "to" of Cast.
const castFloat = int64(1)

// halves are the constants that stand as float16 in the graph being written,
// each behind a Cast to float32. What a node computes stays float32.
type halves struct {
	keep map[string]bool    // constants that some node reads as they are
	cast map[string]string  // by the constant's name: what the Cast makes
	sqnr map[string]float64 // by the constant's name, dB
}

// newHalves returns none yet, for the graph g.
func newHalves(g *model.Graph, o Options) *halves {
	h := &halves{keep: map[string]bool{}, cast: map[string]string{}, sqnr: map[string]float64{}}
	for _, n := range g.Nodes {
		if o.level(n) == Float32 {
			for _, in := range n.In {
				h.keep[in] = true
			}
		}
	}
	return h
}

// half puts the large float constants that m reads behind Casts, and fills in
// what that does to the layer.
func (w *writer) half(m *model.Node, l *Layer) {
	l.After = 0
	for i, in := range m.In {
		t := w.p.g.Const(in)
		if t == nil || t.Type != model.F32 {
			continue
		}
		cast, ok := w.halves.cast[in]
		if !ok && t.Elements() >= halfLeast && !w.halves.keep[in] {
			if cast = w.castHalf(in, t); cast == "" {
				l.Why = "a weight is beyond the range of float16"
			}
		}
		if cast == "" {
			l.After += int64(len(t.Data))
			continue
		}
		m.In[i] = cast
		if e := w.halves.sqnr[in]; l.WeightError == nil || e < *l.WeightError {
			l.WeightError = &e
		}
		l.Precision = string(FP16)
		l.After += int64(len(t.Data) / 2)
	}
	if l.Precision != string(FP16) && l.Why == "" {
		l.Why = "it has no large weights"
	}
}

// castHalf writes the constant in as float16 with its Cast, and returns what
// the Cast makes; "" where float16 cannot hold it.
func (w *writer) castHalf(in string, t *model.Tensor) string {
	half, sqnr, ok := toHalf(t)
	if !ok {
		return ""
	}
	name, to := w.names.fresh(in+"/float16"), w.names.fresh(in+"/float32")
	w.g.AddConst(name, half)
	w.add("Cast", in+"/cast", []string{name}, to, map[string]model.Attr{"to": castFloat})
	w.halves.cast[in], w.halves.sqnr[in] = to, sqnr
	return to
}

// toHalf rounds t to float16, ties to even, and returns the SQNR in dB. ok is
// false where a finite value would become infinite.
func toHalf(t *model.Tensor) (half *model.Tensor, sqnr float64, ok bool) {
	half = &model.Tensor{Type: model.F16, Shape: t.Shape, Data: model.Aligned(len(t.Data) / 2)}
	bits := half.F16()
	var signal, noise float64
	for i, v := range t.F32() {
		f := float16.Fromfloat32(v)
		if f.IsInf(0) && !math.IsInf(float64(v), 0) {
			return nil, 0, false
		}
		bits[i] = f.Bits()
		if v-v == 0 {
			d := float64(v) - float64(f.Float32())
			noise += float64(d * d)
			signal += float64(float64(v) * float64(v))
		}
	}
	return half, decibel(signal, noise), true
}
