package source

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"image"
	"image/color"
	"image/jpeg"
	"image/png"
	"slices"
	"testing"
	"testing/synctest"
	"time"
)

// playerFunc is a Player of one function.
type playerFunc func(ctx context.Context, got func([]byte)) error

func (p playerFunc) Play(ctx context.Context, got func([]byte)) error { return p(ctx, got) }

// stream runs a stream until the test ends.
func stream(t *testing.T, name string, p Player, every time.Duration) (*Stream, <-chan Frame) {
	t.Helper()
	s := NewStream(name, p, StreamOptions{Every: every, First: time.Millisecond, Last: 20 * time.Millisecond})
	return s, start(t, s)
}

// shot returns a JPEG of a shade of its own.
func shot(t testing.TB, shade uint8) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := jpeg.Encode(&b, gradient(shade), nil); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func pngShot(t testing.TB, shade uint8) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := png.Encode(&b, gradient(shade)); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func gradient(shade uint8) image.Image {
	img := image.NewRGBA(image.Rect(0, 0, 40, 24))
	for y := range 24 {
		for x := range 40 {
			img.Set(x, y, color.RGBA{shade, uint8(6 * x), uint8(10 * y), 255})
		}
	}
	return img
}

// Of what comes while nobody takes a frame the newest is handed out, and the
// others are counted.
func TestNewestWins(t *testing.T) {
	played := make(chan struct{})
	s, frames := stream(t, "exec:x", playerFunc(func(ctx context.Context, got func([]byte)) error {
		for i := range 10 {
			got(fmt.Append(nil, i))
		}
		close(played)
		<-ctx.Done()
		return ctx.Err()
	}), 0)
	<-played
	before := time.Now()
	f := next(t, frames)
	if string(f.Data) != "9" || f.Source != "exec:x" || f.Taken.IsZero() || f.Taken.After(before) || len(f.ID) != 26 || f.Alone {
		t.Errorf("frame %+v", f)
	}
	want := StreamCounters{Frames: 10, Taken: 1, Dropped: 9, Opened: 1}
	wait(t, "the counters", func() bool { return s.Counters() == want })
	if h := f.Hashed(); h.Input != digest([]byte("9")) {
		t.Errorf("input %s", h.Input)
	}
	if err := s.Err(); err != nil {
		t.Error(err)
	}
}

// Frames are not handed out more often than wanted, and then the newest is.
func TestEvery(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := NewStream("x", numbered(40*msec), StreamOptions{Every: 150 * msec})
		start := time.Now()
		got, stop := taker(t, s, 0)
		at(start, 451*msec)
		stop()
		if want := []string{"40ms 1", "190ms 4", "340ms 8"}; !slices.Equal(*got, want) {
			t.Errorf("%q, want %q", *got, want)
		}
	})
}

// What ends is opened again, and why it ended is known until a frame comes.
func TestOpenedAgain(t *testing.T) {
	tries := 0
	opened := make(chan struct{}, 10)
	s, frames := stream(t, "x", playerFunc(func(ctx context.Context, got func([]byte)) error {
		if tries++; tries < 4 {
			opened <- struct{}{}
			return errors.New("not yet")
		}
		got([]byte("x"))
		<-ctx.Done()
		return nil
	}), 0)
	if err := s.Err(); err == nil {
		t.Error("no frame came, and there is no error")
	}
	for range 3 {
		<-opened
	}
	next(t, frames)
	if c := s.Counters(); c.Opened != 4 || s.Err() != nil {
		t.Errorf("%+v, %v", c, s.Err())
	}
}

// wait polls until something is so.
func wait(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(60 * time.Second); !ok(); <-time.After(2 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("waited in vain for %s", what)
		}
	}
}
