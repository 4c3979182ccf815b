package agent

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"time"

	"dunlin/agent/probe"
	"dunlin/agent/slots"
	"dunlin/engine"
	"dunlin/model/prep"
	"dunlin/train/head"
)

// LearnConfig is about what the device may learn by itself.
type LearnConfig struct {
	Enabled      bool `toml:"enabled"`
	MaxSamples   int  `toml:"max_samples"`
	MinPerClass  int  `toml:"min_per_class"`
	MaxPerMinute int  `toml:"max_per_minute"`
	Layers       int  `toml:"layers"`
	TrialS       int  `toml:"trial_s"`
}

// learner turns what a device is taught into a head of its own:
//
//	POST .../learn -> decode, backbone -> lessons (on the disk) -> 200
//	quiet for a second -> head.Train, resting while a frame is looked at -> slots.Learn
//
// A head that is not better than the signed one, by samples it was not trained
// on, is refused; so is one that fails its trial. A new signed model, and a
// Forget, end it all.
type learner struct {
	a *Agent
	c LearnConfig

	// training is held over a training and what follows from it, mu over what
	// is below it; training is taken first.
	training sync.Mutex

	mu      sync.Mutex
	store   *lessons
	tokens  float64 // samples that may come now
	filled  time.Time
	closed  bool
	student *student                // nil: nothing was taught lately
	later   time.Time               // no training before it
	cancel  context.CancelCauseFunc // of whoever holds training, nil: nobody trains
	begun   bool                    // there is something to train, and it is
	forgets int                     // how many wait for training, to forget: nothing is begun meanwhile
	wake    chan struct{}           // of one place: there is something new
}

// student is a model that is being taught: its head, and the backbone before
// it, compiled.
type student struct {
	m        *slots.Model // acquired
	h        *head.Head
	backbone *slots.Backbone
	names    []string // of the classes
}

// maxOneFeature bounds the bytes of a feature.
const maxOneFeature = 64 << 10

func (a *Agent) openLearner() error {
	if !a.c.Learn.Enabled {
		return nil
	}
	store, err := openLessons(a.path("lessons.db"), a.c.Learn.MaxSamples, a.log)
	if err != nil {
		return err
	}
	a.learner = &learner{
		a: a, c: a.c.Learn, store: store, tokens: float64(a.c.Learn.MaxPerMinute), filled: time.Now(), wake: make(chan struct{}, 1),
	}
	return nil
}

// signed returns the committed model, acquired. While another is on trial
// there is none: what it would be taught might be the other's.
func (l *learner) signed(name string) (*slots.Model, error) {
	m, err := l.a.slots.Acquire()
	if err != nil {
		return nil, fmt.Errorf("%w: %w", probe.ErrNotReady, err)
	}
	digest, _, _ := l.a.slots.Committed()
	switch {
	case name != "" && m.Name != name:
		err = fmt.Errorf("model %.80q: %w; %s is active", name, probe.ErrUnknownModel, m.Name)
	case m.Digest != digest:
		err = fmt.Errorf("%w: %s version %d is on trial", probe.ErrNotReady, m.Name, m.Version)
	}
	if err != nil {
		m.Release()
		return nil, err
	}
	return m, nil
}

// ready returns the student for a model, compiled where it is another than
// before. It is called with mu held.
func (l *learner) ready(m *slots.Model) (*student, error) {
	if l.closed {
		return nil, fmt.Errorf("%w: the agent stops", probe.ErrNotReady)
	}
	if s := l.student; s != nil && s.m.Digest == m.Digest {
		return s, nil
	}
	l.dismiss()
	own, err := l.signed(m.Name) // what is compiled points into it
	if err != nil {
		return nil, err
	}
	s, err := l.study(own)
	if err == nil && own.Digest != m.Digest {
		err = probe.ErrSuperseded
	}
	if err != nil {
		own.Release()
		return nil, err
	}
	l.student = s
	return s, nil
}

// study finds the head of a model and compiles what is before it.
func (l *learner) study(m *slots.Model) (*student, error) {
	out, err := classesOf(m)
	if err != nil {
		return nil, err
	}
	h, err := head.Find(m.Graph(), out.Name, l.c.Layers)
	if err != nil {
		return nil, fmt.Errorf("%s cannot be taught: %w: %w", m.Name, probe.ErrInput, err)
	}
	if n := h.Feature.Bytes(); n > maxOneFeature {
		return nil, fmt.Errorf("%s cannot be taught: a feature has %d bytes, at most %d: %w", m.Name, n, maxOneFeature, probe.ErrInput)
	}
	backbone, err := m.Backbone(h)
	if err != nil {
		return nil, err
	}
	return &student{m: m, h: h, backbone: backbone, names: classNames(m, out, h.Classes)}, nil
}

// dismiss lets go of the student. It is called with mu held.
func (l *learner) dismiss() {
	if l.student != nil {
		l.student.m.Release()
		l.student = nil
	}
}

// shed lets go of the student soon, unless it is being taught.
func (l *learner) shed() {
	if l.mu.TryLock() {
		defer l.mu.Unlock()
		l.dismiss()
	}
}

// classesOf returns the output of a model that is classes.
func classesOf(m *slots.Model) (prep.Output, error) {
	if m.Spec == nil {
		return prep.Output{}, fmt.Errorf("model %s does not say how it reads pictures: %w", m.Name, probe.ErrInput)
	}
	for _, o := range m.Spec.Outputs {
		if o.Kind == "" || o.Kind == "classes" {
			return o, nil
		}
	}
	return prep.Output{}, fmt.Errorf("model %s has no classes, so there is nothing to teach: %w", m.Name, probe.ErrInput)
}

// classNames returns the labels as results have them.
func classNames(m *slots.Model, out prep.Output, classes int) []string {
	labels := m.Labels()
	if len(labels) == 0 {
		labels = out.Names
	}
	names := make([]string, classes)
	for i := range names {
		names[i] = fmt.Sprintf("class %d", i)
		if i < len(labels) {
			names[i] = labels[i]
		}
	}
	return names
}

// class returns the index of a label.
func (s *student) class(label string) (int, error) {
	if i := slices.Index(s.names, label); i >= 0 {
		return i, nil
	}
	known := s.names
	more := ""
	if len(known) > 20 {
		known, more = known[:20], ", …"
	}
	return 0, fmt.Errorf("label %.80q: %w: a head learns no new class, and the model has %s%s", label, probe.ErrInput, strings.Join(known, ", "), more)
}

// teach takes the samples of a request, all or none.
func (l *learner) teach(ctx context.Context, name string, next func() (probe.Lesson, error)) (_ any, err error) {
	m, err := l.signed(name)
	if err != nil {
		return nil, err
	}
	defer m.Release()
	var samples []head.Sample
	var size, taken int
	defer func() {
		if err != nil {
			l.giveBack(taken)
		}
	}()
	for n := 1; ; n++ {
		lesson, err := next()
		if errors.Is(err, io.EOF) {
			break
		}
		switch {
		case err != nil:
			return nil, err
		case n > l.c.MaxPerMinute: // it would never get through
			return nil, fmt.Errorf("%w: %d a minute are taken", probe.ErrMany, l.c.MaxPerMinute)
		case !l.allowed():
			return nil, fmt.Errorf("%w: %d a minute", probe.ErrOften, l.c.MaxPerMinute)
		}
		taken++
		s, err := l.sample(ctx, m, lesson)
		if err != nil {
			return nil, fmt.Errorf("sample %d: %w", n, err)
		}
		samples, size = append(samples, s), len(s.Feature)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if digest, _, _ := l.a.slots.Committed(); digest != m.Digest {
		return nil, probe.ErrSuperseded
	}
	if err := l.store.of(m.Digest, size); err != nil {
		return nil, err
	}
	if err := l.store.add(samples); err != nil {
		return nil, err
	}
	l.kick()
	return l.document(m), nil
}

func (l *learner) kick() {
	select {
	case l.wake <- struct{}{}:
	default:
	}
}

// allowed takes one of the samples that may come in this minute.
func (l *learner) allowed() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	most, now := float64(l.c.MaxPerMinute), time.Now()
	l.tokens = min(most, l.tokens+now.Sub(l.filled).Minutes()*most)
	l.filled = now
	if l.tokens < 1 {
		return false
	}
	l.tokens--
	return true
}

// giveBack returns what a request took that was refused: so the same one, sent
// again, gets through in the end.
func (l *learner) giveBack(n int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.tokens = min(float64(l.c.MaxPerMinute), l.tokens+float64(n))
}

// sample makes a lesson's feature. The picture is not kept.
func (l *learner) sample(ctx context.Context, m *slots.Model, lesson probe.Lesson) (head.Sample, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	s, err := l.ready(m)
	if err != nil {
		return head.Sample{}, err
	}
	class, err := s.class(lesson.Label)
	if err != nil {
		return head.Sample{}, err
	}
	feature, err := m.Feature(ctx, s.backbone, func(session *engine.Session) error {
		return l.a.p.fill(ctx, m, lesson.Data, session)
	})
	if err == nil {
		if bad := s.h.Feature.Check(feature); bad != nil {
			err = fmt.Errorf("%w: what the network makes of it: %w", probe.ErrInput, bad)
		}
	}
	return head.Sample{Class: class, Feature: feature}, err
}

// forget drops what was taught and what came of it.
func (l *learner) forget(ctx context.Context, name string) (any, error) {
	m, err := l.signed(name)
	if err != nil {
		return nil, err
	}
	defer m.Release()
	l.mu.Lock()
	l.forgets++
	if l.cancel != nil {
		l.cancel(slots.ErrSuperseded)
	}
	l.mu.Unlock()
	l.training.Lock() // the training that was under way has ended
	defer l.training.Unlock()
	l.mu.Lock()
	defer l.mu.Unlock()
	l.forgets--
	// First the samples: without them no head comes of itself, whenever the
	// power goes.
	if err := l.store.clear(l.store.about.Digest, l.store.about.Bytes); err != nil {
		return nil, err
	}
	// Then the head, also where who asked has gone: half of it is none.
	if _, err := l.a.slots.Forget(context.WithoutCancel(ctx)); err != nil {
		return nil, err
	}
	return l.document(m), nil
}

// learned returns what was taught and what came of it.
func (l *learner) learned(name string) (any, error) {
	m, err := l.signed(name)
	if err != nil {
		return nil, err
	}
	defer m.Release()
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.document(m), nil
}

// Learned is the document of /v1/models/{model}/learn.
type Learned struct {
	Model   string `json:"model"`
	Version int64  `json:"version"`
	Digest  string `json:"digest"`
	// Head is the number of the learned head that answers, 0: the signed one.
	Head  int64  `json:"head"`
	State string `json:"state"` // "collecting", "training" or "trial"

	Samples map[string]int `json:"samples"` // kept, by label
	Kept    int            `json:"kept"`
	Room    int            `json:"room"` // how many are kept at most
	Seen    int64          `json:"seen"` // that ever came, and were not there already
	// Needs is what training waits for, "" where it waits for nothing.
	Needs string    `json:"needs,omitempty"`
	Last  *Training `json:"last,omitempty"` // nil: there was none
}

// document is called with mu held.
func (l *learner) document(m *slots.Model) Learned {
	_, n, onTrial := l.a.slots.Committed()
	d := Learned{
		Model: m.Name, Version: m.Version, Digest: m.Digest, Head: n, State: "collecting", Samples: map[string]int{},
		Room: l.store.room(),
	}
	switch {
	case onTrial:
		d.State = "trial"
	case l.begun:
		d.State = "training"
	}
	if l.store.about.Digest != m.Digest { // what is there is of another model, and goes
		d.Needs = l.missing(0)
		return d
	}
	out, err := classesOf(m)
	if err != nil {
		return d
	}
	names := classNames(m, out, max(len(m.Labels()), len(out.Names)))
	for class, kept := range l.store.counts() {
		label := fmt.Sprintf("class %d", class)
		if class < len(names) {
			label = names[class]
		}
		d.Samples[label] += kept
	}
	d.Kept, d.Seen, d.Last, d.Needs = len(l.store.class), l.store.about.Seen, l.store.about.Last, l.needs()
	if level, why := l.a.governor.back(); level > 0 && d.Needs == "" {
		d.Needs = "a device that does not hold itself back: " + why
	}
	return d
}

// needs says what is missing before a training, "" where it is due. It is
// called with mu held.
func (l *learner) needs() string {
	enough := 0
	for _, n := range l.store.counts() {
		if n >= l.c.MinPerClass {
			enough++
		}
	}
	if enough < 2 {
		return l.missing(enough)
	}
	last := l.store.about.Last
	if last == nil || last.Ended == "" && last.Tries < slots.MaxAttempts {
		return ""
	}
	if more := last.Seen + int64(l.c.MinPerClass) - l.store.about.Seen; more > 0 {
		return fmt.Sprintf("%d more samples since the last training", more)
	}
	return ""
}

func (l *learner) missing(enough int) string {
	return fmt.Sprintf("%d samples each of at least 2 classes; %d have them", l.c.MinPerClass, enough)
}

// close lets the file go, and what a request that came while run ended holds.
func (l *learner) close() error {
	if l == nil {
		return nil
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.closed = true
	l.dismiss()
	return l.store.close()
}
