package pins

import (
	"context"
	"errors"
	"time"
)

// Trigger is a line at which something happens: a button, a light barrier, a
// sensor that says when.
type Trigger struct {
	Line string
	Pull Pull
	Edge Edge
	Hold time.Duration // a level counts once it has held for so long; 0: each edge does
}

// Watch takes the line and calls hit for each of its edges until ctx ends,
// then lets it go and returns ctx's error. hit does not wait.
func (h *Host) Watch(ctx context.Context, t Trigger, hit func(at time.Time)) (err error) {
	edge := t.Edge
	if t.Hold > 0 {
		edge = BothEdges // it takes both to know what the level is
	}
	in, err := h.Input(t.Line, t.Pull, edge)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, in.Close()) }()
	if t.Hold == 0 {
		return in.Edges(ctx, func(_ bool, at time.Time) { hit(at) })
	}
	return in.Settled(ctx, t.Hold, func(high bool, at time.Time) {
		if t.Edge == BothEdges || high == (t.Edge == Rising) {
			hit(at)
		}
	})
}
