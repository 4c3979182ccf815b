//go:build !purego && (amd64 || arm64)

package kernels

import "unsafe"

// addressOf returns where s begins. The caller keeps s alive.
func addressOf[T any](s []T) uintptr { return uintptr(unsafe.Pointer(unsafe.SliceData(s))) }

// copyBytes copies n bytes between addresses.
func copyBytes(to, from uintptr, n int) { copy(bytesAt(to, n), bytesAt(from, n)) }

// bytesAt sees n bytes at an address that a driver took from a slice it keeps
// alive.
func bytesAt(at uintptr, n int) []byte {
	return unsafe.Slice(*(**byte)(unsafe.Pointer(&at)), n)
}
