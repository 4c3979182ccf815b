package onnx

import (
	"slices"

	"dunlin/model"
)

// form says that a node needs an opset later than 13: all of its operator, or
// those for which when holds.
type form struct {
	since int
	when  func(n *model.Node, g *model.Graph) bool // nil: always
}

// forms is canon.go's table from the other side: operators that came after
// opset 13, and what of older ones did. What is not here has had the form
// that a graph holds since 13 or before.
var forms = map[string][]form{
	"HardSwish": {{since: 14}}, "Trilu": {{since: 14}},
	"CastLike": {{since: 15}}, "Bernoulli": {{since: 15}},
	"RoiAlign": {{since: 16}},
	"DFT":      {{since: 20}}, // an axis that is an input; the operator is of 17
	"STFT":     {{since: 17}}, "HannWindow": {{since: 17}}, "HammingWindow": {{since: 17}}, "BlackmanWindow": {{since: 17}},
	"MelWeightMatrix": {{since: 17}}, "LayerNormalization": {{since: 17}},
	"BitwiseAnd": {{since: 18}}, "BitwiseOr": {{since: 18}}, "BitwiseXor": {{since: 18}}, "BitwiseNot": {{since: 18}},
	"CenterCropPad": {{since: 18}}, "Col2Im": {{since: 18}}, "Mish": {{since: 18}},
	"DeformConv": {{since: 19}},
	"AffineGrid": {{since: 20}}, "Gelu": {{since: 20}}, "GridSample": {{since: 20}},

	"Add": {{14, small(0)}}, "Sub": {{14, small(0)}}, "Mul": {{14, small(0)}}, "Div": {{14, small(0)}},
	"Relu": {{14, of(0, model.I8, model.I16, model.I32, model.I64)}},
	"LSTM": {{14, has("layout")}}, "GRU": {{14, has("layout")}}, "RNN": {{14, has("layout")}},
	"Reshape":            {{14, has("allowzero")}},
	"BatchNormalization": {{14, has("training_mode", "momentum")}},
	"Shape":              {{15, has("start", "end")}},

	"ReduceL1": reduceForm, "ReduceL2": reduceForm, "ReduceLogSum": reduceForm, "ReduceLogSumExp": reduceForm,
	"ReduceMean": reduceForm, "ReduceProd": reduceForm, "ReduceSumSquare": reduceForm,
	"ReduceMax": {reduceForm[0], {20, of(0, model.Bool)}},
	"ReduceMin": {reduceForm[0], {20, of(0, model.Bool)}},

	"ScatterElements": scatterForm,
	"ScatterND":       scatterForm,
	"Pad":             {{18, inputs(4)}, {19, is("mode", "wrap")}},
	"LpPool":          {{18, has("dilations", "ceil_mode")}},
	"Resize": {
		{18, has("antialias", "axes", "keep_aspect_ratio_policy")},
		{19, is("coordinate_transformation_mode", "half_pixel_symmetric")},
	},
	"AveragePool":        {{19, has("dilations")}},
	"Cast":               {{19, has("saturate")}},
	"QuantizeLinear":     {{19, of(1, model.F16)}, {19, has("saturate")}, {21, of(2, model.I16, model.U16)}, {21, has("block_size", "output_dtype")}},
	"DequantizeLinear":   {{19, of(1, model.F16)}, {21, of(0, model.I16, model.U16)}, {21, has("block_size")}},
	"IsInf":              {{20, of(0, model.F16, model.BF16)}},
	"IsNaN":              {{20, of(0, model.BF16)}},
	"ConstantOfShape":    {{20, func(n *model.Node, _ *model.Graph) bool { return valueType(n) == model.BF16 }}},
	"GroupNormalization": {{since: 18}, {21, func(n *model.Node, g *model.Graph) bool { return groupScales(n, g) == perChannel }}},
}

var (
	reduceForm  = []form{{18, inputs(2)}, {18, has("noop_with_empty_axes")}}
	scatterForm = []form{{16, has("reduction")}, {18, is("reduction", "min", "max")}}
)

func has(keys ...string) func(*model.Node, *model.Graph) bool {
	return func(n *model.Node, _ *model.Graph) bool {
		return slices.ContainsFunc(keys, func(key string) bool { return n.Attrs[key] != nil })
	}
}

func is(key string, values ...string) func(*model.Node, *model.Graph) bool {
	return func(n *model.Node, _ *model.Graph) bool { return slices.Contains(values, n.Str(key, "")) }
}

// inputs: the node has at least so many of them.
func inputs(least int) func(*model.Node, *model.Graph) bool {
	return func(n *model.Node, _ *model.Graph) bool { return len(n.In) >= least }
}

// of: the graph says that input i has one of these types.
func of(i int, types ...model.DType) func(*model.Node, *model.Graph) bool {
	return func(n *model.Node, g *model.Graph) bool { return slices.Contains(types, g.Value(n.Input(i)).Type) }
}

func small(i int) func(*model.Node, *model.Graph) bool {
	return of(i, model.I8, model.I16, model.U8, model.U16)
}

func valueType(n *model.Node) model.DType {
	if t, ok := n.Attrs["value"].(*model.Tensor); ok {
		return t.Type
	}
	return 0
}

// How many scales a GroupNormalization has.
const (
	perEither  = iota // as many channels as groups
	perGroup          // the form of opsets 18 to 20, which 21 does not have
	perChannel        // the form of 21
)

func groupScales(n *model.Node, g *model.Graph) int {
	groups, scales := n.Int("num_groups", 0), g.Value(n.Input(1)).Shape
	x := g.Value(n.Input(0)).Shape
	switch {
	case len(scales) != 1 || int64(scales[0]) == groups:
		if len(x) > 1 && int64(x[1]) == groups {
			return perEither
		}
		return perGroup
	}
	return perChannel
}

// form chooses the opset of the file and collects its domains.
func (e *exporter) form(g *model.Graph) error {
	e.opset = 13
	var late, old string // nodes that decide how new the file must, and may be
	e.walk(g, func(n *model.Node, g *model.Graph) {
		domain, _ := domainOf(n.Op)
		if domain != "" {
			if !slices.Contains(e.domains, domain) {
				e.domains = append(e.domains, domain)
			}
			return
		}
		for _, f := range forms[n.Op] {
			if f.since > e.opset && (f.when == nil || f.when(n, g)) {
				e.opset, late = f.since, part(n)
			}
		}
		if n.Op == "GroupNormalization" && groupScales(n, g) == perGroup {
			old = part(n)
		}
	})
	slices.Sort(e.domains)
	if old != "" && e.opset > 20 {
		return fail(ErrUnsupported, old, "its form ended with opset 20, and %s needs opset %d", late, e.opset)
	}
	return nil
}

// walk calls f for each node of g and of its subgraphs.
func (e *exporter) walk(g *model.Graph, f func(*model.Node, *model.Graph)) {
	for _, n := range g.Nodes {
		f(n, g)
		for _, a := range n.Attrs {
			if sub, ok := a.(*model.Graph); ok {
				e.walk(sub, f)
			}
		}
	}
}
