package source

import (
	"context"
	"testing"
	"testing/synctest"
	"time"
)

// ticking gives a frame every 10 ms.
var ticking = playerFunc(func(ctx context.Context, got func([]byte)) error {
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			got([]byte("x"))
		case <-ctx.Done():
			return ctx.Err()
		}
	}
})

// A stream gives its frames so many times rarer as its pace says, at once and
// while it runs, and comes back; what is passed over is counted. So does one
// whose frames are all taken.
func TestPaceOfStream(t *testing.T) {
	for _, every := range []time.Duration{100 * time.Millisecond, 0} {
		synctest.Test(t, func(t *testing.T) {
			pace := new(Pace)
			s := NewStream("x", ticking, StreamOptions{Every: every, Pace: pace})
			ctx, stop := context.WithCancel(t.Context())
			out := make(chan Frame)
			go func() {
				for range out {
				}
			}()
			go func() {
				defer close(out)
				if err := s.Run(ctx, out); err != nil {
					t.Error(err)
				}
			}()
			in10s := func() int64 {
				before := s.Counters().Taken
				time.Sleep(10 * time.Second)
				synctest.Wait()
				return s.Counters().Taken - before
			}
			usual := int64(100)
			if every == 0 {
				usual = 1000
			}
			for _, factor := range []int{1, 4, 2, 1} {
				pace.Set(factor)
				want := usual / int64(factor)
				if got := in10s(); got < want-want/8-1 || got > want+1 {
					t.Errorf("every %v, factor %d: %d frames in 10 s, want %d", every, factor, got, want)
				}
			}
			if c := s.Counters(); c.Frames < c.Taken+c.Dropped || c.Frames > c.Taken+c.Dropped+2 {
				t.Errorf("%+v: some are neither taken nor dropped", c)
			}
			// What waits for its time does not wait any longer than the pace says now.
			pace.Set(1000)
			in10s()
			before := s.Counters().Taken
			pace.Set(1)
			time.Sleep(110 * time.Millisecond)
			synctest.Wait()
			if s.Counters().Taken == before {
				t.Errorf("every %v: no frame after the pace came back", every)
			}
			stop()
			synctest.Wait()
		})
	}
}

// A camera that gives a picture when asked is asked less often, and at once as
// usual when the pace comes back. So it is with rests.
func TestPause(t *testing.T) {
	for _, c := range []struct {
		factor, then int // after half a second
		pause, rest  time.Duration
	}{
		{1, 1, time.Second, 0},
		{4, 4, 4 * time.Second, 3 * time.Second},
		{4, 1, time.Second, 500 * time.Millisecond},
		{2, 4, 4 * time.Second, 3 * time.Second},
	} {
		synctest.Test(t, func(t *testing.T) {
			pace := new(Pace)
			timed := func(f func()) time.Duration {
				pace.Set(c.factor)
				start := time.Now()
				go func() {
					time.Sleep(500 * time.Millisecond)
					pace.Set(c.then)
				}()
				f()
				took := time.Since(start)
				time.Sleep(time.Second)
				return took
			}
			if got := timed(func() {
				if err := (beat{every: time.Second, pace: pace}).pause(t.Context(), time.Now()); err != nil {
					t.Error(err)
				}
			}); got != c.pause {
				t.Errorf("factor %d, then %d: a pause of %v, want %v", c.factor, c.then, got, c.pause)
			}
			if got := timed(func() { pace.Rest(t.Context(), time.Second) }); got != c.rest {
				t.Errorf("factor %d, then %d: a rest of %v, want %v", c.factor, c.then, got, c.rest)
			}
		})
	}
	synctest.Test(t, func(t *testing.T) {
		pace := new(Pace)
		pace.Set(4)
		start := time.Now()
		pace.Rest(t.Context(), time.Hour)
		if got := time.Since(start); got != mostRest {
			t.Errorf("a rest of %v", got)
		}
		ctx, stop := context.WithTimeout(t.Context(), time.Second)
		defer stop()
		if err := (beat{every: time.Hour, pace: pace}).pause(ctx, time.Now()); err == nil {
			t.Error("a pause goes on when its context ended")
		}
	})
	if every := (*Pace)(nil).Of(time.Second); every != time.Second {
		t.Errorf("no pace: %v", every)
	}
}

// A frame that was put off while the device held itself back comes as soon as
// it does not any more.
func TestDue(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		pace, last := new(Pace), time.Time{}
		due := func(want bool) {
			t.Helper()
			if got := pace.Due(last, time.Second); got != want {
				t.Errorf("due: %v, want %v", got, want)
			}
		}
		due(true) // the first
		last = time.Now()
		pace.Set(4)
		time.Sleep(3 * time.Second)
		due(false)
		pace.Set(1)
		due(true)
		pace.Set(4)
		time.Sleep(time.Second)
		due(true)
	})
}
