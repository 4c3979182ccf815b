// Package probe is the device's local HTTP: health, metrics, status, facts,
// learning, and inference by the Open Inference Protocol v2
// (https://github.com/kserve/open-inference-protocol, REST). Start with
// Listen and New; Node is what it asks of the agent.
//
// Its promise: it answers programs on this machine only. It listens on
// loopback and on a unix socket and refuses any other address; a request must
// name a loopback host (a web page cannot rebind its name to us), a page of
// another origin cannot make one that changes anything, bodies are bounded,
// and beyond a number of inferences at once, or one explanation, the answer is
// 429.
//
// It holds no state and decides nothing: the agent does.
package probe

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"time"

	"dunlin/facts"
	"dunlin/model"
	"dunlin/sync/wire"
)

// Node is the device that the probe shows.
type Node interface {
	Live() error                    // nil: the process works
	Ready() []Check                 // all OK: it can answer a picture
	Status(ctx context.Context) any // the document of /v1/status
	Metrics(w io.Writer)            // in the Prometheus text format

	// Model returns what answers now, where it has that name and version ("":
	// any), or an error that wraps ErrUnknownModel.
	Model(name, version string) (Model, error)
	// Infer takes a picture's file all the way: what it returns is kept in
	// the outbox. Tensors runs the model alone and keeps nothing; its inputs
	// are those of Model.Inputs, in order.
	Infer(ctx context.Context, from string, picture []byte) (wire.Result, error)
	Tensors(ctx context.Context, m wire.Running, inputs []*model.Tensor) ([]*model.Tensor, error)
	// Explain says which part of a picture speaks for a class; one is asked for
	// at a time, and nothing is kept.
	Explain(ctx context.Context, q Question) (Explanation, error)

	Facts() Facts // nil: there are none

	// Learn takes the samples that next gives, all or none, Learned and Forget
	// change nothing and everything; each returns the document of what was
	// taught. Errors wrap those below, ErrOff, ErrOften, or are next's.
	Learn(ctx context.Context, model string, next func() (Lesson, error)) (any, error)
	Learned(model string) (any, error)
	Forget(ctx context.Context, model string) (any, error)
}

// Facts is what the probe asks of the facts on the device.
type Facts interface {
	Match(s, p, o facts.Term, limit int) ([]facts.Fact, error)
	Describe(entity facts.Term, depth, limit int) ([]facts.Fact, error)
	Search(label string, limit int) ([]facts.Term, error)
	Enrich(iri string, limit int) ([]facts.Answer, error)
}

// Check is one condition of readiness.
type Check struct {
	Name string `json:"name"`
	OK   bool   `json:"ok"`
	Note string `json:"note,omitempty"`
}

// Model is what can be asked of the model that answers.
type Model struct {
	Running         wire.Running
	Inputs, Outputs []Port
}

// Port is an input or output of a model.
type Port struct {
	Name  string
	Type  model.DType
	Shape model.Shape
}

// Errors that a Node's answers wrap, and their HTTP status.
var (
	ErrUnknownModel = errors.New("no such model here")          // 404
	ErrNotReady     = errors.New("no model is active yet")      // 503
	ErrInput        = errors.New("the input cannot be used")    // 400
	ErrSuperseded   = errors.New("the model changed meanwhile") // 503
)

// Options bound what is taken. Zero values mean the defaults given.
type Options struct {
	Version   string // of the agent
	MaxBody   int64  // bytes of a request, 32 MiB
	MaxFlight int    // inferences at once, 8
	Log       *slog.Logger
}

type server struct {
	node   Node
	o      Options
	flight chan struct{} // a token for each inference under way

	explaining chan struct{} // likewise for explanations
}

// New returns the handler of all routes.
func New(node Node, o Options) http.Handler {
	if o.MaxBody == 0 {
		o.MaxBody = 32 << 20
	}
	if o.MaxFlight == 0 {
		o.MaxFlight = 8
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	s := &server{node: node, o: o, flight: make(chan struct{}, o.MaxFlight), explaining: make(chan struct{}, 1)}
	m := http.NewServeMux()
	m.HandleFunc("GET /{$}", s.index)
	m.HandleFunc("GET /livez", s.live)
	m.HandleFunc("GET /healthz", s.ready) // the old name of readyz
	m.HandleFunc("GET /readyz", s.ready)
	m.HandleFunc("GET /metrics", s.metrics)
	m.HandleFunc("GET /v1/status", s.status)
	m.HandleFunc("POST /v1/infer", s.limited(s.inferPicture))
	m.HandleFunc("GET /v1/explain", s.explain)
	m.HandleFunc("POST /v1/explain", s.explain)
	m.HandleFunc("GET /v1/facts/match", s.facts(match))
	m.HandleFunc("GET /v1/facts/describe", s.facts(describe))
	m.HandleFunc("GET /v1/facts/search", s.facts(search))
	m.HandleFunc("GET /v1/facts/enrich", s.facts(enrich))
	s.learning(m)
	s.inference(m)
	return s.guard(http.NewCrossOriginProtection().Handler(m))
}

// guard refuses what did not come from this machine's own programs.
func (s *server) guard(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !viaSocket(r) && !loopbackHost(r.Host) {
			fail(w, http.StatusMisdirectedRequest, "host %q: ask for localhost or 127.0.0.1", r.Host)
			return
		}
		r.Body = http.MaxBytesReader(w, r.Body, s.o.MaxBody)
		w.Header().Set("X-Content-Type-Options", "nosniff")
		w.Header().Set("Cache-Control", "no-store")
		next.ServeHTTP(w, r)
	})
}

// viaSocket reports whether the request came over the unix socket, where the
// file's mode says who may.
func viaSocket(r *http.Request) bool {
	a, ok := r.Context().Value(http.LocalAddrContextKey).(net.Addr)
	return ok && a.Network() == "unix"
}

func loopbackHost(host string) bool {
	if h, _, err := net.SplitHostPort(host); err == nil {
		host = h
	}
	host = strings.TrimSuffix(strings.ToLower(strings.Trim(host, "[]")), ".")
	if host == "localhost" {
		return true
	}
	ip := net.ParseIP(host)
	return ip != nil && ip.IsLoopback()
}

// limited answers 429 where too many inferences are under way.
func (s *server) limited(next http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		select {
		case s.flight <- struct{}{}:
			defer func() { <-s.flight }()
			next(w, r)
		default:
			w.Header().Set("Retry-After", "1")
			fail(w, http.StatusTooManyRequests, "%d inferences are under way", cap(s.flight))
		}
	}
}

func (s *server) index(w http.ResponseWriter, _ *http.Request) {
	answer(w, http.StatusOK, map[string]any{
		"name": "dunlin-agent", "version": s.o.Version,
		"see": []string{
			"/livez", "/readyz?verbose", "/metrics", "/v1/status", "/v1/infer", "/v1/explain", "/v1/models/{model}/learn", "/v1/facts/match", "/v1/facts/describe",
			"/v1/facts/search", "/v1/facts/enrich", "/v2", "/v2/health/ready",
		},
	})
}

func (s *server) live(w http.ResponseWriter, _ *http.Request) {
	if err := s.node.Live(); err != nil {
		fail(w, http.StatusServiceUnavailable, "%v", err)
		return
	}
	answer(w, http.StatusOK, map[string]bool{"live": true})
}

func (s *server) ready(w http.ResponseWriter, r *http.Request) {
	checks := s.node.Ready()
	status, body := http.StatusOK, map[string]any{"ready": allOK(checks)}
	if !allOK(checks) {
		status = http.StatusServiceUnavailable
	}
	if _, verbose := r.URL.Query()["verbose"]; verbose || status != http.StatusOK {
		body["checks"] = checks
	}
	answer(w, status, body)
}

func allOK(checks []Check) bool {
	for _, c := range checks {
		if !c.OK {
			return false
		}
	}
	return true
}

func (s *server) metrics(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
	s.node.Metrics(w)
}

func (s *server) status(w http.ResponseWriter, r *http.Request) {
	answer(w, http.StatusOK, s.node.Status(r.Context()))
}

// inferPicture takes the bytes of a picture, whatever the content type says,
// and answers with the wire.Result that is now in the outbox.
func (s *server) inferPicture(w http.ResponseWriter, r *http.Request) {
	res, ok := s.picture(w, r)
	if ok {
		answer(w, http.StatusOK, res)
	}
}

// picture reads a picture and has it answered; it writes the error itself.
func (s *server) picture(w http.ResponseWriter, r *http.Request) (res wire.Result, ok bool) {
	data, err := io.ReadAll(r.Body)
	if err == nil && len(data) == 0 {
		err = errors.New("the body is empty; send a PNG or a JPEG")
	}
	if err != nil {
		failBody(w, err)
		return res, false
	}
	if res, err = s.node.Infer(r.Context(), "http", data); err != nil {
		failNode(w, err)
		return res, false
	}
	return res, true
}

// answer writes v as JSON. That the other side is gone is no news.
func answer(w http.ResponseWriter, status int, v any) {
	data, err := json.MarshalIndent(v, "", " ")
	if err != nil {
		status, data = http.StatusInternalServerError, []byte(`{"error":"the answer is not JSON"}`)
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_, _ = w.Write(append(data, '\n'))
}

// Listen listens on a loopback address, "127.0.0.1:8790" or "localhost:0",
// and refuses any other.
func Listen(addr string) (net.Listener, error) {
	if err := CheckAddress(addr); err != nil {
		return nil, err
	}
	l, err := net.Listen("tcp", addr)
	if err != nil {
		return nil, err
	}
	if a, ok := l.Addr().(*net.TCPAddr); !ok || !a.IP.IsLoopback() { // a hosts file can say anything
		return nil, errors.Join(errors.New("probe: "+addr+" is no loopback address"), l.Close())
	}
	return l, nil
}

// Server returns a server for the handler, with time limits that keep a slow
// or silent client from holding on to memory.
func Server(h http.Handler, log *slog.Logger) *http.Server {
	return &http.Server{
		Handler: h, ReadHeaderTimeout: 5 * time.Second, ReadTimeout: time.Minute, WriteTimeout: 2 * time.Minute,
		IdleTimeout: time.Minute, MaxHeaderBytes: 16 << 10, ErrorLog: slog.NewLogLogger(log.Handler(), slog.LevelDebug),
	}
}
