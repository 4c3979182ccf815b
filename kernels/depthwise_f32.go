package kernels

import "fmt"

// DepthwiseF32 is a convolution in which each output channel reads one input
// channel, ready to run: ConvF32 with Groups = C = OC, and in the same exact
// order.
//
//	in   [N, H, W, C]
//	w    [C, KH, KW]
//	bias [C], 0 where nil
//	out  [N, OH, OW, C]
type DepthwiseF32 struct {
	Geometry
	w, bias []float32 // [KH, KW, C], [C]
	pad     []float32 // C zeros
	clamp   Clamp
	win     window
	variant variant[depthwiseF32Tier]
}

// depthwiseF32Tier is a way to compute a depthwise convolution: see
// depthwiseInt8Tier.
type depthwiseF32Tier struct {
	pack    func(d *DepthwiseF32)     // nil: nothing
	scratch func(d *DepthwiseF32) int // nil: none
	run     func(d *DepthwiseF32, out, in []float32, scratch []byte)
}

// depthwiseF32Variants is the table of DepthwiseF32.
var depthwiseF32Variants = append(depthwiseF32Native,
	variant[depthwiseF32Tier]{Generic, true, depthwiseF32Tier{run: depthwiseF32Generic}})

// PackDepthwiseF32 lays w, [C, KH, KW], out for t. It fails where lengths do
// not fit the geometry.
func PackDepthwiseF32(t Target, g Geometry, w WeightsF32) (*DepthwiseF32, error) {
	if err := g.Check(); err != nil {
		return nil, err
	}
	w = w.widened()
	if g.Groups != g.C || g.OC != g.C || len(w.W) != g.C*g.taps() || (w.Bias != nil && len(w.Bias) != g.C) {
		return nil, fmt.Errorf("float depthwise convolution: %d weights and %d biases for %d channels of %dx%d, %d groups, %d channels out",
			len(w.W), len(w.Bias), g.C, g.KH, g.KW, g.Groups, g.OC)
	}
	d := &DepthwiseF32{
		Geometry: g, w: make([]float32, len(w.W)), bias: make([]float32, g.C), pad: make([]float32, g.C),
		clamp: w.Clamp, win: g.window(), variant: pick(t, depthwiseF32Variants),
	}
	copy(d.bias, w.Bias)
	for c := range g.C {
		for k := range g.taps() {
			d.w[k*g.C+c] = w.W[c*g.taps()+k]
		}
	}
	if d.variant.run.pack != nil {
		d.variant.run.pack(d)
	}
	return d, nil
}

// Tier returns the tier that was chosen.
func (d *DepthwiseF32) Tier() Tier { return d.variant.tier }

// Bytes returns the memory that the packed weights and the window take.
func (d *DepthwiseF32) Bytes() int { return 4*(len(d.w)+len(d.bias)+len(d.pad)) + d.win.bytes() }

// Scratch returns the bytes of scratch that Run needs, aligned to 8.
func (d *DepthwiseF32) Scratch() int {
	if d.variant.run.scratch == nil {
		return 0
	}
	return d.variant.run.scratch(d)
}

// Run writes the convolution of in to out.
func (d *DepthwiseF32) Run(out, in []float32, scratch []byte) {
	d.variant.run.run(d, out[:d.N*d.OH*d.OW*d.C], in[:d.N*d.H*d.W*d.C], scratch)
}

// depthwiseF32Generic is the definition of DepthwiseF32.
func depthwiseF32Generic(d *DepthwiseF32, out, in []float32, _ []byte) {
	for n := range d.N {
		picture := in[n*d.H*d.W*d.C : (n+1)*d.H*d.W*d.C]
		for oy := range d.OH {
			for ox := range d.OW {
				sums := out[((n*d.OH+oy)*d.OW+ox)*d.C:][:d.C]
				copy(sums, d.bias)
				for ky := range d.KH {
					for kx := range d.KW {
						x := d.pad
						if at := d.win.at(&d.Geometry, oy, ox, ky, kx); at >= 0 {
							x = picture[at : at+d.C]
						}
						multiplyAddF32(sums, x, d.w[(ky*d.KW+kx)*d.C:])
					}
				}
				for c, v := range sums {
					sums[c] = d.clamp.of(v)
				}
			}
		}
	}
}

// multiplyAddF32 adds x[i]*w[i], rounded, to sums[i].
func multiplyAddF32(sums, x, w []float32) {
	x, w = x[:len(sums)], w[:len(sums)]
	for i := range sums {
		sums[i] += float32(x[i] * w[i])
	}
}
