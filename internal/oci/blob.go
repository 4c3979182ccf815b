package oci

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path/filepath"

	"github.com/opencontainers/go-digest"

	"dunlin/internal/durable"
)

// DigestError says that a blob is not what its descriptor promises.
type DigestError struct {
	Want Digest // what was asked for
	Got  Digest // the digest of what is there, "" where only the size was looked at
	Size int64  // the bytes that are there
	Path string // the file, "" where it was not yet one
}

func (e *DigestError) Error() string {
	where := ""
	if e.Path != "" {
		where = " in " + e.Path
	}
	if e.Got == "" {
		return fmt.Sprintf("blob %s%s: %d bytes, which is not the size its descriptor says", e.Want, where, e.Size)
	}
	return fmt.Sprintf("blob %s%s: digest is %s", e.Want, where, e.Got)
}

// ErrTooLarge is returned when a blob or a file is larger than its reader
// allows.
var ErrTooLarge = errors.New("too large")

// Put stores what r holds as a blob, and returns its descriptor. Nothing is
// visible until all of it is hashed and synced. A blob that is there already
// is replaced by the same bytes, which heals one that rotted.
func (l *Layout) Put(mediaType string, r io.Reader) (Descriptor, error) {
	if err := checkMediaType(mediaType); err != nil {
		return Descriptor{}, err
	}
	l.blobs.RLock()
	defer l.blobs.RUnlock()
	tmp := durable.TempName(filepath.Join(l.blobDir(), "put"))
	d, err := l.writeTemp(tmp, r)
	if err != nil {
		return Descriptor{}, errors.Join(fmt.Errorf("store blob: %w", err), l.drop(tmp))
	}
	path, err := l.Path(d.Digest)
	if err != nil {
		return Descriptor{}, errors.Join(err, l.drop(tmp))
	}
	if err := l.fsys.Rename(tmp, path); err != nil {
		return Descriptor{}, errors.Join(fmt.Errorf("store blob: %w", err), l.drop(tmp))
	}
	if err := l.fsys.SyncDir(l.blobDir()); err != nil {
		return Descriptor{}, fmt.Errorf("store blob: %w", err)
	}
	d.MediaType = mediaType
	return d, nil
}

// PutBytes is Put for bytes at hand.
func (l *Layout) PutBytes(mediaType string, data []byte) (Descriptor, error) {
	return l.Put(mediaType, bytes.NewReader(data))
}

// writeTemp writes r to a synced file and returns its digest and size.
func (l *Layout) writeTemp(tmp string, r io.Reader) (Descriptor, error) {
	f, err := l.fsys.Create(tmp, filePerm)
	if err != nil {
		return Descriptor{}, err
	}
	h := digest.SHA256.Digester()
	n, err := io.Copy(io.MultiWriter(f, h.Hash()), r)
	if err == nil && n > MaxBlob {
		err = fmt.Errorf("%d bytes: %w", n, ErrTooLarge)
	}
	if err == nil {
		err = f.Sync()
	}
	if err := errors.Join(err, f.Close()); err != nil {
		return Descriptor{}, err
	}
	return Descriptor{Digest: h.Digest(), Size: n}, nil
}

func (l *Layout) drop(tmp string) error {
	if err := l.fsys.Remove(tmp); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// Adopt makes the file at part, usually one of PartPath's, the blob that d
// describes: it hashes and syncs the file and moves it among the blobs. A
// file that is something else is removed, since no byte of it can be
// trusted, and the error is a *DigestError. The file must be on the same
// file system as the layout.
func (l *Layout) Adopt(part string, d Descriptor) error {
	if err := checkDescriptor(d); err != nil {
		return err
	}
	l.blobs.RLock()
	defer l.blobs.RUnlock()
	if err := l.hashFile(part, d.Digest, d.Size); err != nil {
		var de *DigestError
		if errors.As(err, &de) {
			err = errors.Join(err, l.drop(part))
		}
		return err
	}
	path, err := l.Path(d.Digest)
	if err != nil {
		return err
	}
	return durable.Move(l.fsys, part, path)
}

// Has reports whether a blob is there, without reading it.
func (l *Layout) Has(d Digest) bool {
	path, err := l.Path(d)
	if err != nil {
		return false
	}
	info, err := l.fsys.Stat(path)
	return err == nil && info.Mode().IsRegular()
}

// OpenBlob opens a blob for reading and returns its size. The bytes are not
// checked: whoever reads them hashes them (see Check).
func (l *Layout) OpenBlob(d Digest) (durable.File, int64, error) {
	path, err := l.Path(d)
	if err != nil {
		return nil, 0, err
	}
	f, size, err := l.open(path)
	if err != nil {
		return nil, 0, fmt.Errorf("blob %s: %w", d, err)
	}
	return f, size, nil
}

// open refuses what is no plain file: a pipe would block, a device never end.
func (l *Layout) open(path string) (durable.File, int64, error) {
	info, err := l.fsys.Stat(path)
	if err != nil {
		return nil, 0, err
	}
	if !info.Mode().IsRegular() {
		return nil, 0, fmt.Errorf("%s: not a plain file", path)
	}
	f, err := l.fsys.Open(path)
	if err != nil {
		return nil, 0, err
	}
	return f, info.Size(), nil
}

// readFile reads a file of at most max bytes.
func (l *Layout) readFile(path string, max int64) ([]byte, error) {
	f, size, err := l.open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if size > max {
		return nil, fmt.Errorf("%s: %d bytes, at most %d: %w", path, size, max, ErrTooLarge)
	}
	// The size is a hint: the file may grow while it is read.
	var buf bytes.Buffer
	buf.Grow(int(size) + bytes.MinRead)
	if _, err := buf.ReadFrom(io.LimitReader(f, max+1)); err != nil {
		return nil, err
	}
	if int64(buf.Len()) > max {
		return nil, fmt.Errorf("%s: more than %d bytes: %w", path, max, ErrTooLarge)
	}
	return buf.Bytes(), nil
}

// ReadBlob returns a blob of at most max bytes. The bytes returned were
// hashed: another content is a *DigestError.
func (l *Layout) ReadBlob(d Digest, max int64) ([]byte, error) {
	path, err := l.Path(d)
	if err != nil {
		return nil, err
	}
	data, err := l.readFile(path, max)
	if err != nil {
		return nil, fmt.Errorf("blob %s: %w", d, err)
	}
	if got := digest.FromBytes(data); got != d {
		return nil, &DigestError{Want: d, Got: got, Size: int64(len(data)), Path: path}
	}
	return data, nil
}

// Check hashes data and fails with a *DigestError where it is not the blob
// that d describes.
func Check(d Descriptor, data []byte) error {
	if int64(len(data)) != d.Size {
		return &DigestError{Want: d.Digest, Size: int64(len(data))}
	}
	if got := digest.FromBytes(data); got != d.Digest {
		return &DigestError{Want: d.Digest, Got: got, Size: int64(len(data))}
	}
	return nil
}

// hashFile reads a file through and fails with a *DigestError where its
// digest is another, or where size is not negative and not the file's.
func (l *Layout) hashFile(path string, want Digest, size int64) error {
	f, n, err := l.open(path)
	if err != nil {
		return fmt.Errorf("blob %s: %w", want, err)
	}
	defer f.Close()
	if size >= 0 && n != size {
		return &DigestError{Want: want, Size: n, Path: path}
	}
	h := digest.SHA256.Digester()
	if n, err = io.Copy(h.Hash(), f); err != nil {
		return fmt.Errorf("blob %s: %w", want, err)
	}
	if got := h.Digest(); got != want {
		return &DigestError{Want: want, Got: got, Size: n, Path: path}
	}
	return nil
}
