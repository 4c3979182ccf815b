package engine

import (
	"dunlin/model"
)

// foldBatchNorm multiplies a batch normalisation into the convolution before
// it, where nothing else reads the convolution and its weights are constants.
// Others run as they are.
func foldBatchNorm(_ *compiler, g *model.Graph) (*model.Graph, error) {
	e := editing(g)
	for _, n := range e.Nodes {
		if n.Op != "BatchNormalization" || !e.foldNorm(n) {
			e.keep(n)
		}
	}
	return e.done(), nil
}

// foldNorm folds norm into the convolution that makes its input, which then
// makes its output. It reports whether it could.
func (e *edit) foldNorm(norm *model.Node) bool {
	conv := e.made[norm.In[0]]
	if conv == nil || conv.Op != "Conv" || e.only(conv.Out[0]) != norm {
		return false
	}
	w, b := e.Const(conv.In[1]), e.Const(conv.Input(2))
	if w == nil || w.Type != model.F32 || (conv.Input(2) != "" && b == nil) || len(w.Shape) == 0 {
		return false
	}
	scale, shift, err := batchNorm(norm, func(i int) *model.Tensor { return e.Const(norm.In[i]) })
	if err != nil || len(scale) != w.Shape[0] {
		return false
	}
	weights, bias := w.Clone(), model.Of(model.F32, shift, len(shift))
	each := weights.Elements() / len(scale)
	for c, s := range scale {
		for i := range each {
			weights.F32()[c*each+i] *= s
		}
		if b != nil {
			bias.F32()[c] += float32(b.F32()[c] * s)
		}
	}
	conv.In = []string{
		conv.In[0], e.constant(conv.In[1], "normed", weights), e.constant(norm.In[2], "normed", bias),
	}
	conv.Out = norm.Out
	e.made[norm.Out[0]] = conv
	return true
}
