package agent

import (
	"context"
	"slices"

	"dunlin/internal/oci"
	"dunlin/sync/wire"
)

// A Desired without a model takes back the one that the hub gave: the rollout
// that brought the device its first model was aborted, say. What a command
// activated, and the pack that the configuration names, is not the hub's to
// take back: a hub that never wanted a model here has nothing to say about it.

// maxGiven is how many digests of the hub's are remembered: the two slots, the
// one on trial, and those on their way when the power went.
const maxGiven = 8

// remember keeps the digests that the hub wanted here, before they are taken.
func (a *Agent) remember(offers ...*wire.Offer) error {
	var given []string
	if err := a.journal.get("given", &given); err != nil {
		return err
	}
	before := slices.Clone(given)
	for _, o := range offers {
		if o != nil {
			given = append(slices.DeleteFunc(given, func(d string) bool { return d == o.Manifest }), o.Manifest)
		}
	}
	given = given[max(0, len(given)-maxGiven):]
	if slices.Equal(given, before) {
		return nil
	}
	return a.journal.put("given", given)
}

// fromHub tells whether a model is here because the hub wanted it.
func (a *Agent) fromHub(digest string) bool {
	var given []string
	if err := a.journal.get("given", &given); err != nil {
		a.log.Error("what the hub gave is not known", keyError, err)
		return false
	}
	if !slices.Contains(given, digest) {
		return false
	}
	local := a.localPack()
	return local == nil || !local.Has(oci.Digest(digest))
}

// withdraw takes back what the hub gave, as soon as the lane comes to it; it
// returns false where there is nothing of the kind.
func (a *Agent) withdraw() bool {
	digests := a.models.wanted()
	if r := a.slots.Running(); r != nil {
		digests = append(digests, r.Digest)
	}
	if !slices.ContainsFunc(digests, a.fromHub) {
		return false
	}
	a.models.withdraw(func(ctx context.Context) (wire.Report, error) {
		r := a.slots.Running()
		if r == nil || !a.fromHub(r.Digest) {
			a.offerLocal()
			return wire.Report{}, nil
		}
		to := r.Previous
		if to != "" && a.fromHub(to) {
			to = ""
		}
		report, _, err := a.slots.Withdraw(ctx, r.Digest, to)
		if err == nil {
			a.log.Warn("the hub wants no model here", "taken_back", r.Name, "version", r.Version)
			a.offerLocal()
		}
		return report, err
	})
	return true
}
