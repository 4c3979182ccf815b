package vm

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// MakeDisk makes the image of a disk of that size in MB: one ext4, without a
// partition table, with the files in it. The size must be a power of two for
// a board with a card. The file is sparse.
func MakeDisk(image string, sizeMB int, files Files) (err error) {
	mke2fs, err := tool("mke2fs", "e2fsprogs")
	if err != nil {
		return err
	}
	root, err := os.MkdirTemp("", "dunlin-disk-*")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(root)) }()
	if err := os.Chmod(root, 0o755); err != nil { // the image has it from there
		return err
	}
	for name, f := range files {
		path := filepath.Join(root, name)
		if strings.HasSuffix(name, "/") {
			if err := os.MkdirAll(path, 0o755); err != nil {
				return err
			}
			continue
		}
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(path, f.Data, os.FileMode(f.mode())); err != nil {
			return err
		}
	}
	if err := os.Remove(image); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	out, err := exec.Command(mke2fs, "-q", "-F", "-t", "ext4", "-E", "root_owner=0:0,lazy_itable_init=0", "-d", root, image, fmt.Sprintf("%dM", sizeMB)).CombinedOutput()
	if err != nil {
		return fmt.Errorf("make disk %s: %w: %s", image, err, bytes.TrimSpace(out))
	}
	return nil
}
