package cli

import (
	"encoding/json"
	"path/filepath"
	"strings"
	"testing"

	"dunlin/examples/garments"
)

// TestCompare compares a model with its packed forms, and itself with another
// tier, and sees a difference that is there.
func TestCompare(t *testing.T) {
	dir := t.TempDir()
	at := func(name string) string { return filepath.Join(dir, name) }
	if err := garments.WriteTo(dir); err != nil {
		t.Fatal(err)
	}
	must(t, "model", "compress", at("garments.onnx"), "--calibrate", at("calibration"), "--samples", "32", "--require", "int8", "-o", at("int8"))
	must(t, "model", "compress", at("garments.onnx"), "--calibrate", at("calibration"), "--samples", "32", "--to", "float32", "-o", at("float"))
	pictures, err := filepath.Glob(at("samples/*.png"))
	if err != nil || len(pictures) == 0 {
		t.Fatalf("no picture: %v", err)
	}

	for name, args := range map[string][]string{
		"ONNX and packed":          {at("garments.onnx"), at("float"), "--limit", "0"},
		"generic and SIMD":         {at("int8"), at("int8"), "--kernels-a", "generic"},
		"float and int8":           {at("garments.onnx"), at("int8"), "--picture", pictures[0]},
		"generic and SIMD, floats": {at("garments.onnx"), at("garments.onnx"), "--kernels-b", "generic"},
	} {
		out := must(t, append([]string{"model", "compare"}, args...)...)
		if !strings.Contains(out, " 0 beyond the bound") || strings.Contains(out, "\n!") {
			t.Errorf("%s: %s", name, out)
		}
	}

	status, out, errs := try(t, "model", "compare", at("garments.onnx"), at("int8"), "--limit", "1e-6", "--json")
	var r compareResult
	if err := json.Unmarshal([]byte(out), &r); err != nil {
		t.Fatal(err)
	}
	if status != statusFailed || !r.Differs || r.First < 0 || !strings.Contains(errs, "is the first") || !strings.Contains(errs, r.Rows[r.First].A.Kernel) {
		t.Errorf("status %d, first %d: %s", status, r.First, errs)
	}
	if status, _, _ := try(t, "model", "compare", at("garments.onnx")); status != statusUsage {
		t.Errorf("one model: status %d", status)
	}
	status, _, errs = try(t, "model", "compare", at("garments.onnx"), at("int8"), "--shape", "0=1,1,14,14")
	if status != statusFailed || !strings.Contains(errs, "dunlin: error:") {
		t.Errorf("a shape that one side does not take: status %d: %s", status, errs)
	}
}

// TestRequire: what the model has in integers is not computed in float
// without a word.
func TestRequire(t *testing.T) {
	dir := t.TempDir()
	at := func(name string) string { return filepath.Join(dir, name) }
	if err := garments.WriteTo(dir); err != nil {
		t.Fatal(err)
	}
	must(t, "model", "compress", at("garments.onnx"), "--calibrate", at("calibration"), "--samples", "32", "-o", at("int8"))
	for _, command := range [][]string{{"bench", "--seconds", "0.01"}, {"inspect"}} {
		args := append(append([]string{"model"}, command...), "--require", "int8")
		must(t, append(args, at("int8"))...)
		status, _, errs := try(t, append(args, at("garments.onnx"))...)
		if status != statusFailed || !strings.Contains(errs, "not quantised") || !strings.Contains(errs, "hint") {
			t.Errorf("%s of a float model: status %d: %s", command[0], status, errs)
		}
		if status, _, _ := try(t, "model", command[0], "--require", "int9", at("int8")); status != statusUsage {
			t.Errorf("%s --require int9: status %d", command[0], status)
		}
	}
	if status, _, errs := try(t, "model", "compress", at("garments.onnx"), "--calibrate", at("calibration"), "--to", "fp16", "--require", "int8", "-o", at("half")); status != statusFailed {
		t.Errorf("fp16 where int8 is required: status %d: %s", status, errs)
	}
	out := must(t, "model", "inspect", "--precision", at("int8"))
	for line := range strings.Lines(out) {
		if fields := strings.Fields(line); len(fields) < 4 {
			t.Errorf("a row without its reason: %s", line)
		}
	}
	if !strings.Contains(out, "0 of them in float where the model has integers") {
		t.Error(out)
	}
	if status, _, errs := try(t, "model", "bench", "--max-memory", "1K", at("int8")); status != statusFailed || !strings.Contains(errs, "more memory than allowed") || !strings.Contains(errs, "--max-memory") {
		t.Errorf("1 KiB was enough: status %d: %s", status, errs)
	}
}

func TestParseSize(t *testing.T) {
	for text, want := range map[string]int64{"": 0, "1": 1, "64M": 64 << 20, "64MB": 64 << 20, "2GiB": 2 << 30, "3k": 3 << 10} {
		if got, err := parseSize(text); err != nil || got != want {
			t.Errorf("%q: %d %v, want %d", text, got, err, want)
		}
	}
	for _, text := range []string{"0", "-1", "M", "1.5G", "9223372036854775807G", "1T"} {
		if got, err := parseSize(text); err == nil {
			t.Errorf("%q: %d", text, got)
		}
	}
}
