// Package update keeps the binaries of the agent: two slots for versions that
// the hub sent, beside the one that the device's package brought. Start with
// Launch, which the package's own binary calls before anything else, and Open,
// with which the version that runs puts a new one on trial.
//
// Its promise: whatever is killed or unplugged, the next start runs a binary
// that is whole to the byte and was confirmed here, or one on trial that has a
// try left, or the package's own. A version on trial goes back by itself when
// it was started as often as it may be without being confirmed, and one that was
// confirmed and comes to crash is passed over until the next boot (starts.go).
//
// It fetches nothing, checks no signature and starts no process: the agent
// does, and decides by Judge when a version is confirmed. Whoever can write to
// its folder can run anything as the agent's user, which is the agent's user
// alone.
package update

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"sync"

	"dunlin/internal/durable"
	"dunlin/internal/release"
	"dunlin/sync/wire"
)

// The names in the folder: the state, and a binary in each slot's folder.
const (
	StateFile = "update.json"
	Binary    = "dunlin-agent"
)

var slotNames = [2]string{"a", "b"}

// Store is the slots and their state. Its methods may be called from many
// goroutines; one process at a time has the folder.
type Store struct {
	dir  string
	fsys durable.FS
	mark string // the slot that this process was started from, "": the package's own

	// writing is held by who changes which slot is idle, or writes to it, which
	// may take a minute: those who only ask wait for mu alone. It is taken first.
	writing sync.Mutex
	mu      sync.Mutex // guards what follows, over each change of it
	st      state
}

// Open reads the state in dir for the process that was started from the slot
// mark ("a", "b", "" for the package's own). A state that cannot be read is an
// error, and with it comes a Store in which nothing was ever installed.
func Open(fsys durable.FS, dir, mark string) (*Store, error) {
	s := &Store{dir: dir, fsys: fsys, mark: mark}
	var err error
	s.st, err = loadState(fsys, s.path(StateFile))
	return s, err
}

func (s *Store) path(elem ...string) string {
	return filepath.Join(append([]string{s.dir}, elem...)...)
}

func (s *Store) binary(slot int) string { return s.path(slotNames[slot], Binary) }

// put makes a state last, and then the one in use; s.mu is held.
func (s *Store) put(next state) error {
	if err := next.save(s.fsys, s.path(StateFile)); err != nil {
		return err
	}
	s.st = next
	return nil
}

// Running is the build that this process is, and whether it is on trial. ok
// is false for the package's own.
func (s *Store) Running() (b Build, trial, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if c := s.st.Candidate; c != nil && s.mark == slotNames[c.Slot] {
		return c.Build, true, true
	}
	for i, b := range s.st.Slots {
		if b.Digest != "" && s.mark == slotNames[i] {
			return b, false, true
		}
	}
	return Build{}, false, false
}

// Offer is the offer of the version on trial, nil where none is.
func (s *Store) Offer() *wire.Offer {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.st.Candidate == nil {
		return nil
	}
	o := s.st.Candidate.Offer
	return &o
}

// Previous is the build to which a rollback goes; its Digest is "" where that
// is the package's own, and of what runs from a slot in place of the active one.
func (s *Store) Previous() Build {
	s.mu.Lock()
	defer s.mu.Unlock()
	if c := s.st.Candidate; c != nil && s.mark == slotNames[c.Slot] {
		return s.st.active()
	}
	if s.slot() >= 0 && s.standsIn() { // the other slot would be itself
		return Build{}
	}
	return s.st.previous()
}

// Newest is the highest number that was ever confirmed here.
func (s *Store) Newest() int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.st.Newest
}

// Last is how the last candidate ended, or why a slot was lost; nil where
// neither ever happened.
func (s *Store) Last() *wire.Report {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.st.Last
}

// ErrTrial is returned by Write while a version is on trial.
var ErrTrial = errors.New("a version is on trial")

// Write puts a binary into the slot that does not run, whole and synced, and
// returns its file and its hash. The slot counts as empty until Begin.
func (s *Store) Write(content io.Reader) (file, sum string, err error) {
	s.writing.Lock()
	defer s.writing.Unlock()
	slot, err := s.empty()
	if err != nil {
		return "", "", err
	}
	file = s.binary(slot)
	if err := durable.Mkdir(s.fsys, filepath.Dir(file), 0o750); err != nil {
		return "", "", err
	}
	if err := durable.DropTemps(s.fsys, file); err != nil {
		return "", "", err
	}
	sum, err = s.copy(file, content)
	if err != nil {
		return "", "", fmt.Errorf("write %s: %w", file, err)
	}
	return file, sum, nil
}

// empty forgets what is in the slot that does not run, and returns it.
func (s *Store) empty() (slot int, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.st.Candidate != nil {
		return 0, ErrTrial
	}
	next := s.st
	if i := s.slot(); i >= 0 && s.standsIn() {
		next.Active = i // the new one goes back to what runs now
	}
	slot = next.idle()
	if next.Slots[slot].Digest == "" && next.Active == s.st.Active {
		return slot, nil
	}
	next.Slots[slot] = Build{}
	return slot, s.put(next)
}

func (s *Store) copy(file string, content io.Reader) (sum string, err error) {
	tmp := durable.TempName(file)
	f, err := s.fsys.Create(tmp, 0o755)
	if err != nil {
		return "", err
	}
	h := sha256.New()
	n, err := io.Copy(io.MultiWriter(f, h), io.LimitReader(content, release.MaxBinary+1))
	if err == nil && n > release.MaxBinary {
		err = fmt.Errorf("more than %d bytes", release.MaxBinary)
	}
	if err := errors.Join(err, f.Close()); err != nil {
		return "", errors.Join(err, s.fsys.Remove(tmp))
	}
	return hex.EncodeToString(h.Sum(nil)), durable.Move(s.fsys, tmp, file)
}

// Begin puts what Write wrote on trial: from the next start on it runs, tries
// times at most. self is the version that asks for it: where that is the
// package's own, a package that is upgraded before the next start is noticed.
func (s *Store) Begin(o wire.Offer, b Build, tries int, self string) error {
	s.writing.Lock()
	defer s.writing.Unlock()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.st.Candidate != nil {
		return ErrTrial
	}
	next := s.st
	next.Candidate = &candidate{Offer: o, Build: b, Slot: s.st.idle(), Tries: tries}
	if s.mark == "" {
		next.Factory = self
	}
	s.forgetStarts()
	return s.put(next)
}

// Confirm ends the trial well: the candidate runs from now on. It returns the
// report of that.
func (s *Store) Confirm(at wire.Clock) (wire.Report, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	next := s.st
	if next.Candidate == nil {
		return wire.Report{}, errors.New("no version is on trial")
	}
	r := reportOf(next.Candidate.Build, wire.StateActive, wire.ReasonNone, nil, at)
	next.confirm()
	next.Last = &r
	return r, s.put(next)
}

// End ends the trial badly: the version before runs from the next start on.
func (s *Store) End(why wire.Reason, cause error, at wire.Clock) (wire.Report, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.st.Candidate == nil {
		return wire.Report{}, nil
	}
	next := s.st.ended(why, cause, at)
	return *next.Last, s.put(next)
}

// ended is the state without its candidate, which goes back.
func (s state) ended(why wire.Reason, cause error, at wire.Clock) state {
	r := reportOf(s.Candidate.Build, wire.StateReverted, why, cause, at)
	s.Candidate, s.Last = nil, &r
	return s
}

// GiveBack takes back that this start of a candidate was counted: the process
// was stopped in order, which is no version's fault. tries bounds it.
func (s *Store) GiveBack(tries int) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	c := s.st.Candidate
	if c == nil || s.mark != slotNames[c.Slot] || c.Tries >= tries {
		return nil
	}
	again := *c
	again.Tries++
	next := s.st
	next.Candidate = &again
	return s.put(next)
}

// Exchange has the build of that digest run from the next start on, where the
// other slot holds it; it was confirmed once. ok is false where it does not.
func (s *Store) Exchange(digest string) (ok bool, err error) {
	s.writing.Lock()
	defer s.writing.Unlock()
	s.mu.Lock()
	defer s.mu.Unlock()
	if p := s.st.previous(); p.Digest == "" || p.Digest != digest || s.st.Candidate != nil {
		return false, nil
	}
	next := s.st
	next.Active = next.idle()
	s.forgetStarts()
	return true, s.put(next)
}

// Withdraw has the package's own binary run from the next start on, and
// forgets both slots and a candidate. ok is false where nothing was installed.
// The report is about what ran.
func (s *Store) Withdraw(at wire.Clock) (r wire.Report, ok bool, err error) {
	s.writing.Lock()
	defer s.writing.Unlock()
	b, _, ran := s.Running()
	s.mu.Lock()
	defer s.mu.Unlock()
	if !ran {
		return r, false, nil
	}
	next := s.st
	r = reportOf(b, wire.StateReverted, wire.ReasonDesired, nil, at)
	next.Slots, next.Active, next.Candidate, next.Last = [2]Build{}, -1, nil, &r
	return r, true, s.put(next)
}

func reportOf(b Build, to wire.State, why wire.Reason, err error, at wire.Clock) wire.Report {
	r := wire.Report{Kind: wire.OfferAgent, Name: release.Name, Version: b.Number, Digest: b.Digest, State: to, Reason: why, At: at}
	if err != nil {
		r.Error = err.Error()
		if len(r.Error) > 1000 {
			r.Error = r.Error[:1000] + "…"
		}
	}
	return r
}
