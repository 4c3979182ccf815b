package link

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync"
	"time"

	"dunlin/sync/outbox"
	"dunlin/sync/wire"
)

// DrainOptions pace the sending of an outbox. The zero value of each means
// its default.
type DrainOptions struct {
	Window     int           // batches sent and not yet acknowledged by the hub, default 4
	Records    int           // in a batch at most, default 200
	Bytes      int           // of a batch's bodies before packing, default 256 KiB
	Timeout    time.Duration // without an Ack, before sending again, default 5 s
	MaxTimeout time.Duration // it doubles up to this, default 2 min
	Log        *slog.Logger  // default: nothing is logged
}

func (o DrainOptions) withDefaults() DrainOptions {
	if o.Window <= 0 {
		o.Window = 4
	}
	if o.Records <= 0 {
		o.Records = 200
	}
	o.Records = min(o.Records, wire.MaxBatchRecords)
	if o.Bytes <= 0 {
		o.Bytes = 256 << 10
	}
	if o.Timeout <= 0 {
		o.Timeout = 5 * time.Second
	}
	if o.MaxTimeout <= 0 {
		o.MaxTimeout = 2 * time.Minute
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	return o
}

// Drain sends what is in an outbox, in order, until the hub says that it has
// it. It is a sliding window that goes back to its beginning:
//
//	acknowledged  |  sent, up to Window batches  |  not sent yet
//	      base = first unacknowledged       next to send
//
// An Ack moves base, and the outbox forgets what is below it. A new
// connection, or a time without an Ack, moves next back to base. Sending too
// often is harmless: the hub knows each record by (device, epoch, seq).
type Drain struct {
	box     *outbox.Outbox
	publish func(context.Context, Message) error
	topic   string
	o       DrainOptions
	wake    chan struct{} // of length 1: something below changed

	mu        sync.Mutex // guards what follows
	ack       wire.Ack   // the newest of this epoch, not yet given to the outbox
	connected bool       // told by Connected since the last look

	// Run's own.
	sent    []int64 // for each batch on its way, the seq that follows it
	next    int64   // to send
	timeout time.Duration
	due     time.Time // when to send again, where sent is not empty
}

// NewDrain returns a Drain for one device. publish is the link's Publish.
func NewDrain(box *outbox.Outbox, d wire.Device, publish func(context.Context, Message) error, o DrainOptions) *Drain {
	return &Drain{
		box: box, publish: publish, topic: wire.Topic(d, wire.UpResult),
		o: o.withDefaults(), wake: make(chan struct{}, 1),
	}
}

// Connected tells the Drain that there is a new connection: call it in
// Options.OnConnect. What was on its way is sent again at once.
func (d *Drain) Connected() {
	d.mu.Lock()
	d.connected = true
	d.mu.Unlock()
	d.signal()
}

// Ack tells the Drain what the hub said: call it for each wire.DownAck. It
// does not block.
func (d *Drain) Ack(a wire.Ack) {
	if a.Epoch != d.box.Epoch() {
		return // of an outbox that is gone
	}
	d.mu.Lock()
	if a.Upto > d.ack.Upto {
		d.ack = a
	}
	d.mu.Unlock()
	d.signal()
}

func (d *Drain) signal() {
	select {
	case d.wake <- struct{}{}:
	default:
	}
}

// Run sends until ctx ends, and then returns nil; or until the outbox fails,
// and then returns its error: ErrClosed or ErrBroken, after which it has to be
// opened again.
func (d *Drain) Run(ctx context.Context) error {
	d.timeout = d.o.Timeout
	for ctx.Err() == nil {
		changed := d.box.Changed() // before looking, so that nothing is missed
		if err := d.settle(); err != nil {
			return err
		}
		pause, err := d.fill(ctx)
		if err != nil {
			return err
		}
		d.sleep(ctx, changed, pause)
	}
	return nil
}

// settle takes over what Ack and Connected said.
func (d *Drain) settle() error {
	d.mu.Lock()
	ack, connected := d.ack, d.connected
	d.connected = false
	d.mu.Unlock()
	base := d.box.State().First
	if ack.Upto > base {
		switch err := d.box.Ack(ack.Epoch, ack.Upto); {
		case errors.Is(err, outbox.ErrClosed), errors.Is(err, outbox.ErrBroken):
			return fmt.Errorf("drain: %w", err)
		case errors.Is(err, outbox.ErrAhead):
			d.o.Log.Warn("acknowledgement ignored", keyError, err)
			d.mu.Lock()
			d.ack = wire.Ack{}
			d.mu.Unlock()
		case err != nil: // no space to delete in: it will be tried again
			d.o.Log.Warn("acknowledged records not deleted", keyError, err)
		}
		if now := d.box.State().First; now > base {
			base = now
			d.timeout = d.o.Timeout
			d.arm()
		}
	}
	for len(d.sent) > 0 && d.sent[0] <= base {
		d.sent = d.sent[1:]
	}
	late := len(d.sent) > 0 && !time.Now().Before(d.due)
	if late {
		d.timeout = min(2*d.timeout, d.o.MaxTimeout)
		d.o.Log.Debug("no acknowledgement, sending again", keySeq, base)
	}
	if connected {
		d.timeout = d.o.Timeout
	}
	if late || connected {
		d.sent, d.next = nil, base
	}
	d.next = max(d.next, base)
	return nil
}

const keySeq = "seq"

// arm sets the time to send again, with up to half of it more at random.
func (d *Drain) arm() {
	d.due = time.Now().Add(d.timeout + rand.N(d.timeout/2+1))
}

// fill sends until the window is full or nothing is left. A pause that is not
// 0 says that nothing can be sent now, and for how long not to try.
func (d *Drain) fill(ctx context.Context) (pause time.Duration, err error) {
	for len(d.sent) < d.o.Window {
		payload, next, err := d.batch()
		if err != nil || payload == nil {
			return 0, err
		}
		err = d.publish(ctx, Message{Topic: d.topic, Payload: payload, QoS: 1})
		switch {
		case errors.Is(err, ErrNotConnected):
			d.sent, d.next = nil, d.box.State().First // all went with the connection
			return d.o.MaxTimeout, nil                // Connected ends the pause
		case err != nil:
			d.o.Log.Warn("batch not sent", keyError, err)
			return d.timeout, nil
		}
		if len(d.sent) == 0 {
			d.arm()
		}
		d.sent = append(d.sent, next)
		d.next = next
	}
	return 0, nil
}

// batch packs the records that come next; next is the seq after them. A
// payload of nil means that there are none.
func (d *Drain) batch() (payload []byte, next int64, err error) {
	records, err := d.box.Next(d.next, d.o.Records, d.o.Bytes)
	if err != nil {
		return nil, 0, fmt.Errorf("drain: %w", err)
	}
	for len(records) > 0 {
		payload, err = wire.EncodeBatch(d.box.Epoch(), records)
		if errors.Is(err, wire.ErrTooLarge) && len(records) > 1 {
			records = records[:len(records)/2]
			continue
		}
		if err != nil {
			return nil, 0, fmt.Errorf("drain: %w", err)
		}
		next, err = records[len(records)-1].Next()
		return payload, next, err
	}
	return nil, 0, nil
}

// sleep waits until there may be something to do.
func (d *Drain) sleep(ctx context.Context, changed <-chan struct{}, pause time.Duration) {
	if pause > 0 || len(d.sent) == d.o.Window {
		changed = nil // new records could not be sent
	}
	if pause == 0 && len(d.sent) > 0 {
		pause = max(time.Until(d.due), time.Nanosecond)
	}
	var alarm <-chan time.Time
	if pause > 0 {
		t := time.NewTimer(pause)
		defer t.Stop()
		alarm = t.C
	}
	select {
	case <-d.wake:
	case <-changed:
	case <-alarm:
	case <-ctx.Done():
	}
}
