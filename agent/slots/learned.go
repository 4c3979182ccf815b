package slots

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"dunlin/engine"
	"dunlin/internal/durable"
	"dunlin/internal/oci"
	"dunlin/model"
	"dunlin/model/pack"
	"dunlin/sync/wire"
	"dunlin/train/head"
)

// A head that was learned on this device is a local version of the model that
// answers: the signed pack, by its digest, and other contents for some
// constants of its last layers. Nobody signed it, so nobody else may have it:
// it is a file beside the state file, which names it by its hash; it is never
// sent, and the hub hears of its number in results alone. It has an exam of
// its own: the pack's questions, and the answers that the generic kernels give
// with the new head on top of what the pack's exam has proved.

// Head is a tuned head, and where it belongs.
type Head struct {
	Base   string      `json:"base"`   // digest of the signed model
	Output string      `json:"output"` // of the graph: where the head ends
	Layers int         `json:"layers"` // that were looked for: see head.Find
	Delta  *head.Delta `json:"delta"`
}

// local is the content of a learned head's file.
type local struct {
	V int   `json:"v"`
	N int64 `json:"n"`
	Head
	// Exam has, for each case of the pack's exam, the bytes of the head's
	// output as the generic kernels make it.
	Exam [][]byte `json:"exam,omitempty"`
}

const (
	headVersion = 1
	headPrefix  = "learned-" // of the file's name; the SHA-256 of its text and ".json" follow
	maxHead     = head.MaxDelta + 8<<20
)

// ErrNoHead is wrapped by Learn for a head of another model than the one that
// answers, and while a model is on trial.
var ErrNoHead = errors.New("the head cannot be taken now")

// Learn puts a head on the model that answers: examined, tried for that time,
// kept, or taken back by the rules that a new model goes by. It blocks as long
// as that takes. The report is not sent to Config.Report. err is set where
// nothing was decided.
func (s *Slots) Learn(ctx context.Context, h Head, trial time.Duration) (wire.Report, error) {
	if !s.trying.TryLock() { // a fetch can take hours
		return wire.Report{}, fmt.Errorf("%w: an offer is being taken", ErrNoHead)
	}
	defer s.trying.Unlock()
	s.work.Lock()
	defer s.work.Unlock()
	a := s.st.active()
	if a.Digest == "" || a.Digest != h.Base || s.st.Candidate != nil || s.now == nil {
		return wire.Report{}, fmt.Errorf("%w: it belongs to %.80s, and another model answers or is on trial", ErrNoHead, h.Base)
	}
	_, done := s.abortable(kindLearned) // from here on, not from its trial alone
	defer done()
	o := s.offerOf(a)
	o.Kind, o.Trial = kindLearned, wire.TrialRules{Seconds: int(trial / time.Second)}
	next := s.st.clone()
	next.Local++
	m, file, err := s.derive(ctx, &local{V: headVersion, N: next.Local, Head: h})
	if err != nil {
		return s.refused(o, err)
	}
	next.Candidate = &candidate{Offer: o, Stage: wire.StateTrial, Attempt: 1, Learned: &learned{N: next.Local, File: file}}
	if err := s.put(next); err != nil {
		m.close()
		s.sweepHeads()
		return wire.Report{}, err
	}
	s.activate(m, s.now)
	return s.trial(ctx, o, m)
}

// derive writes a head's file and loads the model with it.
func (s *Slots) derive(ctx context.Context, l *local) (m *Model, file string, err error) {
	l.Exam, err = s.answers(ctx, l.Head)
	if ctx.Err() != nil { // which says nothing of the head
		return nil, "", context.Cause(ctx)
	}
	if err != nil {
		return nil, "", refuse(wire.ReasonBroken, err)
	}
	text, err := json.Marshal(l)
	if err == nil && len(text) > maxHead {
		err = fmt.Errorf("learned head: %d bytes, at most %d", len(text), maxHead)
	}
	if err != nil {
		return nil, "", refuse(wire.ReasonBroken, err)
	}
	if m, err = load(s.c.Layout, l.Base, s.c.Engine, l, &s.hold); err != nil {
		return nil, "", err
	}
	if err = m.examine(ctx); err == nil {
		sum := sha256.Sum256(text)
		file = hex.EncodeToString(sum[:])
		err = durable.Replace(s.c.FS, s.headPath(file), text, 0o600)
	}
	if err != nil {
		m.close()
		return nil, "", err
	}
	return m, file, nil
}

// answers computes the exam of a head: the backbone is the signed one and runs
// as it does, the head runs with the generic kernels.
func (s *Slots) answers(ctx context.Context, h Head) (all [][]byte, err error) {
	exam := s.now.pack.Exam
	if exam == nil {
		return nil, nil
	}
	found, err := head.Find(s.now.pack.Graph, h.Output, h.Layers)
	if err != nil {
		return nil, err
	}
	tail, err := found.Tail(h.Delta)
	if err != nil {
		return nil, err
	}
	p, err := engine.Compile(tail, engine.Options{Symbolic1: true, Threads: 1, Kernels: "generic"})
	if err != nil {
		return nil, err
	}
	backbone, err := s.now.Backbone(found)
	if err != nil {
		return nil, err
	}
	end := p.NewSession()
	for i, c := range exam.Cases {
		feature, err := s.now.ExamFeature(ctx, backbone, c)
		if err != nil {
			return nil, fmt.Errorf("case %d: %w", i, err)
		}
		copy(end.Input(0).Data, feature)
		if _, err := infer(end); err != nil {
			return nil, fmt.Errorf("case %d: %w", i, err)
		}
		all = append(all, slices.Clone(end.Output(0).Data))
	}
	return all, nil
}

// Exam returns the exam as it was signed, nil for none.
func (m *Model) Exam() *pack.Exam { return m.pack.Exam }

// Busy reports whether a run is under way.
func (m *Model) Busy() bool { return len(m.turn) == 0 }

// Backbone is what comes before a head, ready to run.
type Backbone struct{ session *engine.Session }

// Backbone compiles what comes before a head, which Find found in Graph. Its
// inputs are the model's, its output is the feature. It is valid while the
// model is acquired.
func (m *Model) Backbone(h *head.Head) (*Backbone, error) {
	p, err := engine.Compile(h.Backbone(), m.engine)
	if err != nil {
		return nil, fmt.Errorf("backbone of %s: %w", m.Name, err)
	}
	if out := p.Outputs()[0]; out.Type != h.Feature.Type || !hasElements(out.Shape, h.Feature.Size) {
		return nil, fmt.Errorf("backbone of %s: its feature is %v %v, the head reads %v [1 %d]", m.Name, out.Type, out.Shape, h.Feature.Type, h.Feature.Size)
	}
	return &Backbone{p.NewSession()}, nil
}

// Feature returns what b makes of the inputs that fill writes. It takes the
// model's turn, as a run does: one at a time looks at anything here.
func (m *Model) Feature(ctx context.Context, b *Backbone, fill func(*engine.Session) error) ([]byte, error) {
	if err := m.take(ctx); err != nil {
		return nil, err
	}
	defer m.give()
	if err := fill(b.session); err != nil {
		return nil, err
	}
	if _, err := infer(b.session); err != nil {
		return nil, &RunError{Model: m.Name + "@" + strconv.FormatInt(m.Version, 10), Err: err}
	}
	return slices.Clone(b.session.Output(0).Data), nil
}

// ExamFeature is Feature of the inputs of a case of Exam.
func (m *Model) ExamFeature(ctx context.Context, b *Backbone, c pack.Case) ([]byte, error) {
	return m.Feature(ctx, b, func(s *engine.Session) error { return m.fill(s, c.Inputs) })
}

func hasElements(s model.Shape, n int) bool {
	got, err := s.Elements()
	return err == nil && got == n
}

// apply returns the graph of p with the head on it.
func (l *local) apply(p *pack.Model) (*model.Graph, error) {
	if l.Base != p.Digest {
		return nil, fmt.Errorf("learned head %d: it belongs to %.80s, not to %s", l.N, l.Base, p.Digest)
	}
	h, err := head.Find(p.Graph, l.Output, l.Layers)
	if err == nil {
		err = l.Delta.Of(h)
	}
	if err != nil {
		return nil, fmt.Errorf("learned head %d: %w", l.N, err)
	}
	cases := 0
	if p.Exam != nil {
		cases = len(p.Exam.Cases)
	}
	if len(l.Exam) != cases {
		return nil, fmt.Errorf("learned head %d: its exam has %d cases, the pack's %d", l.N, len(l.Exam), cases)
	}
	return l.Delta.Apply(p.Graph)
}

// examOf returns the exam of p with the answers of the head; apply looked at it.
func (l *local) examOf(p *pack.Model) *pack.Exam {
	if p.Exam == nil {
		return nil
	}
	e := *p.Exam
	e.Cases = slices.Clone(e.Cases)
	at := slices.Index(p.Graph.Outputs, l.Output)
	for i := range e.Cases {
		c := &e.Cases[i]
		c.Outputs = slices.Clone(c.Outputs)
		answer := *c.Outputs[at]
		answer.Data = model.Aligned(len(l.Exam[i]))
		copy(answer.Data, l.Exam[i])
		c.Outputs[at] = &answer
	}
	return &e
}

// load loads a model with the learned head that l names, nil for none.
func (s *Slots) load(digest string, l *learned) (*Model, error) {
	if l == nil {
		return load(s.c.Layout, digest, s.c.Engine, nil, &s.hold)
	}
	h, err := s.readHead(l)
	if err != nil {
		return nil, refuse(wire.ReasonBroken, err)
	}
	return load(s.c.Layout, digest, s.c.Engine, h, &s.hold)
}

func (s *Slots) headPath(file string) string {
	return filepath.Join(s.c.Dir, headPrefix+file+".json")
}

// readHead reads a learned head's file, whose hash must be the one in the
// state.
func (s *Slots) readHead(l *learned) (*local, error) {
	path := s.headPath(l.File)
	info, err := s.c.FS.Stat(path)
	if err != nil {
		return nil, fmt.Errorf("learned head: %w", err)
	}
	if info.Size() > maxHead {
		return nil, fmt.Errorf("learned head %s: %d bytes, at most %d", path, info.Size(), int64(maxHead))
	}
	text, err := s.c.FS.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("learned head: %w", err)
	}
	if err := oci.Check(oci.Descriptor{Digest: oci.Digest("sha256:" + l.File), Size: int64(len(text))}, text); err != nil {
		return nil, fmt.Errorf("learned head %s: %w", path, err)
	}
	h, err := parseHead(text)
	if err == nil && h.N != l.N {
		err = fmt.Errorf("it is number %d, want %d", h.N, l.N)
	}
	if err != nil {
		return nil, fmt.Errorf("learned head %s: %w", path, err)
	}
	return h, nil
}

func parseHead(text []byte) (*local, error) {
	h := new(local)
	if err := json.Unmarshal(text, h); err != nil {
		return nil, err
	}
	if h.V != headVersion || h.Delta == nil || h.Layers < 1 || h.Layers > 2 {
		return nil, fmt.Errorf("version %d with %d layers: this agent reads version %d", h.V, h.Layers, headVersion)
	}
	return h, nil
}

// Committed returns the digest of the signed model that was committed, the
// number of its learned head (0: none), and whether anything is on trial.
func (s *Slots) Committed() (digest string, n int64, onTrial bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	a := s.st.active()
	if a.Learned != nil {
		n = a.Learned.N
	}
	return a.Digest, n, s.st.Candidate != nil
}

// Forget has the model answer as it was signed, where a learned head is in
// use or on trial; it reports whether that was so.
func (s *Slots) Forget(ctx context.Context) (bool, error) {
	ended := s.endLearned(wire.ReasonCommand)
	s.work.Lock()
	defer s.work.Unlock()
	if c := s.st.Candidate; c != nil && c.Learned != nil { // of before a restart, or its end could not be written
		if err := s.end(c, wire.ReasonCommand); err != nil {
			return false, err
		}
		ended = true
	}
	a := s.st.active()
	if a.Learned == nil {
		return ended, nil
	}
	if s.st.Candidate != nil {
		return false, fmt.Errorf("%w: another model is on trial", ErrNoHead)
	}
	if err := s.switchTo(ctx, a, (*state).unlearn); err != nil {
		return false, err
	}
	s.sweepHeads()
	return true, nil
}

// abortable returns the channel that gives up what is under way, until done
// is called. Where there is one already, that one goes on.
func (s *Slots) abortable(kind wire.OfferKind) (abort chan wire.Reason, done func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.abort != nil {
		return s.abort, func() {}
	}
	s.abort, s.local = make(chan wire.Reason, 1), kind == kindLearned
	return s.abort, func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.abort, s.local = nil, false
	}
}

// endLearned gives up the trial of a learned head, where one is under way.
func (s *Slots) endLearned(why wire.Reason) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.abort == nil || !s.local {
		return false
	}
	select {
	case s.abort <- why:
	default:
	}
	return true
}

// putUnlearned forgets every learned head in the state.
func (s *Slots) putUnlearned() error {
	next := s.st.clone()
	next.unlearn()
	if next.candidateHead() != nil {
		next.Candidate = nil
	}
	if next.Slots == s.st.Slots && next.Candidate == s.st.Candidate {
		return nil
	}
	if err := s.put(next); err != nil {
		return err
	}
	s.sweepHeads()
	return nil
}

// sweepHeads removes the files that the state does not name, and what a cut
// left of writing one.
func (s *Slots) sweepHeads() {
	s.mu.Lock()
	keep := map[string]bool{}
	for _, l := range []*learned{s.st.Slots[0].Learned, s.st.Slots[1].Learned, s.st.candidateHead()} {
		if l != nil {
			keep[filepath.Base(s.headPath(l.File))] = true
		}
	}
	s.mu.Unlock()
	entries, err := s.c.FS.ReadDir(s.c.Dir)
	if err != nil {
		s.c.Log.Warn("learned heads are not swept", "error", err)
		return
	}
	for _, e := range entries {
		name := e.Name()
		old := strings.HasPrefix(name, headPrefix) && !keep[name]
		if !old && !(durable.IsTemp(name) && strings.Contains(name, headPrefix)) {
			continue
		}
		if err := durable.Remove(s.c.FS, filepath.Join(s.c.Dir, name)); err != nil {
			s.c.Log.Warn("learned head is not swept", "file", name, "error", err)
		}
	}
}
