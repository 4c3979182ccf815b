//go:build !linux

package vm

import "syscall"

func withParent() *syscall.SysProcAttr { return nil }
