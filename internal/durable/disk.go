package durable

import (
	"errors"
	"io/fs"
	"os"
)

// disk is the operating system's file system.
type disk struct{}

// Interface guards
var (
	_ FS   = disk{}
	_ File = (*os.File)(nil)
)

func (disk) Create(path string, perm fs.FileMode) (File, error) {
	return open(path, os.O_RDWR|os.O_CREATE|os.O_TRUNC, perm)
}

func (disk) Append(path string, perm fs.FileMode) (File, error) {
	return open(path, os.O_WRONLY|os.O_CREATE|os.O_APPEND, perm)
}

func (disk) Open(path string) (File, error) { return open(path, os.O_RDONLY, 0) }

func (disk) ReadFile(path string) ([]byte, error)         { return os.ReadFile(path) }
func (disk) Rename(old, new string) error                 { return os.Rename(old, new) }
func (disk) Remove(path string) error                     { return os.Remove(path) }
func (disk) MkdirAll(path string, perm fs.FileMode) error { return os.MkdirAll(path, perm) }
func (disk) ReadDir(path string) ([]fs.DirEntry, error)   { return os.ReadDir(path) }
func (disk) Stat(path string) (fs.FileInfo, error)        { return os.Stat(path) }

func (disk) SyncDir(path string) error {
	d, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// open never returns a non-nil File around a nil *os.File.
func open(path string, flag int, perm fs.FileMode) (File, error) {
	f, err := os.OpenFile(path, flag, perm)
	if err != nil {
		return nil, err
	}
	return f, nil
}
