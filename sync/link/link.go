// Package link keeps one MQTT connection up, on a device or on the hub. It is
// the only place that knows paho.
//
// Start with New and Run, then Publish; NewDrain sends a device's outbox over
// a Link. The promise: while Run runs, the link is either connected with every
// subscription granted, or on its way there, and says why not (Err); Run
// leaves no goroutine behind.
//
// What it does not promise is delivery. A broker answers for a message that
// it then throws away (one that the publisher may not send, one for which a
// queue is full), and a client library cannot tell. So Publish says only that
// the message was handed to an open connection, sessions are clean, nothing
// is stored here, and whatever must arrive is sent again until the other side
// itself says that it has it: that is Drain's work.
//
// # Why paho is used as it is
//
// Each connection is a new paho client without its automatic reconnect. That
// way an old connection's tokens end with an error (with the reconnect they
// end with none, though nothing was acknowledged), every wait has jitter, and
// a refused subscription is noticed before anybody is told that the link is
// up. Messages are taken from paho in order, by a handler that never blocks:
// it puts them on a bounded queue, from which one goroutine calls Handle.
package link

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/url"
	"sync"
	"sync/atomic"
	"time"
)

// Errors that callers ask for.
var (
	ErrNotConnected = errors.New("not connected to the broker")
	ErrTakeover     = errors.New("the broker keeps closing the connection: is another client using this client id?")
)

// RefusedError says that the broker does not let us subscribe to a topic.
type RefusedError struct{ Topic string }

func (e *RefusedError) Error() string { return "the broker refused the subscription to " + e.Topic }

// Message is an MQTT message.
type Message struct {
	Topic   string
	Payload []byte
	QoS     byte // 0 or 1
	Retain  bool // to publish: keep it for later subscribers; received: it was kept
}

// Sub is a subscription.
type Sub struct {
	Topic string
	QoS   byte
}

// Options describe the connection. Times and counts of zero mean the default.
type Options struct {
	URL            string // "tcp://127.0.0.1:1883" or "tls://hub.example:8883"
	ClientID       string // of 1 to 65 characters, no space and no dot (NATS)
	User, Password string
	TLS            *tls.Config // for tls://; default: the system's authorities

	Will    *Message // published by the broker when the connection is lost
	Goodbye *Message // published by us when Run ends, since there is no will then

	// Subscribe is asked for at each connect. One that is refused ends the
	// connection: half a link would be silent about what it misses.
	Subscribe []Sub

	// OnConnect is called at each connect when all subscriptions are granted,
	// in a goroutine that the link waits for; ctx ends with the connection.
	OnConnect func(ctx context.Context)

	// Handle is called with each message received, one after the other. The
	// payload is Handle's own. Messages that come while Queue others wait are
	// dropped and counted, whatever their QoS.
	Handle func(Message)
	Queue  int // default 256

	MaxInflight    int           // QoS 1 messages not yet answered, before Publish waits; default 32
	KeepAlive      time.Duration // default 30 s
	ConnectTimeout time.Duration // default 15 s, also for the subscriptions
	WriteTimeout   time.Duration // default 15 s
	MinDelay       time.Duration // before connecting again, doubled each time, default 1 s
	MaxDelay       time.Duration // default 2 min
	Stable         time.Duration // a connection that lasted so long was a good one, default 30 s

	Log *slog.Logger // default: nothing is logged
}

func (o Options) withDefaults() Options {
	durations := []struct {
		d *time.Duration
		v time.Duration
	}{
		{&o.KeepAlive, 30 * time.Second},
		{&o.ConnectTimeout, 15 * time.Second},
		{&o.WriteTimeout, 15 * time.Second},
		{&o.MinDelay, time.Second},
		{&o.MaxDelay, 2 * time.Minute},
		{&o.Stable, 30 * time.Second},
	}
	for _, x := range durations {
		if *x.d <= 0 {
			*x.d = x.v
		}
	}
	if o.Queue <= 0 {
		o.Queue = 256
	}
	if o.MaxInflight <= 0 {
		o.MaxInflight = 32
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Handle == nil {
		o.Handle = func(Message) {}
	}
	return o
}

// Link is a connection that is kept up by Run. Its other methods may be
// called from several goroutines, before, during and after Run.
type Link struct {
	o     Options
	queue chan Message
	drops atomic.Int64

	mu   sync.Mutex // guards what follows
	conn *conn      // nil: not connected
	err  error      // why not
}

// New checks the options and returns a link that is not yet connected.
func New(o Options) (*Link, error) {
	u, err := url.Parse(o.URL)
	if err != nil || u.Host == "" || u.Scheme != "tcp" && u.Scheme != "tls" {
		return nil, fmt.Errorf("broker address %.100q: want tcp://HOST:PORT or tls://HOST:PORT", o.URL)
	}
	if o.ClientID == "" {
		return nil, errors.New("broker connection without a client id")
	}
	o = o.withDefaults()
	return &Link{o: o, queue: make(chan Message, o.Queue), err: ErrNotConnected}, nil
}

// Connected reports whether the link is up, with all subscriptions granted.
func (l *Link) Connected() bool { return l.Err() == nil }

// Err returns nil where the link is up, and otherwise the last reason for
// which it is not: it wraps ErrNotConnected, and *RefusedError or ErrTakeover
// where it was that.
func (l *Link) Err() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.err
}

// Drops returns how many received messages were dropped since the start,
// because Handle was too slow.
func (l *Link) Drops() int64 { return l.drops.Load() }

// Publish hands the message to the connection. nil does not mean that anybody
// has it (see the package comment). It waits while MaxInflight messages of
// QoS 1 are unanswered, until ctx ends. Without a connection it fails at once
// with ErrNotConnected. The payload must not be changed afterwards.
func (l *Link) Publish(ctx context.Context, m Message) error {
	l.mu.Lock()
	c := l.conn
	l.mu.Unlock()
	if c == nil {
		return fmt.Errorf("publish %s: %w", m.Topic, ErrNotConnected)
	}
	if err := c.publish(ctx, m); err != nil {
		return fmt.Errorf("publish %s: %w", m.Topic, err)
	}
	return nil
}

// Run connects, and connects again whenever the connection is lost, until ctx
// ends. It returns nil then, after Goodbye and a proper disconnect. A Link can
// be run once.
func (l *Link) Run(ctx context.Context) error {
	var handling sync.WaitGroup
	done := make(chan struct{})
	handling.Go(func() { l.handle(done) })
	defer handling.Wait()
	defer close(done)
	for failed, short := 0, 0; ; {
		lasted, err := l.connection(ctx)
		if ctx.Err() != nil {
			l.set(nil, ErrNotConnected)
			return nil
		}
		if lasted >= l.o.Stable {
			failed, short = 0, 0
		} else if lasted > 0 {
			short++
		}
		failed++
		// Who has our client id connects as soon as we have thrown it out, and
		// we it: both wait longer each time, because neither connection lasts.
		if lasted > 0 && short >= takeovers {
			err = fmt.Errorf("%w (%d connections lost soon after they stood): %w", ErrTakeover, short, err)
		}
		err = fmt.Errorf("%w: %w", ErrNotConnected, err)
		l.set(nil, err)
		delay := l.backoff(failed)
		l.o.Log.Warn("broker connection lost", keyError, err, keyDelay, delay, keyAttempt, failed)
		wait(ctx, delay)
	}
}

// takeovers is how many connections in a row must be lost soon after they
// stood, before another client is suspected.
const takeovers = 3

// Keys of log entries.
const (
	keyError   = "error"
	keyDelay   = "delay"
	keyAttempt = "attempt"
	keyTopic   = "topic"
	keyDropped = "dropped"
)

// backoff takes a random part of the upper half, so that a fleet that lost its
// broker does not come back in step.
func (l *Link) backoff(failed int) time.Duration {
	d := l.o.MinDelay
	for range failed - 1 {
		d = min(2*d, l.o.MaxDelay)
	}
	return d/2 + rand.N(d/2+1)
}

func wait(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}

func (l *Link) set(c *conn, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.conn, l.err = c, err
}

// handle calls Handle until done, and then for what is on the queue: it was
// acknowledged to the broker.
func (l *Link) handle(done <-chan struct{}) {
	for {
		select {
		case m := <-l.queue:
			l.o.Handle(m)
		case <-done:
			for {
				select {
				case m := <-l.queue:
					l.o.Handle(m)
				default:
					return
				}
			}
		}
	}
}

// received is called by paho, in order; it must not block.
func (l *Link) received(m Message) {
	select {
	case l.queue <- m:
	default:
		n := l.drops.Add(1)
		l.o.Log.Warn("message dropped, queue full", keyTopic, m.Topic, keyDropped, n)
	}
}
