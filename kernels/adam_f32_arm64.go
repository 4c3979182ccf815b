//go:build !purego

package kernels

import "unsafe"

// adamF32NEON is AdamF32Generic by whole blocks; Go does what is left over.
func adamF32NEON(p, m, v, g []float32, a Adam) {
	first, blocks, rest := whole(p)
	n := blocks * lanes
	m, v, g = m[:len(p)], v[:len(p)], g[:len(p)]
	if blocks > 0 {
		adamF32_NEON(first, unsafe.SliceData(m), unsafe.SliceData(v), unsafe.SliceData(g), blocks, &a)
	}
	AdamF32Generic(rest, m[n:], v[n:], g[n:], a)
}
