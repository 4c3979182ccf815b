package slots

import (
	"errors"
	"fmt"
	"io/fs"
	"syscall"
	"time"

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

// A fault is what reading a mapped file gives where the card cannot be read.
type fault struct{ what string }

func (e *fault) Error() string {
	return "read " + e.what + ": the card does not give a page of its file"
}

// asFault returns the fault that a panic was, nil for any other panic: a fault
// has an address (debug.SetPanicOnFault).
func asFault(what string, recovered any) error {
	if _, ok := recovered.(interface{ Addr() uintptr }); ok {
		return &fault{what}
	}
	return nil
}

// cardFailed reports whether err is what the system said while a model was
// read, or a fault, and so no verdict on the model: it may be read the next
// time, or with another card. A file that is not there is one.
func cardFailed(err error) bool {
	return errors.As(err, new(*fault)) || errors.As(err, new(syscall.Errno)) && !errors.Is(err, fs.ErrNotExist)
}

// badPlace reports whether it is a place of the card that cannot be read: what
// is fetched anew goes to another one. Memory, files or rights that the process
// lacks are none of a card.
func badPlace(err error) bool {
	const euclean = syscall.Errno(117) // Linux: the file system itself is damaged; others lack the name
	for _, card := range []error{syscall.EIO, euclean, syscall.EBADMSG, syscall.EILSEQ, syscall.ENODATA} {
		if errors.Is(err, card) {
			return true
		}
	}
	return errors.As(err, new(*fault))
}

// mostFetches is how often a model is fetched that the card does not give
// afterwards. Then the card is likely at its end, and the hub's line is spared
// for fetchWait, or until the next start.
const (
	mostFetches = 3
	fetchWait   = 6 * time.Hour
)

// unreadable counts the fetches of a model that the card does not give.
type unreadable struct {
	digest  string
	fetches int
	last    time.Time
}

// again counts one more, and returns why with what follows from it.
func (u *unreadable) again(digest string, why error) error {
	if !badPlace(why) {
		return why
	}
	if u.digest != digest {
		*u = unreadable{digest: digest}
	}
	u.fetches, u.last = u.fetches+1, time.Now()
	if err := u.wait(digest); err != nil {
		return fmt.Errorf("%w: %w", err, why)
	}
	return why
}

// wait returns an error, which wraps ErrAgain, where a model is not to be
// fetched now.
func (u *unreadable) wait(digest string) error {
	if u.digest != digest || u.fetches < mostFetches || time.Since(u.last) > fetchWait {
		return nil
	}
	return fmt.Errorf("the card did not give the model after %d fetches; %w, in %v or after a restart. Check or replace the card", u.fetches, ErrAgain, fetchWait)
}

// broken is the refusal of a pack that could not be opened, or err itself where
// that is the card's.
func broken(err error) error {
	if cardFailed(err) {
		return err
	}
	return refuse(brokenReason(err), err)
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
