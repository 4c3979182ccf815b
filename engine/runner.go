package engine

import (
	varint "encoding/binary"
	"fmt"

	"dunlin/model"
)

// Runner runs a graph whose input shapes change from call to call: for each
// set of shapes it compiles a Program at the first use, and keeps the
// sessions of the sets used last. It is not safe for concurrent use.
//
// A graph whose input shapes are fixed needs none: Compile and a Session do.
type Runner struct {
	graph    *model.Graph
	options  Options
	sessions recent[*Session]
	key      []byte
}

// maxSessions is how many sets of shapes a Runner keeps by default.
const maxSessions = 8

// NewRunner returns a Runner that keeps the sessions of up to keep sets of
// shapes, 0 for 8 of them. Options.Shapes holds for the inputs whose shape
// Session is not told. It fails as Check does; what only shapes tell, Session
// finds.
func NewRunner(g *model.Graph, o Options, keep int) (*Runner, error) {
	if err := g.Check(); err != nil {
		return nil, fmt.Errorf("compile: %w", err)
	}
	if err := Check(g); err != nil {
		return nil, err
	}
	if keep <= 0 {
		keep = maxSessions
	}
	return &Runner{graph: g, options: o, sessions: recent[*Session]{limit: keep}}, nil
}

// Session returns the session for inputs of these shapes, one for each input
// of the graph in its order; a nil shape is that of Options.Shapes or of the
// graph. The same shapes give the same session as long as it is kept, and
// then nothing is allocated. It fails as Compile does.
func (r *Runner) Session(shapes ...model.Shape) (*Session, error) {
	r.key = r.key[:0]
	for _, s := range shapes {
		r.key = appendShape(r.key, s)
	}
	if s, ok := r.sessions.get(r.key); ok {
		return s, nil
	}
	if len(shapes) > len(r.graph.Inputs) {
		return nil, fmt.Errorf("%d shapes for the %d inputs of graph %s", len(shapes), len(r.graph.Inputs), r.graph.Name)
	}
	o := r.options
	o.Shapes = map[string]model.Shape{}
	for i, name := range r.graph.Inputs {
		s := r.options.Shapes[name]
		if i < len(shapes) && shapes[i] != nil {
			s = shapes[i]
		}
		if s != nil {
			o.Shapes[name] = append(model.Shape{}, s...)
		}
	}
	p, err := Compile(r.graph, o)
	if err != nil {
		return nil, err
	}
	s := p.NewSession()
	r.sessions.put(r.key, s)
	return s, nil
}

// appendShape appends a shape to a key, so that different lists of shapes
// make different keys.
func appendShape(key []byte, s model.Shape) []byte {
	if s == nil {
		return append(key, 0)
	}
	key = varint.AppendUvarint(key, uint64(len(s))+1)
	for _, d := range s {
		key = varint.AppendVarint(key, int64(d))
	}
	return key
}
