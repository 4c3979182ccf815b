package link

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"

	"dunlin/internal/freeport"
)

// broker is a real one, which can be stopped and started again at the same
// address.
type broker interface {
	start(t testing.TB)
	stop(t testing.TB)
	url() string
}

// brokers runs a test with each broker.
func brokers(t *testing.T, test func(t *testing.T, b broker)) {
	t.Run("nats", func(t *testing.T) { test(t, newNATS(t)) })
	t.Run("mosquitto", func(t *testing.T) { test(t, newMosquitto(t)) })
}

// freePort returns a port on which nobody listens: a broker that comes back
// needs a fixed one.
func freePort(t testing.TB) int {
	t.Helper()
	addr, err := netip.ParseAddrPort(freeport.Addr(t))
	if err != nil {
		t.Fatal(err)
	}
	return int(addr.Port())
}

// nats is the engine that the hub has built in, with the hub's options.
type nats struct {
	port int
	dir  string
	s    *server.Server
}

func newNATS(t testing.TB) *nats {
	n := &nats{port: freePort(t), dir: t.TempDir()}
	n.start(t)
	t.Cleanup(func() { n.stop(t) })
	return n
}

func (n *nats) url() string { return fmt.Sprintf("tcp://127.0.0.1:%d", n.port) }

func (n *nats) start(t testing.TB) {
	t.Helper()
	o := &server.Options{
		ServerName: "test", DontListen: true, NoSigs: true, NoLog: true,
		JetStream: true, StoreDir: n.dir, SyncInterval: 2 * time.Second,
		JetStreamLimits: server.JSLimitOpts{DefaultMaxConsumers: -1},
		MQTT:            server.MQTTOpts{Host: "127.0.0.1", Port: n.port},
		Users: []*server.User{
			{Username: "hub", Password: "pw"},
			{Username: "dev", Password: "pw"},
			{Username: "narrow", Password: "pw", Permissions: &server.Permissions{
				Subscribe: &server.SubjectPermission{Allow: []string{"mine.>", "$MQTT.sub.>"}},
			}},
		},
	}
	s, err := server.NewServer(o)
	if err != nil {
		t.Fatal(err)
	}
	n.s = s
	go s.Start() // it returns when the server runs
	if !s.ReadyForConnections(20 * time.Second) {
		t.Fatal("nats-server is not ready")
	}
	waitOpen(t, n.port)
}

func (n *nats) stop(t testing.TB) {
	if n.s != nil {
		n.s.Shutdown()
		n.s.WaitForShutdown()
		n.s = nil
	}
}

// mosquitto is the broker that others already have.
type mosquitto struct {
	port int
	conf string
	bin  string
	cmd  *exec.Cmd
}

func newMosquitto(t testing.TB) *mosquitto {
	bin, err := exec.LookPath("mosquitto")
	if err != nil {
		bin = "/usr/sbin/mosquitto" // not in the path of a user
		_, err = os.Stat(bin)
	}
	if err != nil {
		if os.Getenv("CI") != "" {
			t.Fatal("CI must have mosquitto: ", err)
		}
		t.Skip("skipped: no mosquitto here")
	}
	m := &mosquitto{port: freePort(t), conf: filepath.Join(t.TempDir(), "mosquitto.conf"), bin: bin}
	conf := fmt.Sprintf("listener %d 127.0.0.1\nallow_anonymous true\npersistence false\n", m.port)
	if err := os.WriteFile(m.conf, []byte(conf), 0o644); err != nil {
		t.Fatal(err)
	}
	m.start(t)
	t.Cleanup(func() { m.stop(t) })
	return m
}

func (m *mosquitto) url() string { return fmt.Sprintf("tcp://127.0.0.1:%d", m.port) }

func (m *mosquitto) start(t testing.TB) {
	t.Helper()
	m.cmd = exec.Command(m.bin, "-c", m.conf)
	if err := m.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	waitOpen(t, m.port)
}

func (m *mosquitto) stop(t testing.TB) {
	if m.cmd != nil {
		_ = m.cmd.Process.Kill() // no farewell: clients find out by themselves
		_ = m.cmd.Wait()         // it was killed
		m.cmd = nil
	}
}

func waitOpen(t testing.TB, port int) {
	t.Helper()
	waitFor(t, "the broker listens", func() bool {
		c, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", port))
		if err == nil {
			_ = c.Close()
		}
		return err == nil
	})
}

// waitFor polls until ok: real parts have no fake clock.
func waitFor(t testing.TB, what string, ok func() bool) {
	t.Helper()
	deadline := time.After(60 * time.Second)
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("not within a minute: %s", what)
		}
	}
}

// run starts a link and returns it with a function that stops it and waits.
func run(t testing.TB, o Options) (l *Link, stop func()) {
	t.Helper()
	if o.MinDelay == 0 {
		o.MinDelay, o.MaxDelay = 5*time.Millisecond, 50*time.Millisecond
	}
	if o.User == "" {
		o.User, o.Password = "dev", "pw"
	}
	l, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- l.Run(ctx) }()
	stopped := false
	stop = func() {
		if stopped {
			return
		}
		stopped = true
		cancel()
		select {
		case err := <-done:
			if err != nil {
				t.Error(err)
			}
		case <-time.After(30 * time.Second):
			t.Error("Run does not end")
		}
	}
	t.Cleanup(stop)
	return l, stop
}

// up is run, and waits for the connection.
func up(t testing.TB, o Options) (*Link, func()) {
	t.Helper()
	l, stop := run(t, o)
	waitFor(t, o.ClientID+" is connected", l.Connected)
	return l, stop
}

// proxy stands between a link and its broker; cut breaks all connections
// without a word, as a pulled cable does when the broker notices it.
func proxy(t testing.TB, b broker) (url string, cut func()) {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var mu sync.Mutex
	var open []net.Conn
	cut = func() {
		mu.Lock()
		defer mu.Unlock()
		for _, c := range open {
			_ = c.Close()
		}
		open = nil
	}
	var wg sync.WaitGroup
	t.Cleanup(func() { _ = listener.Close(); cut(); wg.Wait() })
	wg.Go(func() {
		for {
			in, err := listener.Accept()
			if err != nil {
				return
			}
			out, err := net.Dial("tcp", strings.TrimPrefix(b.url(), "tcp://"))
			if err != nil {
				_ = in.Close()
				continue
			}
			mu.Lock()
			open = append(open, in, out)
			mu.Unlock()
			// Each direction ends when cut or the other end closes.
			wg.Go(func() { _, _ = io.Copy(in, out); _ = in.Close() })
			wg.Go(func() { _, _ = io.Copy(out, in); _ = out.Close() })
		}
	})
	return "tcp://" + listener.Addr().String(), cut
}

// noneLeft fails where a goroutine of this package or of paho is still there.
func noneLeft(t testing.TB) {
	t.Helper()
	var left []string
	waitFor(t, "all goroutines end", func() bool {
		buf := make([]byte, 4<<20)
		left = nil
		for _, g := range strings.Split(string(buf[:runtime.Stack(buf, true)]), "\n\n") {
			if strings.Contains(g, "/paho.mqtt.golang@") || strings.Contains(g, "sync/link.(*") {
				left = append(left, g)
			}
		}
		return len(left) == 0
	})
}
