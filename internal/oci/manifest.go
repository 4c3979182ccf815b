package oci

import (
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"strings"
	"unicode/utf8"
)

// ErrManifest is returned when a manifest or index.json is not what the
// specification or the bounds of this package allow.
var ErrManifest = errors.New("not a valid manifest")

// mediaTypeRule is RFC 6838, section 4.2, without parameters. Lengths are not in
// it: counted repetitions make an expression large in every process.
var mediaTypeRule = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9!#$&^_.+-]*/[A-Za-z0-9][A-Za-z0-9!#$&^_.+-]*$`)

const maxMediaName = 127 // of either half

func checkMediaType(s string) error {
	kind, name, _ := strings.Cut(s, "/")
	if len(kind) > maxMediaName || len(name) > maxMediaName || !mediaTypeRule.MatchString(s) {
		return fmt.Errorf("media type %q: %w", clip(s), ErrManifest)
	}
	return nil
}

func checkDescriptor(d Descriptor) error {
	if err := checkMediaType(d.MediaType); err != nil {
		return err
	}
	if _, err := ParseDigest(string(d.Digest)); err != nil {
		return fmt.Errorf("%w: %w", err, ErrManifest)
	}
	if d.Size < 0 || d.Size > MaxBlob {
		return fmt.Errorf("blob %s: size %d: %w", d.Digest, d.Size, ErrManifest)
	}
	if d.ArtifactType != "" {
		if err := checkMediaType(d.ArtifactType); err != nil {
			return err
		}
	}
	return checkAnnotations(d.Annotations)
}

func checkAnnotations(m map[string]string) error {
	if len(m) > maxAnnotations {
		return fmt.Errorf("%d annotations, at most %d: %w", len(m), maxAnnotations, ErrManifest)
	}
	for k, v := range m {
		if k == "" || len(k) > maxText || len(v) > maxText || !utf8.ValidString(k) || !utf8.ValidString(v) {
			return fmt.Errorf("annotation %q: %w", clip(k), ErrManifest)
		}
	}
	return nil
}

// ParseManifest reads an OCI image manifest of at most MaxManifest bytes and
// checks every descriptor in it. It allocates a small multiple of len(data).
func ParseManifest(data []byte) (*Manifest, error) {
	if len(data) > MaxManifest {
		return nil, fmt.Errorf("manifest of %d bytes, at most %d: %w", len(data), MaxManifest, ErrTooLarge)
	}
	var m Manifest
	if err := json.Unmarshal(data, &m); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrManifest, err)
	}
	if err := checkManifest(&m); err != nil {
		return nil, err
	}
	return &m, nil
}

func checkManifest(m *Manifest) error {
	if m.SchemaVersion != 2 {
		return fmt.Errorf("schema version %d, want 2: %w", m.SchemaVersion, ErrManifest)
	}
	// The specification lets the media type be absent.
	if m.MediaType != "" && m.MediaType != MediaTypeManifest {
		return fmt.Errorf("media type %q, want %s: %w", clip(m.MediaType), MediaTypeManifest, ErrManifest)
	}
	if m.ArtifactType != "" {
		if err := checkMediaType(m.ArtifactType); err != nil {
			return err
		}
	}
	if len(m.Layers) > MaxLayers {
		return fmt.Errorf("%d layers, at most %d: %w", len(m.Layers), MaxLayers, ErrManifest)
	}
	if err := checkDescriptor(m.Config); err != nil {
		return fmt.Errorf("config: %w", err)
	}
	for i, d := range m.Layers {
		if err := checkDescriptor(d); err != nil {
			return fmt.Errorf("layer %d: %w", i, err)
		}
	}
	if m.Subject != nil {
		if err := checkDescriptor(*m.Subject); err != nil {
			return fmt.Errorf("subject: %w", err)
		}
	}
	return checkAnnotations(m.Annotations)
}

// Manifest returns the manifest of a digest, hashed and checked.
func (l *Layout) Manifest(d Digest) (*Manifest, error) {
	data, err := l.ReadBlob(d, MaxManifest)
	if err != nil {
		return nil, err
	}
	m, err := ParseManifest(data)
	if err != nil {
		return nil, fmt.Errorf("manifest %s: %w", d, err)
	}
	return m, nil
}

// PutManifest stores a manifest as a blob; every blob that it names must be
// there with its size. The index is not changed (see Add).
func (l *Layout) PutManifest(m *Manifest) (Descriptor, error) {
	c := *m
	c.SchemaVersion, c.MediaType = 2, MediaTypeManifest
	if c.Layers == nil {
		c.Layers = []Descriptor{} // the specification wants a list, not null
	}
	if err := checkManifest(&c); err != nil {
		return Descriptor{}, err
	}
	for _, d := range Blobs(&c) {
		f, size, err := l.OpenBlob(d.Digest)
		if err != nil {
			return Descriptor{}, fmt.Errorf("manifest names a blob that is not there: %w", err)
		}
		if err := f.Close(); err != nil {
			return Descriptor{}, err
		}
		if size != d.Size {
			return Descriptor{}, &DigestError{Want: d.Digest, Size: size}
		}
	}
	data, err := json.Marshal(&c)
	if err != nil {
		return Descriptor{}, fmt.Errorf("manifest: %w", err)
	}
	if len(data) > MaxManifest {
		return Descriptor{}, fmt.Errorf("manifest of %d bytes, at most %d: %w", len(data), MaxManifest, ErrTooLarge)
	}
	d, err := l.PutBytes(MediaTypeManifest, data)
	if err != nil {
		return Descriptor{}, err
	}
	d.ArtifactType = c.ArtifactType
	return d, nil
}

// Blobs returns the descriptors that a manifest names: the config first,
// then the layers, each digest once.
func Blobs(m *Manifest) []Descriptor {
	seen := make(map[Digest]bool, len(m.Layers)+1)
	var all []Descriptor
	for _, d := range append([]Descriptor{m.Config}, m.Layers...) {
		if !seen[d.Digest] {
			seen[d.Digest] = true
			all = append(all, d)
		}
	}
	return all
}

// Verify hashes a manifest and every blob that it names. The error is a
// *DigestError where one is not what it should be, and wraps fs.ErrNotExist
// where one is absent.
func (l *Layout) Verify(d Digest) error {
	m, err := l.Manifest(d)
	if err != nil {
		return err
	}
	for _, b := range Blobs(m) {
		if err := l.VerifyBlob(b); err != nil {
			return fmt.Errorf("manifest %s: %w", d, err)
		}
	}
	return nil
}

// VerifyBlob hashes one blob; errors are those of Verify.
func (l *Layout) VerifyBlob(d Descriptor) error {
	path, err := l.Path(d.Digest)
	if err != nil {
		return err
	}
	return l.hashFile(path, d.Digest, d.Size)
}
