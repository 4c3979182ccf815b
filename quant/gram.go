package quant

import (
	"math/rand/v2"

	"dunlin/model"
)

// gram is the sum of x xᵀ over inputs x of a layer: what a weight sees at one
// position of a convolution, or one row of a matrix. With it the squared
// error of the layer's outputs is a quadratic form of the weights' errors,
// and no input need be kept:
//
//	sum over x of (e·x)² = e G eᵀ
//
// A convolution in groups has one for each group.
type gram struct {
	layer *layer
	depth int         // of x
	sums  [][]float32 // of each group, nil until the first x: [depth, depth], the lower triangle until done
	means [][]float64 // of each group: the sum of x
	count int         // of x
	rows  int         // wanted of each sample
	x     []float32
	rand  *rand.Rand // chooses the positions
}

// The limits of a gram. Above gramDepth the matrix would take more than
// 16 MiB; gramRows times the depth is how many inputs it is made of.
const (
	gramDepth = 2048

	// gramElements bounds the matrices of all groups of a layer.
	gramElements = 4 << 20
	gramRows     = 3
)

// newGram returns an empty one for samples of which there will be n, nil
// where the layer is too deep, or of a form whose inputs are not looked at. Its
// matrices take their memory when the first input comes, for those of all layers
// are more than are gathered at once.
func newGram(l *layer, seed uint64, n int) *gram {
	depth, groups := l.weight.Elements()/l.channels, 1
	if l.node.Op == "Conv" {
		groups = int(l.node.Int("group", 1))
		if len(l.weight.Shape) > 4 || groups < 1 || l.channels%groups != 0 || l.node.Str("auto_pad", "NOTSET") != "NOTSET" {
			return nil
		}
	}
	if depth > gramDepth || depth*depth*groups > gramElements {
		return nil
	}
	want := max(512, gramRows*depth)
	g := &gram{layer: l, depth: depth, rows: (want + n - 1) / n, x: make([]float32, depth), rand: rand.New(rand.NewPCG(seed, 0))}
	g.sums, g.means = make([][]float32, groups), make([][]float64, groups)
	return g
}

// matrix returns that of a group.
func (g *gram) matrix(group int) []float32 {
	if g.sums[group] == nil {
		g.sums[group], g.means[group] = make([]float32, g.depth*g.depth), make([]float64, g.depth)
	}
	return g.sums[group]
}

// free gives the matrices up.
func (g *gram) free() { clear(g.sums); clear(g.means) }

// bytes is the memory that it takes.
func (g *gram) bytes() int { return 4 * g.depth * g.depth * len(g.sums) }

// add takes an input of the layer into account, or some of its rows.
func (g *gram) add(t *model.Tensor) {
	if g.layer.node.Op == "Conv" {
		g.addConv(t)
		return
	}
	rows := t.Elements() / g.depth
	if len(t.Shape) == 0 || t.Shape[len(t.Shape)-1] != g.depth {
		return
	}
	for range min(rows, g.rows) {
		at := 0
		if rows > 1 {
			at = g.rand.IntN(rows)
		}
		copy(g.x, t.F32()[at*g.depth:])
		g.sum(0)
	}
}

// sum adds g.x to a group's matrix.
func (g *gram) sum(group int) {
	m := g.matrix(group)
	if group == 0 {
		g.count++
	}
	for i, a := range g.x {
		if a == 0 {
			continue
		}
		g.means[group][i] += float64(a)
		row := m[i*g.depth : i*g.depth+i+1]
		for j, b := range g.x[:i+1] {
			row[j] += float32(a * b)
		}
	}
}

// done fills in the upper triangles. Where the bias will make up for the mean
// error, only the spread around the mean is left to count. Of few inputs, what
// they have in common is chance: the products of different elements count
// less, the fewer there were for the depth (shrinkage towards the diagonal:
// Ledoit & Wolf 2004, J. Multivariate Anal. 88).
func (g *gram) done() {
	keep := float32(float64(g.count) / float64(g.count+g.depth))
	for group := range g.sums {
		m := g.matrix(group)
		if g.layer.node.Op != "MatMul" && g.count > 0 {
			mean := g.means[group]
			for i := range g.depth {
				for j := range i + 1 {
					m[i*g.depth+j] -= float32(mean[i] * mean[j] / float64(g.count))
				}
			}
		}
		for i := range g.depth {
			for j := range i {
				m[i*g.depth+j] *= keep
				m[j*g.depth+i] = m[i*g.depth+j]
			}
		}
	}
}

// plane is the geometry of a convolution over two axes; one axis is a plane
// of height 1.
type plane struct {
	channels, high, wide int // of the input
	kh, kw               int
	strides, pads, steps [2]int // pads at the begin; steps between taps
	outHigh, outWide     int
}

func ints(list []int64, n int, or int) []int {
	out := make([]int, n)
	for i := range out {
		out[i] = or
		if i < len(list) {
			out[i] = int(list[i])
		}
	}
	return out
}

// planeOf returns that of a Conv for an input, ok false where they do not fit.
func planeOf(l *layer, in model.Shape) (p plane, ok bool) {
	axes := len(l.weight.Shape) - 2
	if len(in) != axes+2 {
		return p, false
	}
	kernel := l.weight.Shape[2:]
	strides, steps := ints(l.node.Ints("strides"), axes, 1), ints(l.node.Ints("dilations"), axes, 1)
	pads := ints(l.node.Ints("pads"), 2*axes, 0)
	size, taps, out := [2]int{1, 1}, [2]int{1, 1}, [2]int{1, 1}
	p.strides, p.steps = [2]int{1, 1}, [2]int{1, 1}
	for a := range axes {
		i := 2 - axes + a
		size[i], taps[i], p.strides[i], p.steps[i], p.pads[i] = in[2+a], kernel[a], strides[a], steps[a], pads[a]
		out[i] = (size[i]+pads[a]+pads[axes+a]-(taps[i]-1)*steps[a]-1)/strides[a] + 1
	}
	p.channels, p.high, p.wide, p.kh, p.kw, p.outHigh, p.outWide = in[1], size[0], size[1], taps[0], taps[1], out[0], out[1]
	return p, p.outHigh > 0 && p.outWide > 0
}

func (g *gram) addConv(t *model.Tensor) {
	p, ok := planeOf(g.layer, t.Shape)
	perGroup := g.layer.weight.Shape[1]
	if !ok || p.channels != perGroup*len(g.sums) {
		return
	}
	size := p.channels * p.high * p.wide
	for range min(g.rows, t.Shape[0]*p.outHigh*p.outWide) {
		n, y, x := g.rand.IntN(t.Shape[0]), g.rand.IntN(p.outHigh), g.rand.IntN(p.outWide)
		picture := t.F32()[n*size : (n+1)*size]
		for group := range g.sums {
			p.patch(g.x, picture[group*perGroup*p.high*p.wide:], y, x)
			g.sum(group)
		}
	}
}

// patch copies what the kernel sees at an output position, in the order of
// the weights.
func (p *plane) patch(to, picture []float32, y, x int) {
	i := 0
	for c := 0; i < len(to); c++ {
		for ky := range p.kh {
			for kx := range p.kw {
				iy, ix := y*p.strides[0]-p.pads[0]+ky*p.steps[0], x*p.strides[1]-p.pads[1]+kx*p.steps[1]
				to[i] = 0
				if iy >= 0 && iy < p.high && ix >= 0 && ix < p.wide {
					to[i] = picture[(c*p.high+iy)*p.wide+ix]
				}
				i++
			}
		}
	}
}
