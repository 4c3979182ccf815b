package pins

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"periph.io/x/conn/v3/gpio"
)

// Output is a line that this program drives.
type Output struct {
	name      string
	pin       gpio.PinIO
	activeLow bool
	give      func()

	mu     sync.Mutex // guards closed, and holds writes together
	closed bool
}

// ErrClosed is returned by what is done to a line after it was let go.
var ErrClosed = errors.New("line is closed")

// Output takes a line, makes it an output and inactive. An active-low line is
// inactive when it is high.
//
// The kernel makes an output low first, and the level is set a few
// microseconds later: an active-low line is active for that long.
func (h *Host) Output(name string, activeLow bool) (*Output, error) {
	l, give, err := h.take(name)
	if err != nil {
		return nil, err
	}
	o := &Output{name: name, pin: l.pin, activeLow: activeLow, give: give}
	if err := o.pin.Out(o.level(false)); err != nil {
		give()
		return nil, l.refused(name, err)
	}
	return o, nil
}

func (o *Output) level(active bool) gpio.Level { return gpio.Level(active != o.activeLow) }

// Set makes the line active or inactive.
func (o *Output) Set(active bool) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.closed {
		return fmt.Errorf("line %s: %w", o.name, ErrClosed)
	}
	if err := o.pin.Out(o.level(active)); err != nil {
		return fmt.Errorf("line %s: %w", o.name, err)
	}
	return nil
}

// Drive makes the line active for a time, or until ctx ends, and then
// inactive.
func (o *Output) Drive(ctx context.Context, d time.Duration) error {
	if err := o.Set(true); err != nil {
		return errors.Join(err, o.Set(false)) // a write may have had its effect all the same
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
	return errors.Join(o.Set(false), ctx.Err())
}

// Close makes the line inactive and lets it go. What the pin does then is up
// to its driver: a Pi's becomes an input.
func (o *Output) Close() error {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.closed {
		return nil
	}
	o.closed = true
	err := o.pin.Out(o.level(false))
	o.give()
	if err != nil {
		return fmt.Errorf("line %s: make it inactive: %w", o.name, err)
	}
	return nil
}
