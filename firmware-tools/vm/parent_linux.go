package vm

import "syscall"

// withParent has the kernel end a program when the thread that started it
// ends: a test that is killed leaves no emulator behind.
func withParent() *syscall.SysProcAttr { return &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL} }
