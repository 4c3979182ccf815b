package agent

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"time"

	"dunlin/agent/slots"
	"dunlin/engine"
	"dunlin/internal/oci"
	"dunlin/model/pack"
	"dunlin/model/prep"
	"dunlin/sync/fetch"
	"dunlin/sync/wire"
)

// openModels opens the slots and what brings artefacts into them.
func (a *Agent) openModels() error {
	trust, err := a.c.releaseKeys()
	if err != nil {
		return err
	}
	factsTrust := trust
	if a.token != nil {
		trust = append(trust, a.token.ReleaseKeys...)
		factsTrust = append(append(factsTrust, a.token.ReleaseKeys...), a.token.HubKey)
	}
	models, err := oci.Create(a.path("models"))
	if err != nil {
		return err
	}
	graphs, err := oci.Create(a.path("facts"))
	if err != nil {
		return err
	}
	getModel, err := a.fetcher(models, nil)
	if err != nil {
		return err
	}
	getFacts, err := a.fetcher(graphs, nil)
	if err != nil {
		return err
	}
	compile := engine.Options{Threads: a.c.Model.Threads, MaxMemory: a.c.maxMemory(a.bounds)}
	a.slots, err = slots.Open(slots.Config{
		Dir: a.c.StateDir, Layout: models, Trust: trust, Fetch: getModel, Report: a.report, Clock: a.clock.read, Log: a.log,
		Engine: compile,
		Learn:  a.c.Learn.Enabled,
		Strict: a.updates.onTrial(), StandsIn: a.updates.standsIn(),
	})
	if err != nil {
		return err
	}
	a.p = &pipeline{
		slots: a.slots, facts: a.facts, box: a.box, clock: a.clock, boot: a.boot, perResult: a.c.Facts.PerResult,
		limits: prep.Limits{
			MaxBytes: max(a.c.Folder.MaxMB, a.c.HTTP.MaxMB) << 20, MaxPixels: a.c.MaxMegapixels * 1_000_000,
		},
		log: a.log, count: a.count, card: a.cardError, decoding: make(chan struct{}, 1),
	}
	a.explainer = newExplainer(a.p, compile)
	if a.p.tries, err = openTries(a.path("tries")); err != nil {
		return err
	}
	taker := &factsTaker{
		trust: factsTrust, layout: graphs, cache: a.facts, fetch: getFacts, report: a.report, clock: a.clock.read,
		sweep: func(err error) {
			if err != nil {
				a.log.Warn("old facts are not swept", keyError, err)
			}
		},
	}
	if a.models, err = newLane("model", a.journal, a.log, a.tryModel); err != nil {
		return err
	}
	a.graphs, err = newLane("facts", a.journal, a.log, taker.take)
	return err
}

type fetchFunc func(context.Context, wire.Offer, func(done, total int64)) error

// fetcher returns what brings an offer into a layout: from the folder that
// the configuration names where the offer came from there, else from the hub.
// choose returns the layers that are wanted, nil: all of them.
func (a *Agent) fetcher(l *oci.Layout, choose func([]oci.Descriptor) []oci.Descriptor) (fetchFunc, error) {
	var remote *fetch.Fetcher
	if a.token != nil {
		config, err := a.tls()
		if err != nil {
			return nil, err
		}
		if remote, err = fetch.New(a.token.HTTP, a.token.Secret, l, fetch.Options{TLS: config, Layers: choose}); err != nil {
			return nil, err
		}
	}
	return func(ctx context.Context, o wire.Offer, progress func(done, total int64)) error {
		if local := a.localPack(); local != nil && local.Has(oci.Digest(o.Manifest)) {
			return copyArtefact(local, l, oci.Digest(o.Manifest))
		}
		if remote == nil {
			return fmt.Errorf("fetch %s: there is no hub", o.Name)
		}
		ctx, cancel := fetchContext(ctx)
		defer cancel()
		return remote.Artefact(ctx, o.Manifest, o.Fetch, progress)
	}, nil
}

// tls returns nil where the system's authorities are to be used, and nothing
// is known of the time but what the clock says.
func (a *Agent) tls() (*tls.Config, error) {
	config := &tls.Config{MinVersion: tls.VersionTLS12}
	if since := a.enrolment.since; !since.IsZero() {
		config.Time = func() time.Time { return notBefore(a.clock.now, since) }
	}
	if a.token.CAPEM == "" {
		if config.Time == nil {
			return nil, nil
		}
		return config, nil
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM([]byte(a.token.CAPEM)) {
		return nil, errors.New("enrolment token: ca_pem holds no certificate")
	}
	config.RootCAs = pool
	return config, nil
}

// localPack opens the layout that the configuration names, nil for none.
func (a *Agent) localPack() *oci.Layout {
	if a.c.Model.Pack == "" {
		return nil
	}
	l, err := oci.Open(a.c.Model.Pack)
	if err != nil {
		a.log.Error("model.pack cannot be opened", keyError, err)
		return nil
	}
	return l
}

// offerLocal makes an offer of the newest pack in the configured folder.
func (a *Agent) offerLocal() {
	l := a.localPack()
	if l == nil {
		return
	}
	d, err := pack.Newest(l)
	if err != nil {
		a.log.Error("model.pack holds no model", keyError, err)
		return
	}
	sig, ok := pack.Signature(l, string(d.Digest))
	if !ok {
		a.log.Error("model.pack is not signed", "digest", d.Digest)
		return
	}
	m, err := pack.Open(l, string(d.Digest))
	if err != nil {
		a.log.Error("model.pack cannot be read", keyError, err)
		return
	}
	o := wire.Offer{Kind: wire.OfferModel, Name: m.Name, Version: m.Version, Manifest: m.Digest, Bytes: m.Size, Sig: sig}
	if err := m.Close(); err != nil {
		a.log.Warn("model.pack", keyError, err)
	}
	a.models.desire(o, a.slots.Running() == nil || a.unread(o.Manifest))
}

// copyArtefact copies a manifest and its blobs from one layout to another.
func copyArtefact(from, to *oci.Layout, manifest oci.Digest) error {
	m, err := from.Manifest(manifest)
	if err != nil {
		return err
	}
	for _, b := range append(oci.Blobs(m), oci.Descriptor{MediaType: oci.MediaTypeManifest, Digest: manifest}) {
		f, _, err := from.OpenBlob(b.Digest)
		if err != nil {
			return err
		}
		got, err := to.Put(b.MediaType, f)
		if err := errors.Join(err, f.Close()); err != nil {
			return err
		}
		if got.Digest != b.Digest {
			return &oci.DigestError{Want: b.Digest, Got: got.Digest, Size: got.Size}
		}
	}
	return nil
}
