// Package registry keeps the hub's models, and releases of the agent: an OCI layout with the blobs, and
// a list of the versions that may be rolled out. Start with Open, PutBlob
// and Add.
//
// Its promise: a version in List was signed by a release key, is whole, can
// be read, carries an exam where it is a model, and is newer than every other version of its
// name that was there before; all of it survives a power cut. A blob that was
// uploaded can be fetched, but it is no version until Add says so.
//
// It runs no model, so it cannot tell whether an exam would be passed: that
// is asked on each device. Facts artefacts lie in the same layout, but not in
// the list.
package registry

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"dunlin/internal/durable"
	"dunlin/internal/oci"
	"dunlin/internal/release"
	"dunlin/internal/sign"
	"dunlin/model/pack"
	"dunlin/sync/wire"
)

// Version is one model, or release of the agent, that may be rolled out.
type Version struct {
	Kind     wire.OfferKind `json:"kind,omitempty"` // "": a model
	Name     string         `json:"name"`
	Version  int64          `json:"version"`
	Manifest string         `json:"manifest"` // "sha256:…"
	Bytes    int64          `json:"bytes"`    // of the manifest and all its blobs
	Sig      sign.Signature `json:"sig"`
	Exact    bool           `json:"exact"` // its exam is compared bit by bit
	Added    time.Time      `json:"added"`
}

// OfferKind returns the kind of the version, in full.
func (v Version) OfferKind() wire.OfferKind { return cmp.Or(v.Kind, wire.OfferModel) }

// Offer returns the version as it is offered to a device.
func (v Version) Offer() wire.Offer {
	return wire.Offer{Kind: v.OfferKind(), Name: v.Name, Version: v.Version, Manifest: v.Manifest, Bytes: v.Bytes, Sig: v.Sig}
}

// Errors that callers ask for.
var (
	ErrNotFound = errors.New("no such model")
	ErrReserved = errors.New("the name is that of the agent's releases")
	ErrRelease  = release.ErrRelease // of the agent, which cannot be read
	ErrNoExam   = errors.New("the pack carries no exam, so no device could check it")
	ErrOlder    = errors.New("a version of this model that is as new, or newer, is there already")
	ErrTooLarge = errors.New("blob too large")
	ErrDigest   = errors.New("not a digest")
)

// DefaultMaxBlob bounds an uploaded blob in bytes.
const DefaultMaxBlob = 4 << 30

// Registry is an open registry. It is safe for concurrent use.
type Registry struct {
	layout *oci.Layout
	list   string // path of the list
	fsys   durable.FS
	trust  sign.Trust

	// MaxBlob bounds an uploaded blob in bytes; it is set before first use.
	MaxBlob int64

	mu       sync.Mutex // guards versions, from checking a new one to storing the list
	versions []Version  // in the order of adding
}

// Open opens the registry in dir, or makes one. trust holds the release keys.
func Open(dir string, trust sign.Trust) (*Registry, error) { return OpenOn(durable.OS, dir, trust) }

// OpenOn is Open on a given file system. Add needs the machine's own.
func OpenOn(fsys durable.FS, dir string, trust sign.Trust) (*Registry, error) {
	layout, err := oci.CreateOn(fsys, dir)
	if err != nil {
		return nil, fmt.Errorf("open registry: %w", err)
	}
	r := &Registry{layout: layout, list: filepath.Join(dir, "versions.json"), fsys: fsys, trust: trust, MaxBlob: DefaultMaxBlob}
	data, err := fsys.ReadFile(r.list)
	if errors.Is(err, fs.ErrNotExist) {
		return r, nil
	}
	if err == nil {
		err = json.Unmarshal(data, &r.versions)
	}
	if err != nil {
		return nil, fmt.Errorf("open registry: %s: %w", r.list, err)
	}
	return r, nil
}

// Layout returns the layout with the blobs.
func (r *Registry) Layout() *oci.Layout { return r.layout }

// Add makes a version of an uploaded pack, once its signature, every blob,
// its exam and its version number were checked; a release of the agent has no
// exam. Adding the same again gives the version that is there. Errors wrap
// sign.ErrUnknownKey, sign.ErrBadSignature, ErrNoExam, ErrOlder, ErrReserved,
// or are those of pack.Open or release.Read.
func (r *Registry) Add(manifest string, sig sign.Signature) (Version, error) {
	d, err := oci.ParseDigest(manifest)
	if err != nil {
		return Version{}, fmt.Errorf("add model: %w: %w", ErrDigest, err)
	}
	if m, err := r.layout.Manifest(d); err == nil && m.ArtifactType == release.ArtifactType {
		return r.addRelease(d, sig)
	}
	if err := r.trust.Verify(wire.OfferModel.Purpose(), []byte(manifest), sig); err != nil {
		return Version{}, fmt.Errorf("add model %s: %w", manifest, err)
	}
	m, err := pack.Open(r.layout, manifest)
	if err != nil {
		return Version{}, fmt.Errorf("add model: %w", err)
	}
	v := Version{Name: m.Name, Version: m.Version, Manifest: manifest, Bytes: m.Size, Sig: sig, Added: time.Now().UTC()}
	hasExam := m.Exam != nil && len(m.Exam.Cases) > 0
	if hasExam {
		v.Exact = m.Exam.Exact
	}
	if err := m.Close(); err != nil {
		return Version{}, fmt.Errorf("add model: %w", err)
	}
	if v.Name == release.Name {
		return Version{}, fmt.Errorf("add model %s: %w", v.Name, ErrReserved)
	}
	if !hasExam {
		return Version{}, fmt.Errorf("add model %s@%d: %w", v.Name, v.Version, ErrNoExam)
	}
	return r.record(v)
}

// addRelease is Add for a release of the agent.
func (r *Registry) addRelease(d oci.Digest, sig sign.Signature) (Version, error) {
	if err := r.trust.Verify(wire.OfferAgent.Purpose(), []byte(d), sig); err != nil {
		return Version{}, fmt.Errorf("add release %s: %w", d, err)
	}
	a, err := release.Read(r.layout, d)
	if err == nil {
		err = r.layout.Verify(d)
	}
	if err != nil {
		return Version{}, fmt.Errorf("add release %s: %w", d, err)
	}
	most := int64(0) // a device fetches the binary of its platform
	for _, b := range a.Builds {
		most = max(most, b.Blob.Size)
	}
	return r.record(Version{
		Kind: wire.OfferAgent, Name: release.Name, Version: a.Number, Manifest: string(d), Bytes: most, Sig: sig, Added: time.Now().UTC(),
	})
}

// record stores a version that was checked.
func (r *Registry) record(v Version) (Version, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, old := range r.versions {
		if old.Manifest == v.Manifest {
			return old, nil
		}
		if old.Name == v.Name && old.Version >= v.Version {
			return Version{}, fmt.Errorf("add model %s@%d: %w: %d", v.Name, v.Version, ErrOlder, old.Version)
		}
	}
	all := append(slices.Clone(r.versions), v)
	data, err := json.MarshalIndent(all, "", "\t")
	if err == nil {
		err = durable.Replace(r.fsys, r.list, data, 0o644)
	}
	if err != nil {
		return Version{}, fmt.Errorf("add model %s@%d: %w", v.Name, v.Version, err)
	}
	r.versions = all
	return v, nil
}

// List returns all versions in the order in which they were added.
func (r *Registry) List() []Version {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.versions)
}

// Get returns a version of a model; 0 means the newest.
func (r *Registry) Get(name string, version int64) (Version, error) {
	all := r.List()
	slices.Reverse(all)
	for _, v := range all {
		if v.Name == name && (version == 0 || v.Version == version) {
			return v, nil
		}
	}
	return Version{}, fmt.Errorf("%s@%d: %w", name, version, ErrNotFound)
}

// ByDigest returns the version with that manifest.
func (r *Registry) ByDigest(manifest string) (Version, error) {
	for _, v := range r.List() {
		if v.Manifest == manifest {
			return v, nil
		}
	}
	return Version{}, fmt.Errorf("manifest %.80s: %w", manifest, ErrNotFound)
}

// PutBlob stores an uploaded blob. What has another digest than it claims is
// refused with *oci.DigestError and leaves nothing behind. A blob that is
// there already is replaced, which mends one that rotted.
func (r *Registry) PutBlob(digest string, body io.Reader) error {
	d, err := oci.ParseDigest(digest)
	if err != nil {
		return fmt.Errorf("put blob: %w: %w", ErrDigest, err)
	}
	part, err := r.layout.PartPath(d)
	if err != nil {
		return fmt.Errorf("put blob: %w", err)
	}
	if err := r.upload(durable.TempName(part), d, body); err != nil {
		return fmt.Errorf("put blob %s: %w", d, err)
	}
	return nil
}

// upload writes body to a file of its own, so that two uploads of one blob do
// not meet, and lets the layout adopt it.
func (r *Registry) upload(tmp string, d oci.Digest, body io.Reader) error {
	f, err := r.fsys.Create(tmp, 0o644)
	if err != nil {
		return err
	}
	n, err := io.Copy(f, io.LimitReader(body, r.MaxBlob+1))
	if err = errors.Join(err, f.Close()); err == nil && n > r.MaxBlob {
		err = fmt.Errorf("more than %d bytes: %w", r.MaxBlob, ErrTooLarge)
	}
	if err == nil {
		return r.layout.Adopt(tmp, oci.Descriptor{MediaType: "application/octet-stream", Digest: d, Size: n})
	}
	return errors.Join(err, r.fsys.Remove(tmp))
}

// OpenBlob opens a blob for reading, and returns its size. The bytes are not
// hashed: the device that fetches them does it.
func (r *Registry) OpenBlob(digest string) (durable.File, int64, error) {
	d, err := oci.ParseDigest(digest)
	if err != nil {
		return nil, 0, fmt.Errorf("%w: %w", ErrDigest, err)
	}
	return r.layout.OpenBlob(d)
}

// Sweep removes every blob that no version and no manifest of keep names, and
// returns the bytes freed. Blobs that are being uploaded, and packs that were
// not added yet, go too.
func (r *Registry) Sweep(keep ...string) (freed int64, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, v := range r.versions {
		keep = append(keep, v.Manifest)
	}
	var digests []oci.Digest
	for _, s := range keep {
		d, err := oci.ParseDigest(s)
		if err != nil {
			return 0, fmt.Errorf("sweep registry: %w", err)
		}
		if !slices.Contains(digests, d) {
			digests = append(digests, d)
		}
	}
	return r.layout.Sweep(digests...)
}

// Remove removes the manifests of old and the layers that they name, but for
// what a version or a manifest of keep names too, and returns the bytes freed.
// Unlike Sweep it leaves everything else alone, so uploads may be under way.
func (r *Registry) Remove(old, keep []string) (freed int64, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	named := map[oci.Digest]bool{}
	keep = slices.Clone(keep)
	for _, v := range r.versions {
		keep = append(keep, v.Manifest)
	}
	for _, s := range keep {
		d := oci.Digest(s)
		if named[d] {
			continue
		}
		named[d] = true
		m, err := r.layout.Manifest(d)
		if err != nil {
			return 0, fmt.Errorf("remove blobs: what is to be kept: %w", err)
		}
		for _, b := range oci.Blobs(m) {
			named[b.Digest] = true
		}
	}
	for _, s := range old {
		m, err := r.layout.Manifest(oci.Digest(s))
		if errors.Is(err, fs.ErrNotExist) {
			continue // two steps may have led to one artefact
		}
		if err != nil {
			return freed, fmt.Errorf("remove blobs: %w", err)
		}
		gone := []oci.Digest{oci.Digest(s)}
		for _, l := range m.Layers {
			gone = append(gone, l.Digest)
		}
		for _, d := range gone {
			n, err := r.removeBlob(d, named)
			freed += n
			if err != nil {
				return freed, fmt.Errorf("remove blob %s: %w", d, err)
			}
		}
	}
	return freed, nil
}

func (r *Registry) removeBlob(d oci.Digest, named map[oci.Digest]bool) (freed int64, err error) {
	if named[d] {
		return 0, nil
	}
	path, err := r.layout.Path(d)
	if err != nil {
		return 0, err
	}
	f, size, err := r.layout.OpenBlob(d)
	if errors.Is(err, fs.ErrNotExist) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	if err := errors.Join(f.Close(), r.fsys.Remove(path)); err != nil {
		return 0, err
	}
	return size, nil
}
