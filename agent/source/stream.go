package source

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/oklog/ulid/v2"
)

// A Player is something that gives one frame after the other by itself: a
// camera, a command, a serial port.
type Player interface {
	// Play opens it and hands each frame's bytes to got, until it ends or ctx
	// does. got keeps the bytes and does not wait. The error says why it ended;
	// that it ended is an error too.
	Play(ctx context.Context, got func(data []byte)) error
}

// StreamOptions of a stream. Zero values mean the defaults given.
type StreamOptions struct {
	Every time.Duration // frames are handed out this far apart at least; 0: as they are asked for
	Pace  *Pace         // makes that longer; where Every is 0, one frame in Pace's factor is handed out
	// Triggered has a frame handed out for each call of Trigger; others are
	// only where Every says how often.
	Triggered bool
	Ask       func()        // asks the player for a frame; nil: its frames come by themselves
	First     time.Duration // wait before it is opened again; 1 s. It doubles while no frame comes
	Last      time.Duration // the longest of these waits; 1 min
	Log       *slog.Logger
}

// Stream hands out the newest frame of a Player, and opens it again when it
// ended. Of what comes faster than it is asked for, all but the newest is
// dropped, and counted: an answer about what a camera saw a minute ago is
// worth less than none.
type Stream struct {
	name   string
	player Player
	o      StreamOptions

	frames, taken, dropped, unusable, opened atomic.Int64
	triggers, missed                         atomic.Int64
	wanted                                   atomic.Bool // a trigger waits for a frame

	hits chan time.Time // of one place: when the newest trigger was that Run has not seen

	mu  sync.Mutex // guards err
	err error
}

// StreamCounters says what became of frames.
type StreamCounters struct {
	Frames   int64 // came
	Taken    int64 // were handed out
	Dropped  int64 // were replaced by a newer one
	Unusable int64 // were handed out and could not be used
	Opened   int64 // times that the player was opened
	Triggers int64 // calls of Trigger
	Missed   int64 // triggers for which no frame came in time
}

// NewStream returns the stream of a player; name becomes Frame.Source. It
// starts nothing: Run does.
func NewStream(name string, p Player, o StreamOptions) *Stream {
	if o.First == 0 {
		o.First = time.Second
	}
	if o.Last == 0 {
		o.Last = time.Minute
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	s := &Stream{name: name, player: p, o: o, err: errNoFrame, hits: make(chan time.Time, 1)}
	if o.Ask != nil && o.Every == 0 {
		s.err = nil // that nobody asked yet is no fault
	}
	return s
}

var (
	errNoFrame = errors.New("no frame has come yet")
	errEnded   = errors.New("it ended")
)

// Name returns what NewStream was given.
func (s *Stream) Name() string { return s.name }

// Counters returns what became of frames since the start.
func (s *Stream) Counters() StreamCounters {
	return StreamCounters{
		Frames: s.frames.Load(), Taken: s.taken.Load(), Dropped: s.dropped.Load(), Unusable: s.unusable.Load(), Opened: s.opened.Load(),
		Triggers: s.triggers.Load(), Missed: s.missed.Load(),
	}
}

// Err says why no frames come, nil where they do.
func (s *Stream) Err() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.err
}

func (s *Stream) setErr(err error) (was error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	was, s.err = s.err, err
	return was
}

// Unusable counts a frame that was handed out and could not be used.
func (s *Stream) Unusable() { s.unusable.Add(1) }

// play opens the player again and again until ctx ends.
func (s *Stream) play(ctx context.Context, came chan<- Frame) {
	delay := s.o.First
	for ctx.Err() == nil {
		s.opened.Add(1)
		before := s.frames.Load()
		s.ask() // what it was asked for before it ended
		err := s.player.Play(ctx, func(data []byte) {
			s.frames.Add(1)
			if was := s.setErr(nil); was != nil {
				s.o.Log.Info("source gives frames", "source", s.name)
			}
			select {
			case came <- Frame{ID: ulid.Make().String(), Source: s.name, Data: withTables(data), Taken: time.Now()}:
			case <-ctx.Done():
			}
		})
		if ctx.Err() != nil {
			return
		}
		if err == nil {
			err = errEnded
		}
		if s.frames.Load() > before {
			delay = s.o.First
		}
		s.setErr(err)
		wait := delay/2 + rand.N(delay/2+1)
		s.o.Log.Warn("source is lost", "source", s.name, "error", err, "again_in", wait.Round(time.Millisecond))
		select {
		case <-time.After(wait):
		case <-ctx.Done():
		}
		delay = min(2*delay, s.o.Last)
	}
}

// errSilent ends what has given nothing for too long.
type errSilent time.Duration

func (e errSilent) Error() string { return fmt.Sprintf("nothing came for %v", time.Duration(e)) }

// watchdog cancels the context that it returns when alive was not called for
// the time of limit; 0: never. stop lets it go.
func watchdog(ctx context.Context, limit time.Duration) (_ context.Context, alive, stop func()) {
	ctx, cancel := context.WithCancelCause(ctx)
	if limit == 0 {
		return ctx, func() {}, func() { cancel(nil) }
	}
	timer := time.AfterFunc(limit, func() { cancel(errSilent(limit)) })
	return ctx, func() { timer.Reset(limit) }, func() { timer.Stop(); cancel(nil) }
}

// because returns why ctx ended, where it ended by a watchdog, else err.
func because(ctx context.Context, err error) error {
	if silent, ok := context.Cause(ctx).(errSilent); ok {
		return silent
	}
	return err
}
