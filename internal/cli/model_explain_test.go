package cli

import (
	"encoding/json"
	"image/png"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"dunlin/examples/garments"
	why "dunlin/explain"
	"dunlin/model"
	"dunlin/model/prep"
)

// TestExplain explains a garment by every method, as a person would.
func TestExplain(t *testing.T) {
	dir := t.TempDir()
	at := func(name string) string { return filepath.Join(dir, name) }
	if err := garments.WriteTo(dir); err != nil {
		t.Fatal(err)
	}
	must(t, "model", "compress", at("garments.onnx"), "--calibrate", at("calibration"), "--samples", "48", "-o", at("int8"))
	picture := at("samples/t10k-00055.png")
	out := must(t, "model", "explain", at("int8"), "--picture", picture, "-o", at("heat.png"))
	if !strings.HasPrefix(out, "Pullover (2)") || !strings.Contains(out, "cam: 1 run,") {
		t.Errorf("explain: %s", out)
	}
	f, err := os.Open(at("heat.png"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if img, err := png.Decode(f); err != nil || img.Bounds().Dx() != 256 {
		t.Errorf("heat map: %v", err)
	}
	if out := must(t, "model", "explain", at("garments.onnx"), "--picture", picture, "--class", "shirt"); strings.Count(out, "\n") != 9 || !strings.Contains(out, "@@") {
		t.Errorf("in characters: %s", out)
	}
	for method, cells := range map[string]int{"cam": 7, "occlusion": 16, "gradients": 28} {
		var r explained
		text := must(t, "model", "explain", at("int8"), "--float", at("garments.onnx"), "--picture", picture, "--class", "2", "--method", method, "--json")
		if err := json.Unmarshal([]byte(text), &r); err != nil {
			t.Fatal(err)
		}
		if r.Method != method || r.Width != cells || len(r.Values) != cells*cells || r.Label != "Pullover" || !r.Complete {
			t.Errorf("%s: %d x %d, %s, complete %v", method, r.Width, r.Height, r.Label, r.Complete)
		}
	}
	for _, c := range []struct {
		say    string
		status int
		args   []string
	}{
		{"--float ORIGINAL", statusFailed, []string{at("int8"), "--picture", picture, "--method", "gradients"}},
		{"Trouser", statusFailed, []string{at("int8"), "--picture", picture, "--class", "trous"}},
		{"--picture FILE", statusUsage, []string{at("int8")}},
		{"--float ORIGINAL", statusUsage, []string{at("int8"), "--picture", picture, "--why-int8"}},
		{"want one of", statusUsage, []string{at("int8"), "--picture", picture, "--method", "magic"}},
		{"--data PATH", statusUsage, []string{at("int8"), "--faithful"}},
	} {
		if status, _, errs := try(t, append([]string{"model", "explain"}, c.args...)...); status != c.status || !strings.Contains(errs, c.say) {
			t.Errorf("%v: status %d, %s", c.args, status, errs)
		}
	}
	testWhyInt8(t, at, picture)
	testFaithful(t, at)
}

func testWhyInt8(t *testing.T, at func(string) string, picture string) {
	t.Helper()
	args := []string{"model", "explain", at("int8"), "--float", at("garments.onnx"), "--picture", picture, "--why-int8"}
	if out := must(t, args...); !strings.Contains(out, "the same answer: Pullover") || !strings.Contains(out, " loses most: ") {
		t.Errorf("why int8: %s", out)
	}
	var r whyInt8
	if err := json.Unmarshal([]byte(must(t, append(args, "--json")...)), &r); err != nil {
		t.Fatal(err)
	}
	if r.Flipped || len(r.Float) != 5 || len(r.Int8) != 5 || r.Float[0].Label != "Pullover" || len(r.Layers) < 15 {
		t.Errorf("why int8: %+v", r)
	}
	for i, l := range r.Layers {
		if first := i == 0; first != (l.Before == noNoise) || l.After < 15 || l.After >= noNoise {
			t.Errorf("layer %d: %+v", i, l)
		}
	}
}

func testFaithful(t *testing.T, at func(string) string) {
	t.Helper()
	args := []string{
		"model", "explain", at("int8"), "--float", at("garments.onnx"), "--faithful", "--data", at("samples"),
		"--limit", "12", "--methods", "cam,gradients", "--json",
	}
	text := must(t, args...)
	var rows []faithfulRow
	if err := json.Unmarshal([]byte(text), &rows); err != nil {
		t.Fatal(err)
	}
	if len(rows) != 3 || rows[0].Method != "random" || rows[2].Method != "gradients" || rows[2].Pictures != 12 || rows[2].Runs < 17 || rows[2].Runs > 33 {
		t.Fatalf("faithful: %s", text)
	}
	if d := rows[2].Deletion.Shuffled; d == nil || d.Mean > -0.01 || rows[2].Insertion.Shuffled.Mean < 0.03 {
		t.Errorf("gradients against themselves, shuffled: %s", text)
	}
	if err := os.WriteFile(at("numbers.csv"), []byte("a,b,label\n1,2,0\n3,4,1\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	args[slices.Index(args, at("samples"))] = at("numbers.csv")
	if status, _, errs := try(t, args...); status != statusFailed || !strings.Contains(errs, "takes a picture") {
		t.Errorf("faithful to lines of numbers: status %d, %s", status, errs)
	}
}

// The attributions of a trained network sum to the difference of the logit of
// its first class, and of its second, within 1 %.
func TestGradientsAreComplete(t *testing.T) {
	dir := t.TempDir()
	if err := garments.WriteTo(dir); err != nil {
		t.Fatal(err)
	}
	f := explainFlags{}
	s, err := f.load(filepath.Join(dir, "garments.onnx"))
	if err != nil {
		t.Fatal(err)
	}
	defer s.close()
	x, err := newExplainer(s, single)
	if err != nil {
		t.Fatal(err)
	}
	if x.net, err = x.newNet(); err != nil {
		t.Fatal(err)
	}
	logits := logitsOf(t, s.graph, s.spec)
	for _, name := range []string{"t10k-00055.png", "t10k-00292.png"} {
		input, err := s.inputOf(filepath.Join(dir, "samples", name))
		if err != nil {
			t.Fatal(err)
		}
		baseline := x.network.MeanPicture(input.F32())
		at, from := logits(input.F32()), logits(baseline)
		for _, c := range firstFive(at, [2][]float32{at, at}, nil)[:2] {
			class := c.Class
			g, err := netGradient(x.net, class)
			if err != nil {
				t.Fatal(err)
			}
			a, err := why.IntegratedGradients(t.Context(), g, input.F32(), baseline, why.IntegratedOptions{Batch: gradientBatch, MaxSteps: 1024})
			if err != nil {
				t.Fatal(err)
			}
			sum := 0.0
			for _, v := range a.Values {
				sum += float64(v)
			}
			want := float64(at[class] - from[class]) // by the engine, not by what gave the gradients
			if d := sum - want; d > 0.01*max(want, -want) || d < -0.01*max(want, -want) {
				t.Errorf("%s, class %d: attributions sum to %v, the logit differs by %v (%d steps)", name, class, sum, want, a.Steps)
			}
		}
	}
}

// logitsOf returns what runs g with the engine and gives what its softmax reads.
func logitsOf(t *testing.T, g *model.Graph, spec prep.Spec) func(x []float32) []float32 {
	t.Helper()
	c := g.Clone()
	c.Outputs = []string{g.Producers()[g.Outputs[0]].In[0]}
	_, s, err := session(c, map[string]model.Shape{g.Inputs[0]: spec.Inputs[0].Shape()}, single)
	if err != nil {
		t.Fatal(err)
	}
	return func(x []float32) []float32 {
		copy(s.Input(0).F32(), x)
		if err := s.Run(); err != nil {
			t.Fatal(err)
		}
		return append([]float32{}, s.Output(0).F32()...)
	}
}

// The layer that adds the noise is the one that is named, and an answer that
// flips is said to.
func TestVerdict(t *testing.T) {
	r := whyInt8{
		Float:   []scored{{2, "Pullover", 0.45, 0.40}, {6, "Shirt", 0.41, 0.47}},
		Int8:    []scored{{6, "Shirt", 0.41, 0.47}, {2, "Pullover", 0.45, 0.40}},
		Flipped: true,
		Layers: []layerLoss{
			{"stem", "conv", noNoise, 40, 0.0001}, {"middle", "conv", 40, 14.2, 0.038}, {"head", "gemm", 14.2, 13.9, 0.003},
		},
	}
	got := strings.Join(r.verdict(), "; ")
	for _, want := range []string{
		"int8 flips the answer: Pullover (0.450) in float, Shirt (0.470) in int8", "unsure itself: Pullover leads Shirt by 0.040",
		"layer middle loses most: 14.2 dB behind it, 40.0 dB before", "keep it in float",
	} {
		if !strings.Contains(got, want) {
			t.Errorf("verdict %q does not say %q", got, want)
		}
	}
}
