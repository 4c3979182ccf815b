package agent

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"syscall"
	"time"

	"dunlin/agent/probe"
	"dunlin/internal/durable"
	"dunlin/sync/wire"
)

// card says whether state_dir can be written. After a write or a flush that
// failed the kernel gives a whole file system up, for ever: to start again, as
// is right for an outbox that has to be opened anew, would then end at the first
// file, and come again every other second. So the agent stays: nothing is
// answered that cannot be kept, but tensors, explanations and its state are,
// and the hub hears of it. What is on the card stays there for a start with a
// card that works.
type card struct {
	trying sync.Mutex // held while the card is tried, which may take minutes; mu may be taken with it

	mu  sync.Mutex
	err error // why nothing can be kept, nil: it can, or nobody has seen that not
}

// cardCheck is how often a card that could not be written is tried again: each
// time is a write, and another program may have mounted it anew.
const cardCheck = time.Minute

// errCard is wrapped by what is refused as long as nothing can be kept. It is a
// probe.ErrNotReady: what asks is to ask again, or somebody else.
var errCard error = notReady("state_dir cannot be written: nothing is answered that cannot be kept. Power the board off, and check or replace its card")

type notReady string

func (e notReady) Error() string        { return string(e) }
func (e notReady) Is(target error) bool { return target == probe.ErrNotReady }

// reopen has the outbox opened again, by a restart, where that can help.
func (a *Agent) reopen(why error) {
	if a.suspect(why) == nil {
		a.fail(why)
	}
}

// suspect tries the card, since something could not be written, and remembers
// what is wrong with it.
func (a *Agent) suspect(why error) error {
	a.card.trying.Lock()
	defer a.card.trying.Unlock()
	if err := a.cardError(); err != nil {
		return err
	}
	err := a.tryCard()
	if err != nil {
		a.card.mu.Lock()
		a.card.err = err
		a.card.mu.Unlock()
		a.log.Error(errCard.Error(), "state_dir", a.c.StateDir, keyError, err, "after", why)
	}
	return err
}

// tryModel is slots.Try: as long as no model answers, what it cannot write is
// the first to show that nothing can be.
func (a *Agent) tryModel(ctx context.Context, o wire.Offer) (wire.Report, error) {
	r, err := a.slots.Try(ctx, o)
	if cardHint(err) != "" {
		_ = a.suspect(err) // it is told by who is asked
	}
	return r, err
}

// tryCard writes a file as carefully as everything is written here.
func (a *Agent) tryCard() error {
	path := a.path("card")
	err := durable.Replace(durable.OS, path, nil, 0o600)
	if err == nil {
		err = durable.Remove(durable.OS, path)
	}
	return err
}

// watchCard restarts the agent when a card can be written again.
func (a *Agent) watchCard(ctx context.Context) {
	tick := time.NewTicker(cardCheck)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			if err := a.cardError(); err != nil && a.tryCard() == nil {
				a.fail(fmt.Errorf("state_dir can be written again, it could not: %w", err))
			}
		case <-ctx.Done():
			return
		}
	}
}

// cardError returns why nothing can be kept, nil where it can.
func (a *Agent) cardError() error {
	a.card.mu.Lock()
	defer a.card.mu.Unlock()
	return a.card.err
}

// cardStatus says what is wrong with the card, "" where nothing is.
func (a *Agent) cardStatus() string {
	if err := a.cardError(); err != nil {
		return "cannot be written: " + err.Error()
	}
	if lost, err := a.slots.Unread(); lost != "" && !a.updates.standsIn() { // else the model may be too new
		return "cannot be read, and another model answers or none: " + err.Error()
	}
	return ""
}

// unread reports whether the card did not give the model of that digest, which
// was kept: it is to be tried again.
func (a *Agent) unread(digest string) bool {
	lost, _ := a.slots.Unread()
	return lost != "" && lost == digest
}

// cardHint is for an agent that cannot start.
func cardHint(err error) string {
	if errors.Is(err, syscall.EROFS) || errors.Is(err, syscall.EIO) {
		return "the card cannot be read or written any more: power the board off, and check or replace the card"
	}
	return ""
}
