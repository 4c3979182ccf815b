// Package hub is the server: it enrols devices, offers them models and
// facts, keeps what they answer, and shows it all over HTTP. Start with
// Options, Open and Hub.Run.
//
// Its promise: what a device was told is stored is stored exactly once; a
// rollout, a command and a device's desired document go on after a kill -9
// at any moment; and nothing listens beyond loopback without TLS.
//
// The rooms below do the work: broker, registry, rollout, results, api. This
// package wires them together and holds the fleet's state: devices, their
// desired documents, commands and rollouts, in one bbolt file.
//
//	device ==MQTT==> broker --> link --> Handle --+-- results.Add --> down/ack
//	                                              +-- devices, commands, rollouts
//	person --HTTP--> api --> Hub's methods -------+--> desired, cmd ==MQTT==> device
//
// It runs no model, reads no text and decides no rollout.
package hub

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"go.etcd.io/bbolt"

	"dunlin/hub/api"
	"dunlin/hub/broker"
	"dunlin/hub/registry"
	"dunlin/hub/results"
	"dunlin/internal/durable"
	"dunlin/internal/sign"
	"dunlin/sync/link"
	"dunlin/sync/wire"
)

// Options are the settings of a Hub. Only Dir is needed.
type Options struct {
	Dir      string // all that the hub keeps, and its keys; made where absent
	HTTPAddr string // default 127.0.0.1:8080; port 0 takes a free one
	MQTTAddr string // default 127.0.0.1:1883; port 0 takes a free one

	// CertFile and KeyFile (PEM) turn TLS on for both listeners. An address
	// beyond loopback needs them. CAFile goes into enrolment tokens, for
	// devices that do not know the certificate's authority.
	CertFile, KeyFile, CAFile string

	// PublicHTTP and PublicMQTT are the URLs that enrolment tokens name, where
	// devices reach the listeners under another name.
	PublicHTTP, PublicMQTT string

	// OwnHost is a name or an address for which the hub makes a certificate of
	// its own, kept in Dir, where CertFile and KeyFile name none. "": none.
	OwnHost string

	// BrokerURL, BrokerUser and BrokerPassword name an MQTT broker to use in
	// place of the embedded one.
	BrokerURL, BrokerUser, BrokerPassword string

	// ReleaseKeys sign models. Where it is empty, release.pub in Dir is read;
	// where there is none either, the hub makes release.key and release.pub
	// at its first start. Move release.key to the machine that signs.
	ReleaseKeys sign.Trust

	Heartbeat time.Duration // silence after which a device counts as offline, default 3 min
	Retry     time.Duration // before a command without an answer is sent again, default 10 s
	Results   results.Options
	Page      http.Handler // the web page, nil: none
	Version   string       // of the program, for the page and the metrics
	Log       *slog.Logger // default: nothing is logged

	// BeforeAck is for tests of what a crash does: it is called when results
	// are committed and their acknowledgement is not yet sent. A program
	// that is tested from outside sets DUNLIN_FAULT instead, see fault.go.
	BeforeAck func()
}

func (o Options) withDefaults() Options {
	if o.HTTPAddr == "" {
		o.HTTPAddr = "127.0.0.1:8080"
	}
	if o.MQTTAddr == "" {
		o.MQTTAddr = "127.0.0.1:1883"
	}
	if o.Heartbeat <= 0 {
		o.Heartbeat = 3 * time.Minute
	}
	if o.Retry <= 0 {
		o.Retry = 10 * time.Second
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.BeforeAck == nil {
		o.BeforeAck = faultBeforeAck()
	}
	return o
}

// Hub is an open hub.
type Hub struct {
	o      Options
	log    *slog.Logger
	key    sign.PrivateKey // signs desired documents, commands and facts
	trust  sign.Trust      // release keys
	admin  string          // token
	tls    *tls.Config
	caPEM  string
	pin    [sha256.Size]byte // of claims, see wire.Claim; zero: there is no certificate of ours
	events *api.Events

	db       *bbolt.DB
	results  *results.Store
	registry *registry.Registry
	broker   *broker.Broker
	graphs   graphs

	link    atomic.Pointer[link.Link] // nil until Run
	batches chan incoming             // results on their way to the disk
	ready   chan struct{}             // closed when Run has everything up
	addr    string                    // of the HTTP listener, set before ready

	wake chan struct{} // of one place: the speaker has work
	lack chan struct{} // of one place: the facts worker has work

	mu    sync.Mutex // guards what follows, and is held over transactions on db
	state state
	acks  map[wire.Device]ack // watermarks to be sent, but for those of storeGroup
	gone  []wire.Device       // removed, their retained messages are to be cleared

	stopping bool // batches is closed, nothing more is taken from devices

	lacking map[wire.Device]bool // devices that wait for an artefact of facts; true: for a base

	counts          counts
	readied, closed sync.Once
}

// queued bounds the batches that wait to be stored. One that does not fit is
// dropped, and its device sends it again.
const queued = 512

// Open opens the files of a hub and checks its options; it starts nothing.
func Open(o Options) (*Hub, error) {
	h := &Hub{
		o: o.withDefaults(), events: &api.Events{}, batches: make(chan incoming, queued), ready: make(chan struct{}), wake: make(chan struct{}, 1),
		lack: make(chan struct{}, 1), lacking: map[wire.Device]bool{}, acks: map[wire.Device]ack{},
	}
	h.log = h.o.Log
	if err := h.open(); err != nil {
		h.Close()
		return nil, fmt.Errorf("open hub %s: %w", o.Dir, err)
	}
	return h, nil
}

func (h *Hub) open() error {
	if h.o.Dir == "" {
		return errors.New("no folder given")
	}
	if err := durable.MkdirAll(h.o.Dir, 0o700); err != nil {
		return err
	}
	if err := h.loadTLS(); err != nil {
		return err
	}
	if err := h.checkAddresses(); err != nil {
		return err
	}
	var err error
	if h.broker, err = broker.New(broker.Options{
		URL: h.o.BrokerURL, User: h.o.BrokerUser, Password: h.o.BrokerPassword,
		Dir: filepath.Join(h.o.Dir, "broker"), Addr: h.o.MQTTAddr, TLS: h.tls, Auth: h.authorize, Log: h.log,
	}); err != nil {
		return err
	}
	// The database's lock keeps a second hub out of the folder, so it is
	// taken before anything is written.
	if err := h.openState(filepath.Join(h.o.Dir, "hub.db")); err != nil {
		return err
	}
	if err := h.loadKeys(); err != nil {
		return err
	}
	if h.results, err = results.Open(filepath.Join(h.o.Dir, "results.db"), h.o.Results); err != nil {
		return err
	}
	if h.registry, err = registry.Open(filepath.Join(h.o.Dir, "registry"), h.trust); err != nil {
		return err
	}
	h.counts.init(h)
	if err := h.graphs.open(filepath.Join(h.o.Dir, "facts")); err != nil {
		return err
	}
	h.sweep()
	return nil
}

// ErrNeedsPublic means a listener on every address without the URL by which
// devices reach it.
var ErrNeedsPublic = errors.New("listening on every address, so enrolment tokens need a public URL")

// checkAddresses refuses addresses that are open to the network without TLS,
// and those that a token could not name.
func (h *Hub) checkAddresses() error {
	if err := broker.CheckListen(h.o.HTTPAddr, h.tls != nil); err != nil {
		return fmt.Errorf("HTTP: %w", err)
	}
	if everywhere(h.o.HTTPAddr) && h.o.PublicHTTP == "" {
		return fmt.Errorf("HTTP: %s: %w", h.o.HTTPAddr, ErrNeedsPublic)
	}
	if h.o.BrokerURL == "" && h.tls != nil && everywhere(h.o.MQTTAddr) && h.o.PublicMQTT == "" {
		return fmt.Errorf("MQTT: %s: %w", h.o.MQTTAddr, ErrNeedsPublic)
	}
	return nil
}

func everywhere(addr string) bool {
	host, _, _ := net.SplitHostPort(addr)
	ip := net.ParseIP(host)
	return host == "" || ip != nil && ip.IsUnspecified()
}

// sweep removes blobs that nothing names any more: facts of old versions, and
// uploads that never became a model. It is done at the start, when no upload
// is under way.
func (h *Hub) sweep() {
	freed, err := h.registry.Sweep(h.wantedFacts()...)
	if err != nil {
		h.log.Warn("old blobs not removed", "error", err)
	} else if freed > 0 {
		h.log.Info("old blobs removed", "bytes", freed)
	}
}

// Close releases the files. Run does it too, so it is needed only for a hub
// that was never run.
func (h *Hub) Close() error {
	var errs []error
	h.closed.Do(func() {
		h.events.Close()
		if h.results != nil {
			errs = append(errs, h.results.Close())
		}
		errs = append(errs, h.graphs.close())
		if h.db != nil {
			errs = append(errs, h.endClaims(), h.db.Close())
		}
	})
	return errors.Join(errs...)
}

// stopTimeout bounds how long open HTTP requests may go on after the end.
const stopTimeout = 3 * time.Second

// Run serves until ctx ends, then stops everything and closes the files. It
// can be called once.
func (h *Hub) Run(ctx context.Context) (err error) {
	defer func() { err = errors.Join(err, h.Close()) }()
	if err := h.broker.Start(); err != nil {
		h.broker.Close()
		return err
	}
	defer h.broker.Close()
	l, err := net.Listen("tcp", h.o.HTTPAddr)
	if err != nil {
		return fmt.Errorf("hub: HTTP: %w", err)
	}
	h.addr = l.Addr().String()
	server, err := h.httpServer()
	if err != nil {
		l.Close()
		return err
	}
	if h.tls != nil {
		l = tls.NewListener(l, h.tls)
	}
	lk, err := link.New(h.linkOptions())
	if err != nil {
		l.Close()
		return fmt.Errorf("hub: %w", err)
	}
	h.link.Store(lk)
	return h.serve(ctx, l, server, lk)
}

// serve runs the goroutines of the hub and waits for them. The workers stop
// first: what was taken from the broker is stored, and then acknowledged over
// the link, which stops last.
func (h *Hub) serve(parent context.Context, l net.Listener, server *http.Server, lk *link.Link) error {
	ctx, cancel := context.WithCancelCause(parent)
	defer cancel(nil)
	linking, unlink := context.WithCancel(context.WithoutCancel(parent))
	defer unlink()
	var linked, workers, serving sync.WaitGroup
	linked.Go(func() {
		if err := lk.Run(linking); err != nil {
			cancel(fmt.Errorf("hub: %w", err))
		}
	})
	workers.Go(h.storeResults)
	workers.Go(func() { h.tick(ctx) })
	workers.Go(func() { h.offerLacking(ctx) })
	serving.Go(func() {
		if err := server.Serve(l); !errors.Is(err, http.ErrServerClosed) {
			cancel(fmt.Errorf("hub: HTTP: %w", err))
		}
	})
	if !h.broker.Embedded() {
		h.setReady() // the other broker may be down for long
	}
	<-ctx.Done()
	h.events.Close()
	stop, done := context.WithTimeout(context.Background(), stopTimeout)
	defer done()
	if server.Shutdown(stop) != nil {
		_ = server.Close() // what is still open then is cut
	}
	serving.Wait()
	h.mu.Lock()
	h.stopping = true
	close(h.batches)
	h.mu.Unlock()
	workers.Wait()
	unlink()
	linked.Wait()
	if parent.Err() != nil {
		return nil
	}
	return context.Cause(ctx)
}

func (h *Hub) httpServer() (*http.Server, error) {
	handler, err := api.New(api.Options{
		Backend: h, AdminToken: h.admin, Events: h.events, Page: h.o.Page,
		Loopback: isLoopback(h.addr), PublicHost: urlHost(h.o.PublicHTTP), TLS: h.tls != nil, Log: h.log,
	})
	if err != nil {
		return nil, fmt.Errorf("hub: %w", err)
	}
	return &http.Server{
		Handler: handler, ReadHeaderTimeout: 10 * time.Second, IdleTimeout: 2 * time.Minute, MaxHeaderBytes: 16 << 10,
		ErrorLog: slog.NewLogLogger(h.log.Handler(), slog.LevelDebug),
	}, nil
}

// urlHost is host and port of a URL, "" where there are none.
func urlHost(s string) string {
	u, err := url.Parse(s)
	if err != nil {
		return ""
	}
	return u.Host
}

func isLoopback(addr string) bool {
	host, _, _ := net.SplitHostPort(addr)
	ip := net.ParseIP(host)
	return ip != nil && ip.IsLoopback()
}

// Ready is closed when the hub listens, and hears what devices say on the
// embedded broker; addresses can be read from then on.
func (h *Hub) Ready() <-chan struct{} { return h.ready }

func (h *Hub) setReady() {
	h.readied.Do(func() {
		h.log.Info("hub is up", "http", h.HTTPURL(), "mqtt", h.MQTTURL(), "dir", h.o.Dir)
		close(h.ready)
	})
}

// HTTPAddr returns the address of the HTTP listener.
func (h *Hub) HTTPAddr() string { return h.addr }

// MQTTAddr returns the address of the embedded broker, "" where there is none.
func (h *Hub) MQTTAddr() string { return h.broker.Addr() }

// HTTPURL returns the URL that devices and people use.
func (h *Hub) HTTPURL() string {
	switch {
	case h.o.PublicHTTP != "":
		return h.o.PublicHTTP
	case h.tls != nil:
		return "https://" + h.addr
	}
	return "http://" + h.addr
}

// MQTTURL returns the URL of the broker that devices use.
func (h *Hub) MQTTURL() string {
	if h.o.PublicMQTT != "" {
		return h.o.PublicMQTT
	}
	return h.broker.URL()
}

// AdminToken returns the token of the HTTP API.
func (h *Hub) AdminToken() string { return h.admin }

// Key returns the public key of what the hub signs.
func (h *Hub) Key() sign.PublicKey { return h.key.Public() }

// Registry returns the hub's models.
func (h *Hub) Registry() *registry.Registry { return h.registry }

// linkOptions subscribe to everything that devices say. QoS 0 is enough: each
// message that matters is sent again until the hub itself answers it, and a
// subscription with QoS 1 would cost a stored copy of each.
func (h *Hub) linkOptions() link.Options {
	id, user, password := h.broker.Credentials()
	o := link.Options{
		URL: h.broker.URL(), ClientID: id, User: user, Password: password,
		OnConnect: h.connected, Handle: h.handle, Queue: 1024,
		MinDelay: 100 * time.Millisecond, MaxDelay: 10 * time.Second, Log: h.log,
	}
	if h.broker.Embedded() && h.tls != nil {
		// It talks to itself, over loopback or its own address, and proves who
		// it is by a password that lives in this process only.
		o.TLS = &tls.Config{InsecureSkipVerify: true, MinVersion: tls.VersionTLS12}
	}
	for _, k := range wire.UpKinds {
		o.Subscribe = append(o.Subscribe, link.Sub{Topic: wire.AllTopics(k)})
	}
	return o
}

func (h *Hub) loadTLS() (err error) {
	if h.o.OwnHost != "" && h.o.CertFile == "" && h.o.KeyFile == "" {
		if h.o.CertFile, h.o.KeyFile, err = ownCertificate(h.o.Dir, h.o.OwnHost); err != nil {
			return fmt.Errorf("TLS: %w", err)
		}
		h.o.CAFile = h.o.CertFile
	}
	if h.o.CAFile != "" {
		pem, err := os.ReadFile(h.o.CAFile)
		if err != nil {
			return fmt.Errorf("certificate authority: %w", err)
		}
		h.caPEM = string(pem)
	}
	if h.o.CertFile == "" && h.o.KeyFile == "" {
		return nil
	}
	cert, err := tls.LoadX509KeyPair(h.o.CertFile, h.o.KeyFile)
	if err != nil {
		return fmt.Errorf("TLS: %w", err)
	}
	if h.pin, err = pinOf(&cert, h.caPEM); err != nil {
		return fmt.Errorf("certificate authority: %w", err)
	}
	h.tls = &tls.Config{Certificates: []tls.Certificate{cert}, MinVersion: tls.VersionTLS12}
	return nil
}
