package update

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"strings"

	"dunlin/sync/wire"
)

// A version that was confirmed may come to crash later: by a date, by a picture
// that nobody had thought of, by what its own files have grown to. So a start
// is counted until its process has lived for a healthy minute or ended in
// order, and a binary that died maxDeaths times in a row is passed over:
//
//	active ──5 deaths──► the other slot ──5──► the package's own ──5──► active, …
//
// The count is of one boot of the machine, and that is all that is decided by
// it. A board that loses its power again and again is in another boot each
// time, so it never passes over anything; one whose memory was short for an
// hour has its version again at the next boot; and where all of them die it is
// no version's fault, and each has its turn. What stands in for another becomes
// the one that runs for good only where the hub wants it, or has something
// installed in its place. The price is that a version which takes the whole
// machine down is never passed over: nobody can tell it from bad power.
//
// For the same reason nothing of it is synced: a file outlives a dead process
// without that, and a power cut ends the count anyway.
//
// A process that ends with an error has ended in order. It says why, and that
// is a configuration, a full disk, a port that is taken: the version before
// would find the same. Only of what stands in for another is more asked: it
// may be too old for the files of the one that it stands in for.

const (
	startsFile = "starts"
	maxStarts  = 4096 // bytes of it that are read
	maxDeaths  = 5
	ofPackage  = "p" // the mark of the package's own, in the file
)

// starts are the starts of one boot that were not called off: the boot's id,
// and below it a mark for each.
type starts struct{ boot, marks string }

func (s starts) of(mark string) int { return strings.Count(s.marks, mark) }

// readStarts reads the count. What a card made of it, and what another boot
// left, is none.
func (s *Store) readStarts() starts {
	path := s.path(startsFile)
	if info, err := s.fsys.Stat(path); err != nil || info.Size() > maxStarts {
		return starts{}
	}
	text, err := s.fsys.ReadFile(path)
	boot, marks, _ := strings.Cut(string(text), "\n")
	if err != nil {
		return starts{}
	}
	return starts{boot, marks}
}

func (s *Store) writeStarts(c starts) error {
	path := s.path(startsFile)
	if c.marks == "" {
		if err := s.fsys.Remove(path); !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		return nil
	}
	f, err := s.fsys.Create(path, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write([]byte(c.boot + "\n" + c.marks))
	return errors.Join(err, f.Close())
}

// slot is the index of the slot that this process runs from, -1 for the
// package's own.
func (s *Store) slot() int {
	for i, name := range slotNames {
		if s.mark == name {
			return i
		}
	}
	return -1
}

// standsIn tells whether this process runs in place of the build whose turn it
// would be; s.mu is held.
func (s *Store) standsIn() bool {
	i := s.slot()
	return s.st.Candidate == nil && s.st.Active >= 0 && i != s.st.Active && (i < 0 || s.st.Slots[i].Digest != "")
}

// StandsIn tells whether this process runs until the next boot only, in place of
// a build that was passed over in this one: what it cannot read may be that
// one's. What runs because the other's file cannot be read may do so for years.
func (s *Store) StandsIn() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.standsIn() && s.readStarts().of(slotNames[s.st.Active]) >= maxDeaths
}

// Healthy ends the count of this process: it has lived long enough. again is
// true for a build that was passed over in an earlier boot, and r says that it
// runs after all.
func (s *Store) Healthy(at wire.Clock) (r wire.Report, again bool, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	c := s.readStarts()
	if mark := cmp.Or(s.mark, ofPackage); c.of(mark) > 0 {
		c.marks = strings.ReplaceAll(c.marks, mark, "")
		err = s.writeStarts(c)
	}
	b, last := s.st.active(), s.st.Last
	if s.slot() != s.st.Active || b.Digest == "" || last == nil || last.Digest != b.Digest || last.State != wire.StateReverted {
		return r, false, err
	}
	next := s.st
	r = reportOf(b, wire.StateActive, wire.ReasonNone, nil, at)
	next.Last = &r
	return r, true, errors.Join(err, s.put(next))
}

// Ended takes back that this start was counted: the process ends in order.
// failed says that it does so with an error, which is counted of what stands
// in for another.
func (s *Store) Ended(failed bool) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if failed && s.standsIn() {
		return nil
	}
	c := s.readStarts()
	mark := cmp.Or(s.mark, ofPackage)
	if c.of(mark) == 0 {
		return nil
	}
	c.marks = strings.Replace(c.marks, mark, "", 1)
	return s.writeStarts(c)
}

// Stay makes what stands in for another the one that runs from now on: it is
// what the hub wants.
func (s *Store) Stay() error {
	s.writing.Lock()
	defer s.writing.Unlock()
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.standsIn() {
		return nil
	}
	next := s.st
	if next.Active = s.slot(); next.Active < 0 {
		next.Slots = [2]Build{}
	}
	return s.put(next)
}

// forgetStarts begins the count anew, for what somebody has decided to start.
func (s *Store) forgetStarts() { _ = s.writeStarts(starts{}) } // at worst it has fewer starts

// counted is the launcher's part: it reads the count of this boot, which is
// over where no build is left that was not passed over.
func (l *launcher) counted(boot string) {
	l.starts = starts{boot: boot}
	if boot == "" || l.st.Active < 0 {
		return
	}
	c := l.readStarts()
	if c.boot != boot {
		return
	}
	left := c.of(ofPackage) < maxDeaths
	for _, slot := range l.st.order() {
		left = left || c.of(slotNames[slot]) < maxDeaths
	}
	if left {
		l.starts = c
	}
}

// count counts a start that is about to happen. What cannot be counted is
// started all the same: it was confirmed, or is the last resort. A build on
// trial has a count of its own.
func (l *launcher) count(slot int) {
	c := l.st.Candidate
	if l.starts.boot == "" || l.st.Active < 0 || c != nil && c.Slot == slot {
		return
	}
	mark := ofPackage
	if slot >= 0 {
		mark = slotNames[slot]
	}
	l.starts.marks += mark
	_ = l.writeStarts(l.starts)
}

// passedOver tells whether a slot is not to be started in this boot. Of the
// active one that is told, once: a mark more says that it was. Of what stood in
// for it the fault alone says it, for the hub takes a report for the end of what
// it wants.
func (l *launcher) passedOver(slot int) bool {
	mark, b := slotNames[slot], l.st.Slots[slot]
	if l.starts.of(mark) < maxDeaths {
		return false
	}
	cause := fmt.Errorf("%s died %d times in a row since the board started, none of them in order or after a healthy minute: another version stands in for it until the board starts again, or the hub sends one", b.Version, maxDeaths)
	l.fault = errors.Join(l.fault, cause)
	if slot == l.st.Active && l.starts.of(mark) == maxDeaths {
		next := l.st
		r := reportOf(b, wire.StateReverted, wire.ReasonCrashed, cause, clock())
		next.Last = &r
		if l.keep(next) == nil { // else it is said in fault, and told at the next start
			l.starts.marks += mark
		}
	}
	return true
}
