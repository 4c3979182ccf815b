package cli

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"dunlin/examples/garments"
	"dunlin/model"
	"dunlin/model/pack"
)

// try runs a command and returns its status, output and errors.
func try(t *testing.T, args ...string) (status int, stdout, stderr string) {
	t.Helper()
	var out, errs bytes.Buffer
	status = Run(t.Context(), args, &out, &errs)
	return status, out.String(), errs.String()
}

func must(t *testing.T, args ...string) string {
	t.Helper()
	status, out, errs := try(t, args...)
	if status != statusOK {
		t.Fatalf("dunlin %s: status %d\n%s", strings.Join(args, " "), status, errs)
	}
	return out
}

// TestModelRoad walks a model from the file to a signed pack, as a person
// would.
func TestModelRoad(t *testing.T) {
	dir := t.TempDir()
	at := func(name string) string { return filepath.Join(dir, name) }
	if err := garments.WriteTo(dir); err != nil {
		t.Fatal(err)
	}
	if out := must(t, "model", "inspect", at("garments.onnx")); !strings.Contains(out, "[N, 1, 28, 28]") {
		t.Errorf("inspect: %s", out)
	}
	for _, to := range []string{"int8", "fp16", "float32"} {
		t.Run(to, func(t *testing.T) {
			out := at("pack-" + to)
			var made struct{ Report packReport }
			text := must(t, "model", "compress", at("garments.onnx"), "--calibrate", at("calibration"), "--samples", "48", "--to", to, "--eval", at("samples"), "-o", out, "--json")
			if err := json.Unmarshal([]byte(text), &made); err != nil {
				t.Fatal(err)
			}
			r := made.Report
			if len(r.Accuracy) != 1 || r.Accuracy[0].Samples != 200 || r.Accuracy[0].Before < 0.9 {
				t.Fatalf("accuracy %+v", r.Accuracy)
			}
			if loss := r.Accuracy[0].Before - r.Accuracy[0].After; loss > 0.02 {
				t.Errorf("%s loses %.1f points on 200 pictures", to, 100*loss)
			}
			least := map[string]float64{"int8": 3.3, "fp16": 1.9, "float32": 1}[to]
			if ratio := float64(r.Bytes.Before) / float64(r.Bytes.After); ratio < least {
				t.Errorf("%s: %.2f times smaller, want %.1f", to, ratio, least)
			}
			m, err := pack.ReadDir(out)
			if err != nil {
				t.Fatal(err)
			}
			defer m.Close()
			if m.Exam.Exact != (to == "int8") || len(m.Exam.Cases) != 4 || len(m.Labels) != 10 || len(m.Entities) != 10 {
				t.Errorf("exam exact %v of %d cases, %d labels, %d entities", m.Exam.Exact, len(m.Exam.Cases), len(m.Labels), len(m.Entities))
			}
		})
	}
	// The same input gives the same pack.
	must(t, "model", "compress", at("garments.onnx"), "--calibrate", at("calibration"), "--samples", "48", "-o", at("again"))
	if !bytes.Equal(blob(t, at("again")), blob(t, at("pack-int8"))) {
		t.Error("two runs made different weights")
	}

	must(t, "model", "sign", "--make-key", "--key", at("key.pem"))
	if status, _, errs := try(t, "model", "sign", "--make-key", "--key", at("key.pem")); status != statusFailed || !strings.Contains(errs, "hint") {
		t.Errorf("a key was overwritten: %d %s", status, errs)
	}
	must(t, "model", "sign", at("pack-int8"), "--key", at("key.pem"))
	if out := must(t, "model", "bench", "--seconds", "0.05", "--json", at("garments.onnx"), at("pack-int8")); strings.Count(out, "median_ms") != 2 {
		t.Errorf("bench: %s", out)
	}
	if out := must(t, "model", "inspect", at("pack-int8"), "--passes"); !strings.Contains(out, "--- after import") || !strings.Contains(out, "--- after integer") {
		t.Errorf("passes: %s", out)
	}
	if out := must(t, "model", "inspect", at("pack-int8"), "--plan"); !strings.Contains(out, "the same bits on every CPU") {
		t.Errorf("plan: %s", out)
	}
}

// blob returns the largest blob of a pack: its weights.
func blob(t *testing.T, dir string) []byte {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "blobs", "sha256", "*"))
	if err != nil {
		t.Fatal(err)
	}
	var largest []byte
	for _, f := range files {
		data, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		if len(data) > len(largest) {
			largest = data
		}
	}
	return largest
}

func TestFactsRoad(t *testing.T) {
	dir := t.TempDir()
	at := func(name string) string { return filepath.Join(dir, name) }
	if err := garments.WriteTo(dir); err != nil {
		t.Fatal(err)
	}
	must(t, "facts", "import", at("garments.nt"), "--graph", "garments", "-o", at("base"))
	const sneaker = "https://dunlin.example/garments/kind/sneaker"
	if out := must(t, "facts", "query", at("base"), "--describe", sneaker); !strings.Contains(out, "<"+sneaker+"> ") {
		t.Errorf("describe: %s", out)
	}
	if out := must(t, "facts", "query", at("base"), "--enrich", sneaker, "--json"); !strings.Contains(out, "garments@1") {
		t.Errorf("enrich: %s", out)
	}
	if err := os.WriteFile(at("bad.nt"), []byte("<http://e/a> <http://e/b> \"c\" .\n<http://e/a> nonsense .\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if status, _, errs := try(t, "facts", "import", at("bad.nt")); status != statusFailed || !strings.Contains(errs, "bad.nt") || !strings.Contains(errs, "2") {
		t.Errorf("bad file: %d %s", status, errs)
	}
}

func TestInit(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "mine")
	must(t, "init", dir)
	if out := must(t, "facts", "import", filepath.Join(dir, "facts.nt")); !strings.HasPrefix(out, "10 facts") {
		t.Errorf("facts of the scaffold: %s", out)
	}
	if status, _, _ := try(t, "init", dir); status != statusFailed {
		t.Error("init wrote over files")
	}
	text, err := os.ReadFile(filepath.Join(dir, "README.md"))
	if err != nil {
		t.Fatal(err)
	}
	enrol, install, rollout := strings.Index(string(text), "dunlin fleet enrol line-1 --claim"), strings.Index(string(text), "dunlin-agent install"), strings.Index(string(text), "dunlin fleet rollout")
	if enrol < 0 || install < enrol || rollout < install {
		t.Errorf("its README has enrol at %d, install at %d, rollout at %d", enrol, install, rollout)
	}
	// The scaffold's preprocessing is read by a command that needs it.
	_, _, errs := try(t, "model", "eval", filepath.Join(dir, "model.onnx"), "--data", dir)
	if !strings.Contains(errs, "model.onnx") {
		t.Errorf("eval: %s", errs)
	}
}

func TestInputKey(t *testing.T) {
	newGraph := func(inputs []string) *model.Graph {
		g := model.New("g")
		g.Inputs = inputs
		return g
	}
	for _, c := range []struct {
		inputs           []string
		arg, name, value string
	}{
		{[]string{"a", "b"}, "1=x", "b", "x"},
		{[]string{"1", "0"}, "0=x", "0", "x"}, // a name wins over an index
		{[]string{"k=v"}, "k=v=x", "k=v", "x"},
	} {
		g := newGraph(c.inputs)
		name, value, err := inputKey(g, c.arg)
		if err != nil || name != c.name || value != c.value {
			t.Errorf("%v %q: %q %q %v", c.inputs, c.arg, name, value, err)
		}
	}
	if _, _, err := inputKey(newGraph([]string{"a"}), "7=x"); err == nil {
		t.Error("an input that is not there was found")
	}
}
