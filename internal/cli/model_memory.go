package cli

import (
	"errors"
	"runtime/debug"

	"dunlin/model"
	"dunlin/quant"
)

// What compress takes at most: the weights as the file has them, and 64 MiB. Of
// these the program's own code, the stacks and what the runtime keeps take up
// to programBytes, which the collector does not know of.
const (
	beside       = 64 << 20
	programBytes = 22 << 20
)

// sparing makes compress take little memory for a model: the collector works
// harder as the limit comes near, and the bytes of the file are given up. What
// it returns undoes the former.
func sparing(m *loaded) (undo func()) {
	if m.pack == nil {
		own(m.graph)
	}
	debug.FreeOSMemory()
	limit := debug.SetMemoryLimit(weightBytes(m.graph) + beside - programBytes)
	percent := debug.SetGCPercent(loadGC)
	return func() {
		debug.SetMemoryLimit(limit)
		debug.SetGCPercent(percent)
	}
}

// own gives the constants of g, and of the graphs in it, memory of their own.
// Some alias the bytes of the file, and one of them keeps all of those.
func own(g *model.Graph) {
	for _, v := range g.Values {
		if v.Const != nil {
			v.Const = v.Const.Clone()
		}
	}
	for _, n := range g.Nodes {
		for name, a := range n.Attrs {
			switch a := a.(type) {
			case *model.Graph:
				own(a)
			case *model.Tensor:
				n.Attrs[name] = a.Clone()
			}
		}
	}
}

// foldOnce puts batch normalisation and biases into the weights, which
// everything that compares graphs would do again, each time with a copy. What is
// rewritten is rewritten as it was.
func (m *loaded) foldOnce(w *material, o rewriteOptions) error {
	if o != (rewriteOptions{PerTensor: o.PerTensor}) {
		return nil
	}
	g, err := quant.Prepare(w.graph)
	if errors.Is(err, quant.ErrQuantised) {
		return nil // who calibrates says so
	}
	if err != nil {
		return err
	}
	w.graph, m.graph = g, g
	if m.pack != nil {
		m.pack.Graph = g
	}
	return nil
}

// letGo gives up the graph.
func (m *loaded) letGo() {
	if m.graph = nil; m.pack != nil {
		m.pack.Graph = nil
	}
}
