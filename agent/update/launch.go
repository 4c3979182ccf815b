package update

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strings"

	"dunlin/internal/durable"
	"dunlin/internal/release"
	"dunlin/sync/wire"
)

// Launch has the binary run whose turn it is: run is called with its file and
// the mark of its slot, and returns only where it could not be started. Launch
// returns where it is the turn of the package's own binary, of version
// factory: with nil, or with why what was to run could not. boot names this
// boot of the machine; "": it is not known, and no version is ever passed over.
//
// It writes to the folder only what has to be there before the next step, and
// nothing at all where nothing was ever installed.
func Launch(fsys durable.FS, dir, factory, boot string, run func(file, mark string) error) error {
	s, err := Open(fsys, dir, "")
	if err != nil {
		return err
	}
	l := &launcher{Store: s}
	l.packaged(factory)
	l.counted(boot)
	for {
		slot, b := l.next()
		l.count(slot)
		if slot < 0 {
			return l.fault
		}
		l.unstarted(slot, fmt.Errorf("start %s: %w", b.Version, run(l.binary(slot), slotNames[slot])))
	}
}

// launcher decides what runs. What it cannot write it still goes by, so that
// a full or broken card does not keep it from an end.
type launcher struct {
	*Store
	starts starts  // of this boot
	failed [2]bool // slots that are not tried again at this start
	fault  error
}

func (l *launcher) keep(next state) error {
	err := l.put(next)
	l.st = next
	l.fault = errors.Join(l.fault, err)
	return err
}

// packaged compares the package's binary with the one that ran last: a package
// that was upgraded past the slots goes before them.
func (l *launcher) packaged(factory string) {
	st := l.st
	if st.Factory == factory || st.Active < 0 && st.Candidate == nil && st.Last == nil {
		return
	}
	changed := st.Factory != ""
	st.Factory = factory
	if n, err := release.Number(factory); err == nil && changed {
		if c := st.Candidate; c != nil && c.Build.Number <= n {
			st = st.ended(wire.ReasonOlder, fmt.Errorf("the package brought %s meanwhile", factory), clock())
		}
		if st.Active >= 0 && st.active().Number <= n {
			st.Slots, st.Active = [2]Build{}, -1
		}
	}
	_ = l.keep(st) // it is said in fault
}

// next returns the slot whose turn it is, -1 for the package's own.
func (l *launcher) next() (slot int, b Build) {
	if c := l.st.Candidate; c != nil {
		switch started, err := l.begin(*c); {
		case err != nil: // it is not on disk, so it would not be counted: the one before runs
		case !started:
			return l.next()
		default:
			return c.Slot, c.Build
		}
	}
	for _, slot := range l.st.order() {
		if l.failed[slot] = l.failed[slot] || l.passedOver(slot); l.failed[slot] {
			continue
		}
		b := l.st.Slots[slot]
		err := l.whole(slot, b)
		if err == nil {
			return slot, b
		}
		l.fault, l.failed[slot] = errors.Join(l.fault, err), true
		if !lost(err) {
			continue // it may be readable at the next start
		}
		r := reportOf(b, wire.StateReverted, wire.ReasonDigest, err, clock())
		next := l.st
		next.drop(slot)
		next.Last = &r
		_ = l.keep(next) // it is said in fault
	}
	return -1, Build{}
}

// begin counts a start of the candidate; it is over where it has none left, or
// where its file is not what it was.
func (l *launcher) begin(c candidate) (ok bool, err error) {
	if c.Tries <= 0 {
		cause := errors.New("it was started as often as it may be and did not come to be confirmed: it crashed, hung, or the power went each time")
		return false, l.keep(l.st.ended(wire.ReasonCrashed, cause, clock()))
	}
	if err := l.whole(c.Slot, c.Build); err != nil && !lost(err) {
		l.fault = errors.Join(l.fault, err)
		return false, err
	} else if err != nil {
		return false, l.keep(l.st.ended(wire.ReasonDigest, err, clock()))
	}
	next := l.st
	c.Tries--
	next.Candidate = &c
	if err := l.put(next); err != nil {
		l.fault = errors.Join(l.fault, err)
		return false, err
	}
	return true, nil
}

// unstarted takes the turn from a build that is whole and could not be started:
// for good from a candidate, for this start from one that was confirmed.
func (l *launcher) unstarted(slot int, err error) {
	l.fault = errors.Join(l.fault, err)
	if c := l.st.Candidate; c != nil && c.Slot == slot {
		_ = l.keep(l.st.ended(wire.ReasonBroken, err, clock())) // it is said in fault
		return
	}
	l.failed[slot] = true
	l.starts.marks = strings.TrimSuffix(l.starts.marks, slotNames[slot]) // it did not die
}

// errHash is wrapped where a slot holds something else than was written to it.
var errHash = errors.New("it is not what was installed")

// lost tells a binary that is gone from one that could not be read just now.
func lost(err error) bool { return errors.Is(err, errHash) || errors.Is(err, fs.ErrNotExist) }

// whole hashes the binary in a slot.
func (s *Store) whole(slot int, b Build) error {
	f, err := s.fsys.Open(s.binary(slot))
	if err != nil {
		return fmt.Errorf("slot %s: %w", slotNames[slot], err)
	}
	h := sha256.New()
	n, err := io.Copy(h, io.LimitReader(f, release.MaxBinary+1))
	if err := errors.Join(err, f.Close()); err != nil {
		return fmt.Errorf("slot %s: %w", slotNames[slot], err)
	}
	if sum := hex.EncodeToString(h.Sum(nil)); n != b.Size || sum != b.SHA256 {
		return fmt.Errorf("slot %s: %s has %d bytes with the hash %s, installed were %d with %s: %w", slotNames[slot], b.Version, n, sum, b.Size, b.SHA256, errHash)
	}
	return nil
}

// clock is what a launcher knows of the time.
func clock() wire.Clock { return wire.ReadClock(wire.ClockNone) }
