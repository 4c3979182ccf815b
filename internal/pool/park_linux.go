//go:build linux && (amd64 || arm64 || arm)

package pool

import (
	"runtime"
	"sync/atomic"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Operations of futex(2), on memory of this process alone.
const (
	futexPrivate = 128
	futexWait    = 0 | futexPrivate
	futexWake    = 1 | futexPrivate
)

// parker puts a worker to sleep in the kernel. The thread waits inside
// syscall.Syscall6, so that Go knows it is blocked: a collection need not stop
// it, and its P is free for others. Waking it does not pass through Go's run
// queues, which take 20 to 100 us to start a goroutine on another thread.
type parker struct {
	state   atomic.Uint32 // 1: asleep, or about to be
	thread  int
	allowed unix.CPUSet // CPUs that this process may use
	avoid   int         // the CPU that the thread must leave to the caller; -1: none yet
}

func (p *parker) init() { p.avoid = -1 }

// setup ties the worker to one thread, whose affinity the caller changes.
// Where the kernel refuses, the thread runs where it likes.
func (p *parker) setup() {
	runtime.LockOSThread()
	if unix.SchedGetaffinity(0, &p.allowed) != nil {
		p.allowed.Zero()
	}
	p.thread = unix.Gettid()
	_ = unix.Prctl(unix.PR_SET_NAME, uintptr(unsafe.Pointer(&threadName[0])), 0, 0, 0) // top -H shows it; nothing depends on it
}

// threadName ends with a NUL.
var threadName = []byte("dunlin-pool\x00")

func (p *parker) asleep() bool { return p.state.Load() == 1 }
func (p *parker) prepare()     { p.state.Store(1) }
func (p *parker) cancel() bool { return p.state.CompareAndSwap(1, 0) }

func (p *parker) sleep() {
	for p.asleep() {
		_, _, _ = syscall.Syscall6(unix.SYS_FUTEX, uintptr(unsafe.Pointer(&p.state)), futexWait, 1, 0, 0, 0)
	}
}

// wake may be a raw call, which keeps the P: it never blocks.
func (p *parker) wake() {
	if !p.asleep() {
		return
	}
	p.leaveCPU()
	if p.cancel() {
		_, _, _ = syscall.RawSyscall6(unix.SYS_FUTEX, uintptr(unsafe.Pointer(&p.state)), futexWake, 1, 0, 0, 0)
	}
}

// leaveCPU bars the worker from the CPU that the caller is on. Without, Linux
// often wakes it right there, where it helps nobody and takes the caller's
// time.
func (p *parker) leaveCPU() {
	var cpu uint32
	if _, _, e := syscall.RawSyscall(unix.SYS_GETCPU, uintptr(unsafe.Pointer(&cpu)), 0, 0); e != 0 || int(cpu) == p.avoid {
		return
	}
	set := p.allowed
	if set.Clear(int(cpu)); set.Count() > 0 {
		_ = unix.SchedSetaffinity(p.thread, &set)
	}
	p.avoid = int(cpu)
}
