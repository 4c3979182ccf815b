package source

import (
	"context"
	"sync"
	"time"
)

// Trigger asks for one frame now: the newest that came within the last second,
// else the next that comes, if one does within ten. It never waits. A trigger
// that comes before the one before it was looked at is one with it.
func (s *Stream) Trigger(at time.Time) {
	s.triggers.Add(1)
	for {
		select {
		case s.hits <- at:
			return
		default:
		}
		select {
		case <-s.hits:
		default:
		}
	}
}

const (
	recent   = time.Second      // a frame that old still shows what the trigger was about
	patience = 10 * time.Second // a frame that comes later shows something else
)

// handout chooses which frames a stream hands out, and when.
type handout struct {
	s      *Stream
	newest *Frame    // that came, and was not handed out
	chosen *Frame    // for a trigger; newer ones do not replace it
	last   time.Time // when a frame was handed out
	passed int       // frames that came since, which Pace let pass
	until  time.Time // a trigger waits for a frame till then; zero: none does
}

// Run sends frames to out until ctx ends. They have no Input: see Hashed.
func (s *Stream) Run(ctx context.Context, out chan<- Frame) error {
	came := make(chan Frame)
	var all sync.WaitGroup
	all.Go(func() { s.play(ctx, came) })
	defer all.Wait()
	h := handout{s: s}
	for {
		var to chan<- Frame
		var due <-chan time.Time
		factor, changed := s.o.Pace.Factor()
		f, wait := h.offer(time.Now(), factor)
		if f != nil && wait <= 0 {
			to = out
		} else if f == nil {
			f = new(Frame) // it goes nowhere
		}
		if wait > 0 {
			due = time.After(wait)
		}
		select {
		case <-ctx.Done():
			return nil
		case f := <-came:
			h.came(f, factor)
		case <-changed:
		case at := <-s.hits:
			h.trigger(at)
		case <-due:
			h.giveUp(time.Now())
		case to <- *f:
			s.taken.Add(1)
			h.gone(time.Now())
		}
	}
}

// offer returns the frame that may be handed out, and how long to wait before
// it, or before something else is to be done; 0: nothing is.
func (h *handout) offer(now time.Time, factor int) (f *Frame, wait time.Duration) {
	if h.chosen != nil {
		return h.chosen, 0
	}
	if !h.until.IsZero() {
		wait = max(h.until.Sub(now), 1)
	}
	if h.newest == nil || h.s.o.Triggered && h.s.o.Every == 0 {
		return nil, wait
	}
	if due := h.s.o.Every*time.Duration(factor) - now.Sub(h.last); due > 0 && (wait == 0 || due < wait) {
		wait = due
	} else if due <= 0 {
		wait = 0
	}
	return h.newest, wait
}

func (h *handout) came(f Frame, factor int) {
	if !h.until.IsZero() {
		h.choose(f)
		return
	}
	if h.passed++; h.s.o.Every == 0 && !h.s.o.Triggered && h.passed < factor { // no clock tells when the next is due: count them
		h.s.dropped.Add(1)
		return
	}
	if h.newest != nil {
		h.s.dropped.Add(1)
	}
	h.newest = &f
}

// choose has a frame handed out for a trigger.
func (h *handout) choose(f Frame) {
	if h.chosen != nil {
		h.s.dropped.Add(1)
	}
	h.chosen = &f
	h.wants(time.Time{})
}

// wants says until when a trigger waits for a frame; zero: none does.
func (h *handout) wants(until time.Time) {
	h.until = until
	h.s.wanted.Store(!until.IsZero())
}

func (h *handout) trigger(at time.Time) {
	if h.s.o.Ask == nil && h.newest != nil && !h.newest.Taken.Before(at.Add(-recent)) {
		h.choose(*h.newest)
		h.newest = nil
		return
	}
	h.wants(at.Add(patience))
	h.s.ask()
}

// ask asks the player for what a trigger waits for.
func (s *Stream) ask() {
	if s.o.Ask != nil && s.wanted.Load() {
		s.o.Ask()
	}
}

// giveUp ends the wait of a trigger whose time is over.
func (h *handout) giveUp(now time.Time) {
	if h.until.IsZero() || now.Before(h.until) {
		return
	}
	h.wants(time.Time{})
	h.s.missed.Add(1)
	h.s.o.Log.Warn("no frame came for a trigger", "source", h.s.name)
}

// gone says that what was offered was taken.
func (h *handout) gone(now time.Time) {
	if h.chosen != nil {
		h.chosen = nil
	} else {
		h.newest = nil
	}
	h.last, h.passed = now, 0
}
