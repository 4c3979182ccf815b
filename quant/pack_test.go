package quant

import (
	"slices"
	"testing"

	"dunlin/internal/oci"
	"dunlin/model/pack"
)

// TestInt4Pack: a net in four bits that goes through a pack runs the same
// bits, and its weights take what the report promises.
func TestInt4Pack(t *testing.T) {
	n := deep(t)
	q, rep := n.quantise(t, Options{To: "int4"})
	l, err := oci.Create(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	d, err := pack.Write(l, &pack.Pack{Name: "deep", Version: 1, Graph: q})
	if err != nil {
		t.Fatal(err)
	}
	m, err := pack.Open(l, string(d.Digest))
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	in, _ := n.samples(5)
	if a, b := run(t, q, in), run(t, m.Graph, in); !slices.Equal(a[0], b[0]) {
		t.Errorf("%v becomes %v", a, b)
	}
	if got := m.Graph.StoredBytes(); got != rep.After {
		t.Errorf("%d bytes stored, %d promised", got, rep.After)
	}
	manifest, err := l.Manifest(d.Digest)
	if err != nil {
		t.Fatal(err)
	}
	for _, layer := range manifest.Layers {
		// Small tensors are in graph.json, and each in the weights has a line in the header and padding.
		if layer.MediaType == pack.MediaTypeWeights && (layer.Size > rep.After+4096 || layer.Size < rep.After*3/4) {
			t.Errorf("the weights take %d bytes, %d promised", layer.Size, rep.After)
		}
	}
}
