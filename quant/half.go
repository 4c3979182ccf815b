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

// applyHalf stores the float weights of the prepared graph g as float16, each
// behind a Cast to float32. What a node computes stays float32.
func applyHalf(g *model.Graph, o Options) (*model.Graph, *Report) {
	h := g.Clone()
	rep := &Report{Model: g.Name, To: "fp16"}
	names := newNamer(h)
	cast := map[string]*model.Node{} // by the constant's name
	sqnr := map[string]float64{}
	keep := map[string]bool{}
	for _, n := range h.Nodes {
		for _, name := range o.Float {
			if n.Name == name {
				for _, in := range n.In {
					keep[in] = true
				}
			}
		}
	}
	var nodes []*model.Node
	for _, n := range h.Nodes {
		l := Layer{Name: n.Name, Op: n.Op, Precision: "float32"}
		for i, in := range n.In {
			t := h.Const(in)
			if t == nil || t.Type != model.F32 {
				continue
			}
			l.Before += int64(len(t.Data))
			if cast[in] == nil && t.Elements() >= halfLeast && !keep[in] {
				half, err, ok := toHalf(t)
				if !ok {
					l.Why = "a weight is beyond the range of float16"
					l.After += int64(len(t.Data))
					continue
				}
				name := names.fresh(in + "/float16")
				h.AddConst(name, half)
				cast[in] = &model.Node{
					Op: "Cast", Name: names.fresh(in + "/cast"), In: []string{name}, Out: []string{names.fresh(in + "/float32")},
					Attrs: map[string]model.Attr{"to": castFloat},
				}
				sqnr[in] = err
				nodes = append(nodes, cast[in])
			}
			if c := cast[in]; c != nil {
				n.In[i] = c.Out[0]
				e := sqnr[in]
				if l.WeightError == nil || e < *l.WeightError {
					l.WeightError = &e
				}
				l.Precision = "fp16"
				l.After += int64(len(t.Data) / 2)
			} else {
				l.After += int64(len(t.Data))
			}
		}
		if l.Precision == "float32" && l.Why == "" {
			l.Why = "it has no large weights"
		}
		if len(n.Out) > 0 {
			l.Output = n.Out[0]
		}
		nodes = append(nodes, n)
		rep.Layers = append(rep.Layers, l)
	}
	h.Nodes = nodes
	return h, rep
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
