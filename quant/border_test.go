package quant

import (
	"fmt"
	"reflect"
	"slices"
	"strings"
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

// TestParts: a graph is parted where integers alone cross, as often as its
// weights ask for; not inside a residual branch, not where a value of all samples
// would be too much, and not where shapes are not known.
func TestParts(t *testing.T) {
	n := typical()
	q, _ := n.quantise(t, Options{})
	free := q.Clone()
	free.Values["x"].Shape[0] = model.Unknown
	for _, c := range []struct {
		g       *model.Graph
		samples int
		most    int64
		ends    string
	}{
		{q, 5, 1 << 20, "[y g]"},
		{q, 5, 3000, "[p/int8] [y g]"},
		{q, 5, 1, "[x/int8] [a/int8] [p/int8] [r/int8] [m/int8] [f/int8] [y g]"},
		{q, borderBytes / 2 / (3 * 8 * 8), 1, "[x/int8] [p/int8] [r/int8] [m/int8] [f/int8] [y g]"},
		{q, borderBytes, 1, "[y g]"},
		{free, 5, 1, "[y g]"},
	} {
		list, err := parts(c.g, c.samples, c.most)
		if err != nil {
			t.Fatal(err)
		}
		var ends []string
		from := c.g.Inputs
		for _, g := range list {
			if err := g.Check(); err != nil {
				t.Error(err)
			}
			if !slices.Equal(g.Inputs, from) {
				t.Errorf("a part begins with %v behind one that ends with %v", g.Inputs, from)
			}
			from, ends = g.Outputs, append(ends, fmt.Sprint(g.Outputs))
		}
		if got := strings.Join(ends, " "); got != c.ends {
			t.Errorf("%d samples, parts of %d bytes end with %s, want %s", c.samples, c.most, got, c.ends)
		}
	}
}

// TestRoundingInParts: the weights that are rounded part by part are those that
// are rounded in the whole graph.
func TestRoundingInParts(t *testing.T) {
	for name, n := range map[string]*net{"deep": deep(t), "typical": typical()} {
		r, err := Calibrate(n.Graph, n.samples, 20, Options{})
		if err != nil {
			t.Fatal(err)
		}
		whole, err := learnRounding(n.Graph, r, n.samples, 20, Options{}, 1<<20)
		if err != nil {
			t.Fatal(err)
		}
		asked := map[int]int{}
		learned, err := learnRounding(n.Graph, r, func(i int) ([]*model.Tensor, error) { asked[i]++; return n.samples(i) }, 20, Options{}, 1)
		if err != nil {
			t.Fatal(err)
		}
		for i := range 20 {
			if asked[i] != 1 {
				t.Errorf("%s: sample %d was asked for %d times", name, i, asked[i])
			}
		}
		if len(learned.Layers) == 0 || !reflect.DeepEqual(learned, whole) {
			t.Errorf("%s: in parts %+v, whole %+v", name, learned.Layers, whole.Layers)
		}
	}
}
