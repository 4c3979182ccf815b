package agent

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"dunlin/agent/slots"
	"dunlin/agent/source"
	"dunlin/engine"
	"dunlin/sync/wire"
)

// hold takes the turn of the model that answers and keeps it, as a kernel does
// that never comes back, until release is called.
func hold(t *testing.T, a *Agent) (release func()) {
	t.Helper()
	m, err := a.slots.Acquire()
	if err != nil {
		t.Fatal(err)
	}
	in, out, done := make(chan struct{}), make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		defer m.Release()
		// The error only says that nothing is to be inferred.
		_, _ = m.Do(context.Background(), slots.Job{Fill: func(*engine.Session) error { close(in); <-out; return errors.New("held") }})
	}()
	<-in
	return func() {
		t.Helper()
		close(out)
		ended(t, "the inference", done)
	}
}

// ended waits for what a channel says, or for its end, as wait does.
func ended[T any](t testing.TB, what string, c <-chan T) (v T) {
	t.Helper()
	select {
	case v = <-c:
	case <-time.After(60 * time.Second):
		t.Fatalf("waited in vain for: %s", what)
	}
	return v
}

// systemd is a socket for sd_notify; next returns the next message, "" after
// so long a silence: after none, where no message is there by now.
func systemd(t *testing.T) (next func(silence time.Duration) string) {
	t.Helper()
	dir, err := os.MkdirTemp("", "n") // short: a socket's path has 108 bytes
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	path := filepath.Join(dir, "s")
	l, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	t.Setenv("NOTIFY_SOCKET", path)
	t.Setenv("WATCHDOG_USEC", "30000")
	return func(silence time.Duration) string {
		var b [512]byte
		if silence == 0 {
			return string(b[:waiting(t, l, b[:])])
		}
		if err := l.SetReadDeadline(time.Now().Add(silence)); err != nil {
			t.Fatal(err)
		}
		n, err := l.Read(b[:])
		if err != nil && !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Fatal(err)
		}
		return string(b[:n])
	}
}

// waiting reads what a socket holds by now, which a deadline does not tell: one
// that is over before the read begins keeps it from looking.
func waiting(t *testing.T, l *net.UnixConn, b []byte) (n int) {
	t.Helper()
	raw, err := l.SyscallConn()
	if err == nil {
		err = l.SetReadDeadline(time.Time{})
	}
	if err != nil {
		t.Fatal(err)
	}
	var failed error
	err = raw.Read(func(fd uintptr) bool {
		n, _, failed = syscall.Recvfrom(int(fd), b, syscall.MSG_DONTWAIT)
		return true
	})
	if errors.Is(failed, syscall.EAGAIN) {
		return 0
	}
	if err := errors.Join(err, failed); err != nil {
		t.Fatal(err)
	}
	return n
}

// The watchdog starves where the loop that answers stands still, and only
// there: it is that loop which feeds it.
func TestWatchdogStarves(t *testing.T) {
	defer func(l, m time.Duration) { leastTurn, mostTurn = l, m }(leastTurn, mostTurn)
	leastTurn, mostTurn = 50*time.Millisecond, 50*time.Millisecond
	next := systemd(t)
	h := newTestHub(t)
	c, _ := h.config(t)
	a, stop := run(t, c)
	defer stop()
	fed := func(when string) {
		t.Helper()
		for end := time.Now().Add(30 * time.Second); next(time.Second) != "WATCHDOG=1"; {
			if time.Now().After(end) {
				t.Fatalf("%s: the watchdog is not fed", when)
			}
		}
	}
	fed("without a model")
	h.want(h.offer(1, false), nil)
	h.until("version 1", func() bool { return h.ended(1) == wire.StateActive })
	fed("with a model")

	release := hold(t, a)
	for end := time.Now().Add(30 * time.Second); next(500*time.Millisecond) != ""; { // 50 beats
		if time.Now().After(end) {
			t.Fatal("an inference hangs, and the watchdog is fed")
		}
	}
	if err := a.p.live(); err == nil || !strings.Contains(err.Error(), "has been running") {
		t.Errorf("an inference hangs, and live says %v", err)
	}
	release()
	fed("after it came back")
	if _, err := a.p.process(t.Context(), source.New("http", picture(t, 250, 1)), nil); err != nil {
		t.Error(err)
	}
}

// What feeds the watchdog while the agent works does not while it opens and
// closes its files: each step of that feeds it once.
func TestWatchdogOverARestart(t *testing.T) {
	next := systemd(t)
	t.Setenv("WATCHDOG_USEC", "") // only what is fed beside the loop
	h := newTestHub(t)
	c, _ := h.config(t)
	a, err := New(c, slog.New(slog.NewTextHandler(testLog{t}, nil)), new(slog.LevelVar))
	if err != nil {
		t.Fatal(err)
	}
	said := func() (all []string) {
		for s := next(0); s != ""; s = next(0) {
			all = append(all, s)
		}
		return all
	}
	if all := said(); len(all) < 10 || slices.ContainsFunc(all, func(s string) bool { return s != "WATCHDOG=1" }) {
		t.Errorf("New says %q", all)
	}
	for end, last := range map[error]string{errRestart: "WATCHDOG=1", errors.New("a fault"): "WATCHDOG=1\nSTOPPING=1"} {
		a.fail(end)
		if err := a.Run(t.Context()); !errors.Is(err, end) {
			t.Errorf("Run says %v, want %v", err, end)
		}
		if got, want := said(), []string{"READY=1\nWATCHDOG=1", last, "WATCHDOG=1", "WATCHDOG=1"}; !slices.Equal(got, want) {
			t.Errorf("%v: %q, want %q", end, got, want)
		}
		if a, err = New(c, a.log, a.level); err != nil {
			t.Fatal(err)
		}
		said()
	}
	if err := a.Close(); err != nil {
		t.Error(err)
	}
}

// An inference of a model that was left meanwhile hangs no less.
func TestLeftModelHangs(t *testing.T) {
	defer func(l, m time.Duration) { leastTurn, mostTurn = l, m }(leastTurn, mostTurn)
	h := newTestHub(t)
	c, _ := h.config(t)
	a, stop := run(t, c)
	defer stop()
	h.want(h.offer(1, false), nil)
	h.until("version 1", func() bool { return h.ended(1) == wire.StateActive })
	release := hold(t, a)
	if err := a.p.live(); err != nil {
		t.Errorf("an inference has just begun: %v", err)
	}
	h.want(h.offer(2, false), nil)
	h.until("version 2", func() bool { return h.ended(2) == wire.StateActive })
	a.p.heart.mu.Lock()        // the agent looks at them with it
	leastTurn, mostTurn = 0, 0 // whatever is under way takes too long
	a.p.heart.mu.Unlock()
	if err := a.p.live(); err == nil {
		t.Error("the inference of version 1 hangs, and nobody says so")
	}
	release()
	wait(t, "the end", func() bool { return a.p.live() == nil })
}

// An outbox that does not come back is a hang too; one that refuses is none.
func TestNothingReachesTheDisk(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var h heart
		h.putting()
		time.Sleep(mostPut)
		h.putting() // others that wait do not help
		if err := h.hangs(nil); err != nil {
			t.Errorf("after %v: %v", mostPut, err)
		}
		time.Sleep(time.Second)
		if err := h.hangs(nil); err == nil || !strings.Contains(err.Error(), "silent for 2m1s") {
			t.Errorf("a second later: %v", err)
		}
		h.put() // one came back
		if err := h.hangs(nil); err != nil {
			t.Errorf("one came back: %v", err)
		}
		h.put()
		time.Sleep(time.Hour)
		if err := h.hangs(nil); err != nil {
			t.Errorf("none is on its way: %v", err)
		}
	})
}
