package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"dunlin/examples/garments"
	"dunlin/train/recipe"
)

// TestTrain walks from a recipe of --example to a model, as a person would.
func TestTrain(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "mlp.toml")
	must(t, "train", "--example", "mlp", "-o", file)
	if status, _, _ := try(t, "train", "--example", "mlp", "-o", file); status != statusFailed {
		t.Error("a recipe was written over")
	}
	for _, name := range recipe.Examples() {
		if out := must(t, "train", "--example", name); !strings.Contains(out, "[network]") {
			t.Errorf("%s: %s", name, out)
		}
	}
	out := must(t, "train", file, "--epochs", "2", "--limit", "500")
	if strings.Count(out, "\nepoch ") != 2 || !strings.Contains(out, filepath.Join(dir, "mlp", "model.onnx")) {
		t.Errorf("%s", out)
	}
	var r recipe.Report
	again := filepath.Join(dir, "again")
	if err := json.Unmarshal([]byte(must(t, "train", file, "--epochs", "2", "--seed", "7", "--json", "-o", again)), &r); err != nil || len(r.Epochs) != 2 || r.Seed != 7 {
		t.Errorf("%v %+v", err, r)
	}
	if out := must(t, "model", "run", filepath.Join(again, "model.onnx"), "--shape", "0=1,100", "--input", "0="+zeros(t, dir, 400), "--output-dir", dir); out == "" {
		t.Error("the model says nothing")
	}
	for _, c := range []struct {
		args []string
		want int
		text string
	}{
		{[]string{"train"}, statusUsage, "--example mlp|garments|teacher|student"},
		{[]string{"train", "--example", "nothing"}, statusUsage, "no example"},
		{[]string{"train", file, "--example", "mlp"}, statusUsage, "without one"},
		{[]string{"train", file, "--resume", "-o", filepath.Join(dir, "new")}, statusFailed, "nothing to go on from"},
		{[]string{"train", file, "--resume", "--anew"}, statusUsage, "opposite"},
		{[]string{"train", file, "--epochs", "-1"}, statusUsage, "want 1 or more"},
		{[]string{"train", filepath.Join(dir, "absent.toml")}, statusFailed, "absent.toml"},
	} {
		if status, _, errs := try(t, c.args...); status != c.want || !strings.Contains(errs, c.text) {
			t.Errorf("%v: status %d, %s", c.args, status, errs)
		}
	}
}

func zeros(t *testing.T, dir string, n int) string {
	t.Helper()
	path := filepath.Join(dir, "zeros")
	if err := os.WriteFile(path, make([]byte, n), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// stopper ends a context when it has seen so many lines.
type stopper struct {
	bytes.Buffer
	stop  func()
	after int
}

func (s *stopper) Write(b []byte) (int, error) {
	n, err := s.Buffer.Write(b)
	if bytes.Count(s.Bytes(), []byte("\n")) >= s.after {
		s.stop()
	}
	return n, err
}

// TestTrainInterrupted: what Ctrl-C ends says how to go on, and that works.
func TestTrainInterrupted(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "mlp.toml")
	must(t, "train", "--example", "mlp", "-o", file)
	whole := filepath.Join(dir, "whole")
	must(t, "train", file, "-o", whole, "--epochs", "5")
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var errs bytes.Buffer
	half := filepath.Join(dir, "half")
	if status := Run(ctx, []string{"train", file, "-o", half, "--epochs", "5"}, &stopper{stop: cancel, after: 3}, &errs); status != statusFailed {
		t.Fatalf("interrupted: status %d", status)
	}
	if want := "dunlin train " + file + " -o " + half + " --epochs 5"; !strings.Contains(errs.String(), want) {
		t.Errorf("%s, want %s", errs.String(), want)
	}
	if out := must(t, "train", file, "-o", half, "--epochs", "5", "--resume"); !strings.Contains(out, "going on from the checkpoint") {
		t.Errorf("%s", out)
	}
	a, err := os.ReadFile(filepath.Join(whole, "model.onnx"))
	if err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(filepath.Join(half, "model.onnx"))
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(a, b) {
		t.Error("a training that was interrupted made another model")
	}
}

// TestGarmentsAreTrained deletes a copy of the demo's model and trains one in
// its place, with few pictures: the path from recipe to model is real.
func TestGarmentsAreTrained(t *testing.T) {
	dir := t.TempDir()
	at := func(name string) string { return filepath.Join(dir, name) }
	if err := garments.WriteTo(dir); err != nil {
		t.Fatal(err)
	}
	old, err := os.ReadFile(at("garments.onnx"))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(at("garments.onnx")); err != nil {
		t.Fatal(err)
	}
	text := must(t, "train", "--example", "garments")
	// The 200 pictures that come with the example, in place of the 60,000.
	text = strings.Replace(text, `"/usr/share/datasets/fashion-mnist"`, `"calibration"`, 1)
	text = strings.Replace(text, "batch           = 128", "batch = 20", 1)
	if err := os.WriteFile(at("short.toml"), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	var r recipe.Report
	if err := json.Unmarshal([]byte(must(t, "train", at("short.toml"), "--epochs", "6", "--json")), &r); err != nil {
		t.Fatal(err)
	}
	if r.Parameters != 78_666 || r.Train != 180 || !(r.Last().TrainLoss < 0.8*r.Epochs[0].TrainLoss) {
		t.Errorf("%+v", r)
	}
	made, err := os.ReadFile(at("short/model.onnx"))
	if err != nil {
		t.Fatal(err)
	}
	if bytes.Equal(made, old) {
		t.Fatal("it is the model that was deleted")
	}
	if err := os.WriteFile(at("garments.onnx"), made, 0o600); err != nil {
		t.Fatal(err)
	}
	var e evalResult
	if err := json.Unmarshal([]byte(must(t, "model", "eval", at("garments.onnx"), "--data", at("samples"), "--json")), &e); err != nil {
		t.Fatal(err)
	}
	if e.Samples != 200 || e.Top1 < 0.25 {
		t.Errorf("the new model: %+v", e)
	}
	must(t, "model", "compress", at("garments.onnx"), "--calibrate", at("calibration"), "--samples", "20", "-o", at("pack"))
}

// TestTrainedInInt8: a network that was trained as its int8 form computes is
// packed as it is.
func TestTrainedInInt8(t *testing.T) {
	dir := t.TempDir()
	at := func(name string) string { return filepath.Join(dir, name) }
	if err := garments.WriteTo(dir); err != nil {
		t.Fatal(err)
	}
	recipe := "[data]\ntrain = \"calibration\"\ntest = \"samples\"\nmean = [0.2860]\nstd = [0.3530]\n[network]\nonnx = \"garments.onnx\"\n[quantise]\nsamples = 50\n" +
		"[optimiser]\nkind = \"momentum\"\nrate = 0.001\n[train]\nepochs = 1\nbatch = 50\n"
	if err := os.WriteFile(at("int8.toml"), []byte(recipe), 0o600); err != nil {
		t.Fatal(err)
	}
	if text := must(t, "train", at("int8.toml"), "-o", at("int8")); !strings.Contains(text, "the same class as in training for 100.00 %") {
		t.Error(text)
	}
	model := filepath.Join(at("int8"), "model.onnx")
	must(t, "model", "compress", model, "--calibrate", at("calibration"), "--samples", "8", "-o", at("packed"))
	if before, after := must(t, "model", "eval", model, "--data", at("samples")), must(t, "model", "eval", at("packed"), "--data", at("samples")); before != after {
		t.Errorf("%q became %q", before, after)
	}
}
