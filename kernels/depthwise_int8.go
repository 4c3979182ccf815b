package kernels

import "fmt"

// DepthwiseInt8 is a convolution in which each output channel reads one input
// channel, ready to run: ConvInt8 with Groups = C = OC.
//
//	in   [N, H, W, C]  int8, zero point InZero
//	w    [C, KH, KW]   int8, zero point WZero[c] (0 where nil)
//	bias [C]           int32
//	out  [N, OH, OW, C]
type DepthwiseInt8 struct {
	Geometry
	w       []int16 // [KH, KW, C], w - WZero
	bias    []int32 // bias - InZero * Σ (w-WZero)
	pad     []int8  // C times InZero
	out     Requant
	lo, hi  float32
	win     window
	variant variant[depthwiseInt8Tier]
	packed  depthwisePacked // what a tier wants instead of w and bias
}

// depthwisePacked are weights, biases and scales in an order of a tier's own.
type depthwisePacked struct {
	w     []int8
	bias  []int32
	scale []float32
	order []int // the taps as they are read, -1 for what fills up
	terms int   // how many weights make one
	form  int   // which of the tier's functions reads them

	together int // pixels that it computes at once, where the tier can
}

// depthwiseInt8Tier is a way to compute a depthwise convolution: what it does
// with the weights before, where it wants others, the bytes of scratch it
// needs, and the loop.
type depthwiseInt8Tier struct {
	pack    func(d *DepthwiseInt8) // nil: nothing
	scratch func(d *DepthwiseInt8) int
	run     func(d *DepthwiseInt8, out, in []int8, scratch []byte)
}

// depthwiseInt8Variants is the table of DepthwiseInt8.
var depthwiseInt8Variants = append(depthwiseInt8Native, variant[depthwiseInt8Tier]{Generic, true, depthwiseInt8Tier{
	scratch: func(d *DepthwiseInt8) int { return 4 * d.C },
	run:     depthwiseInt8Generic,
}})

// PackDepthwiseInt8 lays w, [C, KH, KW], out for t. It fails where lengths do
// not fit the geometry.
func PackDepthwiseInt8(t Target, g Geometry, w WeightsInt8) (*DepthwiseInt8, error) {
	if err := g.Check(); err != nil {
		return nil, err
	}
	if g.Groups != g.C || g.OC != g.C || len(w.W) != g.C*g.taps() {
		return nil, fmt.Errorf("int8 depthwise convolution: %d weights for %d channels of %dx%d, %d groups, %d channels out",
			len(w.W), g.C, g.KH, g.KW, g.Groups, g.OC)
	}
	// packPanels does the checks and sums the biases; its panels are not used.
	p, err := packPanels(layoutGeneric, g.C, 1, g.taps(), w)
	if err != nil {
		return nil, fmt.Errorf("int8 depthwise convolution: %w", err)
	}
	if w.Out.Scale == nil {
		return nil, fmt.Errorf("int8 depthwise convolution: no scale for the result")
	}
	d := &DepthwiseInt8{
		Geometry: g, w: make([]int16, len(w.W)), bias: p.bias[:g.C], pad: make([]int8, g.C), out: p.out,
		lo: p.lo, hi: p.hi, win: g.window(), variant: pick(t, depthwiseInt8Variants),
	}
	for c := range g.C {
		d.pad[c] = w.InZero
		for k := range g.taps() {
			v := int16(w.W[c*g.taps()+k])
			if p.wzero != nil {
				v -= int16(p.wzero[c])
			}
			d.w[k*g.C+c] = v
		}
	}
	if d.variant.run.pack != nil {
		d.variant.run.pack(d)
	}
	return d, nil
}

// Tier returns the tier that was chosen.
func (d *DepthwiseInt8) Tier() Tier { return d.variant.tier }

// Bytes returns the memory that the packed weights and the window take.
func (d *DepthwiseInt8) Bytes() int {
	return 2*len(d.w) + 4*(len(d.bias)+len(d.out.Scale)) + len(d.pad) + d.win.bytes() +
		len(d.packed.w) + 4*(len(d.packed.bias)+len(d.packed.scale))
}

// Scratch returns the bytes of scratch that Run needs, aligned to 8.
func (d *DepthwiseInt8) Scratch() int { return d.variant.run.scratch(d) }

// Run writes the convolution of in to out.
func (d *DepthwiseInt8) Run(out, in []int8, scratch []byte) {
	d.variant.run.run(d, out[:d.N*d.OH*d.OW*d.C], in[:d.N*d.H*d.W*d.C], scratch)
}

// depthwiseInt8Generic is the definition of DepthwiseInt8.
func depthwiseInt8Generic(d *DepthwiseInt8, out, in []int8, scratch []byte) {
	sums := int32s(scratch, d.C)
	for n := range d.N {
		picture := in[n*d.H*d.W*d.C : (n+1)*d.H*d.W*d.C]
		for oy := range d.OH {
			for ox := range d.OW {
				copy(sums, d.bias)
				for ky := range d.KH {
					for kx := range d.KW {
						x := d.pad
						if at := d.win.at(&d.Geometry, oy, ox, ky, kx); at >= 0 {
							x = picture[at : at+d.C]
						}
						multiplyAddInt8(sums, x, d.w[(ky*d.KW+kx)*d.C:])
					}
				}
				dst := out[((n*d.OH+oy)*d.OW+ox)*d.C:][:d.C]
				for c, sum := range sums {
					dst[c] = requantise(sum, d.out.Scale[c], d.lo, d.hi, d.out.Zero)
				}
			}
		}
	}
}

// multiplyAddInt8 adds x[i]*w[i] to sums[i].
func multiplyAddInt8(sums []int32, x []int8, w []int16) {
	x, w = x[:len(sums)], w[:len(sums)]
	for i := range sums {
		sums[i] += int32(x[i]) * int32(w[i])
	}
}
