package engine

import (
	"bytes"
	"slices"
	"testing"

	"dunlin/model"
)

// Trace sees inputs, every step and, last, the outputs, as a run without it
// computes them.
func TestTrace(t *testing.T) {
	for name, g := range map[string]*model.Graph{"float": floatNet(1), "int8": integerNet(1, model.I8), "uint8": integerNet(1, model.U8)} {
		plain := compiled(t, g, Options{})
		want := runOnce(t, plain, 3)
		seen := map[string]*model.Tensor{}
		steps := 0
		p := compiled(t, g, Options{Trace: func(v *Traced) {
			seen[v.Value] = v.Tensor.Clone()
			if v.Step.Kernel != "input" {
				steps++
			}
			if g.Values[v.Value] == nil && !slices.ContainsFunc(g.Nodes, func(n *model.Node) bool { return slices.Contains(n.Out, v.Value) }) {
				t.Errorf("%s: the graph has no value %q", name, v.Value)
			}
			if i := v.Tensor.Type; (i == model.I8 || i == model.U8) && !(v.Quantised && v.Scale > 0) {
				t.Errorf("%s: the scale of %s (%s) is not told", name, v.Slot, v.Step.Kernel)
			}
			if last := v.Tensor.Shape; v.ChannelsLast && len(last) < 3 {
				t.Errorf("%s: %s %v has no channels to be last", name, v.Slot, last)
			}
		}})
		runOnce(t, p, 3)
		if !slices.EqualFunc(plain.Steps(), p.Steps(), func(a, b Step) bool { return a.Kernel == b.Kernel && a.Offset == b.Offset }) {
			t.Errorf("%s: the plan is another one", name)
		}
		if steps < len(p.Steps()) {
			t.Errorf("%s: %d values of %d steps", name, steps, len(p.Steps()))
		}
		for i, out := range want {
			if got := seen[g.Outputs[i]]; got == nil || !bytes.Equal(got.Data, out.Data) {
				t.Errorf("%s: output %s is not what a run gives", name, g.Outputs[i])
			}
		}
	}
}
