package train

import (
	"fmt"
	"math/rand/v2"
	"slices"

	"dunlin/model"
)

// Data is a set of N samples in memory: what goes into a net, and what ought
// to come out. Nobody changes it while a training reads it.
type Data struct {
	Inputs  []Column  // one for each input of the net, in order
	Classes []int32   // [N]: index of the right class, or Unlabelled; nil where there are none
	Values  []float32 // [N, width]: the right outputs; nil where there are none
	Teacher []float32 // [N, width]: logits of a teacher for the samples as they are; nil where there are none
}

// Column is one input of all samples: as Floats, or as Bytes, which take a
// quarter of the memory.
type Column struct {
	Shape  model.Shape // of one sample: [C, H, W] of a picture, [features]
	Floats []float32   // [N, Shape...]
	Bytes  []uint8     // [N, Shape...]; where Floats is nil

	// What a byte means, with the arithmetic of model/prep, so that training
	// sees the numbers that inference does:
	//
	//	float32((float64(byte)*Scale - Mean[c]) / Std[c])
	//
	// c counts the first axis of Shape. A list holds one number for all of
	// it, or one each; an empty Mean is 0, an empty Std 1.
	Scale     float64
	Mean, Std []float64
	// Border is what an Augment puts beyond the edge of Floats, one number or
	// one for each c, empty: 0. Beyond the edge of Bytes there is the byte 0.
	Border []float32
}

// Len returns N.
func (d *Data) Len() int {
	if len(d.Inputs) == 0 {
		return 0
	}
	c := &d.Inputs[0]
	return (len(c.Floats) + len(c.Bytes)) / max(c.size(), 1)
}

// size returns how many values one sample has, 0 where that makes no sense.
func (c *Column) size() int {
	n, err := c.Shape.Elements()
	if err != nil {
		return 0
	}
	return n
}

// channels returns the length of the first axis.
func (c *Column) channels() int {
	if len(c.Shape) == 0 {
		return 1
	}
	return c.Shape[0]
}

// Check fails where the parts of d do not fit each other.
func (d *Data) Check() error {
	n := d.Len()
	if n == 0 {
		return fmt.Errorf("data: no samples")
	}
	for i := range d.Inputs {
		if err := d.Inputs[i].check(n); err != nil {
			return fmt.Errorf("data: input %d: %w", i, err)
		}
	}
	if d.Classes != nil && len(d.Classes) != n {
		return fmt.Errorf("data: %d classes for %d samples", len(d.Classes), n)
	}
	if len(d.Values)%n != 0 {
		return fmt.Errorf("data: %d target values for %d samples", len(d.Values), n)
	}
	if len(d.Teacher)%n != 0 {
		return fmt.Errorf("data: %d teacher values for %d samples", len(d.Teacher), n)
	}
	return nil
}

func (c *Column) check(n int) error {
	size, have := c.size(), len(c.Floats)+len(c.Bytes)
	switch {
	case size == 0:
		return fmt.Errorf("a sample has shape %v", c.Shape)
	case c.Floats != nil && c.Bytes != nil:
		return fmt.Errorf("both floats and bytes are given: want one")
	case have != n*size:
		return fmt.Errorf("%d values for %d samples of shape %v: want %d", have, n, c.Shape, n*size)
	case c.Bytes != nil && c.Scale == 0:
		return fmt.Errorf("bytes without a scale: give 1/255, or what prep.toml says")
	case slices.Contains(c.Std, 0):
		return fmt.Errorf("std %v holds 0", c.Std)
	}
	for _, list := range []struct {
		name string
		n    int
	}{{"means", len(c.Mean)}, {"stds", len(c.Std)}, {"border values", len(c.Border)}} {
		if list.n > 1 && list.n != c.channels() {
			return fmt.Errorf("%d %s for %d channels: want one, or one for each", list.n, list.name, c.channels())
		}
	}
	return nil
}

// Part returns samples from to below to, which share d's memory: to hold some
// of it out.
func (d *Data) Part(from, to int) *Data {
	n := d.Len()
	p := &Data{Inputs: slices.Clone(d.Inputs), Values: part(d.Values, from, to, n), Teacher: part(d.Teacher, from, to, n)}
	if d.Classes != nil {
		p.Classes = d.Classes[from:to]
	}
	for i := range p.Inputs {
		c := &p.Inputs[i]
		c.Floats, c.Bytes = part(c.Floats, from, to, n), part(c.Bytes, from, to, n)
	}
	return p
}

// part returns the rows from to below to of n; nil of nil.
func part[T any](list []T, from, to, n int) []T {
	if list == nil {
		return nil
	}
	width := len(list) / n
	return list[from*width : to*width]
}

// Augment changes a sample of the first input as it is put in a batch, so that
// no epoch shows the same twice.
//
//	r        the only source of randomness, the same for the same seed and step
//	x        the sample, shape as Column.Shape; changed in place
//	scratch  as long as x; its content means nothing before or after
//	border   a number for each channel: what is beyond the edge
type Augment func(r *rand.Rand, shape model.Shape, x, scratch, border []float32)

// MirrorShift returns an Augment for pictures [C, H, W]: half of them are
// mirrored, left to right, where mirror is set; then each is moved by up to
// shift pixels, evenly distributed, along each axis. What comes in from beyond
// the edge is border.
func MirrorShift(mirror bool, shift int) Augment {
	return func(r *rand.Rand, shape model.Shape, x, scratch, border []float32) {
		flip := mirror && r.Uint64()>>63 == 1
		dx, dy := 0, 0
		if shift > 0 {
			dx, dy = r.IntN(2*shift+1)-shift, r.IntN(2*shift+1)-shift
		}
		if !flip && dx == 0 && dy == 0 {
			return
		}
		copy(scratch, x)
		h, w := shape[1], shape[2]
		for row := range shape[0] * h {
			c, y := row/h, row%h-dy
			to := x[row*w:][:w]
			if y < 0 || y >= h {
				fill(to, border[c])
				continue
			}
			moveRow(to, scratch[(c*h+y)*w:][:w], dx, flip, border[c])
		}
	}
}

// moveRow writes a row that is mirrored, then moved by dx.
func moveRow(to, from []float32, dx int, flip bool, border float32) {
	w := len(to)
	for i := range to {
		at := i - dx
		if at < 0 || at >= w {
			to[i] = border
			continue
		}
		if flip {
			at = w - 1 - at
		}
		to[i] = from[at]
	}
}

func fill(x []float32, v float32) {
	for i := range x {
		x[i] = v
	}
}

// batcher puts samples into the inputs of nets.
type batcher struct {
	data    *Data
	tables  [][][256]float32 // for each input in bytes: what a byte means, by channel
	border  []float32        // of input 0, one for each channel
	augment []Augment
	teacher Teacher // nil: Data.Teacher
	inputs  [][]float32
	scratch []float32
	targets Targets
	width   int // of outputs
}

// newBatcher makes a batcher of batches of up to so many samples. d is
// checked.
func newBatcher(d *Data, batch, width int, augment []Augment, teacher Teacher) *batcher {
	b := &batcher{data: d, tables: make([][][256]float32, len(d.Inputs)), augment: augment, teacher: teacher, width: width}
	b.inputs = make([][]float32, len(d.Inputs))
	for i := range d.Inputs {
		if c := &d.Inputs[i]; c.Bytes != nil {
			b.tables[i] = c.table()
		}
	}
	first := &d.Inputs[0]
	b.scratch, b.border = make([]float32, first.size()), make([]float32, first.channels())
	for c := range b.border {
		switch {
		case b.tables[0] != nil:
			b.border[c] = b.tables[0][c][0]
		case len(first.Border) > 0:
			b.border[c] = first.Border[c%len(first.Border)]
		}
	}
	if d.Classes != nil {
		b.targets.Classes = make([]int32, batch)
	}
	if d.Values != nil {
		b.targets.Values = make([]float32, batch*width)
	}
	if d.Teacher != nil || teacher != nil {
		b.targets.Teacher = make([]float32, batch*width)
	}
	return b
}

// Sample returns sample i as it goes into a net, a slice for each input in
// the graph's own order.
func (d *Data) Sample(i int) [][]float32 {
	all := make([][]float32, len(d.Inputs))
	b := newBatcher(&Data{Inputs: d.Inputs}, 1, 0, nil, nil)
	for k := range all {
		all[k] = make([]float32, d.Inputs[k].size())
		b.put(all[k], k, 0, i)
	}
	return all
}

// table returns what each byte means, by channel.
func (c *Column) table() [][256]float32 {
	t := make([][256]float32, c.channels())
	number := func(list []float64, i int, none float64) float64 {
		if len(list) == 0 {
			return none
		}
		return list[i%len(list)]
	}
	for i := range t {
		mean, std := number(c.Mean, i, 0), number(c.Std, i, 1)
		for v := range t[i] {
			t[i][v] = float32((float64(float64(v)*c.Scale) - mean) / std)
		}
	}
	return t
}

// fill puts the samples of index into the inputs of n, whose batch is as
// large, and returns their targets. With r, they are augmented, and so does
// the teacher see them.
func (b *batcher) fill(n *Net, index []int, r *rand.Rand) (Targets, error) {
	for i := range b.data.Inputs {
		to := n.Input(i)
		b.inputs[i] = to
		for k, sample := range index {
			b.put(to, i, k, sample)
			if i == 0 && r != nil {
				size := b.data.Inputs[0].size()
				for _, f := range b.augment {
					f(r, b.data.Inputs[0].Shape, to[k*size:][:size:size], b.scratch, b.border)
				}
			}
		}
	}
	t := b.targets
	for k, sample := range index {
		if t.Classes != nil {
			t.Classes[k] = b.data.Classes[sample]
		}
		if t.Values != nil {
			copy(t.Values[k*b.width:][:b.width], b.data.Values[sample*b.width:])
		}
		if t.Teacher != nil && b.teacher == nil {
			copy(t.Teacher[k*b.width:][:b.width], b.data.Teacher[sample*b.width:])
		}
	}
	if b.teacher == nil {
		return t, nil
	}
	if err := b.teacher(len(index), b.inputs, t.Teacher[:len(index)*b.width]); err != nil {
		return t, fmt.Errorf("train: teacher: %w", err)
	}
	return t, nil
}

// put copies a sample of input i to place k of a batch.
func (b *batcher) put(batch []float32, i, k, sample int) {
	c := &b.data.Inputs[i]
	size := c.size()
	to := batch[k*size:][:size]
	if c.Bytes == nil {
		copy(to, c.Floats[sample*size:])
		return
	}
	from, inner := c.Bytes[sample*size:][:size], size/c.channels()
	for at := range to {
		to[at] = b.tables[i][at/inner][from[at]]
	}
}
