package broker_test

import (
	"encoding/binary"
	"errors"
	"io"
	"log/slog"
	"net"
	"strings"
	"testing"
	"time"

	"dunlin/hub/broker"
)

// client speaks just enough MQTT 3.1.1 to see every answer of the broker,
// which a client library hides in part (a refused SUBSCRIBE, above all).
type client struct {
	t    *testing.T
	conn net.Conn
}

func packet(kind byte, body []byte) []byte {
	out := []byte{kind}
	for n := len(body); ; {
		b := byte(n & 0x7f)
		if n >>= 7; n > 0 {
			b |= 0x80
		}
		if out = append(out, b); n == 0 {
			return append(out, body...)
		}
	}
}

func text(s string) []byte { return append(binary.BigEndian.AppendUint16(nil, uint16(len(s))), s...) }

// dial connects and returns the CONNACK's code.
func dial(t *testing.T, addr, clientID, user, password string) (*client, byte) {
	t.Helper()
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	c := &client{t, conn}
	body := append(text("MQTT"), 4, 0xc2, 0, 60)
	for _, s := range []string{clientID, user, password} {
		body = append(body, text(s)...)
	}
	c.send(packet(0x10, body))
	kind, body := c.read()
	if kind != 0x20 || len(body) != 2 {
		t.Fatalf("answer to CONNECT: %x %x", kind, body)
	}
	return c, body[1]
}

func (c *client) send(p []byte) {
	c.t.Helper()
	if _, err := c.conn.Write(p); err != nil {
		c.t.Fatal(err)
	}
}

// read returns the next packet.
func (c *client) read() (byte, []byte) {
	c.t.Helper()
	kind, body, err := c.tryRead()
	if err != nil {
		c.t.Fatal(err)
	}
	return kind, body
}

func (c *client) tryRead() (byte, []byte, error) {
	if err := c.conn.SetReadDeadline(time.Now().Add(time.Minute)); err != nil {
		return 0, nil, err
	}
	var b [1]byte
	if _, err := io.ReadFull(c.conn, b[:]); err != nil {
		return 0, nil, err
	}
	kind, n := b[0], 0
	for shift := 0; ; shift += 7 {
		if _, err := io.ReadFull(c.conn, b[:]); err != nil {
			return 0, nil, err
		}
		if n |= int(b[0]&0x7f) << shift; b[0]&0x80 == 0 {
			break
		}
	}
	body := make([]byte, n)
	_, err := io.ReadFull(c.conn, body)
	return kind, body, err
}

// subscribe returns the SUBACK's code.
func (c *client) subscribe(filter string, qos byte) byte {
	c.t.Helper()
	c.send(packet(0x82, append(append([]byte{0, 7}, text(filter)...), qos)))
	for {
		kind, body := c.read()
		if kind == 0x90 {
			return body[2]
		}
		c.t.Fatalf("answer to SUBSCRIBE: %x %x", kind, body)
	}
}

// publish sends one QoS 1 message and waits for its PUBACK.
func (c *client) publish(topic, payload string, retain bool) {
	c.t.Helper()
	kind := byte(0x32)
	if retain {
		kind |= 1
	}
	c.send(packet(kind, append(append(text(topic), 0, 9), payload...)))
	for {
		if kind, _ := c.read(); kind == 0x40 {
			return
		}
	}
}

// message returns the next message's topic and payload.
func (c *client) message() (string, string) {
	c.t.Helper()
	for {
		kind, body := c.read()
		if kind>>4 != 3 {
			continue
		}
		n := int(binary.BigEndian.Uint16(body))
		topic, rest := string(body[2:2+n]), body[2+n:]
		if kind&6 != 0 {
			rest = rest[2:]
		}
		return topic, string(rest)
	}
}

// retained returns the message that came with the answer to a SUBSCRIBE. The
// server queues both before it reads the PINGREQ that follows.
func (c *client) retained() (payload string, ok bool) {
	c.t.Helper()
	c.send(packet(0xc0, nil))
	for {
		switch kind, body := c.read(); kind >> 4 {
		case 3:
			n := int(binary.BigEndian.Uint16(body))
			payload, ok = string(body[2+n:]), true
		case 13:
			return payload, ok
		}
	}
}

func auth(user, password, _ string) (broker.Permissions, error) {
	tenant, name, ok := strings.Cut(user, "_")
	if !ok || password != "secret of "+name {
		return broker.Permissions{}, errors.New("wrong password")
	}
	base := "dunlin/v1/" + tenant + "/" + name
	return broker.Permissions{Publish: []string{base + "/up/+"}, Subscribe: []string{base + "/down/+"}}, nil
}

func start(t *testing.T, dir, addr string) *broker.Broker {
	t.Helper()
	b, err := broker.New(broker.Options{Dir: dir, Addr: addr, Auth: auth, Log: slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelWarn}))})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(b.Close)
	if err := b.Start(); err != nil {
		t.Fatal(err)
	}
	return b
}

// hub connects as the hub does.
func hub(t *testing.T, b *broker.Broker) *client {
	t.Helper()
	id, user, password := b.Credentials()
	c, code := dial(t, b.Addr(), id, user, password)
	if code != 0 {
		t.Fatalf("the hub was refused: %d", code)
	}
	return c
}

func TestWhoComesIn(t *testing.T) {
	b := start(t, t.TempDir(), "127.0.0.1:0")
	for _, tc := range []struct{ name, id, user, password string }{
		{"wrong password", "acme_left", "acme_left", "guess"},
		{"no password", "acme_left", "acme_left", ""},
		{"another's client id", "acme_right", "acme_left", "secret of left"},
		{"the hub's client id", broker.HubUser, "acme_left", "secret of left"},
		{"the hub's user without its password", broker.HubUser, broker.HubUser, "guess"},
		{"the user that answers", "dunlin-auth", "dunlin-auth", ""},
		{"nobody", "x", "", ""},
	} {
		if _, code := dial(t, b.Addr(), tc.id, tc.user, tc.password); code == 0 {
			t.Errorf("%s came in", tc.name)
		}
	}
	if _, code := dial(t, b.Addr(), "acme_left", "acme_left", "secret of left"); code != 0 {
		t.Errorf("a device was refused: %d", code)
	}
	hub(t, b)
}

func TestOwnTopicsAlone(t *testing.T) {
	b := start(t, t.TempDir(), "127.0.0.1:0")
	h := hub(t, b)
	if code := h.subscribe("dunlin/v1/+/+/up/hello", 0); code != 0 {
		t.Fatalf("the hub's subscription: %x", code)
	}
	left, _ := dial(t, b.Addr(), "acme_left", "acme_left", "secret of left")
	for filter, want := range map[string]byte{
		"dunlin/v1/acme/left/down/+":   0,
		"dunlin/v1/acme/left/down/ack": 0,
		"dunlin/v1/acme/left/up/+":     0x80,
		"dunlin/v1/acme/right/down/+":  0x80,
		"dunlin/v1/+/+/down/ack":       0x80,
		"#":                            0x80,
		"$SYS/#":                       0x80,
		"$MQTT/#":                      0x80,
		"$MQTT/msgs/#":                 0x80,
		"$JS/#":                        0x80,
	} {
		if code := left.subscribe(filter, 0); code != want {
			t.Errorf("subscription to %s: %x, want %x", filter, code, want)
		}
	}
	// A denied publish gets its PUBACK and is dropped; the allowed one that
	// follows it arrives.
	left.publish("dunlin/v1/acme/right/up/hello", "forged", false)
	left.publish("dunlin/v1/acme/left/down/ack", "forged", false)
	left.publish("dunlin/v1/acme/left/up/hello", "own", false)
	if topic, payload := h.message(); payload != "own" {
		t.Errorf("the hub got %q on %s first", payload, topic)
	}
	h.publish("dunlin/v1/acme/left/down/ack", "1", false)
	if topic, payload := left.message(); payload != "1" || topic != "dunlin/v1/acme/left/down/ack" {
		t.Errorf("the device got %q on %s", payload, topic)
	}
}

// TestDeliverySubjects tries to listen where the server hands QoS 1 messages
// to their subscribers.
func TestDeliverySubjects(t *testing.T) {
	b := start(t, t.TempDir(), "127.0.0.1:0")
	left, _ := dial(t, b.Addr(), "acme_left", "acme_left", "secret of left")
	spy, _ := dial(t, b.Addr(), "acme_right", "acme_right", "secret of right")
	if code := left.subscribe("dunlin/v1/acme/left/down/+", 1); code != 1 {
		t.Fatalf("QoS 1 subscription: %x", code)
	}
	for _, filter := range []string{"$MQTT/sub/#", "$MQTT/sub/+"} {
		if code := spy.subscribe(filter, 0); code != 0x80 {
			t.Errorf("subscription to %s: %x", filter, code)
		}
	}
	hub(t, b).publish("dunlin/v1/acme/left/down/cmd", "private", false)
	if _, payload := left.message(); payload != "private" {
		t.Errorf("the device got %q", payload)
	}
}

func TestRestartKeepsRetained(t *testing.T) {
	dir := t.TempDir()
	b := start(t, dir, "127.0.0.1:0")
	addr := b.Addr()
	hub(t, b).publish("dunlin/v1/acme/left/down/desired", "gen 1", true)
	b.Close()
	b = start(t, dir, addr)
	if b.Addr() != addr {
		t.Fatalf("address %s, was %s", b.Addr(), addr)
	}
	left, code := dial(t, addr, "acme_left", "acme_left", "secret of left")
	if code != 0 {
		t.Fatal("the device does not come in after a restart")
	}
	// The server reads its retained messages in the background of a start: who
	// subscribes before they are there asks once more.
	for end := time.Now().Add(time.Minute); ; {
		left.send(packet(0x82, append(append([]byte{0, 7}, text("dunlin/v1/acme/left/down/+")...), 0)))
		if payload, ok := left.retained(); ok {
			if payload != "gen 1" {
				t.Errorf("retained message after a restart: %q", payload)
			}
			return
		}
		if time.Now().After(end) {
			t.Fatal("the retained message is gone after a restart")
		}
	}
}

func TestNewRefuses(t *testing.T) {
	for _, o := range []broker.Options{
		{Auth: auth, Addr: "0.0.0.0:1883"},
		{Auth: auth, Addr: ":1883"},
		{Auth: auth, Addr: "hub.example:1883"},
		{Auth: auth, Addr: "127.0.0.1:1883", NATS: "10.0.0.1:4222"},
	} {
		if _, err := broker.New(o); !errors.Is(err, broker.ErrNeedsTLS) {
			t.Errorf("%+v: %v", o, err)
		}
	}
	for _, o := range []broker.Options{{Addr: "127.0.0.1:0"}, {Auth: auth, Addr: "127.0.0.1"}, {Auth: auth, Addr: "127.0.0.1:mqtt"}, {URL: "http://x:1"}} {
		if _, err := broker.New(o); err == nil {
			t.Errorf("%+v was taken", o)
		}
	}
}

func TestPortTaken(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	b, err := broker.New(broker.Options{Dir: t.TempDir(), Addr: l.Addr().String(), Auth: auth})
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	if err := b.Start(); err == nil || !strings.Contains(err.Error(), "in use") {
		t.Errorf("start on a taken port: %v", err)
	}
}

func TestExternal(t *testing.T) {
	b, err := broker.New(broker.Options{URL: "tcp://broker.example:1883", User: "hub", Password: "p"})
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	if err := b.Start(); err != nil || b.Embedded() || b.URL() != "tcp://broker.example:1883" {
		t.Errorf("%v %v %s", err, b.Embedded(), b.URL())
	}
	if id, user, password := b.Credentials(); id != broker.HubUser || user != "hub" || password != "p" {
		t.Errorf("credentials %s %s %s", id, user, password)
	}
}
