package quant

import (
	"testing"

	"dunlin/model"
)

// TestPieces: measured in two pieces, the layers of a network have the errors
// that they have when it is measured whole, to the last bit; and each piece has
// a part of the weights.
func TestPieces(t *testing.T) {
	n := typical()
	q, rep := n.quantise(t, Options{})
	g, err := prepare(n.Graph)
	if err != nil {
		t.Fatal(err)
	}
	parts, err := pieces(g, q, 5, Options{})
	if err != nil {
		t.Fatal(err)
	}
	if len(parts) != 2 {
		t.Fatalf("%d pieces", len(parts))
	}
	total := floatBytes(g, g.Nodes)
	for _, p := range parts {
		for _, g := range []*model.Graph{p.float, p.small} {
			if err := g.Check(); err != nil {
				t.Fatal(err)
			}
		}
		if part := floatBytes(p.float, p.float.Nodes); part <= 0 || part >= total {
			t.Errorf("a piece has %d bytes of %d", part, total)
		}
	}
	if err := rep.Measure(n.Graph, q, n.samples, 5, Options{}); err != nil {
		t.Fatal(err)
	}
	m := &measuring{layers: rep.outputs(g), part: map[string]bool{}, seen: map[string][]float32{}, sums: map[string]*energy{}}
	feed := func(i int) (float, small []*model.Tensor, err error) {
		in, err := n.samples(i)
		return in, in, err
	}
	if _, err := m.piece(piece{g, q, ""}, feed, 5, Options{}); err != nil {
		t.Fatal(err)
	}
	for _, l := range rep.Layers {
		e := m.sums[l.Output]
		if (e == nil) != (l.OutputError == nil) || e != nil && decibel(e.signal, e.noise) != *l.OutputError {
			t.Errorf("%s: %s dB in pieces, %+v whole", l.Name, db(l.OutputError), e)
		}
	}
}
