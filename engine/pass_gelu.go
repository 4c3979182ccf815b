package engine

import (
	"math"
	"slices"

	"dunlin/model"
)

// makeGelu finds what exporters write for Gelu, in whatever order they write
// it, and makes one operator of it:
//
//	x * (1 + erf(x/√2)) / 2
//	x * (1 + tanh(√(2/π) * (x + 0.044715*x³))) / 2
//
// It follows sums and products of constants up from each Mul to one Erf or
// Tanh, and compares polynomials. A graph with integers then rounds as Gelu
// does, not as the parts did, and the same way on every CPU.
func makeGelu(_ *compiler, g *model.Graph) (*model.Graph, error) {
	e := editing(g)
	for _, n := range e.Nodes {
		if n.Op == "Mul" && e.Value(n.Out[0]).Type == model.F32 {
			if x, attrs := e.gelu(n); x != "" {
				e.keep(&model.Node{Op: "Gelu", Name: n.Name, In: []string{x}, Out: n.Out, Attrs: attrs})
				continue
			}
		}
		e.keep(n)
	}
	return e.done(), nil
}

// maxTerms is how far the parts of Gelu are followed.
const maxTerms = 12

// gelu returns the x of which n makes Gelu, "" where it does not.
func (e *edit) gelu(n *model.Node) (x string, attrs map[string]model.Attr) {
	for _, value := range e.terms(n.Out[0]) {
		f := e.made[value]
		if f == nil || (f.Op != "Erf" && f.Op != "Tanh") {
			continue
		}
		inner := polynomial{1: math.Sqrt2 / 2}
		if f.Op == "Tanh" {
			c := math.Sqrt(2 / math.Pi)
			inner, attrs = polynomial{1: c, 3: c * 0.044715}, map[string]model.Attr{"approximate": "tanh"}
		}
		for _, x := range e.terms(f.In[0]) {
			if !e.Value(x).Shape.Equal(e.Value(n.Out[0]).Shape) {
				continue
			}
			arg, ok := (&follower{edit: e, x: x, left: maxFollowed}).polynomial(f.In[0])
			all, whole := (&follower{edit: e, x: x, f: f.Out[0], left: maxFollowed}).polynomial(n.Out[0])
			if ok && whole && arg.near(inner) && all.near(polynomial{1: 0.5, ofFunction + 1: 0.5}) {
				return x, attrs
			}
		}
		return "", nil
	}
	return "", nil
}

// terms lists value and what it is computed from by arithmetic, nearest first.
func (e *edit) terms(value string) []string {
	list := []string{value}
	for i := 0; i < len(list) && len(list) < maxTerms; i++ {
		n := e.made[list[i]]
		if n == nil || (i > 0 && (n.Op == "Erf" || n.Op == "Tanh")) || !slices.Contains(arithmeticOps, n.Op) {
			continue
		}
		for _, name := range n.In {
			if e.Const(name) == nil && !slices.Contains(list, name) {
				list = append(list, name)
			}
		}
	}
	return list
}

var arithmeticOps = []string{"Add", "Sub", "Mul", "Div", "Pow"}

// polynomial holds the coefficients of x^i, and, from ofFunction on, of x^i
// times a function of x.
type polynomial [2 * ofFunction]float64

const ofFunction = 5

// near reports whether coefficients differ by no more than constants written
// with few digits do.
func (p polynomial) near(q polynomial) bool {
	for i := range p {
		if math.Abs(p[i]-q[i]) > 2e-4*math.Abs(q[i]) {
			return false
		}
	}
	return true
}

// times returns the product of p and q, where it has a place for all terms.
func (p polynomial) times(q polynomial) (r polynomial, ok bool) {
	for i, a := range p {
		for j, b := range q {
			if a == 0 || b == 0 {
				continue
			}
			power, of := i%ofFunction+j%ofFunction, i/ofFunction+j/ofFunction
			if power >= ofFunction || of > 1 {
				return r, false
			}
			r[of*ofFunction+power] += a * b
		}
	}
	return r, true
}

// follower follows a value up to x and f, through no more than left values:
// where sums are of sums, there are more ways up than anyone can go.
type follower struct {
	*edit
	x, f string
	left int
}

// maxFollowed is more than twice what the longest form of Gelu needs.
const maxFollowed = 48

// polynomial returns value as one in x and in f.
func (e *follower) polynomial(value string) (p polynomial, ok bool) {
	n := e.made[value]
	e.left--
	switch {
	case value == e.x:
		return polynomial{1: 1}, true
	case value == e.f:
		return polynomial{ofFunction: 1}, true
	case e.Const(value) != nil:
		t := e.Const(value)
		if t.Type != model.F32 || t.Elements() != 1 {
			return p, false
		}
		return polynomial{float64(t.F32()[0])}, true
	case n == nil || e.left < 0 || !slices.Contains(arithmeticOps, n.Op):
		return p, false
	}
	a, ok := e.polynomial(n.In[0])
	if !ok {
		return p, false
	}
	b, ok := e.polynomial(n.In[1])
	if !ok {
		return p, false
	}
	constant := b == polynomial{b[0]}
	switch n.Op {
	case "Mul":
		return a.times(b)
	case "Div":
		if !constant || b[0] == 0 {
			return p, false
		}
		return a.times(polynomial{1 / b[0]})
	case "Pow":
		if !constant || b[0] != math.Trunc(b[0]) || b[0] < 1 || b[0] >= ofFunction {
			return p, false
		}
		p = polynomial{1}
		for range int(b[0]) {
			if p, ok = p.times(a); !ok {
				return p, false
			}
		}
		return p, true
	}
	for i := range a {
		if n.Op == "Sub" {
			b[i] = -b[i]
		}
		p[i] = a[i] + b[i]
	}
	return p, true
}
