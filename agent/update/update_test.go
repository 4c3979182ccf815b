package update

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"dunlin/internal/durable"
	"dunlin/internal/release"
	"dunlin/sync/wire"
)

const dir = "/state/agent"

// started is what a boot of the board came to: the content of the binary that
// runs, "package" for the one that was there from the beginning.
type started struct{ what, mark string }

// boots counts the boots of all boards: each has an id of its own.
var boots atomic.Int64

// boot starts the board. Launch has no return where a binary starts.
func boot(t *testing.T, fsys durable.FS, factory string) (s started, fault error) {
	t.Helper()
	return startIn(t, fmt.Sprint("boot ", boots.Add(1)), fsys, factory)
}

// startIn starts the agent of a board once more in a boot of it.
func startIn(t *testing.T, boot string, fsys durable.FS, factory string) (s started, fault error) {
	t.Helper()
	defer func() {
		if r := recover(); r != nil {
			ran, ok := r.(started)
			if !ok {
				panic(r)
			}
			s = ran
		}
	}()
	fault = Launch(fsys, dir, factory, boot, func(file, mark string) error {
		text, err := fsys.ReadFile(file)
		if err != nil {
			return err
		}
		panic(started{string(text), mark})
	})
	return started{what: "package"}, fault
}

// device is a board with a card, and what it is to do.
type device struct {
	t    *testing.T
	fsys durable.FS
}

func (d device) boots(want string) (*Store, error) {
	d.t.Helper()
	s, fault := boot(d.t, d.fsys, "0.1.0")
	if s.what != want {
		return nil, fmt.Errorf("%q runs, want %q: %w", s.what, want, errors.Join(fault, errWrong))
	}
	return Open(d.fsys, dir, s.mark)
}

// errWrong is the error of a boot that ran something else; with a power cut
// there may be no saying what runs.
var errWrong = errors.New("another binary runs")

func buildOf(version string) Build {
	n, err := release.Number(version)
	if err != nil {
		panic(err)
	}
	text := "agent " + version
	sum := sha256.Sum256([]byte(text))
	return Build{Version: version, Number: n, Digest: "sha256:of " + version, SHA256: hex.EncodeToString(sum[:]), Size: int64(len(text))}
}

func install(s *Store, version string, tries int) error {
	b := buildOf(version)
	_, sum, err := s.Write(strings.NewReader("agent " + version))
	if err != nil {
		return err
	}
	if sum != b.SHA256 {
		return fmt.Errorf("%s was written with the hash %s", version, sum)
	}
	return s.Begin(wire.Offer{Kind: wire.OfferAgent, Name: release.Name, Version: b.Number, Manifest: b.Digest}, b, tries, "0.1.0")
}

// step is a part of a life: what runs for good when it is over, and what is
// done for that.
type step struct {
	then string
	do   func(d device) error
}

func confirmed(version string) func(device) error {
	return func(d device) error {
		s, err := d.boots("agent " + version)
		if err == nil {
			_, err = s.Confirm(clock())
		}
		return err
	}
}

func installed(from, version string) func(device) error {
	return func(d device) error {
		s, err := d.boots(from)
		if err == nil {
			err = install(s, version, 3)
		}
		return err
	}
}

// life is all that can become of versions.
var life = []step{
	{"package", installed("package", "0.2.0")},
	{"agent 0.2.0", confirmed("0.2.0")},
	{"agent 0.2.0", installed("agent 0.2.0", "0.3.0")},
	{"agent 0.2.0", func(d device) error { // it crashes
		for range 3 {
			if _, err := d.boots("agent 0.3.0"); err != nil {
				return err
			}
		}
		s, err := d.boots("agent 0.2.0")
		if err == nil && (s.Last() == nil || s.Last().Reason != wire.ReasonCrashed || s.Last().Version != 3000) {
			err = fmt.Errorf("the last report is %+v: %w", s.Last(), errWrong)
		}
		return err
	}},
	{"agent 0.2.0", installed("agent 0.2.0", "0.4.0")},
	{"agent 0.2.0", func(d device) error { // it finds itself bad
		s, err := d.boots("agent 0.4.0")
		if err == nil {
			_, err = s.End(wire.ReasonExam, errors.New("wrong answer"), clock())
		}
		return err
	}},
	{"agent 0.2.0", installed("agent 0.2.0", "0.5.0")},
	{"agent 0.5.0", confirmed("0.5.0")},
	{"agent 0.5.0", func(d device) error { // it comes to crash: the one before stands in, in this boot
		for i := range maxDeaths + 1 {
			s, fault := startIn(d.t, "a boot", d.fsys, "0.1.0")
			if want := map[bool]string{true: "agent 0.2.0", false: "agent 0.5.0"}[i == maxDeaths]; s.what != want {
				return fmt.Errorf("start %d: %q runs, want %q: %w", i, s.what, want, errors.Join(fault, errWrong))
			}
		}
		s, err := Open(d.fsys, dir, "a")
		if err == nil {
			_, _, err = s.Healthy(clock())
		}
		return err
	}},
	{"agent 0.2.0", func(d device) error { // the hub takes it back
		s, err := d.boots("agent 0.5.0")
		if err != nil {
			return err
		}
		if ok, err := s.Exchange(buildOf("0.2.0").Digest); !ok && err == nil {
			return errors.New("the slot before is gone")
		} else {
			return err
		}
	}},
	{"package", func(d device) error { // and that too
		s, err := d.boots("agent 0.2.0")
		if err == nil {
			_, _, err = s.Withdraw(clock())
		}
		return err
	}},
}

func newCard(t *testing.T) *durable.Forgetful {
	t.Helper()
	f := durable.NewForgetful()
	if err := durable.Mkdir(f, dir, 0o755); err != nil {
		t.Fatal(err)
	}
	return f
}

// Power goes at every operation of the disk in a life of updates. After each,
// the board starts, runs what is whole, comes to rest on what ran for good
// before or after the step that was cut, and takes the next version.
func TestPowerCutAtEveryOperation(t *testing.T) {
	card := newCard(t)
	before := card.Ops()
	for i, s := range life {
		if err := s.do(device{t, card}); err != nil {
			t.Fatalf("step %d: %v", i, err)
		}
	}
	ops := card.Ops() - before
	t.Logf("%d operations", ops)
	if ops < 100 {
		t.Fatal("too few")
	}
	for cut := range ops {
		seeds := uint64(3)
		if testing.Short() {
			seeds = 1
		}
		for seed := range seeds {
			card := newCard(t)
			card.CutAt(cut)
			rest := []string{"package", "package"} // before and after the step that is cut
			for _, s := range life {
				rest[0], rest[1] = rest[1], s.then
				if s.do(device{t, card}) != nil {
					break
				}
			}
			if seed == 0 {
				card.Crash()
			} else {
				card.CrashSome(rand.New(rand.NewPCG(uint64(cut), seed)))
			}
			if err := survives(t, card, rest); err != nil {
				t.Fatalf("cut at %d, seed %d: %v", cut, seed, err)
			}
		}
	}
}

func survives(t *testing.T, card durable.FS, rest []string) error {
	last := started{}
	for range 5 { // whatever is on trial crashes each time
		s, fault := boot(t, card, "0.1.0")
		if s.what != "package" && !strings.HasPrefix(s.what, "agent 0.") || len(s.what) > len("agent 0.2.0") {
			return fmt.Errorf("%q runs: %w", s.what, fault)
		}
		if fault != nil {
			return fmt.Errorf("the package's own runs, because %w", fault)
		}
		last = s
	}
	if last.what != rest[0] && last.what != rest[1] {
		return fmt.Errorf("it comes to rest on %q, want %q", last.what, rest)
	}
	d := device{t, card}
	if err := installed(last.what, "0.9.0")(d); err != nil {
		return err
	}
	return confirmed("0.9.0")(d)
}

// A disk that is full, or fails, at any operation leaves the board starting.
func TestFullDiskAtEveryOperation(t *testing.T) {
	full := fmt.Errorf("write: %w", syscall.ENOSPC)
	for fail := 0; ; fail++ {
		card := newCard(t)
		before := card.Ops()
		card.FailAt(fail, full)
		rest := []string{"package", "package"}
		for _, s := range life {
			rest[0], rest[1] = rest[1], s.then
			err := s.do(device{t, card})
			if err != nil && !errors.Is(err, full) && !errors.Is(err, errWrong) {
				t.Fatalf("failed at %d: %v", fail, err)
			}
			if err != nil {
				break
			}
		}
		done := card.Ops()-before <= fail
		card.Crash()
		if err := survives(t, card, rest); err != nil {
			t.Fatalf("failed at %d: %v", fail, err)
		}
		if done {
			return
		}
	}
}

// A candidate whose start cannot be counted is not started: a card that is
// read-only would else start it for ever.
func TestUncountedStartIsNone(t *testing.T) {
	card := newCard(t)
	d := device{t, card}
	for _, s := range life[:3] {
		if err := s.do(d); err != nil {
			t.Fatal(err)
		}
	}
	before := card.Ops()
	if s, _ := boot(t, card, "0.1.0"); s.what != "agent 0.3.0" {
		t.Fatalf("%q runs", s.what)
	}
	ops := card.Ops() - before
	readOnly := errors.New("read-only file system")
	refused := 0
	for op := range ops {
		card := newCard(t)
		d := device{t, card}
		for _, s := range life[:3] {
			if err := s.do(d); err != nil {
				t.Fatal(err)
			}
		}
		card.FailAt(op, readOnly)
		s, err := boot(t, card, "0.1.0")
		if s.what != "agent 0.3.0" && s.what != "agent 0.2.0" && s.what != "package" {
			t.Fatalf("operation %d failed: %q runs, %v", op, s.what, err)
		}
		if s.what == "agent 0.2.0" {
			refused++
		}
		if s.what != "agent 0.3.0" {
			continue
		}
		if st, err := loadState(card, dir+"/"+StateFile); err != nil || st.Candidate == nil || st.Candidate.Tries != 2 {
			t.Errorf("operation %d failed: it runs, and %+v is counted, %v", op, st.Candidate, err)
		}
	}
	if refused < 3 {
		t.Errorf("only %d of %d failures kept it from starting", refused, ops)
	}
}

// What rotted in a slot does not run; the other slot does, and then the
// package's own, and the reason is kept.
func TestRottenSlots(t *testing.T) {
	card := newCard(t)
	d := device{t, card}
	for _, s := range life[:8] { // 0.5.0 in one slot, 0.2.0 in the other
		if err := s.do(d); err != nil {
			t.Fatal(err)
		}
	}
	rot := func(slot, text string) {
		if err := durable.Replace(card, dir+"/"+slot+"/"+Binary, []byte(text), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	rot("b", "agent 0.5.1")
	s, err := d.boots("agent 0.2.0")
	if err != nil {
		t.Fatal(err)
	}
	if r := s.Last(); r == nil || r.State != wire.StateReverted || r.Reason != wire.ReasonDigest || r.Version != 5000 {
		t.Errorf("the report is %+v", r)
	}
	if err := card.Remove(dir + "/a/" + Binary); err != nil {
		t.Fatal(err)
	}
	got, fault := boot(t, card, "0.1.0")
	if got.what != "package" || fault == nil || !strings.Contains(fault.Error(), "slot a") {
		t.Errorf("%q runs: %v", got.what, fault)
	}
	// It says so once, and takes the next version.
	if _, fault := boot(t, card, "0.1.0"); fault != nil {
		t.Error(fault)
	}
	if err := errors.Join(installed("package", "0.6.0")(d), confirmed("0.6.0")(d)); err != nil {
		t.Error(err)
	}
}

// A candidate that cannot be started is over; what was confirmed is for that
// start only: the machine may have lacked memory.
func TestBinaryThatDoesNotStart(t *testing.T) {
	card := newCard(t)
	d := device{t, card}
	for _, s := range life[:3] {
		if err := s.do(d); err != nil {
			t.Fatal(err)
		}
	}
	var tried []string
	fault := Launch(card, dir, "0.1.0", "a boot", func(_, mark string) error {
		tried = append(tried, mark)
		return syscall.ENOEXEC
	})
	if !errors.Is(fault, syscall.ENOEXEC) || strings.Join(tried, " ") != "b a" {
		t.Errorf("tried %v: %v", tried, fault)
	}
	s, err := d.boots("agent 0.2.0")
	if err != nil || s.Last() == nil || s.Last().Reason != wire.ReasonBroken {
		t.Errorf("%v, %+v", err, s.Last())
	}
}

func TestTornStateRunsThePackage(t *testing.T) {
	for _, text := range []string{"", "{", `{"v":2,"active":-1}`, `{"v":1,"active":1,"slots":[{},{}]}`, strings.Repeat(" ", maxState+1)} {
		card := newCard(t)
		if err := durable.Replace(card, dir+"/"+StateFile, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		s, fault := boot(t, card, "0.1.0")
		if s.what != "package" || !errors.Is(fault, ErrState) {
			t.Errorf("%.20q: %q runs: %v", text, s.what, fault)
		}
		store, err := Open(card, dir, "")
		if !errors.Is(err, ErrState) {
			t.Errorf("%.20q: %v", text, err)
		}
		if err := install(store, "0.2.0", 3); err != nil {
			t.Error(err)
		}
		if err := confirmed("0.2.0")(device{t, card}); err != nil {
			t.Errorf("%.20q: %v", text, err)
		}
	}
}

// A package that was upgraded past the slots goes before them; one that was
// not, does not.
func TestNewerPackage(t *testing.T) {
	for _, c := range []struct{ packaged, want string }{
		{"0.1.0", "agent 0.2.0"}, {"0.1.9", "agent 0.2.0"}, {"0.2.0", "package"}, {"0.3.0", "package"}, {"odd", "agent 0.2.0"},
	} {
		card := newCard(t)
		d := device{t, card}
		for _, s := range life[:2] {
			if err := s.do(d); err != nil {
				t.Fatal(err)
			}
		}
		if s, fault := boot(t, card, c.packaged); s.what != c.want || fault != nil {
			t.Errorf("package %s: %q runs, %v", c.packaged, s.what, fault)
		}
		if s, _ := boot(t, card, c.packaged); s.what != c.want {
			t.Errorf("package %s, again: %q runs", c.packaged, s.what)
		}
	}
	// Nor does one that came before the first start of what was installed.
	for packaged, want := range map[string]string{"0.1.9": "agent 0.2.0", "0.2.0": "package"} {
		card := newCard(t)
		if err := life[0].do(device{t, card}); err != nil {
			t.Fatal(err)
		}
		if s, fault := boot(t, card, packaged); s.what != want || fault != nil {
			t.Errorf("package %s, before the first start: %q runs, %v", packaged, s.what, fault)
		}
	}
	// A candidate that is no newer is over; one that is goes on.
	for packaged, want := range map[string]string{"0.2.9": "agent 0.3.0", "0.3.0": "package"} {
		card := newCard(t)
		d := device{t, card}
		for _, s := range life[:2] {
			if err := s.do(d); err != nil {
				t.Fatal(err)
			}
		}
		s, err := d.boots("agent 0.2.0")
		if err == nil {
			err = install(s, "0.3.0", 3)
		}
		if err != nil {
			t.Fatal(err)
		}
		if s, fault := boot(t, card, packaged); s.what != want || fault != nil {
			t.Errorf("package %s: %q runs, %v", packaged, s.what, fault)
		}
	}
}

func TestStopIsNoCrash(t *testing.T) {
	card := newCard(t)
	d := device{t, card}
	if err := life[0].do(d); err != nil {
		t.Fatal(err)
	}
	for range 10 {
		s, err := d.boots("agent 0.2.0")
		if err == nil {
			err = s.GiveBack(3)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	s, err := d.boots("agent 0.2.0")
	if err != nil {
		t.Fatal(err)
	}
	if b, trial, ok := s.Running(); !ok || !trial || b.Version != "0.2.0" {
		t.Errorf("%+v, %v, %v runs", b, trial, ok)
	}
	if _, _, err := s.Write(strings.NewReader("x")); !errors.Is(err, ErrTrial) {
		t.Errorf("a slot was written to during a trial: %v", err)
	}
}

// readerFunc is called for what is read.
type readerFunc func() (int, error)

func (f readerFunc) Read([]byte) (int, error) { return f() }

// Whoever asks what runs does not wait for what is being written.
func TestWriteKeepsNobodyWaiting(t *testing.T) {
	s, err := Open(newCard(t), dir, "")
	if err != nil {
		t.Fatal(err)
	}
	_, _, err = s.Write(readerFunc(func() (int, error) {
		told := make(chan struct{})
		go func() {
			defer close(told)
			s.Running()
			s.Offer()
			s.Previous()
		}()
		select {
		case <-told:
			return 0, io.EOF
		case <-time.After(time.Minute):
			return 0, errors.New("they wait")
		}
	}))
	if err != nil {
		t.Error(err)
	}
}

// On the machine's own file system the binary can be started.
func TestWrittenBinaryIsExecutable(t *testing.T) {
	s, err := Open(durable.OS, t.TempDir(), "")
	if err != nil {
		t.Fatal(err)
	}
	file, _, err := s.Write(strings.NewReader("#!/bin/sh\n"))
	if err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(file); err != nil || info.Mode().Perm()&0o100 == 0 {
		t.Errorf("%v, %v", info, err)
	}
}

func TestJudge(t *testing.T) {
	r := Rules{Healthy: time.Minute, Grace: 10 * time.Minute, Hub: true}
	for name, c := range map[string]struct {
		r    Rules
		s    Seen
		done bool
		why  wire.Reason
	}{
		"young":                   {r, Seen{Age: 59 * time.Second, Healthy: 59 * time.Second, Heard: true, Examined: true}, false, ""},
		"a healthy minute":        {r, Seen{Age: time.Minute, Healthy: time.Minute, Heard: true, Examined: true}, true, ""},
		"exam under way":          {r, Seen{Age: time.Minute, Healthy: time.Minute, Heard: true}, false, ""},
		"exam that does not end":  {r, Seen{Age: time.Hour, Healthy: time.Hour, Heard: true}, true, wire.ReasonExam},
		"not heard yet":           {r, Seen{Age: 9 * time.Minute, Healthy: 9 * time.Minute}, false, ""},
		"heard late":              {r, Seen{Age: 9 * time.Minute, Healthy: 9 * time.Minute, Heard: true, Examined: true}, true, ""},
		"never heard":             {r, Seen{Age: 10 * time.Minute, Healthy: 10 * time.Minute}, true, wire.ReasonNoHub},
		"a fault on the way":      {r, Seen{Age: 5 * time.Minute, Healthy: 10 * time.Second, Heard: true, Examined: true}, false, ""},
		"one fault after another": {r, Seen{Age: 12 * time.Minute, Healthy: 10 * time.Second, Heard: true, Examined: true}, true, wire.ReasonErrors},
		"no hub to be heard":      {Rules{Healthy: time.Minute, Grace: time.Minute}, Seen{Age: time.Minute, Healthy: time.Minute, Examined: true}, true, ""},
		"grace below the minute":  {Rules{Healthy: time.Hour, Grace: time.Minute, Hub: true}, Seen{Age: 2 * time.Minute, Healthy: 2 * time.Minute, Heard: true, Examined: true}, false, ""},
	} {
		if done, why, _ := c.r.Judge(c.s); done != c.done || why != c.why {
			t.Errorf("%s: %v, %q", name, done, why)
		}
	}
}

func FuzzParseState(f *testing.F) {
	f.Add([]byte(`{"v":1,"factory":"0.1.0","slots":[{},{}],"active":-1}`))
	f.Add([]byte(`{"v":1,"slots":[{"version":"0.2.0","number":2000,"digest":"d","sha256":"` + strings.Repeat("0", 64) + `","size":3},{}],"active":0,"candidate":{"offer":{"manifest":"x"},"build":{"digest":"x","sha256":"` + strings.Repeat("f", 64) + `"},"slot":1,"tries":2}}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		if len(data) > 4096 {
			return
		}
		card := newCard(t)
		if err := durable.Replace(card, dir+"/"+StateFile, data, 0o600); err != nil {
			t.Fatal(err)
		}
		if s, _ := boot(t, card, "0.1.0"); s.what != "package" {
			t.Fatalf("%q runs, and no slot has a binary", s.what)
		}
		s, err := Open(card, dir, "")
		if err == nil && s.Offer() != nil {
			t.Error("a candidate without a binary is still one")
		}
		if err := install(s, "0.9.0", 1); err != nil {
			t.Error(err)
		}
	})
}
