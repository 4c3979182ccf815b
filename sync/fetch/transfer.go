package fetch

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"net/http"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"
	"golang.org/x/time/rate"

	"dunlin/internal/durable"
	"dunlin/internal/oci"
)

// chunk is how much is read, paid for at the rate limit, and written at once.
const chunk = 32 << 10

// maxRetryAfter bounds what a server's Retry-After can ask for.
const maxRetryAfter = 10 * time.Minute

// transfer is one Artefact call.
type transfer struct {
	*Fetcher
	limit    *rate.Limiter // nil: none
	progress func(done, total int64)
	done     int64 // bytes of the artefact that are there
	total    int64
}

func (t *transfer) tell() {
	if t.progress != nil {
		t.progress(t.done, t.total)
	}
}

func (t *transfer) artefact(ctx context.Context, d oci.Digest) error {
	manifest, size, err := t.manifest(ctx, d)
	if err != nil {
		return err
	}
	missing, err := t.plan(d, size, oci.Blobs(t.wanted(manifest)))
	if err != nil {
		return err
	}
	t.tell()
	for _, b := range missing {
		err := t.retry(ctx, b.Digest, func() (have int64, err error) { return t.blob(ctx, b) })
		if err != nil {
			return err
		}
	}
	return nil
}

// wanted is the manifest without the layers that nobody asked for.
func (t *transfer) wanted(m *oci.Manifest) *oci.Manifest {
	if t.o.Layers == nil {
		return m
	}
	w := *m
	w.Layers = t.o.Layers(m.Layers)
	return &w
}

// manifest returns the manifest and its size, from the layout where it is
// there and whole.
func (t *transfer) manifest(ctx context.Context, d oci.Digest) (m *oci.Manifest, size int64, err error) {
	data, err := t.layout.ReadBlob(d, oci.MaxManifest)
	if err != nil {
		err = t.retry(ctx, d, func() (have int64, err error) {
			data, err = t.small(ctx, d)
			return 0, err
		})
		if err != nil {
			return nil, 0, err
		}
		if _, err := t.layout.PutBytes(oci.MediaTypeManifest, data); err != nil {
			return nil, 0, &Error{Digest: d, Err: diskError(err)}
		}
	}
	m, err = oci.ParseManifest(data)
	if err != nil {
		return nil, 0, &Error{Digest: d, Err: err}
	}
	return m, int64(len(data)), nil
}

// small receives a blob of at most oci.MaxManifest bytes into memory.
func (t *transfer) small(ctx context.Context, d oci.Digest) ([]byte, error) {
	resp, stop, err := t.get(ctx, d, 0)
	if err != nil {
		return nil, err
	}
	defer stop()
	if resp.StatusCode != http.StatusOK {
		return nil, statusError(d, resp)
	}
	data, err := io.ReadAll(io.LimitReader(resp.Body, oci.MaxManifest+1))
	if err != nil {
		return nil, &Error{Digest: d, Err: err, temporary: true}
	}
	if len(data) > oci.MaxManifest {
		return nil, &Error{Digest: d, Err: fmt.Errorf("manifest of more than %d bytes: %w", oci.MaxManifest, oci.ErrTooLarge)}
	}
	if got := digest.FromBytes(data); got != d {
		return nil, &Error{Digest: d, Err: &oci.DigestError{Want: d, Got: got, Size: int64(len(data))}}
	}
	return data, nil
}

// plan adds up what the artefact has, and returns the blobs that are to be
// fetched. It fails where they are too much for the rules or the disk.
func (t *transfer) plan(d oci.Digest, manifestSize int64, blobs []oci.Descriptor) (missing []oci.Descriptor, err error) {
	t.total, t.done = manifestSize, manifestSize
	for _, b := range blobs {
		if b.Size > t.o.MaxBytes-t.total {
			return nil, &Error{Digest: d, Err: fmt.Errorf("artefact of more than %d bytes: %w", t.o.MaxBytes, oci.ErrTooLarge)}
		}
		t.total += b.Size
	}
	for _, b := range blobs {
		if t.present(b) {
			t.done += b.Size
			continue
		}
		missing = append(missing, b)
		if n, err := t.partSize(b.Digest); err == nil && n <= b.Size {
			t.done += n
		}
	}
	if len(missing) == 0 {
		return nil, nil
	}
	free, err := freeSpace(t.layout.Dir())
	if err != nil {
		return nil, &Error{Digest: d, Err: err}
	}
	if need := t.total - t.done + t.o.Reserve; free < need {
		return nil, &Error{Digest: d, Err: &SpaceError{Dir: t.layout.Dir(), Need: need, Free: free}}
	}
	return missing, nil
}

// present tells whether the blob is there and whole. It was hashed when it
// came, but a card wears out: a bit that flipped since must not stay, because
// every later try would find the blob there.
func (t *transfer) present(b oci.Descriptor) bool { return t.layout.VerifyBlob(b) == nil }

func (t *transfer) partSize(d oci.Digest) (int64, error) {
	path, err := t.layout.PartPath(d)
	if err != nil {
		return 0, err
	}
	info, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	return info.Size(), nil
}

// retry calls try until it succeeds, fails for good, or Attempts tries in a
// row brought nothing new; try returns how much of the blob we have. A wrong
// digest has a second chance: the part that the blob was continued from may
// have been damaged.
func (t *transfer) retry(ctx context.Context, d oci.Digest, try func() (have int64, err error)) error {
	wrong, best := 0, int64(0)
	for failed := 1; ; failed++ {
		have, err := try()
		if err == nil {
			return nil
		}
		if ctx.Err() != nil {
			return &Error{Digest: d, Err: ctx.Err(), temporary: true}
		}
		var e *Error
		if !errors.As(err, &e) {
			e = &Error{Digest: d, Err: diskError(err)}
		}
		if _, ok := errors.AsType[*oci.DigestError](err); ok && wrong == 0 {
			wrong++
		} else if !e.temporary || failed >= t.o.Attempts {
			return e
		}
		if have >= best+chunk { // a server that always breaks off at the same byte gets no further try
			best, failed = have, 0
		}
		if err := wait(ctx, max(e.after, t.backoff(failed))); err != nil {
			return &Error{Digest: d, Err: err, temporary: true}
		}
	}
}

// backoff doubles with each failure and takes a random part of the upper
// half: a fleet that lost its hub must not come back in step.
func (t *transfer) backoff(failed int) time.Duration {
	d := t.o.MinDelay
	for range failed - 1 {
		d = min(2*d, t.o.MaxDelay)
	}
	return d/2 + rand.N(d/2+1)
}

// blob continues the blob's part where it ends, and makes it a blob of the
// layout when it is whole. have is how long the part is in the end.
func (t *transfer) blob(ctx context.Context, b oci.Descriptor) (have int64, err error) {
	path, err := t.layout.PartPath(b.Digest)
	if err != nil {
		return 0, err
	}
	have, err = t.partSize(b.Digest)
	if err != nil {
		return 0, err
	}
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE, 0o644)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	if have > b.Size { // it cannot be right; plan did not count it
		t.done += have
		if err := t.restart(f, &have); err != nil {
			return 0, err
		}
	}
	if have < b.Size {
		if have, err = t.receive(ctx, f, b, have); err != nil {
			return have, err
		}
	}
	if err := t.layout.Adopt(path, b); err != nil {
		t.done -= b.Size
		return 0, err
	}
	return have, nil
}

// restart throws away what is in the part.
func (t *transfer) restart(f *os.File, have *int64) error {
	t.done -= *have
	*have = 0
	return f.Truncate(0)
}

// receive appends to the part until it has b.Size bytes, and returns how many
// it has.
func (t *transfer) receive(ctx context.Context, f *os.File, b oci.Descriptor, have int64) (int64, error) {
	resp, stop, err := t.get(ctx, b.Digest, have)
	if err != nil {
		return have, err
	}
	defer stop()
	switch {
	case resp.StatusCode == http.StatusOK && have > 0: // it knows no ranges
		if err := t.restart(f, &have); err != nil {
			return have, err
		}
	case resp.StatusCode == http.StatusPartialContent && have > 0:
		if err := checkRange(resp.Header.Get("Content-Range"), have, b.Size); err != nil {
			return have, &Error{Digest: b.Digest, Status: resp.StatusCode, Err: err, temporary: true}
		}
	case resp.StatusCode == http.StatusRequestedRangeNotSatisfiable && have > 0:
		if err := t.restart(f, &have); err != nil {
			return have, err
		}
		return have, &Error{Digest: b.Digest, Status: resp.StatusCode, Err: errors.New("the server has fewer bytes than we have"), temporary: true}
	case resp.StatusCode != http.StatusOK:
		return have, statusError(b.Digest, resp)
	}
	if _, err := f.Seek(have, io.SeekStart); err != nil {
		return have, err
	}
	buf := make([]byte, chunk)
	for have < b.Size {
		r, readErr := resp.Body.Read(buf[:min(chunk, b.Size-have)])
		if t.limit != nil && r > 0 {
			if err := t.limit.WaitN(ctx, r); err != nil {
				return have, &Error{Digest: b.Digest, Err: err, temporary: true}
			}
		}
		if _, err := f.Write(buf[:r]); err != nil {
			return have, err
		}
		have, t.done = have+int64(r), t.done+int64(r)
		if r > 0 {
			t.tell()
		}
		if readErr != nil && have < b.Size {
			if readErr == io.EOF {
				readErr = io.ErrUnexpectedEOF
			}
			return have, &Error{Digest: b.Digest, Err: fmt.Errorf("after %d of %d bytes: %w", have, b.Size, readErr), temporary: true}
		}
	}
	return have, nil
}

// get asks for a blob from offset on. stop ends the request; a body that
// brings nothing for Stall is ended too.
func (t *transfer) get(ctx context.Context, d oci.Digest, offset int64) (*http.Response, func(), error) {
	ctx, cancel := context.WithCancelCause(ctx)
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, t.base+"/v1/blob/"+string(d), nil)
	if err != nil {
		cancel(err)
		return nil, nil, &Error{Digest: d, Err: err}
	}
	req.Header.Set("Authorization", "Bearer "+t.token)
	if offset > 0 {
		req.Header.Set("Range", "bytes="+strconv.FormatInt(offset, 10)+"-")
	}
	resp, err := t.client.Do(req)
	if err != nil {
		cancel(err)
		return nil, nil, &Error{Digest: d, Err: err, temporary: !errors.Is(err, errRedirect)}
	}
	watch := &watchdog{body: resp.Body, stall: t.o.Stall}
	watch.timer = time.AfterFunc(t.o.Stall, func() { cancel(fmt.Errorf("no byte for %v", t.o.Stall)) })
	watch.cause = func() error { return context.Cause(ctx) }
	resp.Body = watch
	return resp, func() {
		watch.timer.Stop()
		cancel(nil)
		_ = resp.Body.Close() // it was only read
	}, nil
}

// watchdog is a body whose reads must bring something in time. The time that
// the rate limit takes between two reads does not count.
type watchdog struct {
	body  io.ReadCloser
	stall time.Duration
	timer *time.Timer
	cause func() error
}

func (w *watchdog) Read(p []byte) (int, error) {
	w.timer.Reset(w.stall)
	n, err := w.body.Read(p)
	w.timer.Stop()
	if err != nil && w.cause() != nil {
		err = w.cause()
	}
	return n, err
}

func (w *watchdog) Close() error { return w.body.Close() }

// checkRange accepts "bytes have-last/size", where last may be any byte from
// have on, and size may be "*".
func checkRange(s string, have, size int64) error {
	bad := fmt.Errorf("asked for bytes %d- of %d, got Content-Range %.60q", have, size, s)
	span, total, ok1 := strings.Cut(strings.TrimPrefix(s, "bytes "), "/")
	first, last, ok2 := strings.Cut(span, "-")
	if !ok1 || !ok2 || !strings.HasPrefix(s, "bytes ") || total != "*" && total != strconv.FormatInt(size, 10) {
		return bad
	}
	a, err1 := strconv.ParseInt(first, 10, 64)
	z, err2 := strconv.ParseInt(last, 10, 64)
	if err1 != nil || err2 != nil || a != have || z < a || z >= size {
		return bad
	}
	return nil
}

// statusError makes an error of an answer that brings no bytes. The server's
// text is not repeated: it may be a page.
func statusError(d oci.Digest, resp *http.Response) error {
	e := &Error{Digest: d, Status: resp.StatusCode, Err: fmt.Errorf("the server answered %s", http.StatusText(resp.StatusCode))}
	if http.StatusText(resp.StatusCode) == "" {
		e.Err = fmt.Errorf("the server answered with status %d", resp.StatusCode)
	}
	switch {
	case resp.StatusCode == http.StatusTooManyRequests, resp.StatusCode == http.StatusRequestTimeout, resp.StatusCode >= 500:
		e.temporary = true
		e.after = retryAfter(resp.Header.Get("Retry-After"), time.Now())
	}
	return e
}

// retryAfter reads seconds or a date (RFC 9110, 10.2.3), with up to a tenth
// more at random.
func retryAfter(s string, now time.Time) time.Duration {
	var d time.Duration
	if n, err := strconv.Atoi(s); err == nil {
		d = time.Duration(min(n, int(maxRetryAfter/time.Second))) * time.Second
	} else if at, err := http.ParseTime(s); err == nil {
		d = at.Sub(now)
	}
	d = min(max(d, 0), maxRetryAfter)
	return d + rand.N(d/10+1)
}

// diskError marks a full disk.
func diskError(err error) error {
	if durable.IsNoSpace(err) {
		return fmt.Errorf("%w: %w", ErrNoSpace, err)
	}
	return err
}
