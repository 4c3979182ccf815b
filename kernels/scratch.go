package kernels

import "unsafe"

// int32s sees the first 4*n bytes of scratch as integers. The caller gives
// scratch aligned to 4 bytes and at least as long as Scratch says.
func int32s(scratch []byte, n int) []int32 { return view[int32](scratch[:4*n]) }

// view sees b, aligned for T, as elements of T.
func view[T any](b []byte) []T {
	var zero T
	return unsafe.Slice((*T)(unsafe.Pointer(unsafe.SliceData(b))), len(b)/int(unsafe.Sizeof(zero)))
}

// cacheLine is the bytes that memory moves in, and those of a wide register:
// what begins at a multiple of it is read at once.
const cacheLine = 64

// alignedBytes returns s from the first cache line on.
func alignedBytes(s []byte) []byte {
	return s[-uintptr(unsafe.Pointer(unsafe.SliceData(s)))&(cacheLine-1):]
}

// aligned returns n zeros that begin where a cache line does.
func aligned[T any](n int) []T {
	var zero T
	bytes := n * int(unsafe.Sizeof(zero))
	return view[T](alignedBytes(make([]byte, bytes+cacheLine-1))[:bytes:bytes])
}
