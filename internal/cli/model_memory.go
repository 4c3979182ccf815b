package cli

import (
	"errors"
	"path/filepath"
	"runtime/debug"

	"dunlin/model"
	"dunlin/quant"
)

// What compress takes at most: the weights as the file has them, and 64 MiB. Of
// these the program's own code, the stacks and what the runtime keeps take up
// to programBytes, which the collector does not know of.
const (
	beside       = 64 << 20
	programBytes = 24 << 20
)

// sparing makes compress take little memory for a model, whose pack goes to out:
// the weights go into a file beside it, the collector works harder as the limit
// comes near, and the bytes of the model's file are given up. What it returns
// undoes all but the last.
func sparing(m *loaded, out string) (undo func()) {
	if m.pack == nil { // whose weights are in a file as they are
		m.shelf = newShelf(filepath.Dir(out))
		m.shelf.put(m.graph)
		m.own()
	}
	debug.FreeOSMemory()
	limit := debug.SetMemoryLimit(weightBytes(m.graph) + beside - programBytes)
	percent := debug.SetGCPercent(loadGC)
	return func() {
		debug.SetMemoryLimit(limit)
		debug.SetGCPercent(percent)
		_ = m.shelf.close() // an error of unmapping says nothing of the pack
	}
}

// own gives the constants that are not on the shelf memory of their own. Some
// alias the bytes of the file, and one of them keeps all of those.
func (m *loaded) own() {
	constants(m.graph, func(t *model.Tensor) *model.Tensor {
		if m.shelf != nil && m.shelf.place(t) != nil {
			return t
		}
		return t.Clone()
	})
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
	m.shelf.put(g)
	debug.FreeOSMemory()
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
