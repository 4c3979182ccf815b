package kernels

import (
	"fmt"
	"math"
	"slices"
	"testing"

	"dunlin/internal/guard"
)

func TestAddInt8(t *testing.T) {
	forVariants(t, addInt8Variants, func(t *testing.T, target Target) {
		for n := range 70 {
			r := seeded(uint64(n))
			q := Requant{Zero: int32(r.IntN(256) - 128), Min: -128, Max: 127}
			ma, mb := r.Float32()*2, r.Float32()*2
			za, zb := int8(r.IntN(256)-128), int8(r.IntN(256)-128)
			k, err := PackAddInt8(target, ma, za, mb, zb, q)
			if err != nil {
				t.Fatal(err)
			}
			a, b := randomInt8(t, r, n, true), randomInt8(t, r, n, false)
			out, want := guard.Of[int8](t, n, n%2 == 0), make([]int8, n)
			for i := range want {
				p := float32(float32(int32(a[i])-int32(za)) * ma)
				sum := float32(p + float32(float32(int32(b[i])-int32(zb))*mb))
				want[i] = int8(min(max(math.RoundToEven(float64(sum))+float64(q.Zero), -128), 127))
			}
			k.Run(out, a, b)
			same(t, "sum", out, want)
		}
	})
}

func TestQuantize(t *testing.T) {
	in := []float32{0, 0.5, 1.5, 2.5, -0.5, -1.5, 1e30, -1e30, float32(math.Inf(1)), float32(math.NaN()), 126.49}
	i8, u8 := make([]int8, len(in)), make([]uint8, len(in))
	Quantize(i8, in, 1, 0)
	same(t, "int8", i8, []int8{0, 0, 2, 2, 0, -2, 127, -128, 127, 0, 126})
	Quantize(u8, in, 1, 128)
	same(t, "uint8", u8, []uint8{128, 128, 130, 130, 128, 126, 255, 0, 255, 128, 254})
	r := seeded(6)
	for range 10_000 {
		x, scale, zero := float32(r.NormFloat64()*100), r.Float32()+0.01, int8(r.IntN(256)-128)
		Quantize(i8[:1], []float32{x}, scale, zero)
		want := min(max(math.RoundToEven(float64(float32(x/scale)))+float64(zero), -128), 127)
		if float64(i8[0]) != want {
			t.Fatalf("%v/%v+%d is %d, want %v", x, scale, zero, i8[0], want)
		}
	}
	back := make([]float32, 2)
	Dequantize(back, []uint8{0, 255}, 0.5, 128)
	same(t, "back", back, []float32{-64, 63.5})
	flip := []byte{0, 128, 255}
	FlipSign(flip, flip)
	same(t, "flip", flip, []byte{128, 0, 127})
}

// ulps returns how many float32 steps got is from want.
func ulps(got float32, want float64) float64 {
	w := float32(want)
	step := float64(math.Nextafter32(float32(math.Abs(float64(w))), float32(math.Inf(1)))) - math.Abs(float64(w))
	return math.Abs(float64(got)-want) / step
}

func TestFunctionsAtTheirEnds(t *testing.T) {
	inf, nan := float32(math.Inf(1)), float32(math.NaN())
	for _, c := range []struct {
		name      string
		got, want float32
	}{
		{"e^inf", exp(inf), inf},
		{"e^-inf", exp(-inf), 0},
		{"e^0", exp(0), 1},
		{"e^89", exp(89), inf},
		{"e^-200", exp(-200), 0},
		{"tanh inf", tanh(inf), 1},
		{"tanh -inf", tanh(-inf), -1},
		{"tanh 0", tanh(0), 0},
		{"sigmoid inf", sigmoid(inf), 1},
		{"sigmoid -inf", sigmoid(-inf), 0},
		{"log 0", log(0), -inf},
		{"log -0", log(float32(math.Copysign(0, -1))), -inf},
		{"log inf", log(inf), inf},
		{"log 1", log(1), 0},
	} {
		if c.got != c.want {
			t.Errorf("%s is %v, want %v", c.name, c.got, c.want)
		}
	}
	for _, f := range []func(float32) float32{exp, tanh, sigmoid} {
		if v := f(nan); v == v {
			t.Errorf("of NaN comes %v", v)
		}
	}
	for _, x := range []float32{-1, -inf, nan} {
		if v := log(x); v == v {
			t.Errorf("log of %v is %v", x, v)
		}
	}
	if v := log(math.SmallestNonzeroFloat32); math.Abs(float64(v)+149*math.Ln2) > 1e-5 {
		t.Errorf("log of the least float32 is %v", v)
	}
	if v := exp(-100); v <= 0 || v > 4e-44 {
		t.Errorf("e^-100 is %v", v)
	}
}

func TestUnary(t *testing.T) {
	in := []float32{-8, -2, -0.5, 0, 0.5, 2, 8}
	for name, c := range map[string]struct {
		f    Unary
		want []float32
	}{
		"clip":        {Clamp{0, 6}.Clip, []float32{0, 0, 0, 0, 0.5, 2, 6}},
		"leaky":       {LeakyRelu(0.25), []float32{-2, -0.5, -0.125, 0, 0.5, 2, 8}},
		"hardsigmoid": {HardSigmoid(0.25, 0.5), []float32{0, 0, 0.375, 0.5, 0.625, 1, 1}},
		"neg":         {Neg, []float32{8, 2, 0.5, 0, -0.5, -2, -8}},
		"abs":         {Abs, []float32{8, 2, 0.5, 0, 0.5, 2, 8}},
	} {
		out := guard.Of[float32](t, len(in), true)
		c.f(out, in)
		same(t, name, out, c.want)
	}
	out := make([]float32, len(in))
	HardSwish(out, in)
	for i, x := range in {
		if want := x * min(max(x/6+0.5, 0), 1); math.Abs(float64(out[i]-want)) > 1e-6 {
			t.Errorf("hardswish of %v is %v, want %v", x, out[i], want)
		}
	}
	Sqrt(out, []float32{4, 2})
	if out[0] != 2 || out[1] != float32(math.Sqrt2) {
		t.Errorf("roots %v", out[:2])
	}
	ScaleShift(out[:6], []float32{1, 2, 3, 4, 5, 6}, []float32{1, 10, 100}, []float32{0, 1, 2}, 2)
	same(t, "scaleshift", out[:6], []float32{1, 2, 31, 41, 502, 602})
}

func TestSoftmax(t *testing.T) {
	r := seeded(7)
	for n := 1; n < 40; n++ {
		x := randomF32(t, r, 3*n, true)
		out := guard.Of[float32](t, 3*n, true)
		Softmax(out, x, n)
		for row := range 3 {
			in, sum := x[row*n:(row+1)*n], 0.0
			for _, v := range in {
				sum += math.Exp(float64(v))
			}
			for i, v := range in {
				if want := math.Exp(float64(v)) / sum; math.Abs(float64(out[row*n+i])-want) > 1e-6 {
					t.Fatalf("%d: %v, want %v", n, out[row*n+i], want)
				}
			}
		}
	}
	big := []float32{1000, 1000}
	Softmax(big, big, 2)
	same(t, "large", big, []float32{0.5, 0.5})
}

func TestFloat16(t *testing.T) {
	for bits := range 1 << 16 {
		sign, exponent, fraction := bits>>15, bits>>10&31, float64(bits&1023)
		want := math.Ldexp(1+fraction/1024, exponent-15)
		if exponent == 0 {
			want = math.Ldexp(fraction, -24)
		}
		if exponent == 31 {
			want = math.Inf(1)
		}
		if sign == 1 {
			want = -want
		}
		got := Float16(uint16(bits))
		if exponent == 31 && fraction != 0 {
			if got == got {
				t.Fatalf("%#x is %v, want NaN", bits, got)
			}
			continue
		}
		if float64(got) != want || math.Signbit(float64(got)) != (sign == 1) {
			t.Fatalf("%#x is %v, want %v", bits, got, want)
		}
	}
}

func TestTranspose(t *testing.T) {
	r := seeded(8)
	for range 300 {
		rank := 1 + r.IntN(5)
		shape, perm, n := make([]int, rank), r.Perm(rank), 1
		for i := range shape {
			shape[i] = 1 + r.IntN(4)
			n *= shape[i]
		}
		for _, size := range []int{1, 2, 4, 8} {
			k, err := NewTranspose(size, shape, perm)
			if err != nil {
				t.Fatal(err)
			}
			in, out := guard.End(t, n*size), guard.End(t, n*size)
			for i := range in {
				in[i] = byte(r.IntN(256))
			}
			k.Run(out, in)
			want := make([]byte, 0, n*size)
			for i := range n {
				index, rest := make([]int, rank), i // of the input
				for a := rank - 1; a >= 0; a-- {
					index[perm[a]] = rest % shape[perm[a]]
					rest /= shape[perm[a]]
				}
				at := 0
				for a := range rank {
					at = at*shape[a] + index[a]
				}
				want = append(want, in[at*size:(at+1)*size]...)
			}
			same(t, "transpose", out, want)
			if !k.Moves() && !slices.Equal(in, out) {
				t.Fatalf("%v by %v moves, and says it does not", shape, perm)
			}
		}
	}
	for _, perm := range [][]int{{0}, {0, 0}, {0, 2}, {-1, 0}} {
		if _, err := NewTranspose(4, []int{2, 3}, perm); err == nil {
			t.Errorf("order %v was accepted", perm)
		}
	}
}

// Blocks of all sizes around the tiles, in both directions, among other axes.
func checkTranspose(t *testing.T, target Target) {
	r := seeded(10)
	for i := range 400 {
		shape, perms := []int{1 + r.IntN(2), 1 + r.IntN(40), 1 + r.IntN(40), 1 + r.IntN(3)}, [][]int{{0, 2, 1, 3}, {1, 2, 0, 3}, {3, 2, 1, 0}, {2, 0, 1, 3}, {0, 3, 1, 2}}
		if i%2 == 0 {
			shape[3] = 1
		}
		if i%7 == 0 {
			shape[1] = 3 // planes of a picture
		}
		perm, n := perms[i%len(perms)], volume(shape)
		k, err := NewTranspose(4, shape, perm)
		if err != nil {
			t.Fatal(err)
		}
		in, out, want := guard.Of[byte](t, 4*n, i%3 == 0), guard.Of[byte](t, 4*n, i%3 != 0), make([]byte, 4*n)
		for i := range in {
			in[i] = byte(r.IntN(256))
		}
		k.Run(want, in)
		k.Use(target)
		k.Run(out, in)
		same(t, fmt.Sprint(shape, perm), out, want)
	}
}

func TestBroadcast(t *testing.T) {
	r := seeded(9)
	for range 300 {
		rank := 1 + r.IntN(4)
		full, a, b := make([]int, rank), make([]int, rank), make([]int, rank)
		na, nb := 1, 1
		for i := range full {
			full[i] = 1 + r.IntN(4)
			a[i], b[i] = full[i], full[i]
			switch r.IntN(4) {
			case 0:
				a[i] = 1
			case 1:
				b[i] = 1
			}
			na, nb = na*a[i], nb*b[i]
		}
		w, err := NewBroadcast(a, b)
		if err != nil {
			t.Fatal(err)
		}
		same(t, "shape", w.Shape, full)
		x, y := randomF32(t, r, na, true), randomF32(t, r, nb, true)
		out := guard.Of[float32](t, w.total, true)
		Elementwise(w, Sub[float32], out, x, y)
		for i := range out {
			ia, ib, rest, sa, sb := 0, 0, i, 1, 1
			for d := rank - 1; d >= 0; d-- {
				k := rest % full[d]
				rest /= full[d]
				ia, ib = ia+k%a[d]*sa, ib+k%b[d]*sb
				sa, sb = sa*a[d], sb*b[d]
			}
			if want := x[ia] - y[ib]; out[i] != want {
				t.Fatalf("%v - %v: element %d is %v, want %v", a, b, i, out[i], want)
			}
		}
	}
	if _, err := NewBroadcast([]int{2, 3}, []int{4}); err == nil {
		t.Error("[2 3] and [4] broadcast")
	}
	w, err := NewBroadcast([]int{3}, []int{3})
	if err != nil {
		t.Fatal(err)
	}
	out := make([]int64, 3)
	Elementwise(w, Div[int64], out, []int64{7, -7, 1}, []int64{2, 2, 0})
	same(t, "integers", out, []int64{3, -3, 0})
	Elementwise(w, Max[int64], out, []int64{7, -7, 1}, []int64{2, 2, 0})
	same(t, "larger", out, []int64{7, 2, 1})
	Elementwise(w, Min[int64], out, []int64{7, -7, 1}, []int64{2, 2, 0})
	same(t, "smaller", out, []int64{2, -7, 0})
}

func TestMoves(t *testing.T) {
	out := make([]byte, 6)
	Concat(copyRowsGeneric, out, [][]byte{{1, 2, 5, 6}, {3, 7}}, []int{2, 1}, 2)
	same(t, "concat", out, []byte{1, 2, 3, 5, 6, 7})
	if bad := Gather(out[:4], []byte{1, 2, 3, 4, 5, 6}, []int64{2, -3}, 1, 3, 2); bad >= 0 {
		t.Errorf("index %d is refused", bad)
	}
	same(t, "gather", out[:4], []byte{5, 6, 1, 2})
	if bad := Gather(out[:4], []byte{1, 2, 3, 4, 5, 6}, []int64{0, 3}, 1, 3, 2); bad != 1 {
		t.Errorf("index %d is refused, want 1", bad)
	}
	NewSlice([]int{2, 3}, []int{0, 2}, []int{1, -2}, []int{2, 2}, 1).Run(copyRowsGeneric, out[:4], []byte{1, 2, 3, 4, 5, 6})
	same(t, "slice", out[:4], []byte{3, 1, 6, 4})
}

// Rows of all lengths, near and far from each other, whole words or not.
func TestCopyRows(t *testing.T) {
	forVariants(t, rowsF32Variants, func(t *testing.T, target Target) {
		_, rows := CopyRows(target)
		r := seeded(11)
		for i := range 500 {
			n, count := r.IntN(80), 1+r.IntN(5)
			if i%3 > 0 {
				n = 4 * r.IntN(300)
			}
			outStep, inStep := n+4*r.IntN(3), n+r.IntN(9)
			if i%3 == 1 {
				inStep = n + 4*r.IntN(3)
			}
			out, in := guard.Of[byte](t, (count-1)*outStep+n, i%2 == 0), guard.Of[byte](t, (count-1)*inStep+n, i%2 != 0)
			for j := range in {
				in[j] = byte(r.Uint32())
			}
			want := make([]byte, len(out))
			for k := range count {
				copy(want[k*outStep:][:n], in[k*inStep:])
			}
			rows(out, outStep, in, inStep, count, n)
			same(t, fmt.Sprint(n, count, outStep, inStep), out, want)
		}
	})
}

func TestChoose(t *testing.T) {
	r := seeded(13)
	for n := 1; n < 40; n++ {
		for _, index := range [][]int32{{0}, {int32(n - 1), 0, int32(n / 2)}, every(0, n), every(1, n)} {
			in, out := guard.Of[uint32](t, 3*n, true), guard.Of[uint32](t, 3*len(index), true)
			for i := range in {
				in[i] = r.Uint32()
			}
			var want []uint32
			for row := range 3 {
				for _, k := range index {
					want = append(want, in[row*n+int(k)])
				}
			}
			Choose(out, in, index, 3, n)
			same(t, fmt.Sprint(n, index), out, want)
		}
	}
}

// every returns each second number from first on below n.
func every(first, n int) (list []int32) {
	for i := first; i < n; i += 2 {
		list = append(list, int32(i))
	}
	return list
}

// Slices of all kinds: parts and all of an axis, backwards, single elements.
func TestSlice(t *testing.T) {
	_, rows := CopyRows(Target{Tier: hostTiers()[len(hostTiers())-1]})
	r := seeded(12)
	for range 500 {
		rank, size := 1+r.IntN(4), []int{1, 2, 4, 8}[r.IntN(4)]
		shape, start, step, length := make([]int, rank), make([]int, rank), make([]int, rank), make([]int, rank)
		for a := range shape {
			shape[a], step[a] = 1+r.IntN(6), []int{1, 1, 1, 2, -1, 3}[r.IntN(6)]
			start[a] = r.IntN(shape[a])
			length[a] = shape[a] - start[a]
			if step[a] == 1 && r.IntN(2) == 0 {
				start[a], length[a] = 0, shape[a]
			}
			if step[a] < 0 {
				length[a] = start[a] + 1
			}
			length[a] = (length[a] + max(step[a], -step[a]) - 1) / max(step[a], -step[a])
		}
		in, out := guard.Of[byte](t, volume(shape)*size, true), guard.Of[byte](t, volume(length)*size, true)
		for j := range in {
			in[j] = byte(r.Uint32())
		}
		var want []byte
		for i := range volume(length) {
			at, unit, n := 0, size, i
			for a := rank - 1; a >= 0; a-- {
				at += (start[a] + n%length[a]*step[a]) * unit
				n /= length[a]
				unit *= shape[a]
			}
			want = append(want, in[at:at+size]...)
		}
		NewSlice(shape, start, step, length, size).Run(rows, out, in)
		same(t, fmt.Sprint(shape, start, step, length, size), out, want)
	}
}

func TestHost(t *testing.T) {
	for _, allowed := range []string{"generic", " generic", "generic,generic"} {
		if target, err := Host(allowed); err != nil || target.Tier != Generic {
			t.Errorf("%q: %v, %v", allowed, target, err)
		}
	}
	t.Setenv("DUNLIN_KERNELS", "generic")
	if target, err := Host(""); err != nil || target.Tier != Generic {
		t.Errorf("from the environment: %v, %v", target, err)
	}
	if _, err := Host("mmx"); err == nil {
		t.Error("tier mmx was accepted")
	}
}
