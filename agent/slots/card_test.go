package slots

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"dunlin/internal/durable"
	"dunlin/internal/oci"
	"dunlin/model/pack"
	"dunlin/sync/wire"
)

// sickCard is a disk that cannot read the file that bad names.
type sickCard struct {
	durable.FS
	bad    *string
	mapped bool
	whole  *[]byte // of a file that is cut short, to be made whole again
	errno  *syscall.Errno
}

// Open fails, or where files are mapped cuts the file short: what is mapped and
// not there is a fault, as what cannot be read is.
func (c sickCard) Open(path string) (durable.File, error) {
	f, err := c.FS.Open(path)
	switch {
	case err != nil || path != *c.bad:
		return f, err
	case !c.mapped:
		return nil, &fs.PathError{Op: "read", Path: path, Err: errors.Join(*c.errno, f.Close())}
	}
	if *c.whole, err = os.ReadFile(path); err == nil {
		err = os.Truncate(path, 0)
	}
	return f, err
}

func (c sickCard) Stat(path string) (fs.FileInfo, error) {
	if info, err := c.FS.Stat(path); err == nil && info.Size() == 0 && path == *c.bad {
		if err := os.WriteFile(path, *c.whole, 0o600); err != nil {
			return nil, err
		}
	}
	return c.FS.Stat(path)
}

// sicken puts the device's blobs on a card that cannot read the one that bad
// names, until it is mended.
func (s *shop) sicken(mapped bool) (bad *string, mend func()) {
	s.t.Helper()
	s.errno = syscall.EIO
	c := sickCard{durable.OS, new(string), mapped, new([]byte), &s.errno}
	l, err := oci.OpenOn(c, filepath.Join(s.dir, "device"))
	if err != nil {
		s.t.Fatal(err)
	}
	s.layout = l
	return c.bad, func() {
		if _, err := c.Stat(*c.bad); err != nil && !errors.Is(err, fs.ErrNotExist) {
			s.t.Error(err)
		}
		*c.bad = ""
	}
}

// weights is the file of a model's weights, which are mapped.
func (s *shop) weights(o wire.Offer) string {
	s.t.Helper()
	m, err := s.store.Manifest(oci.Digest(o.Manifest))
	if err != nil {
		s.t.Fatal(err)
	}
	for _, d := range m.Layers {
		if d.MediaType == pack.MediaTypeWeights {
			path, err := s.layout.Path(d.Digest)
			if err != nil {
				s.t.Fatal(err)
			}
			return path
		}
	}
	s.t.Fatalf("no weights among %+v", m.Layers)
	return ""
}

// What the card cannot read is no verdict on a model: the other slot answers,
// nothing is forgotten, and when the file can be read again so does the model,
// by a new offer or by a restart.
func TestUnreadableModelIsKept(t *testing.T) {
	for name, mapped := range map[string]bool{"the read fails": false, "the mapping faults": true} {
		t.Run(name, func(t *testing.T) {
			s := newShop(t)
			bad, mend := s.sicken(mapped)
			slots := s.open()
			take(t, slots, s.offer(recipe{version: 1, wide: true}))
			two := s.offer(recipe{version: 2, wide: true})
			take(t, slots, two)
			for _, again := range []string{"offered", "restarted"} {
				*bad = s.weights(two)
				slots = s.open()
				if v := answers(t, slots); v != 1 || !slots.isUnread(two.Manifest) {
					t.Fatalf("with an unreadable model %d answers, unread %v", v, slots.isUnread(two.Manifest))
				}
				r := slots.Running()
				if _, err := slots.Rollback(t.Context(), r.Digest); !errors.Is(err, ErrNoPrevious) || r.Previous != "" {
					t.Errorf("%+v stands in, and a rollback of it is %v", r, err)
				}
				for range mostFetches - 1 {
					if r, err := slots.Try(t.Context(), two); err == nil || answers(t, slots) != 1 {
						t.Fatalf("unreadable, and ended %+v", r)
					}
				}
				mend()
				if again == "restarted" {
					slots = s.open()
				} else if r := take(t, slots, two); r.State != wire.StateActive {
					t.Errorf("readable again: %+v", r)
				}
				if r := slots.Running(); answers(t, slots) != 2 || r.Previous == "" || slots.isUnread(two.Manifest) {
					t.Errorf("%s: %+v runs", again, r)
				}
			}
		})
	}
}

// The model to which a rollback went is none that is older than what was active
// here, when the card gives it again.
func TestUnreadableModelOfARollback(t *testing.T) {
	s := newShop(t)
	bad, mend := s.sicken(false)
	slots := s.open()
	one, two := s.offer(recipe{version: 1, wide: true}), s.offer(recipe{version: 2, wide: true})
	take(t, slots, one)
	take(t, slots, two)
	if r, err := slots.Rollback(t.Context(), two.Manifest); err != nil || r.Version != 1 {
		t.Fatalf("%+v, %v", r, err)
	}
	*bad = s.weights(one)
	slots = s.open()
	if v := answers(t, slots); v != 2 || !slots.isUnread(one.Manifest) {
		t.Fatalf("with an unreadable model %d answers", v)
	}
	mend()
	if r := take(t, slots, one); r.State != wire.StateActive || answers(t, slots) != 1 {
		t.Errorf("readable again: %+v", r)
	}
}

// A model on trial is on trial whether the card gives the committed one or not:
// it is judged, and its crashes are counted.
func TestTrialWithAnUnreadableModel(t *testing.T) {
	s := newShop(t)
	bad, _ := s.sicken(false)
	slots := s.open()
	one, two := s.offer(recipe{version: 1, wide: true}), s.offer(recipe{version: 2, wide: true})
	take(t, slots, one)
	two.Trial.Seconds = 3600
	ctx, stop := context.WithCancel(t.Context())
	go func() {
		for !strings.HasSuffix(s.states(), "trial") && t.Context().Err() == nil {
			<-time.After(time.Millisecond)
		}
		stop()
	}()
	if _, err := slots.Try(ctx, two); !errors.Is(err, context.Canceled) {
		t.Fatalf("stopped with %v", err)
	}
	*bad = s.weights(one)
	for start := range MaxAttempts {
		slots = s.open()
		if v := answers(t, slots); v != 2 || !slots.OnTrial() {
			t.Fatalf("start %d: %d answers, on trial %v", start, v, slots.OnTrial())
		}
	}
	ctx, supersede := context.WithCancelCause(t.Context())
	supersede(ErrSuperseded)
	if _, ok, err := slots.Resume(ctx); !ok || !errors.Is(err, ErrSuperseded) {
		t.Errorf("on trial %v, judged with %v", ok, err)
	}
	if v := answers(t, slots); v != 0 || !slots.isUnread(one.Manifest) {
		t.Errorf("after the trial %d answers", v)
	}
}

// A model that the card cannot read after it was fetched is fetched again, and
// not refused; a few times, and then for hours no more: what was fetched stays.
func TestUnreadableOfferIsFetchedAgain(t *testing.T) {
	for name, mapped := range map[string]bool{"the read fails": false, "the mapping faults": true} {
		t.Run(name, func(t *testing.T) {
			s := newShop(t)
			bad, mend := s.sicken(mapped)
			slots := s.open()
			take(t, slots, s.offer(recipe{version: 1, wide: true}))
			two := s.offer(recipe{version: 2, wide: true})
			*bad = s.weights(two)
			for try := range mostFetches + 2 {
				fetched := s.fetches
				r, err := slots.Try(t.Context(), two)
				if err == nil || errors.Is(err, ErrAgain) != (try >= mostFetches) || answers(t, slots) != 1 {
					t.Fatalf("unreadable, and ended %+v, %v", r, err)
				}
				if want := try < mostFetches; (s.fetches > fetched) != want {
					t.Errorf("try %d: fetched %v", try, !want)
				}
				if _, err := os.Stat(*bad); (err == nil) != (try >= mostFetches-1) {
					t.Errorf("after try %d what cannot be read is: %v", try, err)
				}
			}
			if last := slots.Last(); last == nil || last.Version != 1 {
				t.Errorf("the last decision is %+v", last)
			}
			mend()
			slots.unreadable.last = time.Now().Add(-2 * fetchWait)
			if r := take(t, slots, two); r.State != wire.StateActive || answers(t, slots) != 2 {
				t.Errorf("readable again: %+v", r)
			}
		})
	}
}

// That the process lacks files or memory is no reason to remove a model that
// was fetched.
func TestUnreadableForWantOfFiles(t *testing.T) {
	s := newShop(t)
	bad, mend := s.sicken(false)
	s.errno = syscall.EMFILE
	slots := s.open()
	o := s.offer(recipe{version: 1, wide: true})
	*bad = s.weights(o)
	if r, err := slots.Try(t.Context(), o); !errors.Is(err, syscall.EMFILE) {
		t.Fatalf("%+v, %v", r, err)
	}
	if _, err := os.Stat(*bad); err != nil {
		t.Errorf("what was fetched is removed: %v", err)
	}
	mend()
	if r := take(t, slots, o); r.State != wire.StateActive {
		t.Errorf("%+v", r)
	}
}
