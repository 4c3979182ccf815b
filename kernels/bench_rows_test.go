package kernels

import (
	"fmt"
	"testing"
)

func benchSmooth(run measure) {
	const n = 4096
	in, out := benchF32(n), make([]float32, n)
	for s := range smooths {
		run(smoothNames[s], n, func(_ *testing.B, t Target) func() {
			_, f := s.For(t)
			return func() { f(out, in) }
		})
	}
}

func benchSoftmax(run measure) {
	for _, s := range [][2]int{{128, 128}, {128, 49}, {1000, 10}, {1, 1000}} {
		rows, n := s[0], s[1]
		in, out := benchF32(rows*n), make([]float32, rows*n)
		run(fmt.Sprintf("%dx%d", rows, n), rows*n, func(_ *testing.B, t Target) func() {
			_, f := Softmaxer(t)
			return func() { f(out, in, n) }
		})
	}
}

func benchStandardize(run measure) {
	for _, s := range [][2]int{{128, 256}, {128, 384}, {1, 3136}} {
		rows, n := s[0], s[1]
		in, out, scale := benchF32(rows*n), make([]float32, rows*n), benchF32(n)
		run(fmt.Sprintf("%dx%d", rows, n), rows*n, func(_ *testing.B, t Target) func() {
			_, f := Standardizer(t)
			return func() {
				for at := 0; at < len(in); at += n {
					f(out[at:], in[at:at+n], scale, scale, 1, 1e-5)
				}
			}
		})
	}
}

func benchSpan(run measure) {
	const n = 128 * 256
	in, out := benchF32(n), make([]uint8, n)
	run("128x256", n, func(_ *testing.B, t Target) func() {
		_, f := DynamicQuantizer(t)
		return func() { f(out, in) }
	})
}

func benchAddInt8(run measure) {
	const n = 56 * 56 * 64
	x, y, out := benchInt8(n), benchInt8(n), make([]int8, n)
	run("56x56x64", n, func(b *testing.B, t Target) func() {
		k, err := PackAddInt8(t, 0.7, 3, 1.1, -5, Requant{Min: -128, Max: 127})
		if err != nil {
			b.Fatal(err)
		}
		return func() { k.Run(out, x, y) }
	})
}

func benchQuantize[T int8 | uint8](run measure) {
	const n = 3 * 224 * 224
	in, out := benchF32(n), make([]T, n)
	run(fmt.Sprint(n), n, func(_ *testing.B, t Target) func() {
		_, f := Quantizer[T](t)
		return func() { f(out, in, 0.02, 3) }
	})
}

func benchDequantize[T int8 | uint8 | int32](run measure) {
	const n = 56 * 56 * 64
	in, out := make([]T, n), make([]float32, n)
	for i := range in {
		in[i] = T(i * 31)
	}
	run(fmt.Sprint(n), n, func(_ *testing.B, t Target) func() {
		_, f := Dequantizer[T](t)
		return func() { f(out, in, 0.02, 3) }
	})
}

// overPools times what prepare returns on pools.
func overPools(run measure, prepare func(b *testing.B, t Target, g Geometry) func()) {
	for _, g := range []Geometry{square(112, 64, 64, 3, 2, 64), square(64, 24, 24, 2, 2, 24)} {
		run(g.benchName(), g.OH*g.OW*g.C*g.taps(), func(b *testing.B, t Target) func() { return prepare(b, t, g) })
	}
}

func benchMaxPool(b *testing.B, t Target, g Geometry) *MaxPool {
	p, err := NewMaxPool(g)
	if err != nil {
		b.Fatal(err)
	}
	p.Use(t)
	return p
}

func benchMaxPoolInt8(run measure) {
	overPools(run, func(b *testing.B, t Target, g Geometry) func() {
		p, in, out := benchMaxPool(b, t, g), benchInt8(g.H*g.W*g.C), make([]int8, g.OH*g.OW*g.C)
		return func() { p.Int8(out, in) }
	})
}

func benchMaxPoolF32(run measure) {
	overPools(run, func(b *testing.B, t Target, g Geometry) func() {
		p, in, out := benchMaxPool(b, t, g), benchF32(g.H*g.W*g.C), make([]float32, g.OH*g.OW*g.C)
		return func() { p.F32(out, in) }
	})
}

func benchAveragePool(b *testing.B, t Target, g Geometry) *AveragePool {
	p, err := NewAveragePool(g, false, 0, 0)
	if err != nil {
		b.Fatal(err)
	}
	if err := p.Quantise(0.3, 3, 0.2, Requant{Zero: -5, Min: -128, Max: 127}); err != nil {
		b.Fatal(err)
	}
	p.Use(t)
	return p
}

func benchAveragePoolInt8(run measure) {
	overPools(run, func(b *testing.B, t Target, g Geometry) func() {
		p, in, out := benchAveragePool(b, t, g), benchInt8(g.H*g.W*g.C), make([]int8, g.OH*g.OW*g.C)
		scratch := make([]byte, p.Scratch())
		return func() { p.Int8(out, in, scratch) }
	})
}

func benchAveragePoolF32(run measure) {
	overPools(run, func(b *testing.B, t Target, g Geometry) func() {
		p, in, out := benchAveragePool(b, t, g), benchF32(g.H*g.W*g.C), make([]float32, g.OH*g.OW*g.C)
		return func() { p.F32(out, in) }
	})
}
