package cli

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"time"

	"dunlin/internal/oci"
	"dunlin/internal/sign"
	"dunlin/model/pack"
	"dunlin/sync/wire"
)

// offerBadModels sends four models that a device must not take, past the
// hub's own checks: as orders to activate, which the device checks like any
// other offer.
func (d *demo) offerBadModels(ctx context.Context) error {
	a := d.agents[0]
	for _, bad := range []struct {
		what   string
		make   func(context.Context) (wire.Offer, error)
		reason wire.Reason
	}{
		{"a byte flipped on its way", d.flipped, wire.ReasonDigest},
		{"signed by a wrong key", d.wrongKey, wire.ReasonUnknownKey},
		{"a false exam, signed by the right key", d.falseExam, wire.ReasonExam},
		{"an older version", d.older, wire.ReasonOlder},
	} {
		offer, err := bad.make(ctx)
		if err != nil {
			return fmt.Errorf("%s: %w", bad.what, err)
		}
		ack, err := d.activate(ctx, a, offer)
		if err != nil {
			return fmt.Errorf("%s: %w", bad.what, err)
		}
		report, err := d.reportOf(ctx, a, offer.Manifest)
		if err != nil {
			return fmt.Errorf("%s: %w (the command: %s %s)", bad.what, err, ack.Phase, ack.Error)
		}
		if report.Reason != bad.reason {
			return fmt.Errorf("%s: refused as %s, want %s: %s", bad.what, report.Reason, bad.reason, report.Error)
		}
		d.say("%s: %s (%s)", bad.what, report.Reason, report.Error)
		if err := d.stillAnswers(ctx, a); err != nil {
			return fmt.Errorf("after %s: %w", bad.what, err)
		}
	}
	d.say("the old model still answers: garments version %d, %s", d.small.version, short(d.small.digest))
	d.proved("bad models", "4 refused for 4 reasons, the old model answered all along")
	return nil
}

// activate orders a to take offer and waits for the outcome.
func (d *demo) activate(ctx context.Context, a *demoAgent, offer wire.Offer) (wire.CmdAck, error) {
	args, err := json.Marshal(offer)
	if err != nil {
		return wire.CmdAck{}, err
	}
	var sent struct{ ID string }
	order := map[string]any{"name": wire.CmdActivate, "args": json.RawMessage(args), "ttl_s": 60}
	if err := d.hub.api.do(ctx, "POST", "/v1/devices/demo/"+a.name+"/commands", order, &sent); err != nil {
		return wire.CmdAck{}, err
	}
	var ack wire.CmdAck
	return ack, waitFor(ctx, time.Minute, "the agent's answer", func() error {
		if err := d.hub.api.do(ctx, "GET", "/v1/commands/"+sent.ID+"?wait=5", nil, &ack); err != nil {
			return err
		}
		if ack.Phase == "" || ack.Phase == wire.CmdReceived {
			return errNotYet
		}
		return nil
	})
}

// reportOf returns the agent's report on a manifest, from the hub's twin.
func (d *demo) reportOf(ctx context.Context, a *demoAgent, manifest string) (wire.Report, error) {
	var found wire.Report
	err := waitFor(ctx, time.Minute, "the agent's report", func() error {
		var v deviceRow
		if err := d.hub.api.do(ctx, "GET", "/v1/devices/demo/"+a.name, nil, &v); err != nil {
			return err
		}
		if v.Reported == nil {
			return errNotYet
		}
		for _, r := range v.Reported.Reports {
			if r.Digest == manifest && (r.State == wire.StateRefused || r.State == wire.StateReverted) {
				found = r
				return nil
			}
		}
		return errNotYet
	})
	return found, err
}

// stillAnswers sends a picture to the agent and looks which model answered.
func (d *demo) stillAnswers(ctx context.Context, a *demoAgent) error {
	_, files, err := d.pictures.take(1)
	if err != nil {
		return err
	}
	r, err := a.infer(ctx, files[0])
	if err != nil {
		return err
	}
	if r.Model.Digest != d.small.digest || len(r.Labels) == 0 {
		return fmt.Errorf("the answer is of %+v, with %d labels", r.Model, len(r.Labels))
	}
	return nil
}

// offer sends the blobs of a pack to the hub and returns the offer of it.
func (d *demo) offer(ctx context.Context, p demoPack, sig sign.Signature) (wire.Offer, error) {
	l, err := oci.Open(p.dir)
	if err != nil {
		return wire.Offer{}, err
	}
	if _, err := pushBlobs(ctx, d.hub.api, l, p.digest, func(int, int) {}); err != nil {
		return wire.Offer{}, err
	}
	return wire.Offer{
		Kind: wire.OfferModel, Name: "garments", Version: p.version, Manifest: p.digest, Sig: sig,
		Trial: wire.TrialRules{Seconds: 2},
	}, nil
}

// variant packs the small model again with one thing changed, as a newer
// version.
func (d *demo) variant(name string, version int64, change func(*pack.Pack)) (demoPack, error) {
	m, err := pack.ReadDir(d.small.dir)
	if err != nil {
		return demoPack{}, err
	}
	defer m.Close()
	p := m.Pack
	p.Version = version
	change(&p)
	dir := d.path(name)
	digest, err := writePack(dir, &p)
	return demoPack{dir, digest, version}, err
}

func (d *demo) flipped(ctx context.Context) (wire.Offer, error) {
	p, err := d.variant("pack-flipped", 3, func(p *pack.Pack) { p.Provenance = json.RawMessage(`{"note":"a byte of me will be flipped"}`) })
	if err != nil {
		return wire.Offer{}, err
	}
	sig := d.key.Sign(pack.PurposeModel, []byte(p.digest))
	offer, err := d.offer(ctx, p, sig)
	if err != nil {
		return offer, err
	}
	// The hub checked what it was sent; the byte flips on its disk afterwards.
	return offer, d.flipByte(p)
}

// flipByte damages the provenance blob of p where the hub keeps it.
func (d *demo) flipByte(p demoPack) error {
	l, err := oci.Open(p.dir)
	if err != nil {
		return err
	}
	dg, err := oci.ParseDigest(p.digest)
	if err != nil {
		return err
	}
	m, err := l.Manifest(dg)
	if err != nil {
		return err
	}
	hub, err := oci.Open(d.path("hub", "registry"))
	if err != nil {
		return err
	}
	for _, b := range oci.Blobs(m) {
		data, err := l.ReadBlob(b.Digest, 1<<20)
		if err != nil || string(data) != `{"note":"a byte of me will be flipped"}` {
			continue
		}
		path, err := hub.Path(b.Digest)
		if err != nil {
			return err
		}
		data[2] ^= 1
		if err := os.Chmod(path, 0o600); err != nil {
			return err
		}
		return os.WriteFile(path, data, 0o600)
	}
	return fmt.Errorf("pack %s has no such blob", p.dir)
}

func (d *demo) wrongKey(ctx context.Context) (wire.Offer, error) {
	p, err := d.variant("pack-wrong-key", 4, func(*pack.Pack) {})
	if err != nil {
		return wire.Offer{}, err
	}
	key, err := sign.Generate()
	if err != nil {
		return wire.Offer{}, err
	}
	return d.offer(ctx, p, key.Sign(pack.PurposeModel, []byte(p.digest)))
}

func (d *demo) falseExam(ctx context.Context) (wire.Offer, error) {
	p, err := d.variant("pack-false-exam", 5, func(p *pack.Pack) {
		exam := *p.Exam
		exam.Cases = append([]pack.Case(nil), exam.Cases...)
		wrong := exam.Cases[0].Outputs[0].Clone()
		wrong.Data[0] ^= 1
		exam.Cases[0].Outputs = append(exam.Cases[0].Outputs[:0:0], wrong)
		p.Exam = &exam
	})
	if err != nil {
		return wire.Offer{}, err
	}
	return d.offer(ctx, p, d.key.Sign(pack.PurposeModel, []byte(p.digest)))
}

func (d *demo) older(ctx context.Context) (wire.Offer, error) {
	return d.offer(ctx, d.fp16, d.key.Sign(pack.PurposeModel, []byte(d.fp16.digest)))
}
