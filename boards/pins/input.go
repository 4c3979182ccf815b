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

// Edge is a change of a line's level.
type Edge int

// The changes that count.
const (
	BothEdges Edge = iota
	Rising
	Falling
)

// Input is a line whose edges are read.
type Input struct {
	name   string
	pin    gpio.PinIO
	give   func()
	once   sync.Once
	failed int // waits in a row that ended at once
}

// Input takes a line and makes it an input whose edges of one kind can be
// read.
func (h *Host) Input(name string, pull Pull, edge Edge) (*Input, error) {
	l, give, err := h.take(name)
	if err != nil {
		return nil, err
	}
	resistor := map[Pull]gpio.Pull{PullUp: gpio.PullUp, PullDown: gpio.PullDown}
	p, ok := resistor[pull]
	if !ok {
		p = gpio.PullNoChange
	}
	e, ok := map[Edge]gpio.Edge{Rising: gpio.RisingEdge, Falling: gpio.FallingEdge}[edge]
	if !ok {
		e = gpio.BothEdges
	}
	if err := l.pin.In(p, e); err != nil {
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
	for ctx.Err() == nil {
		came, err := i.wait(lookAtEnd)
		if err != nil {
			return err
		}
		if came {
			edge(i.Read(), time.Now())
		}
	}
	return ctx.Err()
}

// Settled is Edges for a contact that bounces: a level counts once it has
// held for the time of hold, and edge is called where it is another than the
// last one that counted. A pulse shorter than hold is none. The input must
// have both edges.
func (i *Input) Settled(ctx context.Context, hold time.Duration, edge func(high bool, at time.Time)) error {
	level := i.Read()
	for ctx.Err() == nil {
		came, err := i.wait(lookAtEnd)
		if err != nil {
			return err
		}
		if !came && i.Read() == level { // else an edge came since, or got lost
			continue
		}
		for came = true; came && ctx.Err() == nil; {
			if came, err = i.wait(hold); err != nil {
				return err
			}
		}
		if now := i.Read(); now != level && ctx.Err() == nil {
			level = now
			edge(now, time.Now())
		}
	}
	return ctx.Err()
}

// lookAtEnd is how often a wait looks whether it should end. (The drivers do
// not agree on what a time of 0 and of -1 mean.)
const lookAtEnd = 250 * time.Millisecond

// wait waits for an edge, for at most the time of limit.
func (i *Input) wait(limit time.Duration) (came bool, err error) {
	start := time.Now()
	if i.pin.WaitForEdge(limit) {
		i.failed = 0
		return true, nil
	}
	// An error is "no edge" too, but comes at once.
	if time.Since(start) >= limit/2 {
		i.failed = 0
		return false, nil
	}
	if i.failed++; i.failed >= 10 {
		return false, fmt.Errorf("line %s: %w", i.name, ErrWait)
	}
	return false, nil
}

// Close lets the line go. Edges must have returned.
func (i *Input) Close() error {
	i.once.Do(i.give)
	return nil
}
