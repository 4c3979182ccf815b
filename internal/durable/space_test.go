package durable

import (
	"errors"
	"fmt"
	"io/fs"
	"syscall"
	"testing"
)

func TestIsNoSpace(t *testing.T) {
	for _, e := range []syscall.Errno{syscall.ENOSPC, syscall.EDQUOT, syscall.EFBIG} {
		for _, err := range []error{
			e, fmt.Errorf("put: %w", e), &fs.PathError{Op: "write", Path: "x", Err: e}, errors.Join(errors.New("first"), e),
			fmt.Errorf("put: %w", fmt.Errorf("file resize error: %s", &fs.PathError{Op: "truncate", Path: "x", Err: e})), // as bbolt does
		} {
			if !IsNoSpace(err) {
				t.Errorf("%v: not seen", err)
			}
		}
	}
	for _, err := range []error{nil, syscall.EIO, syscall.EROFS, errors.New("file resize error: input/output error"), fs.ErrNotExist} {
		if IsNoSpace(err) {
			t.Errorf("%v: taken for a full disk", err)
		}
	}
}
