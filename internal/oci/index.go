package oci

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"path/filepath"
	"slices"

	v1 "github.com/opencontainers/image-spec/specs-go/v1"

	"dunlin/internal/durable"
)

// ErrNotInIndex is returned when no entry of index.json has the digest or the
// name that was asked for.
var ErrNotInIndex = errors.New("not in index.json")

func emptyIndex() *Index {
	x := &Index{MediaType: v1.MediaTypeImageIndex, Manifests: []Descriptor{}}
	x.SchemaVersion = 2
	return x
}

// Index returns the content of index.json. Entries stand in the order in
// which Add put them: the last is the newest.
func (l *Layout) Index() (*Index, error) {
	data, err := l.readFile(l.indexPath(), MaxIndex)
	if err != nil {
		return nil, fmt.Errorf("layout %s: %w", l.dir, err)
	}
	x, err := ParseIndex(data)
	if err != nil {
		return nil, fmt.Errorf("layout %s: %s: %w", l.dir, v1.ImageIndexFile, err)
	}
	return x, nil
}

// ParseIndex reads an index.json of at most MaxIndex bytes and checks every
// entry.
func ParseIndex(data []byte) (*Index, error) {
	if len(data) > MaxIndex {
		return nil, fmt.Errorf("index of %d bytes, at most %d: %w", len(data), MaxIndex, ErrTooLarge)
	}
	var x Index
	if err := json.Unmarshal(data, &x); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrManifest, err)
	}
	return &x, checkIndex(&x)
}

func checkIndex(x *Index) error {
	if x.SchemaVersion != 2 {
		return fmt.Errorf("schema version %d, want 2: %w", x.SchemaVersion, ErrManifest)
	}
	if len(x.Manifests) > MaxEntries {
		return fmt.Errorf("%d entries, at most %d: %w", len(x.Manifests), MaxEntries, ErrManifest)
	}
	for i, d := range x.Manifests {
		if err := checkDescriptor(d); err != nil {
			return fmt.Errorf("entry %d: %w", i, err)
		}
	}
	return nil
}

func (l *Layout) writeIndex(x *Index) error {
	if err := checkIndex(x); err != nil {
		return err
	}
	data, err := json.MarshalIndent(x, "", "  ")
	if err != nil {
		return fmt.Errorf("layout %s: %w", l.dir, err)
	}
	if len(data) > MaxIndex {
		return fmt.Errorf("layout %s: index of %d bytes, at most %d: %w", l.dir, len(data), MaxIndex, ErrTooLarge)
	}
	if err := durable.Replace(l.fsys, l.indexPath(), append(data, '\n'), filePerm); err != nil {
		return fmt.Errorf("layout %s: %w", l.dir, err)
	}
	return nil
}

// update changes index.json, all or nothing. Nothing is written where change
// fails.
func (l *Layout) update(change func(x *Index) error) error {
	l.index.Lock()
	defer l.index.Unlock()
	x, err := l.Index()
	if err != nil {
		return err
	}
	if err := change(x); err != nil {
		return err
	}
	return l.writeIndex(x)
}

// Add puts a manifest at the end of the index. Where it is there already,
// its entries move to the end and keep their names and annotations; those of
// d are added.
func (l *Layout) Add(d Descriptor) error {
	if err := checkDescriptor(d); err != nil {
		return err
	}
	return l.update(func(x *Index) error {
		var moved, rest []Descriptor
		for _, e := range x.Manifests {
			if e.Digest != d.Digest {
				rest = append(rest, e)
				continue
			}
			e.Annotations = merge(e.Annotations, d.Annotations)
			moved = append(moved, e)
		}
		if moved == nil {
			moved = []Descriptor{d}
		}
		x.Manifests = append(rest, moved...)
		return nil
	})
}

// SetRef gives a manifest a name, which any other entry loses. The manifest
// is added to the index where it is not there yet.
func (l *Layout) SetRef(name string, d Descriptor) error {
	if name == "" || len(name) > maxText {
		return fmt.Errorf("name %q of a manifest: %w", clip(name), ErrManifest)
	}
	if err := checkDescriptor(d); err != nil {
		return err
	}
	return l.update(func(x *Index) error {
		free, found := -1, false
		for i := range x.Manifests {
			e := &x.Manifests[i]
			ref := e.Annotations[AnnotationRef]
			switch {
			case e.Digest != d.Digest && ref == name:
				delete(e.Annotations, AnnotationRef)
			case e.Digest == d.Digest && ref == name:
				found = true
			case e.Digest == d.Digest:
				// Its annotations hold for the digest, whatever the name.
				d.Annotations = merge(d.Annotations, e.Annotations)
				if ref == "" {
					free = i
				}
			}
		}
		if found {
			return nil
		}
		d.Annotations = merge(d.Annotations, map[string]string{AnnotationRef: name})
		if free >= 0 {
			x.Manifests[free].Annotations = d.Annotations
			return nil
		}
		x.Manifests = append(x.Manifests, d)
		return nil
	})
}

// Resolve returns the index entry of a name, or ErrNotInIndex.
func (l *Layout) Resolve(name string) (Descriptor, error) {
	x, err := l.Index()
	if err != nil {
		return Descriptor{}, err
	}
	for _, e := range x.Manifests {
		if name != "" && e.Annotations[AnnotationRef] == name {
			return e, nil
		}
	}
	return Descriptor{}, fmt.Errorf("name %q in %s: %w", clip(name), l.dir, ErrNotInIndex)
}

// Entry returns an index entry of a digest, or ErrNotInIndex.
func (l *Layout) Entry(d Digest) (Descriptor, error) {
	x, err := l.Index()
	if err != nil {
		return Descriptor{}, err
	}
	for _, e := range x.Manifests {
		if e.Digest == d {
			return e, nil
		}
	}
	return Descriptor{}, fmt.Errorf("manifest %s in %s: %w", clip(string(d)), l.dir, ErrNotInIndex)
}

// Annotate sets annotations on every index entry of a digest; an empty value
// removes one. It fails with ErrNotInIndex where there is no entry.
func (l *Layout) Annotate(d Digest, set map[string]string) error {
	return l.update(func(x *Index) error {
		found := false
		for i := range x.Manifests {
			if e := &x.Manifests[i]; e.Digest == d {
				e.Annotations, found = merge(e.Annotations, set), true
			}
		}
		if !found {
			return fmt.Errorf("manifest %s in %s: %w", clip(string(d)), l.dir, ErrNotInIndex)
		}
		return nil
	})
}

// merge returns a with b over it, without the keys whose value is then empty.
func merge(a, b map[string]string) map[string]string {
	m := make(map[string]string, len(a)+len(b))
	maps.Copy(m, a)
	maps.Copy(m, b)
	maps.DeleteFunc(m, func(_, v string) bool { return v == "" })
	return m
}

// Sweep removes from index.json every manifest that is not in keep, then
// every blob that no kept manifest names, downloads of other blobs, and what
// a power cut left behind. It returns the bytes freed. Where a kept manifest
// cannot be read, nothing is removed.
//
// A blob whose manifest is not there yet counts as unnamed: whoever stores
// blobs before their manifest must not sweep meanwhile.
func (l *Layout) Sweep(keep ...Digest) (freed int64, err error) {
	l.blobs.Lock()
	defer l.blobs.Unlock()
	named := map[string]bool{}
	for _, d := range keep {
		m, err := l.Manifest(d)
		if err != nil {
			return 0, fmt.Errorf("sweep %s: %w", l.dir, err)
		}
		named[d.Encoded()] = true
		for _, b := range Blobs(m) {
			named[b.Digest.Encoded()] = true
		}
	}
	// The index goes first: a power cut then leaves blobs too many, never a
	// named manifest without its blobs.
	err = l.update(func(x *Index) error {
		x.Manifests = slices.DeleteFunc(x.Manifests, func(e Descriptor) bool { return !slices.Contains(keep, e.Digest) })
		return nil
	})
	if err != nil {
		return 0, err
	}
	for _, dir := range []string{l.blobDir(), filepath.Join(l.dir, partialDir)} {
		n, err := l.sweepDir(dir, named)
		freed += n
		if err != nil {
			return freed, fmt.Errorf("sweep %s: %w", l.dir, err)
		}
	}
	return freed, l.sweepTemps()
}

func (l *Layout) sweepDir(dir string, named map[string]bool) (freed int64, err error) {
	entries, err := l.fsys.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	for _, e := range entries {
		if named[e.Name()] || e.IsDir() {
			continue
		}
		info, err := e.Info()
		if err != nil {
			return freed, err
		}
		if err := l.fsys.Remove(filepath.Join(dir, e.Name())); err != nil {
			return freed, err
		}
		freed += info.Size()
	}
	return freed, l.fsys.SyncDir(dir)
}

// sweepTemps removes what a power cut left beside index.json. An update of
// the index may be under way, so it waits for that.
func (l *Layout) sweepTemps() error {
	l.index.Lock()
	defer l.index.Unlock()
	entries, err := l.fsys.ReadDir(l.dir)
	if err != nil {
		return fmt.Errorf("sweep %s: %w", l.dir, err)
	}
	for _, e := range entries {
		if !e.IsDir() && durable.IsTemp(e.Name()) {
			if err := l.fsys.Remove(filepath.Join(l.dir, e.Name())); err != nil {
				return fmt.Errorf("sweep %s: %w", l.dir, err)
			}
		}
	}
	return nil
}
