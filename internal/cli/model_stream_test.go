package cli

import (
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"dunlin/engine"
	"dunlin/internal/shared"
	"dunlin/model"
	"dunlin/model/onnx"
	"dunlin/model/pack"
	"dunlin/model/prep"
)

// speech runs a speech detector over the first windows of a sound, and returns
// what it says of each.
func speech(t *testing.T, g *model.Graph, sound prep.Sound, windows int) (said []float64) {
	t.Helper()
	o := engine.Options{Shapes: map[string]model.Shape{"input": {1, 576}, "state": {2, 1, 128}}}
	if len(g.Inputs) > 2 {
		o.Values = map[string]*model.Tensor{"sr": model.Of(model.I64, []int64{16000})}
	}
	p, err := engine.Compile(g, o)
	if err != nil {
		t.Fatal(err)
	}
	s := p.NewSession()
	for i := range windows {
		copy(s.Input(0).F32(), sound.Samples[i*512:])
		if err := s.Run(); err != nil {
			t.Fatal(err)
		}
		said = append(said, float64(s.Output(0).F32()[0]))
		copy(s.Input(1).Data, s.Output(1).Data)
	}
	return said
}

// TestSpeech compresses a speech detector as a person would: one that carries a
// state, and whose nodes all stand inside an If that asks for the sample rate.
// The pack has one of the branches, and is a third as large; of a minute of
// speech that it was neither calibrated nor certified with, it gives the
// probabilities of the float model within 0.05.
func TestSpeech(t *testing.T) {
	dir := t.TempDir()
	data, calib, out := filepath.Join(dir, "data"), filepath.Join(dir, "calib"), filepath.Join(dir, "small")
	link := func(to string, files ...string) {
		if err := os.MkdirAll(to, 0o700); err != nil {
			t.Fatal(err)
		}
		for _, f := range files {
			if err := os.Symlink(f, filepath.Join(to, filepath.Base(f))); err != nil {
				t.Fatal(err)
			}
		}
	}
	all, err := filepath.Glob(filepath.Join(shared.Dir(t, "data", "audio", "fsdd"), "*.wav"))
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(all); i += 8 {
		link(data, all[i])
	}
	clips := shared.Dir(t, "data", "audio", "clips")
	for _, name := range []string{"mlperftiny-sww-easy10s", "tflm-no-1000ms", "tflm-noise-1000ms", "tflm-silence-1000ms", "tflm-yes-1000ms"} {
		link(calib, filepath.Join(clips, name+".wav"))
	}
	file := shared.Dir(t, "models", "onnx", "silero-vad-v6.onnx")
	compress := []string{
		"model", "compress", file, "--set", "sr=16000", "--carry", "state=stateN", "--calibrate", calib, "--samples", "128",
		"--data", data, "--max-drop", "6%", "--bound", "exact", "--seconds", "0.001", "-o", out,
	}
	t.Log(must(t, compress...))
	r, c := certificateOf(t, out)
	if !c.Certified || c.Measure != "agreement" || c.Samples != 125 || !strings.Contains(c.Compared, "every window") {
		t.Errorf("%+v", c)
	}
	if r.Bytes.After*3 > r.Bytes.Before || c.Front[c.Chosen].Levels["float32"] > 0 {
		t.Errorf("%d bytes of %d, %v", r.Bytes.After, r.Bytes.Before, c.Front[c.Chosen].Levels)
	}

	text, err := os.ReadFile(filepath.Join(clips, "silero-vad-test-60s.wav"))
	if err != nil {
		t.Fatal(err)
	}
	sound, err := prep.DecodeSound(text, prep.SoundLimits{})
	if err != nil {
		t.Fatal(err)
	}
	text, err = os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	g, err := onnx.Import(text)
	if err != nil {
		t.Fatal(err)
	}
	small, err := pack.ReadDir(out)
	if err != nil {
		t.Fatal(err)
	}
	defer small.Close()
	const windows = 1800
	want, worst, flipped := speech(t, g, sound, windows), 0.0, 0
	for i, p := range speech(t, small.Graph, sound, windows) {
		worst = max(worst, math.Abs(p-want[i]))
		if (p > 0.5) != (want[i] > 0.5) {
			flipped++
		}
	}
	t.Logf("%s: the worst probability of %d is %.4f off, %d verdicts differ", c.Front[c.Chosen].Name, windows, worst, flipped)
	if !(worst <= 0.05) {
		t.Errorf("a probability is %.3f off", worst)
	}

	for _, args := range [][]string{{"--carry", "state=no"}, {"--set", "sr=fast"}, {"--set", "rate=1"}, {"--set", "sr=0.5"}, {"--eval", data}} {
		if status, _, errs := try(t, append(compress, args...)...); status != statusUsage {
			t.Errorf("%v: status %d, %s", args, status, errs)
		}
	}
	if status, _, errs := try(t, "model", "compress", file, "--calibrate", calib, "-o", out); status == statusOK || !strings.Contains(errs, "--carry") {
		t.Errorf("three inputs and no word of two: status %d, %s", status, errs)
	}
}
