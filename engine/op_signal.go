package engine

import (
	"fmt"
	"math"
	"slices"

	"dunlin/kernels"
	"dunlin/model"
)

// The operators of this file are front ends of audio models.

// scalarOf returns constant input i as one number.
func (c *call) scalarOf(i int) (float64, error) {
	t, err := c.known(i)
	if err != nil {
		return 0, err
	}
	if t.Elements() != 1 {
		return 0, fmt.Errorf("input %d is %v, not a single number", i, t.Shape)
	}
	return Numbers(t)[0], nil
}

// lengthOf is scalarOf for a length.
func (c *call) lengthOf(i int) (int, error) {
	v, err := c.scalarOf(i)
	if err != nil {
		return 0, err
	}
	if !(v >= 0 && v <= math.MaxInt32) || math.Floor(v) != v {
		return 0, fmt.Errorf("input %d is %v, not a length", i, v)
	}
	return int(v), nil
}

func inferWindow(c *call) error {
	n, err := c.lengthOf(0)
	if err != nil {
		return err
	}
	t, err := typeAttr(c.node, "output_datatype", model.F32)
	if err != nil {
		return err
	}
	return c.set(t, n)
}

// lowerWindow is for HannWindow, HammingWindow and BlackmanWindow: sums of
// cosines.
func lowerWindow(c *call) (*kernel, error) {
	factors := map[string][3]float64{ // ONNX's, function bodies in onnx/defs/math/defs.cc
		"HannWindow": {0.5, -0.5, 0}, "HammingWindow": {25.0 / 46, -(1 - 25.0/46), 0}, "BlackmanWindow": {0.42, -0.5, 0.08},
	}[c.node.Op]
	n := c.elements()
	over := float64(n)
	if c.node.Int("periodic", 1) == 0 {
		over = float64(max(n-1, 1))
	}
	k := named("window")
	k.scratch = 8 * n
	k.bind = func(_, out []*model.Tensor, scratch []byte) func() error {
		wide := &model.Tensor{Type: model.F64, Shape: model.Shape{n}, Data: scratch[:8*n]}
		return func() error {
			for i := range n {
				a := float64(2 * math.Pi * (float64(i) / over))
				wide.F64()[i] = factors[0] + float64(factors[1]*kernels.Cosine(a)) + float64(factors[2]*kernels.Cosine(2*a))
			}
			castTensor(out[0], wide)
			return nil
		}
	}
	return k, nil
}

// dft is what a DFT node does: along an axis of in, [outer, length, inner,
// 1 or 2], to [outer, bins, inner, 2].
type dft struct {
	axis, length, n, bins int
	inverse, complex      bool
}

func dftOf(c *call) (dft, error) {
	s := c.shape(0)
	if err := c.want(0, model.F32); err != nil {
		return dft{}, err
	}
	if len(s) < 2 || (s[len(s)-1] != 1 && s[len(s)-1] != 2) {
		return dft{}, fmt.Errorf("signal %v: its last axis is neither 1 nor 2", s)
	}
	x := dft{axis: len(s) - 2, inverse: c.node.Int("inverse", 0) != 0, complex: s[len(s)-1] == 2}
	if c.has(2) {
		a, err := c.ints(2)
		if err != nil {
			return x, err
		}
		if len(a) != 1 {
			return x, fmt.Errorf("axis %v", a)
		}
		if x.axis, err = axisOf(a[0], len(s)); err != nil || x.axis == len(s)-1 {
			return x, fmt.Errorf("axis %d of %v", a[0], s)
		}
	}
	x.length = s[x.axis]
	x.n = x.length
	if c.has(1) {
		var err error
		if x.n, err = c.lengthOf(1); err != nil {
			return x, err
		}
	}
	if x.n < 1 {
		return x, fmt.Errorf("a transform of %d elements", x.n)
	}
	x.bins = x.n
	if c.node.Int("onesided", 0) != 0 {
		if x.inverse {
			return x, notYet("an inverse transform of one side")
		}
		x.bins = x.n/2 + 1
	}
	return x, nil
}

func inferDFT(c *call) error {
	x, err := dftOf(c)
	if err != nil {
		return err
	}
	s := slices.Clone(c.shape(0))
	s[x.axis], s[len(s)-1] = x.bins, 2
	return c.set(model.F32, s...)
}

func lowerDFT(c *call) (*kernel, error) {
	x, err := dftOf(c)
	if err != nil {
		return nil, err
	}
	s := c.shape(0)
	outer, _ := s[:x.axis].Elements()
	inner, _ := s[x.axis+1 : len(s)-1].Elements()
	width := s[len(s)-1]
	k := named("dft")
	k.weights = 16 * x.n
	var f *kernels.Fourier
	if c.elements() > 0 {
		f = kernels.NewFourier(x.n, x.inverse)
	}
	k.bind = func(in, out []*model.Tensor, _ []byte) func() error {
		from := kernels.Signal{Data: in[0].F32(), Step: inner * width, Complex: x.complex}
		to := kernels.Signal{Data: out[0].F32(), Step: inner * 2, Complex: true}
		return func() error {
			for o := range outer {
				for i := range inner {
					from.At, to.At = (o*x.length*inner+i)*width, (o*x.bins*inner+i)*2
					f.Run(to, from, x.length, x.bins, nil)
				}
			}
			return nil
		}
	}
	return k, nil
}

// stft is what an STFT node does: frames of a signal, each times a window.
type stft struct {
	step, frame, frames, bins int
	complex                   bool
}

func stftOf(c *call) (stft, error) {
	s := c.shape(0)
	if err := c.want(0, model.F32); err != nil {
		return stft{}, err
	}
	if err := c.want(2, model.F32); err != nil {
		return stft{}, err
	}
	if len(s) == 2 {
		s = append(slices.Clone(s), 1)
	}
	if len(s) != 3 || (s[2] != 1 && s[2] != 2) {
		return stft{}, fmt.Errorf("signal %v is not [batch, length, 1 or 2]", c.shape(0))
	}
	x := stft{complex: s[2] == 2}
	var err error
	if x.step, err = c.lengthOf(1); err != nil {
		return x, err
	}
	switch {
	case c.has(3):
		if x.frame, err = c.lengthOf(3); err != nil {
			return x, err
		}
	case c.has(2) && len(c.shape(2)) == 1:
		x.frame = c.shape(2)[0]
	}
	if x.step < 1 || x.frame < 1 || x.frame > s[1] || (c.has(2) && !c.shape(2).Equal(model.Shape{x.frame})) {
		return x, fmt.Errorf("frames of %d, %d apart, of %d samples", x.frame, x.step, s[1])
	}
	x.frames, x.bins = (s[1]-x.frame)/x.step+1, x.frame
	if c.node.Int("onesided", 1) != 0 {
		x.bins = x.frame/2 + 1
	}
	return x, nil
}

func inferSTFT(c *call) error {
	x, err := stftOf(c)
	if err != nil {
		return err
	}
	return c.set(model.F32, c.shape(0)[0], x.frames, x.bins, 2)
}

func lowerSTFT(c *call) (*kernel, error) {
	x, err := stftOf(c)
	if err != nil {
		return nil, err
	}
	batch, length, width := c.shape(0)[0], c.shape(0)[1], 1
	if x.complex {
		width = 2
	}
	k := named("stft")
	k.weights = 16 * x.frame
	f := kernels.NewFourier(x.frame, false)
	k.bind = func(in, out []*model.Tensor, _ []byte) func() error {
		from := kernels.Signal{Data: in[0].F32(), Step: width, Complex: x.complex}
		to := kernels.Signal{Data: out[0].F32(), Step: 2, Complex: true}
		var window []float32
		if len(in) > 2 {
			window = float32s(in[2])
		}
		return func() error {
			for b := range batch {
				for i := range x.frames {
					from.At, to.At = (b*length+i*x.step)*width, (b*x.frames+i)*x.bins*2
					f.Run(to, from, x.frame, x.bins, window)
				}
			}
			return nil
		}
	}
	return k, nil
}

func inferMelWeights(c *call) error {
	bins, err := c.lengthOf(0)
	if err != nil {
		return err
	}
	n, err := c.lengthOf(1)
	if err != nil {
		return err
	}
	for i := 2; i < 5; i++ {
		if _, err := c.scalarOf(i); err != nil {
			return err
		}
	}
	t, err := typeAttr(c.node, "output_datatype", model.F32)
	if err != nil {
		return err
	}
	return c.set(t, n/2+1, bins)
}

// lowerMelWeights makes triangles whose corners are evenly spaced on the mel
// scale, 2595*log10(1+f/700), and lie on bins of the transform, as ONNX's
// reference has it.
func lowerMelWeights(c *call) (*kernel, error) {
	rows, bins := c.out[0].Shape[0], c.out[0].Shape[1]
	n, _ := c.lengthOf(1)
	rate, _ := c.scalarOf(2)
	low, _ := c.scalarOf(3)
	high, err := c.scalarOf(4)
	if err != nil {
		return nil, err
	}
	mel := func(hz float64) float64 { return 2595 * math.Log10(1+hz/700) }
	corner := make([]int, bins+2)
	for i := range corner {
		at := mel(low) + float64(i)*((mel(high)-mel(low))/float64(len(corner)))
		hz := 700 * (math.Pow(10, at/2595) - 1)
		v := math.Floor(float64(n+1) * hz / rate)
		if !(v >= 0 && v < math.MaxInt32) {
			return nil, fmt.Errorf("mel bins from %v to %v Hz at %v samples a second", low, high, rate)
		}
		corner[i] = int(v)
	}
	k := named("mel-weights")
	k.scratch = 8 * rows * bins
	k.bind = func(_, out []*model.Tensor, scratch []byte) func() error {
		wide := &model.Tensor{Type: model.F64, Shape: out[0].Shape, Data: scratch[:8*rows*bins]}
		return func() error {
			w := wide.F64()
			clear(w)
			for b := range bins {
				from, mid, to := corner[b], corner[b+1], corner[b+2]
				if from == mid && mid < rows {
					w[mid*bins+b] = 1
				}
				for j := from; j < min(mid+1, rows) && mid > from; j++ {
					w[j*bins+b] = float64(j-from) / float64(mid-from)
				}
				for j := mid; j < min(to, rows) && to > mid; j++ {
					w[j*bins+b] = float64(to-j) / float64(to-mid)
				}
			}
			castTensor(out[0], wide)
			return nil
		}
	}
	return k, nil
}
