package engine_test

import (
	"encoding/binary"
	"encoding/json"
	"math"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"dunlin/engine"
	"dunlin/internal/shared"
	"dunlin/model"
	"dunlin/model/onnx"
)

// wave returns the samples of a 16-bit WAV file whose data begin at byte 44.
func wave(t testing.TB, path string) []float32 {
	t.Helper()
	data := readFile(t, path)[44:]
	samples := make([]float32, len(data)/2)
	for i := range samples {
		samples[i] = float32(int16(binary.LittleEndian.Uint16(data[2*i:]))) / 32768
	}
	return samples
}

// The speech detector hears 400 pieces of a recording one after the other, its
// state carried along, as ONNX Runtime does: an LSTM, and an If on the sample
// rate, which is an input.
func TestSpeechDetector(t *testing.T) {
	samples := wave(t, "data/audio/clips/silero-vad-test-60s.wav")
	for _, name := range []string{"silero-vad-v6", "silero-vad-v6-fp16-half"} {
		var want []float64
		if err := json.Unmarshal(readFile(t, "goldens/onnx/"+name+"/speech-prob-first-400-chunks.json"), &want); err != nil {
			t.Fatal(err)
		}
		g := readModel(t, "models/onnx/"+name+".onnx")
		o := engine.Options{Shapes: map[string]model.Shape{"input": {1, 576}, "state": {2, 1, 128}}}
		if slices.Contains(g.Inputs, "sr") {
			o.Shapes["sr"] = model.Shape{}
		}
		p, err := engine.Compile(g, o)
		if err != nil {
			t.Fatal(err)
		}
		s := p.NewSession()
		inputs := map[string]*model.Tensor{}
		for i, port := range p.Inputs() {
			inputs[port.Name] = s.Input(i)
		}
		if sr := inputs["sr"]; sr != nil {
			sr.I64()[0] = 16000
		}
		worst := 0.0
		for i, w := range want {
			x := inputs["input"].F32()
			clear(x[:64])
			if i > 0 {
				copy(x, samples[i*512-64:])
			}
			copy(x[64:], samples[i*512:(i+1)*512])
			if err := s.Run(); err != nil {
				t.Fatal(err)
			}
			worst = max(worst, math.Abs(w-float64(s.Output(0).F32()[0])))
			copy(inputs["state"].Data, s.Output(1).Data)
		}
		if worst > 1e-4 {
			t.Errorf("%s: a probability is %g off", name, worst)
		}
	}
}

// The same program hears at 8 kHz too: the other branch, compiled when it is
// first asked for.
func TestSpeechDetectorAt8kHz(t *testing.T) {
	g := readModel(t, "models/onnx/silero-vad-v6.onnx")
	r, err := engine.NewRunner(g, engine.Options{}, 2)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ length, rate int }{{288, 8000}, {576, 16000}, {288, 8000}} {
		shapes := make([]model.Shape, len(g.Inputs))
		for i, name := range g.Inputs {
			shapes[i] = map[string]model.Shape{"input": {1, c.length}, "state": {2, 1, 128}, "sr": {}}[name]
		}
		s, err := r.Session(shapes...)
		if err != nil {
			t.Fatal(err)
		}
		for i, name := range g.Inputs {
			if name == "sr" {
				s.Input(i).I64()[0] = int64(c.rate)
			}
		}
		if err := s.Run(); err != nil {
			t.Fatal(err)
		}
		if p := s.Output(0).F32()[0]; !(p >= 0 && p < 0.5) {
			t.Errorf("silence at %d Hz is speech with probability %v", c.rate, p)
		}
	}
}

// The small language model writes, token by token, the stories that the
// reference writes: the input is one longer each time.
func TestStories(t *testing.T) {
	dir := filepath.Join("goldens", "llm", "stories260K")
	var golden struct {
		Cases []struct {
			IDs     string `json:"ids_file"`
			Logits  string `json:"logits_file"`
			Prompts []int  `json:"prompt_ids"`
		}
	}
	if err := json.Unmarshal(readFile(t, filepath.Join(dir, "golden.json")), &golden); err != nil {
		t.Fatal(err)
	}
	r, err := engine.NewRunner(readModel(t, "models/onnx/stories260k-decoder.onnx"), engine.Options{}, 1)
	if err != nil {
		t.Fatal(err)
	}
	for n, c := range golden.Cases {
		want := readFile(t, filepath.Join(dir, c.IDs))
		ids := make([]int64, len(want)/4)
		for i := range ids {
			ids[i] = int64(int32(binary.LittleEndian.Uint32(want[4*i:])))
		}
		steps := len(ids)
		if testing.Short() || n > 0 {
			steps = min(steps, len(c.Prompts)+10)
		}
		for i := len(c.Prompts); i < steps; i++ {
			s, err := r.Session(model.Shape{1, i})
			if err != nil {
				t.Fatal(err)
			}
			copy(s.Input(0).I64(), ids[:i])
			if err := s.Run(); err != nil {
				t.Fatal(err)
			}
			row := s.Output(0).F32()[(i-1)*512 : i*512]
			if got := top(row); int64(got) != ids[i] {
				t.Fatalf("story %d, token %d: %d, want %d", n, i, got, ids[i])
			}
		}
	}
}

// Real networks with constant weights, on the input that ONNX's backend tests
// give them: the elements count up from 0 to 1. All scores of most of them are
// equal in the reference, since all columns of the last product are; they are
// sums so large that one rounding more or less decides between the classes. The
// generic tier answers as the reference does (DUNLIN_KERNELS=generic); one
// whose columns are not all summed in one order need only answer with
// probabilities.
func TestLightModels(t *testing.T) {
	files, err := filepath.Glob(filepath.Join(shared.Dir(t, "models", "onnx-light"), "*.onnx"))
	if err != nil || len(files) != 8 {
		t.Fatalf("%d models, %v", len(files), err)
	}
	for _, file := range files {
		name := filepath.Base(file)
		_, want, err := onnx.ParseTensor(readFile(t, "models/onnx-light/"+name[:len(name)-len(".onnx")]+"_output_0.pb"))
		if err != nil {
			t.Fatal(err)
		}
		off, sum := lightError(t, name, want)
		if off > 1e-5 && os.Getenv("DUNLIN_KERNELS") != "generic" && math.Abs(sum-1) < 1e-5 {
			t.Logf("%s: %g off, for the reason above", name, off)
			continue
		}
		if !(off <= 1e-5) {
			t.Errorf("%s: %g off", name, off)
		}
	}
}

// lightError runs a model and returns the largest difference from want, and
// the sum of the answer.
func lightError(t *testing.T, name string, want *model.Tensor) (worst, sum float64) {
	t.Helper()
	p, err := engine.Compile(readModel(t, "models/onnx-light/"+name), engine.Options{Symbolic1: true})
	if err != nil {
		t.Fatal(err)
	}
	s := p.NewSession()
	for i := range p.Inputs() {
		x := s.Input(i).F32()
		for j := range x {
			x[j] = float32(float64(j) / float64(len(x)))
		}
	}
	if err := s.Run(); err != nil {
		t.Fatal(err)
	}
	if got := s.Output(0); !got.Shape.Equal(want.Shape) {
		t.Fatalf("%s: shape %v, want %v", name, got.Shape, want.Shape)
	}
	for j, v := range s.Output(0).F32() {
		if d := math.Abs(float64(v) - float64(want.F32()[j])); !(d <= worst) {
			worst = d
		}
		sum += float64(v)
	}
	return worst, sum
}
