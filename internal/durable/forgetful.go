package durable

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"
)

// Forgetful is a file system in memory that loses, at Crash, what was not
// synced: content that no File.Sync covered, names that no SyncDir covered.
// It can also lose power, or fail, at a chosen operation.
//
// A test runs its code once for each n with CutAt(n), calls Crash, and looks
// at what is left; Ops tells how many n there are:
//
//	for n := range opsOfOneRun {
//		f := NewForgetful()
//		f.CutAt(n)
//		code(f) // fails with ErrPowerCut somewhere
//		f.Crash()
//		check(f)
//	}
//
// Names and content are kept as a strict reading of POSIX allows; Crash
// keeps the least that it may, CrashSome some of the rest, as a real disk
// does that wrote back a part of its cache. The idea is that of pebble's
// vfs.MemFS (NewCrashableMem) and errorfs.
type Forgetful struct {
	mu      sync.Mutex
	root    *node
	pending []change // names changed since they were last synced, in order
	ops     int
	failAt  int // the operation that fails, -1: none
	failErr error
	cutAt   int // the operation at which power goes, -1: none
	dead    bool
	life    int // counts crashes: files opened in an earlier life are closed
}

// node is a file or a directory. Its two states are what a program sees now
// and what a power cut leaves.
type node struct {
	mode         fs.FileMode
	mtime        time.Time
	data, synced []byte
	dirty        bool             // data was written since it was synced
	names, lasts map[string]*node // of a directory
}

// change is one operation on names: a rename has two effects.
type change []effect

// effect makes name in dir mean to, nil for nothing.
type effect struct {
	dir  *node
	name string
	to   *node
}

// ErrPowerCut is returned by every operation from the cut on, until Crash.
var ErrPowerCut = errors.New("power cut")

var (
	_ FS   = (*Forgetful)(nil)
	_ File = (*handle)(nil)
)

// NewForgetful returns an empty file system; its root lasts.
func NewForgetful() *Forgetful {
	return &Forgetful{root: newDir(0o755), failAt: -1, cutAt: -1}
}

func newDir(perm fs.FileMode) *node {
	return &node{mode: fs.ModeDir | perm.Perm(), names: map[string]*node{}, lasts: map[string]*node{}}
}

// Ops returns how many operations were begun.
func (f *Forgetful) Ops() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.ops
}

// FailAt makes operation n, counted from now on and from 0, fail with err; a
// write then writes half of its bytes first. Later ones succeed again.
func (f *Forgetful) FailAt(n int, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.failAt, f.failErr = f.ops+n, err
}

// CutAt makes the power go at operation n, counted from now on and from 0:
// it and all later ones fail with ErrPowerCut and change nothing, but a
// write that is cut writes half of its bytes.
func (f *Forgetful) CutAt(n int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.cutAt = f.ops + n
}

// Crash takes everything back that was not synced, closes all files and
// gives power again.
func (f *Forgetful) Crash() { f.crash(nil) }

// CrashSome does as Crash, but keeps a random part of what was not synced:
// the first of the changes to names, as a journal does, and a beginning of
// the new content of each file, or all of it.
func (f *Forgetful) CrashSome(r *rand.Rand) { f.crash(r) }

func (f *Forgetful) crash(r *rand.Rand) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if r != nil {
		for _, c := range f.pending[:r.IntN(len(f.pending)+1)] {
			for _, e := range c {
				e.last()
			}
		}
	}
	f.pending = nil
	f.failAt, f.cutAt, f.dead = -1, -1, false
	f.life++
	f.root.forget(r, map[*node]bool{})
}

// forget makes the state that lasts the state that is seen.
func (n *node) forget(r *rand.Rand, done map[*node]bool) {
	if done[n] {
		return
	}
	done[n] = true
	if n.mode.IsDir() {
		n.names = maps.Clone(n.lasts)
		for _, name := range slices.Sorted(maps.Keys(n.names)) {
			n.names[name].forget(r, done)
		}
		return
	}
	if r != nil && n.dirty && r.IntN(2) == 0 {
		n.synced = slices.Clone(n.data[:r.IntN(len(n.data)+1)])
	}
	n.data, n.dirty = slices.Clone(n.synced), false
}

func (e effect) now()  { set(e.dir.names, e.name, e.to) }
func (e effect) last() { set(e.dir.lasts, e.name, e.to) }

func set(m map[string]*node, name string, to *node) {
	if to == nil {
		delete(m, name)
	} else {
		m[name] = to
	}
}

// begin counts an operation and fails where it was chosen to fail. f.mu is
// held.
func (f *Forgetful) begin(op, path string) error {
	n := f.ops
	f.ops++
	if n == f.cutAt {
		f.dead = true
	}
	switch {
	case f.dead:
		return &fs.PathError{Op: op, Path: path, Err: ErrPowerCut}
	case n == f.failAt:
		return &fs.PathError{Op: op, Path: path, Err: f.failErr}
	}
	return nil
}

func (f *Forgetful) do(c change) {
	for _, e := range c {
		e.now()
	}
	f.pending = append(f.pending, c)
}

// find returns the node at path, and the directory and name it has there.
// The node is nil where only the directory exists.
func (f *Forgetful) find(path string) (dir *node, name string, n *node, err error) {
	path = filepath.ToSlash(filepath.Clean("/" + filepath.ToSlash(path)))
	if path == "/" {
		return nil, "", f.root, nil
	}
	parts := strings.Split(path[1:], "/")
	dir = f.root
	for _, p := range parts[:len(parts)-1] {
		next := dir.names[p]
		switch {
		case next == nil:
			return nil, "", nil, fs.ErrNotExist
		case !next.mode.IsDir():
			return nil, "", nil, syscall.ENOTDIR
		}
		dir = next
	}
	name = parts[len(parts)-1]
	return dir, name, dir.names[name], nil
}

// get is find for a node that must exist.
func (f *Forgetful) get(path string) (*node, error) {
	_, _, n, err := f.find(path)
	if err == nil && n == nil {
		err = fs.ErrNotExist
	}
	return n, err
}

// at runs one operation under the lock and gives its error the path.
func (f *Forgetful) at(op, path string, do func() error) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := f.begin(op, path); err != nil {
		return err
	}
	if err := do(); err != nil {
		return &fs.PathError{Op: op, Path: path, Err: err}
	}
	return nil
}

// Rename implements FS.
func (f *Forgetful) Rename(old, new string) error {
	return f.at("rename", old, func() error {
		from, name, n, err := f.find(old)
		if err != nil {
			return err
		}
		if n == nil {
			return fs.ErrNotExist
		}
		to, newName, there, err := f.find(new)
		switch {
		case err != nil:
			return err
		case to == nil || from == nil:
			return syscall.EBUSY
		case there == n:
			return nil
		case there != nil && there.mode.IsDir() != n.mode.IsDir():
			return fmt.Errorf("%s: %w", new, fs.ErrExist)
		case there != nil && len(there.names) > 0:
			return fmt.Errorf("%s: %w", new, syscall.ENOTEMPTY)
		}
		f.do(change{{to, newName, n}, {from, name, nil}})
		return nil
	})
}

// Remove implements FS.
func (f *Forgetful) Remove(path string) error {
	return f.at("remove", path, func() error {
		dir, name, n, err := f.find(path)
		switch {
		case err != nil:
			return err
		case n == nil:
			return fs.ErrNotExist
		case dir == nil:
			return syscall.EBUSY
		case len(n.names) > 0:
			return syscall.ENOTEMPTY
		}
		f.do(change{{dir, name, nil}})
		return nil
	})
}

// MkdirAll implements FS.
func (f *Forgetful) MkdirAll(path string, perm fs.FileMode) error {
	return f.at("mkdir", path, func() error {
		clean := filepath.ToSlash(filepath.Clean("/" + filepath.ToSlash(path)))
		for i := 1; i <= len(clean); i++ {
			if i < len(clean) && clean[i] != '/' {
				continue
			}
			dir, name, n, err := f.find(clean[:i])
			switch {
			case err != nil:
				return err
			case n == nil:
				f.do(change{{dir, name, newDir(perm)}})
			case !n.mode.IsDir():
				return syscall.ENOTDIR
			}
		}
		return nil
	})
}

// SyncDir implements FS.
func (f *Forgetful) SyncDir(path string) error {
	return f.at("sync", path, func() error {
		n, err := f.get(path)
		if err != nil {
			return err
		}
		if !n.mode.IsDir() {
			return syscall.ENOTDIR
		}
		for i, c := range f.pending {
			f.pending[i] = slices.DeleteFunc(c, func(e effect) bool {
				if e.dir == n {
					e.last()
				}
				return e.dir == n
			})
		}
		f.pending = slices.DeleteFunc(f.pending, func(c change) bool { return len(c) == 0 })
		return nil
	})
}

// Stat implements FS.
func (f *Forgetful) Stat(path string) (info fs.FileInfo, err error) {
	err = f.at("stat", path, func() error {
		n, err := f.get(path)
		if err == nil {
			info = n.info(filepath.Base(path))
		}
		return err
	})
	return info, err
}

// ReadDir implements FS.
func (f *Forgetful) ReadDir(path string) (entries []fs.DirEntry, err error) {
	err = f.at("readdir", path, func() error {
		n, err := f.get(path)
		if err != nil {
			return err
		}
		if !n.mode.IsDir() {
			return syscall.ENOTDIR
		}
		for _, name := range slices.Sorted(maps.Keys(n.names)) {
			entries = append(entries, fs.FileInfoToDirEntry(n.names[name].info(name)))
		}
		return nil
	})
	return entries, err
}
