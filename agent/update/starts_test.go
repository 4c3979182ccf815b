package update

import (
	"errors"
	"fmt"
	"strings"
	"syscall"
	"testing"

	"dunlin/sync/wire"
)

// lived is a board with 0.2.0 in slot a, 0.5.0 in b, which runs, and the
// package's own.
func lived(t *testing.T) device {
	t.Helper()
	d := device{t, newCard(t)}
	for _, s := range life[:8] {
		if err := s.do(d); err != nil {
			t.Fatal(err)
		}
	}
	return d
}

// starts starts the agent n times in a boot; each time want is to run, and is
// what the last of them left.
func (d device) starts(boot string, n int, want string) *Store {
	d.t.Helper()
	var s started
	for i := range n {
		var fault error
		if s, fault = startIn(d.t, boot, d.fsys, "0.1.0"); s.what != want {
			d.t.Fatalf("%s, start %d of %d: %q runs, want %q: %v", boot, i+1, n, s.what, want, fault)
		}
	}
	store, err := Open(d.fsys, dir, s.mark)
	if err != nil {
		d.t.Fatal(err)
	}
	return store
}

func (d device) must(err error) {
	d.t.Helper()
	if err != nil {
		d.t.Fatal(err)
	}
}

// What dies again and again is passed over in this boot: the other slot runs,
// then the package's own, and where all of them die each has its turn again.
func TestCrashLoopIsPassedOver(t *testing.T) {
	d := lived(t)
	last := func(s *Store, version int64, state wire.State, why wire.Reason) {
		t.Helper()
		if r := s.Last(); r == nil || r.Version != version || r.State != state || r.Reason != why {
			t.Errorf("the last report is %+v", r)
		}
	}
	last(d.starts("x", maxDeaths, "agent 0.5.0"), 5000, wire.StateActive, wire.ReasonNone)
	s := d.starts("x", 1, "agent 0.2.0")
	last(s, 5000, wire.StateReverted, wire.ReasonCrashed)
	said := s.st
	said.Last = nil
	d.must(s.put(said))
	for _, end := range []func() error{
		func() error { return s.Ended(false) },
		func() error { _, _, err := s.Healthy(clock()); return err },
	} {
		d.must(end())
		if s = d.starts("x", 1, "agent 0.2.0"); s.Last() != nil {
			t.Error("it was said again after an end in order")
		}
	}
	s = d.starts("x", maxDeaths-1, "agent 0.2.0")
	if s.Last() != nil {
		t.Error("it was said twice")
	}
	if b, trial, ok := s.Running(); !ok || trial || b.Version != "0.2.0" {
		t.Errorf("%+v runs, on trial %v", b, trial)
	}
	if p := s.Previous(); p.Digest != "" {
		t.Errorf("it goes back to %s", p.Version)
	}
	if s = d.starts("x", 1, "package"); s.Last() != nil {
		t.Errorf("of what stood in it is said %+v", s.Last())
	}
	if p := s.Previous(); p.Version != "0.2.0" {
		t.Errorf("the package's own goes back to %q", p.Version)
	}
	for _, v := range []string{"0.5.0", "0.2.0"} {
		if _, fault := startIn(t, "x", d.fsys, "0.1.0"); fault == nil || !strings.Contains(fault.Error(), v+" died 5 times") {
			t.Errorf("the package's own is told %v", fault)
		}
	}
	d.starts("x", maxDeaths-3, "package")
	d.starts("x", maxDeaths, "agent 0.5.0")                                             // nobody is left
	last(d.starts("x", 1, "agent 0.2.0"), 5000, wire.StateReverted, wire.ReasonCrashed) // it died anew
	d.starts("x", maxDeaths-1, "agent 0.2.0")
	last(d.starts("x", maxDeaths, "package"), 5000, wire.StateReverted, wire.ReasonCrashed)
	// The next boot knows nothing of all that, and says so when it went well.
	s = d.starts("y", 1, "agent 0.5.0")
	if r, again, err := s.Healthy(clock()); err != nil || !again || r.State != wire.StateActive || r.Version != 5000 {
		t.Errorf("%+v, %v, %v", r, again, err)
	}
	last(d.starts("y", 1, "agent 0.5.0"), 5000, wire.StateActive, wire.ReasonNone)
}

// Power cuts are no crashes, however many: each is another boot. Nor is
// anything where nobody tells the boots apart.
func TestPowerCutsPassNothingOver(t *testing.T) {
	d := lived(t)
	for i := range 10 * maxDeaths {
		d.starts(fmt.Sprint("boot ", i), maxDeaths-1, "agent 0.5.0")
	}
	d.starts("", 10*maxDeaths, "agent 0.5.0")
}

// What ends in order, or after a healthy minute, did not die.
func TestEndsInOrderAreNotCounted(t *testing.T) {
	d := lived(t)
	for _, end := range []func(s *Store) error{
		func(s *Store) error { return s.Ended(false) },
		func(s *Store) error { return s.Ended(true) },
		func(s *Store) error { _, _, err := s.Healthy(clock()); return err },
	} {
		for range 2 * maxDeaths {
			d.must(end(d.starts("x", 1, "agent 0.5.0")))
		}
		s := d.starts("x", maxDeaths-1, "agent 0.5.0")
		_, _, err := s.Healthy(clock())
		d.must(err)
	}
	// Of what stands in for another, an error is one.
	d.starts("x", maxDeaths, "agent 0.5.0")
	for range 2 * maxDeaths {
		d.must(d.starts("x", 1, "agent 0.2.0").Ended(false))
	}
	for range maxDeaths {
		d.must(d.starts("x", 1, "agent 0.2.0").Ended(true))
	}
	for range maxDeaths {
		d.must(d.starts("x", 1, "package").Ended(true))
	}
	d.starts("x", 1, "agent 0.5.0")
}

// What is installed while another stands in goes back to that one, for good;
// what crashed is what gives room.
func TestInstalledByTheStandIn(t *testing.T) {
	d := lived(t)
	d.starts("x", maxDeaths, "agent 0.5.0")
	s := d.starts("x", 1, "agent 0.2.0")
	d.must(install(s, "0.6.0", 1))
	d.starts("x", 1, "agent 0.6.0")
	d.starts("y", 1, "agent 0.2.0")
	// The package's own has a slot to itself, and the one that crashed stays.
	d = lived(t)
	d.starts("x", maxDeaths, "agent 0.5.0")
	d.starts("x", maxDeaths, "agent 0.2.0")
	d.must(install(d.starts("x", 1, "package"), "0.6.0", 1))
	d.starts("x", 1, "agent 0.6.0")
	d.starts("x", 1, "agent 0.5.0") // its count began anew
}

// The hub has the last word: what stands in runs for good where it wants that,
// and what was passed over runs again.
func TestHubEndsTheStandIn(t *testing.T) {
	d := lived(t)
	d.starts("x", maxDeaths, "agent 0.5.0")
	d.must(d.starts("x", 1, "agent 0.2.0").Stay())
	s := d.starts("y", maxDeaths, "agent 0.2.0")
	d.must(s.Stay()) // it stands in for nobody
	s = d.starts("y", 1, "agent 0.5.0")
	if ok, err := s.Exchange(buildOf("0.2.0").Digest); ok || err != nil {
		t.Errorf("what is active was exchanged for itself: %v, %v", ok, err)
	}
	s = d.starts("z", 1, "agent 0.2.0")
	if ok, err := s.Exchange(buildOf("0.5.0").Digest); !ok || err != nil {
		t.Errorf("%v, %v", ok, err)
	}
	d.starts("z", maxDeaths, "agent 0.5.0") // whatever was counted before

	d.starts("z", maxDeaths, "agent 0.2.0")
	d.must(d.starts("z", 1, "package").Stay())
	s = d.starts("z", 2*maxDeaths, "package")
	if p := s.Previous(); p.Digest != "" {
		t.Errorf("%+v is left", p)
	}
}

// A card that takes no count keeps nothing from starting.
func TestUncountedStartOfWhatWasConfirmed(t *testing.T) {
	full := fmt.Errorf("write: %w", syscall.ENOSPC)
	for fail := 0; ; fail++ {
		d := lived(t)
		before := d.fsys.(interface{ Ops() int }).Ops()
		d.fsys.(interface{ FailAt(int, error) }).FailAt(fail, full)
		s, fault := startIn(t, "x", d.fsys, "0.1.0")
		if errors.Is(fault, full) && s.what == "package" {
			continue // what cannot be read does not run
		}
		if s.what != "agent 0.5.0" && s.what != "agent 0.2.0" {
			t.Fatalf("failed at %d: %q runs: %v", fail, s.what, fault)
		}
		if d.fsys.(interface{ Ops() int }).Ops()-before <= fail {
			break
		}
	}
}

// The file of the count is what a card makes of it: nothing in it keeps the
// board from starting one of what it has.
func FuzzStarts(f *testing.F) {
	for _, text := range []string{"", "x\nbbbbb", "x\nbbbbbaaaaa", "x\nbbbbbaaaaappppp", "x\nbbbbbz", "bbbbb", "y\nbbbbb", "x\n" + strings.Repeat("b", maxStarts)} {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		if len(data) > 2*maxStarts {
			return
		}
		d := lived(t)
		file, err := d.fsys.Create(dir+"/"+startsFile, 0o600)
		d.must(err)
		_, err = file.Write(data)
		d.must(errors.Join(err, file.Close()))
		s, _ := startIn(t, "x", d.fsys, "0.1.0")
		if s.what != "agent 0.5.0" && !strings.HasPrefix(string(data), "x\n") {
			t.Errorf("%q runs", s.what)
		}
		if s, fault := boot(t, d.fsys, "0.1.0"); s.what != "agent 0.5.0" || fault != nil {
			t.Errorf("at the next boot %q runs: %v", s.what, fault)
		}
	})
}
