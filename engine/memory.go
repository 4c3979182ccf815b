package engine

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"os"
)

// ErrMemory says that a program would need more memory than allowed.
var ErrMemory = errors.New("more memory than allowed")

// budget counts what a compilation takes.
type budget struct{ limit, used int64 }

// take asks for n bytes more.
func (b *budget) take(n int64, what string) error {
	if n < 0 || n > b.limit-b.used {
		return fmt.Errorf("%s needs %d bytes beside %d in use: %w: %d bytes", what, n, b.used, ErrMemory, b.limit)
	}
	b.used += n
	return nil
}

// machineMemory returns the bytes of memory of this machine, 2 GiB where it
// does not say.
func machineMemory() int64 {
	const unknown = 2 << 30
	data, err := os.ReadFile("/proc/meminfo")
	if err != nil {
		return unknown
	}
	for s := bufio.NewScanner(bytes.NewReader(data)); s.Scan(); {
		var kib int64
		if _, err := fmt.Sscanf(s.Text(), "MemTotal: %d kB", &kib); err == nil && kib > 0 {
			return kib << 10
		}
	}
	return unknown
}
