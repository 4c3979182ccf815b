package pins

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"periph.io/x/conn/v3/gpio"
)

// contact is a pin whose level changes at times, as a script says, and whose
// kernel queues an event for each edge that was asked for.
type contact struct {
	*testPin
	edge   gpio.Edge
	events chan struct{}
}

func (c *contact) In(pull gpio.Pull, e gpio.Edge) error {
	c.edge = e
	return c.testPin.In(pull, e)
}

func (c *contact) WaitForEdge(d time.Duration) bool {
	select {
	case <-c.events:
		return true
	case <-time.After(d):
		return false
	}
}

// play changes the level at each of the times, from low on.
func (c *contact) play(at ...time.Duration) {
	start := time.Now()
	for _, d := range at {
		<-time.After(time.Until(start.Add(d)))
		c.mu.Lock()
		c.level = !c.level
		rose := c.level
		c.mu.Unlock()
		if c.edge == gpio.BothEdges || c.edge == gpio.RisingEdge && bool(rose) || c.edge == gpio.FallingEdge && !bool(rose) {
			c.events <- struct{}{}
		}
	}
}

// A button that bounces is pressed at 1 s and let go at 2 s; at 3 s a spike
// comes that is shorter than any press.
func TestWatch(t *testing.T) {
	const ms = time.Millisecond
	bounces := []time.Duration{
		1000 * ms, 1001 * ms, 1003 * ms, 1004 * ms, 1006 * ms,
		2000 * ms, 2002 * ms, 2003 * ms,
		3000 * ms, 3002 * ms,
	}
	for _, c := range []struct {
		edge Edge
		hold time.Duration
		in   string
		want []string
	}{
		{Rising, 20 * ms, "BothEdges", []string{"1.026s"}},
		{Falling, 20 * ms, "BothEdges", []string{"2.023s"}},
		{BothEdges, 20 * ms, "BothEdges", []string{"1.026s", "2.023s"}},
		{Rising, 0, "RisingEdge", []string{"1s", "1.003s", "1.006s", "2.002s", "3s"}},
		{Falling, 0, "FallingEdge", []string{"1.001s", "1.004s", "2s", "2.003s", "3.002s"}},
	} {
		synctest.Test(t, func(t *testing.T) {
			pin := &contact{testPin: newPin(), events: make(chan struct{}, 16)}
			h := New(Chip{"test", []Pin{{pin, "GPIO4", ""}}})
			ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
			defer cancel()
			start := time.Now()
			go func() {
				synctest.Wait() // until it is watched
				pin.play(bounces...)
			}()
			var got []string
			err := h.Watch(ctx, Trigger{"GPIO4", PullUp, c.edge, c.hold}, func(at time.Time) { got = append(got, fmt.Sprint(at.Sub(start))) })
			if !errors.Is(err, context.DeadlineExceeded) || !slices.Equal(got, c.want) {
				t.Errorf("edge %v, hold %v: %v, %q, want %q", c.edge, c.hold, err, got, c.want)
			}
			if want := "In PullUp " + c.in; pin.said() != want || pin.closed != 1 {
				t.Errorf("%s, closed %d times, want %s", pin.said(), pin.closed, want)
			}
		})
	}
}

// A line that is in use, or breaks, ends the watch and is let go.
func TestWatchFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, pin, second := board()
		hit := func(time.Time) { t.Error("a hit") }
		second.fail = fmt.Errorf("line_request ioctl: %s", syscall.EBUSY.Error())
		if err := h.Watch(t.Context(), Trigger{Line: "gpio-brcmstb@107d508500:1"}, hit); !errors.Is(err, ErrBusy) {
			t.Error(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		done := make(chan error)
		go func() { done <- h.Watch(ctx, Trigger{Line: "GPIO17", Hold: 20 * time.Millisecond}, hit) }()
		synctest.Wait()
		pin.mu.Lock()
		pin.fail = syscall.EIO
		pin.mu.Unlock()
		if err := <-done; !errors.Is(err, ErrWait) || pin.closed != 1 {
			t.Errorf("%v, closed %d times", err, pin.closed)
		}
	})
}
