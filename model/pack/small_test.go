package pack

import (
	"errors"
	"strings"
	"testing"

	"dunlin/internal/oci"
	"dunlin/model"
)

// withSmall is sample with a small form: one product in place of two.
func withSmall(t testing.TB) *Pack {
	t.Helper()
	p := sample(t)
	g := model.New("sample-small")
	g.Inputs, g.Outputs = []string{"x"}, []string{"y"}
	g.Values["x"] = &model.Value{Type: model.F32, Shape: model.Shape{model.Unknown, 5}, Dims: []string{"N", ""}}
	g.AddConst("v", model.Of(model.F32, floats(25, 9), 5, 5))
	g.Nodes = []*model.Node{{Op: "Gemm", Name: "only", In: []string{"x", "v"}, Out: []string{"y"}}}
	out := model.Of(model.F32, floats(5, 3), 1, 5)
	p.Small = &Form{Graph: g, Exam: &Exam{Tolerance: 1e-3, Cases: []Case{{Inputs: p.Exam.Cases[0].Inputs, Outputs: []*model.Tensor{out}}}}}
	return p
}

func TestSmallForm(t *testing.T) {
	l, p := newLayout(t), withSmall(t)
	digest := write(t, l, p)
	m := open(t, l, digest)
	checkSamePack(t, &m.Pack, p)
	checkSamePack(t, &Pack{Graph: m.Small.Graph, Exam: m.Small.Exam}, &Pack{Graph: p.Small.Graph, Exam: p.Small.Exam})
	if again := write(t, newLayout(t), withSmall(t)); again != digest {
		t.Errorf("%s, then %s", digest, again)
	}
	p.Small = nil
	if without := write(t, newLayout(t), p); without == digest || without != write(t, newLayout(t), sample(t)) {
		t.Error("the digest does not tell whether there is a small form")
	}
	p = withSmall(t)
	p.Small.Exam = nil
	if m := open(t, l, write(t, l, p)); m.Small == nil || m.Small.Exam != nil {
		t.Errorf("a small form without an exam came back as %+v", m.Small)
	}
	p.Small.Graph = fourBits()
	p.Graph = fourBits()
	p.Exam = nil
	m = open(t, l, write(t, l, p)) // stored in fewer bytes, as the first form may be
	checkSamePack(t, &Pack{Graph: m.Small.Graph}, &Pack{Graph: p.Small.Graph})
	refusedAllOf(t, withSmall(t))
}

// refusedAllOf flips a byte of each blob of a pack in turn.
func refusedAllOf(t *testing.T, p *Pack) {
	t.Helper()
	l := newLayout(t)
	digest := write(t, l, p)
	m, err := l.Manifest(oci.Digest(digest))
	if err != nil {
		t.Fatal(err)
	}
	for _, b := range oci.Blobs(m) {
		path, err := l.Path(b.Digest)
		if err != nil {
			t.Fatal(err)
		}
		data, err := l.ReadBlob(b.Digest, 1<<20)
		if err != nil {
			t.Fatal(err)
		}
		data[len(data)/2] ^= 1
		refused(t, l, digest, path, data)
	}
}

func TestSmallFormsThatDoNotStandIn(t *testing.T) {
	for want, change := range map[string]func(f *Form){
		"there is no graph":                                func(f *Form) { f.Graph = nil },
		`its inputs are ["z"]`:                             func(f *Form) { rename(f.Graph, "x", "z") },
		`its outputs are ["z"]`:                            func(f *Form) { rename(f.Graph, "y", "z") },
		`"x" is float32 [5 5], the model's float32 [-1 5]`: func(f *Form) { f.Graph.Values["x"].Shape, f.Graph.Values["x"].Dims = model.Shape{5, 5}, nil },
		"small-exam.json":                                  func(f *Form) { f.Exam.Exact = true },
	} {
		p := withSmall(t)
		change(p.Small)
		_, err := Write(newLayout(t), p)
		if !errors.Is(err, ErrFormat) || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %q", err, want)
		}
	}
}

func rename(g *model.Graph, from, to string) {
	for _, list := range []*[]string{&g.Inputs, &g.Outputs, &g.Nodes[0].In, &g.Nodes[0].Out} {
		for i, name := range *list {
			if name == from {
				(*list)[i] = to
			}
		}
	}
	if v := g.Values[from]; v != nil {
		g.Values[to] = v
		delete(g.Values, from)
	}
}

// Manifests that have half of a small form, or another model's, are whole by
// their digests.
func TestHalfASmallForm(t *testing.T) {
	for _, c := range []struct {
		want   string
		change func(m *oci.Manifest)
	}{
		{"small-graph.json: not a valid pack: the manifest does not have it", func(m *oci.Manifest) { drop(m, MediaTypeSmallGraph) }},
		{"small-weights.safetensors: not a valid pack: the manifest does not have it", func(m *oci.Manifest) { drop(m, MediaTypeSmallWeights) }},
		{"small-graph.json: not a valid pack: the manifest does not have it", func(m *oci.Manifest) { drop(m, MediaTypeSmallGraph); drop(m, MediaTypeSmallWeights) }},
		{"small-exam.json", func(m *oci.Manifest) { drop(m, MediaTypeSmallExamData) }},
		{"twice", func(m *oci.Manifest) {
			layerNamed(m, MediaTypeSmallGraph).MediaType = MediaTypeSmallGraphV2
			m.Layers = append(m.Layers, *layerNamed(m, MediaTypeSmallGraphV2))
		}},
	} {
		l, p := newLayout(t), withSmall(t)
		m, err := l.Manifest(oci.Digest(write(t, l, p)))
		if err != nil {
			t.Fatal(err)
		}
		c.change(m)
		data, err := marshal(newConfig(p, m.Layers))
		if err == nil {
			m.Config, err = l.PutBytes(MediaTypeConfig, data)
		}
		if err != nil {
			t.Fatal(err)
		}
		d, err := l.PutManifest(m)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := Open(l, string(d.Digest)); !errors.Is(err, ErrFormat) || !strings.Contains(err.Error(), c.want) {
			t.Errorf("got %v, want %q", err, c.want)
		}
	}
}

func layerNamed(m *oci.Manifest, media string) *oci.Descriptor {
	for i := range m.Layers {
		if m.Layers[i].MediaType == media {
			return &m.Layers[i]
		}
	}
	return nil
}

func drop(m *oci.Manifest, media string) {
	var kept []oci.Descriptor
	for _, d := range m.Layers {
		if d.MediaType != media {
			kept = append(kept, d)
		}
	}
	m.Layers = kept
}
