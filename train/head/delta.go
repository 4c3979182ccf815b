package head

import (
	"errors"
	"fmt"

	"dunlin/model"
)

// Delta is what was learned: other contents for some constants of a graph.
// Types and shapes stay those of the graph.
type Delta struct {
	Constants []Constant `json:"constants"`
}

// Constant is the content of one constant, little-endian as in model.Tensor.
type Constant struct {
	Name string `json:"name"`
	Data []byte `json:"data"`
}

// ErrDelta is returned, wrapped, for a delta that is not one of this graph.
var ErrDelta = errors.New("not a head of this model")

// MaxDelta bounds the bytes of a delta's text: MaxParameters floats in base64
// and the names around them.
const MaxDelta = 24 << 20

// maxConstants bounds what a delta replaces: two layers have at most four
// constants each, and a few grids.
const maxConstants = 64

func (d *Delta) check() error {
	if n := len(d.Constants); n == 0 || n > maxConstants {
		return fmt.Errorf("%w: %d constants, want 1 to %d", ErrDelta, n, maxConstants)
	}
	seen := map[string]bool{}
	for _, c := range d.Constants {
		if c.Name == "" || seen[c.Name] {
			return fmt.Errorf("%w: constant %.80q has no name or stands twice", ErrDelta, c.Name)
		}
		seen[c.Name] = true
	}
	return nil
}

// Apply returns a clone of g with the constants of d in it. What g does not
// have, or has in another size, is an error that wraps ErrDelta.
func (d *Delta) Apply(g *model.Graph) (*model.Graph, error) {
	if err := d.check(); err != nil {
		return nil, err
	}
	out := g.Clone()
	for _, c := range d.Constants {
		old := g.Const(c.Name)
		if old == nil {
			return nil, fmt.Errorf("%w: %s has no constant %.80q", ErrDelta, g.Name, c.Name)
		}
		if len(c.Data) != len(old.Data) {
			return nil, fmt.Errorf("%w: constant %.80q has %d bytes, %d were learned", ErrDelta, c.Name, len(old.Data), len(c.Data))
		}
		t, err := model.View(old.Type, old.Shape, c.Data)
		if err != nil {
			return nil, fmt.Errorf("%w: constant %.80q: %w", ErrDelta, c.Name, err)
		}
		out.Values[c.Name].Const = t
	}
	return out, nil
}

// Of reports whether the constants that d replaces are all of the head h.
func (d *Delta) Of(h *Head) error {
	allowed := map[string]bool{}
	for _, name := range h.Constants() {
		allowed[name] = true
	}
	for _, c := range d.Constants {
		if !allowed[c.Name] {
			return fmt.Errorf("%w: constant %.80q is no part of the head", ErrDelta, c.Name)
		}
	}
	return nil
}
