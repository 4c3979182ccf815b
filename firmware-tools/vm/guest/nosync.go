//go:build linux

package guest

import (
	"errors"
	"os"
	"runtime"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// What seccomp's little programs are made of: linux/filter.h, linux/seccomp.h.
const (
	loadWord  = 0x20 // BPF_LD | BPF_W | BPF_ABS
	jumpEqual = 0x15 // BPF_JMP | BPF_JEQ | BPF_K
	give      = 0x06 // BPF_RET | BPF_K

	allow   = 0x7fff0000 // SECCOMP_RET_ALLOW
	succeed = 0x00050000 // SECCOMP_RET_ERRNO with errno 0: the call returns 0 and is not made
)

// NoSync becomes the program of args, for which every sync of a file succeeds
// and does nothing. It returns only where it cannot. The filter looks at the
// number of a call and not at the architecture: the program is one for this
// processor's own.
func NoSync(args []string) error {
	if len(args) == 0 {
		return errors.New("want a program and its arguments")
	}
	calls := []uint32{unix.SYS_FSYNC, unix.SYS_FDATASYNC, unix.SYS_SYNC, unix.SYS_SYNCFS, unix.SYS_MSYNC}
	filter := []unix.SockFilter{{Code: loadWord, K: 0}} // seccomp_data.nr
	for i, nr := range calls {
		filter = append(filter, unix.SockFilter{Code: jumpEqual, Jt: uint8(len(calls) - i), K: nr})
	}
	filter = append(filter, unix.SockFilter{Code: give, K: allow}, unix.SockFilter{Code: give, K: succeed})
	prog := unix.SockFprog{Len: uint16(len(filter)), Filter: &filter[0]}
	runtime.LockOSThread() // a filter is a thread's, and exec keeps the one of the thread that calls it
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return err
	}
	if err := unix.Prctl(unix.PR_SET_SECCOMP, unix.SECCOMP_MODE_FILTER, uintptr(unsafe.Pointer(&prog)), 0, 0); err != nil {
		return err
	}
	return syscall.Exec(args[0], args, os.Environ())
}
