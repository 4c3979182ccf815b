package oci

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/iotest"

	"github.com/opencontainers/go-digest"

	"dunlin/internal/durable"
)

const (
	textType = "text/plain"
	artefact = "application/vnd.example.thing.v1+json"
)

func newLayout(t testing.TB) *Layout {
	t.Helper()
	l, err := Create(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func put(t testing.TB, l *Layout, text string) Descriptor {
	t.Helper()
	d, err := l.PutBytes(textType, []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// thing stores a manifest with a config and layers, and puts it in the index.
func thing(t testing.TB, l *Layout, config string, layers ...string) Descriptor {
	t.Helper()
	d, err := putThing(l, config, layers...)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func putThing(l *Layout, config string, layers ...string) (Descriptor, error) {
	m := &Manifest{ArtifactType: artefact}
	var err error
	if m.Config, err = l.PutBytes(textType, []byte(config)); err != nil {
		return Descriptor{}, err
	}
	for _, text := range layers {
		d, err := l.PutBytes(textType, []byte(text))
		if err != nil {
			return Descriptor{}, err
		}
		m.Layers = append(m.Layers, d)
	}
	d, err := l.PutManifest(m)
	if err != nil {
		return Descriptor{}, err
	}
	return d, l.Add(d)
}

func TestBlobs(t *testing.T) {
	l := newLayout(t)
	d := put(t, l, "hello")
	if d.Digest != digest.FromString("hello") || d.Size != 5 || d.MediaType != textType {
		t.Errorf("%+v", d)
	}
	data, err := l.ReadBlob(d.Digest, 5)
	if err != nil || string(data) != "hello" {
		t.Errorf("%q, %v", data, err)
	}
	if _, err := l.ReadBlob(d.Digest, 4); !errors.Is(err, ErrTooLarge) {
		t.Errorf("5 bytes where 4 are allowed: %v", err)
	}
	if !l.Has(d.Digest) || l.Has(digest.FromString("other")) {
		t.Error("Has is wrong")
	}
	if _, err := l.ReadBlob(digest.FromString("other"), 5); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("absent: %v", err)
	}
	if _, err := l.Put("no media type", strings.NewReader("x")); !errors.Is(err, ErrManifest) {
		t.Errorf("media type: %v", err)
	}
	if _, err := l.Put(textType, iotest.ErrReader(io.ErrUnexpectedEOF)); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("a reader that fails: %v", err)
	}
	entries, err := os.ReadDir(l.blobDir())
	if err != nil || len(entries) != 1 {
		t.Errorf("%d files, %v", len(entries), err)
	}
}

func TestRottenBlobs(t *testing.T) {
	l := newLayout(t)
	d := put(t, l, "hello")
	path, err := l.Path(d.Digest)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte("jello"), 0o644); err != nil {
		t.Fatal(err)
	}
	var de *DigestError
	if _, err := l.ReadBlob(d.Digest, 10); !errors.As(err, &de) || de.Want != d.Digest || de.Got != digest.FromString("jello") {
		t.Errorf("got %v", err)
	}
	put(t, l, "hello")
	if _, err := l.ReadBlob(d.Digest, 10); err != nil {
		t.Errorf("putting it again did not heal it: %v", err)
	}
}

func TestDigestsCannotLeaveTheLayout(t *testing.T) {
	l := newLayout(t)
	for _, d := range []Digest{
		"", "sha256:", "sha256:..", "sha256:../../../etc/passwd", "../x", "sha256:" + Digest(strings.Repeat("A", 64)),
		"sha256:" + Digest(strings.Repeat("a", 63)) + "/", "sha512:" + Digest(strings.Repeat("a", 128)), "md5:" + Digest(strings.Repeat("a", 32)),
		"sha256:" + Digest(strings.Repeat("a", 64)) + "\n",
	} {
		if p, err := l.Path(d); err == nil {
			t.Errorf("%q: path %s", d, p)
		}
		if p, err := l.PartPath(d); err == nil {
			t.Errorf("%q: part path %s", d, p)
		}
		if l.Has(d) {
			t.Errorf("has %q", d)
		}
		if _, err := l.ReadBlob(d, 10); err == nil {
			t.Errorf("read %q", d)
		}
		if err := l.Adopt("x", Descriptor{MediaType: textType, Digest: d}); err == nil {
			t.Errorf("adopted %q", d)
		}
	}
}

// A name that is a pipe or a folder would block a reader or confuse it.
func TestOnlyPlainFilesAreBlobs(t *testing.T) {
	l := newLayout(t)
	d := digest.FromString("folder")
	path, err := l.Path(d)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(path, 0o755); err != nil {
		t.Fatal(err)
	}
	if _, err := l.ReadBlob(d, 10); err == nil || l.Has(d) {
		t.Errorf("a folder is a blob: %v", err)
	}
}

func TestAdopt(t *testing.T) {
	l := newLayout(t)
	d := Descriptor{MediaType: textType, Digest: digest.FromString("downloaded"), Size: 10}
	part, err := l.PartPath(d.Digest)
	if err != nil {
		t.Fatal(err)
	}
	for _, bad := range []string{"download", "downloadee", "downloaded+"} {
		if err := os.WriteFile(part, []byte(bad), 0o644); err != nil {
			t.Fatal(err)
		}
		var de *DigestError
		if err := l.Adopt(part, d); !errors.As(err, &de) {
			t.Errorf("%q: %v", bad, err)
		}
		if _, err := os.Stat(part); !errors.Is(err, fs.ErrNotExist) || l.Has(d.Digest) {
			t.Errorf("%q is still there, or visible: %v", bad, err)
		}
	}
	if err := os.WriteFile(part, []byte("downloaded"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := l.Adopt(part, d); err != nil {
		t.Fatal(err)
	}
	if data, err := l.ReadBlob(d.Digest, 10); err != nil || string(data) != "downloaded" {
		t.Errorf("%q, %v", data, err)
	}
	if err := l.Adopt(part, d); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("adopted nothing: %v", err)
	}
}

func TestManifests(t *testing.T) {
	l := newLayout(t)
	d := thing(t, l, "config", "one", "two", "one")
	m, err := l.Manifest(d.Digest)
	if err != nil {
		t.Fatal(err)
	}
	if len(m.Layers) != 3 || len(Blobs(m)) != 3 || m.ArtifactType != artefact || d.ArtifactType != artefact {
		t.Errorf("%+v", m)
	}
	if err := l.Verify(d.Digest); err != nil {
		t.Error(err)
	}
	for _, b := range append(Blobs(m), d) {
		path, err := l.Path(b.Digest)
		if err != nil {
			t.Fatal(err)
		}
		good, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		for _, bad := range [][]byte{append([]byte{good[0] ^ 1}, good[1:]...), good[1:], append(good[:len(good):len(good)], 0)} {
			if err := os.WriteFile(path, bad, 0o644); err != nil {
				t.Fatal(err)
			}
			var de *DigestError
			if err := l.Verify(d.Digest); !errors.As(err, &de) {
				t.Errorf("%s: %v", b.MediaType, err)
			}
		}
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
		if err := l.Verify(d.Digest); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s removed: %v", b.MediaType, err)
		}
		if err := os.WriteFile(path, good, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	m.Layers[0].Size++
	if _, err := l.PutManifest(m); err == nil {
		t.Error("a manifest with a wrong size was stored")
	}
	m.Layers[0] = Descriptor{MediaType: textType, Digest: digest.FromString("absent"), Size: 6}
	if _, err := l.PutManifest(m); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a manifest with an absent blob: %v", err)
	}
}

func TestBadManifests(t *testing.T) {
	good := Manifest{Config: Descriptor{MediaType: textType, Digest: digest.FromString("x"), Size: 1}}
	good.SchemaVersion = 2
	layer := good.Config
	cases := map[string]func(m *Manifest){
		"schema version 1":    func(m *Manifest) { m.SchemaVersion = 1 },
		"another media type":  func(m *Manifest) { m.MediaType = "application/json" },
		"artifact type":       func(m *Manifest) { m.ArtifactType = "x" },
		"65 layers":           func(m *Manifest) { m.Layers = make([]Descriptor, MaxLayers+1) },
		"no config":           func(m *Manifest) { m.Config = Descriptor{} },
		"negative size":       func(m *Manifest) { layer.Size = -1; m.Layers = []Descriptor{layer} },
		"size of 2^41":        func(m *Manifest) { layer.Size = 1 << 41; m.Layers = []Descriptor{layer} },
		"media type":          func(m *Manifest) { layer.MediaType = "text/plain; a=\n"; m.Layers = []Descriptor{layer} },
		"digest with a path":  func(m *Manifest) { layer.Digest = "sha256:../x"; m.Layers = []Descriptor{layer} },
		"subject":             func(m *Manifest) { m.Subject = &Descriptor{} },
		"annotation, no name": func(m *Manifest) { m.Annotations = map[string]string{"": "x"} },
		"annotation, long":    func(m *Manifest) { m.Annotations = map[string]string{"x": strings.Repeat("x", maxText+1)} },
	}
	data, err := json.Marshal(good)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := ParseManifest(data); err != nil {
		t.Fatal(err)
	}
	for name, change := range cases {
		m := good
		layer = good.Config
		change(&m)
		data, err := json.Marshal(m)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := ParseManifest(data); !errors.Is(err, ErrManifest) {
			t.Errorf("%s: %v", name, err)
		}
	}
	for _, text := range []string{"", "[]", "{", `{"schemaVersion":2}`, `{"schemaVersion":"2"}`} {
		if _, err := ParseManifest([]byte(text)); !errors.Is(err, ErrManifest) {
			t.Errorf("%q: %v", text, err)
		}
	}
	if _, err := ParseManifest(bytes.Repeat([]byte(" "), MaxManifest+1)); !errors.Is(err, ErrTooLarge) {
		t.Errorf("large: %v", err)
	}
}

func TestIndex(t *testing.T) {
	l := newLayout(t)
	a, b := thing(t, l, "a"), thing(t, l, "b")
	check := func(want ...Digest) {
		t.Helper()
		x, err := l.Index()
		if err != nil {
			t.Fatal(err)
		}
		var got []Digest
		for _, e := range x.Manifests {
			got = append(got, e.Digest)
		}
		if len(got) != len(want) {
			t.Fatalf("got %v, want %v", got, want)
		}
		for i := range want {
			if got[i] != want[i] {
				t.Errorf("got %v, want %v", got, want)
			}
		}
	}
	check(a.Digest, b.Digest)
	if err := l.Annotate(a.Digest, map[string]string{"sig": "s", "x": "y"}); err != nil {
		t.Fatal(err)
	}
	if err := l.Add(a); err != nil {
		t.Fatal(err)
	}
	check(b.Digest, a.Digest)
	for _, name := range []string{"latest", "v1", "latest"} {
		if err := l.SetRef(name, a); err != nil {
			t.Fatal(err)
		}
	}
	check(b.Digest, a.Digest, a.Digest) // one entry for each name
	for _, name := range []string{"latest", "v1"} {
		e, err := l.Resolve(name)
		if err != nil || e.Digest != a.Digest || e.Annotations["sig"] != "s" {
			t.Errorf("%s: %+v, %v", name, e, err)
		}
	}
	if err := l.SetRef("latest", b); err != nil {
		t.Fatal(err)
	}
	if e, err := l.Resolve("latest"); err != nil || e.Digest != b.Digest || e.Annotations["sig"] != "" {
		t.Errorf("%+v, %v", e, err)
	}
	check(b.Digest, a.Digest, a.Digest)
	if err := l.Annotate(a.Digest, map[string]string{"sig": ""}); err != nil {
		t.Fatal(err)
	}
	if e, err := l.Entry(a.Digest); err != nil || e.Annotations["sig"] != "" || e.Annotations["x"] != "y" {
		t.Errorf("%+v, %v", e, err)
	}
	for _, err := range []error{
		l.Annotate(digest.FromString("none"), nil),
		func() error { _, err := l.Resolve("none"); return err }(),
		func() error { _, err := l.Resolve(""); return err }(),
		func() error { _, err := l.Entry(digest.FromString("none")); return err }(),
	} {
		if !errors.Is(err, ErrNotInIndex) {
			t.Errorf("got %v", err)
		}
	}
}

func TestIndexFromManyGoroutines(t *testing.T) {
	l := newLayout(t)
	var all []Descriptor
	for i := range 8 {
		all = append(all, thing(t, l, strings.Repeat("c", i+1)))
	}
	var wg sync.WaitGroup
	for i, d := range all {
		wg.Go(func() {
			if err := l.SetRef(strings.Repeat("n", i+1), d); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	for i, d := range all {
		if e, err := l.Resolve(strings.Repeat("n", i+1)); err != nil || e.Digest != d.Digest {
			t.Errorf("%d: %v", i, err)
		}
	}
}

func TestSweep(t *testing.T) {
	l := newLayout(t)
	keep := thing(t, l, "config", "kept", "shared")
	drop := thing(t, l, "other", "dropped", "shared")
	loose := put(t, l, "named by nobody")
	for _, text := range []string{"dropped part", "kept"} {
		part, err := l.PartPath(digest.FromString(text))
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(part, []byte("x"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for _, left := range []string{durable.TempName(l.indexPath()), durable.TempName(filepath.Join(l.blobDir(), "put"))} {
		if err := os.WriteFile(left, []byte("left"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := l.Sweep(keep.Digest, digest.FromString("none")); err == nil || !l.Has(loose.Digest) {
		t.Errorf("it could not read a manifest to keep: %v", err)
	}
	freed, err := l.Sweep(keep.Digest)
	if err != nil {
		t.Fatal(err)
	}
	if want := drop.Size + int64(len("other")+len("dropped")+len("named by nobody")+len("x")+len("left")); freed != want {
		t.Errorf("freed %d, want %d", freed, want)
	}
	if err := l.Verify(keep.Digest); err != nil {
		t.Error(err)
	}
	if l.Has(drop.Digest) || l.Has(loose.Digest) || l.Has(digest.FromString("dropped")) {
		t.Error("something is still there")
	}
	x, err := l.Index()
	if err != nil || len(x.Manifests) != 1 {
		t.Errorf("index %+v, %v", x, err)
	}
	var files int
	err = filepath.WalkDir(l.Dir(), func(_ string, e fs.DirEntry, err error) error {
		if err == nil && !e.IsDir() {
			files++
		}
		return err
	})
	if err != nil || files != 2+4+1 { // marker and index, four blobs, one part
		t.Errorf("%d files, %v", files, err)
	}
}

func TestOpen(t *testing.T) {
	dir := t.TempDir()
	if _, err := Open(dir); !errors.Is(err, ErrNoLayout) {
		t.Errorf("an empty folder: %v", err)
	}
	l, err := Create(dir)
	if err != nil {
		t.Fatal(err)
	}
	d := thing(t, l, "config")
	again, err := Create(dir)
	if err != nil {
		t.Fatal(err)
	}
	if err := again.Verify(d.Digest); err != nil {
		t.Errorf("created over it: %v", err)
	}
	for _, c := range []struct{ file, text string }{
		{"oci-layout", `{"imageLayoutVersion":"2.0.0"}`},
		{"oci-layout", `x`},
		{"index.json", `{"schemaVersion":1}`},
		{"index.json", `{`},
		{"index.json", `{"schemaVersion":2,"manifests":[{"mediaType":"a/b","digest":"sha256:..","size":1}]}`},
	} {
		path := filepath.Join(dir, c.file)
		good, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(c.text), 0o644); err != nil {
			t.Fatal(err)
		}
		if _, err := Open(dir); err == nil {
			t.Errorf("opened with %s = %s", c.file, c.text)
		}
		if err := os.WriteFile(path, good, 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// Whenever the power goes, a name among the blobs has its content, and a
// manifest in the index has its blobs.
func TestPowerCuts(t *testing.T) {
	work := func(l *Layout) error {
		d, err := putThing(l, "config", "one", "two")
		if err != nil {
			return err
		}
		if err := l.SetRef("latest", d); err != nil {
			return err
		}
		e, err := putThing(l, "config", "three")
		if err != nil {
			return err
		}
		_, err = l.Sweep(e.Digest)
		return err
	}
	f := durable.NewForgetful()
	run := func() error {
		l, err := CreateOn(f, "/store")
		if err != nil {
			return err
		}
		return work(l)
	}
	if err := run(); err != nil {
		t.Fatal(err)
	}
	n := f.Ops()
	for cut := range n + 1 {
		for seed := range uint64(4) {
			f = durable.NewForgetful()
			f.CutAt(cut)
			if err := run(); (err == nil) != (cut == n) {
				t.Fatalf("cut at %d of %d: %v", cut, n, err)
			}
			if seed == 0 {
				f.Crash()
			} else {
				f.CrashSome(rand.New(rand.NewPCG(seed, uint64(cut))))
			}
			checkAfterCut(t, f, cut)
			if err := run(); err != nil {
				t.Fatalf("cut at %d: the next start: %v", cut, err)
			}
			checkAfterCut(t, f, cut)
		}
	}
}

func checkAfterCut(t *testing.T, f *durable.Forgetful, cut int) {
	t.Helper()
	l, err := OpenOn(f, "/store")
	if errors.Is(err, ErrNoLayout) {
		return
	}
	if err != nil {
		t.Fatalf("cut at %d: %v", cut, err)
	}
	entries, err := f.ReadDir(l.blobDir())
	if err != nil {
		t.Fatalf("cut at %d: %v", cut, err)
	}
	for _, e := range entries {
		if durable.IsTemp(e.Name()) {
			continue
		}
		if _, err := l.ReadBlob(Digest("sha256:"+e.Name()), 1<<20); err != nil {
			t.Errorf("cut at %d: %v", cut, err)
		}
	}
	x, err := l.Index()
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range x.Manifests {
		if err := l.Verify(e.Digest); err != nil {
			t.Errorf("cut at %d: %v", cut, err)
		}
	}
}

func FuzzManifest(f *testing.F) {
	m := Manifest{Config: Descriptor{MediaType: textType, Digest: digest.FromString("x"), Size: 1}}
	m.SchemaVersion = 2
	m.Layers = []Descriptor{m.Config}
	data, err := json.Marshal(m)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(data)
	f.Add([]byte(`{"schemaVersion":2,"manifests":[]}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		if m, err := ParseManifest(data); err == nil {
			for _, d := range Blobs(m) {
				if _, err := ParseDigest(string(d.Digest)); err != nil {
					t.Fatal(err)
				}
			}
		}
		if x, err := ParseIndex(data); err == nil {
			if err := checkIndex(x); err != nil {
				t.Fatal(err)
			}
		}
	})
}
