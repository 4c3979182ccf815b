package hub

import (
	"os"
	"strconv"
	"strings"
	"sync/atomic"
)

// FaultEnv names the environment variable by which a test kills a hub that it
// runs as a program, at a moment that no signal from outside would hit:
//
//	DUNLIN_FAULT=before-ack:N   SIGKILL when results were committed for the
//	                            Nth time and are not acknowledged yet
//
// It does nothing where it is not set.
const FaultEnv = "DUNLIN_FAULT"

// faultBeforeAck returns what to do between a commit and its acknowledgement.
func faultBeforeAck() func() {
	text, ok := strings.CutPrefix(os.Getenv(FaultEnv), "before-ack:")
	n, err := strconv.ParseInt(text, 10, 64)
	if !ok || err != nil || n < 1 {
		return func() {}
	}
	var commits atomic.Int64
	return func() {
		if commits.Add(1) == n {
			killSelf()
		}
	}
}

// killSelf ends the process as kill -9 does, and does not return.
func killSelf() {
	if p, err := os.FindProcess(os.Getpid()); err == nil {
		_ = p.Kill() // nothing to do about a failure but to stop all the same
	}
	select {}
}
