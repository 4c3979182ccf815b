//go:build !purego && (amd64 || arm64)

package kernels

import "runtime"

// transposeTiles is transposeGeneric in square tiles of most times most
// elements, half of that, or a quarter, whatever fits. The last tile of a side
// begins so early that it ends with the side.
func transposeTiles(most int) transposeFunc {
	return func(out, in []uint32, rows, cols axis) { transposeTiled(most, out, in, rows, cols) }
}

func transposeTiled(most int, out, in []uint32, rows, cols axis) {
	if cols.length == 3 && rows.to == 3 && rows.length > 4 {
		interleave3(out, in, rows, cols)
		return
	}
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
			in: addressOf(in) + uintptr(4*c*cols.stride), inStep: uintptr(4 * cols.stride), inStep3: uintptr(12 * cols.stride),
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

// interleave3 is for three planes whose values come to stand side by side, as
// those of a picture do: tiles of 4x4 whose fourth line is the third again.
// What a row writes too far, the next one overwrites; the last rows are done
// one by one.
func interleave3(out, in []uint32, rows, cols axis) {
	tiles := (rows.length - 1) / 4
	x := transposeArgs{
		in: addressOf(in), inStep: uintptr(4 * cols.stride), inStep3: uintptr(8 * cols.stride), out: addressOf(out), outStep: 4 * 3, tiles: uintptr(tiles),
	}
	transposeTile(4, &x)
	rows.length -= 4 * tiles
	transposeGeneric(out[4*tiles*3:], in[4*tiles:], rows, cols)
	runtime.KeepAlive(in)
	runtime.KeepAlive(out)
}
