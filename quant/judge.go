package quant

import (
	"fmt"
	"math"
	"slices"

	"dunlin/model"
)

// What a judge keeps of samples, and apart from that of the float model's
// outputs. Samples beyond it are asked for again for each graph; fewer samples
// are used where the outputs of all would not fit.
const (
	sampleBytes = 2 << 20
	outputBytes = 6 << 20
)

// judge says how far the outputs of a lowered graph are from those of the
// float graph, on the same samples and without labels.
type judge struct {
	next  func(i int) ([]*model.Tensor, error)
	at    []int             // which samples
	kept  [][]*model.Tensor // the first of them
	want  [][]*model.Tensor // of each sample: the float model's outputs
	kinds []divergence      // of each output
	mean  []float64         // of each output, over all samples
	names []string          // of the outputs
	size  int               // bytes of what is kept
	seen  func(graphs int)  // called after each graph
	rest  func(*model.Tensor)
	done  int // graphs
}

// divergence is how an output is compared.
type divergence string

const (
	distributions divergence = "kl of distributions" // a Softmax makes it
	logarithms    divergence = "kl of logarithms"    // a LogSoftmax makes it
	scores        divergence = "kl of scores"        // it would go into a Softmax
	chances       divergence = "kl of probabilities" // a Sigmoid makes it
	plain         divergence = "squared error"       // over twice the variance: the KL of normal distributions so far apart
	integers      divergence = "share that differs"  // not float
)

// newJudge runs the prepared float graph g on samples of n, evenly spread.
func newJudge(g *model.Graph, next func(i int) ([]*model.Tensor, error), n int, o FrontOptions) (*judge, error) {
	j := &judge{next: next, rest: o.Rest, names: g.Outputs, mean: make([]float64, len(g.Outputs))}
	for _, out := range g.Outputs {
		j.kinds = append(j.kinds, kindOf(g, out, o.Logits))
	}
	want := o.Samples
	if want <= 0 {
		want = frontSamples
	}
	want = min(want, n)
	j.at = drawn(want, n)
	run, outputs := newRunner(g, o.Options, nil), 0
	for k := range j.at {
		in, err := j.sample(k)
		if err == nil {
			err = run.run(in)
		}
		if err != nil {
			return nil, fmt.Errorf("sample %d: %w", j.at[k], err)
		}
		var out []*model.Tensor
		for i := range g.Outputs {
			t := run.session.Output(i).Clone()
			out, outputs = append(out, t), outputs+len(t.Data)
		}
		if outputs > outputBytes && k > 0 {
			j.at, j.kept = j.at[:k], j.kept[:min(k, len(j.kept))]
			break
		}
		j.want = append(j.want, out)
	}
	return j, j.settle()
}

// settle fills in the means of the outputs, and tells outputs that are not
// float.
func (j *judge) settle() error {
	for o := range j.kinds {
		sum, count := 0.0, 0
		for _, out := range j.want {
			if out[o].Type != model.F32 {
				j.kinds[o] = integers
				break
			}
			for _, v := range out[o].F32() {
				if v-v != 0 {
					return fmt.Errorf("output %s of the float model: %w", j.names[o], ErrRange)
				}
				sum += float64(v)
			}
			count += out[o].Elements()
		}
		if count > 0 {
			j.mean[o] = sum / float64(count)
		}
	}
	return nil
}

// kindOf returns how an output is compared, by what makes it; moves of data
// between are looked through.
func kindOf(g *model.Graph, out string, logits bool) divergence {
	made := g.Producers()
	n := made[out]
	for n != nil && slices.Contains([]string{"Identity", "Flatten", "Reshape", "Squeeze", "Unsqueeze", "Transpose"}, n.Op) {
		n = made[n.In[0]]
	}
	switch {
	case n == nil:
	case n.Op == "Softmax":
		return distributions
	case n.Op == "LogSoftmax":
		return logarithms
	case n.Op == "Sigmoid":
		return chances
	}
	if logits {
		return scores
	}
	return plain
}

// sample returns the k-th of the samples used.
func (j *judge) sample(k int) ([]*model.Tensor, error) {
	if k < len(j.kept) {
		return j.kept[k], nil
	}
	in, err := j.next(j.at[k])
	if err != nil {
		return nil, err
	}
	size := 0
	for _, t := range in {
		size += len(t.Data)
	}
	if k == len(j.kept) && j.size+size <= sampleBytes {
		own := make([]*model.Tensor, len(in))
		for i, t := range in {
			own[i] = t.Clone()
		}
		j.kept, j.size = append(j.kept, own), j.size+size
	}
	return in, nil
}

// divergence returns how far q's outputs are from the float model's: for
// each output the mean over all its distributions, or elements, of all
// samples, in nats, and the sum of that over the outputs.
func (j *judge) divergence(q *model.Graph) (float64, error) {
	run := newRunner(q, Options{Rest: j.rest}, nil)
	far, weight := make([]float64, len(j.kinds)), make([]float64, len(j.kinds))
	for k := range j.at {
		in, err := j.sample(k)
		if err == nil {
			err = run.run(in)
		}
		if err != nil {
			return 0, fmt.Errorf("sample %d: %w", j.at[k], err)
		}
		for o, want := range j.want[k] {
			got := run.session.Output(o)
			if got.Type != want.Type || len(got.Data) != len(want.Data) {
				return 0, fmt.Errorf("sample %d: output %s is %v %v, the float model's is %v %v", j.at[k], j.names[o], got.Type, got.Shape, want.Type, want.Shape)
			}
			f, w := j.compare(o, want, got)
			far[o], weight[o] = far[o]+f, weight[o]+w
		}
	}
	sum := 0.0
	for o := range far {
		if weight[o] > 0 {
			sum += far[o] / weight[o]
		}
	}
	if j.done++; j.seen != nil {
		j.seen(j.done)
	}
	if sum-sum != 0 { // an output is no number: worse than all that are
		return unbounded, nil
	}
	return math.Max(0, sum), nil
}

// unbounded stands for a divergence that is infinite or no number, which JSON
// does not have and which no order holds.
const unbounded = 1e9

// compare returns the distance of an output from what is wanted, summed over
// its distributions or elements, and how many these are.
func (j *judge) compare(o int, want, got *model.Tensor) (far, weight float64) {
	if j.kinds[o] == integers {
		size := want.Type.Size()
		for i := range want.Elements() {
			if string(want.Data[i*size:(i+1)*size]) != string(got.Data[i*size:(i+1)*size]) {
				far++
			}
		}
		return far, float64(want.Elements())
	}
	p, q := want.F32(), got.F32()
	switch j.kinds[o] {
	case scores:
		classes := len(p)
		if s := want.Shape; len(s) > 0 {
			classes = s[len(s)-1]
		}
		for i := 0; i+classes <= len(p) && classes > 0; i += classes {
			far += scoresKL(p[i:i+classes], q[i:i+classes])
			weight++
		}
	case distributions:
		for i := range p {
			far += term(float64(p[i]), float64(q[i]))
			weight += float64(p[i]) // each distribution sums to 1
		}
	case logarithms:
		for i := range p {
			e := math.Exp(float64(p[i]))
			far += float64(e * (float64(p[i]) - float64(q[i])))
			weight += e
		}
	case chances:
		for i := range p {
			far += term(float64(p[i]), float64(q[i])) + term(1-float64(p[i]), 1-float64(q[i]))
			weight++
		}
	default:
		for i := range p {
			d, s := float64(p[i])-float64(q[i]), float64(p[i])-j.mean[o]
			far += float64(d*d) / 2
			weight += float64(s * s)
		}
	}
	return far, weight
}

// leastChance stands for a probability that float32 rounds to 0.
const leastChance = 1e-12

// term is one term of a KL divergence, p log(p/q).
func term(p, q float64) float64 {
	if !(p > 0) {
		return 0
	}
	return p * math.Log(p/math.Max(q, leastChance))
}

// scoresKL is the KL divergence of the softmax of q from that of p.
func scoresKL(p, q []float32) float64 {
	lp, lq := logSum(p), logSum(q)
	sum := 0.0
	for i := range p {
		a, b := float64(p[i])-lp, float64(q[i])-lq
		sum += float64(math.Exp(a) * (a - b))
	}
	return sum
}

// logSum is the logarithm of the sum of exponentials.
func logSum(v []float32) float64 {
	most := float64(slices.Max(v))
	sum := 0.0
	for _, x := range v {
		sum += math.Exp(float64(x) - most)
	}
	return most + math.Log(sum)
}
