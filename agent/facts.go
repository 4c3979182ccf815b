package agent

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"syscall"

	"dunlin/agent/slots"
	"dunlin/facts/cache"
	"dunlin/internal/durable"
	"dunlin/internal/oci"
	"dunlin/internal/release"
	"dunlin/internal/sign"
	"dunlin/sync/wire"
)

// factsTaker applies offers of facts: signature, fetch, digests, then the
// cache takes all of it or nothing.
type factsTaker struct {
	trust  sign.Trust
	layout *oci.Layout
	cache  *cache.Cache
	fetch  func(ctx context.Context, o wire.Offer, progress func(done, total int64)) error
	report func(wire.Report)
	clock  func() wire.Clock
	sweep  func(error)
}

// refusal is an error that ends an offer of facts, or of the agent.
type refusal struct {
	why wire.Reason
	err error
}

func (e *refusal) Error() string { return e.err.Error() }
func (e *refusal) Unwrap() error { return e.err }

// take applies an offer and says how that ended; an error means: again later.
func (t *factsTaker) take(ctx context.Context, o wire.Offer) (wire.Report, error) {
	err := t.apply(ctx, o)
	if err == nil {
		return t.tell(o, wire.StateActive, wire.ReasonNone, nil), nil
	}
	if refused, ok := errors.AsType[*refusal](err); ok {
		return t.tell(o, wire.StateRefused, refused.why, refused.err), nil
	}
	return wire.Report{}, err
}

func (t *factsTaker) tell(o wire.Offer, s wire.State, why wire.Reason, err error) wire.Report {
	r := wire.Report{
		Kind: wire.OfferFacts, Name: o.Name, Version: o.Version, Digest: o.Manifest, State: s, Reason: why, At: t.clock(),
	}
	if err != nil {
		r.Error = clip(err.Error(), 1000)
	}
	t.report(r)
	return r
}

func (t *factsTaker) apply(ctx context.Context, o wire.Offer) error {
	digest, err := oci.ParseDigest(o.Manifest)
	if err != nil || o.Kind != wire.OfferFacts {
		return &refusal{wire.ReasonBroken, fmt.Errorf("offer of kind %q, manifest %.80q", o.Kind, o.Manifest)}
	}
	if err := t.trust.Verify(wire.OfferFacts.Purpose(), []byte(o.Manifest), o.Sig); err != nil {
		return &refusal{slots.SignatureReason(err), err}
	}
	if err := t.possible(o); err != nil {
		return err
	}
	if now := t.cache.Version(); now.Graph == o.Name && now.Version == o.Version {
		return nil
	}
	t.tell(o, wire.StateFetching, wire.ReasonNone, nil)
	if err := t.fetch(ctx, o, nil); err != nil {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		why, again := slots.FetchReason(err)
		if !again {
			return &refusal{why, err}
		}
		t.tell(o, wire.StateFetching, why, err)
		return fmt.Errorf("fetch facts %s: %w: %w", o.Name, slots.ErrAgain, err)
	}
	err = t.use(o, digest)
	// What the cache took it has copied; what it refused is of no use.
	_, swept := t.layout.Sweep()
	t.sweep(swept)
	if errors.Is(err, errNoSpace) {
		t.tell(o, wire.StateFetching, wire.ReasonNoSpace, err)
		return fmt.Errorf("facts %s: %w: %w", o.Name, slots.ErrAgain, err)
	}
	return err
}

// possible refuses, before the fetch, what the cache could not take.
func (t *factsTaker) possible(o wire.Offer) error {
	now := t.cache.Version()
	switch {
	case now.Graph != o.Name && now.Graph != "" && o.From != 0:
		return &refusal{wire.ReasonWrongBase, fmt.Errorf("the patch is for %s, the cache holds %s", o.Name, now.Graph)}
	case o.From != 0 && now.Version != o.From && now.Version != o.Version:
		return &refusal{wire.ReasonWrongBase, fmt.Errorf("the patch starts from version %d, the cache has %d", o.From, now.Version)}
	}
	return nil
}

// use applies what was fetched. Its manifest must say what the offer says:
// only the manifest is signed.
func (t *factsTaker) use(o wire.Offer, digest oci.Digest) error {
	if err := t.layout.Verify(digest); err != nil {
		if errors.As(err, new(*oci.DigestError)) {
			return &refusal{wire.ReasonDigest, err}
		}
		return unlessBroken(err)
	}
	m, err := t.layout.Manifest(digest)
	if err != nil {
		return unlessBroken(err)
	}
	name, version := m.Annotations[oci.AnnotationTitle], m.Annotations[oci.AnnotationVersion]
	if name != o.Name || version != strconv.FormatInt(o.Version, 10) {
		return &refusal{wire.ReasonBroken, fmt.Errorf("offered as %s version %d, its manifest says %.80q version %.20q", o.Name, o.Version, name, version)}
	}
	for _, d := range m.Layers {
		switch strings.TrimSuffix(d.MediaType, cache.GzipSuffix) {
		case cache.MediaTypeBase:
			return t.applied(t.applyBase(o, d))
		case cache.MediaTypePatch:
			return t.applied(t.applyPatch(o, d))
		}
	}
	return &refusal{wire.ReasonBroken, fmt.Errorf("none of its %d layers are facts", len(m.Layers))}
}

func (t *factsTaker) applyBase(o wire.Offer, d oci.Descriptor) error {
	path, err := t.layout.Path(d.Digest)
	if err != nil {
		return err
	}
	return t.cache.ApplyBase(o.Name, o.Version, path)
}

func (t *factsTaker) applyPatch(o wire.Offer, d oci.Descriptor) error {
	f, _, err := t.layout.OpenBlob(d.Digest)
	if err != nil {
		return err
	}
	return errors.Join(t.cache.ApplyPatch(o.Name, o.From, o.Version, f), f.Close())
}

// isBroken reports whether it is what was fetched that cannot be used. Any other
// error is the card's, which may be able to read it the next time.
func isBroken(err error) bool {
	return errors.Is(err, release.ErrRelease) || errors.Is(err, oci.ErrManifest) || errors.Is(err, oci.ErrTooLarge)
}

// unlessBroken returns a refusal of what is broken, and other errors as they are.
func unlessBroken(err error) error {
	if isBroken(err) {
		return &refusal{wire.ReasonBroken, err}
	}
	return err
}

// applied finds the reason for which the cache refused.
func (t *factsTaker) applied(err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, cache.ErrWrongBase):
		return &refusal{wire.ReasonWrongBase, err}
	case durable.IsNoSpace(err):
		return fmt.Errorf("%w: %w", errNoSpace, err)
	case errors.As(err, new(syscall.Errno)): // it says nothing about the facts
		return err
	}
	return &refusal{wire.ReasonBroken, err}
}

// errNoSpace is a full disk: somebody, or the next sweep, may make room.
var errNoSpace = errors.New("no space for the facts")
