//go:build amd64 || arm64 || arm

package pool

// spin tells the CPU n times, at least once, that this thread is polling.
//
//go:noescape
func spin(n uint32)
