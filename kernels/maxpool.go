package kernels

import "math"

// MaxPool writes the largest value under each window, a channel at a time.
// g.OC is g.C and g.Groups is not looked at. Padding is never the largest; a
// window of padding alone gives the least value of the type. NaN loses to
// every number.
//
//	in   [N, H, W, C]
//	out  [N, OH, OW, C]
type MaxPool struct {
	Geometry
	win   window
	int8  variant[maxPoolInt8Func]
	real  variant[maxPoolF32Func]
	lists *tapLists // where the tier wants them
}

type (
	maxPoolInt8Func func(p *MaxPool, out, in []int8)
	maxPoolF32Func  func(p *MaxPool, out, in []float32)
)

// maxPoolF32Variants is the table of MaxPool.F32, all of it exact.
var maxPoolF32Variants = append(maxPoolF32Native, variant[maxPoolF32Func]{Generic, true, maxPoolF32Generic})

// maxPoolInt8Variants is the table of MaxPool.Int8.
var maxPoolInt8Variants = append(maxPoolInt8Native, variant[maxPoolInt8Func]{Generic, true, maxPoolInt8Generic})

// NewMaxPool checks g and returns the pool.
func NewMaxPool(g Geometry) (*MaxPool, error) {
	g.OC, g.Groups = g.C, 1
	if err := g.Check(); err != nil {
		return nil, err
	}
	p := &MaxPool{Geometry: g, win: g.window()}
	p.Use(Target{})
	return p, nil
}

// Use makes Int8 and F32 run as t computes them; a new pool's are Generic.
func (p *MaxPool) Use(t Target) {
	p.int8, p.real = pick(t, maxPoolInt8Variants), pick(t, maxPoolF32Variants)
	if p.int8.tier != Generic {
		p.lists = newTapLists(&p.Geometry)
	}
}

// Tier returns the tier that was chosen.
func (p *MaxPool) Tier() Tier { return p.int8.tier }

// Int8 runs the pool over int8 values.
func (p *MaxPool) Int8(out, in []int8) { p.int8.run(p, out[:p.N*p.OH*p.OW*p.C], in[:p.N*p.H*p.W*p.C]) }

// maxPoolInt8Generic is the definition of MaxPool.Int8.
func maxPoolInt8Generic(p *MaxPool, out, in []int8) { maxPool(p, out, in, math.MinInt8) }

// F32 runs the pool over float32 values.
func (p *MaxPool) F32(out, in []float32) {
	p.real.run(p, out[:p.N*p.OH*p.OW*p.C], in[:p.N*p.H*p.W*p.C])
}

// maxPoolF32Generic is the definition of MaxPool.F32.
func maxPoolF32Generic(p *MaxPool, out, in []float32) { maxPool(p, out, in, float32(math.Inf(-1))) }

func maxPool[T int8 | float32](p *MaxPool, out, in []T, least T) {
	for n := range p.N {
		picture := in[n*p.H*p.W*p.C : (n+1)*p.H*p.W*p.C]
		for oy := range p.OH {
			for ox := range p.OW {
				dst := out[((n*p.OH+oy)*p.OW+ox)*p.C:][:p.C]
				for c := range dst {
					dst[c] = least
				}
				for ky := range p.KH {
					for kx := range p.KW {
						at := p.win.at(&p.Geometry, oy, ox, ky, kx)
						if at < 0 {
							continue
						}
						for c, v := range picture[at : at+p.C] {
							if v > dst[c] {
								dst[c] = v
							}
						}
					}
				}
			}
		}
	}
}
