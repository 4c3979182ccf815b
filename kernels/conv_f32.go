package kernels

import "fmt"

// ConvF32 is a convolution with constant float32 weights, ready to run:
//
//	in   [N, H, W, C]
//	w    [OC, KH, KW, C/Groups]
//	bias [OC], 0 where nil
//	more [N, OH, OW, OC], 0 where nil
//	out  [N, OH, OW, OC] = clamp(bias[oc] + Σ in*w + more)
//
// The exact order is: start from the bias, then kernel rows, kernel columns
// and channels ascending, each product rounded before it is added; more is
// added last. Padding reads zeros, which are multiplied and added like any
// other value.
type ConvF32 struct {
	Geometry
	groups  []panelsF32
	win     window
	pad     []float32 // C/Groups zeros: what taps outside the picture read
	first   int       // output channel with which out begins, where this is a part
	variant variant[convF32Tier]
}

// convF32Tier is a way to compute a convolution: see gemmF32Tier.
type convF32Tier struct {
	layout  layoutF32
	scratch func(c *ConvF32) int // nil: none
	run     func(c *ConvF32, out, in, more []float32, scratch []byte)
	rows    func(c *ConvF32) int // computed at once, where the order of sums depends on it; nil: it does not
}

// convF32Variants is the table of ConvF32.
var convF32Variants = append(convF32Native,
	variant[convF32Tier]{Generic, true, convF32Tier{layout: layoutGenericF32, run: convF32Generic}})

// PackConvF32 lays w, [OC, KH, KW, C/Groups], out for t. It fails where
// lengths do not fit the geometry.
func PackConvF32(t Target, g Geometry, w WeightsF32) (*ConvF32, error) {
	if err := g.Check(); err != nil {
		return nil, err
	}
	depth := g.taps() * (g.C / g.Groups)
	w = w.widened()
	if len(w.W) != g.OC*depth || (w.Bias != nil && len(w.Bias) != g.OC) {
		return nil, fmt.Errorf("float convolution: %d weights and %d biases for [%d, %d, %d, %d]",
			len(w.W), len(w.Bias), g.OC, g.KH, g.KW, g.C/g.Groups)
	}
	c := &ConvF32{Geometry: g, win: g.window(), pad: make([]float32, g.C/g.Groups), variant: pick(t, convF32Variants)}
	n := g.OC / g.Groups
	for i := range g.Groups {
		part := w
		part.W = w.W[i*n*depth : (i+1)*n*depth]
		if w.Bias != nil {
			part.Bias = w.Bias[i*n : (i+1)*n]
		}
		p, err := packPanelsF32(c.variant.run.layout, n, depth, part)
		if err != nil {
			return nil, fmt.Errorf("float convolution: %w", err)
		}
		p.segments, _ = g.segments()
		c.groups = append(c.groups, p)
	}
	return c, nil
}

// Repack takes other weights of the same shape in place of those that c was
// made of, without allocating: training changes them after each step. bias may
// be nil, which leaves it as it is. No Run may be under way.
func (c *ConvF32) Repack(w, bias []float32) {
	for i := range c.groups {
		p := &c.groups[i]
		var part []float32
		if bias != nil {
			part = bias[i*p.n : (i+1)*p.n]
		}
		p.repack(w[i*p.n*p.depth:(i+1)*p.n*p.depth], part)
	}
}

// Tier returns the tier that was chosen.
func (c *ConvF32) Tier() Tier { return c.variant.tier }

// Bytes returns the memory that the packed weights and the window take.
func (c *ConvF32) Bytes() int {
	n := 4*len(c.pad) + c.win.bytes()
	for i := range c.groups {
		n += c.groups[i].bytes()
	}
	return n
}

// Scratch returns the bytes of scratch that Run needs, aligned to 8.
func (c *ConvF32) Scratch() int {
	if c.variant.run.scratch == nil {
		return 0
	}
	return c.variant.run.scratch(c)
}

// Run writes the convolution of in to out.
func (c *ConvF32) Run(out, in []float32, scratch []byte) {
	c.variant.run.run(c, out[:c.length()], in[:c.N*c.H*c.W*c.C], nil, scratch)
}

// length is that of the result.
func (c *ConvF32) length() int { return c.N*c.OH*c.OW*c.OC - c.first }

// RunAdd is Run with more, of the shape of out, added before the clamp. more
// may be out.
func (c *ConvF32) RunAdd(out, in, more []float32, scratch []byte) {
	n := c.length()
	c.variant.run.run(c, out[:n], in[:c.N*c.H*c.W*c.C], more[:n], scratch)
}

// convF32Generic is the definition of ConvF32. Two output pixels of a row are
// computed at once; an odd last one is computed twice.
func convF32Generic(c *ConvF32, out, in, more []float32, _ []byte) {
	cg := c.C / c.Groups
	for n := range c.N {
		picture := in[n*c.H*c.W*c.C:]
		for oy := range c.OH {
			row := (n*c.OH + oy) * c.OW
			for ox := 0; ox < c.OW; ox += rowTile {
				pixels := min(rowTile, c.OW-ox)
				for g := range c.groups {
					p := &c.groups[g]
					for j := 0; j < p.n; j += panel {
						var acc [rowTile][panel]float32
						p.start(&acc, j)
						w := p.w[j*p.depth : (j+panel)*p.depth]
						for ky := range c.KH {
							for kx := range c.KW {
								a0 := c.tap(picture, oy, ox, ky, kx, g*cg, cg)
								a1 := c.tap(picture, oy, ox+pixels-1, ky, kx, g*cg, cg)
								dotF32(&acc, a0, a1, w[(ky*c.KW+kx)*cg*panel:][:cg*panel])
							}
						}
						p.store(out, more, &acc, (row+ox)*c.OC+g*p.n+j, c.OC, j, pixels)
					}
				}
			}
		}
	}
}

// tap returns the channels of one group that a tap reads.
func (c *ConvF32) tap(picture []float32, oy, ox, ky, kx, from, n int) []float32 {
	at := c.win.at(&c.Geometry, oy, ox, ky, kx)
	if at < 0 {
		return c.pad
	}
	return picture[at+from : at+from+n]
}
