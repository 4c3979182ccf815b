package recipe

import (
	"fmt"
	"math/rand/v2"

	"dunlin/model"
	"dunlin/model/prep"
	"dunlin/train"
)

// hidden is the width of the network that synthetic data come from.
const hidden = 32

// synthesise draws the data of s.
func (r *Recipe) synthesise(s *Synthetic, shape Shape) (*dataset, error) {
	if shape != nil && (len(shape) != 1 || shape[0] != s.Inputs) {
		return nil, r.at(badf("data.synthetic", "samples have %d numbers, the network takes %v", s.Inputs, shape))
	}
	held := (s.Samples + 3) / 4
	if n := int64(s.Samples+held) * int64(s.Inputs+s.Outputs) * 4; n > maxBytes {
		return nil, r.at(badf("data.synthetic.samples", "%d samples need %d bytes, at most %d are held in memory", s.Samples, n, int64(maxBytes)))
	}
	random := rand.New(rand.NewPCG(r.Train.Seed, 1<<63))
	a, b := make([]float32, hidden*s.Inputs), make([]float32, s.Outputs*hidden)
	draw(a, s.Inputs, hidden, "relu", random)
	draw(b, hidden, s.Outputs, "", random)
	x, y := make([]float32, (s.Samples+held)*s.Inputs), make([]float32, (s.Samples+held)*s.Outputs)
	inner := make([]float32, hidden)
	for i := range s.Samples + held {
		in, out := x[i*s.Inputs:][:s.Inputs], y[i*s.Outputs:][:s.Outputs]
		for j := range in {
			in[j] = normal(random)
		}
		for j := range inner {
			inner[j] = max(dot(a[j*s.Inputs:][:s.Inputs], in), 0)
		}
		for j := range out {
			out[j] = dot(b[j*hidden:][:hidden], inner) + float32(float32(s.Noise)*normal(random))
		}
	}
	part := func(from, n int) *train.Data {
		return &train.Data{
			Inputs: []train.Column{{Shape: model.Shape{s.Inputs}, Floats: x[from*s.Inputs:][:n*s.Inputs]}},
			Values: y[from*s.Outputs:][:n*s.Outputs],
		}
	}
	d := &dataset{shape: Shape{s.Inputs}, train: part(0, s.Samples), test: part(s.Samples, held)}
	d.input = prep.Input{Name: "values", Kind: "values", Layout: "flat", Scale: 1}
	for i := range s.Inputs {
		d.input.Fields = append(d.input.Fields, fmt.Sprintf("x%d", i+1))
	}
	return d, nil
}

// normal draws from a distribution with mean 0 and variance 1 that is normal
// but for its tails: a sum of twelve uniform numbers, the same bits on every
// CPU.
func normal(r *rand.Rand) float32 {
	sum := -6.0
	for range 12 {
		sum += r.Float64()
	}
	return float32(sum)
}

func dot(a, b []float32) float32 {
	var sum float32
	for i, v := range a {
		sum += float32(v * b[i])
	}
	return sum
}
