package cli

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"dunlin/engine"
	"dunlin/internal/shared"
)

// conformance runs the command and returns the status of each test.
func conformance(t *testing.T, args ...string) map[string]conformanceResult {
	t.Helper()
	var stdout, stderr bytes.Buffer
	status := Run(t.Context(), append([]string{"model", "conformance", "--json"}, args...), &stdout, &stderr)
	results := map[string]conformanceResult{}
	failed := false
	for d := json.NewDecoder(&stdout); d.More(); {
		var r conformanceResult
		if err := d.Decode(&r); err != nil {
			t.Fatal(err)
		}
		results[r.Test] = r
		failed = failed || r.Status == conformanceFail
	}
	if (status == statusFailed) != failed {
		t.Errorf("status %d, a test failed: %v\n%s", status, failed, &stderr)
	}
	return results
}

// reached is how many tests of each suite pass; the last figure is the
// suite's. A change that makes it more raises the number here.
var reached = map[string][2]int{
	"node": {872, 932}, "simple": {15, 23}, "pytorch-operator": {35, 35}, "pytorch-converted": {82, 82},
}

// The numbers that were reached stay reached; no test that ONNX Runtime
// passes fails but for those named here.
func TestConformance(t *testing.T) {
	dir := shared.Dir(t, "conformance", "onnx-node")
	results := conformance(t, filepath.Join(dir, "data"))
	passed, all := map[string]int{}, map[string]int{}
	for name, r := range results {
		suite, _, _ := strings.Cut(filepath.ToSlash(name), "/")
		all[suite]++
		if r.Status == conformancePass {
			passed[suite]++
		}
		if r.Status == conformanceFail && !misread[name] {
			t.Errorf("%s fails: %s", name, r.Reason)
		}
	}
	for suite, want := range reached {
		if passed[suite] < want[0] || all[suite] != want[1] {
			t.Errorf("%s: %d of %d pass, want %d of %d", suite, passed[suite], all[suite], want[0], want[1])
		}
	}
	var runtime map[string]string
	readJSON(t, filepath.Join(dir, "onnxruntime-1.30-results.json"), &runtime)
	for name, status := range runtime {
		if status == "pass" && results[name].Status != conformancePass && !notHere[name] {
			t.Errorf("%s: ONNX Runtime passes it: %+v", name, results[name])
		}
	}
	var core struct {
		Tests []string `json:"core_tests"`
	}
	readJSON(t, filepath.Join(dir, "core-tests-for-real-models.json"), &core)
	for _, name := range core.Tests {
		if results[name].Status != conformancePass {
			t.Errorf("core test %s: %+v", name, results[name])
		}
	}
}

// misread are tests that contradict themselves. Those of Resize, from opset
// 11, expect values for lengths that are no integers; ONNX Runtime fails them
// too, and later editions of ONNX changed them. The others give an input that
// has not the shape of the model's.
var misread = map[string]bool{
	"node/test_resize_downsample_scales_cubic_align_corners":  true,
	"node/test_resize_downsample_scales_linear_align_corners": true,
	"node/test_castlike_FLOAT_to_BFLOAT16":                    true,
	"node/test_castlike_FLOAT_to_BFLOAT16_expanded":           true,
	"node/test_castlike_BFLOAT16_to_FLOAT":                    true,
	"node/test_castlike_BFLOAT16_to_FLOAT_expanded":           true,
}

// notHere are tests that only ONNX Runtime passes: Scan before opset 9.
var notHere = map[string]bool{"node/test_scan_sum": true}

func readJSON(t *testing.T, path string, to any) {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(data, to); err != nil {
		t.Fatal(err)
	}
}

func TestConformanceOnly(t *testing.T) {
	dir := shared.Dir(t, "conformance", "onnx-node", "data", "node")
	list := filepath.Join(t.TempDir(), "list")
	if err := os.WriteFile(list, []byte("test_add\nnode/test_relu\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, only := range []string{"test_add,test_relu", list} {
		if r := conformance(t, dir, "--only", only); len(r) != 2 || r["test_add"].Status != conformancePass || r["test_relu"].Status != conformancePass {
			t.Errorf("--only %s: %+v", only, r)
		}
	}
	var stdout, stderr bytes.Buffer
	if status := Run(t.Context(), []string{"model", "conformance", dir, "--only", "test_none"}, &stdout, &stderr); status != statusFailed {
		t.Errorf("no test: status %d", status)
	}
}

// A test whose expected values are wrong is reported, and the status says so.
func TestConformanceFails(t *testing.T) {
	from := shared.Dir(t, "conformance", "onnx-node", "data", "node", "test_relu")
	dir := filepath.Join(t.TempDir(), "test_relu")
	if err := os.CopyFS(dir, os.DirFS(from)); err != nil {
		t.Fatal(err)
	}
	set := filepath.Join(dir, "test_data_set_0")
	input, err := os.ReadFile(filepath.Join(set, "input_0.pb"))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(set, "output_0.pb"), input, 0o600); err != nil {
		t.Fatal(err)
	}
	if r := conformance(t, dir)["test_relu"]; r.Status != conformanceFail || !strings.Contains(r.Reason, "want -") {
		t.Errorf("%+v", r)
	}
}

// docs/OPERATORS.md is what go generate writes.
func TestOperatorsAreFresh(t *testing.T) {
	want, err := os.ReadFile(filepath.Join("..", "..", "docs", "OPERATORS.md"))
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	if err := engine.WriteOperators(&b); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(b.Bytes(), want) {
		t.Error("docs/OPERATORS.md is old: go generate ./engine")
	}
}
