// Package api is the hub's HTTP side: JSON for people and scripts, blobs for
// devices, server-sent events for the page. Start with Options, New and
// Backend.
//
// Its promise: nothing is answered without a token or a claim, except /livez and
// the page's own files; a device's token opens blobs and nothing else; no request
// takes memory without bound or holds a connection without progress; and a
// web page of another origin can neither read nor do anything.
//
// It decides nothing: Backend, which the hub implements, does.
//
//	GET|PUT   /v1/blob/{digest}                 device|admin   Range; PUT: admin
//	GET|POST  /v1/models                        admin          {manifest, sig}: models, and releases of the agent
//	GET       /v1/models/{name}/{version}/front.svg  admin     404 where its report has none
//	GET       /v1/facts                         admin
//	POST      /v1/facts[?graph=NAME&document=NAME&replace=1]  admin  N-Triples
//	GET       /v1/facts/describe?iri=[&graph=]  admin
//	GET|POST  /v1/devices                       admin          {tenant, name} -> {token}
//	GET|DELETE /v1/devices/{tenant}/{name}      admin
//	POST      /v1/devices/{tenant}/{name}/token     admin      -> {device, token}; the old token ends
//	POST      /v1/devices/{tenant}/{name}/commands  admin      {name, args, ttl_s} -> {id}
//	GET|POST  /v1/claims                        admin          {tenant, name, renew, ttl_s, count} -> {claim, line, qr}
//	DELETE    /v1/claims/{id}                   admin
//	POST      /v1/claim                         whoever has a claim: wire.ClaimRequest -> wire.ClaimAnswer
//	GET       /v1/commands/{id}[?wait=SECONDS]  admin
//	GET|POST  /v1/rollouts                      admin
//	GET       /v1/rollouts/{id}                 admin
//	POST      /v1/rollouts/{id}/{pause|resume|abort|start}  admin
//	GET       /v1/results                       admin
//	GET|PUT   /v1/results/{id}/explanation[?method=&label=]  admin  PNG
//	GET       /v1/summary                       admin
//	GET       /v1/events                        admin          server-sent events
//	POST|DELETE /v1/session                     admin          {token} -> cookie
//	GET       /livez                            everybody
//	GET       /metrics                          admin
package api

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"time"

	"dunlin/facts"
	"dunlin/hub/registry"
	"dunlin/hub/results"
	"dunlin/hub/rollout"
	"dunlin/internal/sign"
	"dunlin/sync/wire"
)

// Errors that a Backend wraps to choose the status of an answer.
var (
	ErrNotFound = errors.New("not found")       // 404
	ErrInvalid  = errors.New("invalid request") // 400
	ErrConflict = errors.New("conflict")        // 409
	ErrRefused  = errors.New("refused")         // 403
)

// HintError is an error with one sentence that helps a person.
type HintError struct {
	Err  error
	Hint string
}

func (e *HintError) Error() string { return e.Err.Error() }
func (e *HintError) Unwrap() error { return e.Err }

// Device is what the hub knows of a device.
type Device struct {
	Tenant   string          `json:"tenant"`
	Name     string          `json:"name"`
	Created  time.Time       `json:"created"`
	Online   bool            `json:"online"`
	LastSeen time.Time       `json:"last_seen,omitzero"`
	Gen      int64           `json:"gen"`             // of the newest desired document
	Wanted   *wire.Desired   `json:"wanted,omitzero"` // that document
	Hello    *wire.Hello     `json:"hello,omitzero"`  // the newest
	Reported *wire.Reported  `json:"reported,omitzero"`
	Counts   *results.Counts `json:"counts,omitzero"`
}

// Command is an order to a device and what became of it.
type Command struct {
	ID       string          `json:"id"`
	Device   string          `json:"device"` // "tenant/name"
	Name     wire.CmdName    `json:"name"`
	Args     json.RawMessage `json:"args,omitempty"`
	Created  time.Time       `json:"created"`
	NotAfter time.Time       `json:"not_after"`
	Sent     int             `json:"sent"`            // how often
	Phase    wire.CmdPhase   `json:"phase,omitempty"` // "": the device has not answered
	Error    string          `json:"error,omitempty"`
	Result   json.RawMessage `json:"result,omitempty"`
	Ended    time.Time       `json:"ended,omitzero"`
}

// Done reports whether nothing more will happen to the command.
func (c *Command) Done() bool { return c.Phase != "" && c.Phase != wire.CmdReceived }

// RolloutRequest is the body of POST /v1/rollouts.
type RolloutRequest struct {
	Model   string          `json:"model"`   // or dunlin-agent, for a release of the agent
	Version int64           `json:"version"` // 0: the newest
	Tenant  string          `json:"tenant"`  // "": all tenants
	Devices []string        `json:"devices"` // "tenant/name"; empty: all devices, of the tenant
	Canary  json.RawMessage `json:"canary"`  // how many, or which; default 1
	Rules   rollout.Rules   `json:"rules"`
	Trial   wire.TrialRules `json:"trial"`
	Fetch   wire.FetchRules `json:"fetch"`
	Draft   bool            `json:"draft"` // do not start yet
}

// Graph is one knowledge graph of the hub.
type Graph struct {
	Name     string    `json:"name"`
	Version  int64     `json:"version"`
	Facts    int       `json:"facts"`
	Added    int       `json:"added"` // by the newest version
	Removed  int       `json:"removed"`
	Changed  time.Time `json:"changed"`
	Document string    `json:"document,omitempty"` // that brought the newest version
	Manifest string    `json:"manifest,omitempty"` // of the newest base artefact
}

// Summary are the figures that the page shows first.
type Summary struct {
	Devices  int               `json:"devices"`
	Online   int               `json:"online"`
	Models   int               `json:"models"`
	Rollouts int               `json:"rollouts"` // not ended
	Graphs   []Graph           `json:"graphs"`
	Results  results.Counts    `json:"results"`
	Dropped  map[string]int64  `json:"dropped"` // messages that the hub dropped, by where
	Hub      map[string]string `json:"hub"`     // version, addresses
}

// Backend is the hub as the API sees it. Its methods are safe for concurrent
// use. Errors that wrap ErrNotFound, ErrInvalid, ErrConflict or ErrRefused, and
// those of the registry, have their own status; any other is a 500 whose text is
// logged and not shown.
type Backend interface {
	DeviceOf(secret string) (wire.Device, bool) // whose token is it

	OpenBlob(digest string) (content io.ReadSeekCloser, size int64, err error)
	PutBlob(digest string, body io.Reader) error

	AddModel(manifest string, sig sign.Signature) (registry.Version, error)
	Models() []registry.Version

	ImportFacts(ctx context.Context, graph, document string, triples io.Reader, replace bool) (Graph, error)
	Graphs() ([]Graph, error)
	Describe(graph, iri string) ([]facts.Answer, error) // graph "": the one that devices have

	Enrol(d wire.Device) (token string, err error)
	Devices() []Device
	Device(d wire.Device) (Device, error)
	ReplaceToken(d wire.Device) (token string, err error) // the old one is void
	RemoveDevice(d wire.Device) error

	MakeClaim(r ClaimRequest) (line string, c Claim, err error)
	Claims() []Claim
	RevokeClaim(id string) error
	TakeClaim(r wire.ClaimRequest, from string) (wire.ClaimAnswer, error) // from: an address, for the log

	Command(d wire.Device, name wire.CmdName, args json.RawMessage, ttl time.Duration) (id string, err error)
	CommandState(id string) (c Command, changed <-chan struct{}, err error)

	StartRollout(r RolloutRequest) (rollout.State, error)
	Rollouts() []rollout.State
	Rollout(id string) (rollout.State, error)
	ControlRollout(id string, e rollout.EventKind) (rollout.State, error)

	Results(q results.Query) (results.Page, error)
	Explain(id uint64, e results.Explanation) error
	Explanation(id uint64) (results.Explanation, error)
	Summary() (Summary, error)
	WriteMetrics(w io.Writer)
}

// Options are the settings of a Server.
type Options struct {
	Backend    Backend
	AdminToken string
	Events     *Events
	Page       http.Handler // of "/" and what is not /v1, nil: none
	Loopback   bool         // it listens on loopback: other Host headers are refused
	PublicHost string       // host and port by which a proxy lets devices reach it; taken on loopback too
	TLS        bool         // cookies are for https only
	Log        *slog.Logger
}

// MinToken is the shortest admin token that is accepted, in characters.
const MinToken = 16

// Server answers HTTP requests.
type Server struct {
	o       Options
	handler http.Handler
	claims  claimLimit
}

// New returns a server. It fails where the admin token is too short to be a
// secret.
func New(o Options) (*Server, error) {
	if len(o.AdminToken) < MinToken {
		return nil, errors.New("api: the admin token is too short")
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	s := &Server{o: o, claims: newClaimLimit()}
	s.handler = s.protect(s.routes())
	return s, nil
}

// ServeHTTP implements http.Handler.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) { s.handler.ServeHTTP(w, r) }

// routes is the table of the package comment. A handler returns what is sent
// as JSON, or an error; nil and nil mean that it has answered by itself.
func (s *Server) routes() http.Handler {
	mux := http.NewServeMux()
	admin := func(pattern string, h func(w http.ResponseWriter, r *http.Request) (any, error)) {
		mux.Handle(pattern, s.admin(s.json(h)))
	}
	mux.Handle("GET /v1/blob/{digest}", s.deviceOrAdmin(s.json(s.getBlob)))
	admin("PUT /v1/blob/{digest}", s.putBlob)
	admin("GET /v1/models", s.listModels)
	admin("POST /v1/models", s.addModel)
	admin("GET /v1/models/{name}/{version}/front.svg", s.front)
	admin("GET /v1/facts", s.listFacts)
	admin("POST /v1/facts", s.importFacts)
	admin("GET /v1/facts/describe", s.describe)
	admin("GET /v1/devices", s.listDevices)
	admin("POST /v1/devices", s.enrol)
	admin("GET /v1/devices/{tenant}/{name}", s.getDevice)
	admin("DELETE /v1/devices/{tenant}/{name}", s.removeDevice)
	admin("POST /v1/devices/{tenant}/{name}/token", s.replaceToken)
	admin("POST /v1/devices/{tenant}/{name}/commands", s.postCommand)
	admin("GET /v1/claims", s.listClaims)
	admin("POST /v1/claims", s.makeClaim)
	admin("DELETE /v1/claims/{id}", s.revokeClaim)
	mux.Handle("POST /v1/claim", s.json(s.takeClaim))
	admin("GET /v1/commands/{id}", s.getCommand)
	admin("GET /v1/rollouts", s.listRollouts)
	admin("POST /v1/rollouts", s.startRollout)
	admin("GET /v1/rollouts/{id}", s.getRollout)
	admin("POST /v1/rollouts/{id}/{action}", s.controlRollout)
	admin("GET /v1/results", s.findResults)
	admin("PUT /v1/results/{id}/explanation", s.putExplanation)
	admin("GET /v1/results/{id}/explanation", s.getExplanation)
	admin("GET /v1/summary", s.summary)
	mux.Handle("GET /v1/events", s.admin(http.HandlerFunc(s.serveEvents)))
	mux.Handle("POST /v1/session", s.json(s.openSession))
	mux.Handle("DELETE /v1/session", s.json(s.closeSession))
	mux.HandleFunc("GET /livez", func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "ok\n") })
	mux.Handle("GET /metrics", s.admin(http.HandlerFunc(s.metrics)))
	mux.Handle("/v1/", s.json(func(http.ResponseWriter, *http.Request) (any, error) { return nil, ErrNotFound }))
	if s.o.Page != nil {
		mux.Handle("/", s.o.Page)
	}
	return mux
}
