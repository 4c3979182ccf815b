package durable

import (
	"errors"
	"strings"
	"syscall"
)

// IsNoSpace reports whether err says that the disk is full (ENOSPC), a quota
// is used up (EDQUOT), or a file may not grow any more (EFBIG): errors that
// may be gone after somebody made room. It also looks at the text, because
// bbolt loses the error's value where growing its file fails ("file resize
// error: %s", "file sync error: %s").
func IsNoSpace(err error) bool {
	if err == nil {
		return false
	}
	for _, e := range []syscall.Errno{syscall.ENOSPC, syscall.EDQUOT, syscall.EFBIG} {
		if errors.Is(err, e) || strings.HasSuffix(err.Error(), ": "+e.Error()) {
			return true
		}
	}
	return false
}
