package kernels

import (
	"fmt"
	"math"
	"math/rand/v2"
	"testing"
)

// recurrentReference is the formulas of Cell in float64, for one sequence and
// one direction, x [steps][input] in the order in which it is run.
type recurrentReference struct {
	s          RecurrentShape
	w, u, b, p []float32
	h, c       []float64
}

func (r *recurrentReference) gate(i int, x []float32, h []float64, bias bool) (wx, uh []float64) {
	hid := r.s.Hidden
	g := r.s.Cell.Gates()
	wx, uh = make([]float64, hid), make([]float64, hid)
	for j := range hid {
		row := i*hid + j
		for k, v := range x {
			wx[j] += float64(v) * float64(r.w[row*r.s.Input+k])
		}
		for k, v := range h {
			uh[j] += v * float64(r.u[row*hid+k])
		}
		if r.b != nil && bias {
			wx[j] += float64(r.b[row])
			uh[j] += float64(r.b[g*hid+row])
		}
	}
	return wx, uh
}

func (r *recurrentReference) step(x []float32) {
	hid := r.s.Hidden
	logistic := func(v float64) float64 { return 1 / (1 + math.Exp(-r.clip(v))) }
	tan := func(v float64) float64 { return math.Tanh(r.clip(v)) }
	sum := func(i int, f func(float64) float64, peephole int, c []float64) []float64 {
		wx, uh := r.gate(i, x, r.h, true)
		for j := range wx {
			v := wx[j] + uh[j]
			if peephole >= 0 && r.p != nil {
				v += float64(r.p[peephole*hid+j]) * c[j]
			}
			wx[j] = f(v)
		}
		return wx
	}
	next := make([]float64, hid)
	switch r.s.Cell {
	case CellRNN:
		next = sum(0, tan, -1, nil)
	case CellGRU:
		z, g := sum(0, logistic, -1, nil), sum(1, logistic, -1, nil)
		gated := make([]float64, hid)
		for j := range gated {
			gated[j] = g[j] * r.h[j]
		}
		wx, uh := r.gate(2, x, r.h, true)
		if !r.s.ResetAfter {
			wx, uh = r.gate(2, x, gated, true)
		}
		for j := range next {
			n := wx[j] + uh[j]
			if r.s.ResetAfter {
				n = wx[j] + g[j]*uh[j]
			}
			next[j] = (1-z[j])*tan(n) + z[j]*r.h[j]
		}
	case CellLSTM:
		in, forget, n := sum(0, logistic, 0, r.c), sum(2, logistic, 2, r.c), sum(3, tan, -1, nil)
		for j := range r.c {
			if r.s.Coupled {
				forget[j] = 1 - in[j]
			}
			r.c[j] = forget[j]*r.c[j] + in[j]*n[j]
		}
		o := sum(1, logistic, 1, r.c)
		for j := range next {
			next[j] = o[j] * math.Tanh(r.c[j])
		}
	}
	r.h = next
}

func (r *recurrentReference) clip(v float64) float64 {
	if c := float64(r.s.Clip); c > 0 {
		return min(max(v, -c), c)
	}
	return v
}

// TestRecurrent compares every cell, with and without each of its options,
// with the formulas in float64; packed and computed weights give the same
// bits in the generic tier.
func TestRecurrent(t *testing.T) {
	for i := range 96 {
		bit := func(k int) bool { return i>>k&1 == 1 }
		s := RecurrentShape{
			Cell: Cell(i % 3), Steps: 4, Batch: 3, Input: 5, Hidden: 6, Reverse: []bool{bit(0)},
			BatchFirst: bit(1), ResetAfter: bit(2), Coupled: bit(3),
		}
		if bit(4) {
			s.Reverse = []bool{false, true}
		}
		if bit(5) {
			s.Clip = 0.4
		}
		t.Run(fmt.Sprintf("%d", i), func(t *testing.T) { checkRecurrent(t, s, bit(3), bit(0), uint64(i)) })
	}
}

func checkRecurrent(t *testing.T, s RecurrentShape, lengths, extras bool, seed uint64) {
	rng := rand.New(rand.NewPCG(seed, 1))
	random := func(n int) []float32 {
		v := make([]float32, n)
		for i := range v {
			v[i] = float32(rng.NormFloat64() / 2)
		}
		return v
	}
	for range s.Reverse {
		f := []Unary{Sigmoid, Tanh, Tanh}[:cellActivations[s.Cell]]
		if s.Cell == CellRNN {
			f = []Unary{Tanh}
		}
		s.Activations = append(s.Activations, f...)
	}
	d, n := len(s.Reverse), s.Cell.Gates()*s.Hidden
	in := RecurrentInputs{X: random(s.Steps * s.Batch * s.Input), W: random(d * n * s.Input), R: random(d * n * s.Hidden)}
	if extras {
		in.B, in.H = random(d*2*n), random(d*s.Batch*s.Hidden)
		if s.Cell == CellLSTM {
			in.C, in.Peephole = random(d*s.Batch*s.Hidden), random(d*3*s.Hidden)
		}
	}
	if lengths {
		in.Lengths = []int32{4, 2, 0}
	}
	run := func(packed bool) RecurrentOutputs {
		r, err := NewRecurrent(s)
		if err != nil {
			t.Fatal(err)
		}
		given := in
		if packed {
			if err := r.Pack(Target{}, in.W, in.R, in.B); err != nil {
				t.Fatal(err)
			}
			given.W, given.R, given.B = nil, nil, nil
		}
		out := RecurrentOutputs{make([]float32, s.Steps*d*s.Batch*s.Hidden), make([]float32, d*s.Batch*s.Hidden), make([]float32, d*s.Batch*s.Hidden)}
		scratch := make([]byte, r.Scratch()+8)
		for range 2 { // the second run starts from what the first left in scratch
			if err := r.Run(out, given, view[byte](scratch)[:r.Scratch()]); err != nil {
				t.Fatal(err)
			}
		}
		return out
	}
	got, same := run(false), run(true)
	for i := range got.Y {
		if got.Y[i] != same.Y[i] {
			t.Fatalf("computed and packed weights differ: %v and %v", got.Y[i], same.Y[i])
		}
	}
	full := &Recurrent{RecurrentShape: s}
	full.directions, full.gates = d, s.Cell.Gates()
	near := func(what string, got float32, want float64) {
		if math.Abs(float64(got)-want) > 1e-5 {
			t.Fatalf("%s: %v, want %v", what, got, want)
		}
	}
	for dir := range d {
		for b := range s.Batch {
			r := &recurrentReference{s: s, w: part(in.W, dir, n*s.Input), u: part(in.R, dir, n*s.Hidden), b: part(in.B, dir, 2*n), p: part(in.Peephole, dir, 3*s.Hidden)}
			r.h, r.c = make([]float64, s.Hidden), make([]float64, s.Hidden)
			for j := range r.h {
				if in.H != nil {
					r.h[j] = float64(in.H[full.state(b, dir)+j])
				}
				if in.C != nil {
					r.c[j] = float64(in.C[full.state(b, dir)+j])
				}
			}
			for step := range s.Steps {
				at, ok := full.at(in.Lengths, step, b, dir)
				if !ok {
					near("beyond the end", got.Y[full.place(step, b, dir)], 0)
					continue
				}
				r.step(in.X[full.row(at, b)*s.Input:][:s.Input])
				for j, v := range r.h {
					near("y", got.Y[full.place(at, b, dir)+j], v)
				}
			}
			for j, v := range r.h {
				near("last h", got.H[full.state(b, dir)+j], v)
				if s.Cell == CellLSTM {
					near("last c", got.C[full.state(b, dir)+j], r.c[j])
				}
			}
		}
	}
}

func TestRecurrentRefuses(t *testing.T) {
	good := RecurrentShape{Cell: CellGRU, Steps: 2, Batch: 1, Input: 2, Hidden: 3, Reverse: []bool{false}, Activations: []Unary{Sigmoid, Tanh}}
	for name, spoil := range map[string]func(*RecurrentShape){
		"no batch":       func(s *RecurrentShape) { s.Batch = 0 },
		"steps":          func(s *RecurrentShape) { s.Steps = -1 },
		"huge":           func(s *RecurrentShape) { s.Hidden = maxAxis },
		"no directions":  func(s *RecurrentShape) { s.Reverse = nil },
		"one activation": func(s *RecurrentShape) { s.Activations = s.Activations[:1] },
	} {
		s := good
		spoil(&s)
		if _, err := NewRecurrent(s); err == nil {
			t.Errorf("%s is accepted", name)
		}
	}
	r, err := NewRecurrent(good)
	if err != nil {
		t.Fatal(err)
	}
	if r.Pack(Target{}, nil, nil, nil) == nil {
		t.Error("no weights are accepted")
	}
	in := RecurrentInputs{X: make([]float32, 4), W: make([]float32, 18), R: make([]float32, 27), Lengths: []int32{3}}
	if r.Run(RecurrentOutputs{}, in, make([]byte, r.Scratch())) == nil {
		t.Error("a sequence longer than its steps is accepted")
	}
	for _, name := range []string{"Relu", "Affine", "ThresholdedRelu", "ScaledTanh", "Elu", "Softsign", "Softplus", "LeakyRelu", "HardSigmoid"} {
		f, ok := Activation(Target{}, name, 1, 1)
		if !ok {
			t.Fatal(name)
		}
		v := []float32{-0.5, 0, 2}
		f(v, v)
		want := map[string][]float64{
			"Relu": {0, 0, 2}, "Affine": {0.5, 1, 3}, "ThresholdedRelu": {0, 0, 2}, "LeakyRelu": {-0.5, 0, 2}, "HardSigmoid": {0.5, 1, 1},
			"ScaledTanh": {math.Tanh(-0.5), 0, math.Tanh(2)}, "Elu": {math.Expm1(-0.5), 0, 2}, "Softsign": {-1.0 / 3, 0, 2.0 / 3},
			"Softplus": {math.Log1p(math.Exp(-0.5)), math.Ln2, math.Log1p(math.Exp(2))},
		}[name]
		for i := range v {
			if math.Abs(float64(v[i])-want[i]) > 1e-6 {
				t.Errorf("%s: %v, want %v", name, v, want)
			}
		}
	}
	if _, ok := Activation(Target{}, "Frobnicate", 0, 0); ok {
		t.Error("Frobnicate is a function")
	}
}
