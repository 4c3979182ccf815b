// Package oci keeps content-addressed blobs in an OCI image layout on disk:
//
//	DIR/oci-layout              {"imageLayoutVersion":"1.0.0"}
//	DIR/index.json              the manifests, with names and signatures as annotations
//	DIR/blobs/sha256/<64 hex>   manifests and everything they name
//	DIR/partial/<64 hex>        downloads that are not whole yet (ours, not of the specification)
//
// Start with Create or Open, Layout.Put and Layout.Manifest. The types are
// those of github.com/opencontainers/image-spec, so any OCI tool can read,
// push and pull what is kept here.
//
// Two promises. A name below blobs/ appears only when its content is whole,
// hashed and synced, whenever the power goes. And what ReadBlob, Manifest and
// Verify return was hashed after it was read: a rotten or forged file is a
// *DigestError, never data.
//
// The package fetches nothing, knows no registry and checks no signature. A
// Layout may be used by many goroutines; index.json must have one process
// that writes it.
package oci

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"sync"

	"github.com/opencontainers/go-digest"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"

	"dunlin/internal/durable"
)

// The types of the OCI image specification.
type (
	// Digest is "sha256:" and 64 hex digits; no other algorithm is accepted.
	Digest = digest.Digest
	// Descriptor names a blob by media type, digest and size.
	Descriptor = v1.Descriptor
	// Manifest is an OCI image manifest.
	Manifest = v1.Manifest
	// Index is the content of index.json.
	Index = v1.Index
)

// Annotations that more than one package reads.
const (
	AnnotationTitle   = v1.AnnotationTitle   // a manifest's or a layer's name
	AnnotationVersion = v1.AnnotationVersion // a manifest's version
	AnnotationRef     = v1.AnnotationRefName // the name of an index entry
)

// MediaTypeManifest is the media type of every manifest.
const MediaTypeManifest = v1.MediaTypeImageManifest

// The bounds on what is read.
const (
	MaxManifest    = 1 << 20 // bytes of a manifest
	MaxIndex       = 4 << 20 // bytes of index.json
	MaxLayers      = 64      // layers of a manifest
	MaxEntries     = 4096    // manifests in index.json
	MaxBlob        = 1 << 40 // bytes that a descriptor may claim
	maxAnnotations = 64
	maxText        = 4096 // bytes of an annotation's key or value
)

const (
	partialDir = "partial"
	dirPerm    = 0o755
	filePerm   = 0o644
)

// Layout is an OCI image layout on disk.
type Layout struct {
	dir  string
	fsys durable.FS

	// blobs is held for reading while a blob is written and for writing while
	// Sweep removes some, so that Sweep never takes a file being written. It
	// is taken before index where both are.
	blobs sync.RWMutex
	// index guards index.json, from reading it to replacing it.
	index sync.Mutex
}

// Create opens the layout at dir, and makes an empty one where there is none.
func Create(dir string) (*Layout, error) { return CreateOn(durable.OS, dir) }

// CreateOn is Create on another file system.
func CreateOn(fsys durable.FS, dir string) (*Layout, error) {
	l := &Layout{dir: dir, fsys: fsys}
	for _, d := range []string{l.blobDir(), filepath.Join(dir, partialDir)} {
		if err := durable.Mkdir(fsys, d, dirPerm); err != nil {
			return nil, fmt.Errorf("layout %s: %w", dir, err)
		}
	}
	// oci-layout comes last: a folder that has it is complete.
	if _, err := fsys.Stat(l.indexPath()); errors.Is(err, fs.ErrNotExist) {
		if err := l.writeIndex(emptyIndex()); err != nil {
			return nil, err
		}
	}
	marker := filepath.Join(dir, v1.ImageLayoutFile)
	if _, err := fsys.Stat(marker); errors.Is(err, fs.ErrNotExist) {
		data, err := json.Marshal(v1.ImageLayout{Version: v1.ImageLayoutVersion})
		if err != nil {
			return nil, fmt.Errorf("layout %s: %w", dir, err)
		}
		if err := durable.Replace(fsys, marker, data, filePerm); err != nil {
			return nil, fmt.Errorf("layout %s: %w", dir, err)
		}
	}
	return OpenOn(fsys, dir)
}

// ErrNoLayout is returned when a folder is no OCI image layout.
var ErrNoLayout = errors.New("no OCI image layout")

// Open opens the layout at dir. It fails with ErrNoLayout where there is
// none, and where index.json cannot be read.
func Open(dir string) (*Layout, error) { return OpenOn(durable.OS, dir) }

// OpenOn is Open on another file system.
func OpenOn(fsys durable.FS, dir string) (*Layout, error) {
	l := &Layout{dir: dir, fsys: fsys}
	data, err := l.readFile(filepath.Join(dir, v1.ImageLayoutFile), 4096)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("open %s: %w", dir, ErrNoLayout)
	}
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", dir, err)
	}
	var marker v1.ImageLayout
	if err := json.Unmarshal(data, &marker); err != nil {
		return nil, fmt.Errorf("open %s: %s: %w: %w", dir, v1.ImageLayoutFile, ErrNoLayout, err)
	}
	if marker.Version != v1.ImageLayoutVersion {
		return nil, fmt.Errorf("open %s: layout version %q, want %s: %w", dir, marker.Version, v1.ImageLayoutVersion, ErrNoLayout)
	}
	if _, err := l.Index(); err != nil {
		return nil, err
	}
	return l, nil
}

// Dir returns the folder of the layout.
func (l *Layout) Dir() string { return l.dir }

func (l *Layout) blobDir() string {
	return filepath.Join(l.dir, v1.ImageBlobsDir, digest.SHA256.String())
}
func (l *Layout) indexPath() string { return filepath.Join(l.dir, v1.ImageIndexFile) }

// ParseDigest fails where s is not a digest that this package accepts.
func ParseDigest(s string) (Digest, error) {
	d := Digest(s)
	if err := d.Validate(); err != nil {
		return "", fmt.Errorf("digest %q: %w", clip(s), err)
	}
	if d.Algorithm() != digest.SHA256 {
		return "", fmt.Errorf("digest %q: want sha256", clip(s))
	}
	return d, nil
}

// Path returns where the blob of a digest is, or would be. The digest is
// checked first, so the path is always inside the layout.
func (l *Layout) Path(d Digest) (string, error) {
	d, err := ParseDigest(string(d))
	if err != nil {
		return "", err
	}
	return filepath.Join(l.blobDir(), d.Encoded()), nil
}

// PartPath returns where a download of the blob is kept until it is whole;
// Adopt takes it from there. The folder exists.
func (l *Layout) PartPath(d Digest) (string, error) {
	d, err := ParseDigest(string(d))
	if err != nil {
		return "", err
	}
	dir := filepath.Join(l.dir, partialDir)
	if err := durable.Mkdir(l.fsys, dir, dirPerm); err != nil {
		return "", fmt.Errorf("layout %s: %w", l.dir, err)
	}
	return filepath.Join(dir, d.Encoded()), nil
}

// clip bounds what of a stranger's text gets into an error.
func clip(s string) string {
	if len(s) > 100 {
		return s[:100] + "…"
	}
	return s
}
