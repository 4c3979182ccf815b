package guard

import (
	"syscall"
	"testing"
)

// End returns n bytes whose last one is the last of a readable page.
func End(t testing.TB, n int) []byte {
	mem, page := pages(t, n)
	last := len(mem) - page
	return mem[last-n : last : last]
}

// Start is End's mirror: the byte before the first may not be touched.
func Start(t testing.TB, n int) []byte {
	mem, page := pages(t, n)
	return mem[page : page+n : page+n]
}

// pages maps room for n bytes between two pages without access. The memory
// goes back when the test ends.
func pages(t testing.TB, n int) (mem []byte, page int) {
	t.Helper()
	page = syscall.Getpagesize()
	room := (n + page - 1) / page * page
	mem, err := syscall.Mmap(-1, 0, room+2*page, syscall.PROT_NONE, syscall.MAP_ANON|syscall.MAP_PRIVATE)
	if err != nil {
		t.Fatalf("guard: map %d bytes: %v", room+2*page, err)
	}
	t.Cleanup(func() { _ = syscall.Munmap(mem) })
	if room > 0 {
		if err := syscall.Mprotect(mem[page:page+room], syscall.PROT_READ|syscall.PROT_WRITE); err != nil {
			t.Fatalf("guard: unlock %d bytes: %v", room, err)
		}
	}
	return mem, page
}
