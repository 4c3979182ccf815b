package engine

import (
	"fmt"
	"slices"
	"strings"

	"dunlin/model"
)

// FloatError says that a program computes in float where Options.RequireInt8
// wants integers. Without Steps the graph has no integers at all.
type FloatError struct {
	Graph string
	Steps []Step
}

func (e *FloatError) Error() string {
	if len(e.Steps) == 0 {
		return fmt.Sprintf("graph %s: int8 is required, and the graph has no integers: it is not quantised", e.Graph)
	}
	list := make([]string, len(e.Steps))
	for i, s := range e.Steps {
		list[i] = fmt.Sprintf("%s (%s): %s", s.Name, s.Kernel, s.Why)
	}
	return fmt.Sprintf("graph %s: int8 is required, and %d steps compute in float: %s", e.Graph, len(list), strings.Join(list, "; "))
}

// fallbacks marks the steps that compute in float though the graph has
// integers: those that multiply by weights or two activations, wherever they stand,
// and those with integers before them and behind them.
func (c *compiler) fallbacks(p *Program, g *model.Graph) error {
	if !p.exact {
		return nil
	}
	made, read := insideRows(g)
	from := func(name string) bool { return made[name] != nil && made[name].Op == "DequantizeLinear" }
	to := func(name string) bool {
		return slices.ContainsFunc(read[name], func(n *model.Node) bool { return n.Op == "QuantizeLinear" })
	}
	for i := range p.steps {
		s := &p.steps[i]
		if s.kernel.alias || s.node.Op == "QuantizeLinear" || s.node.Op == "DequantizeLinear" || !strings.HasPrefix(p.precision(*s), "float") {
			continue
		}
		between := func(n *model.Node) bool { return slices.ContainsFunc(n.In, from) && slices.ContainsFunc(n.Out, to) }
		s.fallback = s.kernel.macs > 0 || slices.ContainsFunc(operatorsOf(s.node), between)
	}
	if !c.options.RequireInt8 {
		return nil
	}
	refused := &FloatError{Graph: g.Name}
	for _, s := range p.ownSteps() {
		if s.Fallback {
			refused.Steps = append(refused.Steps, s)
		}
	}
	if refused.Steps != nil {
		return refused
	}
	return nil
}

// operatorsOf returns the operators of a dunlin.Rows, or n itself.
func operatorsOf(n *model.Node) []*model.Node {
	if body, ok := n.Attrs[bodyAttr].(*model.Graph); ok && n.Op == "dunlin.Rows" {
		return body.Nodes
	}
	return []*model.Node{n}
}

// insideRows returns what makes each value of g and what reads it, where
// operators of a dunlin.Rows count as g's own.
func insideRows(g *model.Graph) (made map[string]*model.Node, read map[string][]*model.Node) {
	flat := &model.Graph{}
	for _, n := range g.Nodes {
		flat.Nodes = append(flat.Nodes, operatorsOf(n)...)
	}
	return flat.Producers(), flat.Consumers()
}

// why returns the reason for which step s computes in float, "" where it does
// not.
func (p *Program) why(s step, precision string) string {
	switch why := s.node.Str(whyFloat, ""); {
	case s.kernel.alias || !strings.HasPrefix(precision, "float"):
		return ""
	case !p.exact:
		return "the model has no integers"
	case why != "":
		return why
	case slices.Contains(movesOnly, s.node.Op):
		return "it moves floats, and computes nothing"
	}
	return "the model has it in float"
}
