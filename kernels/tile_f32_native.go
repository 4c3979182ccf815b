//go:build !purego && (amd64 || arm64)

package kernels

import "unsafe"

// tileSetF32 are the tile functions of one float tier: see tile_int8_native.go for
// what a tile is.
type tileSetF32 struct {
	lanes     int                 // values in a register
	functions [][]func(*tileArgs) // by columns/lanes-1 and rows-1; nil where there is none
}

// most returns the height of the tallest tiles.
func (s *tileSetF32) most() int { return len(s.functions[0]) }

// masked reports whether tiles can leave out columns; without, Go copies them
// out of a full tile.
func (s *tileSetF32) masked() bool { return s.lanes == 16 }

// height returns that of the next tile of m rows that are left. Weights pass
// once for each tile, however low it is: what is left after the tallest is
// shared out between two that are nearly so.
func (s *tileSetF32) height(m int) int {
	most := s.most()
	if m > most && m < 2*most && m%most < most/2 && s.functions[0][(m+1)/2-1] != nil {
		return (m + 1) / 2
	}
	m = min(m, most)
	for s.functions[0][m-1] == nil {
		m--
	}
	return m
}

// tileScratchF32 is tileScratchInt8 for float tiles.
type tileScratchF32 struct {
	args tileArgs
	_    uint64
	out  [6 * 16]float32 // a tile without masks
}

const tileScratchF32Bytes = int(unsafe.Sizeof(tileScratchF32{}))

// tileSpaceF32 returns the tiles' part of scratch.
func tileSpaceF32(scratch []byte) *tileScratchF32 {
	return (*tileScratchF32)(unsafe.Pointer(unsafe.SliceData(scratch[:tileScratchF32Bytes])))
}

// tileResultF32 is where a panel's results go.
type tileResultF32 struct {
	at     uintptr // first row, first column of the panel
	more   uintptr // what is added to it, or 0
	ld     uintptr // bytes from row to row, of both
	length int     // columns of the panel that exist
}

// resultF32 are the results from element at on, in rows ld elements apart.
func resultF32(out, more []float32, at, ld int) tileResultF32 {
	r := tileResultF32{at: addressOf(out[at:]), ld: uintptr(4 * ld)}
	if more != nil {
		r.more = addressOf(more[at:])
	}
	return r
}

// move goes n bytes on.
func (r *tileResultF32) move(n uintptr) {
	r.at += n
	if r.more != 0 {
		r.more += n
	}
}

// panel runs the tiles of one panel, columns wide, over the m rows whose
// addresses begin at rows.
func (s *tileSetF32) panel(t *tileScratchF32, r tileResultF32, rows uintptr, m, columns int) {
	x := &t.args
	x.rows, x.out, x.more, x.ld = rows, r.at, r.more, r.ld
	x.mask = 1<<r.length - 1
	functions := s.functions[columns/s.lanes-1]
	if r.length < columns && !s.masked() {
		s.peeled(t, r, functions, m, columns)
		return
	}
	for m > 0 {
		height := s.height(m)
		n := 1
		if height == s.most() {
			n = max(1, m/height-1) // the last of them may be lower: see height
		}
		x.tiles = uintptr(n)
		functions[height-1](x)
		m -= n * height
	}
}

// peeled runs a panel whose last columns do not exist: full tiles into
// scratch, of which the columns that exist are copied.
func (s *tileSetF32) peeled(t *tileScratchF32, r tileResultF32, functions []func(*tileArgs), m, columns int) {
	x, row, bytes := &t.args, uintptr(4*columns), 4*r.length
	space := addressOf(t.out[:])
	x.ld = row
	for m > 0 {
		height := s.height(m)
		x.out, x.tiles = space, 1
		if r.more != 0 {
			x.more = space
			for k := range uintptr(height) {
				copyBytes(space+k*row, r.more+k*r.ld, bytes)
			}
		}
		functions[height-1](x)
		for k := range uintptr(height) {
			copyBytes(r.at+k*r.ld, space+k*row, bytes)
		}
		r.move(uintptr(height) * r.ld)
		m -= height
	}
}
