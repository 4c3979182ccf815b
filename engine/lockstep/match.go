package lockstep

import (
	"cmp"
	"maps"
	"slices"
	"strings"

	"dunlin/model"
)

// pair is two values that stand for one, and how that is known.
type pair struct {
	a, b *value
	by   string
}

// The ways in which two values are known to be one.
const (
	byName  = "name"
	byOrder = "order"
)

// What a pair of an alignment is worth. Names alone prove little: exporters
// number their values, and the same number then stands in two files for two
// things.
const (
	likeWorth = 2 // shape and kernel
	nameWorth = 1
)

// maxAlign bounds the table of an alignment, in elements.
const maxAlign = 1 << 25

// matching is the work of match.
type matching struct {
	pairs []pair
	of    map[*value]*value // both ways
	names map[*value]map[string]bool
	class map[*value]string
}

// match pairs the values of a and b, in the order of a: the outputs by their
// index; the others in the order of the runs, so that as many as can be are
// of one shape and one kernel and have a name in common; and at last, where
// most pairs have one, all that have a name in common, in any order.
func match(a, b *recording) []pair {
	m := &matching{of: map[*value]*value{}, names: map[*value]map[string]bool{}, class: map[*value]string{}}
	m.know(a, b)
	m.outputs(a, b)
	m.align(a.values, b.values)
	named := 0
	for _, p := range m.pairs {
		if p.by == byName {
			named++
		}
	}
	if 2*named > len(m.pairs) {
		m.named(a.values, b.values)
	}
	slices.SortFunc(m.pairs, func(x, y pair) int { return cmp.Compare(x.a.order, y.a.order) })
	return m.pairs
}

// know finds the names of each value: for one of a the classes of b to which
// its names belong, for one of b its class.
func (m *matching) know(a, b *recording) {
	ca, cb := classes(a.graph), classes(b.graph)
	members := map[string][]string{}
	for name, c := range ca {
		members[c] = append(members[c], name)
	}
	of := func(c map[string]string, name string) string {
		if k, ok := c[name]; ok {
			return k
		}
		return name
	}
	for _, v := range a.values {
		m.names[v] = map[string]bool{of(cb, v.Value): true}
		for _, name := range members[of(ca, v.Value)] {
			m.names[v][of(cb, name)] = true
		}
	}
	for _, w := range b.values {
		m.class[w] = of(cb, w.Value)
	}
}

// classes joins the names that stand for one value up to rounding, what a
// QuantizeLinear or DequantizeLinear reads and what it makes, and returns one
// of them for each.
func classes(g *model.Graph) map[string]string {
	parent := map[string]string{}
	root := func(name string) string {
		for p, ok := parent[name]; ok; p, ok = parent[name] {
			name = p
		}
		return name
	}
	c := map[string]string{}
	for _, n := range g.Nodes {
		if n.Op == "QuantizeLinear" || n.Op == "DequantizeLinear" {
			if x, y := root(n.In[0]), root(n.Out[0]); x != y {
				parent[y] = x
			}
			c[n.In[0]], c[n.Out[0]] = "", ""
		}
	}
	for name := range c {
		c[name] = root(name)
	}
	return c
}

// add pairs x and y.
func (m *matching) add(x, y *value, by string) {
	m.of[x], m.of[y] = y, x
	m.pairs = append(m.pairs, pair{x, y, by})
}

// outputs pairs the outputs of the graphs by index.
func (m *matching) outputs(a, b *recording) {
	if len(a.outputs) != len(b.outputs) {
		return
	}
	for i := range a.outputs {
		x, y := last(a, a.outputs[i]), last(b, b.outputs[i])
		if x != nil && y != nil && m.of[x] == nil && m.of[y] == nil && x.fits(y) {
			m.add(x, y, byName)
		}
	}
}

// last returns the last value of that name, nil where there is none.
func last(r *recording, name string) *value {
	for _, v := range slices.Backward(r.values) {
		if v.Slot == name {
			return v
		}
	}
	return nil
}

// worth returns what it is worth to pair v and w, 0 where they cannot be one.
func (m *matching) worth(v, w *value) (worth int, by string) {
	if m.of[v] != nil || m.of[w] != nil || !v.fits(w) || v.moved() != w.moved() {
		return 0, ""
	}
	by = byOrder
	if v.like(w) {
		worth = likeWorth
	} else if v.Step.MACs > 0 && w.Step.MACs > 0 {
		return 0, ""
	}
	if m.names[v][m.class[w]] {
		worth, by = worth+nameWorth, byName
	}
	if v.moved() && by != byName {
		return 0, ""
	}
	return worth, by
}

// fits reports whether two values have the same axes, those of length 1
// apart: only then do their elements stand in one order.
func (v *value) fits(w *value) bool {
	long := func(s model.Shape) model.Shape {
		return slices.DeleteFunc(slices.Clone(s), func(d int) bool { return d == 1 })
	}
	return long(v.shape()).Equal(long(w.shape()))
}

// like reports whether two values look as one: of one shape, made by as many
// multiplications, or by kernels of one kind where there are none.
func (v *value) like(w *value) bool {
	if !v.shape().Equal(w.shape()) {
		return false
	}
	if v.Step.MACs > 0 || w.Step.MACs > 0 {
		return v.Step.MACs == w.Step.MACs && v.adds() == w.adds()
	}
	return kind(v) == kind(w)
}

// adds reports whether v is a product or convolution with another value added:
// in the other form that may be two steps, of which the second is v.
func (v *value) adds() bool { return strings.Contains(v.Step.Kernel, "-add-") }

// kind is the first word of a kernel's name, without its type.
func kind(v *value) string {
	k, _, _ := strings.Cut(v.Step.Kernel, " ")
	k, _, _ = strings.Cut(k, "-")
	return k
}

// moved reports whether v is another value in another order, which passes
// may have put there.
func (v *value) moved() bool { return kind(v) == "transpose" }

// align pairs values so that the order of neither side changes and the pairs
// are worth most: the longest common subsequence, with weights.
func (m *matching) align(a, b []*value) {
	if len(a)*len(b) > maxAlign {
		m.named(a, b)
		return
	}
	most := make([][]int32, len(a)+1) // of a[i:] and b[j:]
	for i := range most {
		most[i] = make([]int32, len(b)+1)
	}
	for i, v := range slices.Backward(a) {
		for j, w := range slices.Backward(b) {
			most[i][j] = max(most[i+1][j], most[i][j+1])
			if worth, _ := m.worth(v, w); worth > 0 {
				most[i][j] = max(most[i][j], most[i+1][j+1]+int32(worth))
			}
		}
	}
	for i, j := 0, 0; i < len(a) && j < len(b); {
		worth, by := m.worth(a[i], b[j])
		switch {
		case worth > 0 && most[i][j] == most[i+1][j+1]+int32(worth):
			m.add(a[i], b[j], by)
			i, j = i+1, j+1
		case most[i][j] == most[i+1][j]:
			i++
		default:
			j++
		}
	}
}

// named pairs what has a name in common, the first with the first.
func (m *matching) named(a, b []*value) {
	free := map[string][]*value{}
	for _, w := range b {
		free[m.class[w]] = append(free[m.class[w]], w)
	}
	for _, v := range a {
		for _, c := range slices.Sorted(maps.Keys(m.names[v])) {
			for _, w := range free[c] {
				if worth, by := m.worth(v, w); worth > 0 && by == byName {
					m.add(v, w, byName)
					break
				}
			}
		}
	}
}
