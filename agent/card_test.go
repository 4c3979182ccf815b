package agent

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"dunlin/agent/probe"
	"dunlin/agent/source"
	"dunlin/sync/outbox"
	"dunlin/sync/wire"
)

// A broken outbox restarts the agent where its card can be written, and only
// there: else the agent stays and says what is wrong.
func TestBrokenOutboxAndCard(t *testing.T) {
	c, _ := newTestHub(t).config(t)
	a, err := New(c, slog.New(slog.DiscardHandler), new(slog.LevelVar))
	if err != nil {
		t.Fatal(err)
	}
	broken := fmt.Errorf("put: %w", outbox.ErrBroken)
	away := c.StateDir + ".away"
	if err := os.Rename(c.StateDir, away); err != nil {
		t.Fatal(err)
	}
	a.giveUpOn(broken)
	select {
	case err := <-a.fatal:
		t.Errorf("it stops, and cannot start again: %v", err)
	default:
	}
	if s := a.Status(); !strings.Contains(s.Card, "cannot be written: ") || a.figures()["card_broken"] != 1 {
		t.Errorf("it says %q, %v", s.Card, a.figures())
	}
	if checks := (node{a}).Ready(); !slices.ContainsFunc(checks, func(c probe.Check) bool { return c.Name == "card" && !c.OK && c.Note != "" }) {
		t.Errorf("the probe has %+v", checks)
	}
	if err := errors.Join(os.Rename(away, c.StateDir), a.Close()); err != nil {
		t.Fatal(err)
	}

	if a, err = New(c, slog.New(slog.DiscardHandler), new(slog.LevelVar)); err != nil {
		t.Fatal(err)
	}
	a.giveUpOn(broken)
	select {
	case err := <-a.fatal:
		if !errors.Is(err, outbox.ErrBroken) {
			t.Errorf("it stops with %v", err)
		}
	default:
		t.Error("it does not open its outbox again")
	}
	if s := a.Status(); s.Card != "" {
		t.Errorf("of a sound card it says %q", s.Card)
	}
	if err := a.Close(); err != nil {
		t.Error(err)
	}
}

// As long as nothing can be kept nothing is computed: files stay in the folder,
// and who asks is told to ask later.
func TestNothingIsComputedForABrokenCard(t *testing.T) {
	h := newTestHub(t)
	c, _ := h.config(t)
	_, stop := run(t, c)
	h.want(h.offer(1, false), nil)
	h.until("version 1", func() bool { return h.ended(1) == wire.StateActive })
	stop()
	h.halt()
	a, err := New(c, slog.New(slog.DiscardHandler), new(slog.LevelVar))
	if err != nil {
		t.Fatal(err)
	}
	a.card.err = syscall.EROFS
	next := a.box.State().Next
	drop(t, c, "7.png", picture(t, 7, 7))
	ctx, cancel := context.WithCancel(t.Context())
	frames, done := make(chan source.Frame), make(chan error, 1)
	go func() { done <- a.folder.Run(ctx, frames) }()
	f := <-frames
	short, over := context.WithTimeout(ctx, 300*time.Millisecond)
	defer over()
	a.file(short, f)
	if short.Err() == nil || a.folder.Counters() != (source.Counters{}) {
		t.Errorf("the file did not wait: %+v", a.folder.Counters())
	}
	_, err = node{a}.Infer(t.Context(), "http", picture(t, 8, 8))
	if !errors.Is(err, probe.ErrNotReady) || !errors.Is(err, errCard) || !errors.Is(err, syscall.EROFS) {
		t.Errorf("a picture is %v", err)
	}
	if s := a.box.State(); s.Next != next || a.count.lost.Get() != 0 {
		t.Errorf("the outbox has %+v, %d are lost", s, a.count.lost.Get())
	}
	cancel()
	if err := errors.Join(<-done, a.Close()); err != nil {
		t.Error(err)
	}
}
