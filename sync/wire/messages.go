// Package wire is everything that agent and hub share about talking: topics,
// messages, the enrolment token, and their versions. Start with Topic, Batch
// and Desired; docs/WIRE.md shows an example of every message.
//
// Its promise: a peer that ignores fields it does not know can read what any
// other peer of the same Version writes. It does no I/O.
package wire

import (
	"encoding/json"
	"time"

	"dunlin/facts"
	"dunlin/internal/sign"
)

// Clock says how far the sender's time can be trusted. A Pi has no clock of
// its own: until it is set, only the monotonic time means anything.
type Clock struct {
	Wall   time.Time `json:"wall"`
	MonoMS int64     `json:"mono_ms"` // since boot
	Sync   ClockSync `json:"sync"`
}

// ClockSync is where a wall clock has its time from.
type ClockSync string

// The sources of time.
const (
	ClockNone ClockSync = "none"
	ClockNTP  ClockSync = "ntp"
	ClockHub  ClockSync = "hub"
)

// Hello is said after each connect.
type Hello struct {
	T        string        `json:"t"` // "hello"
	Epoch    string        `json:"epoch"`
	Boot     string        `json:"boot"`
	Agent    string        `json:"agent"` // version of the agent
	OS       string        `json:"os"`    // "linux/arm64"
	Board    string        `json:"board,omitempty"`
	Features []string      `json:"features,omitempty"` // what the CPU has: "asimddp", "avx512vnni"
	Kernels  string        `json:"kernels,omitempty"`  // the tier in use
	Gen      int64         `json:"gen"`                // newest Desired seen
	Model    *Running      `json:"model,omitempty"`
	Facts    *FactsVersion `json:"facts,omitempty"`
	Outbox   OutboxState   `json:"outbox"`
	Clock    Clock         `json:"clock"`
}

// Running names the model that answers, and the one to which a rollback goes.
type Running struct {
	Name     string `json:"name"`
	Version  int64  `json:"version"`
	Digest   string `json:"digest"` // of the manifest
	Previous string `json:"previous,omitempty"`
	// Learned is the number of the local version that a device made of the
	// model by itself, of samples that it was taught; 0: as it was signed.
	Learned int64 `json:"learned,omitempty"`
	// Form is set in a result that the model's small form gave: FormSmall.
	Form string `json:"form,omitempty"`
}

// FormSmall is the small form of a model, which answers while a device holds
// itself back.
const FormSmall = "small"

// FactsVersion names a state of a graph.
type FactsVersion struct {
	Graph   string `json:"graph"`
	Version int64  `json:"version"`
}

// OutboxState is the range of records that wait, and what was dropped since
// the epoch began. Next-First records wait.
type OutboxState struct {
	First   int64 `json:"first"`
	Next    int64 `json:"next"`
	Dropped int64 `json:"dropped"`
}

// Status is a hint only: the hub also counts a device as gone when it hears
// nothing for a while.
type Status struct {
	T      string `json:"t"` // "status"
	Online bool   `json:"online"`
	Boot   string `json:"boot,omitempty"`
}

// OfferKind says what an artefact is.
type OfferKind string

// The kinds of artefacts.
const (
	OfferModel OfferKind = "model"
	OfferFacts OfferKind = "facts"
	OfferAgent OfferKind = "agent" // the agent itself: a binary for each platform
)

// Purpose is what a signature over an artefact of this kind is made for; the
// message it is over is the manifest's digest, "sha256:…".
func (k OfferKind) Purpose() string { return "dunlin." + string(k) }

// Offer is one artefact that a device should have. Manifest is the digest of
// an OCI manifest; Sig is over that text for Kind.Purpose(), by a release key.
// The name and version stand in the manifest's annotations too, so the
// signature covers them.
type Offer struct {
	Kind     OfferKind      `json:"kind"`
	Name     string         `json:"name"`
	Version  int64          `json:"version"`
	From     int64          `json:"from,omitempty"` // facts: version that a patch applies to, 0 for a base
	Manifest string         `json:"manifest"`       // "sha256:…"
	Bytes    int64          `json:"bytes"`          // of the manifest and all its blobs
	Sig      sign.Signature `json:"sig"`
	Fetch    FetchRules     `json:"fetch,omitzero"`
	Trial    TrialRules     `json:"trial,omitzero"`
}

// FetchRules spread the load of a fleet.
type FetchRules struct {
	NotBefore time.Time `json:"not_before,omitzero"`
	JitterS   int       `json:"jitter_s,omitempty"` // wait a random part of it
	MaxKBps   int       `json:"max_kbps,omitempty"` // 0: no limit
}

// TrialRules say when a model that was just activated goes back by itself,
// with the hub or without it. Of an agent, Seconds alone counts.
type TrialRules struct {
	Seconds   int     `json:"seconds,omitempty"`    // how long it is on trial, 0: the agent's default
	MaxMillis float64 `json:"max_millis,omitempty"` // p95 of one inference above which it goes back, 0: the agent's rule
	MaxErrors int     `json:"max_errors,omitempty"` // inferences that may fail, default 0
	MinRuns   int     `json:"min_runs,omitempty"`   // inferences to be judged by; fewer: the agent runs the exam's inputs to have them
}

// Desired is what a device should run. The newest Gen wins; there is no
// queue, and a rollback is a new Gen that names the old model.
type Desired struct {
	T     string    `json:"t"` // "desired"
	Gen   int64     `json:"gen"`
	At    time.Time `json:"at"`
	Model *Offer    `json:"model,omitempty"`
	Facts *Offer    `json:"facts,omitempty"`
	Agent *Offer    `json:"agent,omitempty"` // nil: the one that the device's package brought
}

// State is where a device is with an artefact.
type State string

// The states of an artefact on a device, in order; the last two end it.
const (
	StateFetching  State = "fetching"
	StateExamining State = "examining"
	StateTrial     State = "trial"
	StateActive    State = "active"
	StateReverted  State = "reverted" // it was active and went back
	StateRefused   State = "refused"  // it never became active
)

// Reason says why an artefact was refused or went back. Text for a person
// goes beside it, in Report.Error.
type Reason string

// The reasons.
const (
	ReasonNone        Reason = ""
	ReasonDigest      Reason = "digest_mismatch"   // a byte is not what was signed
	ReasonUnknownKey  Reason = "unknown_key"       // signed by a key that this device does not trust
	ReasonSignature   Reason = "bad_signature"     // a known key, but not over this
	ReasonExam        Reason = "exam_failed"       // the answers are not those that the pack promises
	ReasonOlder       Reason = "older_version"     // below the version that was active
	ReasonUnsupported Reason = "unsupported_model" // this engine cannot run it
	ReasonBroken      Reason = "broken_artefact"   // not a readable pack
	ReasonTooSlow     Reason = "too_slow"
	ReasonErrors      Reason = "inference_errors"
	ReasonCrashed     Reason = "crashed" // the agent died with it, three times
	ReasonNoSpace     Reason = "no_space"
	ReasonFetch       Reason = "fetch_failed"
	ReasonWrongBase   Reason = "wrong_base"    // facts: the patch is for another version
	ReasonCommand     Reason = "command"       // a person said so
	ReasonDesired     Reason = "desired"       // the hub's Desired named another
	ReasonNoHub       Reason = "no_hub"        // agent: this version did not reach the hub in time
	ReasonPlatform    Reason = "no_build"      // agent: the release has no binary that this board runs
	ReasonTooOld      Reason = "agent_too_old" // agent: the release follows newer versions than this one
	ReasonDisabled    Reason = "disabled"      // agent: the device's configuration wants no updates
)

// Report is how one artefact does on one device.
type Report struct {
	Kind    OfferKind `json:"kind"`
	Name    string    `json:"name"`
	Version int64     `json:"version"`
	Digest  string    `json:"digest"`
	State   State     `json:"state"`
	Reason  Reason    `json:"reason,omitempty"`
	Error   string    `json:"error,omitempty"`
	Attempt int       `json:"attempt,omitempty"`
	Bytes   int64     `json:"bytes,omitempty"` // fetched so far
	P95MS   float64   `json:"p95_ms,omitempty"`
	At      Clock     `json:"at"`
}

// Reported is the device's half of the twin.
type Reported struct {
	T       string        `json:"t"` // "reported"
	Gen     int64         `json:"gen"`
	Model   *Running      `json:"model,omitempty"` // what answers now
	Facts   *FactsVersion `json:"facts,omitempty"`
	Agent   *Running      `json:"agent,omitempty"`   // the release that runs, nil: the one of the device's package
	Reports []Report      `json:"reports,omitempty"` // at most one for each kind: the newest

	Throttle *Throttle `json:"throttle,omitempty"` // nil: the device holds nothing back
}

// Throttle says how a device holds itself back that is too hot, or short of
// memory, and why.
type Throttle struct {
	Level   int     `json:"level"`             // 1 to 3
	Frames  int     `json:"frames"`            // one frame in so many is looked at
	Threads int     `json:"threads,omitempty"` // that an inference may use; 0: all
	Small   bool    `json:"small,omitempty"`   // the model's small form answers
	TempC   float64 `json:"temp_c,omitempty"`  // of the hottest sensor then; 0: none tells
	Why     string  `json:"why"`               // "cpu is at 82.1 °C, its soft limit is 80 °C"
}

// Batch is the first line of an UpResult message; Count lines with a Record
// each follow it, of contiguous Seq from First on (a Gap covers as many as it
// says). The message is these lines, gzipped: EncodeBatch and DecodeBatch.
type Batch struct {
	T     string `json:"t"` // "batch"
	Epoch string `json:"epoch"`
	First int64  `json:"first"`
	Count int    `json:"count"`
}

// RecordKind says what a record's Body is.
type RecordKind string

// The kinds of records.
const (
	RecordResult RecordKind = "result" // Result
	RecordReport RecordKind = "report" // Report: what happened to an artefact
	RecordGap    RecordKind = "gap"    // Gap: records that the device dropped by its rule
)

// Record is one entry of the outbox. (device, epoch, Seq) names it for ever;
// the first Seq of an epoch is 1. The record of a Gap covers all the Seq that
// were dropped, and Next tells which one follows.
type Record struct {
	Seq  int64           `json:"seq"`
	Kind RecordKind      `json:"kind"`
	Body json.RawMessage `json:"body"`
}

// Gap says that records [First, First+Count) were dropped, and why. It lets
// the hub's watermark pass them and keeps the loss on record. First is the
// Seq of the record it stands in. A gap may grow at its end, and lose at its
// beginning what was acknowledged, between two sendings of it: Unseen cuts off
// what the hub has already.
type Gap struct {
	First int64  `json:"first"`
	Count int64  `json:"count"`
	Why   string `json:"why"` // GapQuota, GapDamaged
}

// Why records were dropped.
const (
	GapQuota   = "quota"   // the outbox was full, the oldest results made room
	GapDamaged = "damaged" // the record could not be read back from the disk
)

// Result is one answer of a device.
type Result struct {
	ID     string  `json:"id"` // ULID, made when the frame was taken
	Clock  Clock   `json:"clock"`
	Boot   string  `json:"boot"`
	Source string  `json:"source"`          // "folder:inbox/7.png", "http", "mqtt:<command id>"
	Input  string  `json:"input,omitempty"` // "sha256:…" of the bytes as they came
	Model  Running `json:"model"`
	Labels []Label `json:"labels,omitempty"`
	// Facts are what the graph says of the best label that stands for an entity,
	// and behind that, at most MaxReadings, what the device's sensors said last.
	// A reading that failed, or is too old to mean anything, is absent.
	Facts   []facts.Answer `json:"facts,omitempty"`
	FactsAt *FactsVersion  `json:"facts_at,omitempty"` // of the graph
	Micros  int64          `json:"micros"`             // inference alone, in microseconds
	Error   string         `json:"error,omitempty"`
}

// Label is one class of an answer.
type Label struct {
	Index  int     `json:"index"`
	Label  string  `json:"label"`
	Score  float32 `json:"score"`
	Entity string  `json:"entity,omitempty"` // IRI in the graph
}

// Ack is the hub's watermark: it has stored every record of Epoch below
// Upto. The outbox is emptied by nothing else.
type Ack struct {
	T       string    `json:"t"` // "ack"
	Epoch   string    `json:"epoch"`
	Upto    int64     `json:"upto"`
	HubTime time.Time `json:"hub_time"`
}

// CmdName is what a command asks for.
type CmdName string

// The commands. Each is safe to repeat: the answer to an id that was done
// already is the stored one.
const (
	CmdInfer    CmdName = "infer"     // args: {"input": base64 of a picture's file} -> Result
	CmdActivate CmdName = "activate"  // args: Offer -> {}; the same road as Desired
	CmdRollback CmdName = "rollback"  // args: {} -> Running
	CmdStatus   CmdName = "status"    // args: {} -> the document of GET /v1/status
	CmdLogLevel CmdName = "log-level" // args: {"level": "debug|info|warn|error"} -> {"was": …}
)

// Cmd is an order for one device.
type Cmd struct {
	T        string          `json:"t"`  // "cmd"
	ID       string          `json:"id"` // ULID
	Name     CmdName         `json:"name"`
	Args     json.RawMessage `json:"args,omitempty"`
	NotAfter time.Time       `json:"not_after"`      // by the hub's clock
	Boot     string          `json:"boot,omitempty"` // dies with this boot
}

// CmdPhase is how far a command came.
type CmdPhase string

// The phases; the last three end it.
const (
	CmdReceived CmdPhase = "received"
	CmdDone     CmdPhase = "done"
	CmdRejected CmdPhase = "rejected"
	CmdExpired  CmdPhase = "expired"
)

// CmdAck answers a Cmd, twice: when it came and when it ended.
type CmdAck struct {
	T      string          `json:"t"` // "cmdack"
	ID     string          `json:"id"`
	Phase  CmdPhase        `json:"phase"`
	Error  string          `json:"error,omitempty"`
	Result json.RawMessage `json:"result,omitempty"`
}

// Metric is a set of counters and gauges, by name, sent now and then.
type Metric struct {
	T      string             `json:"t"` // "metric"
	Clock  Clock              `json:"clock"`
	Values map[string]float64 `json:"values"`
}

// Signed carries a document that must come from the hub itself, whoever runs
// the broker. Sig is over SignedText of the device, the kind and the exact
// bytes of Doc. Seal makes one, Unseal opens it.
type Signed struct {
	Doc json.RawMessage `json:"doc"`
	Sig sign.Signature  `json:"sig"`
}
