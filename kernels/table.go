package kernels

import "fmt"

// Lookup writes table[uint8(v)] for each v of src to dst, which may be src:
// any function of one int8 value.
func Lookup(dst, src []int8, table *[256]int8) {
	dst = dst[:len(src)]
	for i, v := range src {
		dst[i] = table[uint8(v)]
	}
}

// MulInt8 is the product of two int8 tensors of their own scales, ready to
// run: the integer product (a-AZero)*(b-BZero) requantised with s_a*s_b/s_y.
type MulInt8 struct {
	aZero, bZero int32
	out          Requant
	lo, hi       float32
}

// NewMulInt8 returns the product of a and b with zero points za and zb, and
// multiplier m = s_a*s_b/s_y. out.Scale is not looked at.
func NewMulInt8(m float32, za, zb int8, out Requant) (*MulInt8, error) {
	p := &MulInt8{aZero: int32(za), bZero: int32(zb), out: out}
	p.out.Scale = []float32{m}
	if err := p.out.Check(1); err != nil {
		return nil, fmt.Errorf("int8 product: %w", err)
	}
	p.lo, p.hi = p.out.bounds()
	return p, nil
}

// Rows is a Binary, for Elementwise.
func (p *MulInt8) Rows(out, a, b []int8, sa, sb int) {
	scale, zero := p.out.Scale[0], p.out.Zero
	for i := range out {
		product := (int32(a[i*sa]) - p.aZero) * (int32(b[i*sb]) - p.bZero)
		out[i] = requantise(product, scale, p.lo, p.hi, zero)
	}
}

// Patches copies what the windows of a row of output pixels read side by
// side, for a convolution that is then a matrix product. Groups is not looked
// at.
type Patches struct {
	Geometry
	win window
}

// NewPatches checks g.
func NewPatches(g Geometry) (*Patches, error) {
	if err := g.Check(); err != nil {
		return nil, err
	}
	return &Patches{g, g.window()}, nil
}

// Bytes returns the memory that the window takes.
func (p *Patches) Bytes() int { return p.win.bytes() }

// Depth returns how many values one window reads.
func (p *Patches) Depth() int { return p.taps() * p.C }

// Row writes the windows of row oy of one picture [H, W, C] to dst
// [OW, KH, KW, C]; what lies outside is pad.
func (p *Patches) Row(dst, picture []int8, oy int, pad int8) {
	at := 0
	for ox := range p.OW {
		for ky := range p.KH {
			for kx := range p.KW {
				part := dst[at : at+p.C]
				if from := p.win.at(&p.Geometry, oy, ox, ky, kx); from >= 0 {
					copy(part, picture[from:])
				} else {
					for i := range part {
						part[i] = pad
					}
				}
				at += p.C
			}
		}
	}
}
