package pack

import "syscall"

// forget drops the pages of a read-only mapping. That it may fail changes
// nothing but memory.
func forget(data []byte) { _ = syscall.Madvise(data, syscall.MADV_DONTNEED) }
