package quant

import (
	"fmt"

	"dunlin/model"
)

// Measure fills in each layer's OutputError: it runs g, the float graph, and
// q, which Apply made of it, on n samples, and compares the outputs of all
// layers. It needs the memory of one sample's activations.
func (r *Report) Measure(g, q *model.Graph, next func(i int) ([]*model.Tensor, error), n int) error {
	p, err := prepare(g)
	if err != nil {
		return err
	}
	wanted := map[string]bool{}
	for _, l := range r.Layers {
		if l.Output != "" {
			wanted[l.Output] = true
		}
	}
	type energy struct{ signal, noise float64 }
	seen, sums := map[string][]float32{}, map[string]*energy{}
	float := newRunner(p, func(value string, t *model.Tensor) {
		if wanted[value] && t.Type == model.F32 {
			seen[value] = append(seen[value][:0], t.F32()...)
		}
	})
	small := newRunner(q, func(value string, t *model.Tensor) {
		want := seen[value]
		if t.Type != model.F32 || len(want) != t.Elements() || !wanted[value] {
			return
		}
		e := sums[value]
		if e == nil {
			e = &energy{}
			sums[value] = e
		}
		for i, v := range t.F32() {
			d := float64(v) - float64(want[i])
			e.signal += float64(float64(want[i]) * float64(want[i]))
			e.noise += float64(d * d)
		}
	})
	for i := range n {
		in, err := next(i)
		if err == nil {
			err = float.run(in)
		}
		if err == nil {
			err = small.run(in)
		}
		if err != nil {
			return fmt.Errorf("measure %s: sample %d: %w", g.Name, i, err)
		}
	}
	for i := range r.Layers {
		if e := sums[r.Layers[i].Output]; e != nil {
			d := decibel(e.signal, e.noise)
			r.Layers[i].OutputError = &d
		}
	}
	return nil
}
