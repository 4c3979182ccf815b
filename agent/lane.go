package agent

import (
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"sync"
	"time"

	"dunlin/agent/slots"
	"dunlin/sync/wire"
)

// lane takes the artefacts of one kind, one after the other: the newest offer
// is the one that counts, and cancels what is under way. An offer that cannot
// be fetched is tried again with growing delays, at once when the hub is back.
//
// An offer is taken up once: the same digest in a document about something
// else is not tried again, whatever became of it. So new facts do not undo a
// rollback that a person ordered, nor try a refused model every time. A new
// document that changes nothing asks for another try.
type lane struct {
	name    string // key in the journal: "model", "facts"
	take    func(context.Context, wire.Offer) (wire.Report, error)
	journal *journal
	log     *slog.Logger

	mu     sync.Mutex
	next   *order
	cancel context.CancelCauseFunc // of the order under way
	now    string                  // its digest
	wake   chan struct{}           // of one place: next is set, or the hub is back
	ended  handled                 // the last offer that was decided
}

// order is an offer to be taken, and who waits for the end of it.
type order struct {
	offer wire.Offer
	done  func(wire.Report, error) // nil: nobody
}

// handled is what the journal keeps of a lane.
type handled struct {
	Digest string      `json:"digest"`
	Report wire.Report `json:"report"`
}

func newLane(name string, j *journal, log *slog.Logger, take func(context.Context, wire.Offer) (wire.Report, error)) (*lane, error) {
	l := &lane{name: name, take: take, journal: j, log: log, wake: make(chan struct{}, 1)}
	return l, j.get("handled/"+name, &l.ended)
}

// desire takes up what the hub wants; what was decided before only if again.
func (l *lane) desire(o wire.Offer, again bool) {
	l.mu.Lock()
	same := l.ended.Digest == o.Manifest && !again || l.now == o.Manifest || l.next != nil && l.next.offer.Manifest == o.Manifest
	l.mu.Unlock()
	if !same {
		l.put(order{offer: o})
	}
}

// put makes an order the next one. The one under way is cancelled, one that
// waits is dropped.
func (l *lane) put(o order) {
	l.mu.Lock()
	old := l.next
	l.next = &o
	if l.cancel != nil {
		l.cancel(slots.ErrSuperseded)
	}
	l.mu.Unlock()
	if old != nil && old.done != nil {
		old.done(wire.Report{}, slots.ErrSuperseded)
	}
	l.kick()
}

// kick ends a wait between two tries.
func (l *lane) kick() {
	select {
	case l.wake <- struct{}{}:
	default:
	}
}

// last returns the report that ended the last offer, nil where there was none.
func (l *lane) last() *wire.Report {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.ended.Digest == "" {
		return nil
	}
	r := l.ended.Report
	return &r
}

// decided remembers how an offer ended.
func (l *lane) decided(r wire.Report) {
	l.mu.Lock()
	l.ended = handled{r.Digest, r}
	h := l.ended
	l.mu.Unlock()
	if err := l.journal.put("handled/"+l.name, h); err != nil {
		l.log.Error("outcome is not remembered", "kind", l.name, keyError, err)
	}
}

// run takes orders until ctx ends.
func (l *lane) run(ctx context.Context) {
	for ctx.Err() == nil {
		l.mu.Lock()
		o := l.next
		l.next = nil
		l.mu.Unlock()
		if o == nil {
			select {
			case <-l.wake:
			case <-ctx.Done():
			}
			continue
		}
		r, err := l.pursue(ctx, *o)
		if o.done != nil {
			o.done(r, err)
		}
	}
}

// The waits between two tries.
const (
	firstRetry = 2 * time.Second
	lastRetry  = 5 * time.Minute
)

// pursue tries an offer until it is decided, superseded, or ctx ends.
func (l *lane) pursue(ctx context.Context, o order) (wire.Report, error) {
	trying, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	l.mu.Lock()
	l.cancel, l.now = cancel, o.offer.Manifest
	superseded := l.next != nil
	l.mu.Unlock()
	defer func() {
		l.mu.Lock()
		l.cancel, l.now = nil, ""
		l.mu.Unlock()
	}()
	if superseded {
		return wire.Report{}, slots.ErrSuperseded
	}
	for delay := firstRetry; ; delay = min(2*delay, lastRetry) {
		r, err := l.take(trying, o.offer)
		if err == nil {
			l.decided(r)
			return r, nil
		}
		if trying.Err() != nil {
			return r, context.Cause(trying)
		}
		if !errors.Is(err, slots.Again) {
			l.log.Error("artefact cannot be taken now", "kind", l.name, "name", o.offer.Name, keyError, err)
		}
		select {
		case <-time.After(delay/2 + rand.N(delay/2+1)):
		case <-l.wake:
		case <-trying.Done():
			return r, context.Cause(trying)
		}
	}
}
