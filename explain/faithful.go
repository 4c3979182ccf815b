package explain

import (
	"cmp"
	"errors"
	"math"
	"math/rand/v2"
	"slices"
)

// Faithfulness is how the score of a class changes while a picture is taken
// apart in the order of a map (Petsiuk et al. 2018, arXiv:1806.07421, section
// 4.2, "causal metric").
type Faithfulness struct {
	// Deletion is the area under the score while the pixels of the highest
	// values are replaced first, by the picture's mean colour: the lower, the
	// better the map says what counted.
	Deletion float64
	// Insertion is the area while they are uncovered first, on a blurred copy
	// of the picture: the higher, the better.
	Insertion float64
}

// faithfulSteps is into how many equal parts the pixels are cut; the paper's
// 224 x 8 pixels a step are 28.
const faithfulSteps = 28

// Measure takes a picture apart in the order of m, and puts it together. The
// order of pixels of one value is chosen by seed; so is all of it where m is
// nil. The score is the class's own, as the
// network gives it. It takes 2 x 29 runs.
func (n *Network) Measure(x []float32, class int, m *Map, seed uint64) (Faithfulness, error) {
	if class < 0 || class >= n.classes {
		return Faithfulness{}, ErrClass
	}
	p := n.plane()
	order := p.order(m, seed)
	deletion, err := n.area(x, n.MeanPicture(x), order, class)
	if err != nil {
		return Faithfulness{}, err
	}
	insertion, err := n.area(p.blur(x), x, order, class)
	return Faithfulness{deletion, insertion}, err
}

// Shuffled returns the map with its cells in an order chosen by seed: as coarse,
// with the same values, and with no idea of where. That is the chance that a map
// has to beat: an order of single pixels spoils every texture at once, and so
// deletes more than a coarse map can, wherever it begins.
func (m *Map) Shuffled(seed uint64) *Map {
	c := *m
	c.Values = slices.Clone(m.Values)
	rand.New(rand.NewPCG(seed, 0x73687566)).Shuffle(len(c.Values), func(i, j int) { c.Values[i], c.Values[j] = c.Values[j], c.Values[i] })
	return &c
}

// order returns the pixels, those of the highest values first.
func (p plane) order(m *Map, seed uint64) []int {
	random := rand.New(rand.NewPCG(seed, 0x6661697468))
	order := random.Perm(p.width * p.height)
	if m == nil {
		return order
	}
	values := make([]float64, len(order))
	for i := range values {
		values[i] = m.At((float64(i%p.width)+0.5)/float64(p.width), (float64(i/p.width)+0.5)/float64(p.height))
	}
	slices.SortStableFunc(order, func(a, b int) int { return cmp.Compare(values[b], values[a]) })
	return order
}

// area returns the area under the score while the pixels of from become those
// of to, by the trapezoidal rule over a width of 1.
func (n *Network) area(from, to []float32, order []int, class int) (float64, error) {
	r, p := n.batched(from), n.plane()
	x := slices.Clone(from)
	batch := make([]float32, 0, r.batch*len(x))
	sum, step := 0.0, 0
	flush := func() error {
		if len(batch) == 0 {
			return nil
		}
		if err := r.run(batch); err != nil {
			return err
		}
		for i := range len(batch) / len(x) {
			v := float64(n.answer(r, i).Scores[class])
			if step == 0 || step == faithfulSteps {
				v /= 2
			}
			sum, step = sum+v, step+1
		}
		batch = batch[:0]
		return nil
	}
	for s := range faithfulSteps + 1 {
		if s > 0 {
			for _, i := range order[(s-1)*len(order)/faithfulSteps : s*len(order)/faithfulSteps] {
				for c := range p.channels {
					x[c*p.channel+i*p.pixel] = to[c*p.channel+i*p.pixel]
				}
			}
		}
		batch = append(batch, x...)
		if len(batch) == cap(batch) {
			if err := flush(); err != nil {
				return 0, err
			}
		}
	}
	err := flush()
	return sum / faithfulSteps, err
}

// blur returns x under a Gaussian whose standard deviation is a twentieth of
// the longer side (11 pixels of 224, near the paper's), so that what is there
// is seen and what it is is not.
func (p plane) blur(x []float32) []float32 {
	kernel := gaussian(float64(max(p.width, p.height)) / 20)
	out := slices.Clone(x)
	for c := range p.channels {
		smooth(out[c*p.channel:], p.width, p.height, p.pixel, p.pixel*p.width, kernel)
		smooth(out[c*p.channel:], p.height, p.width, p.pixel*p.width, p.pixel, kernel)
	}
	return out
}

// gaussian returns the weights from -3 to 3 standard deviations.
func gaussian(sigma float64) []float64 {
	reach := int(math.Ceil(3 * sigma))
	kernel := make([]float64, 2*reach+1)
	for i := range kernel {
		d := float64(i - reach)
		kernel[i] = math.Exp(-d * d / (2 * sigma * sigma))
	}
	return kernel
}

// smooth filters each of lines lines of length n in place; what lies beyond an
// end does not count.
func smooth(x []float32, n, lines, step, lineStep int, kernel []float64) {
	reach := len(kernel) / 2
	line := make([]float64, n)
	for l := range lines {
		at := x[l*lineStep:]
		for i := range line {
			sum, weight := 0.0, 0.0
			for k := max(0, i-reach); k <= min(n-1, i+reach); k++ {
				w := kernel[k-i+reach]
				sum, weight = sum+w*float64(at[k*step]), weight+w
			}
			line[i] = sum / weight
		}
		for i, v := range line {
			at[i*step] = float32(v)
		}
	}
}

// Paired is the mean of differences of pairs.
type Paired struct {
	Mean float64 `json:"mean"`
	Half float64 `json:"half"` // half the width of the 95 % interval about Mean
	N    int     `json:"n"`
}

// ErrPairs is returned by Pairs for lists that are no pairs, or too few.
var ErrPairs = errors.New("want two lists of the same length, of two or more")

// Pairs compares a with b on the same pictures: the mean of a[i] - b[i], with
// the normal interval of 95 % of a mean of n differences, which is fair from
// some thirty on.
func Pairs(a, b []float64) (Paired, error) {
	if len(a) != len(b) || len(a) < 2 {
		return Paired{}, ErrPairs
	}
	n := float64(len(a))
	mean, squares := 0.0, 0.0
	for i := range a {
		mean += (a[i] - b[i]) / n
	}
	for i := range a {
		d := a[i] - b[i] - mean
		squares += d * d
	}
	return Paired{mean, 1.96 * math.Sqrt(squares/(n-1)/n), len(a)}, nil
}
