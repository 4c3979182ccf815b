package kernels

import (
	"math"
	"testing"
)

// Functions agree with package math, whose results are within one unit in the
// last place: the bound leaves four. Acos is held to an absolute error: near 1
// math.Acos itself loses digits, and other ones where its products are fused.
func TestFunctionsAgreeWithMath(t *testing.T) {
	const ulp = 1.0 / (1 << 52)
	for name, c := range map[string]struct {
		f        func(float64) float64
		from, to float64
		slack    float64 // units in the last place of max(|want|, floor)
		floor    float64
	}{
		"Exp": {math.Exp, -700, 700, 4, 0}, "Log": {math.Log, 1e-300, 1e6, 4, 0.1},
		"Sin": {math.Sin, -1e4, 1e4, 4, 1e-3}, "Cos": {math.Cos, -1e4, 1e4, 4, 1e-3}, "Tan": {math.Tan, -1.5, 1.5, 8, 1e-3},
		"Asin": {math.Asin, -1, 1, 4, 0}, "Acos": {math.Acos, -1, 1, 16, 1}, "Atan": {math.Atan, -50, 50, 4, 0},
		"Sinh": {math.Sinh, -20, 20, 12, 0}, "Cosh": {math.Cosh, -20, 20, 12, 0}, "Tanh": {math.Tanh, -25, 25, 12, 0},
		"Asinh": {math.Asinh, -1e3, 1e3, 12, 0}, "Acosh": {math.Acosh, 1.01, 1e3, 12, 0}, "Atanh": {math.Atanh, -0.99, 0.99, 12, 0},
	} {
		f, r := NewFunction(name, FunctionAttrs{}), seeded(3)
		for range 20_000 {
			x := c.from + (c.to-c.from)*r.Float64()
			if r.IntN(4) == 0 {
				x *= 1e-3
				if x < c.from {
					continue
				}
			}
			got, want := f(x), c.f(x)
			if d := math.Abs(got - want); !(d <= c.slack*ulp*max(math.Abs(want), c.floor)) {
				t.Errorf("%s(%v) is %v, want %v", name, x, got, want)
				break
			}
		}
	}
}

func TestFunctionsAtTheEdges(t *testing.T) {
	inf, nan := math.Inf(1), math.NaN()
	for _, c := range []struct {
		op      string
		x, want float64
	}{
		{"Exp", inf, inf},
		{"Exp", -inf, 0},
		{"Exp", nan, nan},
		{"Exp", 1000, inf},
		{"Log", 0, -inf},
		{"Log", -1, nan},
		{"Log", inf, inf},
		{"Sin", inf, nan},
		{"Cos", 0, 1},
		{"Sin", 1e12, math.Sin(math.Mod(1e12, 2*math.Pi))},
		{"Asin", 1.5, nan},
		{"Acos", 1, 0},
		{"Atan", inf, math.Pi / 2},
		{"Sinh", 1e-9, 1e-9},
		{"Tanh", inf, 1},
		{"Tanh", 1e-300, 1e-300},
		{"Asinh", 1e300, math.Asinh(1e300)},
		{"Acosh", 1, 0},
		{"Acosh", 0.5, nan},
		{"Atanh", 1, inf},
		{"Softplus", 800, 800},
		{"Softplus", -800, 0},
		{"Mish", -inf, nan},
		{"Sign", nan, 0},
		{"Round", 2.5, 2},
		{"Round", -1.5, -2},
	} {
		got := NewFunction(c.op, FunctionAttrs{})(c.x)
		if got != c.want && (got == got || c.want == c.want) && !(math.Abs(got-c.want) < 1e-9) {
			t.Errorf("%s(%v) is %v, want %v", c.op, c.x, got, c.want)
		}
	}
	if NewFunction("Frobnicate", FunctionAttrs{}) != nil {
		t.Error("there is a function Frobnicate")
	}
}

func TestPow(t *testing.T) {
	inf, r := math.Inf(1), seeded(5)
	for _, c := range [][2]float64{
		{0, 0}, {0, -1}, {math.Copysign(0, -1), -3}, {inf, 2}, {-inf, 3}, {2, inf}, {-1, inf}, {0.5, -inf}, {-8, 1.0 / 3}, {-2, 3}, {-2, 101}, {2, -1074}, {3, 0.5}, {-inf, 0.5},
	} {
		got, want := PowFloat(c[0], c[1]), math.Pow(c[0], c[1])
		if got != want && (got == got || want == want) && !(math.Abs(got-want) <= 1e-13*math.Abs(want)) {
			t.Errorf("%v^%v is %v, want %v", c[0], c[1], got, want)
		}
	}
	for range 20_000 { // float32 results: half a unit in their last place, and what float64 adds
		x, y := float64(float32(r.Float64()*100)), float64(float32(r.NormFloat64()*5))
		got, want := float32(PowFloat(x, y)), math.Pow(x, y)
		if e := ulps(got, want); want < math.MaxFloat32 && want > 1e-37 && !(e <= 0.501) {
			t.Fatalf("%v^%v is %v, %v units from %v", x, y, got, e, want)
		}
	}
	for _, c := range [][3]int64{{2, 10, 1024}, {-3, 3, -27}, {5, 0, 1}, {2, -1, 0}, {-1, -3, -1}, {1, -9, 1}} {
		if got := PowInt(c[0], c[1]); got != c[2] {
			t.Errorf("%d^%d is %d", c[0], c[1], got)
		}
	}
}

// Every half is itself after a way through float32, and what lies between two
// goes to the nearer.
func TestHalvesRound(t *testing.T) {
	for bits := range 1 << 16 {
		h := uint16(bits)
		if v := Float16(h); v == v && Float16Bits(v) != h {
			t.Fatalf("%#04x becomes %#04x", h, Float16Bits(v))
		}
		if v := BFloat16(h); v == v && BFloat16Bits(v) != h {
			t.Fatalf("bfloat16 %#04x becomes %#04x", h, BFloat16Bits(v))
		}
	}
	for bits := uint16(0); bits < 0x7bff; bits++ {
		low, high := float64(Float16(bits)), float64(Float16(bits+1))
		middle := (low + high) / 2
		even := bits + bits&1
		for _, c := range []struct {
			v    float64
			want uint16
		}{{middle, even}, {math.Nextafter(middle, 0), bits}, {math.Nextafter(middle, 1e9), bits + 1}} {
			if got := Float16Bits(RoundOdd(c.v)); got != c.want {
				t.Fatalf("%v becomes %#04x, want %#04x", c.v, got, c.want)
			}
		}
	}
	for v, want := range map[float32]uint16{65520: 0x7c00, -1e9: 0xfc00, 65519: 0x7bff, 1e-9: 0} {
		if got := Float16Bits(v); got != want {
			t.Errorf("%v becomes %#04x, want %#04x", v, got, want)
		}
	}
	if v := Float16(Float16Bits(float32(math.NaN()))); v == v {
		t.Error("NaN is lost")
	}
}

// The error function and GELU in float32: within 4 units in the last place of
// 1, which is what their use in attention needs.
func TestErfAndGelu(t *testing.T) {
	x, y := make([]float32, 1), make([]float32, 1)
	for v := float32(-6); v < 6; v += 1.0 / 512 {
		x[0] = v
		Erf(y, x)
		if d := math.Abs(float64(y[0]) - math.Erf(float64(v))); !(d < 4.0/(1<<23)) {
			t.Fatalf("erf(%v) is %v, off by %v", v, y[0], d)
		}
		Gelu(y, x)
		if want := float64(v) * (1 + math.Erf(float64(v)/math.Sqrt2)) / 2; !(math.Abs(float64(y[0])-want) < 1e-6*max(1, math.Abs(want))) {
			t.Fatalf("gelu(%v) is %v, want %v", v, y[0], want)
		}
		GeluTanh(y, x)
		inner := math.Sqrt(2/math.Pi) * (float64(v) + 0.044715*math.Pow(float64(v), 3))
		if want := float64(v) * (1 + math.Tanh(inner)) / 2; !(math.Abs(float64(y[0])-want) < 1e-6*max(1, math.Abs(want))) {
			t.Fatalf("gelu by tanh(%v) is %v, want %v", v, y[0], want)
		}
	}
}

// A reduction of [outer, n, inner] is the same as one of its columns written
// out, for every operation.
func TestReduce(t *testing.T) {
	const outer, n, inner = 2, 7, 3
	r := seeded(8)
	in := make([]float32, outer*n*inner)
	for i := range in {
		in[i] = float32(r.NormFloat64())
	}
	for op := ReduceSum; op <= ReduceLogSumExp; op++ {
		out := make([]float32, outer*inner)
		ReduceFloat(op, out, in, outer, n, inner)
		for o := range outer {
			for i := range inner {
				column := make([]float32, n)
				for k := range column {
					column[k] = in[(o*n+k)*inner+i]
				}
				one := make([]float32, 1)
				ReduceFloat(op, one, column, 1, n, 1)
				if got := out[o*inner+i]; got != one[0] && got == got {
					t.Errorf("operation %d: %v, its column alone gives %v", op, got, one[0])
				}
			}
		}
	}
	whole := make([]int8, 2)
	if !ReduceInt(ReduceMax, whole, []int8{-5, 3, -128, 127}, 2, 2, 1) || whole[0] != 3 || whole[1] != 127 {
		t.Errorf("largest %v", whole)
	}
	if ReduceInt(ReduceL2, whole, nil, 0, 0, 0) {
		t.Error("integers have a root")
	}
}

// A transform is undone by its inverse, and that of a wave has one line.
func TestFourier(t *testing.T) {
	for _, n := range []int{1, 2, 3, 8, 15, 16, 400} {
		r := seeded(uint64(n))
		x, y, z := make([]float32, 2*n), make([]float32, 2*n), make([]float32, 2*n)
		for i := range x {
			x[i] = float32(r.NormFloat64())
		}
		signal := func(d []float32) Signal { return Signal{Data: d, Step: 2, Complex: true} }
		NewFourier(n, false).Run(signal(y), signal(x), n, n, nil)
		NewFourier(n, true).Run(signal(z), signal(y), n, n, nil)
		for i := range x {
			if !(math.Abs(float64(z[i]-x[i])) < 1e-4) {
				t.Fatalf("length %d: element %d comes back as %v, was %v", n, i, z[i], x[i])
			}
		}
		f := NewFourier(n, false)
		for j := range n {
			c, s := math.Cos(2*math.Pi*float64(j)/float64(n)), math.Sin(2*math.Pi*float64(j)/float64(n))
			if math.Abs(f.cos[j]-c) > 1e-13 || math.Abs(f.sin[j]-s) > 1e-13 {
				t.Fatalf("length %d: angle %d is %v, %v, want %v, %v", n, j, f.cos[j], f.sin[j], c, s)
			}
		}
	}
}
