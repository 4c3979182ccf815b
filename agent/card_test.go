package agent

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"strings"
	"testing"

	"dunlin/agent/probe"
	"dunlin/sync/outbox"
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
