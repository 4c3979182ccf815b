package slots

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"runtime/debug"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"dunlin/engine"
	"dunlin/internal/oci"
	"dunlin/model"
	"dunlin/model/pack"
	"dunlin/model/prep"
	"dunlin/sync/wire"
)

// Model is a loaded model: its pack, compiled, with a session for each form. It
// is used by one Run at a time; others wait.
type Model struct {
	Name    string
	Version int64
	Digest  string
	Spec    *prep.Spec // how pictures become inputs; nil: the pack does not say
	Learned int64      // number of the head that was learned here, 0 for the signed one

	pack    *pack.Model
	graph   *model.Graph // that answers
	exam    *pack.Exam   // nil: none
	engine  engine.Options
	inputs  []engine.Port
	outputs []engine.Port
	session *engine.Session // of the first form; nil: it is put away
	turn    chan struct{}   // holds one token: whoever has it may use the session
	held    atomic.Int64    // when the token was taken, by turnClock; 0: it is there
	compile atomic.Bool     // whoever has it compiles
	tally   tally
	hold    *restraint
	small   *smallForm  // nil: none
	onTrial atomic.Bool // the first form alone answers

	mu      sync.Mutex
	users   int
	retired bool // closed as soon as nobody uses it
}

// load opens, checks and compiles a model, with a head that was learned here
// where local is not nil; it does not examine it. Errors are *refusal, or the
// card's (cardFailed).
func load(l *oci.Layout, digest string, o engine.Options, local *local, hold *restraint) (m *Model, err error) {
	p, err := open(l, digest)
	if err != nil {
		return nil, broken(err)
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, p.Close())
		}
	}()
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if r := recover(); r != nil {
			if err = asFault(p.Name, r); err == nil {
				err = refuse(wire.ReasonBroken, fmt.Errorf("compile %s: %v", p.Name, r))
			}
		}
	}()
	m = &Model{Name: p.Name, Version: p.Version, Digest: digest, pack: p, turn: make(chan struct{}, 1), hold: hold}
	m.tally.news = make(chan struct{}, 1)
	m.turn <- struct{}{}
	o.Symbolic1 = true
	m.engine, m.exam = o, p.Exam
	graph := p.Graph
	if local != nil {
		if graph, err = local.apply(p); err != nil {
			return nil, refuse(wire.ReasonBroken, err)
		}
		m.exam, m.Learned = local.examOf(p), local.N
	}
	m.graph = graph
	program, err := engine.Compile(graph, o)
	if err != nil {
		if unsupported, ok := errors.AsType[*engine.UnsupportedError](err); ok {
			return nil, refuse(wire.ReasonUnsupported, unsupported)
		}
		return nil, refuse(wire.ReasonBroken, err)
	}
	if p.Pipeline != nil {
		spec, err := prep.ParseJSON(p.Pipeline)
		if err != nil {
			return nil, refuse(wire.ReasonBroken, err)
		}
		m.Spec = &spec
	}
	m.inputs, m.outputs = program.Inputs(), program.Outputs()
	if err := m.fits(); err != nil {
		return nil, refuse(wire.ReasonBroken, err)
	}
	if err := m.loadSmall(p.Small, o, program.Memory()); err != nil {
		return nil, errSmall(err)
	}
	m.session = program.NewSession()
	return m, nil
}

// open opens a pack. What it maps it reads at once, to hash it: where the card
// cannot, that is a fault.
func open(l *oci.Layout, digest string) (p *pack.Model, err error) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if r := recover(); r != nil {
			if err = asFault(digest, r); err == nil {
				panic(r)
			}
		}
	}()
	return pack.Open(l, digest)
}

// fits checks that every input and output that the pipeline speaks of is one
// of the graph's, and of its shape.
func (m *Model) fits() error {
	if m.Spec == nil {
		return nil
	}
	ports := m.inputs
	if len(m.Spec.Inputs) != len(ports) {
		return fmt.Errorf("the pipeline makes %d inputs, the graph has %d", len(m.Spec.Inputs), len(ports))
	}
	for _, in := range m.Spec.Inputs {
		i := portNamed(ports, in.Name)
		if i < 0 {
			return fmt.Errorf("the pipeline makes an input %q, which the graph does not have", in.Name)
		}
		if p := ports[i]; p.Type != model.F32 || !p.Shape.Equal(in.Shape()) {
			return fmt.Errorf("the pipeline makes input %q float32 %v, the graph wants %v %v", in.Name, in.Shape(), p.Type, p.Shape)
		}
	}
	for _, out := range m.Spec.Outputs {
		if portNamed(m.outputs, out.Name) < 0 {
			return fmt.Errorf("the pipeline reads an output %q, which the graph does not have", out.Name)
		}
	}
	return nil
}

func portNamed(ports []engine.Port, name string) int {
	for i, p := range ports {
		if p.Name == name {
			return i
		}
	}
	return -1
}

// Inputs returns the graph's inputs, in its order.
func (m *Model) Inputs() []engine.Port { return m.inputs }

// Outputs returns the graph's outputs, in its order.
func (m *Model) Outputs() []engine.Port { return m.outputs }

// Graph returns the network that the program was made of. It is valid until
// Release, and so is every program that is compiled of it.
func (m *Model) Graph() *model.Graph { return m.pack.Graph }

// Answering returns the graph that the program was made of: Graph, with the head
// that was learned here where there is one. It is valid while the model is
// acquired, and so is every program that is compiled of it.
func (m *Model) Answering() *model.Graph { return m.graph }

// Labels returns the label of each class, by index.
func (m *Model) Labels() []string { return m.pack.Labels }

// Entities returns the IRI of what a label means.
func (m *Model) Entities() map[string]string { return m.pack.Entities }

// Report returns what the pack's maker measured, as JSON; nil for none.
func (m *Model) Report() json.RawMessage { return m.pack.Report }

// Running names the model; Previous is left to Slots.
func (m *Model) Running() wire.Running {
	return wire.Running{Name: m.Name, Version: m.Version, Digest: m.Digest, Learned: m.Learned}
}

// Runs returns how many inferences went well and how many failed since the
// model was loaded, and the p95 of the newest ones in milliseconds.
func (m *Model) Runs() (ok, failed int64, p95MS float64) {
	m.tally.mu.Lock()
	ok, failed = m.tally.runs+m.tally.others, m.tally.errors
	m.tally.mu.Unlock()
	return ok, failed, m.tally.p95()
}

// RunError is returned by Model.Run where the inference itself failed.
type RunError struct {
	Model string
	Err   error
}

func (e *RunError) Error() string { return "model " + e.Model + ": " + e.Err.Error() }
func (e *RunError) Unwrap() error { return e.Err }

// Run is Do with these two functions.
func (m *Model) Run(ctx context.Context, fill, read func(*engine.Session) error) (time.Duration, error) {
	return m.Do(ctx, Job{Fill: fill, Read: read})
}

// Job is what is done in one turn of a model. Tensors of the session are valid
// inside Fill and Read only.
type Job struct {
	Fill func(*engine.Session) error // writes the inputs
	Read func(*engine.Session) error // looks at the outputs
	// End, where not nil, is the last thing in the turn, however it went.
	End func()
	// Foreign is set where the inputs are a client's tensors: a run may fail
	// on what they say, which tells nothing about the model.
	Foreign bool
	form    form
}

// Do waits for the model's turn, does the job, and returns how long the
// inference alone took. Errors of Fill and Read come back as they are; one of
// the inference is a *RunError and counts against the model, unless the job
// is Foreign.
func (m *Model) Do(ctx context.Context, j Job) (time.Duration, error) {
	if err := m.take(ctx); err != nil {
		return 0, err
	}
	defer m.give()
	if j.End != nil {
		defer j.End()
	}
	s, err := m.choose(j)
	if err != nil {
		return 0, err
	}
	if err := j.Fill(s); err != nil {
		return 0, err
	}
	took, err := infer(s)
	switch {
	case err != nil && j.Foreign:
	case m.isSmall(s):
		m.tally.aside(err)
	default:
		m.tally.add(took, err, m.hold.times())
	}
	if err != nil {
		return took, &RunError{Model: m.Name + "@" + strconv.FormatInt(m.Version, 10), Err: err}
	}
	return took, j.Read(s)
}

// infer turns a panic of a kernel, and a fault in the mapped weights (a card
// that cannot read a page any more), into an error of this model.
func infer(s *engine.Session) (took time.Duration, err error) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if r := recover(); r != nil {
			if err = asFault("weights", r); err == nil {
				err = fmt.Errorf("inference: %v", r)
			}
		}
	}()
	start := time.Now()
	err = s.Run()
	return time.Since(start), err
}

// examine has both forms of the model answer their exams. Errors are *refusal,
// the card's, or ctx's.
func (m *Model) examine(ctx context.Context) (err error) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true)) // the exam's own tensors are mapped too
	defer func() {
		if r := recover(); r != nil {
			if err = asFault(m.Name, r); err == nil {
				panic(r)
			}
		}
	}()
	if err := m.examineFirst(ctx); err != nil {
		return err
	}
	return m.examineSmall(ctx)
}

func (m *Model) examineFirst(ctx context.Context) error {
	if m.exam == nil {
		return nil
	}
	err := m.exam.Check(func(inputs []*model.Tensor) ([]*model.Tensor, error) { return m.ask(ctx, inputs, theFirst) })
	return examError(ctx, "", err)
}

// examError is the refusal of a form that failed its exam, unless the exam was
// cut off or it is the card that failed.
func examError(ctx context.Context, form string, err error) error {
	switch {
	case err == nil:
		return nil
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case cardFailed(err):
		return err
	case form != "":
		err = fmt.Errorf("%s: %w", form, err)
	}
	return refuse(wire.ReasonExam, err)
}

// ask has one form of the model answer a question of an exam.
func (m *Model) ask(ctx context.Context, inputs []*model.Tensor, form form) (outputs []*model.Tensor, err error) {
	fill := func(s *engine.Session) error { return m.fill(s, inputs) }
	read := func(s *engine.Session) error {
		for i := range m.outputs {
			outputs = append(outputs, s.Output(i).Clone())
		}
		return nil
	}
	_, err = m.Do(ctx, Job{Fill: fill, Read: read, form: form})
	return outputs, err
}

// fill copies tensors into the session's inputs.
func (m *Model) fill(s *engine.Session, inputs []*model.Tensor) error {
	ports := m.inputs
	if len(inputs) != len(ports) {
		return fmt.Errorf("%d inputs, the graph has %d", len(inputs), len(ports))
	}
	for i, t := range inputs {
		dst := s.Input(i)
		if t.Type != dst.Type || !t.Shape.Equal(dst.Shape) {
			return fmt.Errorf("input %q is %v %v, want %v %v", ports[i].Name, t.Type, t.Shape, dst.Type, dst.Shape)
		}
		copy(dst.Data, t.Data)
	}
	return nil
}

// exercise runs the exam's inputs until the model has n runs in its trial, so
// that a device that sees nothing can judge it too. A model without an exam
// runs on what its inputs hold.
func (m *Model) exercise(ctx context.Context, n int) {
	for i := 0; ctx.Err() == nil; i++ {
		if c := m.tally.count(); c.runs >= n || c.errors > n {
			return
		}
		fill := func(*engine.Session) error { return nil }
		if e := m.exam; e != nil && len(e.Cases) > 0 {
			inputs := e.Cases[i%len(e.Cases)].Inputs
			fill = func(s *engine.Session) error { return m.fill(s, inputs) }
		}
		if _, err := m.Run(ctx, fill, func(*engine.Session) error { return nil }); err != nil {
			if _, counted := errors.AsType[*RunError](err); !counted {
				return // the context ended, or the exam does not fit: examine said so
			}
		}
	}
}

// acquire and release keep a model from being closed under its users.
func (m *Model) acquire() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.users++
}

// Release says that the caller of Slots.Acquire is done with the model.
func (m *Model) Release() {
	m.mu.Lock()
	m.users--
	last := m.retired && m.users == 0
	m.mu.Unlock()
	if last {
		m.close()
	}
}

// retire closes the model once nobody uses it. A run that never ends keeps
// it in memory for ever, which is all that can be done about such a run.
func (m *Model) retire() {
	m.mu.Lock()
	done := !m.retired && m.users == 0
	m.retired = true
	m.mu.Unlock()
	if done {
		m.close()
	}
}

func (m *Model) close() {
	m.session, m.graph, m.small = nil, nil, nil
	// Unmapping fails only for a wrong address, and there is nobody to tell.
	_ = m.pack.Close()
}
