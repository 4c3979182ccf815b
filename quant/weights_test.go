package quant

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"dunlin/model"
)

// TestQuantiseWeights: each channel has its own scale, whatever the axis.
func TestQuantiseWeights(t *testing.T) {
	for _, c := range []struct {
		op    string
		shape []int
		trans int64
		axis  int
	}{{"Conv", []int{4, 2, 3, 3}, 0, 0}, {"Gemm", []int{4, 6}, 1, 0}, {"Gemm", []int{6, 4}, 0, 1}, {"MatMul", []int{6, 4}, 0, 1}} {
		g := model.New("g")
		n := 1
		for _, d := range c.shape {
			n *= d
		}
		w := model.Of(model.F32, make([]float32, n), c.shape...)
		node := &model.Node{Op: c.op, Name: "n", In: []string{"x", "w"}, Out: []string{"y"}, Attrs: map[string]model.Attr{"transB": c.trans}}
		g.AddConst("w", w)
		l := layerOf(g, node)
		if l == nil || l.axis != c.axis || l.channels != 4 {
			t.Fatalf("%s: %+v", c.op, l)
		}
		seen := make([]int, n)
		l.eachWeight(func(ch, i int) {
			seen[i]++
			at := i / (n / c.shape[0]) // the channel, where it is the first axis
			if c.axis == 1 {
				at = i % 4
			}
			if at != ch {
				t.Fatalf("%s %v: weight %d is of channel %d, not %d", c.op, c.shape, i, at, ch)
			}
			w.F32()[i] = float32(ch+1) * float32(1-2*(i%2))
		})
		if slices.Min(seen) != 1 || slices.Max(seen) != 1 {
			t.Errorf("%s: weights visited %v times", c.op, seen)
		}
		q := l.quantise(1)
		for ch, s := range q.scales {
			if want := float32(ch+1) / 127; math.Abs(float64(s/want-1)) > 1e-6 {
				t.Errorf("%s: scale %d is %g, want %g", c.op, ch, s, want)
			}
		}
		if q.sqnr < 100 {
			t.Errorf("%s: weights that int8 holds exactly have %g dB", c.op, q.sqnr)
		}
	}
}

// TestBiasFits: the scale of a channel of tiny weights grows until its bias
// fits an int32 in units of both scales.
func TestBiasFits(t *testing.T) {
	l := &layer{weight: model.Of(model.F32, []float32{1e-9, -1e-9, 0, 0, 1, -1}, 3, 2), bias: []float32{5, 0, -7}, channels: 3}
	const in = 1e-3
	q := l.quantise(in)
	values, units := int32Bias(l.bias, q.scales, in)
	for c, b := range l.bias {
		if got := float64(values[c]) * float64(units[c]); math.Abs(got-float64(b)) > 1e-6*math.Abs(float64(b))+float64(units[c]) {
			t.Errorf("bias %g becomes %d units of %g", b, values[c], units[c])
		}
		if v := math.Abs(float64(values[c])); v > 1<<30+1 {
			t.Errorf("bias %g takes %g of an int32", b, v)
		}
		if units[c] != float32(in*float64(q.scales[c])) && math.Abs(float64(units[c])/(in*float64(q.scales[c]))-1) > 1e-6 {
			t.Errorf("unit %g is not the product of the scales", units[c])
		}
	}
}

func TestDecibel(t *testing.T) {
	for _, c := range []struct{ s, n, want float64 }{{100, 1, 20}, {1, 0, lossless}, {0, 0, lossless}, {0, 1, -lossless}, {-1e-9, 1, -lossless}, {1, 4, -6.02}} {
		if got := decibel(c.s, c.n); math.Abs(got-c.want) > .01 {
			t.Errorf("%g to %g: %g dB, want %g", c.s, c.n, got, c.want)
		}
	}
}

// TestCorrection: for inputs that all have their mean, the corrected int8
// layer gives on average what the float layer gives.
func TestCorrection(t *testing.T) {
	r := rand.New(rand.NewPCG(11, 12))
	for _, c := range []struct {
		op     string
		shape  []int
		inputs int
		attrs  map[string]model.Attr
		input  func(c, i int) int // of the i-th weight, written out
	}{
		{"Conv", []int{4, 3, 2, 2}, 3, nil, func(c, i int) int { return i / 4 % 3 }},
		{"Conv", []int{6, 1, 3, 3}, 6, map[string]model.Attr{"group": int64(6)}, func(c, i int) int { return c }},
		{"Conv", []int{4, 3, 1, 1}, 6, map[string]model.Attr{"group": int64(2)}, func(c, i int) int { return c/2*3 + i%3 }},
		{"Gemm", []int{4, 5}, 5, map[string]model.Attr{"transB": int64(1)}, func(c, i int) int { return i % 5 }},
		{"Gemm", []int{5, 4}, 5, nil, func(c, i int) int { return i / 4 }},
	} {
		count, _ := model.Shape(c.shape).Elements()
		w := make([]float32, count)
		for i := range w {
			w[i] = float32(r.NormFloat64())
		}
		g := model.New("g")
		g.AddConst("w", model.Of(model.F32, w, c.shape...))
		l := layerOf(g, &model.Node{Op: c.op, Name: "n", In: []string{"x", "w"}, Out: []string{"y"}, Attrs: c.attrs})
		q := l.quantise(1)
		mean := make([]float64, c.inputs)
		for i := range mean {
			mean[i] = r.Float64() + .1
		}
		want, got := make([]float64, l.channels), q.correction(l, mean)
		l.eachWeight(func(ch, i int) {
			m := mean[c.input(ch, i)]
			want[ch] += float64(w[i])*m - float64(q.values.I8()[i])*float64(q.scales[ch])*m
		})
		for ch := range want {
			if math.Abs(got[ch]-want[ch]) > 1e-9 || want[ch] == 0 {
				t.Errorf("%s %v: channel %d is corrected by %g, want %g", c.op, c.shape, ch, got[ch], want[ch])
			}
		}
		if q.correction(l, mean[1:]) != nil || q.correction(l, nil) != nil {
			t.Errorf("%s %v: corrected by means that do not fit", c.op, c.shape)
		}
	}
}

func TestMeans(t *testing.T) {
	m := &means{}
	m.add(model.Of(model.F32, []float32{1, 3, 10, 30, 5, 7, 50, 70}, 2, 2, 2))
	m.add(model.Of(model.F32, []float32{2, 20}, 1, 2))
	r := &Ranges{means: map[string]*means{"v": m}}
	if got := r.mean("v"); !slices.Equal(got, []float64{18. / 5, 180. / 5}) {
		t.Errorf("%v", got)
	}
	m.add(model.Of(model.F32, []float32{1, 2, 3}, 1, 3))
	m.add(model.Of(model.F32, []float32{1, 2}, 1, 2))
	if got := r.mean("v"); got != nil || r.mean("nobody") != nil {
		t.Errorf("means of changing channels: %v", got)
	}
	flat := &means{}
	flat.add(model.Of(model.F32, []float32{1, 2}, 2))
	r.means["flat"] = flat
	if r.mean("flat") != nil {
		t.Error("a vector has channels")
	}
	empty := &means{}
	empty.add(model.Of(model.F32, []float32{}, 0, 2))
	empty.add(model.Of(model.F32, []float32{}, 1, 0))
	r.means["empty"] = empty
	if r.mean("empty") != nil {
		t.Error("nothing has a mean")
	}
}
