package quant

import (
	"fmt"

	"dunlin/model"
)

// Measure fills in each layer's OutputError: it runs g, the float graph, and
// q, which Apply made of it, on n samples, and compares the outputs of all
// layers. It needs the memory of both graphs' runs, one after the other, and of
// so many outputs as seenBytes holds: where those of a sample are more, each
// sample runs more than once. Once it runs it does not hold g.
func (r *Report) Measure(g, q *model.Graph, next func(i int) ([]*model.Tensor, error), n int) error {
	p, err := prepare(g)
	if err != nil {
		return err
	}
	name := g.Name // g is let go of: the caller may have
	float, small := newRunner(p, nil), newRunner(q, nil)
	m := &measuring{layers: map[string]bool{}, part: map[string]bool{}, seen: map[string][]float32{}, sums: map[string]*energy{}}
	for _, l := range r.Layers {
		if l.Output != "" {
			m.layers[l.Output] = true
		}
	}
	float.observe, small.observe = m.float, m.small
	for first := true; first || len(m.layers) > 0; first = false {
		for i := range n {
			in, err := next(i)
			if err == nil {
				err = float.run(in)
			}
			float.rest()
			if err == nil {
				err = small.run(in)
			}
			small.rest()
			if err != nil {
				return fmt.Errorf("measure %s: sample %d: %w", name, i, err)
			}
			m.chosen = true
		}
		m.next()
	}
	for i := range r.Layers {
		if e := m.sums[r.Layers[i].Output]; e != nil {
			d := decibel(e.signal, e.noise)
			r.Layers[i].OutputError = &d
		}
	}
	return nil
}

// seenBytes bounds the outputs of one sample that Measure holds.
const seenBytes = 4 << 20

// measuring compares the outputs of layers, a part of them at a time.
type measuring struct {
	layers map[string]bool // not measured yet
	part   map[string]bool // of these, those that are measured now
	chosen bool            // the part, by the first sample
	bytes  int             // of the part
	seen   map[string][]float32
	sums   map[string]*energy
}

// energy is that of an output and of its error.
type energy struct{ signal, noise float64 }

// float keeps an output of the float graph.
func (m *measuring) float(value string, t *model.Tensor) {
	if !m.layers[value] || t.Type != model.F32 {
		return
	}
	if !m.chosen && (len(m.part) == 0 || m.bytes+len(t.Data) <= seenBytes) {
		m.part[value], m.bytes = true, m.bytes+len(t.Data)
	}
	if m.part[value] {
		m.seen[value] = append(m.seen[value][:0], t.F32()...)
	}
}

// small compares an output with that of the float graph.
func (m *measuring) small(value string, t *model.Tensor) {
	want := m.seen[value]
	if t.Type != model.F32 || len(want) != t.Elements() || !m.part[value] {
		return
	}
	e := m.sums[value]
	if e == nil {
		e = &energy{}
		m.sums[value] = e
	}
	for i, v := range t.F32() {
		d := float64(v) - float64(want[i])
		e.signal += float64(float64(want[i]) * float64(want[i]))
		e.noise += float64(d * d)
	}
}

// next goes on with other layers. Those that no run shows are given up.
func (m *measuring) next() {
	if len(m.part) == 0 {
		clear(m.layers)
	}
	for value := range m.part {
		delete(m.layers, value)
	}
	m.chosen, m.bytes = false, 0
	clear(m.part)
	clear(m.seen)
}
