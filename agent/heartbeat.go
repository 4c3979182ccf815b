package agent

import (
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"dunlin/agent/slots"
)

// heart knows whether the loop that answers is alive. What a frame goes through
// is a model's turn and the outbox; either can stop for ever, by a kernel that
// does not come back, a source's decoder, a lock that is not given back. So
// the watchdog is fed by who has gone that way himself (beat), and not while
// one of them is held for longer than it can need (live).
type heart struct {
	mu sync.Mutex
	// models are those whose turn may be held: the one that answers, and
	// others that were left while somebody was in it.
	models []*slots.Model
	puts   int       // results on their way to the disk
	moved  time.Time // the last one began with none before it, or came back, kept or not
}

// errTurn is returned while a model's turn is neither free nor held.
var errTurn = errors.New("the turn of the model is lost")

// What is held for longer will not end. A turn may take twenty times what the
// slow runs of its model take, but at least half a minute and at most two, which
// is also for a model of which nothing is known. Tests shorten these.
var (
	leastTurn = 30 * time.Second
	mostTurn  = 2 * time.Minute
	mostPut   = 2 * time.Minute // in which no result came back from the outbox while one was on its way
)

const slowTurn = 20

func turnLimit(m *slots.Model) time.Duration {
	_, _, p95 := m.Runs()
	if p95 <= 0 || m.Compiling() {
		return mostTurn
	}
	return min(max(time.Duration(min(p95, 1e6)*slowTurn)*time.Millisecond, leastTurn), mostTurn)
}

func (h *heart) putting() {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.puts == 0 {
		h.moved = time.Now()
	}
	h.puts++
}

// put is told of each result that is not on its way any more. One that the disk
// refused counts as well: where it is full, or broken, a restart mends nothing,
// and would only keep the device from answering.
func (h *heart) put() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.puts--
	h.moved = time.Now()
}

// hangs returns what has been under way for so long that it will not end. now
// is the model that answers, nil for none.
func (h *heart) hangs(now *slots.Model) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.models = slices.DeleteFunc(h.models, func(m *slots.Model) bool { return m != now && m.Held() == 0 })
	if now != nil && !slices.Contains(h.models, now) {
		h.models = append(h.models, now)
	}
	for _, m := range h.models {
		limit := turnLimit(m) // before Held, which counts anew once m does not compile any more
		if held := m.Held(); held > limit {
			return fmt.Errorf("an inference of %s has been running for %v", m.Name, held.Round(time.Millisecond))
		}
	}
	if h.puts > 0 && time.Since(h.moved) > mostPut {
		return fmt.Errorf("the outbox has been silent for %v", time.Since(h.moved).Round(time.Second))
	}
	return nil
}

// live fails where something that a frame goes through will not end.
func (p *pipeline) live() error {
	m, err := p.slots.Acquire()
	if err != nil {
		return p.heart.hangs(nil)
	}
	defer m.Release()
	return p.heart.hangs(m)
}

// beat goes the way of a frame, as far as that leaves no trace: it takes the
// turn of the model that answers, where nobody is in it, and the outbox's lock.
// It fails as live does, and does not come back where one of the locks is
// never given back.
func (p *pipeline) beat() error {
	if err := p.live(); err != nil {
		return err
	}
	p.box.State()
	m, err := p.slots.Acquire()
	if err != nil {
		return nil // without a model there is no turn
	}
	defer m.Release()
	// A turn may be given and taken between the two looks, but not ten times.
	for range 10 {
		if m.Beat() || m.Held() > 0 {
			return nil
		}
		time.Sleep(time.Millisecond)
	}
	return errTurn
}
