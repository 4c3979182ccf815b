package slots

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"

	"dunlin/internal/oci"
	"dunlin/sync/wire"
)

// spoil has a file say something else, until it is mended.
func (s *shop) spoil(path string) (mend func()) {
	s.t.Helper()
	text := s.read(path)
	if err := os.WriteFile(path, bytes.Repeat([]byte{'x'}, len(text)), 0o600); err != nil {
		s.t.Fatal(err)
	}
	return func() {
		s.t.Helper()
		if err := os.WriteFile(path, text, 0o600); err != nil {
			s.t.Fatal(err)
		}
	}
}

func (s *shop) manifest(o wire.Offer) string {
	s.t.Helper()
	path, err := s.layout.Path(oci.Digest(o.Manifest))
	if err != nil {
		s.t.Fatal(err)
	}
	return path
}

func (s *shop) read(path string) []byte {
	s.t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		s.t.Fatal(err)
	}
	return text
}

// An agent that stands in for a newer one gives up nothing that it cannot
// load: not a head that was learned, not the model, and not the state. The one
// that it stands in for finds all of them.
func TestStandInKeepsWhatItCannotLoad(t *testing.T) {
	s := newShop(t)
	slots := s.open()
	take(t, slots, s.offer(recipe{version: 1, dense: true}))
	two := s.offer(recipe{version: 2, dense: true})
	take(t, slots, two)
	signed, _ := said(t, slots)
	learn(t, slots, biased(two.Manifest, 1, 2, 3))
	path := filepath.Join(s.dir, StateFile)
	state, told := s.read(path), s.states()
	same := func(when string) {
		t.Helper()
		if now := s.read(path); !bytes.Equal(now, state) || len(s.heads()) != 1 {
			t.Fatalf("%s: the state is %s, was %s; heads %v", when, now, state, s.heads())
		}
	}
	s.standsIn = true
	mendHead := s.spoil(s.heads()[0])
	slots = s.open()
	wantSaid(t, slots, "its head cannot be read", 0, signed...)
	same("its head cannot be read")
	mendModel := s.spoil(s.manifest(two))
	slots = s.open()
	if v := answers(t, slots); v != 1 || !slots.isUnread(two.Manifest) {
		t.Errorf("version %d answers, unread is %v", v, slots.isUnread(two.Manifest))
	}
	same("the model cannot be loaded")
	if s.states() != told {
		t.Errorf("the hub was told %s, before %s", s.states(), told)
	}
	if r, err := slots.Try(t.Context(), two); err == nil || answers(t, slots) != 1 {
		t.Errorf("offered again, and ended %+v", r)
	}
	same("it was offered again")
	mendState := s.spoil(path)
	if slots, err := s.tryOpen(); err == nil {
		t.Errorf("with no state %+v runs", slots.Running())
	}
	mendState()
	mendModel()
	mendHead()
	s.standsIn = false
	wantSaid(t, s.open(), "the newer one again", 1, 1, 2, 3)
}

// What is on trial and cannot be loaded by a stand-in is no failure of it.
func TestStandInJudgesNoTrial(t *testing.T) {
	s := newShop(t)
	slots := s.open()
	take(t, slots, s.offer(recipe{version: 1, dense: true}))
	two := s.offer(recipe{version: 2, dense: true})
	take(t, slots, two)
	next := slots.st.clone() // as if its trial had not ended
	next.swap()
	next.Slots[next.idle()] = slot{}
	next.begin(two, wire.StateTrial)
	if err := slots.put(next); err != nil {
		t.Fatal(err)
	}
	mend := s.spoil(s.manifest(two))
	s.standsIn = true
	told := s.states()
	slots = s.open()
	if v := answers(t, slots); v != 1 || slots.OnTrial() || s.states() != told {
		t.Errorf("version %d answers, on trial %v, the hub was told %s, before %s", v, slots.OnTrial(), s.states(), told)
	}
	mend()
	s.standsIn = false
	if r := take(t, s.open(), two); r.State != wire.StateActive {
		t.Errorf("offered to the newer one: %+v", r)
	}
}
