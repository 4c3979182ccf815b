//go:build !purego && (amd64 || arm64)

package kernels

import "runtime"

// transposeTiles is transposeGeneric in square tiles of most times most
// elements, half of that, or a quarter, whatever fits. The last tile of a side
// begins so early that it ends with the side.
func transposeTiles(most int) transposeFunc {
	return func(out, in []uint32, rows, cols axis) {
		n := most
		for n > min(rows.length, cols.length) {
			n /= 2
		}
		if n < 4 {
			transposeGeneric(out, in, rows, cols)
			return
		}
		last := (cols.length-1)*cols.stride + rows.length - 1
		in, out = in[:last+1], out[:(rows.length-1)*rows.to+cols.length]
		for c := 0; c < cols.length; c += n {
			c = min(c, cols.length-n)
			x := transposeArgs{
				in: addressOf(in) + uintptr(4*c*cols.stride), inStep: uintptr(4 * cols.stride),
				out: addressOf(out) + uintptr(4*c), outStep: uintptr(4 * rows.to), tiles: uintptr(rows.length / n),
			}
			tile := x
			transposeTile(n, &tile)
			if end := rows.length - n; rows.length%n != 0 {
				x.in, x.out, x.tiles = x.in+uintptr(4*end), x.out+uintptr(4*end*rows.to), 1
				transposeTile(n, &x)
			}
		}
		runtime.KeepAlive(in)
		runtime.KeepAlive(out)
	}
}
