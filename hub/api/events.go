package api

import (
	"encoding/json"
	"fmt"
	"net/http"
	"sync"
	"time"
)

// Types of events on /v1/events; the data of each is JSON.
const (
	EventDevice  = "device"  // Device
	EventResult  = "result"  // ResultRow
	EventExplain = "explain" // ResultRow, whose explanation is new
	EventReport  = "report"  // {device, report}
	EventRollout = "rollout" // rollout.State
	EventFacts   = "facts"   // Graph
	EventCommand = "command" // Command
	EventClaim   = "claim"   // Claim
	EventSummary = "summary" // Summary
	EventLagged  = "lagged"  // {dropped}: how many events this client missed
)

// clientQueue bounds the events that wait for one client. One that reads too
// slowly misses the newest and is told how many.
const clientQueue = 256

// maxClients bounds the event streams that are open at a time.
const maxClients = 64

// Events hands events to the clients of /v1/events. The zero Events is ready.
type Events struct {
	mu      sync.Mutex // guards what follows
	clients map[*client]bool
	closed  bool
}

type client struct {
	queue   chan message
	dropped int64 // guarded by Events.mu
}

type message struct{ event, data string }

// Publish hands an event to every client; it does not wait for any.
func (e *Events) Publish(event string, v any) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if len(e.clients) == 0 {
		return
	}
	data, err := json.Marshal(v)
	if err != nil {
		return // a type that cannot be JSON is not published by anybody
	}
	m := message{event, string(data)}
	for c := range e.clients {
		select {
		case c.queue <- m:
		default:
			c.dropped++
		}
	}
}

// Watched reports whether anybody listens, so that an expensive event need
// not be made for nobody.
func (e *Events) Watched() bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return len(e.clients) > 0
}

// Close ends every stream.
func (e *Events) Close() {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.closed = true
	for c := range e.clients {
		close(c.queue)
	}
	e.clients = nil
}

func (e *Events) join() *client {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.closed || len(e.clients) >= maxClients {
		return nil
	}
	if e.clients == nil {
		e.clients = map[*client]bool{}
	}
	c := &client{queue: make(chan message, clientQueue)}
	e.clients[c] = true
	return c
}

func (e *Events) leave(c *client) {
	e.mu.Lock()
	defer e.mu.Unlock()
	delete(e.clients, c)
}

// missed returns how many events c missed since it was asked last.
func (e *Events) missed(c *client) int64 {
	e.mu.Lock()
	defer e.mu.Unlock()
	n := c.dropped
	c.dropped = 0
	return n
}

// keepAlive is how often a quiet stream gets a line, so that both ends notice
// when the other is gone.
const keepAlive = 15 * time.Second

func (s *Server) serveEvents(w http.ResponseWriter, r *http.Request) {
	c := s.o.Events.join()
	if c == nil {
		refuse(w, http.StatusServiceUnavailable, "too many event streams", "close a page")
		return
	}
	defer s.o.Events.leave(c)
	h := w.Header()
	h.Set("Content-Type", "text/event-stream")
	h.Set("Cache-Control", "no-store")
	h.Set("X-Accel-Buffering", "no")
	// The page has its first figures at once, before anything happens.
	if sum, err := s.o.Backend.Summary(); err == nil {
		if data, err := json.Marshal(sum); err == nil && !send(w, message{EventSummary, string(data)}) {
			return
		}
	}
	tick := time.NewTicker(keepAlive)
	defer tick.Stop()
	for {
		select {
		case m, ok := <-c.queue:
			if !ok || !send(w, m) {
				return
			}
			if n := s.o.Events.missed(c); n > 0 && !send(w, message{EventLagged, fmt.Sprintf(`{"dropped":%d}`, n)}) {
				return
			}
		case <-tick.C:
			if !send(w, message{}) {
				return
			}
		case <-r.Context().Done():
			return
		}
	}
}

// send writes one event, or a comment where m is empty.
func send(w http.ResponseWriter, m message) bool {
	rc := http.NewResponseController(w)
	deadlines(w, 2*keepAlive)
	text := ": still here\n\n"
	if m.event != "" {
		text = "event: " + m.event + "\ndata: " + m.data + "\n\n"
	}
	if _, err := w.Write([]byte(text)); err != nil {
		return false
	}
	return rc.Flush() == nil
}
