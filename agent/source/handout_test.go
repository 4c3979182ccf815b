package source

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// taker has the frames of a stream looked at, each for a time, and writes
// down which came when.
func taker(t *testing.T, s *Stream, looks time.Duration) (got *[]string, stop func()) {
	t.Helper()
	got = &[]string{}
	ctx, cancel := context.WithCancel(t.Context())
	out, start := make(chan Frame), time.Now()
	go func() {
		defer close(out)
		if err := s.Run(ctx, out); err != nil {
			t.Error(err)
		}
	}()
	go func() {
		for f := range out {
			*got = append(*got, fmt.Sprintf("%v %s", time.Since(start), f.Data))
			<-time.After(looks)
		}
	}()
	return got, func() { cancel(); synctest.Wait() }
}

// numbered gives a frame every so often, from the time of one on.
func numbered(every time.Duration) playerFunc {
	return func(ctx context.Context, got func([]byte)) error {
		for i := 1; ; i++ {
			select {
			case <-time.After(every):
				got(fmt.Append(nil, i))
			case <-ctx.Done():
				return ctx.Err()
			}
		}
	}
}

func at(start time.Time, d time.Duration) time.Time {
	<-time.After(time.Until(start.Add(d)))
	return time.Now()
}

const msec = time.Millisecond

// A stream with a trigger gives the newest frame when it comes, and none
// otherwise; the frame of a trigger waits for its turn, whatever comes after.
func TestTrigger(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := NewStream("v4l2:door", numbered(40*msec), StreamOptions{Triggered: true})
		start := time.Now()
		got, stop := taker(t, s, 500*msec)
		for _, d := range []time.Duration{1010 * msec, 1130 * msec, 5010 * msec} {
			s.Trigger(at(start, d))
		}
		at(start, 10*time.Second)
		c := s.Counters()
		stop()
		if want := []string{"1.01s 25", "1.51s 28", "5.01s 125"}; !slices.Equal(*got, want) {
			t.Errorf("%q, want %q", *got, want)
		}
		if c.Triggers != 3 || c.Missed != 0 || c.Taken != 3 {
			t.Errorf("%+v", c)
		}
	})
}

// What is older than a second is not what a trigger was about: the next frame
// is, if it comes within ten.
func TestTriggerWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := NewStream("lines:scale", numbered(15*time.Second), StreamOptions{Triggered: true})
		start := time.Now()
		got, stop := taker(t, s, 0)
		for _, d := range []time.Duration{2 * time.Second, 8 * time.Second, 15900 * msec, 31500 * msec} {
			s.Trigger(at(start, d))
		}
		at(start, 50*time.Second)
		stop()
		// The first would be given up at 12 s, but the second waits till 18 s. The
		// third waits till 25.9 s; what came at 30 s is too old for the fourth.
		if want := []string{"15s 1"}; !slices.Equal(*got, want) {
			t.Errorf("%q, want %q", *got, want)
		}
		if c := s.Counters(); c.Triggers != 4 || c.Missed != 2 || c.Taken != 1 {
			t.Errorf("%+v", c)
		}
	})
}

// Beside a trigger a frame is handed out every so often where that is wanted.
func TestTriggerBesideEvery(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := NewStream("mjpeg:door", numbered(70*msec), StreamOptions{Triggered: true, Every: 2 * time.Second})
		start := time.Now()
		got, stop := taker(t, s, 0)
		s.Trigger(at(start, 3050*msec))
		at(start, 6*time.Second)
		stop()
		if want := []string{"70ms 1", "2.07s 29", "3.05s 43", "5.05s 72"}; !slices.Equal(*got, want) {
			t.Errorf("%q, want %q", *got, want)
		}
	})
}

// What is asked for its frames is asked for each trigger, again where it
// failed, and not before.
func TestAsked(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		asked := make(chan struct{}, 1)
		tries := 0
		p := Polled{Asked: asked, Get: func(context.Context) ([]byte, error) {
			if tries++; tries == 2 {
				return nil, errors.New("it is busy")
			}
			return fmt.Append(nil, tries), nil
		}}
		s := NewStream("sensors:air", p, StreamOptions{Triggered: true, First: time.Second, Ask: func() {
			select {
			case asked <- struct{}{}:
			default:
			}
		}})
		start := time.Now()
		got, stop := taker(t, s, 0)
		s.Trigger(at(start, 3*time.Second))
		synctest.Wait()
		if err := s.Err(); err != nil {
			t.Error(err)
		}
		s.Trigger(at(start, 4*time.Second))
		synctest.Wait()
		if err := s.Err(); err == nil || !strings.Contains(err.Error(), "busy") {
			t.Error(err)
		}
		at(start, 20*time.Second)
		stop()
		if len(*got) != 2 || (*got)[0] != "3s 1" || !strings.HasSuffix((*got)[1], " 3") || tries != 3 {
			t.Errorf("%q after %d tries", *got, tries)
		}
		if c := s.Counters(); c.Missed != 0 || c.Taken != 2 || c.Opened != 2 {
			t.Errorf("%+v", c)
		}
	})
}

// Without a trigger it is got at once, and then every so often.
func TestPolled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := 0
		s := NewStream("sensors:air", Polled{Every: 2 * time.Second, Get: func(context.Context) ([]byte, error) {
			n++
			return fmt.Append(nil, n), nil
		}}, StreamOptions{})
		start := time.Now()
		got, stop := taker(t, s, 0)
		at(start, 5*time.Second)
		stop()
		if want := []string{"0s 1", "2s 2", "4s 3"}; !slices.Equal(*got, want) {
			t.Errorf("%q, want %q", *got, want)
		}
	})
}
