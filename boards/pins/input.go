package pins

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"periph.io/x/conn/v3/gpio"
)

// Pull is the resistor of an input.
type Pull int

// What an input is held at when nothing drives it.
const (
	PullAsIs Pull = iota
	PullUp
	PullDown
)

// Input is a line whose edges are read.
type Input struct {
	name string
	pin  gpio.PinIO
	give func()
	once sync.Once
}

// Input takes a line and makes it an input whose edges can be read.
func (h *Host) Input(name string, pull Pull) (*Input, error) {
	l, give, err := h.take(name)
	if err != nil {
		return nil, err
	}
	resistor := map[Pull]gpio.Pull{PullUp: gpio.PullUp, PullDown: gpio.PullDown}
	p, ok := resistor[pull]
	if !ok {
		p = gpio.PullNoChange
	}
	if err := l.pin.In(p, gpio.BothEdges); err != nil {
		give()
		return nil, l.refused(name, err)
	}
	return &Input{name: name, pin: l.pin, give: give}, nil
}

// Read reports whether the line is high now.
func (i *Input) Read() bool { return bool(i.pin.Read()) }

// ErrWait is returned by Edges where the line cannot be waited for.
var ErrWait = errors.New("edges cannot be waited for")

// Edges calls edge with the level after each change until ctx ends, then
// returns ctx's error. Two changes faster than edge returns may show the same
// level: the line is read after the change. It looks at ctx every quarter of
// a second.
func (i *Input) Edges(ctx context.Context, edge func(high bool, at time.Time)) error {
	const step = 250 * time.Millisecond // the drivers do not agree on what 0 and -1 mean
	failed := 0
	for ctx.Err() == nil {
		start := time.Now()
		if i.pin.WaitForEdge(step) {
			failed = 0
			edge(i.Read(), time.Now())
			continue
		}
		// An error is "no edge" too, but comes at once.
		if time.Since(start) >= step/2 {
			failed = 0
			continue
		}
		if failed++; failed >= 10 {
			return fmt.Errorf("line %s: %w", i.name, ErrWait)
		}
	}
	return ctx.Err()
}

// Close lets the line go. Edges must have returned.
func (i *Input) Close() error {
	i.once.Do(i.give)
	return nil
}
