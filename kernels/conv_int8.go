package kernels

import (
	"fmt"
	"slices"
)

// ConvInt8 is a convolution with constant int8 weights, ready to run:
//
//	in   [N, H, W, C]            int8, zero point InZero
//	w    [OC, KH, KW, C/Groups]  int8, zero point WZero[oc] (0 where nil)
//	bias [OC]                    int32, in units of the scales of in and w
//	out  [N, OH, OW, OC]         int8, requantised: see Requant
//	sum = bias[oc] + Σ (in-InZero) * (w-WZero[oc])   in int32, wrapping; padding counts as InZero
type ConvInt8 struct {
	Geometry
	groups  []panels // of joined groups each
	joined  int      // groups that a tier computes side by side
	order   []int32  // what its columns then read: see tileArgs
	win     window
	pad     []int8 // C/Groups times InZero: what taps outside the picture read
	first   int    // output channel with which out begins, where this is a part
	variant variant[convInt8Tier]
}

// convInt8Tier is a way to compute a convolution: see gemmInt8Tier.
type convInt8Tier struct {
	layout  layoutInt8
	scratch func(c *ConvInt8) int        // nil: none
	join    func(c *ConvInt8) layoutInt8 // sets joined and returns the layout for it; nil: layout, and groups one by one
	run     func(c *ConvInt8, out, in []int8, scratch []byte)
}

// convInt8Variants is the table of ConvInt8.
var convInt8Variants = append(convInt8Native,
	variant[convInt8Tier]{Generic, true, convInt8Tier{layout: layoutGeneric, run: convInt8Generic}})

// PackConvInt8 lays w, [OC, KH, KW, C/Groups], out for t. It fails where
// lengths do not fit the geometry.
func PackConvInt8(t Target, g Geometry, w WeightsInt8) (*ConvInt8, error) {
	if err := g.Check(); err != nil {
		return nil, err
	}
	depth := g.taps() * (g.C / g.Groups)
	if len(w.W) != g.OC*depth {
		return nil, fmt.Errorf("int8 convolution: %d weights for [%d, %d, %d, %d]", len(w.W), g.OC, g.KH, g.KW, g.C/g.Groups)
	}
	if w.Out.Scale == nil {
		return nil, fmt.Errorf("int8 convolution: no scale for the result")
	}
	if err := w.Out.Check(g.OC); err != nil {
		return nil, err
	}
	c := &ConvInt8{Geometry: g, win: g.window(), pad: make([]int8, g.C/g.Groups), variant: pick(t, convInt8Variants)}
	for i := range c.pad {
		c.pad[i] = w.InZero
	}
	layout := c.variant.run.layout
	c.joined = 1
	if c.variant.run.join != nil && !w.asymmetric() {
		layout = c.variant.run.join(c)
	}
	segments, length := g.segments()
	for i := 0; i < g.Groups; i += c.joined {
		n := min(c.joined, g.Groups-i)
		p, err := packPanels(layout, n*g.OC/g.Groups, segments, length, w.part(i, n, g))
		if err != nil {
			return nil, fmt.Errorf("int8 convolution: %w", err)
		}
		c.groups = append(c.groups, p)
	}
	return c, nil
}

// asymmetric reports whether a weight has a zero point other than 0.
func (w *WeightsInt8) asymmetric() bool {
	return slices.ContainsFunc(w.WZero, func(v int8) bool { return v != 0 })
}

// part returns the weights of n groups of a convolution, from group i on.
func (w WeightsInt8) part(i, n int, g Geometry) WeightsInt8 {
	from, to := i*(g.OC/g.Groups), (i+n)*(g.OC/g.Groups)
	depth := len(w.W) / g.OC
	w.W = w.W[from*depth : to*depth]
	if len(w.Bias) == g.OC {
		w.Bias = w.Bias[from:to]
	}
	if len(w.WZero) == g.OC {
		w.WZero = w.WZero[from:to]
	}
	if len(w.Out.Scale) == g.OC {
		w.Out.Scale = w.Out.Scale[from:to]
	}
	return w
}

// Tier returns the tier that was chosen.
func (c *ConvInt8) Tier() Tier { return c.variant.tier }

// Bytes returns the memory that the packed weights and the window take.
func (c *ConvInt8) Bytes() int {
	n := len(c.pad) + c.win.bytes()
	for i := range c.groups {
		n += c.groups[i].bytes()
	}
	return n
}

// Scratch returns the bytes of scratch that Run needs, aligned to 8.
func (c *ConvInt8) Scratch() int {
	if c.variant.run.scratch == nil {
		return 0
	}
	return c.variant.run.scratch(c)
}

// Run writes the convolution of in to out.
func (c *ConvInt8) Run(out, in []int8, scratch []byte) {
	c.variant.run.run(c, out[:c.N*c.OH*c.OW*c.OC-c.first], in[:c.N*c.H*c.W*c.C], scratch)
}

// convInt8Generic is the definition of ConvInt8. Two output pixels of a row
// are computed at once; an odd last one is computed twice.
func convInt8Generic(c *ConvInt8, out, in []int8, _ []byte) {
	cg := c.C / c.Groups
	for n := range c.N {
		picture := in[n*c.H*c.W*c.C:]
		for oy := range c.OH {
			row := (n*c.OH + oy) * c.OW
			for ox := 0; ox < c.OW; ox += rowTile {
				pixels := min(rowTile, c.OW-ox)
				for g := range c.groups {
					p := &c.groups[g]
					dst := resultInt8{i8: out[(row+ox)*c.OC+g*p.n:], ld: c.OC}
					for j := 0; j < p.n; j += panel {
						var acc [rowTile][panel]int32
						w := p.w[j*p.depth : (j+panel)*p.depth]
						s0, s1 := int32(0), int32(0)
						for ky := range c.KH {
							for kx := range c.KW {
								a0 := c.tap(picture, oy, ox, ky, kx, g*cg, cg)
								a1 := c.tap(picture, oy, ox+pixels-1, ky, kx, g*cg, cg)
								dotInt8(&acc, a0, a1, w[(ky*c.KW+kx)*cg*panel:][:cg*panel])
								if p.wzero != nil {
									s0 += sumInt8(a0)
									s1 += sumInt8(a1)
								}
							}
						}
						p.finish(&acc, j, s0, s1)
						dst.store(p, &acc, 0, j, pixels)
					}
				}
			}
		}
	}
}

// tap returns the channels of one group that a tap reads.
func (c *ConvInt8) tap(picture []int8, oy, ox, ky, kx, from, n int) []int8 {
	at := c.win.at(&c.Geometry, oy, ox, ky, kx)
	if at < 0 {
		return c.pad
	}
	return picture[at+from : at+from+n]
}
