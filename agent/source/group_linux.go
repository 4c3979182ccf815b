package source

import (
	"errors"
	"os/exec"
	"runtime"
	"syscall"

	"golang.org/x/sys/unix"
)

// ownGroup has a program start in a process group of its own, and be killed
// where the agent is killed without a word.
func ownGroup() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
}

// keepThread keeps the thread that starts a program until it ended: for the
// kernel that thread, not the process, is the parent whose death is a signal.
func keepThread() func() {
	runtime.LockOSThread()
	return runtime.UnlockOSThread
}

// waitExit returns when the program exited, and leaves it to be reaped.
func waitExit(cmd *exec.Cmd) {
	for {
		err := unix.Waitid(unix.P_PID, cmd.Process.Pid, nil, unix.WEXITED|unix.WNOWAIT, nil)
		if !errors.Is(err, unix.EINTR) {
			return
		}
	}
}
