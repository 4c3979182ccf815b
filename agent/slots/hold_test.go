package slots

import (
	"context"
	"errors"
	"testing"
	"time"

	"dunlin/internal/oci"
	"dunlin/sync/wire"
)

// Hold waits for a trial, and nothing is tried while it is held.
func TestHold(t *testing.T) {
	s := newShop(t)
	slots := s.open()
	o := s.offer(recipe{version: 1})
	release, err := slots.Hold(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan wire.Report, 1)
	go func() {
		r, err := slots.Try(context.Background(), o)
		if err != nil {
			t.Error(err)
		}
		done <- r
	}()
	late, cancel := context.WithTimeoutCause(t.Context(), 50*time.Millisecond, errors.New("late"))
	defer cancel()
	if _, err := slots.Hold(late); err == nil || err.Error() != "late" {
		t.Errorf("held twice: %v", err)
	}
	if slots.Running() != nil {
		t.Error("a model was tried while trials were held")
	}
	release()
	if r := ended(t, done); r.State != wire.StateActive {
		t.Errorf("%+v", r)
	}
	if release, err = slots.Hold(t.Context()); err != nil {
		t.Fatal(err)
	}
	release()
}

// ended waits for the report of a trial.
func ended(t *testing.T, done <-chan wire.Report) (r wire.Report) {
	t.Helper()
	select {
	case r = <-done:
	case <-time.After(time.Minute):
		t.Fatal("the trial does not end")
	}
	return r
}

// Where Strict is set a model that cannot be loaded is an error, and is still
// there for who can load it.
func TestStrict(t *testing.T) {
	s := newShop(t)
	slots := s.open()
	o := s.offer(recipe{version: 1})
	if r, err := slots.Try(t.Context(), o); err != nil || r.State != wire.StateActive {
		t.Fatalf("%+v, %v", r, err)
	}
	if err := slots.Examine(t.Context()); err != nil {
		t.Error(err)
	}
	if err := slots.Close(); err != nil {
		t.Fatal(err)
	}
	m, err := s.layout.Manifest(oci.Digest(o.Manifest))
	if err != nil {
		t.Fatal(err)
	}
	weights, err := s.layout.ReadBlob(m.Layers[1].Digest, 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	path, err := s.layout.Path(m.Layers[1].Digest)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.fsys.Rename(path, path+".away"); err != nil {
		t.Fatal(err)
	}
	config := Config{Dir: s.dir, FS: s.fsys, Layout: s.layout, Strict: true}
	if strict, err := Open(config); err == nil {
		t.Errorf("%+v runs", strict.Running())
	}
	if _, err := s.layout.PutBytes(m.Layers[1].MediaType, weights); err != nil {
		t.Fatal(err)
	}
	config.Strict = false
	again, err := Open(config)
	if err != nil || again.Running() == nil {
		t.Fatalf("the model is gone: %v", err)
	}
	if err := again.Close(); err != nil {
		t.Error(err)
	}
}
