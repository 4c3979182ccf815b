package engine

import (
	"math"
	"testing"

	"dunlin/kernels"
	"dunlin/model"
)

// halfWeights is a graph of y = x*w, w cast from binary16, or the float32 that
// it equals.
func halfWeights(m, k, n int, cast bool) *build {
	b := newBuild(3)
	bits, wide := make([]uint16, k*n), make([]float32, k*n)
	for i := range bits {
		bits[i] = kernels.Float16Bits(float32(b.r.NormFloat64()))
		wide[i] = kernels.Float16(bits[i])
	}
	w := ""
	if cast {
		w = b.node("Cast", attrs{"to": int64(1)}, b.constant(model.Of(model.F16, bits, k, n)))
	} else {
		w = b.constant(model.Of(model.F32, wide, k, n))
	}
	b.output(b.node("MatMul", nil, b.input("x", m, k), w))
	return b
}

// Weights stay as wide as the file has them, and give what they give as
// float32: within 1e-2 of the range, which is what half precision is held to.
func TestHalfWeights(t *testing.T) {
	const k, n = 96, 40
	for _, m := range []int{1, 5, 33} {
		host, err := kernels.Host("")
		if err != nil {
			t.Fatal(err)
		}
		var out [2][]float32
		var bytes [2]int
		for i, cast := range []bool{false, true} {
			p, err := Compile(halfWeights(m, k, n, cast).Graph, Options{})
			if err != nil {
				t.Fatal(err)
			}
			s := p.NewSession()
			for j := range s.Input(0).F32() {
				s.Input(0).F32()[j] = float32(math.Sin(float64(j)))
			}
			if err := s.Run(); err != nil {
				t.Fatal(err)
			}
			out[i], bytes[i] = s.Output(0).F32(), p.Memory().Weights
		}
		if host.Tier != kernels.Generic && kernels.HalvesPay(host, m) && bytes[1]+k*n > bytes[0] { // a byte a weight less, panels filled up or not
			t.Errorf("%d rows: weights take %d bytes, those of float32 %d", m, bytes[1], bytes[0])
		}
		most := 0.0
		for _, v := range out[0] {
			most = max(most, math.Abs(float64(v)))
		}
		for j, v := range out[1] {
			if d := math.Abs(float64(v) - float64(out[0][j])); !(d <= 1e-2*most) {
				t.Fatalf("%d rows: element %d is %v, %v with float32", m, j, v, out[0][j])
			}
		}
	}
}

// A constant that only happens to hold binary16 numbers is not taken for one.
func TestHalvesAreTheFiles(t *testing.T) {
	for _, cast := range []bool{false, true} {
		if got := holdsHalves(halfWeights(1, 8, 8, cast).Graph); got != cast {
			t.Errorf("cast %v: holds halves: %v", cast, got)
		}
	}
}
