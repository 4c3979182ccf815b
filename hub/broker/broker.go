// Package broker is the MQTT broker in the hub's own process: a NATS server
// with JetStream and its MQTT listener. Start with Options, New and Start.
//
// Its promise: a connection comes in only when its client id equals its user
// name and Options.Auth takes its password, and it then publishes and
// subscribes to its own topics alone. Without TLS nothing listens beyond
// loopback.
//
// It is a wire and not a store: a PUBACK does not mean that the hub has a
// message (a denied publish gets one too), only the hub's own acknowledgement
// does. It is not needed where Options.URL names another broker: users and
// topics are then set up there (docs/WIRE.md lists them).
package broker

import (
	"crypto/rand"
	"crypto/tls"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/url"
	"path/filepath"
	"strconv"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
)

// HubUser is the client id and user name of the hub's own connection. A
// device's holds a "_" always, so it can never be this.
const HubUser = "dunlin-hub"

// maxPayload bounds one message in bytes; a larger one ends its connection.
const maxPayload = 1 << 20

// syncInterval is how long a stored message may wait for its fsync. What is
// lost in a power cut is sent again, because the hub has not acknowledged it.
const syncInterval = 2 * time.Second

// Options are the settings of a Broker.
type Options struct {
	// URL of an external broker, "tcp://HOST:1883" or "tls://HOST:8883". Where
	// it is set nothing is embedded and the fields below, but for User,
	// Password and Log, are not read.
	URL            string
	User, Password string // the hub's, on the external broker

	Dir  string      // JetStream's files
	Addr string      // of the MQTT listener; default 127.0.0.1:1883, port 0 takes a free one
	TLS  *tls.Config // needed where Addr is not loopback
	NATS string      // address of a listener for NATS clients, normally none

	// Auth checks a device's password and says what it may do. It is called
	// from one goroutine for each connection that begins; an error refuses
	// the connection, and its text is logged.
	Auth func(user, password, clientID string) (Permissions, error)
	Log  *slog.Logger
}

// Permissions are MQTT topic filters. "+" may stand for a level, "#" and
// topics with a "." are not supported.
type Permissions struct {
	Publish, Subscribe []string
}

// ErrNeedsTLS means a listener beyond loopback without a certificate.
var ErrNeedsTLS = errors.New("an address beyond loopback needs TLS")

// Broker is an embedded broker, or the address of another.
type Broker struct {
	o        Options
	password string // of HubUser
	server   *server.Server
	auth     *nats.Conn
	addr     string // of the MQTT listener
}

// New checks the options; it starts nothing.
func New(o Options) (*Broker, error) {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.URL != "" {
		u, err := url.Parse(o.URL)
		if err != nil || u.Host == "" || u.Scheme != "tcp" && u.Scheme != "tls" {
			return nil, fmt.Errorf("broker %q: want tcp://HOST:PORT or tls://HOST:PORT", o.URL)
		}
		return &Broker{o: o, password: o.Password}, nil
	}
	if o.Addr == "" {
		o.Addr = "127.0.0.1:1883"
	}
	if o.Auth == nil {
		return nil, errors.New("broker: no Auth")
	}
	if err := CheckListen(o.Addr, o.TLS != nil); err != nil {
		return nil, fmt.Errorf("broker: %w", err)
	}
	if o.NATS != "" {
		if err := CheckListen(o.NATS, o.TLS != nil); err != nil {
			return nil, fmt.Errorf("broker: NATS clients: %w", err)
		}
	}
	return &Broker{o: o, password: secret()}, nil
}

func secret() string {
	var b [24]byte
	_, _ = rand.Read(b[:]) // it never fails (crypto/rand)
	return hex.EncodeToString(b[:])
}

// CheckListen fails where addr ("HOST:PORT") is no address, or, without TLS,
// is not on loopback. A name other than localhost counts as beyond loopback:
// what it stands for can change.
func CheckListen(addr string, hasTLS bool) error {
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return fmt.Errorf("listen on %q: %w", addr, err)
	}
	if _, err := strconv.ParseUint(port, 10, 16); err != nil {
		return fmt.Errorf("listen on %q: port %q is not a number below 65536", addr, port)
	}
	if ip := net.ParseIP(host); hasTLS || host == "localhost" || ip != nil && ip.IsLoopback() {
		return nil
	}
	return fmt.Errorf("listen on %s: %w: give a certificate and a key, or use 127.0.0.1", addr, ErrNeedsTLS)
}

// Start begins to listen. Close ends what it began, also where it failed.
func (b *Broker) Start() error {
	if b.o.URL != "" {
		return nil
	}
	callout, err := newCallout(b)
	if err != nil {
		return fmt.Errorf("broker: %w", err)
	}
	o, err := b.serverOptions(callout)
	if err != nil {
		return fmt.Errorf("broker: %w", err)
	}
	// A server that cannot listen ends the process (its logger's Fatalf), so
	// the port is tried first, where a person can still read why.
	if err := tryListen(b.o.Addr); err != nil {
		return fmt.Errorf("broker: %w", err)
	}
	if b.server, err = server.NewServer(o); err != nil {
		return fmt.Errorf("broker: %w", err)
	}
	log := &natsLog{log: b.o.Log, fatal: make(chan string, 1)}
	b.server.SetLoggerV2(log, false, false, false)
	go b.server.Start()
	if err := b.waitReady(log); err != nil {
		return fmt.Errorf("broker: %w", err)
	}
	// Sessions and retained messages are streams of the devices' account.
	account, err := b.server.LookupAccount(accountDevices)
	if err == nil {
		err = account.EnableJetStream(nil, nil)
	}
	if err != nil {
		return fmt.Errorf("broker: store: %w", err)
	}
	host, _, _ := net.SplitHostPort(b.o.Addr)
	vars, err := b.server.Varz(nil)
	if err != nil {
		return fmt.Errorf("broker: %w", err)
	}
	b.addr = net.JoinHostPort(host, strconv.Itoa(vars.MQTT.Port))
	if b.auth, err = callout.serve(b.server); err != nil {
		return fmt.Errorf("broker: authentication: %w", err)
	}
	return nil
}

// readyTimeout bounds the start: a store that was killed is read again.
const readyTimeout = 60 * time.Second

func (b *Broker) waitReady(log *natsLog) error {
	for end := time.Now().Add(readyTimeout); time.Now().Before(end); {
		if b.server.ReadyForConnections(200 * time.Millisecond) {
			return nil
		}
		select {
		case why := <-log.fatal:
			return errors.New(why)
		default:
		}
	}
	return fmt.Errorf("not ready after %s", readyTimeout)
}

func tryListen(addr string) error {
	l, err := net.Listen("tcp", addr)
	if err != nil {
		return err
	}
	return l.Close()
}

// serverOptions returns the NATS server's settings. Devices and the hub share
// one account; the system account is apart, and no device gets into it.
func (b *Broker) serverOptions(c *callout) (*server.Options, error) {
	host, port, err := hostPort(b.o.Addr)
	if err != nil {
		return nil, err
	}
	devices := server.NewAccount(accountDevices)
	o := &server.Options{
		ServerName: "dunlin-hub", Host: "127.0.0.1", Port: -1, DontListen: true,
		NoSigs: true, NoLog: true, MaxPayload: maxPayload, MaxConn: 64 << 10,
		JetStream: true, StoreDir: filepath.Clean(b.o.Dir), SyncInterval: syncInterval,
		// With the default, 1000 consumers a stream, the subscriptions of
		// device 334 and later would be lost without a word.
		JetStreamLimits: server.JSLimitOpts{DefaultMaxConsumers: -1},
		Accounts:        []*server.Account{devices, server.NewAccount(accountSystem)},
		SystemAccount:   accountSystem,
		Nkeys:           []*server.NkeyUser{{Nkey: c.user, Account: devices}},
		AuthCallout:     &server.AuthCallout{Issuer: c.issuer, Account: accountDevices, AuthUsers: []string{c.user}},
		MQTT: server.MQTTOpts{
			Host: host, Port: port, TLSConfig: b.o.TLS, AckWait: 10 * time.Second, MaxAckPending: 1024,
		},
	}
	if b.o.NATS != "" {
		if o.Host, o.Port, err = hostPort(b.o.NATS); err != nil {
			return nil, err
		}
		o.DontListen, o.TLSConfig = false, b.o.TLS
	}
	return o, nil
}

// hostPort returns the parts of addr; the server's word for a free port is -1.
func hostPort(addr string) (string, int, error) {
	host, text, err := net.SplitHostPort(addr)
	if err != nil {
		return "", 0, err
	}
	port, err := strconv.Atoi(text)
	if port == 0 {
		port = -1
	}
	return host, port, err
}

// Addr returns the address that the MQTT listener has, "" where nothing is
// embedded.
func (b *Broker) Addr() string {
	if b.server == nil {
		return ""
	}
	return b.addr
}

// URL returns where devices connect to.
func (b *Broker) URL() string {
	switch {
	case b.o.URL != "":
		return b.o.URL
	case b.o.TLS != nil:
		return "tls://" + b.Addr()
	}
	return "tcp://" + b.Addr()
}

// Embedded reports whether the broker runs in this process.
func (b *Broker) Embedded() bool { return b.o.URL == "" }

// Credentials returns the client id, user and password with which the hub
// itself connects.
func (b *Broker) Credentials() (clientID, user, password string) {
	if b.o.URL != "" {
		return HubUser, b.o.User, b.password
	}
	return HubUser, HubUser, b.password
}

// Connections returns how many clients are connected to the embedded broker.
func (b *Broker) Connections() int {
	if b.server == nil {
		return 0
	}
	return b.server.NumClients()
}

// Kick ends the connections of a client, which then has to come in again.
func (b *Broker) Kick(clientID string) {
	if b.server == nil {
		return
	}
	conns, err := b.server.Connz(&server.ConnzOptions{MQTTClient: clientID})
	if err != nil {
		return // the server is stopping, and every connection ends
	}
	for _, c := range conns.Conns {
		if err := b.server.DisconnectClientByID(c.Cid); err != nil {
			b.o.Log.Debug("client was gone already", slog.String("client_id", clientID), slog.Any("error", err))
		}
	}
}

// Close ends the broker and waits for it. It is safe after a failed Start.
func (b *Broker) Close() {
	if b.auth != nil {
		b.auth.Close()
	}
	if b.server != nil {
		b.server.Shutdown()
		b.server.WaitForShutdown()
	}
}
