package hub_test

import (
	"testing"

	"dunlin/hub"
	"dunlin/hub/api"
	"dunlin/hub/rollout"
	"dunlin/internal/sign"
	"dunlin/sync/wire"
)

// TestReportOfAnOlderGeneration: a retained "reported" that is older than the
// newest desired document must not decide a rollout of the same model.
func TestReportOfAnOlderGeneration(t *testing.T) {
	key := newKey(t)
	s := run(t, hub.Options{Dir: t.TempDir(), ReleaseKeys: sign.Trust{key.Public()}})
	one := s.push(1, key)
	b := start(t, s.enrol("left"), t.TempDir())
	eventually(t, "it is online", func() bool { return s.online() == 1 })
	st := s.rollOut(api.RolloutRequest{})
	eventually(t, "it is told", func() bool { return b.newest().Gen == 1 })
	report := func(gen int64, state wire.State) {
		send(b, wire.UpReported, wire.Reported{Gen: gen, Reports: []wire.Report{{
			Kind: wire.OfferModel, Name: "garments", Version: 1, Digest: one, State: state, Reason: wire.ReasonExam,
		}}}, wire.Encode[wire.Reported])
	}
	report(0, wire.StateRefused)
	report(1, wire.StateTrial)
	eventually(t, "it is on trial", func() bool { return s.phase(st.ID).Devices[0].Stage == rollout.Trial })
	report(1, wire.StateRefused)
	eventually(t, "the refusal counts", func() bool { return s.phase(st.ID).Phase == rollout.RolledBack })
}
