package fetch

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"dunlin/internal/oci"
	"dunlin/sync/wire"
)

const secret = "0123456789abcdef"

// quick has no delay worth waiting for.
var quick = Options{MinDelay: time.Millisecond, MaxDelay: 5 * time.Millisecond, Attempts: 3, Reserve: 1}

// source is a hub with one artefact of three blobs; weights is the large one.
type source struct {
	*httptest.Server
	layout   *oci.Layout
	manifest oci.Digest
	weights  oci.Descriptor
	total    int64

	mu    sync.Mutex
	asked []string // "weights 0", "weights 65536": which blob, from where
	// serve answers a request for the weights, if not nil; n counts them from 1.
	serve func(w http.ResponseWriter, r *http.Request, n int, data []byte)
}

func newLayout(t testing.TB) *oci.Layout {
	t.Helper()
	l, err := oci.Create(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func newSource(t testing.TB) *source {
	t.Helper()
	s := &source{layout: newLayout(t)}
	put := func(mediaType string, n int) oci.Descriptor {
		data := make([]byte, n)
		c := rand.NewChaCha8([32]byte{byte(n)})
		_, _ = c.Read(data)
		d, err := s.layout.PutBytes(mediaType, data)
		if err != nil {
			t.Fatal(err)
		}
		s.total += d.Size
		return d
	}
	m := &oci.Manifest{Config: put("application/json", 300)}
	s.weights = put("application/octet-stream", 300_000)
	m.Layers = []oci.Descriptor{s.weights, put("text/plain", 1000)}
	d, err := s.layout.PutManifest(m)
	if err != nil {
		t.Fatal(err)
	}
	s.manifest = d.Digest
	s.total += d.Size
	s.Server = httptest.NewServer(http.HandlerFunc(s.answer))
	t.Cleanup(s.Close)
	return s
}

func (s *source) answer(w http.ResponseWriter, r *http.Request) {
	if r.Header.Get("Authorization") != "Bearer "+secret {
		http.Error(w, "no", http.StatusUnauthorized)
		return
	}
	digest := oci.Digest(strings.TrimPrefix(r.URL.Path, "/v1/blob/"))
	data, err := s.layout.ReadBlob(digest, 1<<30)
	if err != nil {
		http.NotFound(w, r)
		return
	}
	name := "other"
	switch digest {
	case s.manifest:
		name = "manifest"
	case s.weights.Digest:
		name = "weights"
	}
	from := "0"
	if h := r.Header.Get("Range"); h != "" {
		from = strings.TrimSuffix(strings.TrimPrefix(h, "bytes="), "-")
	}
	s.mu.Lock()
	s.asked = append(s.asked, name+" "+from)
	n := s.count("weights")
	serve := s.serve
	s.mu.Unlock()
	if name == "weights" && serve != nil {
		serve(w, r, n, data)
		return
	}
	http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(data))
}

// count returns how often a blob was asked for; mu is held, or the server is quiet.
func (s *source) count(name string) (n int) {
	for _, a := range s.asked {
		if strings.HasPrefix(a, name+" ") {
			n++
		}
	}
	return n
}

func (s *source) fetcher(t testing.TB, o Options) (*Fetcher, *oci.Layout) {
	t.Helper()
	l := newLayout(t)
	f, err := New(s.URL, secret, l, o)
	if err != nil {
		t.Fatal(err)
	}
	return f, l
}

func (s *source) get(t testing.TB, f *Fetcher) error {
	t.Helper()
	return f.Artefact(t.Context(), string(s.manifest), wire.FetchRules{}, nil)
}

// whole checks that the artefact is in the layout and no part is left.
func (s *source) whole(t testing.TB, l *oci.Layout) {
	t.Helper()
	if err := l.Verify(s.manifest); err != nil {
		t.Error(err)
	}
	part, err := l.PartPath(s.weights.Digest)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(part); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a part is left: %v", err)
	}
}

func (s *source) absent(t testing.TB, l *oci.Layout) {
	t.Helper()
	if l.Has(s.weights.Digest) {
		t.Error("the blob is visible")
	}
}

// abort breaks the connection off after what was written so far.
func abort(w http.ResponseWriter) {
	_ = http.NewResponseController(w).Flush()
	panic(http.ErrAbortHandler)
}

// ranged writes a proper answer of at most n bytes, and breaks off if that is
// not all.
func ranged(w http.ResponseWriter, r *http.Request, data []byte, n int) {
	from := 0
	if h := r.Header.Get("Range"); h != "" {
		if _, err := fmt.Sscanf(h, "bytes=%d-", &from); err != nil {
			http.Error(w, "range", http.StatusBadRequest)
			return
		}
		w.Header().Set("Content-Range", fmt.Sprintf("bytes %d-%d/%d", from, len(data)-1, len(data)))
	}
	w.Header().Set("Content-Length", fmt.Sprint(len(data)-from))
	if from > 0 {
		w.WriteHeader(http.StatusPartialContent)
	}
	end := min(from+n, len(data))
	_, _ = w.Write(data[from:end])
	if end < len(data) {
		abort(w)
	}
}

func TestArtefact(t *testing.T) {
	s := newSource(t)
	f, l := s.fetcher(t, quick)
	var last, total int64
	err := f.Artefact(t.Context(), string(s.manifest), wire.FetchRules{}, func(d, n int64) {
		if d < last || d > n {
			t.Errorf("progress %d after %d, of %d", d, last, n)
		}
		last, total = d, n
	})
	if err != nil {
		t.Fatal(err)
	}
	s.whole(t, l)
	if last != s.total || total != s.total {
		t.Errorf("progress ended at %d of %d, want %d", last, total, s.total)
	}
	s.asked = nil
	if err := s.get(t, f); err != nil || len(s.asked) > 0 {
		t.Errorf("a second time: %v, asked for %v", err, s.asked)
	}
}

func TestBlobsThatAreThereAreSkipped(t *testing.T) {
	s := newSource(t)
	f, l := s.fetcher(t, quick)
	data, err := s.layout.ReadBlob(s.weights.Digest, 1<<30)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := l.PutBytes("application/octet-stream", data); err != nil {
		t.Fatal(err)
	}
	if err := s.get(t, f); err != nil || s.count("weights") > 0 {
		t.Errorf("%v, asked for %v", err, s.asked)
	}
	s.whole(t, l)
}

// TestResume: a server that breaks off every 70,000 bytes is asked for the
// rest each time, more often than Attempts allows without progress.
func TestResume(t *testing.T) {
	s := newSource(t)
	s.serve = func(w http.ResponseWriter, r *http.Request, n int, data []byte) { ranged(w, r, data, 70_000) }
	f, l := s.fetcher(t, quick)
	if err := s.get(t, f); err != nil {
		t.Fatal(err)
	}
	s.whole(t, l)
	var offsets []int
	for _, a := range s.asked {
		var at int
		if _, err := fmt.Sscanf(a, "weights %d", &at); err == nil {
			offsets = append(offsets, at)
		}
	}
	if !slices.IsSorted(offsets) || len(offsets) != 5 {
		t.Errorf("asked from %v on", offsets)
	}
}

// TestResumeLater: what one call received, the next does not ask for.
func TestResumeLater(t *testing.T) {
	s := newSource(t)
	ctx, cancel := context.WithCancel(t.Context())
	s.serve = func(w http.ResponseWriter, r *http.Request, n int, data []byte) {
		if n == 1 {
			_, _ = w.Write(data[:100_000])
			_ = http.NewResponseController(w).Flush()
			<-r.Context().Done()
			return
		}
		ranged(w, r, data, len(data))
	}
	f, l := s.fetcher(t, quick)
	err := f.Artefact(ctx, string(s.manifest), wire.FetchRules{}, func(done, total int64) {
		if done > 100_000 {
			cancel()
		}
	})
	if !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	s.absent(t, l)
	if err := s.get(t, f); err != nil {
		t.Fatal(err)
	}
	s.whole(t, l)
	if last := s.asked[slices.IndexFunc(s.asked, func(a string) bool { return strings.HasPrefix(a, "weights ") && a != "weights 0" })]; last != "weights 100000" {
		t.Errorf("asked for %v", s.asked)
	}
}

// TestDamagedPart: what a power cut left of a part is not what was received.
func TestDamagedPart(t *testing.T) {
	for name, size := range map[string]int{"shorter": 100_000, "as long": 300_000, "longer": 300_001} {
		t.Run(name, func(t *testing.T) {
			s := newSource(t)
			f, l := s.fetcher(t, quick)
			part, err := l.PartPath(s.weights.Digest)
			if err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(part, make([]byte, size), 0o644); err != nil {
				t.Fatal(err)
			}
			var last, total int64
			if err := f.Artefact(t.Context(), string(s.manifest), wire.FetchRules{}, func(d, n int64) { last, total = d, n }); err != nil {
				t.Fatal(err)
			}
			if last != total {
				t.Errorf("progress ended at %d of %d", last, total)
			}
			s.whole(t, l)
		})
	}
}

// TestServersThatLie: each fails after a bounded number of requests, and the
// blob never becomes visible.
func TestServersThatLie(t *testing.T) {
	var digest *oci.DigestError
	cases := map[string]struct {
		serve     func(w http.ResponseWriter, r *http.Request, n int, data []byte)
		temporary bool
		requests  int
		check     func(err error) bool
	}{
		"wrong bytes": {func(w http.ResponseWriter, r *http.Request, n int, data []byte) {
			data[200_000] ^= 1
			ranged(w, r, data, len(data))
		}, false, 2, func(err error) bool { return errors.As(err, &digest) }},
		"more bytes": {func(w http.ResponseWriter, r *http.Request, n int, data []byte) {
			_, _ = w.Write(append([]byte{0}, data...))
		}, false, 2, func(err error) bool { return errors.As(err, &digest) }},
		"always short": {func(w http.ResponseWriter, r *http.Request, n int, data []byte) {
			_, _ = w.Write(data[:150_000])
		}, true, 4, func(err error) bool { return errors.Is(err, io.ErrUnexpectedEOF) }},
		"no ranges, breaks off": {func(w http.ResponseWriter, r *http.Request, n int, data []byte) {
			w.Header().Set("Content-Length", fmt.Sprint(len(data)))
			_, _ = w.Write(data[:150_000])
			abort(w)
		}, true, 4, func(err error) bool { return true }},
		"another range": {func(w http.ResponseWriter, r *http.Request, n int, data []byte) {
			if n == 1 {
				ranged(w, r, data, 100_000)
				return
			}
			w.Header().Set("Content-Range", "bytes 0-299999/300000")
			w.WriteHeader(http.StatusPartialContent)
			_, _ = w.Write(data)
		}, true, 4, func(err error) bool { return strings.Contains(err.Error(), "Content-Range") }},
		"range not there": {func(w http.ResponseWriter, r *http.Request, n int, data []byte) {
			if r.Header.Get("Range") == "" {
				ranged(w, r, data, 100_000)
				return
			}
			w.WriteHeader(http.StatusRequestedRangeNotSatisfiable)
		}, true, 4, func(err error) bool { return true }},
		"a page": {func(w http.ResponseWriter, r *http.Request, n int, data []byte) {
			_, _ = io.WriteString(w, "<html>log in</html>")
		}, true, 3, func(err error) bool { return errors.Is(err, io.ErrUnexpectedEOF) }},
		"nothing": {func(w http.ResponseWriter, r *http.Request, n int, data []byte) {
			w.WriteHeader(http.StatusNoContent)
		}, false, 1, func(err error) bool { return strings.Contains(err.Error(), "No Content") }},
		"not found": {func(w http.ResponseWriter, r *http.Request, n int, data []byte) {
			http.NotFound(w, r)
		}, false, 1, func(err error) bool { return strings.Contains(err.Error(), "Not Found") }},
		"broken": {func(w http.ResponseWriter, r *http.Request, n int, data []byte) {
			w.WriteHeader(http.StatusInternalServerError)
		}, true, 3, func(err error) bool { return true }},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			s := newSource(t)
			s.serve = c.serve
			f, l := s.fetcher(t, quick)
			err := s.get(t, f)
			e, ok := errors.AsType[*Error](err)
			if !ok || e.Digest != s.weights.Digest || e.Temporary() != c.temporary || !c.check(err) {
				t.Errorf("error %v, temporary %v", err, ok && e.Temporary())
			}
			if n := s.count("weights"); n > c.requests {
				t.Errorf("%d requests, want at most %d: %v", n, c.requests, s.asked)
			}
			s.absent(t, l)
		})
	}
}

func TestServerWithoutRanges(t *testing.T) {
	s := newSource(t)
	s.serve = func(w http.ResponseWriter, r *http.Request, n int, data []byte) {
		w.Header().Set("Content-Length", fmt.Sprint(len(data)))
		if n == 1 {
			_, _ = w.Write(data[:100_000])
			abort(w)
		}
		_, _ = w.Write(data)
	}
	f, l := s.fetcher(t, quick)
	var last, total int64
	if err := f.Artefact(t.Context(), string(s.manifest), wire.FetchRules{}, func(d, n int64) { last, total = d, n }); err != nil {
		t.Fatal(err)
	}
	if last != total {
		t.Errorf("progress ended at %d of %d", last, total)
	}
	s.whole(t, l)
}

func TestStall(t *testing.T) {
	s := newSource(t)
	s.serve = func(w http.ResponseWriter, r *http.Request, n int, data []byte) {
		if n == 1 {
			_, _ = w.Write(data[:100_000])
			_ = http.NewResponseController(w).Flush()
			<-r.Context().Done() // until the client gives up
			return
		}
		ranged(w, r, data, len(data))
	}
	o := quick
	o.Stall = 500 * time.Millisecond // enough for an answer
	f, l := s.fetcher(t, o)
	if err := s.get(t, f); err != nil {
		t.Fatal(err)
	}
	s.whole(t, l)
}

func TestRetryAfter(t *testing.T) {
	s := newSource(t)
	var times []time.Time
	s.serve = func(w http.ResponseWriter, r *http.Request, n int, data []byte) {
		times = append(times, time.Now())
		if n == 1 {
			w.Header().Set("Retry-After", "1")
			w.WriteHeader(http.StatusServiceUnavailable)
			return
		}
		ranged(w, r, data, len(data))
	}
	f, l := s.fetcher(t, quick)
	if err := s.get(t, f); err != nil {
		t.Fatal(err)
	}
	s.whole(t, l)
	if len(times) != 2 || times[1].Sub(times[0]) < time.Second {
		t.Errorf("asked at %v", times)
	}
}

func TestRetryAfterForms(t *testing.T) {
	now := time.Date(2026, 11, 23, 9, 0, 0, 0, time.UTC)
	for s, want := range map[string]time.Duration{
		"": 0, "0": 0, "-5": 0, "x": 0, "120": 2 * time.Minute, "99999999": maxRetryAfter,
		"Mon, 23 Nov 2026 09:00:30 GMT": 30 * time.Second, "Mon, 23 Nov 2026 08:00:00 GMT": 0,
	} {
		if got := retryAfter(s, now); got < want || got > want+want/10 {
			t.Errorf("%q: %v, want %v", s, got, want)
		}
	}
}

func TestRedirects(t *testing.T) {
	thief := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		t.Errorf("another host was asked, with %q", r.Header.Get("Authorization"))
	}))
	defer thief.Close()
	s := newSource(t)
	s.serve = func(w http.ResponseWriter, r *http.Request, n int, data []byte) {
		http.Redirect(w, r, thief.URL+r.URL.Path, http.StatusTemporaryRedirect)
	}
	f, l := s.fetcher(t, quick)
	err := s.get(t, f)
	if e, ok := errors.AsType[*Error](err); !ok || e.Temporary() || !errors.Is(err, errRedirect) || s.count("weights") != 1 {
		t.Errorf("%v, asked for %v", err, s.asked)
	}
	s.absent(t, l)

	s = newSource(t)
	s.serve = func(w http.ResponseWriter, r *http.Request, n int, data []byte) {
		if n == 1 {
			http.Redirect(w, r, r.URL.Path+"?again", http.StatusTemporaryRedirect)
			return
		}
		ranged(w, r, data, len(data))
	}
	f, l = s.fetcher(t, quick)
	if err := s.get(t, f); err != nil {
		t.Error(err)
	}
	s.whole(t, l)
}

func TestWrongToken(t *testing.T) {
	s := newSource(t)
	f, err := New(s.URL, "guess", newLayout(t), quick)
	if err != nil {
		t.Fatal(err)
	}
	err = s.get(t, f)
	if e, ok := errors.AsType[*Error](err); !ok || e.Status != http.StatusUnauthorized || e.Temporary() {
		t.Errorf("%v", err)
	}
}

func TestServerGone(t *testing.T) {
	s := newSource(t)
	s.Close()
	f, _ := s.fetcher(t, quick)
	if e, ok := errors.AsType[*Error](s.get(t, f)); !ok || !e.Temporary() {
		t.Errorf("%v", e)
	}
}

// bigSource has a manifest that names a blob of any size.
func bigSource(t *testing.T, size int64) *source {
	s := newSource(t)
	m := fmt.Sprintf(`{"schemaVersion":2,"config":{"mediaType":"a/b","digest":%q,"size":%d},"layers":[]}`, s.weights.Digest, size)
	d, err := s.layout.PutBytes(oci.MediaTypeManifest, []byte(m))
	if err != nil {
		t.Fatal(err)
	}
	s.manifest = d.Digest
	return s
}

func TestNoSpace(t *testing.T) {
	s := bigSource(t, oci.MaxBlob)
	o := quick
	o.MaxBytes = 2 * oci.MaxBlob
	o.Reserve = 1 << 50
	f, _ := s.fetcher(t, o)
	err := s.get(t, f)
	var space *SpaceError
	if !errors.Is(err, ErrNoSpace) || !errors.As(err, &space) || space.Need <= space.Free || space.Free <= 0 {
		t.Errorf("%v", err)
	}
	if e, ok := errors.AsType[*Error](err); !ok || !e.Temporary() || s.count("weights") > 0 {
		t.Errorf("%v, asked for %v", err, s.asked)
	}
}

func TestTooLarge(t *testing.T) {
	s := bigSource(t, 5<<30)
	f, _ := s.fetcher(t, quick)
	if err := s.get(t, f); !errors.Is(err, oci.ErrTooLarge) || s.count("weights") > 0 {
		t.Errorf("%v, asked for %v", err, s.asked)
	}
}

// TestSizeIsTheManifests: a blob whose digest is right but whose size is not
// what the manifest says is refused too.
func TestSizeIsTheManifests(t *testing.T) {
	s := bigSource(t, 299_999)
	f, l := s.fetcher(t, quick)
	if _, ok := errors.AsType[*oci.DigestError](s.get(t, f)); !ok {
		t.Error("no DigestError")
	}
	s.absent(t, l)
}

func TestManifestIsNone(t *testing.T) {
	s := newSource(t)
	for _, text := range []string{"{}", "no JSON", strings.Repeat(" ", oci.MaxManifest+1)} {
		d, err := s.layout.PutBytes(oci.MediaTypeManifest, []byte(text))
		if err != nil {
			t.Fatal(err)
		}
		s.manifest = d.Digest
		f, _ := s.fetcher(t, quick)
		if e, ok := errors.AsType[*Error](s.get(t, f)); !ok || e.Temporary() {
			t.Errorf("%.10q…: %v", text, e)
		}
	}
	f, _ := s.fetcher(t, quick)
	if err := f.Artefact(t.Context(), "sha256:../../etc/passwd", wire.FetchRules{}, nil); err == nil {
		t.Error("a digest that is a path was taken")
	}
}

// TestRateLimit has only a lower bound: 300 kB at 400 kB/s, less the burst.
func TestRateLimit(t *testing.T) {
	s := newSource(t)
	f, l := s.fetcher(t, quick)
	start := time.Now()
	if err := f.Artefact(t.Context(), string(s.manifest), wire.FetchRules{MaxKBps: 400}, nil); err != nil {
		t.Fatal(err)
	}
	s.whole(t, l)
	if took := time.Since(start); took < 600*time.Millisecond {
		t.Errorf("it took %v", took)
	}
}

func TestPoliteDelay(t *testing.T) {
	now := time.Date(2026, 11, 23, 9, 0, 0, 0, time.UTC)
	cases := []struct {
		rules    wire.FetchRules
		min, max time.Duration
	}{
		{wire.FetchRules{}, 0, 0},
		{wire.FetchRules{NotBefore: now.Add(-time.Hour)}, 0, 0},
		{wire.FetchRules{NotBefore: now.Add(time.Hour)}, time.Hour, time.Hour},
		{wire.FetchRules{NotBefore: now.AddDate(50, 0, 0)}, 24 * time.Hour, 24 * time.Hour},
		{wire.FetchRules{NotBefore: now.Add(time.Minute), JitterS: 30}, time.Minute, 90 * time.Second},
	}
	for _, c := range cases {
		for range 20 {
			if got := politeDelay(c.rules, now); got < c.min || got > c.max {
				t.Errorf("%+v: %v", c.rules, got)
			}
		}
	}
}

func FuzzCheckRange(f *testing.F) {
	f.Add("bytes 10-99/100", int64(10), int64(100))
	f.Add("bytes 10-99/*", int64(10), int64(100))
	f.Add("bytes -10-99/100", int64(0), int64(100))
	f.Fuzz(func(t *testing.T, s string, have, size int64) {
		if checkRange(s, have, size) == nil && !strings.HasPrefix(s, "bytes ") {
			t.Errorf("%q was taken", s)
		}
	})
}

func TestCheckRange(t *testing.T) {
	for s, ok := range map[string]bool{
		"bytes 10-99/100": true, "bytes 10-99/*": true, "bytes 10-50/100": true,
		"bytes 0-99/100": false, "bytes 11-99/100": false, "bytes 10-100/100": false, "bytes 10-99/101": false,
		"bytes 10-9/100": false, "bytes */100": false, "10-99/100": false, "": false, "bytes 10-99": false, "bytes 10/100": false,
	} {
		if err := checkRange(s, 10, 100); (err == nil) != ok {
			t.Errorf("%q: %v", s, err)
		}
	}
}

// TestFlippedBitIsFetchedAgain goes the way of a model slot: fetch, verify
// before use; a bit flips on the worn card, so the verification fails; fetch
// the same artefact again, verify. The size is right all the time.
func TestFlippedBitIsFetchedAgain(t *testing.T) {
	s := newSource(t)
	f, l := s.fetcher(t, quick)
	if err := s.get(t, f); err != nil {
		t.Fatal(err)
	}
	s.whole(t, l)
	for _, d := range []oci.Digest{s.weights.Digest, s.manifest} {
		path, err := l.Path(d)
		if err != nil {
			t.Fatal(err)
		}
		data, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		data[len(data)/2] ^= 1
		if err := os.Remove(path); err != nil { // a blob is read-only
			t.Fatal(err)
		}
		if err := os.WriteFile(path, data, 0o444); err != nil {
			t.Fatal(err)
		}
		if l.Verify(s.manifest) == nil {
			t.Fatal("the damage is not seen")
		}
		s.asked = nil
		var last, total int64
		if err := f.Artefact(t.Context(), string(s.manifest), wire.FetchRules{}, func(d, n int64) { last, total = d, n }); err != nil {
			t.Fatal(err)
		}
		s.whole(t, l)
		if len(s.asked) != 1 || last != s.total || total != s.total {
			t.Errorf("asked for %v, progress ended at %d of %d", s.asked, last, total)
		}
	}
}

// Layers that nobody wants are neither fetched nor counted.
func TestWantedLayers(t *testing.T) {
	s := newSource(t)
	f, l := s.fetcher(t, Options{Layers: func(all []oci.Descriptor) []oci.Descriptor { return all[1:] }})
	total := int64(0)
	if err := f.Artefact(t.Context(), string(s.manifest), wire.FetchRules{}, func(_, n int64) { total = n }); err != nil {
		t.Fatal(err)
	}
	s.absent(t, l)
	m, err := l.Manifest(s.manifest)
	if err != nil || !l.Has(m.Layers[1].Digest) || !l.Has(m.Config.Digest) {
		t.Errorf("what was wanted is not there: %v", err)
	}
	if total != s.total-s.weights.Size || s.count("weights") != 0 {
		t.Errorf("%d bytes in all, want %d; asked for %v", total, s.total-s.weights.Size, s.asked)
	}
}
