package agent

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync"
	"time"

	"dunlin/agent/slots"
	"dunlin/sync/wire"
)

// lane takes the artefacts of one kind, one after the other. The newest order
// is the one that counts, and cancels what is under way. What the hub wants
// outlives commands: after one it is taken up again, until it is decided or
// something else is wanted. An offer that cannot be fetched is tried again
// with growing delays, at once when the hub is back.
//
// An offer is taken up once: the same digest in a document about something
// else is not tried again, whatever became of it. So new facts do not undo a
// rollback that a person ordered, nor try a refused model every time. A new
// document that changes nothing asks for another try.
type lane struct {
	name    string // key in the journal: "model", "facts", "agent"
	take    func(context.Context, wire.Offer) (wire.Report, error)
	journal *journal
	log     *slog.Logger

	mu      sync.Mutex
	desired *order // what the hub wants and is not decided
	command *order // the next one
	now     *order // under way
	cancel  context.CancelCauseFunc
	wake    chan struct{} // of one place: there is an order, or the hub is back
	ended   handled       // the last offer that was decided
}

// order is an offer to be taken, and who waits for the end of it.
type order struct {
	offer wire.Offer
	// withdraw is done in place of taking an offer, where it is not nil.
	withdraw func(context.Context) (wire.Report, error)
	done     func(wire.Report, error) // nil: nobody
	left     func() time.Duration     // how much longer it may be tried; nil: for ever
}

// fetchTime is the key of a context under which an order's left is: only the
// fetch ends with the time, not a trial that it led to.
type fetchTime struct{}

// fetchContext bounds ctx by the time that the order in it has left.
func fetchContext(ctx context.Context) (context.Context, context.CancelFunc) {
	if left, ok := ctx.Value(fetchTime{}).(func() time.Duration); ok {
		return context.WithTimeout(ctx, left())
	}
	return context.WithCancel(ctx)
}

// errLate ends an order that could not be done in its time.
var errLate = errors.New("it could not be done in its time")

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
	defer l.mu.Unlock()
	switch {
	case l.desired != nil && l.desired.withdraw == nil && l.desired.offer.Manifest == o.Manifest:
		return
	case l.desired == nil && l.ended.Digest == o.Manifest && !again:
		return
	}
	l.desired = &order{offer: o}
	if l.now == nil || l.now.withdraw != nil || l.now.offer.Manifest != o.Manifest {
		l.supersede()
	}
}

// withdraw has do end what the hub wanted before and wants no more.
func (l *lane) withdraw(do func(context.Context) (wire.Report, error)) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.desired = &order{withdraw: do}
	l.supersede()
}

// wanted returns the digests of what is under way or to come.
func (l *lane) wanted() (digests []string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, o := range []*order{l.now, l.desired} {
		if o != nil && o.withdraw == nil {
			digests = append(digests, o.offer.Manifest)
		}
	}
	return digests
}

// put makes a command's order the next one.
func (l *lane) put(o order) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.supersede()
	l.command = &o
}

// supersede cancels what is under way and drops a command that waits. It is
// called with the lock held, by who sets the next order.
func (l *lane) supersede() {
	if old := l.command; old != nil {
		l.command = nil
		old.done(wire.Report{}, slots.ErrSuperseded)
	}
	if l.cancel != nil {
		l.cancel(slots.ErrSuperseded)
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
		o, trying := l.next(ctx)
		if o == nil {
			select {
			case <-l.wake:
			case <-ctx.Done():
			}
			continue
		}
		r, err := l.pursue(trying, o)
		l.mu.Lock()
		l.cancel(nil)
		l.cancel, l.now = nil, nil
		if d := l.desired; err == nil && d != nil && (d == o ||
			o.withdraw == nil && d.withdraw == nil && d.offer.Manifest == o.offer.Manifest) {
			l.desired = nil
		}
		l.mu.Unlock()
		if o.done != nil {
			o.done(r, err)
		}
	}
}

// next returns the order to be taken now, nil for none, and the context that
// a newer one cancels.
func (l *lane) next(ctx context.Context) (*order, context.Context) {
	l.mu.Lock()
	defer l.mu.Unlock()
	o := l.command
	l.command = nil
	if o == nil {
		o = l.desired
	}
	if o != nil {
		l.now = o
		ctx, l.cancel = context.WithCancelCause(ctx)
	}
	return o, ctx
}

// The waits between two tries.
const (
	firstRetry = 2 * time.Second
	lastRetry  = 5 * time.Minute
)

// pursue tries an order until it is decided, late, or ctx ends.
func (l *lane) pursue(ctx context.Context, o *order) (wire.Report, error) {
	for delay := firstRetry; ; delay = min(2*delay, lastRetry) {
		r, err := l.try(ctx, o)
		if err == nil {
			if r.Digest != "" {
				l.decided(r)
			}
			return r, nil
		}
		if ctx.Err() != nil {
			return r, context.Cause(ctx)
		}
		if !errors.Is(err, slots.ErrAgain) {
			l.log.Error("artefact cannot be taken now", "kind", l.name, "name", o.offer.Name, keyError, err)
		}
		wait := delay/2 + rand.N(delay/2+1)
		if o.left != nil {
			left := o.left()
			if left <= 0 {
				return r, fmt.Errorf("%w: %w", errLate, err)
			}
			wait = min(wait, left)
		}
		select {
		case <-time.After(wait):
		case <-l.wake:
		case <-ctx.Done():
			return r, context.Cause(ctx)
		}
	}
}

func (l *lane) try(ctx context.Context, o *order) (wire.Report, error) {
	if o.withdraw != nil {
		return o.withdraw(ctx)
	}
	if o.left != nil {
		ctx = context.WithValue(ctx, fetchTime{}, o.left)
	}
	return l.take(ctx, o.offer)
}
