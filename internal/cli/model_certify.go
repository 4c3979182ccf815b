package cli

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"slices"
	"time"

	"dunlin/engine"
	"dunlin/model"
	"dunlin/model/samples"
	"dunlin/quant"
	"dunlin/quant/certify"
)

// certifyOptions are what a person says about what may be lost.
type certifyOptions struct {
	Data        string
	LabelOffset int // -1: as the preprocessing says
	MaxDrop     share
	Confidence  share
	Target      string // "size" or "latency"
	Bound       string // "bernstein" or "exact"
	Uncertified bool
	Seed        uint64
	Tolerance   float64
	Seconds     float64 // for which each candidate is timed
	Epochs      int     // of training for int8, where all else fails; 0: none
}

func (o certifyOptions) check() error {
	if o.Target != "size" && o.Target != "latency" {
		return usagef("--target %q: want size or latency", o.Target)
	}
	if bounds[o.Bound] == nil {
		return usagef("--bound %q: want bernstein or exact", o.Bound)
	}
	if !(o.Tolerance >= 0) {
		return usagef("--tolerance %v: want 0 or more", o.Tolerance)
	}
	if o.Epochs < 0 {
		return usagef("--qat-epochs %d: want 0 or more", o.Epochs)
	}
	return nil
}

// candidate is one way to make the model smaller.
type candidate struct {
	name    string
	options quant.Options
	kl      float64
	float   bool // the model as it is

	// Set where training made it, and no options did.
	graph  *model.Graph
	report *quant.Report
}

// search walks a front.
type search struct {
	ctx    context.Context
	o      certifyOptions
	w      *material
	ranges *quant.Ranges
	judge  *referee
	cert   *certificate
	start  func(what string, n int) bar
	offset int // what is added to the classes of the calibration samples

	chosen candidate

	rewrite   rewriteOptions
	rewritten *rewriteReport
	graph     *model.Graph // w's, rewritten: what the candidates are made of
}

// splitStream keeps the permutation of the split apart from other uses of the
// seed.
const splitStream = 0x73706c6974

// split parts the samples 0..n-1 by a seeded permutation: calib of them, or a
// fifth where that is less, are for calibration, the others for certification.
// Both are in order.
func split(n, calib int, seed uint64) (calibration, certification []int) {
	all := rand.New(rand.NewPCG(seed, splitStream)).Perm(n)
	calib = min(calib, n/5)
	slices.Sort(all[:calib])
	slices.Sort(all[calib:])
	return slices.Clone(all[:calib]), all[calib:]
}

// newSearch opens the data and parts it. Where w has calibration samples of
// its own, all data is for certification.
func newSearch(ctx context.Context, w *material, calib int, o certifyOptions) (*search, error) {
	offset := o.LabelOffset
	if offset < 0 {
		offset = labelOffset(w.spec)
	}
	set, err := samples.Open(o.Data, samples.Options{LabelOffset: offset})
	if err != nil {
		return nil, err
	}
	if set.Labelled() && !classesOnly(w.spec) {
		return nil, withHint(fmt.Errorf("%s: %w", o.Data, errNoClasses), "give the samples without labels: the answers are compared with the float model's")
	}
	added := 0
	f := &referee{ctx: ctx, set: set, spec: w.spec, labelled: set.Labelled(), tolerance: o.Tolerance, states: w.states, shelf: w.shelf}
	if w.calib != nil {
		_, f.at = split(set.Len(), 0, o.Seed)
		added = offset
	} else {
		var at []int
		at, f.at = split(set.Len(), calib, o.Seed)
		if len(at) == 0 {
			return nil, fmt.Errorf("%s has %d samples: too few to calibrate with a fifth of them", o.Data, set.Len())
		}
		w.calib = &feeder{ctx: ctx, shelf: w.shelf}
		if err := w.calibrator(set, at, calib); err != nil {
			return nil, err
		}
	}
	tier, err := engine.HostKernels()
	if err != nil {
		return nil, err
	}
	return &search{
		ctx: ctx, o: o, w: w, judge: f, offset: added,
		cert: &certificate{
			Measure: measureOf(f), MaxDrop: float64(o.MaxDrop), Confidence: float64(o.Confidence), Bound: o.Bound, Target: o.Target,
			Samples: len(f.at), Calibration: len(w.calib.at), Data: filepath.Base(o.Data), Seed: o.Seed, Chosen: -1,
			Machine: fmt.Sprintf("%s, %s, %d CPUs", runtime.GOARCH, tier, runtime.GOMAXPROCS(0)),
		},
	}, nil
}

func measureOf(f *referee) string {
	if f.labelled {
		return "accuracy"
	}
	return "agreement"
}

// alpha is the level of all tests together.
func (s *search) alpha() float64 { return 1 - s.cert.Confidence }

// enough fails with an uncertifiedError where not even a model that changed no
// answer could be certified with so few samples.
func (s *search) enough() error {
	none := certify.Outcomes{Unlabelled: !s.judge.labelled}
	alpha := s.alpha() * firstWalk
	need, ok := certify.Needed(none, bounds[s.o.Bound], alpha, s.cert.MaxDrop)
	if ok && s.cert.Samples >= need {
		return nil
	}
	err := fmt.Errorf("%d samples cannot certify a drop of at most %s with %s confidence, not even of a model that changes no answer: %s needs %d",
		s.cert.Samples, percent(s.cert.MaxDrop), percent(s.cert.Confidence), boundText(s.o.Bound), need)
	if exact, ok := certify.Needed(none, certify.Exact, alpha, s.cert.MaxDrop); ok && s.o.Bound != "exact" {
		return uncertified(err, "give more samples, allow more with --max-drop, decide by the exact bound with --bound exact (%d samples at least), or go on with --uncertified", exact)
	}
	return uncertified(err, "give more samples, allow more with --max-drop, or go on with --uncertified")
}

// run measures the float model, makes the front, walks it and chooses. What it
// finds is in s.cert, whatever it returns.
func (s *search) run() error {
	if err := s.enough(); err != nil && !s.o.Uncertified {
		return err
	}
	b := s.start("measuring the float model", len(s.judge.at))
	err := s.judge.float(s.w.graph, b.add)
	b.done()
	if err != nil {
		return err
	}
	s.cert.Compared = s.judge.sentence
	b = s.start("rewriting", 1)
	s.graph, s.rewritten, err = s.w.rewrite(s.rewrite, b.set)
	b.done()
	if err != nil {
		return err
	}
	s.w.shelf.put(s.graph)
	if s.judge.labelled {
		a := float64(s.judge.right) / float64(len(s.judge.at))
		s.cert.FloatAccuracy = &a
		s.cert.Compared = "the right class"
	}
	front, err := s.front()
	if err != nil {
		return err
	}
	if err := s.walk(front, s.alpha()*firstWalk); err != nil {
		return err
	}
	again, err := s.roundAgain(front)
	if err != nil {
		return err
	}
	if err := s.walk(again, s.alpha()*laterWalk); err != nil {
		return err
	}
	trained, err := s.trained()
	if err != nil {
		return err
	}
	if err := s.walk(trained, s.alpha()*laterWalk); err != nil {
		return err
	}
	return s.choose(slices.Concat(front, again, trained))
}

// firstWalk is the part of the level that the walk over the front has. What is
// left is for two more, over what is only tried where the first stopped: what
// was rounded for the outputs, and what was trained. By the union bound all
// together have the level that was asked for, whatever made them necessary.
const (
	firstWalk = 0.9
	laterWalk = 0.05
)

// walk measures candidates in their order and tests each at level alpha, until
// one fails.
func (s *search) walk(front []candidate, alpha float64) error {
	seq := &certify.Sequence{Budget: s.cert.MaxDrop, Alpha: alpha, Bound: bounds[s.o.Bound]}
	for i, c := range front {
		b := s.start(fmt.Sprintf("measuring %s, %d of %d", c.name, i+1, len(front)), len(s.judge.at))
		p, err := s.measure(c, seq, b.add)
		b.done()
		if err != nil {
			return fmt.Errorf("%s: %w", c.name, err)
		}
		s.cert.Front = append(s.cert.Front, p)
		debug.FreeOSMemory() // what one candidate took is not there twice
	}
	return nil
}

// apply makes the graph of a candidate.
func (s *search) apply(c candidate) (*model.Graph, *quant.Report, int64, error) {
	switch {
	case c.float:
		return s.w.graph, nil, weightBytes(s.w.graph), nil
	case c.graph != nil:
		return c.graph, c.report, c.report.After, nil
	}
	o := c.options
	o.Rest = s.w.shelf.rest
	g, r, err := quant.Apply(s.graph, s.ranges, o)
	if err != nil {
		return nil, nil, 0, err
	}
	return g, r, r.After, nil
}

// measure makes a candidate, compares it with the float model and times it.
func (s *search) measure(c candidate, seq *certify.Sequence, add func(int)) (frontPoint, error) {
	g, r, bytes, err := s.apply(c)
	if err != nil {
		return frontPoint{}, err
	}
	p := frontPoint{Name: c.name, Bytes: bytes, KL: c.kl, Level: seq.Alpha, Levels: map[string]int{}}
	if r != nil {
		for _, l := range r.Layers {
			if l.WeightError != nil {
				p.Levels[l.Precision]++
			}
		}
	}
	if p.Outcomes, err = s.judge.compare(g, add); err != nil {
		return p, err
	}
	p.Drop = p.Outcomes.Drop()
	if s.judge.labelled {
		a := *s.cert.FloatAccuracy - p.Drop
		p.Accuracy = &a
	}
	if err := s.test(c, &p, seq); err != nil {
		return p, err
	}
	times, err := s.time(g)
	if err != nil {
		return p, err
	}
	p.MedianMS, p.FastestMS = millis(times[len(times)/2]), millis(times[0])
	return p, nil
}

// test takes the next step of the walk. The model as it is needs no test.
func (s *search) test(c candidate, p *frontPoint, seq *certify.Sequence) (err error) {
	if p.Certified = c.float; c.float {
		return nil
	}
	if err := p.bounds(s.o.Bound); err != nil {
		return err
	}
	before := seq.Stopped()
	if p.Certified, _, err = seq.Test(p.Outcomes); err != nil {
		return err
	}
	switch bound := p.bound(s.o.Bound); {
	case p.Certified:
	case before && bound <= seq.Budget:
		p.Why = "one before it in the walk was not certified"
	default:
		p.Why = fmt.Sprintf("it may lose %s points", points(bound))
	}
	return nil
}

// bounds fills in what the true drop and gain are at most.
func (p *frontPoint) bounds(rule string) (err error) {
	if p.Bernstein, err = certify.Bernstein(p.Outcomes, p.Level); err != nil {
		return err
	}
	if p.Exact, err = certify.Exact(p.Outcomes, p.Level); err != nil || p.Outcomes.Unlabelled {
		return err
	}
	gain := p.Outcomes
	gain.Worse, gain.Better = gain.Better, gain.Worse
	p.Gain, err = bounds[rule](gain, p.Level)
	return err
}

// time runs g on a calibration sample, with as many threads as pay.
func (s *search) time(g *model.Graph) ([]time.Duration, error) {
	in, err := s.w.calib.next(0)
	if err != nil {
		return nil, err
	}
	_, run, err := session(g, nil, engine.Options{Packed: s.w.shelf.rest})
	if err != nil {
		return nil, err
	}
	copy(run.Input(0).Data, in[0].Data)
	return measure(run, time.Duration(s.o.Seconds*float64(time.Second)))
}

// choose picks the best certified candidate, or with --uncertified the best
// whose drop on the samples is within the budget.
func (s *search) choose(front []candidate) error {
	pick := func(ok func(frontPoint) bool) int {
		var able []int
		for i, p := range s.cert.Front {
			if !front[i].float && ok(p) {
				able = append(able, i)
			}
		}
		return s.best(able)
	}
	s.cert.Chosen = pick(func(p frontPoint) bool { return p.Certified })
	s.cert.Certified = s.cert.Chosen >= 0
	if s.cert.Chosen < 0 && s.o.Uncertified {
		s.cert.Chosen = pick(func(p frontPoint) bool { return p.Drop <= s.cert.MaxDrop })
	}
	for i, p := range s.cert.Front {
		if p.Why != "" && i != s.cert.Chosen {
			s.cert.Refused = append(s.cert.Refused, refusal{p.Name, p.Why})
		}
	}
	if s.cert.Chosen < 0 {
		return s.refuse()
	}
	s.chosen = front[s.cert.Chosen]
	return nil
}

// best returns the smallest of the points, or the fastest. Sizes within one
// part in a hundred are the same: then fewer layers that compute in float win,
// then the lower bound, and never a time, which differs from run to run. Times
// within three parts in a hundred are the same, and leave it to the size.
func (s *search) best(points []int) int {
	size := func(p frontPoint) float64 { return float64(p.Bytes) }
	time := func(p frontPoint) float64 { return p.MedianMS }
	first, near := size, 1.01
	before := func(a, b frontPoint) int {
		return cmp.Or(cmp.Compare(a.floats(), b.floats()), cmp.Compare(a.bound(s.o.Bound), b.bound(s.o.Bound)))
	}
	if s.o.Target == "latency" {
		first, near = time, 1.03
		before = func(a, b frontPoint) int { return cmp.Compare(a.Bytes, b.Bytes) }
	}
	least := math.Inf(1)
	for _, i := range points {
		least = min(least, first(s.cert.Front[i]))
	}
	at := -1
	for _, i := range points {
		p := s.cert.Front[i]
		if first(p) <= near*least && (at < 0 || before(p, s.cert.Front[at]) < 0) {
			at = i
		}
	}
	return at
}

// floats is how many layers compute in float.
func (p frontPoint) floats() int {
	return p.Levels[string(quant.FP16)] + p.Levels[string(quant.Float32)]
}

// refuse says why nothing was chosen, and how many samples like these would
// have been enough for the candidate that came nearest.
func (s *search) refuse() error {
	nearest := -1
	for i, p := range s.cert.Front {
		if len(p.Levels) > 0 && (nearest < 0 || p.bound(s.o.Bound) < s.cert.Front[nearest].bound(s.o.Bound)) {
			nearest = i
		}
	}
	if nearest < 0 {
		return uncertified(errors.New("nothing in this model can be made smaller"), "dunlin model inspect shows its layers")
	}
	p := s.cert.Front[nearest]
	err := fmt.Errorf("no smaller model keeps the drop within %s points with %s confidence: %s lost %s on %d samples, which may be %s",
		points(s.cert.MaxDrop), percent(s.cert.Confidence), p.Name, points(p.Drop), p.Outcomes.N, points(p.bound(s.o.Bound)))
	if s.cert.Trained != nil {
		err = fmt.Errorf("%w; %v", err, s.cert.Trained)
	}
	if need, ok := certify.Needed(p.Outcomes, bounds[s.o.Bound], p.Level, s.cert.MaxDrop); ok {
		return uncertified(err, "about %d samples like these would certify it; or allow more with --max-drop, or go on with --uncertified", need)
	}
	return uncertified(err, "no number of samples would certify it: allow more with --max-drop, or keep the layers that cost most in float with --float")
}

// uncertifiedError is a refusal to promise: exit status 3.
type uncertifiedError struct{ error }

func (e uncertifiedError) Unwrap() error { return e.error }

func uncertified(err error, hint string, a ...any) error {
	return withHint(uncertifiedError{err}, hint, a...)
}

// printFront prints the walk as a table.
func printFront(w io.Writer, c *certificate) {
	fmt.Fprintf(w, "%s of %d samples of %s; %d others calibrated\n", c.Measure, c.Samples, c.Data, c.Calibration)
	rows := [][]string{{"CANDIDATE", "WEIGHTS", "SMALLER", "ACCURACY", "LOST", "AT MOST", "EXACT", "MEDIAN", ""}}
	for i, p := range c.Front {
		accuracy, verdict := "-", p.Why
		if p.Accuracy != nil {
			accuracy = points(*p.Accuracy) + " %"
		}
		if p.Certified {
			verdict = "certified"
		}
		if i == c.Chosen {
			verdict += " <- chosen"
		}
		rows = append(rows, []string{
			p.Name, bytesText(p.Bytes), fmt.Sprintf("%.2fx", float64(c.Front[0].Bytes)/float64(p.Bytes)), accuracy,
			points(p.Drop), points(p.Bernstein), points(p.Exact), fmt.Sprintf("%.3f ms", p.MedianMS), verdict,
		})
	}
	table(w, rows)
	if c.Trained != nil {
		fmt.Fprintln(w, c.Trained)
	}
}
