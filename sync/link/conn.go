package link

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/url"
	"sync"
	"time"

	mqtt "github.com/eclipse/paho.mqtt.golang"
)

// suback is what a broker answers for a subscription that it refuses
// (MQTT 3.1.1, 3.9.3). paho reports no error for it.
const suback = 0x80

// quiesce is how long a disconnect and the Goodbye may take.
const quiesce = time.Second

// conn is one connection, from CONNECT to its end.
type conn struct {
	client   mqtt.Client
	inflight chan struct{} // a slot for each unanswered QoS 1 message
	timeout  time.Duration

	ctx    context.Context // ends with the connection, and closes its socket
	lose   context.CancelCauseFunc
	opened mqtt.Token     // of CONNECT
	wg     sync.WaitGroup // goroutines of this connection
	sendMu sync.Mutex     // guards closed, and makes wg.Add come before wg.Wait
	closed bool
}

// connection connects, subscribes, and stays until the connection is lost or
// ctx ends. lasted is how long it stood, 0 where it never did.
func (l *Link) connection(ctx context.Context) (lasted time.Duration, err error) {
	c := &conn{inflight: make(chan struct{}, l.o.MaxInflight), timeout: l.o.WriteTimeout}
	c.ctx, c.lose = context.WithCancelCause(context.Background())
	c.client = mqtt.NewClient(l.clientOptions(c))
	defer c.close()
	c.opened = c.client.Connect()
	if err := c.await(ctx, c.opened, l.o.ConnectTimeout+time.Second); err != nil {
		return 0, fmt.Errorf("connect: %w", err)
	}
	if err := c.subscribe(ctx, l.o.Subscribe, l.o.ConnectTimeout); err != nil {
		return 0, err
	}
	since := time.Now()
	l.set(c, nil)
	l.o.Log.Info("connected to the broker")
	if l.o.OnConnect != nil {
		c.wg.Go(func() { l.o.OnConnect(c.ctx) })
	}
	select {
	case <-c.ctx.Done():
		err = context.Cause(c.ctx)
	case <-ctx.Done():
		err = ctx.Err()
		if l.o.Goodbye != nil {
			c.goodbye(*l.o.Goodbye)
		}
	}
	l.set(nil, ErrNotConnected)
	return max(time.Since(since), 1), err
}

func (l *Link) clientOptions(c *conn) *mqtt.ClientOptions {
	o := mqtt.NewClientOptions().
		AddBroker(l.o.URL).
		SetClientID(l.o.ClientID).
		SetUsername(l.o.User).
		SetPassword(l.o.Password).
		SetProtocolVersion(4). // else a refused 3.1.1 is tried again as 3.1
		SetCleanSession(true).
		SetStore(mqtt.NewMemoryStore()). // its file store does not sync
		SetAutoReconnect(false).         // see the package comment
		SetConnectRetry(false).
		SetOrderMatters(true). // in order, by one goroutine: received never blocks
		SetKeepAlive(l.o.KeepAlive).
		SetPingTimeout(max(l.o.KeepAlive/3, time.Second)).
		SetConnectTimeout(l.o.ConnectTimeout).
		SetWriteTimeout(l.o.WriteTimeout).
		SetDefaultPublishHandler(func(_ mqtt.Client, m mqtt.Message) {
			l.received(Message{Topic: m.Topic(), Payload: m.Payload(), QoS: m.Qos(), Retain: m.Retained()})
		}).
		SetConnectionLostHandler(func(_ mqtt.Client, err error) { c.lose(fmt.Errorf("connection lost: %w", err)) }).
		SetCustomOpenConnectionFn(func(u *url.URL, _ mqtt.ClientOptions) (net.Conn, error) { return l.dial(c, u) })
	if w := l.o.Will; w != nil {
		o.SetBinaryWill(w.Topic, w.Payload, w.QoS, w.Retain)
	}
	return o
}

// dial opens the socket. paho's own dial cannot be broken off.
func (l *Link) dial(c *conn, u *url.URL) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(c.ctx, l.o.ConnectTimeout)
	defer cancel()
	var d net.Dialer
	socket, err := d.DialContext(ctx, "tcp", u.Host)
	if err != nil {
		return nil, err
	}
	if u.Scheme == "tls" {
		config := &tls.Config{}
		if l.o.TLS != nil {
			config = l.o.TLS.Clone()
		}
		if config.ServerName == "" {
			config.ServerName = u.Hostname()
		}
		secure := tls.Client(socket, config)
		if err := secure.HandshakeContext(ctx); err != nil {
			return nil, errors.Join(err, socket.Close())
		}
		socket = secure
	}
	context.AfterFunc(c.ctx, func() { _ = socket.Close() }) // paho closes it too
	return socket, nil
}

// await waits for a token, the end of the connection, ctx, or the timeout.
func (c *conn) await(ctx context.Context, t mqtt.Token, timeout time.Duration) error {
	timer := time.NewTimer(timeout)
	defer timer.Stop()
	select {
	case <-t.Done():
		return t.Error()
	case <-c.ctx.Done():
		return context.Cause(c.ctx)
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return fmt.Errorf("no answer within %v", timeout)
	}
}

func (c *conn) subscribe(ctx context.Context, subs []Sub, timeout time.Duration) error {
	if len(subs) == 0 {
		return nil
	}
	filters := make(map[string]byte, len(subs))
	for _, s := range subs {
		filters[s.Topic] = s.QoS
	}
	t := c.client.SubscribeMultiple(filters, nil) // nil: the default handler
	if err := c.await(ctx, t, timeout); err != nil {
		return fmt.Errorf("subscribe: %w", err)
	}
	granted := t.(*mqtt.SubscribeToken).Result()
	for _, s := range subs {
		if code, ok := granted[s.Topic]; !ok || code >= suback {
			return &RefusedError{Topic: s.Topic}
		}
	}
	return nil
}

func (c *conn) publish(ctx context.Context, m Message) error {
	if m.QoS > 0 {
		select {
		case c.inflight <- struct{}{}:
		case <-c.ctx.Done():
			return ErrNotConnected
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	t, err := c.send(m)
	if err != nil {
		if m.QoS > 0 {
			<-c.inflight
		}
		return err
	}
	select {
	case <-t.Done(): // a QoS 0 message was written, or something went wrong
		return t.Error()
	default:
		return nil
	}
}

// send hands m to paho, and for QoS 1 frees the slot when its token ends,
// which proves nothing but that there is room again.
func (c *conn) send(m Message) (mqtt.Token, error) {
	c.sendMu.Lock()
	defer c.sendMu.Unlock()
	if c.closed {
		return nil, ErrNotConnected
	}
	return c.hand(m)
}

// hand is send, with sendMu held.
func (c *conn) hand(m Message) (mqtt.Token, error) {
	if !c.client.IsConnectionOpen() {
		return nil, ErrNotConnected
	}
	t := c.client.Publish(m.Topic, m.QoS, m.Retain, m.Payload)
	if m.QoS > 0 {
		c.wg.Go(func() {
			select {
			case <-t.Done():
			case <-c.ctx.Done():
			}
			<-c.inflight
		})
	}
	return t, nil
}

// goodbye publishes m, after which nothing is published any more, and waits a
// moment for the broker to have it.
func (c *conn) goodbye(m Message) {
	ctx, cancel := context.WithTimeout(context.Background(), quiesce)
	defer cancel()
	if m.QoS > 0 {
		select {
		case c.inflight <- struct{}{}: // hand frees it
		case <-ctx.Done():
			return
		}
	}
	c.sendMu.Lock()
	c.closed = true
	t, err := c.hand(m)
	c.sendMu.Unlock()
	if err == nil {
		_ = c.await(ctx, t, quiesce) // a goodbye that nobody hears is no error
	}
}

var errClosed = errors.New("connection closed")

// close ends the connection, however far it came, and waits for all that
// belongs to it. Only a connection that stands is told so with a DISCONNECT.
func (c *conn) close() {
	c.sendMu.Lock()
	c.closed = true
	c.sendMu.Unlock()
	c.disconnect()
	c.lose(errClosed)
	<-c.opened.Done()
	c.disconnect() // CONNACK may have come in that moment
	c.wg.Wait()
}

func (c *conn) disconnect() {
	if c.client.IsConnectionOpen() {
		c.client.Disconnect(uint(quiesce / time.Millisecond))
	}
}
