package kernels

// AveragePool writes the mean of the values under each window, a channel at a
// time. g.OC is g.C and g.Groups is not looked at.
//
//	in   [N, H, W, C]
//	out  [N, OH, OW, C]
//
// Where countPad is set, padding counts as zeros among the values. The exact
// float order is: kernel rows, then columns, summed from 0, one division at
// the end.
type AveragePool struct {
	Geometry
	countPad    bool
	padH, padW  int // input rows and columns that count, padding included
	win         window
	multipliers []float32 // int8: s_x/(s_y*n) for each count n, index n
	inZero      int8
	out         Requant
	int8        variant[averagePoolInt8Func]
	real        variant[averagePoolF32Func]
	lists       *tapLists // where the tier wants them
}

type (
	averagePoolInt8Func func(p *AveragePool, out, in []int8, scratch []byte)
	averagePoolF32Func  func(p *AveragePool, out, in []float32)
)

// averagePoolF32Variants is the table of AveragePool.F32, all of it exact.
var averagePoolF32Variants = append(averagePoolF32Native, variant[averagePoolF32Func]{Generic, true, averagePoolF32Generic})

// averagePoolInt8Variants is the table of AveragePool.Int8.
var averagePoolInt8Variants = append(averagePoolInt8Native, variant[averagePoolInt8Func]{Generic, true, averagePoolInt8Generic})

// NewAveragePool checks g and returns the pool. endH and endW are the padding
// below and to the right: with countPad, what a window reads beyond it (which
// only rounding up the output's size brings about) does not count.
func NewAveragePool(g Geometry, countPad bool, endH, endW int) (*AveragePool, error) {
	g.OC, g.Groups = g.C, 1
	if err := g.Check(); err != nil {
		return nil, err
	}
	p := &AveragePool{Geometry: g, countPad: countPad, padH: g.H + endH, padW: g.W + endW, win: g.window()}
	p.Use(Target{})
	return p, nil
}

// Use makes Int8 and F32 run as t computes them; a new pool's are Generic.
func (p *AveragePool) Use(t Target) {
	p.int8, p.real = pick(t, averagePoolInt8Variants), pick(t, averagePoolF32Variants)
	if p.int8.tier != Generic {
		p.lists = newTapLists(&p.Geometry)
	}
}

// Tier returns the tier that was chosen.
func (p *AveragePool) Tier() Tier { return p.int8.tier }

// Quantise prepares the pool for Int8: the input has scale inScale and zero
// point inZero, the output outScale and the zero point and bounds of out,
// whose Scale is not looked at. The sum of in-inZero over the n values that
// count is requantised with s_x/(s_y*n).
func (p *AveragePool) Quantise(inScale float32, inZero int8, outScale float32, out Requant) error {
	p.inZero, p.out = inZero, out
	p.multipliers = make([]float32, p.taps()+1)
	for n := 1; n < len(p.multipliers); n++ {
		p.multipliers[n] = float32(float64(inScale) / (float64(outScale) * float64(n)))
	}
	p.out.Scale = p.multipliers[1:]
	err := p.out.Check(p.taps())
	p.out.Scale = nil
	return err
}

// Scratch returns the bytes of scratch that Int8 needs, aligned to 4.
func (p *AveragePool) Scratch() int { return 4 * p.C }

// count returns how many values the window of an output pixel counts.
func (p *AveragePool) count(oy, ox int) int {
	rows, cols := 0, 0
	for ky := range p.KH {
		if at := oy*p.StrideH + ky*p.DilationH - p.PadTop; p.win.rows[oy*p.KH+ky] >= 0 || (p.countPad && at < p.padH) {
			rows++
		}
	}
	for kx := range p.KW {
		if at := ox*p.StrideW + kx*p.DilationW - p.PadLeft; p.win.cols[ox*p.KW+kx] >= 0 || (p.countPad && at < p.padW) {
			cols++
		}
	}
	return rows * cols
}

// F32 runs the pool over float32 values.
func (p *AveragePool) F32(out, in []float32) {
	p.real.run(p, out[:p.N*p.OH*p.OW*p.C], in[:p.N*p.H*p.W*p.C])
}

// averagePoolF32Generic is the definition of AveragePool.F32.
func averagePoolF32Generic(p *AveragePool, out, in []float32) {
	for n := range p.N {
		picture := in[n*p.H*p.W*p.C : (n+1)*p.H*p.W*p.C]
		for oy := range p.OH {
			for ox := range p.OW {
				dst := out[((n*p.OH+oy)*p.OW+ox)*p.C:][:p.C]
				clear(dst)
				p.visit(oy, ox, func(at int) {
					for c, v := range picture[at : at+p.C] {
						dst[c] += v
					}
				})
				n := float32(max(1, p.count(oy, ox)))
				for c := range dst {
					dst[c] /= n
				}
			}
		}
	}
}

// Int8 runs the pool over int8 values. Quantise came first.
func (p *AveragePool) Int8(out, in []int8, scratch []byte) {
	p.int8.run(p, out[:p.N*p.OH*p.OW*p.C], in[:p.N*p.H*p.W*p.C], scratch)
}

// averagePoolInt8Generic is the definition of AveragePool.Int8.
func averagePoolInt8Generic(p *AveragePool, out, in []int8, scratch []byte) {
	sums := int32s(scratch, p.C)
	lo, hi := p.out.bounds()
	for n := range p.N {
		picture := in[n*p.H*p.W*p.C : (n+1)*p.H*p.W*p.C]
		for oy := range p.OH {
			for ox := range p.OW {
				clear(sums)
				p.visit(oy, ox, func(at int) {
					for c, v := range picture[at : at+p.C] {
						sums[c] += int32(v) - int32(p.inZero)
					}
				})
				m := p.multipliers[max(1, p.count(oy, ox))]
				dst := out[((n*p.OH+oy)*p.OW+ox)*p.C:][:p.C]
				for c, sum := range sums {
					dst[c] = requantise(sum, m, lo, hi, p.out.Zero)
				}
			}
		}
	}
}

// visit calls f with the offset of each tap that lies inside the picture.
func (p *AveragePool) visit(oy, ox int, f func(at int)) {
	for ky := range p.KH {
		for kx := range p.KW {
			if at := p.win.at(&p.Geometry, oy, ox, ky, kx); at >= 0 {
				f(at)
			}
		}
	}
}
