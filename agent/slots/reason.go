package slots

import (
	"errors"
	"io/fs"

	"dunlin/internal/oci"
	"dunlin/internal/sign"
	"dunlin/model/pack"
	"dunlin/sync/fetch"
	"dunlin/sync/wire"
)

// refusal is an error that ends an offer, with the reason that the hub is
// told.
type refusal struct {
	why wire.Reason
	err error
}

func (e *refusal) Error() string { return e.err.Error() }
func (e *refusal) Unwrap() error { return e.err }

func refuse(why wire.Reason, err error) error { return &refusal{why, err} }

// reasonOf returns the reason of a refusal, ReasonBroken for other errors.
func reasonOf(err error) wire.Reason {
	if r, ok := errors.AsType[*refusal](err); ok {
		return r.why
	}
	return wire.ReasonBroken
}

// SignatureReason tells an unknown key from a signature that does not fit.
func SignatureReason(err error) wire.Reason {
	if errors.Is(err, sign.ErrUnknownKey) {
		return wire.ReasonUnknownKey
	}
	return wire.ReasonSignature
}

// brokenReason is why a pack could not be opened.
func brokenReason(err error) wire.Reason {
	if errors.As(err, new(*oci.DigestError)) {
		return wire.ReasonDigest
	}
	if errors.As(err, new(*pack.ExamError)) {
		return wire.ReasonExam
	}
	return wire.ReasonBroken
}

// FetchReason returns why an artefact could not be fetched, and whether
// trying again can help.
func FetchReason(err error) (why wire.Reason, again bool) {
	switch {
	case errors.As(err, new(*oci.DigestError)):
		return wire.ReasonDigest, false
	case errors.Is(err, fetch.ErrNoSpace):
		return wire.ReasonNoSpace, true
	}
	var t interface{ Temporary() bool }
	if errors.As(err, &t) {
		return wire.ReasonFetch, t.Temporary()
	}
	return wire.ReasonFetch, !errors.Is(err, fs.ErrNotExist)
}
