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
