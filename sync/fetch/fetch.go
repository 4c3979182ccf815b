// Package fetch brings an artefact (a model, facts) by digest from the hub
// into an OCI layout on the device.
//
// Start with New and Fetcher.Artefact. The promise: when Artefact returns nil
// the manifest and every blob that it names (of the layers, those that
// Options.Layers returns) are in the layout, and each has
// the digest it should have; a blob becomes visible only after it was hashed
// and synced. What was received before an interruption is not received again.
//
// The package does not look at signatures (a caller checks the manifest's
// digest before or after), does not touch the layout's index, and does not
// decide which artefact is wanted.
//
// The way: GET <base>/v1/blob/<digest> with a bearer token, and a Range where
// a part is there already. The part is hashed along with the rest when the
// blob is whole; if a power cut damaged it, the blob is fetched once more
// from its beginning.
package fetch

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/url"
	"os"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"
	"golang.org/x/time/rate"

	"dunlin/internal/oci"
	"dunlin/sync/wire"
)

// ErrNoSpace is wrapped by the error when the disk has no room for the
// artefact. It is a *SpaceError where that was known beforehand.
var ErrNoSpace = errors.New("no space on the disk")

// SpaceError says how much room is lacking. It is an ErrNoSpace.
type SpaceError struct {
	Dir        string
	Need, Free int64 // bytes; Need is what is still to come, and the reserve
}

func (e *SpaceError) Error() string {
	return fmt.Sprintf("%v: %s has %d bytes free, %d are needed", ErrNoSpace, e.Dir, e.Free, e.Need)
}

// Is makes errors.Is(err, ErrNoSpace) true.
func (e *SpaceError) Is(target error) bool { return target == ErrNoSpace }

// Error says which blob could not be brought.
type Error struct {
	Digest    oci.Digest
	Status    int // of the HTTP answer, 0 where there was none
	Err       error
	temporary bool
	after     time.Duration // what the server asked us to wait
}

func (e *Error) Error() string { return fmt.Sprintf("fetch %s: %v", e.Digest, e.Err) }
func (e *Error) Unwrap() error { return e.Err }

// Temporary reports whether trying again later can help: the network or the
// server failed, or the disk is full. A wrong digest, a refusal or a missing
// blob is not temporary.
func (e *Error) Temporary() bool { return e.temporary || errors.Is(e.Err, ErrNoSpace) }

// Options bound a fetch. The zero value of each means its default.
type Options struct {
	TLS      *tls.Config   // for https; default: the system's authorities
	Attempts int           // tries in a row that bring nothing new before giving up, default 8
	MinDelay time.Duration // between tries, doubled each time, default 1 s
	MaxDelay time.Duration // default 1 min
	Stall    time.Duration // a try without a byte for so long has failed, default 30 s
	Reserve  int64         // bytes to be left free on the disk, default 16 MiB
	MaxBytes int64         // an artefact may have in all, default 4 GiB
	// Layers returns those of a manifest's layers that are brought; nil: all of them.
	Layers func(all []oci.Descriptor) []oci.Descriptor
}

func (o Options) withDefaults() Options {
	if o.Attempts <= 0 {
		o.Attempts = 8
	}
	if o.MinDelay <= 0 {
		o.MinDelay = time.Second
	}
	if o.MaxDelay <= 0 {
		o.MaxDelay = time.Minute
	}
	if o.Stall <= 0 {
		o.Stall = 30 * time.Second
	}
	if o.Reserve <= 0 {
		o.Reserve = 16 << 20
	}
	if o.MaxBytes <= 0 {
		o.MaxBytes = 4 << 30
	}
	return o
}

// Fetcher brings artefacts from one hub into one layout, one at a time.
type Fetcher struct {
	base   string
	token  string
	layout *oci.Layout
	o      Options
	client *http.Client

	mu sync.Mutex // held over Artefact: two of them would share parts
}

// New returns a Fetcher for the hub at base, "https://hub.example:8443".
func New(base, token string, layout *oci.Layout, o Options) (*Fetcher, error) {
	u, err := url.Parse(base)
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
		return nil, fmt.Errorf("hub address %.100q: want http://HOST:PORT or https://HOST:PORT", base)
	}
	f := &Fetcher{base: strings.TrimRight(base, "/"), token: token, layout: layout, o: o.withDefaults()}
	f.client = &http.Client{
		Transport: &http.Transport{
			Proxy:                 http.ProxyFromEnvironment,
			TLSClientConfig:       o.TLS,
			TLSHandshakeTimeout:   f.o.Stall,
			ResponseHeaderTimeout: f.o.Stall,
			DisableCompression:    true, // digests and ranges are of the bytes as stored
			MaxIdleConnsPerHost:   1,
		},
		CheckRedirect: sameHost,
	}
	return f, nil
}

// errRedirect is permanent: the token is for this hub alone.
var errRedirect = errors.New("redirected to another host")

func sameHost(req *http.Request, via []*http.Request) error {
	from := via[0].URL
	if req.URL.Host != from.Host || req.URL.Scheme != from.Scheme {
		return fmt.Errorf("%w: %s", errRedirect, req.URL.Host)
	}
	if len(via) >= 5 {
		return errors.New("redirected five times")
	}
	return nil
}

// Artefact brings the manifest of that digest ("sha256:…") and every blob that
// it names. It waits first, as the rules say: until NotBefore (at most a day,
// because the clock may be wrong), and then a random part of JitterS.
// progress, if not nil, is called from this goroutine with the bytes that are
// there and those of the whole artefact.
//
// Errors are *Error, and wrap *oci.DigestError, ErrNoSpace or ctx's error
// where that is the cause.
func (f *Fetcher) Artefact(ctx context.Context, manifest string, rules wire.FetchRules, progress func(done, total int64)) error {
	digest, err := oci.ParseDigest(manifest)
	if err != nil {
		return &Error{Digest: oci.Digest(manifest), Err: err}
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	defer f.client.CloseIdleConnections()
	if err := wait(ctx, politeDelay(rules, time.Now())); err != nil {
		return &Error{Digest: digest, Err: err, temporary: true}
	}
	t := &transfer{Fetcher: f, progress: progress}
	if rules.MaxKBps > 0 {
		t.limit = rate.NewLimiter(rate.Limit(rules.MaxKBps*1000), chunk)
	}
	return t.artefact(ctx, digest)
}

func politeDelay(rules wire.FetchRules, now time.Time) time.Duration {
	d := min(max(rules.NotBefore.Sub(now), 0), 24*time.Hour)
	if rules.NotBefore.IsZero() {
		d = 0
	}
	if rules.JitterS > 0 {
		d += time.Duration(rand.Int64N(int64(rules.JitterS) * int64(time.Second)))
	}
	return d
}

func wait(ctx context.Context, d time.Duration) error {
	if d <= 0 {
		return ctx.Err()
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// freeSpace returns the bytes that a process without privileges may write.
func freeSpace(dir string) (int64, error) {
	var s unix.Statfs_t
	if err := unix.Statfs(dir, &s); err != nil {
		return 0, &os.PathError{Op: "statfs", Path: dir, Err: err}
	}
	return int64(s.Bavail) * int64(s.Bsize), nil
}
