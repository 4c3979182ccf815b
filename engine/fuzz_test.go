package engine

import (
	"maps"
	"math"
	"slices"
	"testing"

	"dunlin/model"
)

// oddNumbers are what a mutation writes into attributes and shapes.
var oddNumbers = []int64{0, 1, -1, 2, 3, 7, 100, -100, 1 << 20, 1 << 31, 1 << 40, math.MaxInt64, math.MinInt64}

// mutant reads choices from fuzz data; without data left it chooses 0.
type mutant struct{ data []byte }

func (m *mutant) pick(n int) int {
	if len(m.data) == 0 || n <= 0 {
		return 0
	}
	b := m.data[0]
	m.data = m.data[1:]
	return int(b) % n
}

func (m *mutant) number() int64 { return oddNumbers[m.pick(len(oddNumbers))] }

// mutate changes one thing of g.
func (m *mutant) mutate(g *model.Graph) {
	n := g.Nodes[m.pick(len(g.Nodes))]
	names := slices.Sorted(maps.Keys(g.Values))
	name := names[m.pick(len(names))]
	switch m.pick(9) {
	case 0: // an attribute gets another number
		keys := slices.Sorted(maps.Keys(n.Attrs))
		if len(keys) == 0 {
			return
		}
		key := keys[m.pick(len(keys))]
		switch old := n.Attrs[key].(type) {
		case int64:
			n.Attrs[key] = m.number()
		case []int64:
			list := append(slices.Clone(old), m.number())
			list[m.pick(len(list))] = m.number()
			n.Attrs[key] = list[m.pick(2):]
		}
	case 1: // a new attribute
		keys := []string{"axis", "group", "perm", "pads", "strides", "dilations", "kernel_shape", "transA", "to", "ceil_mode", "auto_pad"}
		key := keys[m.pick(len(keys))]
		if n.Attrs == nil {
			n.Attrs = attrs{}
		}
		n.Attrs[key] = []model.Attr{m.number(), []int64{m.number(), m.number()}, "SAME_UPPER", float32(math.NaN())}[m.pick(4)]
	case 2: // another operator
		list := slices.Sorted(maps.Keys(operators))
		n.Op = list[m.pick(len(list))]
	case 3: // reads another value
		if len(n.In) > 0 {
			n.In[m.pick(len(n.In))] = name
		}
	case 4: // an input left out
		if len(n.In) > 0 {
			n.In[m.pick(len(n.In))] = ""
		}
	case 5: // fewer inputs
		n.In = n.In[:m.pick(len(n.In)+1)]
	case 6: // the input has another shape
		v := g.Values[g.Inputs[0]]
		v.Shape[m.pick(len(v.Shape))] = int(int32(m.number()))
	case 7: // a constant in another shape or type
		if t := g.Const(name); t != nil {
			s := &model.Tensor{Type: t.Type, Shape: model.Shape{t.Elements()}, Data: t.Data}
			switch m.pick(4) {
			case 0:
				s.Shape = model.Shape{1, t.Elements(), 1, 1}
			case 1:
				s = &model.Tensor{Type: model.I8, Shape: model.Shape{len(t.Data)}, Data: t.Data}
			case 2:
				s = &model.Tensor{Type: t.Type, Shape: model.Shape{0}}
			}
			g.AddConst(name, s)
		}
	case 8: // constants with odd values
		if t := g.Const(name); t != nil && len(t.Data) > 0 {
			t = t.Clone()
			for i := range t.Data {
				t.Data[i] ^= byte(m.pick(256))
			}
			g.AddConst(name, t)
		}
	}
}

// FuzzCompile breaks small graphs: what is wrong is an error, never a panic,
// and what compiles also runs.
func FuzzCompile(f *testing.F) {
	for i := range byte(60) {
		f.Add(i, []byte{i * 7, i * 3, i, i * 5, 11, i * 9, i + 2, 3, i * 13, i, i * 17, 1, i * 2, 5, i * 19, 8, i})
	}
	f.Fuzz(func(t *testing.T, which byte, data []byte) {
		g := []*model.Graph{floatNet(1), integerNet(1, model.I8), integerNet(1, model.U8), stagedNet(), quantisedNet(which > 99)}[which%5]
		g = g.Clone()
		m := &mutant{data: data[:min(len(data), 64)]}
		for range 1 + which%3 {
			m.mutate(g)
		}
		o := Options{MaxMemory: 4 << 20}
		if which%5 == 0 {
			o.Observe = func(string, *model.Tensor) {}
		}
		p, err := Compile(g, o)
		if err != nil {
			if err.Error() == "" {
				t.Error("an error without words")
			}
			return
		}
		macs := int64(0)
		for _, s := range p.Steps() {
			macs += s.MACs
		}
		if m := p.Memory(); int64(m.Arena) > o.MaxMemory || macs > 1<<27 {
			return // too slow to run here; that it compiles is allowed
		}
		s := p.NewSession()
		fillInputs(p, s, 1)
		_ = s.Run() // may fail on the data
	})
}
