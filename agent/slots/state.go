package slots

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"

	"dunlin/internal/durable"
	"dunlin/sync/wire"
)

// What is on disk, and when it changes. Each arrow is one file replaced
// whole (durable.Replace), before the step it stands for is taken:
//
//	             ┌────────────── refused / reverted: candidate := nil ◄──────┐
//	             ▼                                                           │
//	slots, active ──Try──► candidate{examining, attempt} ──► {trial, attempt}┤
//	             ▲                                                           │
//	             └── committed: the idle slot := candidate, active := it ◄───┘
//
// What was learned here goes the same way: a candidate whose offer has the kind
// "learned" is the active model with another head, and a commit writes it into
// the active slot. Whatever else changes that slot forgets it.
//
// The two slots and the one that is active change only at a commit, a rollback,
// or where the hub wants no model any more (Withdraw). A cut anywhere else
// leaves the committed model where it was, so
// a device that ever had one always has one.

// state is the content of the state file.
type state struct {
	Version   int              `json:"v"`
	Slots     [2]slot          `json:"slots"`  // A and B
	Active    int              `json:"active"` // index of the slot that answers, -1: none yet
	Candidate *candidate       `json:"candidate,omitempty"`
	Newest    map[string]int64 `json:"newest,omitempty"` // highest version that was ever committed, by name
	Left      string           `json:"left,omitempty"`   // digest of the model that a rollback left
	Local     int64            `json:"local,omitempty"`  // how many heads were learned here and tried
	Last      *wire.Report     `json:"last,omitempty"`
}

// slot holds one committed model, by digest; its blobs are in the layout.
type slot struct {
	Name    string  `json:"name,omitempty"`
	Version int64   `json:"version,omitempty"`
	Digest  string  `json:"digest,omitempty"` // "": the slot is empty
	P95MS   float64 `json:"p95_ms,omitempty"` // of its trial
	// Learned is the head that answers in place of the signed one, nil: none.
	Learned *learned `json:"learned,omitempty"`
}

// learned names a head that was learned on this device: a file beside the
// state file, by the SHA-256 of its text.
type learned struct {
	N    int64  `json:"n"`
	File string `json:"sha256"`
}

// kindLearned is the kind of a candidate that no offer brought. Try takes none
// of it, and the hub is not told of one.
const kindLearned wire.OfferKind = "learned"

// candidate is an offer on its way into a slot.
type candidate struct {
	Offer wire.Offer `json:"offer"`
	Stage wire.State `json:"stage"` // StateExamining or StateTrial
	// Attempt counts how often the stage was begun. It is written before the
	// stage begins, so that a model which takes the process down is counted.
	Attempt int `json:"attempt"`
	// Learned is set where the offer has kindLearned, and only there.
	Learned *learned `json:"learned,omitempty"`
}

const (
	stateVersion = 1
	maxState     = 256 << 10
	maxNames     = 64 // of models, in Newest
	// MaxAttempts is how often a model may take the process down.
	MaxAttempts = 3
)

func emptyState() state { return state{Version: stateVersion, Active: -1} }

// active returns the slot that answers; its Digest is "" where there is none.
func (s *state) active() slot {
	if s.Active < 0 {
		return slot{}
	}
	return s.Slots[s.Active]
}

// idle returns the index of the slot that does not answer.
func (s *state) idle() int {
	if s.Active == 0 {
		return 1
	}
	return 0
}

// previous returns the slot to which a rollback goes, empty where there is
// none.
func (s *state) previous() slot {
	if s.Active < 0 {
		return slot{}
	}
	return s.Slots[s.idle()]
}

// commit puts a model into the idle slot and makes that the active one.
func (s *state) commit(m slot) {
	i := s.idle()
	s.unlearn()
	s.Slots[i], s.Active, s.Candidate = m, i, nil
	if s.Newest == nil {
		s.Newest = map[string]int64{}
	}
	if _, known := s.Newest[m.Name]; !known && len(s.Newest) >= maxNames {
		for name := range s.Newest { // forget one that neither slot holds
			if name != s.Slots[0].Name && name != s.Slots[1].Name {
				delete(s.Newest, name)
				break
			}
		}
	}
	s.Newest[m.Name] = max(s.Newest[m.Name], m.Version)
	if s.Left == m.Digest {
		s.Left = ""
	}
}

// swap makes the other slot the active one. A candidate on trial is given up.
// That a rollback left the model is forgotten: it was asked for by name.
func (s *state) swap() {
	s.unlearn()
	s.Active, s.Candidate = s.idle(), nil
	if s.Left == s.active().Digest {
		s.Left = ""
	}
}

// unlearn forgets what was learned on top of either model.
func (s *state) unlearn() {
	s.Slots[0].Learned, s.Slots[1].Learned = nil, nil
}

// keep makes the learned head on trial that of the active model.
func (s *state) keep(p95 float64) {
	a := &s.Slots[s.Active]
	a.Learned, a.P95MS, s.Candidate = s.Candidate.Learned, p95, nil
}

// leave is swap for a rollback.
func (s *state) leave() {
	left := s.active().Digest
	s.swap()
	s.Left = left
}

// drop forgets the active model, which cannot be loaded any more, and falls
// back to the other slot, or to none. A head that was learned on top of it
// goes too.
func (s *state) drop() {
	if s.candidateHead() != nil {
		s.Candidate = nil
	}
	lost := s.Active
	s.Slots[lost], s.Active = slot{}, s.idle()
	if s.active().Digest == "" {
		s.Active = -1
	}
}

// begin counts an attempt of a stage and reports whether it may be made.
func (s *state) begin(o wire.Offer, stage wire.State) (ok bool) {
	c := s.Candidate
	if c == nil || c.Offer.Manifest != o.Manifest || c.Offer.Kind != o.Kind || c.Stage != stage {
		c = &candidate{Offer: o, Stage: stage}
	}
	next := *c
	next.Attempt++
	s.Candidate = &next
	return next.Attempt <= MaxAttempts
}

// takeBack counts the attempt that is under way as none: it was stopped. An
// exam that was begun once is forgotten.
func (s *state) takeBack() {
	if s.Candidate == nil {
		return
	}
	c := *s.Candidate
	c.Attempt--
	s.Candidate = &c
	if c.Stage == wire.StateExamining && c.Attempt < 1 {
		s.Candidate = nil
	}
}

// clone returns a copy that can be changed without changing s.
func (s *state) clone() state {
	c := *s
	c.Newest = make(map[string]int64, len(s.Newest))
	for k, v := range s.Newest {
		c.Newest[k] = v
	}
	return c
}

func (s *state) save(fsys durable.FS, path string) error {
	data, err := json.MarshalIndent(s, "", " ")
	if err != nil {
		return fmt.Errorf("state of the slots: %w", err)
	}
	if err := durable.Replace(fsys, path, append(data, '\n'), 0o600); err != nil {
		return fmt.Errorf("state of the slots: %w", err)
	}
	return nil
}

// ErrState is returned, wrapped, for a state file that says nothing sensible.
var ErrState = errors.New("not a state of slots")

// loadState reads the state file; where there is none, the slots are empty.
func loadState(fsys durable.FS, path string) (state, error) {
	data, err := fsys.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return emptyState(), nil
	}
	if err != nil {
		return state{}, fmt.Errorf("state of the slots: %w", err)
	}
	s, err := parseState(data)
	if err != nil {
		return state{}, fmt.Errorf("%s: %w", path, err)
	}
	return s, nil
}

// parseState checks what a worn card may have made of the file.
func parseState(data []byte) (state, error) {
	if len(data) > maxState {
		return state{}, fmt.Errorf("%d bytes: %w", len(data), ErrState)
	}
	var s state
	if err := json.Unmarshal(data, &s); err != nil {
		return state{}, fmt.Errorf("%w: %w", ErrState, err)
	}
	switch {
	case s.Version != stateVersion:
		return state{}, fmt.Errorf("version %d, this agent reads %d: %w", s.Version, stateVersion, ErrState)
	case s.Active < -1 || s.Active > 1:
		return state{}, fmt.Errorf("active slot %d: %w", s.Active, ErrState)
	case s.Active >= 0 && s.Slots[s.Active].Digest == "":
		return state{}, fmt.Errorf("the active slot is empty: %w", ErrState)
	case s.Candidate != nil && (s.Candidate.Offer.Manifest == "" || s.Candidate.Attempt < 0 ||
		s.Candidate.Stage != wire.StateExamining && s.Candidate.Stage != wire.StateTrial):
		return state{}, fmt.Errorf("candidate in state %q: %w", s.Candidate.Stage, ErrState)
	case s.Candidate != nil && ((s.Candidate.Offer.Kind == kindLearned) != (s.Candidate.Learned != nil) ||
		s.Candidate.Learned != nil && (s.Active < 0 || s.Candidate.Offer.Manifest != s.active().Digest)):
		return state{}, fmt.Errorf("candidate of kind %q: %w", s.Candidate.Offer.Kind, ErrState)
	}
	for _, l := range []*learned{s.Slots[0].Learned, s.Slots[1].Learned, s.candidateHead()} {
		if l != nil && (l.N < 1 || l.N > s.Local || !isSHA256(l.File)) {
			return state{}, fmt.Errorf("learned head %d, %.80q: %w", l.N, l.File, ErrState)
		}
	}
	return s, nil
}

// candidateHead returns the learned head on trial, nil for none.
func (s *state) candidateHead() *learned {
	if s.Candidate == nil {
		return nil
	}
	return s.Candidate.Learned
}

func isSHA256(text string) bool {
	sum, err := hex.DecodeString(text)
	return err == nil && len(sum) == sha256.Size
}
