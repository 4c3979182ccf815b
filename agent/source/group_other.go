//go:build !linux

package source

import (
	"os/exec"
	"syscall"
)

// On development machines a program has its group, and no more.
func ownGroup() *syscall.SysProcAttr { return &syscall.SysProcAttr{Setpgid: true} }
func keepThread() func()             { return func() {} }
func waitExit(*exec.Cmd)             {}
