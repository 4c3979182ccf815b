package hub_test

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"dunlin/hub"
	"dunlin/hub/api"
	"dunlin/hub/rollout"
	"dunlin/internal/oci"
	"dunlin/internal/sign"
	"dunlin/model"
	"dunlin/model/pack"
	"dunlin/sync/fetch"
	"dunlin/sync/wire"
)

// packed makes a small pack in a layout of its own.
func packed(t *testing.T, version int64, exam bool) (*oci.Layout, string) {
	t.Helper()
	return packedWith(t, version, exam, "")
}

// packedWith packs it with a report.
func packedWith(t *testing.T, version int64, exam bool, report string) (*oci.Layout, string) {
	t.Helper()
	l, err := oci.Create(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	g := model.New("sample")
	g.Inputs, g.Outputs = []string{"x"}, []string{"y"}
	g.Values["x"] = &model.Value{Type: model.F32, Shape: model.Shape{1, 2}}
	g.AddConst("w", model.Of(model.F32, []float32{1, 2, 3, float32(version)}, 2, 2))
	g.Nodes = []*model.Node{{Op: "MatMul", Name: "only", In: []string{"x", "w"}, Out: []string{"y"}}}
	p := &pack.Pack{Name: "garments", Version: version, Graph: g}
	if report != "" {
		p.Report = []byte(report)
	}
	if exam {
		p.Exam = &pack.Exam{Tolerance: 1e-4, Cases: []pack.Case{{
			Inputs:  []*model.Tensor{model.Of(model.F32, []float32{1, 1}, 1, 2)},
			Outputs: []*model.Tensor{model.Of(model.F32, []float32{4, 2 + float32(version)}, 1, 2)},
		}}}
	}
	d, err := pack.Write(l, p)
	if err != nil {
		t.Fatal(err)
	}
	return l, string(d.Digest)
}

// upload puts every blob of a pack on the hub.
func (s *site) upload(l *oci.Layout, manifest string) {
	s.t.Helper()
	m, err := l.Manifest(oci.Digest(manifest))
	if err != nil {
		s.t.Fatal(err)
	}
	digests := []oci.Digest{oci.Digest(manifest)}
	for _, b := range oci.Blobs(m) {
		digests = append(digests, b.Digest)
	}
	for _, d := range digests {
		data, err := l.ReadBlob(d, 1<<20)
		if err != nil {
			s.t.Fatal(err)
		}
		s.must("PUT", "/v1/blob/"+string(d), data, nil)
	}
}

func (s *site) add(manifest string, key sign.PrivateKey) int {
	s.t.Helper()
	return s.call("POST", "/v1/models", map[string]any{
		"manifest": manifest, "sig": key.Sign(wire.OfferModel.Purpose(), []byte(manifest)),
	}, nil)
}

// push uploads, signs and adds version n of the model.
func (s *site) push(n int64, key sign.PrivateKey) string {
	s.t.Helper()
	l, manifest := packed(s.t, n, true)
	s.upload(l, manifest)
	if status := s.add(manifest, key); status != http.StatusOK {
		s.t.Fatalf("version %d was not added: %d", n, status)
	}
	return manifest
}

func newKey(t *testing.T) sign.PrivateKey {
	t.Helper()
	key, err := sign.Generate()
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func TestModelsThatAreRefused(t *testing.T) {
	key := newKey(t)
	dir := t.TempDir()
	s := run(t, hub.Options{Dir: dir, ReleaseKeys: sign.Trust{key.Public()}})
	first := s.push(2, key)
	l, noExam := packed(t, 3, false)
	s.upload(l, noExam)
	l, old := packed(t, 1, true)
	s.upload(l, old)
	l, good := packed(t, 4, true)
	s.upload(l, good)
	l, missing := packed(t, 5, true)
	data, err := l.ReadBlob(oci.Digest(missing), 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	s.must("PUT", "/v1/blob/"+missing, data, nil)
	for _, tc := range []struct {
		name, manifest string
		key            sign.PrivateKey
		status         int
	}{
		{"wrong key", good, newKey(t), http.StatusForbidden},
		{"no exam", noExam, key, http.StatusBadRequest},
		{"older version", old, key, http.StatusConflict},
		{"blobs missing", missing, key, http.StatusBadRequest},
		{"not a digest", "sha256:../x", key, http.StatusBadRequest},
		{"again", first, key, http.StatusOK},
	} {
		if status := s.add(tc.manifest, tc.key); status != tc.status {
			t.Errorf("%s: status %d, want %d", tc.name, status, tc.status)
		}
	}
	if status := s.call("PUT", "/v1/blob/"+good, "something else", nil); status != http.StatusBadRequest {
		t.Errorf("a blob with a wrong digest: %d", status)
	}
	flip(t, filepath.Join(dir, "registry"), good)
	if status := s.add(good, key); status != http.StatusBadRequest {
		t.Errorf("a manifest with a flipped byte: %d", status)
	}
	if n := len(s.hub.Models()); n != 1 {
		t.Errorf("%d models", n)
	}
}

// flip changes one byte of a blob on the disk.
func flip(t *testing.T, dir, digest string) {
	t.Helper()
	path := filepath.Join(dir, "blobs", "sha256", oci.Digest(digest).Encoded())
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	data[len(data)/2] ^= 1
	if err := os.WriteFile(path, data, 0o644); err != nil {
		t.Fatal(err)
	}
}

// accept makes a board fetch every model that it should have, and run it.
func (b *board) accept() {
	now := make(chan struct{})
	close(now)
	b.acceptAfter(now)
}

// acceptAfter is accept, which does nothing before an event.
func (b *board) acceptAfter(event <-chan struct{}) {
	var runs *wire.Offer
	b.says(func(d wire.Desired) {
		<-event
		if d.Model == nil || runs != nil && runs.Manifest == d.Model.Manifest {
			return
		}
		if err := b.fetchOffer(d.Model); err != nil {
			b.t.Error(err)
			return
		}
		b.reports(d.Model, wire.StateTrial, "", d.Model)
		b.reports(d.Model, wire.StateActive, "", d.Model)
		runs = d.Model
	}, nil)
}

func (b *board) fetchOffer(o *wire.Offer) error {
	l, err := oci.Create(b.t.TempDir())
	if err != nil {
		return err
	}
	f, err := fetch.New(b.token.HTTP, b.token.Secret, l, fetch.Options{})
	if err != nil {
		return err
	}
	if err := f.Artefact(context.Background(), o.Manifest, o.Fetch, nil); err != nil {
		return err
	}
	if err := b.token.ReleaseKeys.Verify(o.Kind.Purpose(), []byte(o.Manifest), o.Sig); err != nil && o.Kind == wire.OfferModel {
		return err
	}
	return l.Verify(oci.Digest(o.Manifest))
}

func (s *site) phase(id string) rollout.State {
	s.t.Helper()
	var st rollout.State
	s.must("GET", "/v1/rollouts/"+id, nil, &st)
	return st
}

func (s *site) rollOut(r api.RolloutRequest) rollout.State {
	s.t.Helper()
	r.Model = "garments"
	var st rollout.State
	s.must("POST", "/v1/rollouts", r, &st)
	return st
}

func TestRolloutAndRollback(t *testing.T) {
	t.Parallel()
	key := newKey(t)
	s := run(t, hub.Options{Dir: t.TempDir(), ReleaseKeys: sign.Trust{key.Public()}})
	one := s.push(1, key)
	a, b := start(t, s.enrol("left"), t.TempDir()), start(t, s.enrol("right"), t.TempDir())
	canary := make(chan struct{})
	goOn := sync.OnceFunc(func() { close(canary) })
	defer goOn()
	a.acceptAfter(canary)
	b.accept()
	eventually(t, "both are online", func() bool { return s.online() == 2 })

	st := s.rollOut(api.RolloutRequest{Canary: []byte(`["acme/left"]`), Trial: wire.TrialRules{Seconds: 3}})
	eventually(t, "the canary is told", func() bool { return a.newest().Model != nil })
	if now := s.phase(st.ID).Phase; st.Phase != rollout.Canary || now != rollout.Canary || b.newest().Model != nil {
		t.Fatalf("phase %s, then %s", st.Phase, now)
	}
	goOn()
	eventually(t, "the first rollout is done", func() bool { return s.phase(st.ID).Phase == rollout.Done })
	for _, d := range []*board{a, b} {
		if m := d.newest().Model; m == nil || m.Manifest != one || m.Trial.Seconds != 3 {
			t.Fatalf("%s should have %+v", d.id, m)
		}
	}

	two := s.push(2, key)
	a.says(func(d wire.Desired) {
		if d.Model.Manifest == two {
			a.reports(d.Model, wire.StateTrial, "", d.Model)
			a.reports(d.Model, wire.StateReverted, wire.ReasonTooSlow, &wire.Offer{Name: "garments", Version: 1, Manifest: one})
			return
		}
		a.reports(d.Model, wire.StateActive, "", d.Model)
	}, nil)
	st = s.rollOut(api.RolloutRequest{Canary: []byte(`["acme/left"]`)})
	eventually(t, "the second is rolled back", func() bool { return s.phase(st.ID).Phase == rollout.RolledBack })
	eventually(t, "the canary is to have the old model", func() bool { return a.newest().Model.Manifest == one })
	if b.newest().Model.Manifest != one {
		t.Error("the bad model came to a device that is no canary")
	}
	if why := s.phase(st.ID).Why; why != "acme/left: too_slow" {
		t.Errorf("why: %q", why)
	}

	// A device that joins now gets what the last good rollout to all brought.
	late := start(t, s.enrol("late"), t.TempDir())
	eventually(t, "the late one is to have the good model", func() bool {
		m := late.newest().Model
		return m != nil && m.Manifest == one && m.Trial.Seconds == 3
	})
}

func (s *site) online() int {
	s.t.Helper()
	var sum api.Summary
	s.must("GET", "/v1/summary", nil, &sum)
	return sum.Online
}

func TestRolloutRequests(t *testing.T) {
	key := newKey(t)
	s := run(t, hub.Options{Dir: t.TempDir(), ReleaseKeys: sign.Trust{key.Public()}})
	for i := range 5 {
		s.enrol(fmt.Sprintf("d%d", i))
	}
	s.push(1, key)
	for body, want := range map[string]int{
		`{"model":"nobody"}`:                                  http.StatusNotFound,
		`{"model":"garments","version":7}`:                    http.StatusNotFound,
		`{"model":"garments","canary":["acme/nobody"]}`:       http.StatusNotFound,
		`{"model":"garments","canary":0}`:                     http.StatusBadRequest,
		`{"model":"garments","canary":"all"}`:                 http.StatusBadRequest,
		`{"model":"garments","canary":["acme/d1","acme/d1"]}`: http.StatusBadRequest,
		`{"model":"garments","kanary":1}`:                     http.StatusBadRequest,
	} {
		if status := s.call("POST", "/v1/rollouts", body, nil); status != want {
			t.Errorf("%s: status %d, want %d", body, status, want)
		}
	}
	st := s.rollOut(api.RolloutRequest{Devices: []string{"d0", "d1", "acme/d2", "d3", "d4"}, Canary: []byte("2"), Draft: true})
	canaries := 0
	for _, d := range st.Devices {
		if d.Canary {
			canaries++
		}
	}
	if st.Phase != rollout.Draft || canaries != 2 || len(st.Devices) != 5 {
		t.Fatalf("%s with %d canaries of %d devices", st.Phase, canaries, len(st.Devices))
	}
	if status := s.call("POST", "/v1/rollouts", `{"model":"garments"}`, nil); status != http.StatusConflict {
		t.Errorf("a second rollout at a time: %d", status)
	}
	for _, step := range []struct {
		action string
		status int
		phase  rollout.Phase
	}{
		{"resume", http.StatusConflict, rollout.Draft},
		{"start", http.StatusOK, rollout.Canary},
		{"pause", http.StatusOK, rollout.Paused},
		{"resume", http.StatusOK, rollout.Canary},
		{"explode", http.StatusBadRequest, rollout.Canary},
		{"abort", http.StatusOK, rollout.Aborting}, // the canaries have not said that they run nothing
		{"abort", http.StatusConflict, rollout.Aborting},
	} {
		if status := s.call("POST", "/v1/rollouts/"+st.ID+"/"+step.action, nil, nil); status != step.status {
			t.Errorf("%s: status %d, want %d", step.action, status, step.status)
		}
		if p := s.phase(st.ID).Phase; p != step.phase {
			t.Errorf("after %s: %s, want %s", step.action, p, step.phase)
		}
	}
}

// TestFirstModelIsTakenBack: a device whose first model is condemned is to
// have none, and the rollout waits until it says so.
func TestFirstModelIsTakenBack(t *testing.T) {
	key := newKey(t)
	s := run(t, hub.Options{Dir: t.TempDir(), ReleaseKeys: sign.Trust{key.Public()}})
	s.push(1, key)
	b := start(t, s.enrol("left"), t.TempDir())
	eventually(t, "it is online", func() bool { return s.online() == 1 })
	var runs *wire.Offer
	b.says(func(d wire.Desired) {
		if d.Model != nil {
			runs = d.Model
			b.reports(d.Model, wire.StateTrial, "", d.Model)
			return
		}
		// It has seen the document, and the model still answers.
		b.reports(runs, wire.StateTrial, "", runs)
	}, nil)
	st := s.rollOut(api.RolloutRequest{})
	eventually(t, "it is on trial", func() bool { return s.phase(st.ID).Devices[0].Stage == rollout.Trial })
	s.must("POST", "/v1/rollouts/"+st.ID+"/abort", nil, nil)
	eventually(t, "it is to have no model", func() bool { n := b.newest(); return n.Gen > 1 && n.Model == nil })
	eventually(t, "it has said that it saw the document", func() bool {
		d, err := s.hub.Device(b.id)
		return err == nil && d.Reported != nil && d.Reported.Gen == b.newest().Gen
	})
	if now := s.phase(st.ID); now.Phase != rollout.Aborting || now.Devices[0].Stage == rollout.Back {
		t.Errorf("%s, %s, while the model still answers", now.Phase, now.Devices[0].Stage)
	}
	send(b, wire.UpReported, wire.Reported{Gen: b.newest().Gen}, wire.Encode[wire.Reported])
	eventually(t, "the rollout is rolled back", func() bool {
		now := s.phase(st.ID)
		return now.Phase == rollout.RolledBack && now.Devices[0].Stage == rollout.Back
	})
}
