package engine

import (
	"errors"
	"fmt"
	"slices"

	"dunlin/model"
)

// pass is one rewriting of a graph: it returns a new graph and leaves the
// old one as it was. The functions are in pass_*.go, one a file.
type pass struct {
	name string
	run  func(c *compiler, g *model.Graph) (*model.Graph, error)
}

// fusing is the order of passes, and why.
var fusing = []pass{
	{"fold", foldShapes},            // shapes become constants; weights behind DequantizeLinear stay
	{"drop", dropNothings},          // fewer shapes of graph for the others to know
	{"turn", turnBack},              // orders of axes that are undone
	{"shuffle", chooseChannels},     // moves that choose channels
	{"pad", foldPads},               // zeros around a convolution or pool
	{"look-up", lookUps},            // products with one-hot rows
	{"hardswish", findHardSwish},    // one operator of four
	{"batchnorm", foldBatchNorm},    // before bias and activation, which then follow the convolution
	{"wrap", wrapMoves},             // moves of quantised integers look as those of floats do
	{"signed", makeSigned},          // uint8 becomes int8, so that there is one kind of integer kernel
	{"sink", sinkDequantize},        // moves of data happen in int8
	{"table", makeTables},           // functions of one int8 value; before "integer" looks at each operator
	{"integer", toInteger},          // float operators between integers become integer operators
	{"weights", foldWeights},        // what no integer kernel took is float from here on
	{"batchnorm", foldBatchNorm},    // of convolutions whose weights have just become constants
	{"gelu", makeGelu},              // before "divide" and "fuse" change its parts
	{"divide", divideByConstants},   // a product is faster
	{"fuse", fuseActivations},       // bias and activation into the operator before them
	{"residual", fuseResiduals},     // what is added to the result, and the activation behind that
	{"channels-last", channelsLast}, // NHWC, chosen once
	{"turn", turnBack},              // what stood in the graph meets what the layout wants
	{"weights", foldWeights},        // constants that stood in the other layout
	{"planes", joinPlanes},          // where "channels-last" put a Transpose behind a quantised picture
	{"dynamic", fuseDynamic},        // integer products with float results
	{"product", foldTransposes},     // products read operands as they lie
	{"rows", fuseRows},              // what is left of float runs in the first cache
}

// observing are the passes where each value must stay.
var observing = []pass{
	{"fold", foldShapes},
	{"weights", foldWeights},
	{"channels-last", channelsLastEach},
}

// passes runs all passes over g, whose inputs have shapes, with a check of the
// graph after each.
func (c *compiler) passes(g *model.Graph) (*model.Graph, error) {
	list := fusing
	if c.options.Observe != nil {
		list = observing
	}
	last := ""
	dump := func(name string) {
		if c.options.Dump == nil {
			return
		}
		if text := Text(g); text != last {
			fmt.Fprintf(c.options.Dump, "--- after %s\n%s", name, text)
			last = text
		}
	}
	dump("import")
	for _, p := range list {
		next, err := p.run(c, g)
		if err != nil {
			return nil, err
		}
		if c.options.Observe == nil { // an observer sees values that only it wants
			next.Prune()
		}
		if err := next.Check(); err != nil {
			return nil, fmt.Errorf("pass %s broke the graph: %w", p.name, err)
		}
		if err := c.infer(next); err != nil {
			return nil, unsupportedFrom(next, err)
		}
		g = next
		dump(p.name)
	}
	return g, nil
}

// unsupportedFrom makes an *UnsupportedError of an error that says a node is
// one, and leaves others as they are.
func unsupportedFrom(g *model.Graph, err error) error {
	var why notYet
	var at *model.Error
	if !errors.As(err, &why) || !errors.As(err, &at) {
		return err
	}
	for _, n := range g.Nodes {
		if at.Part == "node "+n.Name+" ("+n.Op+")" {
			return &UnsupportedError{Graph: g.Name, Nodes: []Unsupported{{n.Name, n.Op, string(why)}}}
		}
	}
	return err
}

// Text returns the graph as text, a line a node: what Options.Dump shows.
func Text(g *model.Graph) string {
	var b []byte
	for _, name := range g.Inputs {
		v := g.Value(name)
		b = fmt.Appendf(b, "input  %s %v %v\n", name, v.Type, v.Shape)
	}
	for _, n := range g.Nodes {
		b = fmt.Appendf(b, "%v = %s%v", n.Out, n.Op, n.In)
		keys := make([]string, 0, len(n.Attrs))
		for k := range n.Attrs {
			keys = append(keys, k)
		}
		slices.Sort(keys)
		for _, k := range keys {
			if sub, ok := n.Attrs[k].(*model.Graph); ok {
				b = fmt.Appendf(b, " %s={\n%s}", k, Text(sub))
				continue
			}
			b = fmt.Appendf(b, " %s=%v", k, n.Attrs[k])
		}
		for _, o := range n.Out {
			v := g.Value(o)
			b = fmt.Appendf(b, "  %v %v", v.Type, v.Shape)
		}
		b = append(b, '\n')
	}
	for _, name := range g.Outputs {
		b = fmt.Appendf(b, "output %s\n", name)
	}
	return string(b)
}
