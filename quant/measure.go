package quant

import (
	"fmt"

	"dunlin/model"
)

// Measure fills in each layer's OutputError: it runs g, the float graph, and
// q, which Apply made of it, on n samples, and compares the outputs of all
// layers. It needs the memory of both graphs' runs, one after the other, and of
// so many outputs as seenBytes holds: where those of a sample are more, each
// sample runs more than once. Where a graph can be parted, it takes one piece
// after the other. Once it runs it does not hold g, but for the second piece. Of
// the options only Rest is looked at.
func (r *Report) Measure(g, q *model.Graph, next func(i int) ([]*model.Tensor, error), n int, o Options) error {
	p, err := prepare(g)
	if err != nil {
		return err
	}
	name := g.Name // g is let go of: the caller may have
	parts, err := pieces(p, q, n, o)
	if err != nil {
		return fmt.Errorf("measure %s: %w", name, err)
	}
	m := &measuring{part: map[string]bool{}, seen: map[string][]float32{}, sums: map[string]*energy{}}
	var feed feeder = func(i int) (float, small []*model.Tensor, err error) {
		in, err := next(i)
		return in, in, err
	}
	for len(parts) > 0 {
		h := parts[0]
		parts[0], parts = piece{}, parts[1:] // its graphs may go once they are compiled
		m.layers = r.outputs(h.float)
		if feed, err = m.piece(h, feed, n, o); err != nil {
			return fmt.Errorf("measure %s: %w", name, err)
		}
	}
	for i := range r.Layers {
		if e := m.sums[r.Layers[i].Output]; e != nil {
			d := decibel(e.signal, e.noise)
			r.Layers[i].OutputError = &d
		}
	}
	return nil
}

// outputs returns those of the layers that g makes.
func (r *Report) outputs(g *model.Graph) map[string]bool {
	made, all := g.Producers(), map[string]bool{}
	for _, l := range r.Layers {
		if made[l.Output] != nil {
			all[l.Output] = true
		}
	}
	return all
}

// feeder returns sample i as both graphs have it.
type feeder func(i int) (float, small []*model.Tensor, err error)

// seenBytes bounds the outputs of one sample that Measure holds.
const seenBytes = 4 << 20

// measuring compares the outputs of layers, a part of them at a time.
type measuring struct {
	layers map[string]bool // of the piece, not measured yet
	part   map[string]bool // of these, those that are measured now
	chosen bool            // the part, by the first sample
	bytes  int             // of the part
	seen   map[string][]float32
	sums   map[string]*energy
}

// energy is that of an output and of its error.
type energy struct{ signal, noise float64 }

// piece measures the layers of one piece, and returns what the next one is fed
// with.
func (m *measuring) piece(h piece, feed feeder, n int, o Options) (feeder, error) {
	float, small := newRunner(h.float, o, m.float), newRunner(h.small, o, m.small)
	small.arena = float.arena
	to := h.to
	h = piece{}
	var floats, smalls []*model.Tensor // at the border
	run := func(i int) error {
		in, other, err := feed(i)
		if err != nil {
			return err
		}
		if err := float.ready(in); err != nil {
			return err
		}
		if err := small.ready(other); err != nil { // before there is an arena beside what that takes
			return err
		}
		if err := float.run(in); err != nil {
			return err
		}
		if to != "" && len(floats) == i {
			floats = append(floats, float.session.Output(0).Clone())
		}
		float.rest()
		if err := small.run(other); err != nil {
			return err
		}
		if to != "" && len(smalls) == i {
			smalls = append(smalls, small.session.Output(0).Clone())
		}
		small.rest()
		return nil
	}
	for first := true; first || len(m.layers) > 0; first = false {
		for i := range n {
			if err := run(i); err != nil {
				return nil, fmt.Errorf("sample %d: %w", i, err)
			}
			m.chosen = true
		}
		m.next()
	}
	return func(i int) (float, small []*model.Tensor, err error) { return floats[i : i+1], smalls[i : i+1], nil }, nil
}

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
