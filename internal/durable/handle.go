package durable

import (
	"io"
	"io/fs"
	"path/filepath"
	"slices"
	"syscall"
	"time"
)

// handle is an open file of a Forgetful.
type handle struct {
	fsys   *Forgetful
	node   *node
	path   string
	life   int
	offset int64
	mode   openMode
	closed bool
}

type openMode uint8

const (
	reading openMode = 1 << iota
	writing
	appending // each write goes to the end
)

// Create implements FS.
func (f *Forgetful) Create(path string, perm fs.FileMode) (File, error) {
	return f.openFile(path, perm, reading|writing, true)
}

// Append implements FS.
func (f *Forgetful) Append(path string, perm fs.FileMode) (File, error) {
	return f.openFile(path, perm, writing|appending, false)
}

// Open implements FS.
func (f *Forgetful) Open(path string) (File, error) {
	return f.openFile(path, 0, reading, false)
}

func (f *Forgetful) openFile(path string, perm fs.FileMode, mode openMode, empty bool) (File, error) {
	var h *handle
	err := f.at("open", path, func() error {
		dir, name, n, err := f.find(path)
		switch {
		case err != nil:
			return err
		case n == nil && mode&writing == 0:
			return fs.ErrNotExist
		case n == nil:
			n = &node{mode: perm.Perm(), mtime: time.Now()}
			f.do(change{{dir, name, n}})
		case n.mode.IsDir() && mode&writing != 0:
			return syscall.EISDIR
		}
		if empty {
			n.data, n.dirty = nil, true
		}
		h = &handle{fsys: f, node: n, path: path, life: f.life, mode: mode}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return h, nil
}

// ReadFile implements FS.
func (f *Forgetful) ReadFile(path string) (data []byte, err error) {
	err = f.at("read", path, func() error {
		n, err := f.get(path)
		if err != nil {
			return err
		}
		if n.mode.IsDir() {
			return syscall.EISDIR
		}
		data = append([]byte{}, n.data...)
		return nil
	})
	return data, err
}

// at runs one operation on the open file.
func (h *handle) at(op string, need openMode, do func() error) error {
	return h.fsys.at(op, h.path, func() error {
		switch {
		case h.closed || h.life != h.fsys.life:
			return fs.ErrClosed
		case h.mode&need != need:
			return syscall.EBADF
		case h.node.mode.IsDir() && need != 0:
			return syscall.EISDIR
		}
		return do()
	})
}

func (h *handle) Read(p []byte) (n int, err error) {
	eof := false
	err = h.at("read", reading, func() error {
		n, eof = copyAt(p, h.node.data, h.offset)
		h.offset += int64(n)
		return nil
	})
	if err == nil && n == 0 && eof {
		return 0, io.EOF
	}
	return n, err
}

func (h *handle) ReadAt(p []byte, off int64) (n int, err error) {
	err = h.at("read", reading, func() error {
		if off < 0 {
			return syscall.EINVAL
		}
		n, _ = copyAt(p, h.node.data, off)
		return nil
	})
	if err == nil && n < len(p) {
		return n, io.EOF
	}
	return n, err
}

func copyAt(p, data []byte, off int64) (n int, eof bool) {
	if off >= int64(len(data)) {
		return 0, len(p) > 0
	}
	return copy(p, data[off:]), false
}

// Write writes half of p where the operation was chosen to fail.
func (h *handle) Write(p []byte) (n int, err error) {
	f := h.fsys
	f.mu.Lock()
	defer f.mu.Unlock()
	wasDead := f.dead
	fault := f.begin("write", h.path)
	switch {
	case h.mode&writing == 0:
		return 0, &fs.PathError{Op: "write", Path: h.path, Err: syscall.EBADF}
	case wasDead:
		return 0, fault
	case h.closed || h.life != f.life:
		return 0, &fs.PathError{Op: "write", Path: h.path, Err: fs.ErrClosed}
	case fault != nil:
		p = p[:len(p)/2]
	}
	if h.mode&appending != 0 {
		h.offset = int64(len(h.node.data))
	}
	h.node.resize(max(int64(len(h.node.data)), h.offset+int64(len(p))))
	copy(h.node.data[h.offset:], p)
	h.offset += int64(len(p))
	h.node.mtime = time.Now()
	return len(p), fault
}

func (n *node) resize(size int64) {
	for int64(len(n.data)) < size {
		n.data = append(n.data, make([]byte, size-int64(len(n.data)))...)
	}
	n.data, n.dirty = n.data[:size:size], true
}

func (h *handle) Seek(off int64, whence int) (at int64, err error) {
	err = h.at("seek", 0, func() error {
		switch whence {
		case io.SeekCurrent:
			off += h.offset
		case io.SeekEnd:
			off += int64(len(h.node.data))
		}
		if off < 0 {
			return syscall.EINVAL
		}
		h.offset, at = off, off
		return nil
	})
	return at, err
}

func (h *handle) Truncate(size int64) error {
	return h.at("truncate", writing, func() error {
		if size < 0 {
			return syscall.EINVAL
		}
		h.node.data = slices.Clone(h.node.data)
		h.node.resize(size)
		return nil
	})
}

func (h *handle) Sync() error {
	return h.at("sync", 0, func() error {
		h.node.synced, h.node.dirty = slices.Clone(h.node.data), false
		return nil
	})
}

func (h *handle) Stat() (info fs.FileInfo, err error) {
	err = h.at("stat", 0, func() error {
		info = h.node.info(filepath.Base(h.path))
		return nil
	})
	return info, err
}

func (h *handle) Close() error {
	return h.at("close", 0, func() error {
		h.closed = true
		return nil
	})
}

// info is the fs.FileInfo of a node at one moment.
type info struct {
	name  string
	size  int64
	mode  fs.FileMode
	mtime time.Time
}

func (n *node) info(name string) fs.FileInfo {
	return info{name: name, size: int64(len(n.data)), mode: n.mode, mtime: n.mtime}
}

func (i info) Name() string       { return i.name }
func (i info) Size() int64        { return i.size }
func (i info) Mode() fs.FileMode  { return i.mode }
func (i info) ModTime() time.Time { return i.mtime }
func (i info) IsDir() bool        { return i.mode.IsDir() }
func (i info) Sys() any           { return nil }
