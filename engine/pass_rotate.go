package engine

import (
	"slices"

	"dunlin/kernels"
	"dunlin/model"
)

// makeRotations makes one operator of rotary position embedding as exporters
// write it: a and b are the two parts of a Split along the last axis, and what
// Concat puts side by side again is
//
//	a*cos - b*sin, a*sin + b*cos
//
// The result is the same bits.
func makeRotations(_ *compiler, g *model.Graph) (*model.Graph, error) {
	e := editing(g)
	for _, n := range e.Nodes {
		if in := e.rotation(n); in != nil {
			e.keep(&model.Node{Op: "dunlin.Rotate", Name: n.Name, In: in, Out: n.Out})
		} else {
			e.keep(n)
		}
	}
	return e.done(), nil
}

// rotation returns x, cos and sin where n is the Concat of a rotation.
func (e *edit) rotation(n *model.Node) []string {
	shape := e.Value(n.Out[0]).Shape
	if n.Op != "Concat" || len(n.In) != 2 || e.Value(n.Out[0]).Type != model.F32 || !lastAxis(n, len(shape)) {
		return nil
	}
	less, sum := e.made[n.In[0]], e.made[n.In[1]]
	if less == nil || sum == nil || less.Op != "Sub" || sum.Op != "Add" {
		return nil
	}
	first, second := e.made[less.In[0]], e.made[less.In[1]] // a*cos and b*sin
	if first == nil || second == nil || first.Op != "Mul" || second.Op != "Mul" {
		return nil
	}
	for _, i := range []int{0, 1} {
		for _, j := range []int{0, 1} {
			a, cos, b, sin := first.In[i], first.In[1-i], second.In[j], second.In[1-j]
			split := e.made[a]
			if split == nil || split.Op != "Split" || !slices.Equal(split.Out, []string{a, b}) || !lastAxis(split, len(shape)) {
				continue
			}
			if !e.Value(a).Shape.Equal(e.Value(b).Shape) || !e.Value(split.In[0]).Shape.Equal(shape) {
				continue
			}
			if e.multiplies(sum, a, sin, b, cos) {
				return []string{split.In[0], cos, sin}
			}
		}
	}
	return nil
}

// multiplies reports whether sum is a*b + c*d, in any order.
func (e *edit) multiplies(sum *model.Node, a, b, c, d string) bool {
	is := func(value, x, y string) bool {
		n := e.made[value]
		return n != nil && n.Op == "Mul" && (slices.Equal(n.In, []string{x, y}) || slices.Equal(n.In, []string{y, x}))
	}
	return is(sum.In[0], a, b) && is(sum.In[1], c, d) || is(sum.In[0], c, d) && is(sum.In[1], a, b)
}

func lastAxis(n *model.Node, rank int) bool {
	axis, err := axisOf(n.Int("axis", 0), rank)
	return err == nil && axis == rank-1
}

// rotationOf is that of dunlin.Rotate: x [..., 2*N], and cos and sin that
// broadcast to [..., N]. Where N is 1, the axis before it has the pairs.
func rotationOf(c *call) (*kernels.Rotation, error) {
	pairs := slices.Clone(c.shape(0))
	cos, sin, last := c.shape(1), c.shape(2), len(pairs)-1
	pairs[last] /= 2
	cut := func(s model.Shape) model.Shape { return s[:max(0, len(s)-1)] }
	if pairs[last] == 1 && last > 0 {
		return kernels.NewRotation(cut(pairs), cut(cos), cut(sin), true)
	}
	return kernels.NewRotation(pairs, cos, sin, false)
}

func inferRotate(c *call) error {
	for i := range 3 {
		if err := c.want(i, model.F32); err != nil {
			return err
		}
	}
	if _, err := rotationOf(c); err != nil {
		return err
	}
	return inferSame(c)
}

func lowerRotate(c *call) (*kernel, error) {
	r, err := rotationOf(c)
	if err != nil {
		return nil, err
	}
	k := named("rotate")
	k.bind = func(in, out []*model.Tensor, _ []byte) func() error {
		x, cos, sin, y := in[0].F32(), in[1].F32(), in[2].F32(), out[0].F32()
		return func() error { r.Run(y, x, cos, sin); return nil }
	}
	return k, nil
}
