package head

import (
	"math"
	"math/rand/v2"
	"slices"

	"dunlin/kernels"
)

// How a head is fitted: Adam (Kingma, Ba 2015, arXiv:1412.6980) on batches,
// with a rate that falls to nothing along half a cosine. The rate is relative
// to the signed weights, so that it fits a network of any scale.
const (
	batchSize  = 32
	mostEpochs = 60
	leastEpoch = 8
	leastSteps = 300 // however few samples there are
	rate       = 0.1 // of the root mean square of the signed weights
	beta1      = 0.9
	beta2      = 0.999
	// pull is τ of the loss, which is the mean cross-entropy plus
	//	τ/n * E|x|^2/2 * |w-w0|^2        n samples, x the layer's input
	// so a prior worth a fixed number of samples, in units of what a change
	// of w does to a score.
	pull = 0.1
	// maxWeight bounds by how much a rare class counts for more than one of
	// average frequency.
	maxWeight = 5

	// workOfFit bounds the multiply-adds of one fit: where samples or weights
	// are many, epochs are fewer, and see fewer imagined samples. Beyond it go
	// only what a fit cannot do without: leastEpoch epochs, or leastSteps steps
	// where these are fewer, and one epoch.
	workOfFit     = 8e9
	leastImagined = 64
)

// net is a head in float: while it is trained, or as its graph has it.
type net struct {
	layers []*dense
	w, b   [][]float32 // of each layer
	grids  [][]grid    // of each layer, nil while it is trained
}

// signed returns the head with the weights that it was signed with; rounded:
// to the steps of its grids too.
func (h *Head) signed(rounded bool) *net {
	n := &net{layers: h.layers}
	for _, l := range h.layers {
		if rounded {
			n.grids = append(n.grids, l.grids)
		}
	}
	for _, l := range h.layers {
		n.w, n.b = append(n.w, slices.Clone(l.w)), append(n.b, slices.Clone(l.b))
	}
	return n
}

// batch is the memory of a forward and a backward run.
type batch struct {
	x      []float32   // [m, in] of the first layer
	class  []int       // [m]
	weight []float32   // [m]
	z      [][]float32 // [m, out] of each layer, after its Relu
	dz     [][]float32
	turned []float32 // dz of a layer as [out, m]
	dw, db [][]float32
	rest   func() error
}

// chunk is how many multiply-adds are done without a rest: a millisecond or so
// of a slow core.
const chunk = 1 << 20

// rows does the work of rows that take so many multiply-adds each, with a rest
// before each chunk.
func (b *batch) rows(rows, each int, do func(from, to int)) error {
	for from := 0; from < rows; {
		if err := b.rest(); err != nil {
			return err
		}
		to := min(rows, from+max(1, chunk/each))
		do(from, to)
		from = to
	}
	return nil
}

func newBatch(n *net, m int, rest func() error) *batch {
	b := &batch{rest: rest, x: make([]float32, m*n.layers[0].in), class: make([]int, m), weight: make([]float32, m)}
	most := 0
	for _, l := range n.layers {
		b.z, b.dz = append(b.z, make([]float32, m*l.out)), append(b.dz, make([]float32, m*l.out))
		b.dw, b.db = append(b.dw, make([]float32, l.out*l.in)), append(b.db, make([]float32, len(l.b)))
		most = max(most, m*l.out)
	}
	b.turned = make([]float32, most)
	return b
}

// forward computes the scores of the first m samples. Its error is a rest's.
func (n *net) forward(b *batch, m int) error {
	in := b.x
	for i, l := range n.layers {
		bias := n.b[i]
		if len(bias) == 0 {
			bias = nil
		}
		z := b.z[i][:m*l.out]
		err := b.rows(m, l.in*l.out, func(from, to int) {
			kernels.MatMulRowsF32(z[from*l.out:to*l.out], in[from*l.in:to*l.in], n.w[i], bias, to-from, l.out, l.in)
		})
		if err != nil {
			return err
		}
		if l.relu {
			for j, v := range z {
				z[j] = max(v, 0)
			}
		}
		if n.grids != nil {
			for _, g := range n.grids[i] {
				for j, v := range z {
					z[j] = g.round(v)
				}
			}
		}
		in = z
	}
	return nil
}

// backward computes the gradients of the mean weighted cross-entropy of the
// first m samples. It runs after forward. Its error is a rest's.
//
//	dz = weight * (softmax(z) - onehot(class)) / m
func (n *net) backward(b *batch, m int) error {
	last := len(n.layers) - 1
	classes := n.layers[last].out
	dz := b.dz[last][:m*classes]
	kernels.Softmax(dz, b.z[last][:m*classes], classes)
	for s := range m {
		row := dz[s*classes : (s+1)*classes]
		row[b.class[s]]--
		by := float32(b.weight[s] / float32(m))
		for c := range row {
			row[c] = float32(row[c] * by)
		}
	}
	for i := last; i >= 0; i-- {
		l, in := n.layers[i], b.x
		if i > 0 {
			in = b.z[i-1]
		}
		dz := b.dz[i][:m*l.out]
		if l.relu {
			for j, z := range b.z[i][:m*l.out] {
				if z <= 0 {
					dz[j] = 0
				}
			}
		}
		clear(b.db[i])
		turned := b.turned[:m*l.out]
		for s := range m {
			for c := range l.out {
				turned[c*m+s] = dz[s*l.out+c]
				if len(b.db[i]) > 0 {
					b.db[i][c] += dz[s*l.out+c]
				}
			}
		}
		err := b.rows(l.out, m*l.in, func(from, to int) {
			kernels.MatMulF32(b.dw[i][from*l.in:to*l.in], turned[from*m:to*m], in[:m*l.in], to-from, m, l.in)
		})
		if err == nil && i > 0 {
			err = b.rows(m, l.in*l.out, func(from, to int) {
				kernels.MatMulF32(b.dz[i-1][from*l.in:to*l.in], dz[from*l.out:to*l.out], n.w[i], to-from, l.out, l.in)
			})
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// toward adds the pull to the signed weights to the gradients. strength is τ/n,
// energy E|x|^2 of each layer's input.
func (n *net) toward(b *batch, strength float64, energy []float64) {
	for i, l := range n.layers {
		pullTo(b.dw[i], n.w[i], l.w, float32(strength*energy[i]))
		pullTo(b.db[i], n.b[i], l.b, float32(strength)) // a bias reads 1
	}
}

func pullTo(d, w, w0 []float32, by float32) {
	for i := range d {
		d[i] += float32(by * float32(w[i]-w0[i]))
	}
}

// adam is the optimiser's memory of one tensor.
type adam struct {
	m, v []float32
	rate float64
}

// step moves w against the gradient d. t is the number of the step, from 1.
func (a *adam) step(w, d []float32, t int, fall float64) {
	// float64 powers by multiplication: math.Pow is not the same everywhere.
	rate := float32(a.rate * fall * math.Sqrt(1-powInt(beta2, t)) / (1 - powInt(beta1, t)))
	const one1, one2 = float32(1 - beta1), float32(1 - beta2)
	for i, g := range d {
		m := float32(float32(a.m[i]*beta1) + float32(g*one1))
		v := float32(float32(a.v[i]*beta2) + float32(float32(g*g)*one2))
		a.m[i], a.v[i] = m, v
		w[i] -= float32(float32(rate*m) / float32(float32(math.Sqrt(float64(v)))+1e-8))
	}
}

func powInt(x float64, n int) float64 {
	y := 1.0
	for ; n > 0; n /= 2 {
		if n&1 == 1 {
			y = float64(y * x)
		}
		x = float64(x * x)
	}
	return y
}

// fit trains a copy of the signed head on samples, and in each epoch on some of
// those imagined. Its error is a rest's.
func (h *Head) fit(samples, imagined []Sample, seed uint64, rest func() error) (*net, error) {
	n := h.signed(false)
	b := newBatch(n, batchSize, rest)
	epochs, some := h.epochs(len(samples), len(imagined))
	weights := classWeights(samples, imagined, some, h.Classes)
	samples = slices.Concat(samples, imagined)
	energy, err := h.energies(n, b, samples)
	if err != nil {
		return nil, err
	}
	optimisers := n.optimisers(energy)
	random := rand.New(rand.NewPCG(seed, uint64(len(samples))))
	all, real := len(samples)-len(imagined)+some, len(samples)-len(imagined)
	batches := (all + batchSize - 1) / batchSize
	steps := batches * epochs
	var order []int
	for step := range steps {
		at := step % batches * batchSize
		if at == 0 {
			order = order[:0]
			for i := range real {
				order = append(order, i)
			}
			for _, i := range random.Perm(len(imagined))[:some] {
				order = append(order, real+i)
			}
			random.Shuffle(all, func(i, j int) { order[i], order[j] = order[j], order[i] })
		}
		picked := order[at:min(at+batchSize, all)]
		for j, s := range picked {
			h.Feature.values(b.x[j*h.Feature.Size:], samples[s].Feature)
			b.class[j], b.weight[j] = samples[s].Class, weights[samples[s].Class]
		}
		if err := n.forward(b, len(picked)); err != nil {
			return nil, err
		}
		if err := n.backward(b, len(picked)); err != nil {
			return nil, err
		}
		n.toward(b, pull/float64(all), energy)
		fall := (1 + kernels.Cosine(math.Pi*float64(step)/float64(steps))) / 2
		for i := range n.layers {
			optimisers[i][0].step(n.w[i], b.dw[i], step+1, fall)
			optimisers[i][1].step(n.b[i], b.db[i], step+1, fall)
		}
	}
	return n, nil
}

// epochs returns how often a fit sees each of n samples, and how many of those
// imagined an epoch sees.
func (h *Head) epochs(n, imagined int) (epochs, some int) {
	work := 0
	for _, l := range h.layers {
		work += 3 * l.in * l.out // forward, and two products backward
	}
	most := int(workOfFit / float64(work)) // samples that a fit can see, one at a time
	some = min(imagined, max(leastImagined, most/leastEpoch-n))
	batches := (n + some + batchSize - 1) / batchSize
	least := max(1, min(leastEpoch, leastSteps/batches))
	return min(max(mostEpochs, leastSteps/batches), max(least, most/(n+some))), some
}

// optimisers returns an adam for the weights and one for the bias of each
// layer. A bias moves relative to what the weights together add to a score.
func (n *net) optimisers(energy []float64) (all [][2]*adam) {
	for i, l := range n.layers {
		sum := 0.0
		for _, v := range l.w {
			sum += float64(float64(v) * float64(v))
		}
		rms := math.Max(math.Sqrt(sum/float64(len(l.w))), 1e-6)
		all = append(all, [2]*adam{
			{make([]float32, len(l.w)), make([]float32, len(l.w)), rate * rms},
			{make([]float32, len(l.b)), make([]float32, len(l.b)), rate * rms * math.Sqrt(energy[i])},
		})
	}
	return all
}

// energies returns the mean square length of each layer's input, as the
// signed head has it.
func (h *Head) energies(n *net, b *batch, samples []Sample) ([]float64, error) {
	sum := make([]float64, len(n.layers))
	for _, s := range samples {
		h.Feature.values(b.x, s.Feature)
		if err := n.forward(b, 1); err != nil {
			return nil, err
		}
		in := b.x
		for i, l := range n.layers {
			for _, v := range in[:l.in] {
				sum[i] += float64(float64(v) * float64(v))
			}
			in = b.z[i]
		}
	}
	for i := range sum {
		sum[i] = math.Max(sum[i]/float64(max(len(samples), 1)), 1e-12)
	}
	return sum, nil
}

// classWeights returns what a sample of each class counts: as much as makes
// classes equal, but for very rare ones, and 1 on average. An epoch sees all
// samples, and some of those imagined.
func classWeights(samples, imagined []Sample, some, classes int) []float32 {
	count := make([]float64, classes) // in an epoch, on average
	for _, s := range samples {
		count[s.Class]++
	}
	for _, s := range imagined {
		count[s.Class] += float64(some) / float64(len(imagined))
	}
	present, all := 0.0, float64(len(samples)+some)
	for _, n := range count {
		if n > 0 {
			present++
		}
	}
	weights, sum := make([]float32, classes), 0.0
	for c, n := range count {
		if n > 0 {
			w := math.Min(maxWeight, all/float64(present*n))
			weights[c] = float32(w)
			sum += float64(w * n)
		}
	}
	for c := range weights {
		weights[c] = float32(float64(weights[c]) * all / sum)
	}
	return weights
}
