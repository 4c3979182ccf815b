package registry

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"testing"

	"dunlin/internal/durable"
	"dunlin/internal/oci"
	"dunlin/internal/sign"

	"github.com/opencontainers/go-digest"
)

func digestOf(data []byte) string { return string(digest.FromBytes(data)) }

// version returns version n of a model, as Add has it after its checks (which
// hub's tests try over HTTP, with real packs).
func version(n int64) Version {
	return Version{Name: "m", Version: n, Manifest: digestOf(fmt.Append(nil, n)), Bytes: n, Sig: sign.Signature{Key: "k"}}
}

func TestVersionsOnlyGrow(t *testing.T) {
	dir := t.TempDir()
	r, err := Open(dir, nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, step := range []struct {
		n   int64
		err error
	}{{2, nil}, {2, nil}, {1, ErrOlder}, {5, nil}, {3, ErrOlder}} {
		if _, err := r.record(version(step.n)); !errors.Is(err, step.err) {
			t.Errorf("version %d: %v, want %v", step.n, err, step.err)
		}
	}
	other := version(5)
	other.Manifest = digestOf([]byte("another pack that calls itself version 5"))
	if _, err := r.record(other); !errors.Is(err, ErrOlder) {
		t.Errorf("another version 5: %v", err)
	}
	if r, err = Open(dir, nil); err != nil {
		t.Fatal(err)
	}
	if all := r.List(); len(all) != 2 || all[0].Version != 2 || all[1].Version != 5 {
		t.Errorf("after opening again: %+v", all)
	}
	if v, err := r.Get("m", 0); err != nil || v.Version != 5 {
		t.Errorf("newest: %+v, %v", v, err)
	}
	if _, err := r.Get("m", 4); !errors.Is(err, ErrNotFound) {
		t.Errorf("version 4: %v", err)
	}
	if _, err := r.ByDigest("x"); !errors.Is(err, ErrNotFound) {
		t.Errorf("digest x: %v", err)
	}
}

func TestPutBlob(t *testing.T) {
	r, err := Open(t.TempDir(), nil)
	if err != nil {
		t.Fatal(err)
	}
	r.MaxBlob = 10
	data := []byte("content")
	if err := r.PutBlob(digestOf(data), bytes.NewReader(data)); err != nil {
		t.Fatal(err)
	}
	f, size, err := r.OpenBlob(digestOf(data))
	if err != nil || size != 7 {
		t.Fatalf("size %d, %v", size, err)
	}
	defer f.Close()
	if got, err := io.ReadAll(f); err != nil || !bytes.Equal(got, data) {
		t.Errorf("%q, %v", got, err)
	}
	var wrong *oci.DigestError
	if err := r.PutBlob(digestOf([]byte("x")), bytes.NewReader(data)); !errors.As(err, &wrong) {
		t.Errorf("wrong digest: %v", err)
	}
	if err := r.PutBlob(digestOf(make([]byte, 11)), bytes.NewReader(make([]byte, 11))); !errors.Is(err, ErrTooLarge) {
		t.Errorf("too large: %v", err)
	}
	for _, s := range []string{"", "sha256:../../etc/passwd", "md5:d41d8cd98f00b204e9800998ecf8427e"} {
		if err := r.PutBlob(s, bytes.NewReader(nil)); !errors.Is(err, ErrDigest) {
			t.Errorf("digest %q: %v", s, err)
		}
		if _, _, err := r.OpenBlob(s); !errors.Is(err, ErrDigest) {
			t.Errorf("digest %q: %v", s, err)
		}
	}
	if freed, err := r.Sweep(); err != nil || freed != 7 {
		t.Errorf("sweep freed %d bytes, %v", freed, err)
	}
}

// TestPowerCut cuts the power at every operation of the file system while a
// blob is uploaded and versions are recorded. What was reported as done must
// be there afterwards, and the registry must open.
func TestPowerCut(t *testing.T) {
	const dir = "/registry"
	data := []byte("content")
	script := func(fsys durable.FS) (blob bool, newest int64) {
		r, err := OpenOn(fsys, dir, nil)
		if err != nil {
			return false, 0
		}
		blob = r.PutBlob(digestOf(data), bytes.NewReader(data)) == nil
		for n := int64(1); n <= 3; n++ {
			if _, err := r.record(version(n)); err == nil {
				newest = n
			}
		}
		return blob, newest
	}
	whole := durable.NewForgetful()
	if blob, newest := script(whole); !blob || newest != 3 {
		t.Fatalf("without a power cut: %v, %d", blob, newest)
	}
	for n := range whole.Ops() {
		fsys := durable.NewForgetful()
		fsys.CutAt(n)
		blob, newest := script(fsys)
		fsys.Crash()
		r, err := OpenOn(fsys, dir, nil)
		if err != nil {
			t.Fatalf("power cut at operation %d: %v", n, err)
		}
		if v, err := r.Get("m", 0); newest > 0 && (err != nil || v.Version < newest) {
			t.Errorf("power cut at operation %d: version %d was added, found %d (%v)", n, newest, v.Version, err)
		}
		if got, err := r.layout.ReadBlob(oci.Digest(digestOf(data)), 100); blob && err != nil || err == nil && !bytes.Equal(got, data) {
			t.Errorf("power cut at operation %d: blob %q, %v", n, got, err)
		}
	}
}

// TestRemove: of old manifests only those blobs go that nothing else names,
// and what nobody asked about stays, as an upload under way does.
func TestRemove(t *testing.T) {
	r, err := Open(t.TempDir(), nil)
	if err != nil {
		t.Fatal(err)
	}
	l := r.Layout()
	put := func(text string) oci.Descriptor {
		t.Helper()
		d, err := l.PutBytes("application/octet-stream", []byte(text))
		if err != nil {
			t.Fatal(err)
		}
		return d
	}
	manifest := func(layers ...oci.Descriptor) string {
		t.Helper()
		d, err := l.PutManifest(&oci.Manifest{ArtifactType: "application/x", Config: put("{}"), Layers: layers})
		if err != nil {
			t.Fatal(err)
		}
		return string(d.Digest)
	}
	own, shared, model, upload := put("own"), put("shared"), put("model"), put("upload")
	old, kept, released := manifest(own, shared, model), manifest(shared), manifest(model)
	if _, err := r.record(Version{Name: "m", Version: 1, Manifest: released}); err != nil {
		t.Fatal(err)
	}
	if freed, err := r.Remove([]string{old, old, kept, released}, []string{kept}); err != nil || freed <= own.Size {
		t.Errorf("freed %d, %v", freed, err)
	}
	for _, d := range []string{old, string(own.Digest)} {
		if l.Has(oci.Digest(d)) {
			t.Errorf("%s is still there", d)
		}
	}
	for _, d := range []string{kept, released, string(shared.Digest), string(model.Digest), string(upload.Digest), digestOf([]byte("{}"))} {
		if !l.Has(oci.Digest(d)) {
			t.Errorf("%s is gone", d)
		}
	}
	if _, err := r.Remove([]string{kept}, []string{digestOf([]byte("absent"))}); err == nil || !l.Has(shared.Digest) {
		t.Errorf("with a manifest to keep that cannot be read: %v", err)
	}
}
