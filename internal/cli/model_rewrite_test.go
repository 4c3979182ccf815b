package cli

import (
	"encoding/json"
	"path/filepath"
	"testing"

	"dunlin/examples/garments"
	"dunlin/model/prep"
	"dunlin/quant"
)

// TestRewrite compresses the demo's model without samples, and with each way
// to change it first.
func TestRewrite(t *testing.T) {
	dir := t.TempDir()
	at := func(name string) string { return filepath.Join(dir, name) }
	if err := garments.WriteTo(dir); err != nil {
		t.Fatal(err)
	}
	compress := func(out string, args ...string) packReport {
		t.Helper()
		text := must(t, append([]string{"model", "compress", at("garments.onnx"), "-o", at(out), "--eval", at("samples"), "--json"}, args...)...)
		var r struct{ Report packReport }
		if err := json.Unmarshal([]byte(text), &r); err != nil {
			t.Fatal(err)
		}
		a := r.Report.Accuracy[0]
		if a.Before-a.After > .03 {
			t.Errorf("%s: %g right before, %g after", out, a.Before, a.After)
		}
		return r.Report
	}
	r := compress("free", "--data-free")
	if f := r.Rewrite.DataFree; f == nil || f.Norms != 14 || len(f.Weak) != 1 {
		t.Errorf("%+v", f)
	}
	r = compress("less", "--calibrate", at("calibration"), "--samples", "32", "--prune", "0.03", "--low-rank", "0.95", "--equalise", "--per-tensor")
	if w := r.Rewrite; w == nil || w.Prune == nil || w.LowRank == nil || w.Equalise == nil || w.DataFree != nil ||
		w.Prune.Channels[1] >= w.Prune.Channels[0] || w.Equalise.Channels == 0 {
		t.Errorf("%+v", w)
	}
	for _, args := range [][]string{
		{"--data-free", "--calibrate", at("calibration")}, {"--data-free", "--prune", "1"}, {"--data-free", "--low-rank", "-1"},
	} {
		if status, _, _ := try(t, append([]string{"model", "compress", at("garments.onnx"), "-o", at("no")}, args...)...); status != 2 {
			t.Errorf("%v: status %d", args, status)
		}
	}
}

func TestBoundsOf(t *testing.T) {
	in := prep.Input{Kind: "picture", Color: "rgb", Scale: 1. / 255, Mean: []float64{.5, .5, .25}, Std: []float64{.5, .5, .25}}
	if b, err := boundsOf(in); err != nil || b != (quant.Bounds{Low: -1, High: 3}) {
		t.Errorf("%+v, %v", b, err)
	}
	if b, err := boundsOf(prep.Input{Kind: "picture", Color: "gray", Scale: 1}); err != nil || b != (quant.Bounds{Low: 0, High: 255}) {
		t.Errorf("%+v, %v", b, err)
	}
	if _, err := boundsOf(prep.Input{Kind: "sound"}); err == nil {
		t.Error("a sound has bounds")
	}
}
