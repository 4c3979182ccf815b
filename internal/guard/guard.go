// Package guard gives tests memory whose ends are watched: one byte beyond
// them is a page that nobody may touch, so that a kernel which runs past its
// slice dies in its test and not in the field.
//
// Start with End and Start, or with Of for slices of other types. The promise
// holds on Linux; elsewhere the memory is plain. It is for tests only, and
// looks after memory, not after what is in it.
package guard

import (
	"testing"
	"unsafe"
)

// Of returns n elements of T, the last of which ends where a page without
// access begins (end), or the first of which begins where one ends.
func Of[T any](t testing.TB, n int, end bool) []T {
	var zero T
	size := int(unsafe.Sizeof(zero))
	b := Start(t, n*size)
	if end {
		b = End(t, n*size)
	}
	return unsafe.Slice((*T)(unsafe.Pointer(unsafe.SliceData(b))), n)
}

// Copy returns a guarded copy of s; see Of.
func Copy[T any](t testing.TB, s []T, end bool) []T {
	c := Of[T](t, len(s), end)
	copy(c, s)
	return c
}
