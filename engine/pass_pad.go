package engine

import (
	"maps"
	"slices"

	"dunlin/model"
)

// foldPads takes a Pad with zeros of the spatial axes into the convolution or
// average pool behind it, which then counts the padding as it did the zeros.
func foldPads(_ *compiler, g *model.Graph) (*model.Graph, error) {
	e := editing(g)
	for _, n := range e.Nodes {
		if n.Op == "Conv" || n.Op == "AveragePool" {
			n = e.padded(n)
		}
		e.keep(n)
	}
	return e.done(), nil
}

// padded returns n with the Pad before it taken in, or n.
func (e *edit) padded(n *model.Node) *model.Node {
	pad := e.made[n.In[0]]
	if pad == nil || pad.Op != "Pad" {
		return n
	}
	more := e.zeroPads(pad)
	axes := len(e.Value(n.In[0]).Shape) - 2
	own, err := padsOf(n, axes)
	if more == nil || err != nil || n.Str("auto_pad", "NOTSET") != "NOTSET" || n.Int("ceil_mode", 0) != 0 {
		return n
	}
	folded := &model.Node{Op: n.Op, Name: n.Name, In: slices.Clone(n.In), Out: n.Out, Attrs: maps.Clone(n.Attrs)}
	if folded.Attrs == nil {
		folded.Attrs = map[string]model.Attr{}
	}
	if n.Op == "AveragePool" {
		// Its own padding must count, or not be there, as the zeros did.
		if n.Int("count_include_pad", 0) == 0 && slices.ContainsFunc(own, func(p int64) bool { return p != 0 }) {
			return n
		}
		kernel := n.Ints("kernel_shape")
		for i := range more {
			if len(kernel) != axes || more[i]+own[i] >= kernel[i%axes] {
				return n
			}
		}
		folded.Attrs["count_include_pad"] = int64(1)
	}
	pads := make([]int64, 2*axes)
	for i := range pads {
		pads[i] = own[i] + more[i]
	}
	folded.Attrs["pads"] = pads
	folded.In[0] = pad.In[0]
	return folded
}

// zeroPads returns the padding of the spatial axes by a Pad node, before each
// and then behind each, where it pads with constant zeros and nothing else.
func (e *edit) zeroPads(pad *model.Node) []int64 {
	list, value := e.Const(pad.Input(1)), e.Const(pad.Input(2))
	rank := len(e.Value(pad.In[0]).Shape)
	if pad.Str("mode", "constant") != "constant" || list == nil || list.Type != model.I64 || pad.Input(3) != "" || rank < 3 || list.Elements() != 2*rank {
		return nil
	}
	if pad.Input(2) != "" && (value == nil || value.Type != model.F32 || value.F32()[0] != 0) {
		return nil
	}
	all := list.I64()
	for i, p := range all {
		if p < 0 || (i%rank < 2 && p != 0) {
			return nil
		}
	}
	return slices.Concat(all[2:rank], all[rank+2:])
}
