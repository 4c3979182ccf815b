package train

import (
	"fmt"
	"math"
	"slices"

	"dunlin/kernels"
	"dunlin/model"
)

// Forward, a convolution is that of the engine, with its weights packed anew.
//
// The gradient of x is a convolution as well where the stride is 1: of dy, with
// the taps turned round and input and output channels in each other's place.
// Elsewhere, and for the weights, it is a product with patches, a row for each
// output pixel with all that its window reads:
//
//	dw = Σ dyᵀ · patches    chunks of pictures in order
//	dx = fold(dy · w)       each patch's gradient added where it was read
//
// Patches are made a few pictures at a time, so that they stay in the second
// cache. With a 1x1 kernel and no stride they are x itself.
type conv struct {
	x, w, bias *port
	y          *value
	geo        kernels.Geometry // N is 1
	net        *Net
	whole      *kernels.ConvF32 // forward, of the whole batch
	turned     *kernels.ConvF32 // the gradient of x, nil: by patches
	patches    patches
	weights    *kernels.Transpose // to [OC, KH, KW, C/Groups], and back
	restore    *kernels.Transpose
	packed     []float32 // w in that order
	round      []float32 // w as turned reads it: [C, KH, KW, OC]
	dPacked    []float32
	part       []float32 // dPacked of one chunk
	columns    []float32 // the patches of a chunk
	chunks     []convChunk
	sums       *columnSums
}

// convChunk is some pictures of the batch, and the products over their pixels.
type convChunk struct {
	first, count  int
	fold, weights *product
}

// patchFloats is about how many values of patches are made at once.
const patchFloats = 96 << 10

func makeConv(c *call) (step, error) {
	x, err := c.readIn(0, true)
	if err != nil {
		return nil, err
	}
	w, err := c.readIn(1, false)
	if err != nil {
		return nil, err
	}
	bias, err := c.optional(2)
	if err != nil {
		return nil, err
	}
	g, err := convGeometry(c, x.shape, w.shape)
	if err != nil {
		return nil, err
	}
	if bias != nil && len(bias.data) != g.OC {
		return nil, fmt.Errorf("bias %v for %d channels", bias.shape, g.OC)
	}
	y, err := c.write(0, spatial(x.shape[0], g.OC, &g, x.shape), true)
	if err != nil {
		return nil, err
	}
	if g.Depthwise() {
		return newDepthwise(c, x, w, bias, y, g)
	}
	s := &conv{x: x, w: w, bias: bias, y: y, geo: g, net: c.b.net, patches: newPatches(c.b.net, g)}
	return s, s.lay(c)
}

func convGeometry(c *call, x, w model.Shape) (kernels.Geometry, error) {
	if len(w) != len(x) || len(x) < 3 {
		return kernels.Geometry{}, fmt.Errorf("convolution of %v with %v: %w", x, w, errRank)
	}
	if k := c.node.Ints("kernel_shape"); k != nil && !slices.EqualFunc(k, w[2:], func(a int64, b int) bool { return a == int64(b) }) {
		return kernels.Geometry{}, fmt.Errorf("kernel_shape %v does not fit weights %v", k, w)
	}
	g, _, _, err := geometry(c.node, x, w[2:])
	if err != nil {
		return g, err
	}
	groups := c.node.Int("group", 1)
	if groups < 1 || groups > math.MaxInt32 || g.C%int(groups) != 0 || w[1] != g.C/int(groups) {
		return g, fmt.Errorf("weights %v do not fit %d channels in %d groups", w, g.C, groups)
	}
	g.OC, g.Groups = w[0], int(groups)
	return g, g.Check()
}

// lay makes buffers and products.
func (s *conv) lay(c *call) (err error) {
	g := &s.geo
	taps, depth := g.KH*g.KW, s.patches.depth
	if s.weights, err = kernels.NewTranspose(4, []int{g.OC, g.C / g.Groups, taps}, []int{0, 2, 1}); err != nil {
		return err
	}
	if s.restore, err = kernels.NewTranspose(4, []int{g.OC, taps, g.C / g.Groups}, []int{0, 2, 1}); err != nil {
		return err
	}
	s.weights.Use(c.target())
	s.restore.Use(c.target())
	s.packed, s.dPacked, s.part = floats(g.OC*depth), floats(g.OC*depth), floats(g.OC*depth)
	pixels := g.OH * g.OW
	count := s.x.shape[0]
	if err := s.layWhole(c, count); err != nil {
		return err
	}
	most := max(1, patchFloats/(pixels*depth))
	if g.Pointwise() {
		most = count
	} else {
		s.columns = floats(min(most, count) * pixels * depth)
	}
	for at := 0; at < count; at += most {
		chunk, err := s.chunk(c, at, min(most, count-at))
		if err != nil {
			return err
		}
		s.chunks = append(s.chunks, chunk)
	}
	s.sums, err = newColumnSums(c, count*pixels, g.OC)
	return err
}

func (s *conv) chunk(c *call, first, count int) (k convChunk, err error) {
	g := &s.geo
	pixels, depth, oc := count*g.OH*g.OW, s.patches.depth, g.OC/g.Groups
	k = convChunk{first: first, count: count}
	if k.weights, err = c.product(kernels.ProductF32{M: oc, K: pixels, N: depth, A: columns(g.OC), B: rows(depth), OutRow: depth}); err != nil {
		return k, err
	}
	k.fold, err = c.product(kernels.ProductF32{M: pixels, K: oc, N: depth, A: rows(g.OC), B: rows(depth), OutRow: depth})
	return k, err
}

// parts returns the pixels of the pictures of k in x and in y.
func (s *conv) parts(k *convChunk, x, y []float32) (in, out []float32) {
	g := &s.geo
	in, out = x[k.first*g.H*g.W*g.C:][:k.count*g.H*g.W*g.C], y[k.first*g.OH*g.OW*g.OC:][:k.count*g.OH*g.OW*g.OC]
	return in, out
}

// layWhole packs the convolutions of the whole batch.
func (s *conv) layWhole(c *call, count int) (err error) {
	g := s.geo
	g.N = count
	if s.whole, err = kernels.PackConvF32(c.target(), g, kernels.WeightsF32{W: s.packed, Bias: floats(g.OC), Clamp: kernels.NoClamp}); err != nil {
		return err
	}
	c.b.scratch = max(c.b.scratch, s.whole.Scratch())
	top, left := (g.KH-1)*g.DilationH-g.PadTop, (g.KW-1)*g.DilationW-g.PadLeft
	if !s.x.wants || g.Pointwise() || g.Groups > 1 || g.StrideH*g.StrideW > 1 || top < 0 || left < 0 {
		return nil
	}
	g.H, g.OH, g.W, g.OW, g.C, g.OC = g.OH, g.H, g.OW, g.W, g.OC, g.C
	g.PadTop, g.PadLeft = top, left
	s.round = floats(len(s.packed))
	if s.turned, err = kernels.PackConvF32(c.target(), g, kernels.WeightsF32{W: s.round, Clamp: kernels.NoClamp}); err != nil {
		return err
	}
	c.b.scratch = max(c.b.scratch, s.turned.Scratch())
	return nil
}

func (s *conv) forward(bool) {
	s.weights.Run(bytesOf(s.packed), bytesOf(s.w.data))
	var bias []float32
	if s.bias != nil {
		bias = s.bias.data
	}
	s.whole.Repack(s.packed, bias)
	s.whole.Run(s.y.data, s.x.data, s.net.scratch)
}

// turnRound writes w as turned reads it.
func (s *conv) turnRound() {
	g := &s.geo
	taps := g.KH * g.KW
	for oc := range g.OC {
		for k := range taps {
			from := s.packed[(oc*taps+k)*g.C:][:g.C]
			at := (taps-1-k)*g.OC + oc
			for c, v := range from {
				s.round[c*taps*g.OC+at] = v
			}
		}
	}
}

// unfolded returns the patches of a group.
func (s *conv) unfolded(k *convChunk, in []float32, group int) []float32 {
	if s.columns == nil {
		return in
	}
	s.patches.unfold(s.columns, in, k.count, group)
	return s.columns
}

func (s *conv) backward() {
	if s.bias != nil && s.bias.dx != nil {
		s.sums.run(s.bias.dx, s.y.grad)
	}
	switch {
	case s.turned != nil:
		s.turnRound()
		s.turned.Repack(s.round, nil)
		s.turned.Run(s.x.dx, s.y.grad, s.net.scratch)
	case s.x.dx != nil:
		clear(s.x.dx)
		for i := range s.chunks {
			s.foldChunk(&s.chunks[i])
		}
	}
	if s.w.dx == nil {
		return
	}
	clear(s.dPacked)
	for i := range s.chunks {
		s.weighChunk(&s.chunks[i])
	}
	s.restore.Run(bytesOf(s.w.dx), bytesOf(s.dPacked))
}

// weighChunk adds the gradient of the weights by some pictures.
func (s *conv) weighChunk(k *convChunk) {
	in, dy := s.parts(k, s.x.data, s.y.grad)
	channels := s.geo.OC / s.geo.Groups
	for group := range s.geo.Groups {
		at := group * channels * s.patches.depth
		k.weights.run(s.part, dy[group*channels:], s.unfolded(k, in, group))
		s.net.loops.addTo(s.dPacked[at:][:channels*s.patches.depth], s.part)
	}
}

// foldChunk adds the gradient of x in some pictures.
func (s *conv) foldChunk(k *convChunk) {
	dx, dy := s.parts(k, s.x.dx, s.y.grad)
	channels := s.geo.OC / s.geo.Groups
	for group := range s.geo.Groups {
		at := group * channels * s.patches.depth
		if s.columns == nil {
			k.fold.run(dx, dy, s.packed)
			continue
		}
		k.fold.run(s.columns, dy[group*channels:], s.packed[at:])
		s.patches.fold(dx, s.columns, k.count, group)
	}
}
