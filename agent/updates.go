package agent

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"dunlin/agent/slots"
	"dunlin/agent/update"
	"dunlin/internal/durable"
	"dunlin/internal/oci"
	"dunlin/internal/release"
	"dunlin/internal/sign"
	"dunlin/sync/wire"
)

// UpdateConfig is about the agent itself, as the hub sends it.
type UpdateConfig struct {
	Enabled  bool `toml:"enabled"`
	HealthyS int  `toml:"healthy_s"`
	GraceS   int  `toml:"grace_s"`
	Tries    int  `toml:"tries"`
}

var defaultUpdate = UpdateConfig{Enabled: true, HealthyS: 60, GraceS: 900, Tries: 3}

// updates takes offers of the agent itself, down the road of models and facts,
// and watches over the version that runs as long as it is on trial.
type updates struct {
	a      *Agent
	c      UpdateConfig
	store  *update.Store
	layout *oci.Layout // nil: there is no hub
	fetch  fetchFunc
	trust  sign.Trust
	lane   *lane
	config string // file that a new version must accept, "": none

	abort      chan struct{} // of one place: the hub wants another version than the one on trial
	settled    chan struct{} // closed when no version is on trial any more
	restarting atomic.Bool
}

// openStore comes first: what is opened next is opened with care on trial.
func (a *Agent) openStore() error {
	u := &updates{a: a, c: a.c.Update, abort: make(chan struct{}, 1), settled: make(chan struct{})}
	a.updates = u
	var err error
	if u.store, err = update.Open(durable.OS, a.path(updateDir), os.Getenv(envSlot)); err != nil {
		a.log.Error("what was installed of the agent is not known", keyError, err)
	}
	return nil
}

func (a *Agent) openUpdates() (err error) {
	u := a.updates
	if u.lane, err = newLane("agent", a.journal, a.log, u.take); err != nil {
		return err
	}
	u.tellLast()
	if a.token == nil {
		return nil
	}
	if u.trust, err = a.c.releaseKeys(); err != nil {
		return err
	}
	u.trust = append(u.trust, a.token.ReleaseKeys...)
	if u.layout, err = oci.Create(a.path(updateDir, "fetched")); err != nil {
		return err
	}
	u.fetch, err = a.fetcher(u.layout, func(all []oci.Descriptor) []oci.Descriptor { return release.Layers(release.Platform(), all) })
	return err
}

// tellLast tells what the launcher, or the version before, wrote of how a
// trial ended. A binary that was lost is no decision: it is to be fetched again.
func (u *updates) tellLast() {
	last := u.store.Last()
	var told wire.Report
	if err := u.a.journal.get(journalTold, &told); err != nil {
		u.a.log.Error("what was told of the agent is not known", keyError, err)
	}
	if last == nil || told.Digest == last.Digest && told.State == last.State && told.At.Wall.Equal(last.At.Wall) {
		return
	}
	if last.Reason != wire.ReasonDigest {
		u.lane.decided(*last)
	}
	u.a.log.Warn("agent", "version", release.Text(last.Version), "state", last.State, "reason", last.Reason, keyError, last.Error)
	u.a.report(*last)
	u.told(*last)
}

// journalTold is where the journal has the newest end of a trial that was told.
const journalTold = "told/agent"

func (u *updates) told(r wire.Report) {
	if err := u.a.journal.put(journalTold, r); err != nil {
		u.a.log.Error("report of the agent will be made twice", keyError, err)
	}
}

func (u *updates) onTrial() bool {
	_, trial, _ := u.store.Running()
	return trial
}

// standsIn tells whether this version runs until the next boot only: what it
// cannot read is left to the one that it stands in for.
func (u *updates) standsIn() bool { return u.c.Enabled && u.store.StandsIn() }

// running names the release that runs, nil for the agent of the package.
func (u *updates) running() *wire.Running {
	b, _, ok := u.store.Running()
	if !ok {
		return nil
	}
	return &wire.Running{Name: release.Name, Version: b.Number, Digest: b.Digest, Previous: u.store.Previous().Digest}
}

// SlotStatus says which binary of the agent runs, where it is not the package's.
type SlotStatus struct {
	Digest  string `json:"digest"` // of the release
	OnTrial bool   `json:"on_trial,omitempty"`
}

func (u *updates) status() *SlotStatus {
	b, trial, ok := u.store.Running()
	if !ok {
		return nil
	}
	return &SlotStatus{b.Digest, trial}
}

func (s *SlotStatus) text() string {
	switch {
	case s == nil:
		return ""
	case s.OnTrial:
		return " from the hub, on trial"
	}
	return " from the hub"
}

// run takes offers, when no version is on trial any more.
func (u *updates) run(ctx context.Context) {
	select {
	case <-u.settled:
		u.lane.run(ctx)
	case <-ctx.Done():
	}
}

// desire takes up what the hub wants. A version on trial goes back first where
// that is another one; the next process takes it up then.
func (u *updates) desire(o wire.Offer, again bool) {
	if u.layout == nil {
		return // it is what a hub wanted that this device does not know any more
	}
	if on := u.store.Offer(); on != nil && on.Manifest == o.Manifest {
		return // it runs, or is to at the next start
	} else if on != nil && !u.interrupt() {
		return
	}
	// What was kept once and is lost is no refusal of it.
	last := u.lane.last()
	lost := last != nil && last.State == wire.StateActive && !u.runs(o)
	u.lane.desire(o, again || lost)
}

// runs tells whether an offer is of what runs already, be it because the
// package brought the same version.
func (u *updates) runs(o wire.Offer) bool {
	if now := u.running(); now != nil {
		return now.Digest == o.Manifest
	}
	return release.Text(o.Version) == Version
}

// interrupt ends a trial that is not wanted any more. over is false where that
// is by way of a restart.
func (u *updates) interrupt() (over bool) {
	if !u.onTrial() { // it could not be started this time
		_, err := u.store.End(wire.ReasonDesired, nil, u.a.clock.read())
		if err != nil {
			u.a.log.Error("end of a trial is not kept", keyError, err)
		}
		return err == nil
	}
	select {
	case u.abort <- struct{}{}:
	default:
	}
	return false
}

// withdraw goes back to the agent of the package: the hub wants none of its own
// here.
func (u *updates) withdraw() {
	if u.store.Offer() != nil && !u.interrupt() {
		return
	}
	if _, _, ok := u.store.Running(); !ok && len(u.lane.wanted()) == 0 {
		if err := u.store.Stay(); err != nil {
			u.a.log.Error("the agent of the package runs until the next boot only", keyError, err)
		}
		return
	}
	u.lane.withdraw(func(ctx context.Context) (r wire.Report, err error) {
		ok, err := u.held(ctx, func() (ok bool, err error) {
			r, ok, err = u.store.Withdraw(u.a.clock.read())
			return ok, err
		})
		if err != nil || !ok {
			return wire.Report{}, err
		}
		u.a.log.Warn("the hub wants the agent of the package here", "taken_back", release.Text(r.Version))
		u.a.report(r)
		u.told(r)
		u.restart()
		return r, nil
	})
}

// restart has the launcher start whatever is to run now.
func (u *updates) restart() {
	u.restarting.Store(true)
	u.a.fail(errRestart)
}

// stopped is told of an end in order, which is no crash; err is nil for a stop,
// which is no fault of a version on trial either.
func (u *updates) stopped(err error) {
	counted := u.store.Ended(err != nil)
	if err == nil {
		counted = errors.Join(counted, u.store.GiveBack(u.c.Tries))
	}
	if counted != nil {
		u.a.log.Warn("a stop is counted as a crash of this version", keyError, counted)
	}
}

// outlive ends the count of deaths once this process was healthy for long
// enough: see agent/update/starts.go.
func (u *updates) outlive(ctx context.Context) {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for healthy := u.a.started; time.Since(healthy) < time.Duration(u.c.HealthyS)*time.Second; {
		if u.a.p.live() != nil {
			healthy = time.Now()
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
	r, again, err := u.store.Healthy(u.a.clock.read())
	if err != nil {
		u.a.log.Warn("the count of crashes is not ended", keyError, err)
	}
	if again {
		u.kept(r)
	}
}

// take installs an offer. Where that goes well the process ends here, as the
// new version begins, and it is that one which says how the trial went. err is
// set where nothing was decided.
func (u *updates) take(ctx context.Context, o wire.Offer) (wire.Report, error) {
	if u.restarting.Load() {
		<-ctx.Done()
		return wire.Report{}, context.Cause(ctx)
	}
	err := u.install(ctx, o)
	if err == nil || errors.As(err, new(*refusal)) { // else what was fetched is wanted again
		if _, swept := u.layout.Sweep(); swept != nil {
			u.a.log.Warn("old releases are not swept", keyError, swept)
		}
	}
	switch refused, ok := errors.AsType[*refusal](err); {
	case ok:
		return u.tell(o, wire.StateRefused, refused.why, refused.err), nil
	case errors.Is(err, errRuns):
		return u.tell(o, wire.StateActive, wire.ReasonNone, nil), nil
	case durable.IsNoSpace(err):
		u.tell(o, wire.StateFetching, wire.ReasonNoSpace, err)
		return wire.Report{}, fmt.Errorf("agent %s: %w: %w", release.Text(o.Version), slots.ErrAgain, err)
	case err != nil:
		return wire.Report{}, err
	}
	u.restart()
	<-ctx.Done()
	return wire.Report{}, context.Cause(ctx)
}

func (u *updates) tell(o wire.Offer, s wire.State, why wire.Reason, err error) wire.Report {
	r := wire.Report{
		Kind: wire.OfferAgent, Name: o.Name, Version: o.Version, Digest: o.Manifest, State: s, Reason: why, At: u.a.clock.read(),
	}
	if err != nil {
		r.Error = clip(err.Error(), 1000)
	}
	u.a.log.Info("agent", "version", release.Text(o.Version), "state", s, "reason", why, keyError, r.Error)
	u.a.report(r)
	return r
}

// errRuns ends an offer of what runs already.
var errRuns = errors.New("it runs already")

// install does all that comes before the restart.
func (u *updates) install(ctx context.Context, o wire.Offer) error {
	if err := u.acceptable(o); err != nil {
		return err
	}
	if u.runs(o) {
		if err := u.store.Stay(); err != nil {
			return err
		}
		return errRuns
	}
	if u.store.Previous().Digest == o.Manifest {
		exchange := func() (bool, error) { return u.store.Exchange(o.Manifest) }
		if ok, err := u.held(ctx, exchange); ok || err != nil {
			return err
		}
	}
	if err := u.bring(ctx, o); err != nil {
		return err
	}
	b, err := u.write(o)
	if err != nil {
		return err
	}
	u.tell(o, wire.StateExamining, wire.ReasonNone, nil)
	if err := u.examine(ctx, b); err != nil {
		return err
	}
	_, err = u.held(ctx, func() (bool, error) { return true, u.store.Begin(o, b.Build, u.c.Tries, Version) })
	return err
}

// held takes the last step before a restart while no model is on trial, and
// keeps any from it as long as this process lives; not where do says that there
// is no restart.
func (u *updates) held(ctx context.Context, do func() (bool, error)) (ok bool, err error) {
	free, err := u.a.slots.Hold(ctx)
	if err != nil {
		return false, err
	}
	if ok, err = do(); !ok || err != nil {
		free()
	}
	return ok, err
}

// acceptable refuses what can be refused before a byte of it is fetched.
func (u *updates) acceptable(o wire.Offer) error {
	if !u.c.Enabled {
		return &refusal{wire.ReasonDisabled, errors.New("update.enabled is false in this device's configuration")}
	}
	if _, err := oci.ParseDigest(o.Manifest); err != nil || o.Kind != wire.OfferAgent || o.Name != release.Name {
		return &refusal{wire.ReasonBroken, fmt.Errorf("offer of kind %q, name %.80q, manifest %.80q", o.Kind, o.Name, o.Manifest)}
	}
	if err := u.trust.Verify(wire.OfferAgent.Purpose(), []byte(o.Manifest), o.Sig); err != nil {
		return &refusal{slots.SignatureReason(err), err}
	}
	return nil
}

func (u *updates) bring(ctx context.Context, o wire.Offer) error {
	u.tell(o, wire.StateFetching, wire.ReasonNone, nil)
	err := u.fetch(ctx, o, nil)
	if err == nil {
		return nil
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	why, again := slots.FetchReason(err)
	if !again {
		return &refusal{why, err}
	}
	u.tell(o, wire.StateFetching, why, err)
	return fmt.Errorf("fetch agent %s: %w: %w", release.Text(o.Version), slots.ErrAgain, err)
}

// written is a binary in the slot that does not run yet.
type written struct {
	update.Build
	file string
}

// write puts the binary for this board into the idle slot. The manifest is what
// is signed: the offer only says what is in it.
func (u *updates) write(o wire.Offer) (w written, err error) {
	r, err := release.Read(u.layout, oci.Digest(o.Manifest))
	switch {
	case errors.As(err, new(*oci.DigestError)):
		return w, &refusal{wire.ReasonDigest, err}
	case err != nil:
		return w, unlessBroken(err)
	case r.Number != o.Version:
		return w, &refusal{wire.ReasonBroken, fmt.Errorf("offered as version %s, its manifest says %s", release.Text(o.Version), r.Version)}
	}
	if err := u.follows(r); err != nil {
		return w, err
	}
	b, err := r.For(release.Platform())
	if err != nil {
		return w, &refusal{wire.ReasonPlatform, err}
	}
	f, _, err := u.layout.OpenBlob(b.Blob.Digest)
	if err != nil {
		return w, err
	}
	w.Build = update.Build{Version: r.Version, Number: r.Number, Digest: o.Manifest, Size: b.Blob.Size}
	w.file, w.SHA256, err = u.store.Write(f)
	if err := errors.Join(err, f.Close()); err != nil {
		return w, err
	}
	if w.SHA256 != b.Blob.Digest.Encoded() {
		return w, &refusal{wire.ReasonDigest, &oci.DigestError{Want: b.Blob.Digest, Got: oci.Digest("sha256:" + w.SHA256), Size: b.Blob.Size}}
	}
	return w, nil
}

// follows refuses a release that may not come after what was here.
func (u *updates) follows(r release.Release) error {
	now, err := release.Number(Version)
	if err != nil {
		return &refusal{wire.ReasonTooOld, fmt.Errorf("this agent: %w", err)}
	}
	if newest := max(now, u.store.Newest()); r.Number < newest && !r.AllowDowngrade {
		return &refusal{wire.ReasonOlder, fmt.Errorf("version %s: %s ran here, and an older one is taken only where the release allows it, or the other slot holds it", r.Version, release.Text(newest))}
	}
	if r.From == "" {
		return nil
	}
	if from, err := release.Number(r.From); err != nil || now < from {
		return &refusal{wire.ReasonTooOld, fmt.Errorf("version %s follows %s and newer, this is %s", r.Version, r.From, Version)}
	}
	return nil
}

// envExamined has check leave alone what this process uses meanwhile: a chip
// that two programs read gives wrong numbers to both. It is no flag, which
// another version might not know.
const envExamined = "DUNLIN_AGENT_EXAMINED"

// examine has the new binary say its version, and check the configuration that
// it will run with: what cannot do that on this board is not worth a restart.
func (u *updates) examine(ctx context.Context, b written) error {
	said, err := ask(ctx, b.file, "version")
	if want := release.Name + " " + b.Version + " "; err != nil || !strings.HasPrefix(said, want) {
		return examined(ctx, fmt.Errorf("%s version: it says %.80q, want %q: %w", b.file, said, want, err))
	}
	if u.config == "" {
		return nil
	}
	said, err = ask(ctx, b.file, "check", "-config", u.config)
	if err == nil {
		return nil
	}
	// What this version does not like either is no fault of the new one.
	if _, own := ask(ctx, "/proc/self/exe", "check", "-config", u.config); own != nil {
		u.a.log.Warn("the configuration cannot be checked", keyError, own)
		return nil
	}
	return examined(ctx, fmt.Errorf("%s check: %w: %.800s", b.file, err, said))
}

func examined(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return &refusal{wire.ReasonExam, err}
}

// asking bounds how long a binary may take to say something.
const asking = time.Minute

// ask runs a binary of the agent and returns what it prints.
func ask(ctx context.Context, file string, args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, asking)
	defer cancel()
	for delay := 10 * time.Millisecond; ; delay *= 2 {
		c := exec.CommandContext(ctx, file, args...)
		c.Env, c.WaitDelay = append(environ(), envExamined+"=1"), time.Second
		said, err := c.CombinedOutput()
		// Another child that is just being started may hold the file as we wrote it.
		if !errors.Is(err, syscall.ETXTBSY) || delay > time.Second {
			return string(said), err
		}
		time.Sleep(delay)
	}
}

// trial watches over the version that runs, until it is kept or goes back.
// Without one it returns at once.
func (u *updates) trial(ctx context.Context) {
	o := u.store.Offer()
	if !u.onTrial() {
		close(u.settled)
		return
	}
	free, err := u.a.slots.Hold(ctx)
	if err != nil {
		return
	}
	defer free()
	u.tell(*o, wire.StateTrial, wire.ReasonNone, nil)
	why, cause := u.watch(ctx, *o)
	if ctx.Err() != nil {
		return
	}
	if why == wire.ReasonNone {
		if err := u.confirm(); err == nil {
			close(u.settled)
			return
		} else {
			why, cause = wire.ReasonNoSpace, err // what cannot be kept must not go on
		}
	}
	r, err := u.store.End(why, cause, u.a.clock.read())
	if err != nil { // then its tries end it
		u.a.log.Error("end of a trial is not kept", keyError, err)
	}
	u.a.log.Warn("agent goes back", "version", Version, "reason", r.Reason, keyError, r.Error)
	u.restart()
}

func (u *updates) confirm() error {
	r, err := u.store.Confirm(u.a.clock.read())
	if err != nil {
		return err
	}
	u.kept(r)
	return nil
}

// kept tells that this version runs from now on.
func (u *updates) kept(r wire.Report) {
	u.lane.decided(r)
	u.a.log.Info("agent", "version", Version, "state", r.State)
	u.a.report(r)
	u.told(r)
}

// watch returns the verdict. It ends with ctx too.
func (u *updates) watch(ctx context.Context, o wire.Offer) (wire.Reason, error) {
	if why := u.a.facts.Recovered(); why != "" {
		return wire.ReasonExam, fmt.Errorf("it cannot read the facts of the version before: %s", why)
	}
	rules := update.Rules{
		Healthy: time.Duration(u.c.HealthyS) * time.Second, Grace: time.Duration(u.c.GraceS) * time.Second, Hub: u.a.hub != nil,
	}
	if s := o.Trial.Seconds; s > 0 {
		rules.Healthy = time.Duration(min(s, 24*3600)) * time.Second
	}
	exam := make(chan error, 1) // a kernel that does not come back must not hold up the verdict
	go func() { exam <- u.a.slots.Examine(ctx) }()
	tick := time.NewTicker(200 * time.Millisecond)
	defer tick.Stop()
	healthy, examined := u.a.started, false
	for {
		if u.a.p.live() != nil {
			healthy = time.Now()
		}
		seen := update.Seen{
			Age: time.Since(u.a.started), Healthy: time.Since(healthy), Examined: examined, Heard: rules.Hub && u.a.hub.heard.Load(),
		}
		if done, why, cause := rules.Judge(seen); done {
			return why, cause
		}
		select {
		case err := <-exam:
			if err != nil {
				return wire.ReasonExam, err
			}
			examined = true
		case <-tick.C:
		case <-u.abort:
			return wire.ReasonDesired, nil
		case <-ctx.Done():
			return wire.ReasonNone, nil
		}
	}
}
