// Package durable writes files so that a power cut leaves either the old
// content or the new one, and never half of either.
//
// Start with WriteFile and Rename, which work on the disk, or with Replace
// and Move, which work on any FS. Forgetful is an FS for tests: after Crash
// only what was synced is left.
//
// The promise of Replace: when it returns nil the new content survives a
// power cut; when it fails, or the power goes before it returns, the file has
// the old content or the new one. It needs a file system where rename is
// atomic and fsync tells the truth (ext4, XFS, btrfs, F2FS; not FAT). The
// package does not lock files and does not order writers: two writers of one
// path need a lock of their own.
package durable

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
)

// FS is what durable storage needs of a file system. Paths are those of
// path/filepath.
//
// A file's content survives a power cut from its File.Sync on; a name (made,
// renamed or removed) from the SyncDir of its directory on. Errors satisfy
// errors.Is with fs.ErrNotExist and fs.ErrExist where they mean that.
type FS interface {
	// Create makes a file, or empties it where it exists, open for reading and writing.
	Create(path string, perm fs.FileMode) (File, error)
	// Append opens a file for writing at its end, and makes it where it is absent.
	Append(path string, perm fs.FileMode) (File, error)
	// Open opens a file for reading.
	Open(path string) (File, error)
	ReadFile(path string) ([]byte, error)
	// Rename gives a file or directory another name, atomically; a file of that name is replaced.
	Rename(old, new string) error
	// Remove removes a file or an empty directory.
	Remove(path string) error
	MkdirAll(path string, perm fs.FileMode) error
	ReadDir(path string) ([]fs.DirEntry, error)
	Stat(path string) (fs.FileInfo, error)
	// SyncDir makes the names in a directory last.
	SyncDir(path string) error
}

// File is an open file of an FS.
type File interface {
	io.Reader
	io.ReaderAt
	io.Writer
	io.Seeker
	io.Closer
	Stat() (fs.FileInfo, error)
	Sync() error
	Truncate(size int64) error
}

// OS is the operating system's file system.
var OS FS = disk{}

// WriteFile is Replace on the disk.
func WriteFile(path string, data []byte, perm fs.FileMode) error {
	return Replace(OS, path, data, perm)
}

// Rename is Move on the disk.
func Rename(old, new string) error { return Move(OS, old, new) }

// MkdirAll is Mkdir on the disk.
func MkdirAll(path string, perm fs.FileMode) error { return Mkdir(OS, path, perm) }

// Replace makes data the content of the file at path, all or nothing (see
// the package comment). The directory must exist. A failure leaves no
// temporary file behind; a power cut may leave one, named as IsTemp tells.
func Replace(fsys FS, path string, data []byte, perm fs.FileMode) error {
	tmp := TempName(path)
	if err := writeSynced(fsys, tmp, data, perm); err != nil {
		return errors.Join(fmt.Errorf("write %s: %w", path, err), dropTemp(fsys, tmp))
	}
	if err := fsys.Rename(tmp, path); err != nil {
		return errors.Join(fmt.Errorf("write %s: %w", path, err), dropTemp(fsys, tmp))
	}
	if err := fsys.SyncDir(filepath.Dir(path)); err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	return nil
}

func writeSynced(fsys FS, path string, data []byte, perm fs.FileMode) error {
	f, err := fsys.Create(path, perm)
	if err != nil {
		return err
	}
	if _, err := f.Write(data); err != nil {
		return errors.Join(err, f.Close())
	}
	if err := f.Sync(); err != nil {
		return errors.Join(err, f.Close())
	}
	return f.Close()
}

// Move makes the content of the file old last, gives it the name new, and
// makes the name last. A file already there is replaced. Where both names
// are in different directories, both directories are synced, the new one
// first: a power cut between leaves the file under two names rather than
// under none.
func Move(fsys FS, old, new string) error {
	if err := syncFile(fsys, old); err != nil {
		return fmt.Errorf("move %s: %w", old, err)
	}
	if err := fsys.Rename(old, new); err != nil {
		return fmt.Errorf("move %s: %w", old, err)
	}
	if err := fsys.SyncDir(filepath.Dir(new)); err != nil {
		return fmt.Errorf("move %s to %s: %w", old, new, err)
	}
	if from := filepath.Dir(old); from != filepath.Dir(new) {
		if err := fsys.SyncDir(from); err != nil {
			return fmt.Errorf("move %s to %s: %w", old, new, err)
		}
	}
	return nil
}

func syncFile(fsys FS, path string) error {
	f, err := fsys.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}

// Mkdir makes a directory and those above it that are absent, and makes
// their names last.
func Mkdir(fsys FS, path string, perm fs.FileMode) error {
	path = filepath.Clean(path)
	if info, err := fsys.Stat(path); err == nil && info.IsDir() {
		return nil
	}
	parent := filepath.Dir(path)
	if parent != path {
		if err := Mkdir(fsys, parent, perm); err != nil {
			return err
		}
	}
	if err := fsys.MkdirAll(path, perm); err != nil {
		return fmt.Errorf("make directory %s: %w", path, err)
	}
	if err := fsys.SyncDir(parent); err != nil {
		return fmt.Errorf("make directory %s: %w", path, err)
	}
	return nil
}

// Remove removes a file and makes its absence last. It is no failure where
// there is none.
func Remove(fsys FS, path string) error {
	err := fsys.Remove(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("remove %s: %w", path, err)
	}
	if err := fsys.SyncDir(filepath.Dir(path)); err != nil {
		return fmt.Errorf("remove %s: %w", path, err)
	}
	return nil
}

const tempMark = ".tmp-"

var temps atomic.Uint64

// TempName returns a name beside path that no other call in this process, nor
// another running process, gets.
func TempName(path string) string {
	n := strconv.FormatUint(temps.Add(1), 36)
	name := tempMark + strconv.Itoa(os.Getpid()) + "-" + n + "-" + filepath.Base(path)
	return filepath.Join(filepath.Dir(path), name)
}

// IsTemp reports whether a name (without directory) is one of TempName's: a
// file left behind by a power cut, which its owner may remove at start.
func IsTemp(name string) bool { return len(name) > len(tempMark) && name[:len(tempMark)] == tempMark }

// DropTemps removes what writes of path left behind when the power went or
// the process was killed: temporary files that are TempName's for it. No other
// process may be writing path.
func DropTemps(fsys FS, path string) error {
	entries, err := fsys.ReadDir(filepath.Dir(path))
	if err != nil {
		return fmt.Errorf("drop temporary files of %s: %w", path, err)
	}
	for _, e := range entries {
		if !IsTemp(e.Name()) {
			continue
		}
		parts := strings.SplitN(e.Name()[len(tempMark):], "-", 3) // process, number, name
		if len(parts) == 3 && parts[2] == filepath.Base(path) {
			if err := dropTemp(fsys, filepath.Join(filepath.Dir(path), e.Name())); err != nil {
				return fmt.Errorf("drop temporary files of %s: %w", path, err)
			}
		}
	}
	return nil
}

// dropTemp removes a temporary file after a failure; that it was never made
// is no further failure.
func dropTemp(fsys FS, path string) error {
	if err := fsys.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}
