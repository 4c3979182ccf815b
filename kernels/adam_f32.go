package kernels

import "math"

// Adam are the numbers of one step of Adam, the same for all values.
type Adam struct {
	Beta1, Rest1 float32 // what stays of the mean of gradients, and what a new one adds: 1-Beta1
	Beta2, Rest2 float32 // likewise of their squares
	Decay        float32 // times the value, added to the gradient
	Keep         float32 // what stays of the value itself: 1, or less where decay stands apart (AdamW)
	Rate         float32 // learning rate, corrected for a first moment that began at 0
	Spread       float32 // correction of √v likewise
	Epsilon      float32
}

// AdamFunc is AdamF32Generic on a tier.
type AdamFunc func(p, m, v, g []float32, a Adam)

// adamF32Variants is the table of AdamF32.
var adamF32Variants = append(adamF32Native, variant[AdamFunc]{Generic, true, AdamF32Generic})

// AdamF32 returns AdamF32Generic as t computes it, and the tier that does.
func AdamF32(t Target) (Tier, AdamFunc) {
	v := pick(t, adamF32Variants)
	return v.tier, v.run
}

// AdamF32Generic makes a step of Adam (Kingma & Ba 2015, arXiv:1412.6980,
// algorithm 1), each operation rounded to float32:
//
//	g = g + Decay·p
//	m = Beta1·m + Rest1·g
//	v = Beta2·v + Rest2·g²
//	p = Keep·p - Rate·(m / (Spread·√v + Epsilon))
//
// p are parameters, m and v their moments, g their gradients, which stay; m, v
// and g are at least as long as p, and none overlaps another.
func AdamF32Generic(p, m, v, g []float32, a Adam) {
	m, v, g = m[:len(p)], v[:len(p)], g[:len(p)]
	for i, x := range p {
		d := g[i] + float32(a.Decay*x)
		m[i] = float32(a.Beta1*m[i]) + float32(a.Rest1*d)
		v[i] = float32(a.Beta2*v[i]) + float32(a.Rest2*float32(d*d))
		by := float32(a.Spread*float32(math.Sqrt(float64(v[i])))) + a.Epsilon
		p[i] = float32(a.Keep*x) - float32(a.Rate*float32(m[i]/by))
	}
}
