package link

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/eclipse/paho.mqtt.golang/packets"
)

func TestNewRefuses(t *testing.T) {
	for _, o := range []Options{
		{ClientID: "x"},
		{URL: "127.0.0.1:1883", ClientID: "x"},
		{URL: "http://127.0.0.1:1883", ClientID: "x"},
		{URL: "tcp://127.0.0.1:1883"},
	} {
		if _, err := New(o); err == nil {
			t.Errorf("%+v was taken", o)
		}
	}
}

func TestPublishWithoutConnection(t *testing.T) {
	l, stop := run(t, Options{URL: fmt.Sprintf("tcp://127.0.0.1:%d", freePort(t)), ClientID: "alone"})
	waitFor(t, "an attempt failed", func() bool { return strings.Contains(l.Err().Error(), "refused") })
	if err := l.Publish(t.Context(), Message{Topic: "a", QoS: 1}); !errors.Is(err, ErrNotConnected) {
		t.Errorf("publish: %v", err)
	}
	if l.Connected() || !errors.Is(l.Err(), ErrNotConnected) {
		t.Errorf("connected %v, %v", l.Connected(), l.Err())
	}
	stop()
	noneLeft(t)
}

// TestHandlerMayPublish: a handler that publishes and waits made paho stand
// still until its timeout when it was called by paho itself. Order is kept.
func TestHandlerMayPublish(t *testing.T) {
	brokers(t, func(t *testing.T, b broker) {
		const n = 200
		var echo atomic.Pointer[Link]
		e, stopEcho := run(t, Options{
			URL: b.url(), ClientID: "echo", Subscribe: []Sub{{"ask", 1}}, Queue: 1000, MaxInflight: 1,
			Handle: func(m Message) {
				waitFor(t, "the link is known", func() bool { return echo.Load() != nil })
				if err := echo.Load().Publish(t.Context(), Message{Topic: "answer", Payload: m.Payload, QoS: 1}); err != nil {
					t.Error(err)
				}
			},
		})
		echo.Store(e)
		got := make(chan string, n)
		l, stop := up(t, Options{
			URL: b.url(), ClientID: "asker", Subscribe: []Sub{{"answer", 1}}, Queue: 1000,
			Handle: func(m Message) { got <- string(m.Payload) },
		})
		waitFor(t, "echo is connected", e.Connected)
		for i := range n {
			if err := l.Publish(t.Context(), Message{Topic: "ask", Payload: fmt.Append(nil, i), QoS: 1}); err != nil {
				t.Fatal(err)
			}
		}
		for i := range n {
			if s := <-got; s != fmt.Sprint(i) {
				t.Fatalf("answer %d is %s", i, s)
			}
		}
		stop()
		stopEcho()
		noneLeft(t)
	})
}

func TestSlowHandlerDropsAreCounted(t *testing.T) {
	brokers(t, func(t *testing.T, b broker) {
		const queue, n = 3, 40
		begun, goOn := make(chan string, n), make(chan struct{})
		slow, _ := up(t, Options{
			URL: b.url(), ClientID: "slow", Subscribe: []Sub{{"flood", 0}}, Queue: queue,
			Handle: func(m Message) { begun <- string(m.Payload); <-goOn },
		})
		l, _ := up(t, Options{URL: b.url(), ClientID: "flooder"})
		publish := func(i int) {
			if err := l.Publish(t.Context(), Message{Topic: "flood", Payload: fmt.Append(nil, i)}); err != nil {
				t.Fatal(err)
			}
		}
		publish(0)
		if s := <-begun; s != "0" {
			t.Fatalf("first message is %s", s)
		}
		for i := 1; i < n; i++ {
			publish(i)
		}
		waitFor(t, "drops", func() bool { return slow.Drops() == n-1-queue })
		close(goOn)
		for i := 1; i <= queue; i++ {
			if s := <-begun; s != fmt.Sprint(i) {
				t.Errorf("message %d is %s", i, s)
			}
		}
	})
}

func TestRefusedSubscription(t *testing.T) {
	b := newNATS(t)
	var connects atomic.Int32
	l, stop := run(t, Options{
		URL: b.url(), ClientID: "narrow", User: "narrow", Password: "pw",
		Subscribe: []Sub{{"mine/a", 0}, {"others/a", 0}},
		OnConnect: func(context.Context) { connects.Add(1) },
	})
	var refused *RefusedError
	waitFor(t, "refusal", func() bool { return errors.As(l.Err(), &refused) })
	if refused.Topic != "others/a" {
		t.Errorf("refused %s", refused.Topic)
	}
	if l.Connected() || connects.Load() > 0 {
		t.Error("a link with a subscription refused was said to be connected")
	}
	stop()
	noneLeft(t)
	up(t, Options{URL: b.url(), ClientID: "narrow", User: "narrow", Password: "pw", Subscribe: []Sub{{"mine/a", 0}}})
}

func TestWrongPassword(t *testing.T) {
	b := newNATS(t)
	l, _ := run(t, Options{URL: b.url(), ClientID: "liar", User: "dev", Password: "guess"})
	waitFor(t, "refusal", func() bool { return strings.Contains(l.Err().Error(), "not Authorized") })
}

// TestTakeover: two clients with one id throw each other out for ever. Both
// must notice.
func TestTakeover(t *testing.T) {
	brokers(t, func(t *testing.T, b broker) {
		twin := Options{URL: b.url(), ClientID: "twin"}
		first, stopFirst := up(t, twin)
		second, stopSecond := run(t, twin)
		for _, l := range []*Link{first, second} {
			waitFor(t, "takeover noticed", func() bool { return errors.Is(l.Err(), ErrTakeover) })
		}
		stopFirst()
		waitFor(t, "the other has peace", second.Connected)
		stopSecond()
		noneLeft(t)
	})
}

func TestWill(t *testing.T) {
	brokers(t, func(t *testing.T, b broker) {
		wills := make(chan string, 10)
		up(t, Options{
			URL: b.url(), ClientID: "watcher", Subscribe: []Sub{{"status", 1}},
			Handle: func(m Message) { wills <- string(m.Payload) },
		})
		url, cut := proxy(t, b)
		var connects atomic.Int32
		l, _ := up(t, Options{
			URL: url, ClientID: "cut", Will: &Message{Topic: "status", Payload: []byte("lost"), QoS: 1},
			OnConnect: func(ctx context.Context) { connects.Add(1); <-ctx.Done() },
		})
		cut()
		if s := <-wills; s != "lost" {
			t.Errorf("will is %q", s)
		}
		waitFor(t, "it is back", func() bool { return connects.Load() == 2 && l.Connected() })
	})
}

func TestGoodbye(t *testing.T) {
	brokers(t, func(t *testing.T, b broker) {
		_, stop := up(t, Options{
			URL: b.url(), ClientID: "leaver",
			Will:    &Message{Topic: "status", Payload: []byte("lost"), Retain: true, QoS: 1},
			Goodbye: &Message{Topic: "status", Payload: []byte("bye"), Retain: true, QoS: 1},
		})
		stop()
		// Not the will. A reader may come before the broker has put the message
		// among its retained ones (nats-server does so after the PUBACK), and
		// then gets nothing: the next one asks again.
		got := make(chan Message, 100)
		for reader := 0; ; reader++ {
			_, leave := up(t, Options{
				URL: b.url(), ClientID: fmt.Sprint("reader-", reader), Subscribe: []Sub{{"status", 1}},
				Handle: func(m Message) { got <- m },
			})
			select {
			case m := <-got:
				if string(m.Payload) != "bye" || !m.Retain {
					t.Errorf("status is %q, retained: %v", m.Payload, m.Retain)
				}
				return
			case <-time.After(200 * time.Millisecond):
				leave()
			}
			if reader == 100 {
				t.Fatal("no retained status for 100 readers")
			}
		}
	})
}

// TestGoodbyeIsTheLast: whoever publishes meanwhile says nothing after it, else
// a device that is gone would be taken for one that is there.
func TestGoodbyeIsTheLast(t *testing.T) {
	brokers(t, func(t *testing.T, b broker) {
		got := make(chan string, 1000)
		up(t, Options{
			URL: b.url(), ClientID: "watcher", Subscribe: []Sub{{"from/+", 1}}, Queue: 1000,
			Handle: func(m Message) { got <- m.Topic },
		})
		for range 5 {
			l, stop := up(t, Options{URL: b.url(), ClientID: "leaver", Goodbye: &Message{Topic: "from/bye", QoS: 1}})
			var talking sync.WaitGroup
			for range 4 {
				talking.Go(func() {
					for l.Publish(t.Context(), Message{Topic: "from/talk", QoS: 1}) == nil {
					}
				})
			}
			for range 10 {
				<-got // they talk
			}
			stop()
			talking.Wait()
			l, stop = up(t, Options{URL: b.url(), ClientID: "next"})
			if err := l.Publish(t.Context(), Message{Topic: "from/next", QoS: 1}); err != nil {
				t.Fatal(err)
			}
			last := ""
			for topic := <-got; topic != "from/next"; topic = <-got {
				last = topic
			}
			if last != "from/bye" {
				t.Fatalf("the last that came is %s", last)
			}
			stop()
		}
	})
}

// TestSubscribesAgain: sessions are clean, so after the broker came back
// nothing would arrive without a new SUBSCRIBE.
func TestSubscribesAgain(t *testing.T) {
	brokers(t, func(t *testing.T, b broker) {
		got := make(chan string, 1000)
		var connects atomic.Int32
		l, _ := up(t, Options{
			URL: b.url(), ClientID: "both", Subscribe: []Sub{{"a/b", 1}},
			Handle:    func(m Message) { got <- string(m.Payload) },
			OnConnect: func(context.Context) { connects.Add(1) },
		})
		for round := range int32(3) {
			waitFor(t, "connected", func() bool { return connects.Load() > round && l.Connected() })
			if err := l.Publish(t.Context(), Message{Topic: "a/b", Payload: fmt.Append(nil, round), QoS: 1}); err != nil {
				t.Fatal(err)
			}
			if s := <-got; s != fmt.Sprint(round) {
				t.Errorf("round %d: %s", round, s)
			}
			b.stop(t)
			waitFor(t, "loss noticed", func() bool { return !l.Connected() })
			b.start(t)
		}
	})
}

// script is a broker that answers as a test tells it to; it cannot be had
// from a real one. answer returns false to close the connection.
func script(t *testing.T, answer func(c net.Conn, p packets.ControlPacket) bool) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	t.Cleanup(func() { _ = listener.Close(); wg.Wait() })
	wg.Go(func() {
		for {
			c, err := listener.Accept()
			if err != nil {
				return
			}
			wg.Go(func() {
				defer c.Close()
				for {
					p, err := packets.ReadPacket(c)
					if err != nil || !answer(c, p) {
						return
					}
				}
			})
		}
	})
	return "tcp://" + listener.Addr().String()
}

func connack(c net.Conn) bool {
	return packets.NewControlPacket(packets.Connack).Write(c) == nil
}

// TestInflightIsBounded: a broker that acknowledges nothing stops Publish, and
// the end of the connection frees it.
func TestInflightIsBounded(t *testing.T) {
	const inflight = 4
	var published atomic.Int32
	closeIt := make(chan struct{})
	url := script(t, func(c net.Conn, p packets.ControlPacket) bool {
		switch p.(type) {
		case *packets.ConnectPacket:
			return connack(c)
		case *packets.PublishPacket:
			if published.Add(1) == inflight {
				go func() { <-closeIt; _ = c.Close() }()
			}
		}
		return true
	})
	l, stop := up(t, Options{URL: url, ClientID: "x", MaxInflight: inflight})
	for range inflight {
		if err := l.Publish(t.Context(), Message{Topic: "a", QoS: 1}); err != nil {
			t.Fatal(err)
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if err := l.Publish(ctx, Message{Topic: "a", QoS: 1}); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("one more: %v", err)
	}
	if err := l.Publish(t.Context(), Message{Topic: "a"}); err != nil { // QoS 0 is not held up
		t.Errorf("QoS 0: %v", err)
	}
	blocked := make(chan error)
	go func() { blocked <- l.Publish(context.Background(), Message{Topic: "a", QoS: 1}) }()
	close(closeIt)
	if err := <-blocked; err != nil && !errors.Is(err, ErrNotConnected) {
		t.Errorf("when the connection ends: %v", err)
	}
	stop()
	noneLeft(t)
}

// TestSilentBroker: one that takes the connection and says nothing must not
// hold up the end of Run.
func TestSilentBroker(t *testing.T) {
	var asked atomic.Int32
	for name, answer := range map[string]func(c net.Conn, p packets.ControlPacket) bool{
		"no CONNACK": func(net.Conn, packets.ControlPacket) bool { asked.Add(1); return true },
		"no SUBACK": func(c net.Conn, p packets.ControlPacket) bool {
			if _, ok := p.(*packets.ConnectPacket); ok {
				return connack(c)
			}
			asked.Add(1)
			return true
		},
	} {
		t.Run(name, func(t *testing.T) {
			asked.Store(0)
			l, stop := run(t, Options{URL: script(t, answer), ClientID: "x", ConnectTimeout: time.Hour, Subscribe: []Sub{{"a", 0}}})
			waitFor(t, "the broker was asked", func() bool { return asked.Load() > 0 })
			if l.Connected() {
				t.Error("connected")
			}
			stop()
			noneLeft(t)
		})
	}
}
