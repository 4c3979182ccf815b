// Package model is the one form in which dunlin holds a neural network: a
// Graph of Nodes over named Values, with Tensors for the constants.
//
// Importers (model/onnx, model/tflite) make a Graph, quant makes a smaller
// one of it, train finds its weights, model/pack stores it, and engine
// compiles it into a program for one CPU. Start with Graph and Tensor.
//
// The operators are those of ONNX, in the form they have in opset 13,
// whatever the form in the file was: activations are NCHW, the axes of
// Squeeze are an input, and so on (https://onnx.ai/onnx/operators); the
// table in model/onnx/canon.go has what it makes of other forms. An operator
// of another domain carries it in its name:
// "com.microsoft.QLinearAdd". Quantisation has one form only: integers stand
// in the graph as QuantizeLinear and DequantizeLinear nodes around float
// operators, with int8 weights behind a DequantizeLinear of their own;
// engine makes integer operators of them.
//
// The package promises that a Graph for which Check returns nil is closed:
// every value read is an input, a constant or the output of an earlier node.
// It knows nothing of what an operator computes, nor of files.
package model

import (
	"fmt"
	"maps"
	"slices"
)

// Graph is a network: Nodes in an order in which each comes after those it
// reads from.
type Graph struct {
	Name    string
	Inputs  []string          // names of the values that a caller gives, constants never among them
	Outputs []string          // names of the values that a caller wants
	Values  map[string]*Value // what is known of each value; a value that only a node makes may be absent
	Nodes   []*Node
}

// Value is what is known of one edge of the graph before it runs.
type Value struct {
	Type  DType    // 0 where it is not known
	Shape Shape    // nil where not even the rank is known
	Dims  []string // names of the Unknown axes ("N"), "" for others; nil where there are none
	Const *Tensor  // the value itself, where it is a constant
}

// Node is one operator. In and Out are value names; "" in In is an optional
// input left out, "" in Out an optional output that nobody wants.
type Node struct {
	Op    string
	Name  string // unique in the graph and never empty: importers make one up where the file has none
	In    []string
	Out   []string
	Attrs map[string]Attr
}

// Attr is a node's attribute: one of int64, float32, string, []int64,
// []float32, []string, *Tensor, *Graph. A subgraph may read values of the
// graph around it.
type Attr any

// Int returns the attribute, or or where it is absent or not an integer.
func (n *Node) Int(name string, or int64) int64 { return attr(n, name, or) }

// Float returns the attribute, or or where it is absent or not a float.
func (n *Node) Float(name string, or float32) float32 { return attr(n, name, or) }

// Str returns the attribute, or or where it is absent or not a string.
func (n *Node) Str(name, or string) string { return attr(n, name, or) }

// Ints returns the attribute, or nil where it is absent or no list of
// integers.
func (n *Node) Ints(name string) []int64 { return attr[[]int64](n, name, nil) }

func attr[T any](n *Node, name string, or T) T {
	if v, ok := n.Attrs[name].(T); ok {
		return v
	}
	return or
}

// Input returns the name of the i-th input, "" where there is none.
func (n *Node) Input(i int) string {
	if i < len(n.In) {
		return n.In[i]
	}
	return ""
}

// New returns an empty graph.
func New(name string) *Graph { return &Graph{Name: name, Values: map[string]*Value{}} }

// Value returns what is known of a value, never nil.
func (g *Graph) Value(name string) *Value {
	if v := g.Values[name]; v != nil {
		return v
	}
	return &Value{}
}

// Const returns the constant of that name, nil where the value is none.
func (g *Graph) Const(name string) *Tensor {
	if v := g.Values[name]; v != nil {
		return v.Const
	}
	return nil
}

// AddConst makes t a constant of the graph under name.
func (g *Graph) AddConst(name string, t *Tensor) {
	g.Values[name] = &Value{Type: t.Type, Shape: t.Shape, Const: t}
}

// Producers returns, for each value that a node makes, that node.
func (g *Graph) Producers() map[string]*Node {
	m := make(map[string]*Node, len(g.Nodes))
	for _, n := range g.Nodes {
		for _, o := range n.Out {
			if o != "" {
				m[o] = n
			}
		}
	}
	return m
}

// Consumers returns, for each value, the nodes that read it, in order; a node
// stands there once for each time it reads it. Outputs of the graph are not
// counted.
func (g *Graph) Consumers() map[string][]*Node {
	m := make(map[string][]*Node, len(g.Nodes))
	for _, n := range g.Nodes {
		for _, i := range n.In {
			if i != "" {
				m[i] = append(m[i], n)
			}
		}
	}
	return m
}

// Clone returns a graph whose nodes, values and subgraphs can be changed
// without changing g. Tensors are shared: nobody writes into a constant.
func (g *Graph) Clone() *Graph {
	c := &Graph{
		Name: g.Name, Inputs: slices.Clone(g.Inputs), Outputs: slices.Clone(g.Outputs),
		Values: make(map[string]*Value, len(g.Values)), Nodes: make([]*Node, len(g.Nodes)),
	}
	for name, v := range g.Values {
		w := *v
		w.Shape, w.Dims = slices.Clone(v.Shape), slices.Clone(v.Dims)
		c.Values[name] = &w
	}
	for i, n := range g.Nodes {
		c.Nodes[i] = &Node{
			Op: n.Op, Name: n.Name, In: slices.Clone(n.In), Out: slices.Clone(n.Out), Attrs: maps.Clone(n.Attrs),
		}
		for key, a := range n.Attrs {
			if sub, ok := a.(*Graph); ok {
				c.Nodes[i].Attrs[key] = sub.Clone()
			}
		}
	}
	return c
}

// Prune drops nodes and values from which no output is reached, and returns
// how many nodes it dropped.
func (g *Graph) Prune() int {
	need := map[string]bool{}
	for _, o := range g.Outputs {
		need[o] = true
	}
	var kept []*Node
	for _, n := range slices.Backward(g.Nodes) {
		if !slices.ContainsFunc(n.Out, func(o string) bool { return o != "" && need[o] }) {
			continue
		}
		kept = append(kept, n)
		for _, i := range n.In {
			need[i] = true
		}
		for _, a := range n.Attrs {
			if sub, ok := a.(*Graph); ok {
				sub.free(need)
			}
		}
	}
	dropped := len(g.Nodes) - len(kept)
	slices.Reverse(kept)
	g.Nodes = kept
	made := g.Producers()
	maps.DeleteFunc(g.Values, func(name string, v *Value) bool {
		return !need[name] && made[name] == nil && !slices.Contains(g.Inputs, name)
	})
	return dropped
}

// free adds to need what the graph reads from the graph around it.
func (g *Graph) free(need map[string]bool) {
	for _, n := range g.Nodes {
		for _, i := range n.In {
			need[i] = true
		}
		for _, a := range n.Attrs {
			if sub, ok := a.(*Graph); ok {
				sub.free(need)
			}
		}
	}
	for _, o := range g.Outputs {
		need[o] = true
	}
}

// Error says which node or value of a graph is broken.
type Error struct {
	Graph, Part string
	Err         error
}

func (e *Error) Error() string { return fmt.Sprintf("graph %s: %s: %v", e.Graph, e.Part, e.Err) }
func (e *Error) Unwrap() error { return e.Err }

// Check fails with a *Error where the graph is not closed (see the package
// comment), where a name is made twice, or where a constant's bytes do not
// fit its shape. It takes time and memory in proportion to the graph.
func (g *Graph) Check() error { return g.check(nil) }

// scope is the values that a node can read: those of its own graph so far,
// and those of the graphs around it.
type scope struct {
	own   map[string]bool
	outer *scope
}

func (s *scope) has(name string) bool {
	for ; s != nil; s = s.outer {
		if s.own[name] {
			return true
		}
	}
	return false
}

func (g *Graph) bad(part, format string, a ...any) error {
	return &Error{Graph: g.Name, Part: part, Err: fmt.Errorf(format, a...)}
}

// define adds a value that part makes.
func (g *Graph) define(s *scope, name, part string) error {
	if name == "" {
		return g.bad(part, "a value without a name")
	}
	if s.own[name] {
		return g.bad(part, "value %q is made twice", name)
	}
	s.own[name] = true
	return nil
}

func (g *Graph) check(outer *scope) error {
	s := &scope{own: map[string]bool{}, outer: outer}
	for name, v := range g.Values {
		if v.Const == nil {
			continue
		}
		if err := v.Const.Check(); err != nil {
			return &Error{Graph: g.Name, Part: "constant " + name, Err: err}
		}
		if err := g.define(s, name, "constant "+name); err != nil {
			return err
		}
	}
	for _, name := range g.Inputs {
		if err := g.define(s, name, "input "+name); err != nil {
			return err
		}
	}
	names := map[string]bool{}
	for _, n := range g.Nodes {
		if n.Name == "" || names[n.Name] {
			return g.bad(n.part(), "its name is empty or taken")
		}
		names[n.Name] = true
		if err := g.checkNode(s, n); err != nil {
			return err
		}
	}
	for _, o := range g.Outputs {
		if !s.has(o) {
			return g.bad("output "+o, "nothing makes it")
		}
	}
	return nil
}

func (n *Node) part() string { return "node " + n.Name + " (" + n.Op + ")" }

// checkNode checks what n and its subgraphs read, and defines what n makes.
func (g *Graph) checkNode(s *scope, n *Node) error {
	for _, i := range n.In {
		if i != "" && !s.has(i) {
			return g.bad(n.part(), "reads %q, which nothing before it makes", i)
		}
	}
	for key, a := range n.Attrs {
		if sub, ok := a.(*Graph); ok {
			if err := sub.check(s); err != nil {
				return fmt.Errorf("%s, attribute %s: %w", n.part(), key, err)
			}
		}
	}
	for _, o := range n.Out {
		if o == "" {
			continue
		}
		if err := g.define(s, o, n.part()); err != nil {
			return err
		}
	}
	return nil
}
