//go:build !purego && (amd64 || arm64)

package kernels

// ring holds the rows of a padded picture that a few rows of output pixels
// read, in a tier's own form and with their padding, so that a kernel meets no
// edge. A row enters once and stays until its slot is needed.
//
//	slots rows:  [ PadLeft | W pixels | padding ], input row y in slot (y+PadTop) mod slots
//
// Rows above and below the picture are padding alone.
type ring struct {
	pixel   int // bytes of a pixel
	row     int // bytes of a row
	pixels  int // of the picture that a row holds
	slots   int
	outRows int // output rows computed at once
}

// ringOf returns the ring of a geometry whose values take size bytes. About
// pixels output pixels are computed at once.
func ringOf(g *Geometry, size, pixels int) ring {
	width := (g.OW-1)*g.StrideW + (g.KW-1)*g.DilationW + 1
	r := ring{pixel: g.C * size, outRows: min((pixels+g.OW-1)/g.OW, g.OH)}
	r.row = width * r.pixel
	r.pixels = max(0, min(g.W, width-g.PadLeft))
	r.slots = (r.outRows-1)*g.StrideH + (g.KH-1)*g.DilationH + 1
	return r
}

// bytes is the memory of the ring.
func (r *ring) bytes() int { return roundUp(r.slots*r.row+beyond, 8) }

// ringRun is a ring at work on one picture.
type ringRun struct {
	ring
	g       *Geometry
	memory  []byte
	stage   func(to, from uintptr, n int)
	padding []byte  // a value of it
	in      uintptr // the picture
	size    int     // bytes of a value of the input
	next    int     // the next row to enter, counted from the top padding
}

// picture begins with another picture, and with new padding.
func (r *ringRun) picture(in uintptr) {
	r.in, r.next = in, 0
	left := min(r.g.PadLeft*r.pixel, r.row)
	for slot := range r.slots {
		row := r.memory[slot*r.row : (slot+1)*r.row]
		fillBytes(row[:left], r.padding)
		fillBytes(row[left+r.pixels*r.pixel:], r.padding)
	}
}

// fillBytes repeats pattern over b.
func fillBytes(b, pattern []byte) {
	for n := copy(b, pattern); n < len(b); n *= 2 {
		copy(b[n:], b[:n])
	}
}

// advance stages the rows that output rows oy to oy+rows-1 read.
func (r *ringRun) advance(oy, rows int) {
	g := r.g
	last := (oy+rows-1)*g.StrideH + (g.KH-1)*g.DilationH
	for y := max(oy*g.StrideH, r.next); y <= last; y++ {
		row, from := r.memory[y%r.slots*r.row:][:r.row], y-g.PadTop
		switch {
		case from < 0 || from >= g.H:
			fillBytes(row, r.padding)
		case r.pixels > 0:
			r.stage(addressOf(row[g.PadLeft*r.pixel:]), r.in+uintptr(from*g.W*g.C*r.size), r.pixels*g.C)
		}
	}
	r.next = last + 1
}

// at returns the address of row y, counted from the top padding: of its first
// pixel to the left of the picture.
func (r *ringRun) at(y int) uintptr { return addressOf(r.memory[y%r.slots*r.row:]) }

// list writes the addresses that output rows oy to oy+rows-1 read, beginning
// with value from of a pixel: [segments][rows*OW], as Geometry.segments cuts
// them.
func (r *ringRun) list(list []uintptr, oy, rows, from int) {
	g, at := r.g, 0
	segments, _ := g.segments()
	taps := segments / g.KH
	step, dilation := uintptr(g.StrideW*r.pixel), uintptr(g.DilationW*r.pixel)
	for ky := range g.KH {
		for kx := range taps {
			for row := range rows {
				p := r.at((oy+row)*g.StrideH+ky*g.DilationH) + uintptr(from) + uintptr(kx)*dilation
				pixels := list[at : at+g.OW]
				for i := range pixels {
					pixels[i] = p
					p += step
				}
				at += g.OW
			}
		}
	}
}
