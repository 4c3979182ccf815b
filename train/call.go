package train

import (
	"fmt"
	"slices"

	"dunlin/kernels"
	"dunlin/model"
)

// call is a node of which a step is made.
type call struct {
	b     *builder
	node  *model.Node
	ports []*port
}

func (c *call) target() kernels.Target { return c.b.net.target }

func (c *call) batch() int { return c.b.net.options.Batch }

// has reports whether input i is there.
func (c *call) has(i int) bool { return c.node.Input(i) != "" }

// look returns input i without reading it, to see its shape and order.
func (c *call) look(i int) (*value, error) {
	if !c.has(i) {
		return nil, fmt.Errorf("input %d is left out", i)
	}
	return c.b.value(c.node.In[i])
}

// read returns input i in the order of axes that it has.
func (c *call) read(i int) (*port, error) {
	v, err := c.look(i)
	if err != nil {
		return nil, err
	}
	return c.port(v), nil
}

// readIn returns input i with its channels last in memory, or not.
func (c *call) readIn(i int, last bool) (*port, error) {
	v, err := c.look(i)
	if err != nil {
		return nil, err
	}
	return c.port(c.b.order(v, last)), nil
}

// optional is readIn of the graph's order, nil where the input is left out.
func (c *call) optional(i int) (*port, error) {
	if !c.has(i) {
		return nil, nil
	}
	return c.readIn(i, false)
}

func (c *call) port(v *value) *port {
	p := &port{value: v}
	c.ports = append(c.ports, p)
	return p
}

// wants reports whether what has been read so far has a gradient.
func (c *call) wants() bool {
	return slices.ContainsFunc(c.ports, func(p *port) bool { return p.wants })
}

// write returns a new value for output i. It has a gradient where something
// that was read has one.
func (c *call) write(i int, shape model.Shape, last bool) (*value, error) {
	count, err := shape.Elements()
	if err == nil {
		err = c.b.take(count)
	}
	if err != nil {
		return nil, err
	}
	name := ""
	if i < len(c.node.Out) {
		name = c.node.Out[i]
	}
	v := c.result(name, shape, last)
	if name != "" {
		c.b.values[name] = v
	}
	return v, nil
}

func (c *call) result(name string, shape model.Shape, last bool) *value {
	count, _ := shape.Elements()
	v := &value{name: name, shape: slices.Clone(shape), last: last && len(shape) > 2, data: floats(count), wants: c.wants()}
	if v.wants {
		v.grad = floats(count)
	}
	return v
}

// view returns a value of another shape that lies where x, in the graph's
// order, does.
func (c *call) view(x *port, shape model.Shape) *value {
	v := &value{shape: slices.Clone(shape), data: x.data, wants: x.wants}
	if v.wants {
		v.grad = floats(len(v.data))
	}
	return v
}

// tensor returns a constant input, nil where it is left out.
func (c *call) tensor(i int) (*model.Tensor, error) {
	if !c.has(i) {
		return nil, nil
	}
	t := c.b.g.Const(c.node.In[i])
	if t == nil {
		return nil, fmt.Errorf("input %d (%s) is computed; train needs a constant here", i, c.node.In[i])
	}
	return t, nil
}

// integers returns a constant input of int64, nil where it is left out.
func (c *call) integers(i int) ([]int, error) {
	t, err := c.tensor(i)
	if t == nil || err != nil {
		return nil, err
	}
	if t.Type != model.I64 {
		return nil, fmt.Errorf("input %d (%s) is %v, not int64", i, c.node.In[i], t.Type)
	}
	list := make([]int, 0, t.Elements())
	for _, v := range t.I64() {
		list = append(list, int(v))
	}
	return list, nil
}

// number returns a constant input of one float32, or or where it is left out.
func (c *call) number(i int, or float32) (float32, error) {
	t, err := c.tensor(i)
	if t == nil || err != nil {
		return or, err
	}
	if t.Type != model.F32 || t.Elements() != 1 {
		return 0, fmt.Errorf("input %d (%s) is %v %v, not one float32", i, c.node.In[i], t.Type, t.Shape)
	}
	return t.F32()[0], nil
}
