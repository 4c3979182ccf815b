package cli

import (
	"os"
	"path/filepath"
	"testing"

	"dunlin/internal/shared"
	"dunlin/model/samples"
	"dunlin/quant"
)

// TestDetectorsKeepTheirBoxes: two face detectors in int8 find the faces that
// they find in float, each box sharing 0.9 of the union, on a photo that they
// were not calibrated on.
func TestDetectorsKeepTheirBoxes(t *testing.T) {
	photos, others := t.TempDir(), t.TempDir()
	if err := os.Symlink(shared.Dir(t, "data", "vision", "photos", "coral-face.jpg"), filepath.Join(photos, "face.jpg")); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"fastestdet-0.jpg", "fastestdet-1.jpg", "fastestdet-3.jpg"} {
		if err := os.Symlink(shared.Dir(t, "data", "vision", "photos", name), filepath.Join(others, name)); err != nil {
			t.Fatal(err)
		}
	}
	all, err := filepath.Glob(filepath.Join(shared.Dir(t, "data", "vision", "imagenet-sample-500"), "*.jpg"))
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(all); i += 50 {
		if err := os.Symlink(all[i], filepath.Join(others, filepath.Base(all[i]))); err != nil {
			t.Fatal(err)
		}
	}
	for i, name := range []string{"ultraface-rfb-320", "yunet-n-320"} {
		if i > 0 && testing.Short() {
			break
		}
		m, err := load(shared.Dir(t, "models", "onnx", name+".onnx"))
		if err != nil {
			t.Fatal(err)
		}
		w, err := m.material(t.Context(), compressOptions{To: "int8", Calibrate: others})
		if err != nil {
			t.Fatal(err)
		}
		set, err := samples.Open(photos, samples.Options{})
		if err != nil {
			t.Fatal(err)
		}
		f := &referee{ctx: t.Context(), set: set, at: []int{0}, spec: w.spec}
		if err := f.float(w.graph, func(int) {}); err != nil {
			t.Fatal(err)
		}
		if n := len(f.answers[0].boxes); n != 4 {
			t.Fatalf("%s finds %d faces in float, want 4", name, n)
		}
		small, r, err := w.quantise(w.graph, compressOptions{To: "int8"}, new(*rewriteReport), nil)
		if err != nil {
			t.Fatal(err)
		}
		if err := r.Measure(w.graph, small, w.calib.next, 4, quant.Options{}); err != nil {
			t.Fatal(err)
		}
		o, err := f.compare(small, func(int) {})
		if err != nil || o.Worse != 0 {
			t.Errorf("%s: in int8 the boxes are others; %v", name, err)
		}
		least := 200.0
		for _, l := range r.Layers {
			if l.OutputError != nil {
				least = min(least, *l.OutputError)
			}
		}
		t.Logf("%s: %d bytes -> %d, 4 faces as before, the worst layer's output has %.1f dB", name, r.Before, r.After, least)
		m.close()
	}
}
