package kernels

import (
	"fmt"
	"slices"
	"testing"
	"time"
)

// measure times what prepare returns for each row of a table, as benchmark
// shape/tier. work is how many products it does, or values it goes through.
type measure func(shape string, work int, prepare func(b *testing.B, t Target) func())

// measuring measures the rows that this CPU has, slowest first. It reports
// products a second and their share of peak, or without a peak the time a
// value takes.
func measuring(b *testing.B, rows []Target, peak func(Tier) float64) measure {
	return func(shape string, work int, prepare func(b *testing.B, t Target) func()) {
		for _, row := range slices.Backward(rows) {
			if !slices.Contains(hostTiers(), row.Tier) {
				continue
			}
			b.Run(shape+"/"+rowName(row), func(b *testing.B) {
				time := median(b, prepare(b, row)).Seconds()
				if peak == nil {
					b.ReportMetric(time*1e9/float64(work), "ns/value")
					return
				}
				rate := float64(work) / time
				b.ReportMetric(rate/1e9, "GMAC/s")
				if most := peak(row.Tier); most > 0 {
					b.ReportMetric(100*rate/most, "%peak")
				}
			})
		}
	}
}

// median runs f as b asks and returns the median time of samples of it: other
// work on the machine moves a mean.
func median(b *testing.B, f func()) time.Duration {
	f()
	var samples []time.Duration
	for b.Loop() {
		start := time.Now()
		f()
		samples = append(samples, time.Since(start))
	}
	slices.Sort(samples)
	return samples[len(samples)/2]
}

// benchWeights are weights for n channels of a depth.
func benchWeights(n, depth int) WeightsInt8 {
	w := WeightsInt8{InZero: 3, W: make([]int8, n*depth), Bias: make([]int32, n), Out: Requant{Scale: []float32{1e-4}, Min: -128, Max: 127}}
	for i := range w.W {
		w.W[i] = int8(i*37%255 - 127)
	}
	return w
}

func benchInt8(n int) []int8 {
	s := make([]int8, n)
	for i := range s {
		s[i] = int8(i * 31)
	}
	return s
}

func benchGEMMInt8(run measure) {
	for _, s := range [][3]int{
		{1, 1024, 1024}, {16, 1024, 1024}, {196, 512, 512}, {49, 160, 960}, {784, 256, 256}, {3136, 64, 64}, {3136, 24, 144}, {12544, 32, 27}, {12544, 16, 32},
	} {
		m, n, k := s[0], s[1], s[2]
		run(fmt.Sprintf("%dx%dx%d", m, n, k), m*n*k, func(b *testing.B, t Target) func() {
			g, err := PackGEMMInt8(t, n, k, benchWeights(n, k))
			if err != nil {
				b.Fatal(err)
			}
			a, out, scratch := benchInt8(m*k), make([]int8, m*n), make([]byte, g.Scratch())
			return func() { g.Run(out, a, m, scratch) }
		})
	}
}

// square is a convolution of pictures of side by side pixels.
func square(side, c, oc, kernel, stride, groups int) Geometry {
	pad := kernel / 2
	out := (side+2*pad-kernel)/stride + 1
	return Geometry{
		N: 1, H: side, W: side, C: c, OH: out, OW: out, OC: oc, KH: kernel, KW: kernel, StrideH: stride, StrideW: stride,
		DilationH: 1, DilationW: 1, PadTop: pad, PadLeft: pad, Groups: groups,
	}
}

func (g Geometry) benchName() string {
	return fmt.Sprintf("%dx%dx%d-%d_%dx%ds%dg%d", g.H, g.W, g.C, g.OC, g.KH, g.KW, g.StrideH, g.Groups)
}

func (g Geometry) macs() int { return g.N * g.OH * g.OW * g.OC * g.taps() * g.C / g.Groups }

func benchConvInt8(run measure) {
	for _, g := range []Geometry{
		square(224, 3, 32, 3, 2, 1), square(224, 3, 64, 7, 2, 1), square(56, 64, 64, 3, 1, 1), square(28, 128, 128, 3, 1, 1),
		square(14, 256, 256, 3, 1, 1), square(7, 512, 512, 3, 1, 1), square(56, 128, 128, 3, 1, 32), square(56, 64, 128, 1, 2, 1),
	} {
		run(g.benchName(), g.macs(), func(b *testing.B, t Target) func() {
			c, err := PackConvInt8(t, g, benchWeights(g.OC, g.taps()*g.C/g.Groups))
			if err != nil {
				b.Fatal(err)
			}
			in, out, scratch := benchInt8(g.H*g.W*g.C), make([]int8, g.OH*g.OW*g.OC), make([]byte, c.Scratch())
			return func() { c.Run(out, in, scratch) }
		})
	}
}

func benchDepthwiseInt8(run measure) {
	for _, g := range []Geometry{
		square(112, 32, 32, 3, 1, 32), square(56, 128, 128, 3, 1, 128), square(28, 192, 192, 3, 1, 192), square(14, 512, 512, 3, 1, 512),
		square(112, 96, 96, 3, 2, 96), square(28, 192, 192, 3, 2, 192), square(28, 128, 128, 5, 1, 128), square(28, 128, 128, 5, 2, 128),
	} {
		run(g.benchName(), g.macs(), func(b *testing.B, t Target) func() {
			d, err := PackDepthwiseInt8(t, g, benchWeights(g.C, g.taps()))
			if err != nil {
				b.Fatal(err)
			}
			in, out, scratch := benchInt8(g.H*g.W*g.C), make([]int8, g.OH*g.OW*g.C), make([]byte, d.Scratch())
			return func() { d.Run(out, in, scratch) }
		})
	}
}

// benchQuantizePlanes is a picture becoming what the first convolution reads.
func benchQuantizePlanes(run measure) {
	in := benchF32(3 * 224 * 224)
	out := make([]int8, len(in))
	run("3x224x224", len(in), func(_ *testing.B, t Target) func() {
		_, quantize := QuantizePlanes(t)
		return func() { quantize(out, in, 3, 0.02, 3) }
	})
}

func benchF32(n int) []float32 {
	s := make([]float32, n)
	for i := range s {
		s[i] = float32(i%31) - 15
	}
	return s
}

func benchGEMMF32(run measure) {
	for _, s := range [][3]int{{1, 1024, 1024}, {16, 1024, 1024}, {196, 512, 512}, {784, 256, 256}, {3136, 64, 64}, {12544, 32, 27}} {
		m, n, k := s[0], s[1], s[2]
		run(fmt.Sprintf("%dx%dx%d", m, n, k), m*n*k, func(b *testing.B, t Target) func() {
			g, err := PackGEMMF32(t, n, k, WeightsF32{W: benchF32(n * k), Clamp: NoClamp})
			if err != nil {
				b.Fatal(err)
			}
			a, out, scratch := benchF32(m*k), make([]float32, m*n), make([]byte, g.Scratch())
			return func() { g.Run(out, a, m, scratch) }
		})
	}
}

// benchProductF32 has the products of an attention head: scores, where b
// is transposed, and values, as one of four heads.
func benchProductF32(run measure) {
	for _, s := range []struct {
		name string
		p    ProductF32
	}{
		{"scores128x64x128", ProductF32{M: 128, K: 64, N: 128, A: Strides{256, 1}, B: Strides{1, 256}, OutRow: 128}},
		{"values128x128x64", ProductF32{M: 128, K: 128, N: 64, A: Strides{128, 1}, B: Strides{256, 1}, OutRow: 256}},
		{"scores128x32x128", ProductF32{M: 128, K: 32, N: 128, A: Strides{384, 1}, B: Strides{1, 384}, OutRow: 128}},
		{"values1x128x64", ProductF32{M: 1, K: 128, N: 64, A: Strides{128, 1}, B: Strides{64, 1}, OutRow: 64}},
	} {
		run(s.name, s.p.M*s.p.N*s.p.K, func(b *testing.B, t Target) func() {
			p, err := PickProductF32(t, s.p)
			if err != nil {
				b.Fatal(err)
			}
			x, w := benchF32(p.A.last(p.M, p.K)+1), benchF32(p.B.last(p.K, p.N)+1)
			out, scratch, batch := make([]float32, p.M*p.OutRow), make([]byte, p.Scratch()), make([]Offsets, 1)
			return func() { p.Run(out, x, w, batch, scratch) }
		})
	}
}

func benchMatMulInt8(run measure) {
	for _, s := range [][3]int{{128, 128, 64}, {128, 64, 128}, {196, 196, 64}} {
		m, n, k := s[0], s[1], s[2]
		run(fmt.Sprintf("%dx%dx%d", m, n, k), m*n*k, func(b *testing.B, t Target) func() {
			p, err := NewMatMulInt8(t, m, k, n, 1e-4, 3, -5, Requant{Min: -128, Max: 127})
			if err != nil {
				b.Fatal(err)
			}
			x, w, out, scratch := benchInt8(m*k), benchInt8(k*n), make([]int8, m*n), make([]byte, p.Scratch())
			return func() { p.Run(out, x, w, scratch) }
		})
	}
}

func benchGEMMF16(run measure) {
	for _, s := range [][3]int{{1, 1024, 1024}, {16, 1024, 1024}, {196, 512, 512}} {
		m, n, k := s[0], s[1], s[2]
		run(fmt.Sprintf("%dx%dx%d", m, n, k), m*n*k, func(b *testing.B, t Target) func() {
			g, err := PackGEMMF32(t, n, k, WeightsF32{Half: slices.Repeat([]uint16{0x3c00}, n*k), Clamp: NoClamp})
			if err != nil {
				b.Fatal(err)
			}
			a, out, scratch := benchF32(m*k), make([]float32, m*n), make([]byte, g.Scratch())
			return func() { g.Run(out, a, m, scratch) }
		})
	}
}

func benchConvF32(run measure) {
	for _, g := range []Geometry{
		square(224, 3, 32, 3, 2, 1), square(56, 64, 64, 3, 1, 1), square(14, 256, 256, 3, 1, 1), square(7, 512, 512, 3, 1, 1),
	} {
		run(g.benchName(), g.macs(), func(b *testing.B, t Target) func() {
			c, err := PackConvF32(t, g, WeightsF32{W: benchF32(g.OC * g.taps() * g.C / g.Groups), Clamp: NoClamp})
			if err != nil {
				b.Fatal(err)
			}
			in, out, scratch := benchF32(g.H*g.W*g.C), make([]float32, g.OH*g.OW*g.OC), make([]byte, c.Scratch())
			return func() { c.Run(out, in, scratch) }
		})
	}
}

func benchDepthwiseF32(run measure) {
	for _, g := range []Geometry{
		square(112, 32, 32, 3, 1, 32), square(56, 128, 128, 3, 1, 128), square(14, 512, 512, 3, 1, 512), square(28, 192, 192, 3, 2, 192),
	} {
		run(g.benchName(), g.macs(), func(b *testing.B, t Target) func() {
			d, err := PackDepthwiseF32(t, g, WeightsF32{W: benchF32(g.C * g.taps()), Clamp: NoClamp})
			if err != nil {
				b.Fatal(err)
			}
			in, out, scratch := benchF32(g.H*g.W*g.C), make([]float32, g.OH*g.OW*g.OC), make([]byte, d.Scratch())
			return func() { d.Run(out, in, scratch) }
		})
	}
}

// BenchmarkPackInt8 is what a large layer costs at load.
func BenchmarkPackInt8(b *testing.B) {
	w := benchWeights(512, 4608)
	for _, tier := range hostTiers() {
		b.Run(tier.String(), func(b *testing.B) {
			b.SetBytes(int64(len(w.W)))
			for b.Loop() {
				if _, err := PackGEMMInt8(Target{Tier: tier}, 512, 4608, w); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// benchRowsF32 is one operation of each kind over what the first level of
// cache holds, and over rows of a few values.
func benchRowsF32(run measure) {
	for _, shape := range [][2][]int{{{4096}, {4096}}, {{512, 8}, {8}}, {{64, 64}, {64, 1}}} {
		for _, op := range []OpF32{OpAdd, OpDiv, OpMax, OpPrelu} {
			run(fmt.Sprint(definitionsF32[op].name, shape), 4096, func(b *testing.B, t Target) func() {
				w, err := NewBroadcast(shape[0], shape[1])
				if err != nil {
					b.Fatal(err)
				}
				x, y, out := benchF32(4096), benchF32(4096), make([]float32, 4096)
				_, f := BinaryF32(t, op, w)
				return func() { f(out, x, y) }
			})
		}
	}
	for _, op := range []OpF32{OpClip, OpHardSwish, OpSqrt} {
		run(definitionsF32[op].name, 4096, func(_ *testing.B, t Target) func() {
			x, out := benchF32(4096), make([]float32, 4096)
			_, f := UnaryF32(t, op, 0, 6)
			return func() { f(out, x) }
		})
	}
}

func benchTranspose(run measure) {
	for _, shape := range [][2]int{{3, 224 * 224}, {224 * 224, 3}, {24, 44 * 44}, {44 * 44, 24}, {96, 22 * 22}, {512, 508}} {
		run(fmt.Sprint(shape), shape[0]*shape[1], func(b *testing.B, t Target) func() {
			k, err := NewTranspose(4, shape[:], []int{1, 0})
			if err != nil {
				b.Fatal(err)
			}
			k.Use(t)
			in, out := make([]byte, 4*shape[0]*shape[1]), make([]byte, 4*shape[0]*shape[1])
			return func() { k.Run(out, in) }
		})
	}
}

func BenchmarkConvTranspose(b *testing.B) {
	run := measuring(b, targetsOf(gemmF32Variants), PeakF32)
	for _, s := range [][3]int{{80, 96, 24}, {160, 24, 1}} {
		v := Volume{
			N: 1, C: s[1], OC: s[2], Groups: 1, In: [3]int{1, s[0], s[0]}, Out: [3]int{1, 2 * s[0], 2 * s[0]},
			Kernel: [3]int{1, 2, 2}, Stride: [3]int{1, 2, 2}, Dilation: [3]int{1, 1, 1},
		}
		macs := v.InSize() * v.C * v.OC * v.Taps()
		run(fmt.Sprintf("%dx%dx%d-%d_2x2s2", s[0], s[0], s[1], s[2]), macs, func(b *testing.B, t Target) func() {
			c, err := NewConvTranspose(v, nil, NoClamp)
			if err != nil {
				b.Fatal(err)
			}
			if err := c.Pack(t, benchF32(v.C*v.OC*v.Taps())); err != nil {
				b.Fatal(err)
			}
			in, out, scratch := benchF32(v.InSize()*v.C), make([]float32, v.OutSize()*v.OC), make([]byte, c.Scratch())
			return func() { c.Run(out, in, nil, nil, scratch) }
		})
	}
}
