package engine

import (
	"dunlin/internal/pool"
	"dunlin/model"
)

// A step that takes long enough is computed in parts by several threads. Each
// part is a kernel of its own over a part of the step's tensors, with a scratch
// of its own, and together they write the bytes that the whole one would: so
// outputs are the same bits with any number of threads.
//
//	step            parts
//	convolution     rows of the output, or channels         (Strip, Columns in kernels)
//	product         rows, or columns
//	pool, transpose rows
//	what sees an element or a row at a time: the same operator over a part of an axis (along.go)
//
// Which steps are cut, and into how many parts, is decided at compile time from
// what they cost (cost.go).

// part is what one thread computes of a step.
type part struct {
	kernel  *kernel
	in, out []span // by input and output; those left out are whole
}

// span is a part of a tensor: the elements from one on, of this shape, or all
// that follow where it is nil.
type span struct {
	from  int
	shape model.Shape
}

// of returns the part of t.
func (s span) of(t *model.Tensor) *model.Tensor {
	if s.from == 0 && s.shape == nil {
		return t
	}
	size := t.Type.Size()
	if s.shape == nil {
		return &model.Tensor{Type: t.Type, Shape: model.Shape{len(t.Data)/size - s.from}, Data: t.Data[s.from*size:]}
	}
	n, _ := s.shape.Elements()
	return &model.Tensor{Type: t.Type, Shape: s.shape, Data: t.Data[s.from*size : (s.from+n)*size]}
}

// partsOf returns the parts of tensors, of which any may be nil.
func partsOf(tensors []*model.Tensor, spans []span) []*model.Tensor {
	list := append([]*model.Tensor{}, tensors...)
	for i, t := range list {
		if t != nil && i < len(spans) {
			list[i] = spans[i].of(t)
		}
	}
	return list
}

// cutter is a way to cut a step between units of equal work.
type cutter struct {
	units, step int // parts begin at multiples of step, and none is shorter
	part        func(from, to int) (part, error)
}

// bounds returns where n parts begin, and where the last ends; fewer where
// there are not as many steps.
func (c cutter) bounds(n int) []int {
	n = max(1, min(n, c.units/c.step))
	list := make([]int, 0, n+1)
	for i := range n {
		nearest := (2*i*c.units + n*c.step) / (2 * n * c.step)
		list = append(list, nearest*c.step)
	}
	return append(list, c.units)
}

// gain returns how many times faster n threads are where all units take the
// same time.
func (c cutter) gain(n int) float64 {
	longest, b := 1, c.bounds(n)
	for i := range len(b) - 1 {
		longest = max(longest, b[i+1]-b[i])
	}
	return float64(c.units) / float64(longest)
}

// A cut must gain this much of what threads could gain, and a later one of
// several this much more than those before it.
const (
	leastGain  = 1.25
	betterGain = 1.1
)

// cutInto returns up to n parts, by the cutter that gains the most; the first of
// cutters is preferred. It returns nil where none gains enough.
func cutInto(cutters []cutter, n int) []part {
	best, gain := -1, leastGain
	for i, c := range cutters {
		if g := c.gain(n); g >= gain {
			best, gain = i, g*betterGain
		}
	}
	if best < 0 {
		return nil
	}
	var parts []part
	b := cutters[best].bounds(n)
	for i := range len(b) - 1 {
		p, err := cutters[best].part(b[i], b[i+1])
		if err != nil || p.kernel.alias {
			return nil // the whole step has a kernel
		}
		parts = append(parts, p)
	}
	return parts
}

// scratchOf returns the bytes of scratch that parts need together: see
// bindParts.
func scratchOf(parts []part) int {
	n := 0
	for _, p := range parts {
		n += align(p.kernel.scratch)
	}
	return n
}

// workers computes jobs on several threads: pool.Pool.
type workers interface {
	// Run calls job.Run(part) for every part below n, and returns when all
	// are done.
	Run(n int, job pool.Job)
}

// job is a step in parts at work. It implements pool.Job.
type job struct {
	f      []func() error
	failed []error
}

func (j *job) Run(part int) { j.failed[part] = j.f[part]() }

// bindParts returns the function that runs the parts of a step on w. The
// error is that of the first part that has one, as in one piece.
func bindParts(parts []part, in, out []*model.Tensor, scratch []byte, w workers) func() error {
	j := &job{failed: make([]error, len(parts))}
	for _, p := range parts {
		own := scratch[:p.kernel.scratch]
		scratch = scratch[align(p.kernel.scratch):]
		j.f = append(j.f, p.kernel.bind(partsOf(in, p.in), partsOf(out, p.out), own))
	}
	return func() error {
		w.Run(len(j.f), j)
		for _, err := range j.failed {
			if err != nil {
				return err
			}
		}
		return nil
	}
}
