package pack

import (
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"
	"unsafe"

	"dunlin/internal/durable"
	"dunlin/internal/oci"
	"dunlin/internal/sign"
	"dunlin/model"
)

// floats returns n different values.
func floats(n int, from float32) []float32 {
	v := make([]float32, n)
	for i := range v {
		v[i] = from + float32(i)/3
	}
	return v
}

// sample returns a small pack that has every part.
func sample(t testing.TB) *Pack {
	t.Helper()
	g := model.New("sample")
	g.Inputs, g.Outputs = []string{"x"}, []string{"y"}
	g.Values["x"] = &model.Value{Type: model.F32, Shape: model.Shape{model.Unknown, 5}, Dims: []string{"N", ""}}
	g.AddConst("w", model.Of(model.F32, floats(25, -4), 5, 5))
	g.AddConst("w again", model.Of(model.F32, floats(25, -4), 5, 5))
	g.AddConst("bias", model.Of(model.F32, floats(5, 1), 5))
	g.Nodes = []*model.Node{
		{Op: "Gemm", Name: "first", In: []string{"x", "w", "bias"}, Out: []string{"a"}, Attrs: map[string]model.Attr{"alpha": float32(1), "transB": int64(1)}},
		{Op: "Gemm", Name: "second", In: []string{"a", "w again", ""}, Out: []string{"y"}},
	}
	in := model.Of(model.F32, floats(5, 0), 1, 5)
	out := model.Of(model.F32, floats(5, 7), 1, 5)
	return &Pack{
		Name: "garments", Version: 7, Graph: g,
		Pipeline: json.RawMessage(`{"inputs": [ {"kind": "image"} ]}`), Quant: json.RawMessage(`{"to":"int8"}`),
		Report: json.RawMessage(`{"accuracy":0.9125}`), Provenance: json.RawMessage(`{"from":"sample.onnx"}`),
		Labels: []string{"shirt", "coat"}, Entities: map[string]string{"shirt": "http://example.org/shirt"},
		Exam: &Exam{Tolerance: 1e-4, Cases: []Case{{Inputs: []*model.Tensor{in}, Outputs: []*model.Tensor{out}}}},
	}
}

func newLayout(t testing.TB) *oci.Layout {
	t.Helper()
	l, err := oci.Create(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func write(t testing.TB, l *oci.Layout, p *Pack) string {
	t.Helper()
	d, err := Write(l, p)
	if err != nil {
		t.Fatal(err)
	}
	return string(d.Digest)
}

func open(t testing.TB, l *oci.Layout, digest string) *Model {
	t.Helper()
	m, err := Open(l, digest)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := m.Close(); err != nil {
			t.Error(err)
		}
	})
	return m
}

func TestRoundTrip(t *testing.T) {
	l, p := newLayout(t), sample(t)
	m := open(t, l, write(t, l, p))
	checkSamePack(t, &m.Pack, p)
	if m.Digest == "" || m.Size == 0 {
		t.Errorf("digest %q, size %d", m.Digest, m.Size)
	}
	if b, err := m.Graph.Value("x"), m.Graph.Check(); b.Dims[0] != "N" || err != nil {
		t.Errorf("dims %q, check %v", b.Dims, err)
	}
}

func checkSamePack(t testing.TB, got, want *Pack) {
	t.Helper()
	if got.Name != want.Name || got.Version != want.Version {
		t.Errorf("got %s %d, want %s %d", got.Name, got.Version, want.Name, want.Version)
	}
	if !sameGraph(got.Graph, want.Graph) {
		t.Error("the graph came back different")
	}
	for _, part := range [][2]json.RawMessage{
		{got.Pipeline, want.Pipeline}, {got.Quant, want.Quant}, {got.Report, want.Report}, {got.Provenance, want.Provenance},
	} {
		if !sameJSON(t, part[0], part[1]) {
			t.Errorf("got %s, want %s", part[0], part[1])
		}
	}
	if !slices.Equal(got.Labels, want.Labels) || !reflect.DeepEqual(got.Entities, want.Entities) {
		t.Errorf("labels %q, entities %q", got.Labels, got.Entities)
	}
	if (got.Exam == nil) != (want.Exam == nil) {
		t.Fatal("exam lost")
	}
	if want.Exam == nil {
		return
	}
	if got.Exam.Exact != want.Exam.Exact || got.Exam.Tolerance != want.Exam.Tolerance || len(got.Exam.Cases) != len(want.Exam.Cases) {
		t.Fatalf("exam %+v", got.Exam)
	}
	for i, c := range want.Exam.Cases {
		if Digest(got.Exam.Cases[i].Outputs) != Digest(c.Outputs) || Digest(got.Exam.Cases[i].Inputs) != Digest(c.Inputs) {
			t.Errorf("exam case %d came back different", i)
		}
	}
}

func sameJSON(t testing.TB, a, b json.RawMessage) bool {
	t.Helper()
	if a == nil || b == nil {
		return a == nil && b == nil
	}
	var x, y any
	if err := errors.Join(json.Unmarshal(a, &x), json.Unmarshal(b, &y)); err != nil {
		t.Fatal(err)
	}
	return reflect.DeepEqual(x, y)
}

func TestSamePackSameDigest(t *testing.T) {
	first := write(t, newLayout(t), sample(t))
	for range 5 {
		if again := write(t, newLayout(t), sample(t)); again != first {
			t.Fatalf("%s, then %s", first, again)
		}
	}
	p := sample(t)
	p.Version++
	if other := write(t, newLayout(t), p); other == first {
		t.Error("another version, the same digest")
	}
}

func TestMappedAndRead(t *testing.T) {
	onDisk := newLayout(t)
	inMemory, err := oci.CreateOn(durable.NewForgetful(), "/models")
	if err != nil {
		t.Fatal(err)
	}
	for name, l := range map[string]*oci.Layout{"disk": onDisk, "memory": inMemory} {
		m := open(t, l, write(t, l, sample(t)))
		checkSamePack(t, &m.Pack, sample(t))
		for _, v := range []string{"w", "w again"} {
			p := uintptr(unsafe.Pointer(unsafe.SliceData(m.Graph.Const(v).Data)))
			if p%model.Alignment != 0 {
				t.Errorf("%s: %s begins at %d past a multiple of %d", name, v, p%model.Alignment, model.Alignment)
			}
		}
		if unsafe.SliceData(m.Graph.Const("w").Data) != unsafe.SliceData(m.Graph.Const("w again").Data) {
			t.Errorf("%s: equal tensors are stored twice", name)
		}
	}
}

// Every byte of every blob is covered by a digest: any flip is refused.
func TestEachFlippedByteIsRefused(t *testing.T) {
	l := newLayout(t)
	digest := write(t, l, sample(t))
	entries, err := os.ReadDir(l.Dir() + "/blobs/sha256")
	if err != nil || len(entries) < 11 {
		t.Fatalf("%d blobs, %v", len(entries), err)
	}
	for _, e := range entries {
		path := l.Dir() + "/blobs/sha256/" + e.Name()
		good, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		bad := slices.Clone(good)
		for i := range good {
			bad[i] ^= 1 << (i % 8)
			refused(t, l, digest, path, bad)
			bad[i] = good[i]
		}
		for _, n := range []int{0, 1, len(good) / 2, len(good) - 1} {
			refused(t, l, digest, path, good[:n])
		}
		refused(t, l, digest, path, append(slices.Clone(good), ' '))
		if err := os.WriteFile(path, good, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	open(t, l, digest) // all is well again: nothing else was in the way
}

func refused(t *testing.T, l *oci.Layout, digest, path string, content []byte) {
	t.Helper()
	if err := os.WriteFile(path, content, 0o644); err != nil {
		t.Fatal(err)
	}
	m, err := Open(l, digest)
	if err == nil {
		t.Fatalf("%s: changed content was accepted: %v", path, m.Close())
	}
	var de *oci.DigestError
	var pe *Error
	if !errors.As(err, &de) || !errors.As(err, &pe) {
		t.Fatalf("%s: %v", path, err)
	}
}

func TestMissingBlobs(t *testing.T) {
	l := newLayout(t)
	d := write(t, l, sample(t))
	m, err := l.Manifest(oci.Digest(d))
	if err != nil {
		t.Fatal(err)
	}
	for _, b := range oci.Blobs(m) {
		path, err := l.Path(b.Digest)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(path, path+".away"); err != nil {
			t.Fatal(err)
		}
		if _, err := Open(l, d); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s: %v", b.MediaType, err)
		}
		if err := os.Rename(path+".away", path); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := Open(l, "sha256:../../etc/passwd"); err == nil {
		t.Error("no digest, and it opened")
	}
}

// Manifests that are whole by their digests, but are no pack of ours.
func TestManifests(t *testing.T) {
	cases := []struct {
		name, want string
		change     func(l *oci.Layout, m *oci.Manifest)
	}{
		{"another artefact", "not a model", func(_ *oci.Layout, m *oci.Manifest) { m.ArtifactType = "application/json" }},
		{"config of another kind", "not a model", func(_ *oci.Layout, m *oci.Manifest) { m.Config.MediaType = "application/json" }},
		{"no graph", "does not have it", func(_ *oci.Layout, m *oci.Manifest) { m.Layers[0].MediaType = "application/json" }},
		{"weights twice", "twice", func(_ *oci.Layout, m *oci.Manifest) { m.Layers[2].MediaType = MediaTypeWeights }},
		{"name with a slash", "name", func(_ *oci.Layout, m *oci.Manifest) { m.Annotations[oci.AnnotationTitle] = "../x" }},
		{"another name than the config's", "it describes", func(_ *oci.Layout, m *oci.Manifest) { m.Annotations[oci.AnnotationTitle] = "other" }},
		{"version 0", "version", func(_ *oci.Layout, m *oci.Manifest) { m.Annotations[oci.AnnotationVersion] = "0" }},
		{"version +7", "version", func(_ *oci.Layout, m *oci.Manifest) { m.Annotations[oci.AnnotationVersion] = "+7" }},
		{"layers in another order", "layer 0", func(_ *oci.Layout, m *oci.Manifest) { m.Layers[0], m.Layers[1] = m.Layers[1], m.Layers[0] }},
		{"a layer less", "layers", func(_ *oci.Layout, m *oci.Manifest) { m.Layers = m.Layers[:5] }},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			l := newLayout(t)
			m, err := l.Manifest(oci.Digest(write(t, l, sample(t))))
			if err != nil {
				t.Fatal(err)
			}
			c.change(l, m)
			d, err := l.PutManifest(m)
			if err != nil {
				t.Fatal(err)
			}
			_, err = Open(l, string(d.Digest))
			if !errors.Is(err, ErrFormat) || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want %q", err, c.want)
			}
		})
	}
}

// A later version may add layers: they are hashed, and otherwise left alone.
func TestUnknownLayer(t *testing.T) {
	l := newLayout(t)
	p := sample(t)
	m, err := l.Manifest(oci.Digest(write(t, l, p)))
	if err != nil {
		t.Fatal(err)
	}
	extra, err := l.PutBytes("application/vnd.example.future+json", []byte(`{"new":true}`))
	if err != nil {
		t.Fatal(err)
	}
	m.Layers = append(m.Layers, extra)
	data, err := marshal(newConfig(p, m.Layers))
	if err != nil {
		t.Fatal(err)
	}
	if m.Config, err = l.PutBytes(MediaTypeConfig, data); err != nil {
		t.Fatal(err)
	}
	d, err := l.PutManifest(m)
	if err != nil {
		t.Fatal(err)
	}
	open(t, l, string(d.Digest))
	path, err := l.Path(extra.Digest)
	if err != nil {
		t.Fatal(err)
	}
	refused(t, l, string(d.Digest), path, []byte(`{"new":fals}`))
}

func TestWriteRefuses(t *testing.T) {
	cases := []struct {
		name, want string
		change     func(p *Pack)
	}{
		{"no name", "name", func(p *Pack) { p.Name = "" }},
		{"path as name", "name", func(p *Pack) { p.Name = "../x" }},
		{"version 0", "version", func(p *Pack) { p.Version = 0 }},
		{"no graph", "no graph", func(p *Pack) { p.Graph = nil }},
		{"open graph", "nothing makes it", func(p *Pack) { p.Graph.Outputs = []string{"z"} }},
		{"no JSON", "report.json", func(p *Pack) { p.Report = json.RawMessage("{") }},
		{"attribute of type int", "attribute", func(p *Pack) { p.Graph.Nodes[0].Attrs["axis"] = 1 }},
		{"name that is no UTF-8", "UTF-8", func(p *Pack) { p.Graph.Nodes[0].Name = "\xff" }},
		{"tensor without data", "needs 8 bytes", func(p *Pack) {
			p.Exam.Cases[0].Outputs[0] = &model.Tensor{Type: model.F32, Shape: model.Shape{2}}
		}},
		{"nil in an exam", "nil", func(p *Pack) { p.Exam.Cases[0].Inputs[0] = nil }},
		{"tolerance of an exact exam", "tolerance", func(p *Pack) { p.Exam.Exact = true }},
		{"constant that differs from its value", "known as", func(p *Pack) { p.Graph.Values["w"].Type = model.I8 }},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			l, p := newLayout(t), sample(t)
			c.change(p)
			_, err := Write(l, p)
			var pe *Error
			if !errors.As(err, &pe) || !errors.Is(err, ErrFormat) || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want %q", err, c.want)
			}
		})
	}
}

func TestSignature(t *testing.T) {
	l := newLayout(t)
	d := write(t, l, sample(t))
	if _, ok := Signature(l, d); ok {
		t.Error("signed by nobody, but it has a signature")
	}
	key, err := sign.Generate()
	if err != nil {
		t.Fatal(err)
	}
	if err := Sign(l, d, key); err != nil {
		t.Fatal(err)
	}
	write(t, l, sample(t)) // writing it again keeps the signature
	s, ok := Signature(l, d)
	if !ok {
		t.Fatal("no signature")
	}
	trust := sign.Trust{key.Public()}
	if err := trust.Verify(PurposeModel, []byte(d), s); err != nil {
		t.Error(err)
	}
	if err := trust.Verify("dunlin.facts", []byte(d), s); !errors.Is(err, sign.ErrBadSignature) {
		t.Errorf("another purpose: %v", err)
	}
	if err := Sign(l, "sha256:"+strings.Repeat("0", 64), key); err == nil {
		t.Error("signed what is not there")
	}
}

func TestReadDirTakesTheNewest(t *testing.T) {
	l := newLayout(t)
	p := sample(t)
	older := write(t, l, p)
	p.Version = 8
	newer := write(t, l, p)
	for _, want := range []string{newer, older} {
		m, err := ReadDir(l.Dir())
		if err != nil {
			t.Fatal(err)
		}
		if m.Digest != want {
			t.Errorf("got version %d", m.Version)
		}
		if err := errors.Join(m.Close(), m.Close()); err != nil {
			t.Error(err)
		}
		p.Version = 7
		write(t, l, p)
	}
	if _, err := ReadDir(t.TempDir()); !errors.Is(err, oci.ErrNoLayout) {
		t.Errorf("an empty folder: %v", err)
	}
}

// A power cut while a pack is written leaves the pack before it whole, and
// the new one either whole or not in the index.
func TestPowerCutWhileWriting(t *testing.T) {
	setup := func() (*durable.Forgetful, *oci.Layout) {
		f := durable.NewForgetful()
		l, err := oci.CreateOn(f, "/models")
		if err != nil {
			t.Fatal(err)
		}
		write(t, l, sample(t))
		f.Crash()
		return f, l
	}
	next := sample(t)
	next.Version = 8
	next.Labels = append(next.Labels, "boot")
	f, l := setup()
	before := f.Ops()
	newest := write(t, l, next)
	n := f.Ops() - before
	for cut := range n + 1 {
		f, l := setup()
		f.CutAt(cut)
		_, err := Write(l, next)
		if (err == nil) != (cut == n) {
			t.Fatalf("cut at %d of %d: %v", cut, n, err)
		}
		f.Crash()
		d, err := Newest(l)
		if err != nil {
			t.Fatalf("cut at %d: %v", cut, err)
		}
		if cut == n && string(d.Digest) != newest {
			t.Error("written, but forgotten")
		}
		m, err := Open(l, string(d.Digest))
		if err != nil {
			t.Fatalf("cut at %d: %v", cut, err)
		}
		if err := m.Close(); err != nil {
			t.Error(err)
		}
	}
}

// What is forgotten is read from the file again.
func TestForget(t *testing.T) {
	l, p := newLayout(t), sample(t)
	m := open(t, l, write(t, l, p))
	m.Forget()
	checkSamePack(t, &m.Pack, p)
}
