package cli

import (
	"bytes"
	"compress/gzip"
	"encoding/binary"
	"io"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"dunlin/internal/shared"
	"dunlin/model"
	"dunlin/model/onnx"
	"dunlin/quant"
	"dunlin/train"
)

// fragile writes to dir MNIST's network with one channel between its
// convolutions 256 times as large as it was, and the weights behind it as much
// smaller: it answers as before, and int8 has a step or two for what was all
// 256 of the other channels.
func fragile(t *testing.T, dir string) string {
	t.Helper()
	data, err := os.ReadFile(shared.Dir(t, "models", "onnx", "mnist-cntk-8.onnx"))
	if err != nil {
		t.Fatal(err)
	}
	g, err := onnx.Import(data)
	if err != nil {
		t.Fatal(err)
	}
	if g, err = quant.Prepare(g); err != nil {
		t.Fatal(err)
	}
	const times, channels = 256, 1
	var convs []*model.Node
	for _, n := range g.Nodes {
		if n.Op == "Conv" {
			convs = append(convs, n)
		}
	}
	change := func(name string, by float32, of func(i int) bool) {
		c := g.Const(name).Clone()
		for i := range c.F32() {
			if of(i) {
				c.F32()[i] *= by
			}
		}
		g.AddConst(name, c)
	}
	out, in := g.Const(convs[0].In[1]).Shape, g.Const(convs[1].In[1]).Shape // [8, 1, 5, 5], [16, 8, 5, 5]
	change(convs[0].In[1], times, func(i int) bool { return i/(out[1]*out[2]*out[3]) < channels })
	change(convs[0].In[2], times, func(i int) bool { return i < channels })
	change(convs[1].In[1], 1./times, func(i int) bool { return i/(in[2]*in[3])%in[1] < channels })
	var b bytes.Buffer
	if err := onnx.Export(&b, g); err != nil {
		t.Fatal(err)
	}
	prep := "[[input]]\nkind = \"picture\"\ncolor = \"gray\"\nwidth = 28\nheight = 28\nscale = 1\n[[output]]\nkind = \"classes\"\nsoftmax = true\n"
	file := filepath.Join(dir, "fragile.onnx")
	for name, text := range map[string][]byte{file: b.Bytes(), filepath.Join(dir, "prep.toml"): []byte(prep)} {
		if err := os.WriteFile(name, text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return file
}

// someDigits writes to dir n of MNIST's digits, from the first on.
func someDigits(t *testing.T, dir string, first, n int) string {
	t.Helper()
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	for name, part := range map[string]struct{ header, size int }{"t10k-images-idx3-ubyte": {16, 28 * 28}, "t10k-labels-idx1-ubyte": {8, 1}} {
		f, err := os.Open(filepath.Join(shared.Dir(t, "data", "vision", "mnist"), name+".gz"))
		if err != nil {
			t.Fatal(err)
		}
		z, err := gzip.NewReader(f)
		if err != nil {
			t.Fatal(err)
		}
		data, err := io.ReadAll(z)
		if err != nil {
			t.Fatal(err)
		}
		f.Close()
		binary.BigEndian.PutUint32(data[4:], uint32(n))
		data = append(data[:part.header:part.header], data[part.header+first*part.size:][:n*part.size]...)
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// TestTrained: where int8 loses too much, by any rounding, the network is
// trained for it, with the calibration samples alone, and keeps the promise.
func TestTrained(t *testing.T) {
	dir := t.TempDir()
	file := fragile(t, dir)
	learn, digits := someDigits(t, filepath.Join(dir, "calib"), 0, 512), someDigits(t, filepath.Join(dir, "digits"), 512, 1200)
	compress := func(name string, args ...string) (packReport, *certificate) {
		out := filepath.Join(dir, name)
		must(t, append([]string{"model", "compress", file, "--calibrate", learn, "--data", digits, "--max-drop", "7%", "--bound", "exact", "--seconds", "0.001", "-o", out}, args...)...)
		return certificateOf(t, out)
	}
	page := filepath.Join(dir, "page.html")
	r, c := compress("trained", "--report", page)
	p, l := c.Front[c.Chosen], c.Trained
	t.Logf("%s: %.2f points lost, %.2f at most; %v", p.Name, 100*p.Drop, 100*p.Exact, l)
	if !c.Certified || p.Name != "int8, trained" || p.Levels["int8"] != 3 || len(p.Levels) != 1 {
		t.Fatalf("%+v was chosen", p)
	}
	if l == nil || l.Why != "" || !l.Labelled || l.Samples+l.Held != c.Calibration || l.Epochs != 20 || l.Best < 1 || !(l.After < l.Before/1.5) {
		t.Errorf("%+v", l)
	}
	for _, q := range c.Front[:c.Chosen] {
		if q.Certified && float64(q.Bytes) < 1.1*float64(p.Bytes) {
			t.Errorf("%s is certified, and as small without training", q.Name)
		}
	}
	if r.Quant.Layers[0].WeightError != nil || r.Quant.Layers[0].OutputError == nil {
		t.Errorf("%+v", r.Quant.Layers[0])
	}
	if text, err := os.ReadFile(page); err != nil || !bytes.Contains(text, []byte("training for int8 learned from 448 calibration samples")) {
		t.Errorf("the page says nothing of the training; %v", err)
	}
	if testing.Short() {
		return
	}
	compress("again")
	if !bytes.Equal(blob(t, filepath.Join(dir, "trained")), blob(t, filepath.Join(dir, "again"))) {
		t.Error("two runs trained different weights")
	}
	if _, c := compress("not", "--qat-epochs", "0"); c.Trained != nil || c.Front[c.Chosen].Bytes <= p.Bytes {
		t.Errorf("without training %s was chosen, %+v", c.Front[c.Chosen].Name, c.Trained)
	}
}

// TestPassedOver: why a network is not trained stands in the report and in the
// refusal.
func TestPassedOver(t *testing.T) {
	if s := softness([]float32{0, 2, 4, 1, 3, 5}, 3); s != 1 {
		t.Errorf("softness of small scores is %g", s)
	}
	if s := softness([]float32{-40, 40, 40, -40}, 2); math.Abs(s-20) > 1e-9 {
		t.Errorf("softness is %g", s)
	}
	if n := sizeOf([]*train.Parameter{{Value: []float32{3, -3}, Decay: true}, {Value: []float32{9}}}); n != 3 || sizeOf(nil) != 0 {
		t.Errorf("the size of the weights is %g", n)
	}
	s := &search{o: certifyOptions{Bound: "bernstein"}, cert: &certificate{MaxDrop: 0.01, Front: []frontPoint{
		{Name: "int8", Levels: map[string]int{"int8": 1}, Drop: 0.03, Bernstein: 0.06, Level: 0.05},
	}, Trained: &trainedReport{Why: "the network carries a state"}}}
	if err := s.refuse(); !strings.Contains(err.Error(), "training for int8 was passed over: the network carries a state") {
		t.Error(err)
	}
	s.cert.Trained = &trainedReport{Samples: 448, Held: 64, Epochs: 20, Seconds: 1.25, Before: 2, After: 0.5}
	if err := s.refuse(); !strings.Contains(err.Error(), "448 calibration samples by the float model's answers: 20 epochs in 1.2 s, the loss on 64 others went from 2 to 0.5") {
		t.Error(err)
	}
	if status, _, _ := try(t, "model", "compress", "x.onnx", "--data", "y", "--qat-epochs", "-1", "-o", "z"); status != statusUsage {
		t.Errorf("status %d", status)
	}
}
