package cli

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"dunlin/engine"
	"dunlin/examples/garments"
	"dunlin/model"
	"dunlin/model/pack"
)

// TestSmallForm packs a model with a small form, and finds it there again.
func TestSmallForm(t *testing.T) {
	dir := t.TempDir()
	at := func(name string) string { return filepath.Join(dir, name) }
	if err := garments.WriteTo(dir); err != nil {
		t.Fatal(err)
	}
	compress := func(to, out string, args ...string) []string {
		return append([]string{"model", "compress", at("garments.onnx"), "--calibrate", at("calibration"), "--samples", "16", "--to", to, "-o", at(out)}, args...)
	}
	must(t, compress("int8", "tiny")...)
	out := must(t, compress("fp16", "both", "--small", at("tiny"), "--eval", at("samples"))...)
	if !strings.Contains(out, "small form: garments version 1, ") || !strings.Contains(out, "accuracy of the small form on samples (200 samples): ") {
		t.Errorf("compress says\n%s", out)
	}
	var both, tiny evalResult
	for to, args := range map[*evalResult][]string{&both: {at("both"), "--form", "small"}, &tiny: {at("tiny")}} {
		text := must(t, append([]string{"model", "eval", "--data", at("samples"), "--json"}, args...)...)
		if err := json.Unmarshal([]byte(text), to); err != nil {
			t.Fatal(err)
		}
	}
	if both.Top1 != tiny.Top1 || both.Top1 < 0.8 {
		t.Errorf("the small form is right %v of the time, the pack that it is from %v", both.Top1, tiny.Top1)
	}
	var info modelInfo
	if err := json.Unmarshal([]byte(must(t, "model", "inspect", at("both"), "--json")), &info); err != nil {
		t.Fatal(err)
	}
	var rep packReport
	if err := json.Unmarshal(info.Report, &rep); err != nil {
		t.Fatal(err)
	}
	if s := rep.Small; info.Small == nil || s == nil || s.Bytes >= info.Bytes || s.Bytes != info.Small.Bytes || len(s.Accuracy) != 1 || s.Accuracy[0].After != tiny.Top1 {
		t.Errorf("small form %+v, in the report %+v", info.Small, s)
	}
	if text := must(t, "model", "inspect", at("both")); !strings.Contains(text, "\nsmall form: garments") {
		t.Errorf("inspect says\n%s", text)
	}
	must(t, "model", "inspect", at("both"), "--form", "small", "--require", "int8")

	if err := os.WriteFile(at("labels.txt"), []byte(strings.Repeat("thing\n", 10)), 0o600); err != nil {
		t.Fatal(err)
	}
	must(t, compress("int8", "other-labels")...)
	for want, args := range map[string][]string{
		"it is not smaller":               compress("int8", "x", "--small", at("other-labels")),
		"its 10 labels are not":           compress("fp16", "x", "--small", at("tiny")),
		"no OCI image layout":             compress("fp16", "x", "--small", at("nothing")),
		"tiny has no small form":          {"model", "eval", at("tiny"), "--data", at("samples"), "--form", "small"},
		`"large": want small`:             {"model", "inspect", at("tiny"), "--form", "large"},
		"garments.onnx has no small form": {"model", "inspect", at("garments.onnx"), "--form", "small"},
	} {
		if status, _, errs := try(t, args...); status == 0 || !strings.Contains(errs, want) {
			t.Errorf("%v: status %d: %s, want %q", args, status, errs, want)
		}
	}
}

// affine is x*w + 1, with names of its own.
func affine(input, output string, w float32) *model.Graph {
	g := model.New(output)
	g.Inputs, g.Outputs = []string{input}, []string{output}
	g.Values[input] = &model.Value{Type: model.F32, Shape: model.Shape{1, 2}}
	g.AddConst("w", model.Of(model.F32, []float32{w, w}, 2))
	g.AddConst("one", model.Of(model.F32, []float32{1}, 1))
	g.Nodes = []*model.Node{
		{Op: "Mul", Name: "mul", In: []string{input, "w"}, Out: []string{"scaled"}},
		{Op: "Add", Name: "add", In: []string{"scaled", "one"}, Out: []string{output}},
	}
	return g
}

// A network of another maker gets the names of the first, and computes what it
// did.
func TestStandIn(t *testing.T) {
	first, other := affine("image", "scores", 1), affine("data", "logits", 3)
	g, err := standIn(other, first)
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(g.Inputs, first.Inputs) || !slices.Equal(g.Outputs, first.Outputs) || !slices.Equal(other.Inputs, []string{"data"}) {
		t.Errorf("%q to %q; the network itself %q", g.Inputs, g.Outputs, other.Inputs)
	}
	p, err := engine.Compile(g, engine.Options{})
	if err != nil {
		t.Fatal(err)
	}
	s := p.NewSession()
	copy(s.Input(0).F32(), []float32{2, -1})
	if err := s.Run(); err != nil || !slices.Equal(s.Output(0).F32(), []float32{7, -2}) {
		t.Errorf("%v, %v", s.Output(0).F32(), err)
	}
	if same, err := standIn(first, first); err != nil || len(same.Nodes) != len(first.Nodes) {
		t.Errorf("the same names: %v", err)
	}
	for want, g := range map[string]*model.Graph{
		`"scaled" as the model's is: another value is`: affine("scaled", "y", 1),
		`"w" as the model's is: another value is`:      affine("x", "w", 1),
	} {
		if _, err := standIn(other, g); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
	}
	two := affine("image", "scores", 1)
	two.Outputs = append(two.Outputs, "scaled")
	if _, err := standIn(other, two); err == nil || !strings.Contains(err.Error(), "1 inputs and 1 outputs, the model 1 and 2") {
		t.Errorf("one output for two: %v", err)
	}
	if err := sameQuestion(&pack.Pack{Pipeline: json.RawMessage(`{`)}, &pack.Pack{}); err == nil {
		t.Error("no JSON is a pipeline")
	}
}
