package cli

import (
	"bytes"
	"encoding/csv"
	"encoding/json"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"dunlin/examples/garments"
	"dunlin/internal/shared"
	"dunlin/model"
	"dunlin/model/onnx"
	"dunlin/model/pack"
	"dunlin/model/prep"
	"dunlin/quant/certify"
)

// certificateOf reads the report of a pack.
func certificateOf(t *testing.T, dir string) (packReport, *certificate) {
	t.Helper()
	m, err := pack.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	var r packReport
	if err := json.Unmarshal(m.Report, &r); err != nil {
		t.Fatal(err)
	}
	if r.Certificate == nil {
		t.Fatalf("%s has no certificate", dir)
	}
	return r, r.Certificate
}

// TestCertified compresses the demo's model by its 200 pictures, as a person
// would, and checks what the pack promises.
func TestCertified(t *testing.T) {
	dir := t.TempDir()
	at := func(name string) string { return filepath.Join(dir, name) }
	if err := garments.WriteTo(dir); err != nil {
		t.Fatal(err)
	}
	compress := func(out string, args ...string) []string {
		return append([]string{"model", "compress", at("garments.onnx"), "--calibrate", at("calibration"), "--samples", "32", "--seconds", "0.001", "-o", at(out)}, args...)
	}
	must(t, compress("small", "--data", at("samples"), "--max-drop", "6%", "--bound", "exact", "--report", at("page.html"))...)
	r, c := certificateOf(t, at("small"))
	if !c.Certified || c.Measure != "accuracy" || c.Samples != 200 || c.Calibration != 32 || c.Chosen < 1 || c.MaxDrop != 0.06 {
		t.Fatalf("%+v", c)
	}
	for i, p := range c.Front {
		if p.MedianMS <= 0 || p.Outcomes.N != 200 || i > 0 && p.Exact > p.Bernstein {
			t.Errorf("%+v", p)
		}
		if want, _ := certify.Exact(p.Outcomes, p.Level); i > 0 && (p.Exact != want || p.Certified && want > 0.06) {
			t.Errorf("%s: the bound is %v, and %v by its counts", p.Name, p.Exact, want)
		}
		if p.Certified && float64(p.Bytes)*1.01 < float64(c.Front[c.Chosen].Bytes) {
			t.Errorf("%s is certified and smaller than %s, which was chosen", p.Name, c.Front[c.Chosen].Name)
		}
	}
	if r.Bytes.After != c.Front[c.Chosen].Bytes || float64(r.Bytes.Before)/float64(r.Bytes.After) < 3 {
		t.Errorf("%+v", r.Bytes)
	}
	page, err := os.ReadFile(at("page.html"))
	if err != nil || bytes.Count(page, []byte("data:image/png;base64,")) != 10 || bytes.Count(page, []byte("<svg")) != 2 {
		t.Errorf("the page: %d bytes, %v", len(page), err)
	}

	// The promise needs samples: these are too few for Bernstein.
	status, _, errs := try(t, compress("none", "--data", at("samples"), "--max-drop", "1%")...)
	if status != statusUncertified || !strings.Contains(errs, "needs 17") || !strings.Contains(errs, "--uncertified") {
		t.Errorf("status %d: %s", status, errs)
	}
	if _, err := os.Stat(at("none")); err == nil {
		t.Error("a pack was written all the same")
	}
	if testing.Short() {
		return
	}
	must(t, compress("unsure", "--data", at("samples"), "--max-drop", "1%", "--uncertified")...)
	if _, c := certificateOf(t, at("unsure")); c.Certified || c.Chosen < 1 {
		t.Errorf("certified %v, chosen %d", c.Certified, c.Chosen)
	}

	// Without labels it certifies agreement.
	if err := os.Remove(at("samples/labels.csv")); err != nil {
		t.Fatal(err)
	}
	must(t, compress("agrees", "--data", at("samples"), "--max-drop", "8%", "--bound", "exact")...)
	if _, c := certificateOf(t, at("agrees")); !c.Certified || c.Measure != "agreement" || c.FloatAccuracy != nil || !c.Front[1].Outcomes.Unlabelled {
		t.Errorf("%+v", c)
	}
}

// TestSameSplitSameWeights: one seed gives one pack, but for the times in its
// report.
func TestSameSplitSameWeights(t *testing.T) {
	dir := t.TempDir()
	at := func(name string) string { return filepath.Join(dir, name) }
	if err := garments.WriteTo(dir); err != nil {
		t.Fatal(err)
	}
	var blobs [][]byte
	for _, out := range []string{"a", "b"} {
		must(t, "model", "compress", at("garments.onnx"), "--data", at("samples"), "--max-drop", "8%", "--bound", "exact", "--seed", "7", "--samples", "16", "--seconds", "0.001", "-o", at(out))
		blobs = append(blobs, blob(t, at(out)))
		if _, c := certificateOf(t, at(out)); c.Samples != 184 || c.Calibration != 16 {
			t.Errorf("%d samples, %d calibrated", c.Samples, c.Calibration)
		}
	}
	if !bytes.Equal(blobs[0], blobs[1]) {
		t.Error("two runs made different weights")
	}
}

func TestSplit(t *testing.T) {
	a, b := split(1000, 512, 1)
	if len(a) != 200 || len(b) != 800 {
		t.Fatalf("%d and %d", len(a), len(b))
	}
	seen := map[int]bool{}
	for _, i := range append(slices.Clone(a), b...) {
		seen[i] = true
	}
	if len(seen) != 1000 || !slices.IsSorted(a) || !slices.IsSorted(b) {
		t.Errorf("%d of 1000 samples are in one of the parts", len(seen))
	}
	if again, _ := split(1000, 512, 1); !slices.Equal(a, again) {
		t.Error("one seed, two splits")
	}
	if other, _ := split(1000, 512, 2); slices.Equal(a, other) {
		t.Error("two seeds, one split")
	}
	if a, b := split(10000, 512, 1); len(a) != 512 || len(b) != 9488 {
		t.Errorf("%d and %d of 10000", len(a), len(b))
	}
}

// TestRefusal: a budget that the model cannot keep is refused, with how many
// samples would be enough where some number would.
func TestRefusal(t *testing.T) {
	s := &search{o: certifyOptions{Bound: "bernstein"}, cert: &certificate{MaxDrop: 0.01, Confidence: 0.95, Front: []frontPoint{
		{Name: "float32"},
		{Name: "fp16", Levels: map[string]int{"fp16": 1}, Drop: 0.002, Bernstein: 0.02, Level: 0.05, Outcomes: certify.Outcomes{N: 1000, Worse: 2}},
		{Name: "int8", Levels: map[string]int{"int8": 1}, Drop: 0.03, Bernstein: 0.06, Level: 0.05, Outcomes: certify.Outcomes{N: 1000, Worse: 30}},
	}}}
	err := s.refuse()
	if err == nil || !strings.Contains(err.Error(), "fp16 lost 0.20 on 1000 samples, which may be 2.00") || !strings.Contains(hintOf(err), "samples like these would certify it") {
		t.Errorf("%v; %s", err, hintOf(err))
	}
	s.cert.Front = s.cert.Front[2:]
	if err := s.refuse(); err == nil || !strings.Contains(hintOf(err), "no number of samples") {
		t.Errorf("%v; %s", err, hintOf(err))
	}
}

// TestBest: sizes and times that hardly differ do not decide.
func TestBest(t *testing.T) {
	front := []frontPoint{
		{Bytes: 1000, MedianMS: 1, Levels: map[string]int{"fp16": 1}},
		{Bytes: 1005, MedianMS: 0.5, Levels: map[string]int{"int8": 1}, Bernstein: 0.01},
		{Bytes: 2000, MedianMS: 0.49},
		{Bytes: 900, MedianMS: 3},
		{Bytes: 1001, MedianMS: 0.6, Levels: map[string]int{"int8": 1}, Bernstein: 0.02},
	}
	for _, c := range []struct {
		target string
		able   []int
		want   int
	}{{"size", []int{0, 4, 1, 2}, 1}, {"size", []int{0, 1, 2, 3}, 3}, {"latency", []int{0, 1, 2}, 1}, {"latency", []int{0}, 0}, {"size", nil, -1}} {
		s := &search{o: certifyOptions{Target: c.target}, cert: &certificate{Front: front}}
		if got := s.best(c.able); got != c.want {
			t.Errorf("%s of %v: %d, want %d", c.target, c.able, got, c.want)
		}
	}
}

func TestShareFlag(t *testing.T) {
	for text, want := range map[string]float64{"1%": 0.01, "0.5 %": 0.005, "0.02": 0.02, "95%": 0.95} {
		var s share
		if err := s.Set(text); err != nil || math.Abs(float64(s)-want) > 1e-12 {
			t.Errorf("%q: %v, %v", text, float64(s), err)
		}
	}
	for _, text := range []string{"", "1", "95", "100%", "0", "-1%", "x", "NaN"} {
		if err := new(share).Set(text); err == nil {
			t.Errorf("%q was taken", text)
		}
	}
}

// TestSoundsAndNumbers compresses a network of sounds and one of numbers.
func TestSoundsAndNumbers(t *testing.T) {
	dir := t.TempDir()
	words, all := filepath.Join(dir, "wav"), shared.Dir(t, "data", "audio", "fsdd")
	if err := os.Mkdir(words, 0o700); err != nil {
		t.Fatal(err)
	}
	for take := range 50 { // of each of two speakers
		for _, name := range []string{fmt.Sprintf("%d_jackson_%d.wav", take%10, take/10), fmt.Sprintf("%d_lucas_%d.wav", take%10, take/10)} {
			if err := os.Symlink(filepath.Join(all, name), filepath.Join(words, name)); err != nil {
				t.Fatal(err)
			}
		}
	}
	spotter := shared.Dir(t, "models", "onnx", "mlperftiny-kws01-dscnn.onnx")
	must(t, "model", "compress", spotter, "--data", words, "--samples", "40", "--seconds", "0.001", "--max-drop", "30%", "--bound", "exact", "-o", filepath.Join(dir, "words"), "--report", filepath.Join(dir, "words.html"))
	if _, c := certificateOf(t, filepath.Join(dir, "words")); !c.Certified || c.Measure != "agreement" || c.Samples != 80 {
		t.Errorf("%+v", c)
	}

	g := filepath.Join(dir, "numbers.onnx")
	if err := os.WriteFile(g, numbersNet(t), 0o600); err != nil {
		t.Fatal(err)
	}
	text := "[[input]]\nname = \"x\"\nkind = \"values\"\nfields = [\"a\", \"b\", \"c\", \"d\"]\n[[output]]\nname = \"y\"\nkind = \"values\"\ntop = 8\n"
	if err := os.WriteFile(filepath.Join(dir, "prep.toml"), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	rows := [][]string{{"d", "c", "b", "a"}}
	for i := range 400 {
		x := float64(i)
		rows = append(rows, []string{f(math.Sin(x)), f(math.Cos(3 * x)), f(math.Sin(7 * x)), f(math.Cos(x * x))})
	}
	file, err := os.Create(filepath.Join(dir, "values.csv"))
	if err != nil {
		t.Fatal(err)
	}
	if err := csv.NewWriter(file).WriteAll(rows); err != nil {
		t.Fatal(err)
	}
	file.Close()
	must(t, "model", "compress", g, "--data", file.Name(), "--max-drop", "5%", "--bound", "exact", "--tolerance", "0.1", "--seconds", "0.001", "-o", filepath.Join(dir, "numbers"))
	if _, c := certificateOf(t, filepath.Join(dir, "numbers")); !c.Certified || c.Compared != "each value within 0.1" {
		t.Errorf("%+v", c)
	}
}

func f(v float64) string { return strconv.FormatFloat(v, 'f', 6, 64) }

// TestSameBoxes: order does not matter, class, number and place do.
func TestSameBoxes(t *testing.T) {
	a := prep.Box{Index: 0, X0: 0, Y0: 0, X1: 100, Y1: 100}
	b := prep.Box{Index: 1, X0: 50, Y0: 50, X1: 80, Y1: 90}
	moved := func(x prep.Box, by float32) prep.Box { x.X0, x.X1 = x.X0+by, x.X1+by; return x }
	for _, c := range []struct {
		a, b []prep.Box
		want bool
	}{
		{nil, nil, true},
		{[]prep.Box{a, b}, []prep.Box{b, a}, true},
		{[]prep.Box{a}, []prep.Box{moved(a, 4)}, true},
		{[]prep.Box{a}, []prep.Box{moved(a, 8)}, false},
		{[]prep.Box{a}, []prep.Box{a, b}, false},
		{[]prep.Box{a, a}, []prep.Box{a, b}, false},
		{[]prep.Box{{}}, []prep.Box{{}}, false}, // a box without an area lies on none
	} {
		if got := sameBoxes(c.a, c.b); got != c.want {
			t.Errorf("%v, %v: %v", c.a, c.b, got)
		}
	}
	if v := overlap(a, moved(a, 50)); math.Abs(v-1.0/3) > 1e-6 {
		t.Errorf("half moved: %v", v)
	}
}

// numbersNet is an ONNX file of two dense layers: x [1, 4] -> y [1, 8].
func numbersNet(t *testing.T) []byte {
	t.Helper()
	r := rand.New(rand.NewPCG(5, 6))
	g := model.New("numbers")
	weights := func(name string, shape ...int) string {
		w, err := model.NewTensor(model.F32, shape...)
		if err != nil {
			t.Fatal(err)
		}
		for i := range w.F32() {
			w.F32()[i] = float32(r.NormFloat64()) / 4
		}
		g.AddConst(name, w)
		return name
	}
	g.Inputs, g.Outputs = []string{"x"}, []string{"y"}
	g.Values["x"] = &model.Value{Type: model.F32, Shape: model.Shape{1, 4}}
	g.Values["y"] = &model.Value{Type: model.F32, Shape: model.Shape{1, 8}}
	g.Nodes = []*model.Node{
		{Op: "Gemm", Name: "first", In: []string{"x", weights("w", 4, 64), weights("b", 64)}, Out: []string{"h"}},
		{Op: "Relu", Name: "relu", In: []string{"h"}, Out: []string{"a"}},
		{Op: "Gemm", Name: "second", In: []string{"a", weights("v", 64, 8), weights("c", 8)}, Out: []string{"y"}},
	}
	var b bytes.Buffer
	if err := onnx.Export(&b, g); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}
