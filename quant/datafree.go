package quant

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"

	"dunlin/model"
)

// Bounds are the least and the greatest value that an input takes: of a
// picture, what its preprocessing makes of black and of white. (0 - mean)/std
// and (1 - mean)/std, say.
type Bounds struct{ Low, High float32 }

// FreeReport says what ranges without samples come from.
type FreeReport struct {
	Norms  int `json:"norms"`  // batch normalisations that gave each channel its mean and its deviation
	Layers int `json:"layers"` // with weights, in all

	// Weak are layers that no batch normalisation stands behind, in the
	// order of the graph: their ranges are those that made-up inputs gave. A
	// graph that was folded already has no other.
	Weak []string `json:"weak,omitempty"`
}

// DataFree returns ranges as Calibrate does, without samples: it makes up
// inputs within bounds, one pair for each input, and runs g on them with each
// BatchNormalization in training mode. Whatever the inputs were, a channel
// behind it has the mean beta and the deviation gamma that it had in training,
//
//	E[x] = beta    Var[x] = gamma^2
//
// and what lies between two normalisations is what the graph makes of such
// values: behind a Relu the mean is gamma*phi(-beta/gamma) +
// beta*(1-Phi(-beta/gamma)) where x is normal, which is the mean that bias
// correction then removes (Nagel et al. 2019, arXiv:1906.04721, section 4.2
// and appendix C; there it is computed by that formula and each range is beta
// +- 6 gamma, here both are counted, through any operator). Made-up inputs are
// pictures of smooth random fields and noise where an input has the axes of
// one, else noise.
//
// Without batch normalisation, as in a graph whose exporter folded it, all
// that is left is the made-up inputs, and the report says so: expect a larger
// loss, and look for samples. The same graph and bounds give the same bits. g
// must take a batch: axis 0 of each input is the samples.
func DataFree(g *model.Graph, bounds []Bounds, o Options) (*Ranges, *FreeReport, error) {
	r, rep, err := dataFree(g, bounds, o)
	if err != nil {
		return nil, nil, fmt.Errorf("ranges of %s without samples: %w", g.Name, err)
	}
	return r, rep, nil
}

func dataFree(g *model.Graph, bounds []Bounds, o Options) (*Ranges, *FreeReport, error) {
	if err := o.check(); err != nil {
		return nil, nil, err
	}
	if len(bounds) != len(g.Inputs) {
		return nil, nil, fmt.Errorf("%d bounds for %d inputs", len(bounds), len(g.Inputs))
	}
	for i, b := range bounds {
		if v := g.Value(g.Inputs[i]); v.Type != model.F32 || len(v.Shape) < 2 || !(b.High > b.Low) || math.IsInf(float64(b.High-b.Low), 0) {
			return nil, nil, fmt.Errorf("input %s, %v %v from %g to %g: want float32 [N, ...] between two numbers", g.Inputs[i], v.Type, v.Shape, b.Low, b.High)
		}
	}
	folded, err := prepare(g)
	if err != nil {
		return nil, nil, err
	}
	shapes, err := shapesOf(folded, Options{})
	if err != nil {
		return nil, nil, err
	}
	h, rep := unsettled(g, folded)
	m := &maker{g: h, bounds: bounds, batch: batchFor(shapes)}
	for i := range h.Inputs {
		v := *h.Value(h.Inputs[i])
		v.Shape = m.shape(i)
		h.Values[h.Inputs[i]] = &v
	}
	r := &Ranges{values: map[string]*Histogram{}, means: map[string]*means{}}
	if err := r.observe(h, func(v string) bool { return shapes[v] != nil }, m.next, freeRounds, o); err != nil {
		return nil, nil, fmt.Errorf("a batch of %d: %w", m.batch, err)
	}
	r.Samples = freeRounds * m.batch
	return r, rep, nil
}

// unsettled returns a copy of g whose batch normalisations take the mean and
// the variance of the batch, and says which layers of the folded graph none
// stands behind.
func unsettled(g, folded *model.Graph) (*model.Graph, *FreeReport) {
	h, rep := foldBias(foldReshapes(g)), &FreeReport{}
	norm := map[string]bool{}
	for _, n := range h.Nodes {
		if n.Op == "BatchNormalization" && len(n.In) == 5 {
			if n.Attrs == nil {
				n.Attrs = map[string]model.Attr{}
			}
			n.Attrs["training_mode"], n.Out = int64(1), n.Out[:1]
			norm[n.Out[0]] = true
			rep.Norms++
		}
	}
	for _, n := range folded.Nodes {
		if layerOf(folded, n) != nil {
			if rep.Layers++; !norm[n.Out[0]] {
				rep.Weak = append(rep.Weak, n.Name)
			}
		}
	}
	return h, rep
}

// freeRounds batches are run, each of freeMost pictures, or of fewer where a
// value of one would take more than freeBytes: a normalisation sees no less
// than freeLeast.
const (
	freeRounds = 4
	freeMost   = 32
	freeLeast  = 4
	freeBytes  = 48 << 20
)

func batchFor(shapes map[string]model.Shape) int {
	most := 1
	for _, s := range shapes {
		if n, err := s.Elements(); err == nil {
			most = max(most, n)
		}
	}
	return max(freeLeast, min(freeMost, freeBytes/4/most))
}

// maker makes up inputs.
type maker struct {
	g      *model.Graph
	bounds []Bounds
	batch  int
}

// MakeUp returns the i-th batch of made-up inputs within bounds, the same each
// time: those of DataFree.
func MakeUp(g *model.Graph, bounds []Bounds, batch, i int) ([]*model.Tensor, error) {
	if len(bounds) != len(g.Inputs) {
		return nil, fmt.Errorf("make up inputs of %s: %d bounds for %d inputs", g.Name, len(bounds), len(g.Inputs))
	}
	return (&maker{g: g, bounds: bounds, batch: batch}).next(i)
}

// shape returns the shape of a batch of input i: an axis that is not known
// has one element.
func (m *maker) shape(i int) model.Shape {
	s := slices.Clone(m.g.Value(m.g.Inputs[i]).Shape)
	for a, d := range s {
		if d == model.Unknown {
			s[a] = 1
		}
	}
	s[0] = m.batch
	return s
}

// next returns the round-th batch.
func (m *maker) next(round int) ([]*model.Tensor, error) {
	r := rand.New(rand.NewPCG(0x64756e6c696e, uint64(round)))
	var all []*model.Tensor
	for i := range m.g.Inputs {
		t, err := model.NewTensor(model.F32, m.shape(i)...)
		if err != nil {
			return nil, err
		}
		b := m.bounds[i]
		if s := t.Shape; len(s) == 4 && s[2] > 1 && s[3] > 1 {
			plane := s[2] * s[3]
			for n := range s[0] {
				m.picture(r, t.F32()[n*s[1]*plane:(n+1)*s[1]*plane], s[1], s[2], s[3])
			}
		} else {
			for j := range t.F32() {
				t.F32()[j] = float32(r.Float64())
			}
		}
		for j, v := range t.F32() {
			t.F32()[j] = b.Low + float32(v*(b.High-b.Low))
		}
		all = append(all, t)
	}
	return all, nil
}

// picture fills v, planes of h rows of w, with values from 0 to 1: a sum of
// fields of random corners with lines between them, from one that spans the
// picture to one of a few pixels, each of half the strength of the one
// before it at half the distance, as the spectrum of photographs falls; the
// planes are alike. The contrast is random, and what is beyond 0 and 1 is cut.
func (m *maker) picture(r *rand.Rand, v []float32, planes, h, w int) {
	contrast, light := .5+r.Float64(), .2+.6*r.Float64()
	sum := make([]float64, h*w)
	field := func(into []float64, strength float64, cells int) {
		grid := make([]float64, (cells+1)*(cells+1))
		for i := range grid {
			grid[i] = r.NormFloat64()
		}
		for y := range h {
			fy, iy := split(y, h, cells)
			for x := range w {
				fx, ix := split(x, w, cells)
				at := iy*(cells+1) + ix
				top := grid[at] + float64(fx*(grid[at+1]-grid[at]))
				low := grid[at+cells+1] + float64(fx*(grid[at+cells+2]-grid[at+cells+1]))
				into[y*w+x] += float64(strength * (top + float64(fy*(low-top))))
			}
		}
	}
	for cells, strength := 1, .5; cells <= max(h, w); cells, strength = 2*cells, strength/math.Sqrt2 {
		field(sum, strength, cells)
	}
	for p := range planes {
		own := slices.Clone(sum)
		field(own, .2, 2)
		for i, s := range own {
			v[p*h*w+i] = float32(min(1, max(0, light+float64(contrast*s))))
		}
	}
}

// split returns where the middle of pixel i of n lies among cells: in which,
// and how far in it.
func split(i, n, cells int) (within float64, cell int) {
	at := (float64(i) + .5) / float64(n) * float64(cells)
	cell = min(int(at), cells-1)
	return at - float64(cell), cell
}
