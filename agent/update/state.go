package update

import (
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"

	"dunlin/internal/durable"
	"dunlin/sync/wire"
)

// What is on disk, and when it changes. Each arrow is the state file replaced
// whole (durable.Replace), before the step it stands for is taken:
//
//	                 ┌──── reverted: candidate := nil, last := why ◄─────┐
//	                 ▼                                                   │
//	slots, active ──Begin──► candidate{tries: n} ──start──► {tries: n-1} ┤ (each start, before it)
//	                 ▲                                                   │
//	                 └── confirmed: its slot := candidate, active := it ◄┘
//
// A slot that is written to is forgotten first, and is never the active one,
// so the state names no file that is not whole. Fields are only ever added:
// the launcher of an older package reads what a newer agent wrote.

// state is the content of the state file.
type state struct {
	Format int `json:"v"`
	// Factory is the version of the package's own binary, as it last ran. A
	// package that changed since then goes before slots that are no newer.
	Factory   string       `json:"factory"`
	Slots     [2]Build     `json:"slots"`  // a and b; confirmed
	Active    int          `json:"active"` // index of the slot that runs, -1: the package's own
	Candidate *candidate   `json:"candidate,omitempty"`
	Newest    int64        `json:"newest,omitempty"` // highest number that was ever confirmed
	Last      *wire.Report `json:"last,omitempty"`   // how the last candidate, or slot that was lost, ended
}

// Build is a binary in a slot.
type Build struct {
	Version string `json:"version,omitempty"` // "0.2.0"
	Number  int64  `json:"number,omitempty"`  // the same, as offers have it
	Digest  string `json:"digest,omitempty"`  // of the release's manifest; "": the slot is empty
	SHA256  string `json:"sha256,omitempty"`  // of the file, in hex
	Size    int64  `json:"size,omitempty"`    // bytes
}

// candidate is a version on trial.
type candidate struct {
	Offer wire.Offer `json:"offer"`
	Build Build      `json:"build"`
	Slot  int        `json:"slot"`
	// Tries is how often it may still be started. It is written before each
	// start, so that a version which never comes to do anything is counted.
	Tries int `json:"tries"`
}

const (
	stateFormat = 1
	maxState    = 64 << 10
)

func emptyState() state { return state{Format: stateFormat, Active: -1} }

// active returns the build that runs when none is on trial; its Digest is ""
// where that is the package's own.
func (s *state) active() Build {
	if s.Active < 0 {
		return Build{}
	}
	return s.Slots[s.Active]
}

// idle returns the index of the slot that may be written to.
func (s *state) idle() int {
	if s.Active == 0 {
		return 1
	}
	return 0
}

// previous returns the build to which a rollback goes, empty where that is
// the package's own.
func (s *state) previous() Build {
	if s.Active < 0 {
		return Build{}
	}
	return s.Slots[s.idle()]
}

// order returns the slots that may be started, the first that can be is.
func (s *state) order() (slots []int) {
	if s.Active < 0 {
		return nil
	}
	slots = []int{s.Active}
	if i := s.idle(); s.Slots[i].Digest != "" {
		slots = append(slots, i)
	}
	return slots
}

// drop forgets the build in a slot, which cannot be run any more; where it was
// the active one, the other slot's is, or the package's own.
func (s *state) drop(slot int) {
	s.Slots[slot] = Build{}
	if s.Active == slot {
		s.Active = s.idle()
	}
	if s.active().Digest == "" {
		s.Active = -1
	}
}

// confirm makes the candidate the active build.
func (s *state) confirm() {
	c := s.Candidate
	s.Slots[c.Slot], s.Active, s.Candidate = c.Build, c.Slot, nil
	s.Newest = max(s.Newest, c.Build.Number)
}

func (s *state) save(fsys durable.FS, path string) error {
	data, err := json.MarshalIndent(s, "", " ")
	if err == nil {
		err = durable.Replace(fsys, path, append(data, '\n'), 0o600)
	}
	if err != nil {
		return fmt.Errorf("state of the update: %w", err)
	}
	return nil
}

// ErrState is returned, wrapped, for a state file that says nothing sensible.
var ErrState = errors.New("not a state of updates")

// loadState reads the state file; where there is none, the slots are empty.
func loadState(fsys durable.FS, path string) (state, error) {
	info, err := fsys.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return emptyState(), nil
	}
	if err == nil && info.Size() > maxState {
		err = fmt.Errorf("%d bytes: %w", info.Size(), ErrState)
	}
	if err != nil {
		return emptyState(), fmt.Errorf("%s: %w", path, err)
	}
	data, err := fsys.ReadFile(path)
	if err != nil {
		return emptyState(), fmt.Errorf("state of the update: %w", err)
	}
	s, err := parseState(data)
	if err != nil {
		return emptyState(), fmt.Errorf("%s: %w", path, err)
	}
	return s, nil
}

// parseState checks what a worn card may have made of the file.
func parseState(data []byte) (state, error) {
	var s state
	if err := json.Unmarshal(data, &s); err != nil {
		return state{}, fmt.Errorf("%w: %w", ErrState, err)
	}
	switch c := s.Candidate; {
	case s.Format != stateFormat:
		return state{}, fmt.Errorf("format %d, this agent reads %d: %w", s.Format, stateFormat, ErrState)
	case s.Active < -1 || s.Active > 1:
		return state{}, fmt.Errorf("active slot %d: %w", s.Active, ErrState)
	case s.Active >= 0 && s.active().Digest == "":
		return state{}, fmt.Errorf("the active slot is empty: %w", ErrState)
	case c != nil && (c.Slot < 0 || c.Slot > 1 || c.Slot == s.Active || c.Build.Digest == "" || c.Build.Digest != c.Offer.Manifest):
		return state{}, fmt.Errorf("candidate in slot %d, active is %d: %w", c.Slot, s.Active, ErrState)
	}
	builds := s.Slots[:]
	if s.Candidate != nil {
		builds = append(builds[:2:2], s.Candidate.Build)
	}
	for _, b := range builds {
		if sum, err := hex.DecodeString(b.SHA256); b.Digest != "" && (err != nil || len(sum) != 32) {
			return state{}, fmt.Errorf("build %.40q has the hash %.80q: %w", b.Version, b.SHA256, ErrState)
		}
	}
	return s, nil
}
