package quant

import (
	"math"
	"os"
	"slices"
	"testing"

	"dunlin/engine"
	"dunlin/internal/shared"
	"dunlin/model"
	"dunlin/model/prep"
)

// speech runs a speech detector over chunks of 512 samples, each behind the 64
// before it, and carries its state; see is called with the inputs of each
// chunk, before it runs.
func speech(t *testing.T, g *model.Graph, samples []float32, chunks int, see func(in []*model.Tensor)) (said []float64) {
	t.Helper()
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
	for i := range chunks {
		x := inputs["input"].F32()
		clear(x[:64])
		if i > 0 {
			copy(x, samples[i*512-64:])
		}
		copy(x[64:], samples[i*512:(i+1)*512])
		if see != nil {
			var in []*model.Tensor
			for i := range p.Inputs() {
				in = append(in, s.Input(i).Clone())
			}
			see(in)
		}
		if err := s.Run(); err != nil {
			t.Fatal(err)
		}
		said = append(said, float64(s.Output(0).F32()[0]))
		copy(inputs["state"].Data, s.Output(1).Data)
	}
	return said
}

// inlined returns g with the branch for 16 kHz in the place of the If that asks
// for the rate: nothing inside an If is lowered.
func inlined(g *model.Graph) *model.Graph {
	g = g.Clone()
	var nodes []*model.Node
	for _, n := range g.Nodes {
		branch, ok := n.Attrs["then_branch"].(*model.Graph)
		if n.Op != "If" || !ok {
			nodes = append(nodes, n)
			continue
		}
		for name, v := range branch.Values {
			if g.Values[name] == nil {
				g.Values[name] = v
			}
		}
		nodes = append(nodes, branch.Nodes...)
		for i, out := range branch.Outputs {
			nodes = append(nodes, &model.Node{Op: "Identity", Name: n.Name + "/" + n.Out[i], In: []string{out}, Out: []string{n.Out[i]}})
		}
	}
	g.Nodes = nodes
	g.Prune()
	return g
}

// TestSpeech compresses a speech detector that carries a state from chunk to
// chunk: with float16 weights no probability of 400 is more than 0.05 off, and
// the log says how far down the front goes within that. What is lost adds up
// along the state, so int8 everywhere is too much for it. It is calibrated on
// another part of the clip.
func TestSpeech(t *testing.T) {
	data, err := os.ReadFile(shared.Dir(t, "data", "audio", "clips", "silero-vad-test-60s.wav"))
	if err != nil {
		t.Fatal(err)
	}
	sound, err := prep.DecodeSound(data, prep.SoundLimits{})
	if err != nil {
		t.Fatal(err)
	}
	g := inlined(importFile(t, shared.Dir(t, "models", "onnx", "silero-vad-v6.onnx")))
	const tested, calibrated = 400, 200
	want := speech(t, g, sound.Samples, tested, nil)
	var calib [][]*model.Tensor
	speech(t, g, sound.Samples[tested*512:], calibrated, func(in []*model.Tensor) { calib = append(calib, in) })
	next := func(i int) ([]*model.Tensor, error) { return calib[i], nil }
	r, err := Calibrate(g, next, len(calib), Options{})
	if err != nil {
		t.Fatal(err)
	}
	front, _, err := Front(g, r, next, len(calib), FrontOptions{Samples: 32, Steps: 6})
	if err != nil {
		t.Fatal(err)
	}
	smallest := int64(math.MaxInt64)
	for i, c := range front {
		q, rep, err := Apply(g, r, Options{Levels: c.Levels})
		if err != nil {
			t.Fatal(err)
		}
		worst, flipped := 0.0, 0
		for i, p := range speech(t, q, sound.Samples, tested, nil) {
			worst = max(worst, math.Abs(p-want[i]))
			if (p > 0.5) != (want[i] > 0.5) {
				flipped++
			}
		}
		t.Logf("%-24s %7d bytes of %d: KL %.2g, the worst probability is %.4f off, %d of %d verdicts differ", c.Name, rep.After, rep.Before, c.KL, worst, flipped, tested)
		if i == 0 && worst > 0.05 {
			t.Errorf("%s: a probability is %.3f off", c.Name, worst)
		}
		if worst <= 0.05 {
			smallest = min(smallest, rep.After)
		}
	}
	if smallest > front[0].Bytes {
		t.Error("no candidate is within 0.05")
	}
	t.Logf("the smallest within 0.05 has %d bytes", smallest)
}
