//go:build linux

package guard_test

import (
	"runtime/debug"
	"testing"
	"unsafe"

	"dunlin/internal/guard"
)

func TestBytesAreThere(t *testing.T) {
	for _, n := range []int{0, 1, 4095, 4096, 4097, 70000} {
		for _, b := range [][]byte{guard.Start(t, n), guard.End(t, n)} {
			if len(b) != n {
				t.Fatalf("%d bytes, want %d", len(b), n)
			}
			for i := range b {
				b[i] = 1
			}
		}
	}
	if s := guard.Copy(t, []int32{1, 2, 3}, true); s[2] != 3 {
		t.Errorf("copy is %v", s)
	}
}

// One byte beyond either guarded end is a fault.
func TestGuardsBite(t *testing.T) {
	end, start := guard.End(t, 100), guard.Start(t, 100)
	if !faults(unsafe.Add(unsafe.Pointer(&end[0]), 100)) {
		t.Error("the byte after End can be read")
	}
	if !faults(unsafe.Add(unsafe.Pointer(&start[0]), -1)) {
		t.Error("the byte before Start can be read")
	}
	if faults(unsafe.Pointer(&end[99])) || faults(unsafe.Pointer(&start[0])) {
		t.Error("a byte inside cannot be read")
	}
}

var sink byte

func faults(p unsafe.Pointer) (yes bool) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() { yes = recover() != nil }()
	sink = *(*byte)(p)
	return false
}
