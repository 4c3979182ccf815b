//go:build !purego && (amd64 || arm64)

package kernels

import "unsafe"

// A product is cut into tiles of up to 6 rows by up to 4 registers of columns
// (tile_int8_amd64.s), or of other sizes where it is of floats: see
// tile_f32_native.go. A tile finds its rows in a list of addresses, its weights
// in one panel, and writes its part of the result.

// tileRowsInt8 are the heights of tiles; a tier may lack functions for the higher.
var tileRowsInt8 = [...]int{6, 4, 2, 1}

type tileColumnInt8 [len(tileRowsInt8)]func(*tileArgs)

// tileSetInt8 are the tile functions of one tier.
type tileSetInt8 struct {
	lanes     int              // 32-bit values in a register
	functions []tileColumnInt8 // by columns/lanes - 1
}

// masked reports whether tiles can leave out columns; without, Go copies them
// out of a full tile.
func (s *tileSetInt8) masked() bool { return s.lanes == 16 }

// What tiles do with their sums: tileArgs.mode.
const (
	modeInt32 = iota
	modeF32
	modeInt8
	modeInt8Wide // for scales so large that a product may leave int32; to arm64, modeInt8
)

// tileScratchInt8 is where tiles run: it lies at the beginning of the caller's
// scratch. Addresses are integers here, so the garbage collector sees none;
// the slices that they come from are arguments of a call through a function
// value, hence in memory that does not move, and the driver keeps them alive.
type tileScratchInt8 struct {
	args  tileArgs
	_     uint64
	none  [16]int32   // stays 0: no bias
	scale [16]float32 // of the columns of a tile without masks
	out   [6 * 16]uint32
}

const tileScratchInt8Bytes = int(unsafe.Sizeof(tileScratchInt8{}))

// tileSpaceInt8 returns the tiles' part of scratch.
func tileSpaceInt8(scratch []byte) *tileScratchInt8 {
	return (*tileScratchInt8)(unsafe.Pointer(unsafe.SliceData(scratch[:tileScratchInt8Bytes])))
}

// tileResultInt8 is where a panel's results go.
type tileResultInt8 struct {
	at     uintptr // first row, first column of the panel
	ld     uintptr // bytes from row to row
	size   int     // of an element
	scale  uintptr // of the panel, for float results
	less   uintptr // see tileArgs
	length int     // columns of the panel that exist
}

// panel runs the tiles of one panel, columns wide, over the m rows whose
// addresses begin at rows.
func (s *tileSetInt8) panel(t *tileScratchInt8, r tileResultInt8, rows uintptr, m, columns int) {
	x := &t.args
	x.rows, x.out, x.ld, x.scale, x.less = rows, r.at, r.ld, r.scale, r.less
	x.mask = 1<<r.length - 1
	if r.length == 64 {
		x.mask = ^uint64(0)
	}
	functions := &s.functions[columns/s.lanes-1]
	if r.length < columns && !s.masked() {
		s.peeled(t, r, functions, m, columns)
		return
	}
	for i, height := range tileRowsInt8 {
		if n := m / height; n > 0 && functions[i] != nil {
			x.tiles = uintptr(n)
			functions[i](x)
			m -= n * height
		}
	}
}

// peeled runs a panel whose last columns do not exist: full tiles into
// scratch, of which the columns that exist are copied.
func (s *tileSetInt8) peeled(t *tileScratchInt8, r tileResultInt8, functions *tileColumnInt8, m, columns int) {
	x := &t.args
	if x.mode == modeF32 && r.scale != 0 {
		copyBytes(addressOf(t.scale[:]), r.scale, 4*r.length)
		x.scale = addressOf(t.scale[:])
	}
	row, bytes := columns*r.size, r.length*r.size
	x.ld = uintptr(row)
	for i, height := range tileRowsInt8 {
		for ; m >= height && functions[i] != nil; m -= height {
			x.out, x.tiles = addressOf(t.out[:]), 1
			functions[i](x)
			for k := range height {
				copyBytes(r.at, addressOf(t.out[:])+uintptr(k*row), bytes)
				r.at += r.ld
			}
		}
	}
}
