package agent

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"dunlin/agent/slots"
	"dunlin/sync/wire"
)

// laneOf returns a lane that runs until the test ends.
func laneOf(t *testing.T, take func(context.Context, wire.Offer) (wire.Report, error)) *lane {
	t.Helper()
	log := slog.New(slog.DiscardHandler)
	j, err := openJournal(filepath.Join(t.TempDir(), "journal.db"), log)
	if err != nil {
		t.Fatal(err)
	}
	l, err := newLane("model", j, log, take)
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { l.run(ctx); close(done) }()
	t.Cleanup(func() {
		stop()
		<-done
		if err := j.close(); err != nil {
			t.Error(err)
		}
	})
	return l
}

// receive is a receive that does not wait for ever.
func receive[T any](t *testing.T, c <-chan T) (v T) {
	t.Helper()
	select {
	case v = <-c:
	case <-time.After(60 * time.Second):
		t.Fatal("nothing came")
	}
	return v
}

func decide(o wire.Offer) (wire.Report, error) {
	return wire.Report{Digest: o.Manifest, State: wire.StateActive}, nil
}

// A command cancels what the hub wants, which is taken up again after it; a
// new wish of the hub replaces the older one.
func TestLaneTakesUpAgain(t *testing.T) {
	taken := make(chan string, 10)
	first := true
	l := laneOf(t, func(ctx context.Context, o wire.Offer) (wire.Report, error) {
		taken <- o.Manifest
		if o.Manifest == "desired" && first {
			first = false
			<-ctx.Done()
			return wire.Report{}, context.Cause(ctx)
		}
		return decide(o)
	})
	l.desire(wire.Offer{Manifest: "desired"}, false)
	got := []string{receive(t, taken)}
	ended := make(chan error, 1)
	l.put(order{offer: wire.Offer{Manifest: "command"}, done: func(_ wire.Report, err error) { ended <- err }})
	if err := receive(t, ended); err != nil {
		t.Errorf("the command: %v", err)
	}
	got = append(got, receive(t, taken), receive(t, taken))
	if want := []string{"desired", "command", "desired"}; !slices.Equal(got, want) {
		t.Errorf("taken %v, want %v", got, want)
	}
	l.desire(wire.Offer{Manifest: "next"}, false)
	if m := receive(t, taken); m != "next" {
		t.Errorf("taken %s", m)
	}
}

// What the hub does not want any more, because it wants again what is there,
// is not gone on with.
func TestLaneBackToWhatIsThere(t *testing.T) {
	taken := make(chan string, 10)
	l := laneOf(t, func(ctx context.Context, o wire.Offer) (wire.Report, error) {
		taken <- o.Manifest
		if o.Manifest == "new" {
			<-ctx.Done()
			return wire.Report{}, context.Cause(ctx)
		}
		return decide(o)
	})
	for _, m := range []string{"old", "new", "old"} {
		l.desire(wire.Offer{Manifest: m}, false)
		if got := receive(t, taken); got != m {
			t.Fatalf("taken %s, want %s", got, m)
		}
	}
}

// An order that cannot be done is given up when its time is over.
func TestLaneLate(t *testing.T) {
	tries := 0
	l := laneOf(t, func(context.Context, wire.Offer) (wire.Report, error) {
		tries++
		return wire.Report{}, fmt.Errorf("the hub does not have it: %w", slots.ErrAgain)
	})
	ended, left := make(chan error, 1), 2*time.Millisecond // one less after each try
	l.put(order{
		offer: wire.Offer{Manifest: "command"}, done: func(_ wire.Report, err error) { ended <- err },
		left: func() time.Duration { left -= time.Millisecond; return left },
	})
	if err := receive(t, ended); !errors.Is(err, errLate) || tries != 2 {
		t.Errorf("after %d tries: %v", tries, err)
	}
}
