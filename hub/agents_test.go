package hub_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	"dunlin/hub"
	"dunlin/hub/api"
	"dunlin/hub/rollout"
	"dunlin/internal/oci"
	"dunlin/internal/release"
	"dunlin/internal/sign"
	"dunlin/model"
	"dunlin/model/pack"
	"dunlin/sync/wire"
)

// releaseOf makes a release of the agent in a layout of its own.
func releaseOf(t *testing.T, version string) (*oci.Layout, string) {
	t.Helper()
	l, err := oci.Create(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	var all []release.Binary
	for _, p := range []string{"linux/arm64", "linux/arm/6"} {
		all = append(all, release.Binary{Platform: p, Content: strings.NewReader("agent " + version + " for " + p)})
	}
	d, err := release.Write(l, release.Config{Version: version}, all)
	if err != nil {
		t.Fatal(err)
	}
	return l, string(d.Digest)
}

func (s *site) addRelease(manifest string, key sign.PrivateKey, kind wire.OfferKind) int {
	s.t.Helper()
	return s.call("POST", "/v1/models", map[string]any{"manifest": manifest, "sig": key.Sign(kind.Purpose(), []byte(manifest))}, nil)
}

func TestReleasesInTheRegistry(t *testing.T) {
	key := newKey(t)
	s := run(t, hub.Options{Dir: t.TempDir(), ReleaseKeys: sign.Trust{key.Public()}})
	l, two := releaseOf(t, "0.2.0")
	s.upload(l, two)
	if status := s.addRelease(two, key, wire.OfferModel); status != http.StatusForbidden {
		t.Errorf("signed for a model: %d", status)
	}
	if status := s.addRelease(two, newKey(t), wire.OfferAgent); status != http.StatusForbidden {
		t.Errorf("signed by another: %d", status)
	}
	if status := s.addRelease(two, key, wire.OfferAgent); status != http.StatusOK {
		t.Fatalf("it was not added: %d", status)
	}
	l, one := releaseOf(t, "0.1.0")
	s.upload(l, one)
	if status := s.addRelease(one, key, wire.OfferAgent); status != http.StatusConflict {
		t.Errorf("an older one: %d", status)
	}
	l, three := releaseOf(t, "0.3.0")
	m, err := l.Manifest(oci.Digest(three))
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range []string{three, string(m.Config.Digest)} {
		data, err := l.ReadBlob(oci.Digest(d), 1<<20)
		if err != nil {
			t.Fatal(err)
		}
		s.must("PUT", "/v1/blob/"+d, data, nil)
	}
	if status := s.addRelease(three, key, wire.OfferAgent); status != http.StatusNotFound {
		t.Errorf("without its binaries: %d", status)
	}
	// No model takes the name.
	l, err = oci.Create(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	g := model.New("sample")
	g.Inputs, g.Outputs = []string{"x"}, []string{"y"}
	g.Values["x"] = &model.Value{Type: model.F32, Shape: model.Shape{1, 2}}
	g.Nodes = []*model.Node{{Op: "Relu", Name: "only", In: []string{"x"}, Out: []string{"y"}}}
	x := []*model.Tensor{model.Of(model.F32, []float32{1, 1}, 1, 2)}
	d, err := pack.Write(l, &pack.Pack{Name: release.Name, Version: 9_000_000, Graph: g, Exam: &pack.Exam{Cases: []pack.Case{{Inputs: x, Outputs: x}}}})
	if err != nil {
		t.Fatal(err)
	}
	s.upload(l, string(d.Digest))
	if status := s.add(string(d.Digest), key); status != http.StatusConflict {
		t.Errorf("a model named %s: %d", release.Name, status)
	}
	var list struct {
		Models []struct {
			Kind    wire.OfferKind
			Name    string
			Version int64
		}
	}
	s.must("GET", "/v1/models", nil, &list)
	if got := fmt.Sprint(list.Models); got != "[{agent dunlin-agent 2000}]" {
		t.Errorf("the registry has %s", got)
	}
}

// A release goes to devices as models do, beside the model that they have, and
// is taken back by a document without one.
func TestAgentRollout(t *testing.T) {
	t.Parallel()
	key := newKey(t)
	s := run(t, hub.Options{Dir: t.TempDir(), ReleaseKeys: sign.Trust{key.Public()}})
	one := s.push(1, key)
	l, manifest := releaseOf(t, "0.2.0")
	s.upload(l, manifest)
	if status := s.addRelease(manifest, key, wire.OfferAgent); status != http.StatusOK {
		t.Fatal(status)
	}
	b := start(t, s.enrol("left"), t.TempDir())
	b.accept()
	eventually(t, "it is online", func() bool { return s.online() == 1 })
	m := s.rollOut(api.RolloutRequest{})
	eventually(t, "it has its model", func() bool { return s.phase(m.ID).Phase == rollout.Done })

	never := api.RolloutRequest{Model: release.Name, Version: 2000, Rules: rollout.Rules{MinRuns: 1}}
	if status := s.call("POST", "/v1/rollouts", never, nil); status != http.StatusBadRequest {
		t.Errorf("with min_runs, which it would wait for in vain: %d", status)
	}
	var st rollout.State
	s.must("POST", "/v1/rollouts", api.RolloutRequest{Model: release.Name, Version: 2000}, &st)
	eventually(t, "it is told", func() bool { d := b.newest(); return d.Agent != nil && d.Agent.Manifest == manifest })
	d := b.newest()
	if d.Model == nil || d.Model.Manifest != one || d.Agent.Kind != wire.OfferAgent || d.Agent.Version != 2000 || d.Agent.Sig.Key == "" {
		t.Errorf("it is told %+v", d)
	}
	runs := func(a *wire.Running, state wire.State, why wire.Reason) {
		r := wire.Reported{
			Gen: b.newest().Gen, Model: &wire.Running{Name: "garments", Version: 1, Digest: one}, Agent: a,
			Reports: []wire.Report{{Kind: wire.OfferAgent, Name: release.Name, Version: 2000, Digest: manifest, State: state, Reason: why}},
		}
		send(b, wire.UpReported, r, wire.Encode[wire.Reported])
	}
	runs(&wire.Running{Name: release.Name, Version: 2000, Digest: manifest}, wire.StateTrial, "")
	eventually(t, "it is on trial", func() bool { return s.phase(st.ID).Devices[0].Stage == rollout.Trial })
	s.must("POST", "/v1/rollouts/"+st.ID+"/abort", nil, nil)
	eventually(t, "it is to have its package's", func() bool { n := b.newest(); return n.Gen > d.Gen && n.Agent == nil })
	if n := b.newest(); n.Model == nil || n.Model.Manifest != one {
		t.Errorf("its model was taken too: %+v", n)
	}
	runs(nil, wire.StateReverted, wire.ReasonDesired)
	eventually(t, "it is back", func() bool { return s.phase(st.ID).Phase == rollout.RolledBack })

	s.must("POST", "/v1/rollouts", api.RolloutRequest{Model: release.Name}, &st)
	eventually(t, "it is told again", func() bool { return b.newest().Agent != nil })
	runs(&wire.Running{Name: release.Name, Version: 2000, Digest: manifest}, wire.StateActive, "")
	eventually(t, "the rollout is done", func() bool { return s.phase(st.ID).Phase == rollout.Done })

	// A device that joins gets it where its own is older.
	for agent, wanted := range map[string]bool{"0.1.9": true, "0.2.0": false, "odd": false} {
		late := start(t, s.enrol("late-"+strings.ReplaceAll(agent, ".", "-")), t.TempDir())
		late.mu.Lock()
		late.hello.Agent = agent
		hello := late.hello
		late.mu.Unlock()
		eventually(t, "it is connected", late.link.Connected)
		hello.Gen = late.newest().Gen
		send(late, wire.UpHello, hello, wire.Encode[wire.Hello])
		eventually(t, agent+" is told", func() bool {
			n := late.newest()
			return n.Model != nil && (n.Agent != nil || !wanted)
		})
		if !wanted && late.newest().Agent != nil {
			t.Errorf("%s is to become 0.2.0", agent)
		}
	}
}
