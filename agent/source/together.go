package source

import "sync"

// together makes changes of a folder last, several at a time: who asks while a
// sync is under way shares the next one with all others that do. The results of
// eight pictures are kept at the same moment, and a journal writes as much for
// one name that moved as for eight.
type together struct {
	sync func() error

	under chan struct{} // of one place, taken for a sync
	mu    sync.Mutex    // guards next
	next  *round        // collects those that ask, or nil
}

// round is one sync to come; err is set before done is closed.
type round struct {
	done chan struct{}
	err  error
}

func newTogether(sync func() error) *together {
	return &together{sync: sync, under: make(chan struct{}, 1)}
}

// last returns when a sync that began after the call has ended, with its error.
func (t *together) last() error {
	t.mu.Lock()
	r := t.next
	if r != nil {
		t.mu.Unlock()
		<-r.done
		return r.err
	}
	r = &round{done: make(chan struct{})}
	t.next = r
	t.mu.Unlock()

	t.under <- struct{}{}
	defer func() { <-t.under }()
	t.mu.Lock()
	t.next = nil // from here on the sync may be too early for who asks
	t.mu.Unlock()
	r.err = t.sync()
	close(r.done)
	return r.err
}
