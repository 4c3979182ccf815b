package e2e_test

import (
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"dunlin/engine"
	"dunlin/internal/oci"
	"dunlin/internal/sign"
	"dunlin/model"
	"dunlin/model/pack"
	"dunlin/sync/wire"
)

// TestSlowModelGoesBackAlone gives a device a model that is right and signed
// and passes its exam, but is truly slow. The hub dies as soon as the trial
// begins: the device must go back by itself, and say so when the hub is back.
func TestSlowModelGoesBackAlone(t *testing.T) {
	e, f := theExample(t), startFleet(t)
	a := f.startAgent("slowpoke", "")
	f.push(e.pack)
	f.rollout("garments", 2, wire.TrialRules{Seconds: 1, MaxMillis: 5000})
	a.runs(e.digest)
	f.ends(2, "done", "")

	slow := slowPack(t, e)
	f.push(slow.dir)
	f.rollout("garments", 3, wire.TrialRules{Seconds: 4, MaxMillis: 10, MinRuns: 2000})
	a.runs(slow.digest)
	f.hub.kill()
	// MinRuns keeps the trial from being decided before its deadline, so the
	// slow model is still the one that answers now that the hub is gone.
	if s, err := a.status(); err != nil || s.Model == nil || s.Model.Digest != slow.digest {
		t.Fatalf("before the trial's end it runs %+v (%v)", s.Model, err)
	}
	a.runs(e.digest)

	f.hub.start()
	f.up()
	f.ends(3, "rolled_back", string(wire.ReasonTooSlow))
	a.runs(e.digest)
}

// rollout starts one; every device is a canary.
func (f *fleet) rollout(name string, version int64, trial wire.TrialRules) {
	f.t.Helper()
	f.must("POST", "/v1/rollouts", map[string]any{"model": name, "version": version, "canary": 1, "trial": trial}, nil)
}

// ends waits until the rollout of a version is in that phase, for that reason.
func (f *fleet) ends(version int64, phase, why string) {
	f.t.Helper()
	// An agent asks a hub that was away as seldom as it was away long.
	wait(f.t, 4*time.Minute, fmt.Sprintf("the rollout of version %d to be %s", version, phase), func() error {
		var list struct {
			Rollouts []struct {
				Phase, Why string
				New        struct{ Version int64 }
			}
		}
		if err := f.ask("GET", "/v1/rollouts", nil, &list); err != nil {
			return err
		}
		for _, r := range list.Rollouts {
			if r.New.Version == version && r.Phase == phase && strings.Contains(r.Why, why) {
				return nil
			}
		}
		return fmt.Errorf("rollouts: %+v", list.Rollouts)
	})
}

type packed struct{ dir, digest string }

// slowPack makes version 3 of the example's model: the same answers' shape,
// from a network of 4,000 million multiply-accumulates with the weights of
// one layer.
func slowPack(t *testing.T, e example) packed {
	t.Helper()
	g := model.New("slow")
	g.Inputs, g.Outputs = []string{"image"}, []string{"scores"}
	g.Values["image"] = &model.Value{Type: model.F32, Shape: model.Shape{1, 1, 28, 28}}
	const channels = 128
	constant := func(name string, shape ...int) {
		c, err := model.NewTensor(model.F32, shape...)
		if err != nil {
			t.Fatal(err)
		}
		for i := range c.F32() {
			c.F32()[i] = float32(i%7-3) / 2048
		}
		g.AddConst(name, c)
	}
	node := func(op, out string, attrs map[string]model.Attr, in ...string) string {
		g.Nodes = append(g.Nodes, &model.Node{Op: op, Name: out, In: in, Out: []string{out}, Attrs: attrs})
		return out
	}
	constant("first", channels, 1, 3, 3)
	constant("again", channels, channels, 3, 3)
	constant("classes", 10, channels)
	pads := map[string]model.Attr{"pads": []int64{1, 1, 1, 1}}
	x := node("Conv", "stem", pads, "image", "first")
	for i := range 35 {
		x = node("Relu", fmt.Sprintf("relu%d", i), nil, node("Conv", fmt.Sprintf("conv%d", i), pads, x, "again"))
	}
	x = node("Flatten", "flat", nil, node("GlobalAveragePool", "mean", nil, x))
	x = node("Gemm", "logits", map[string]model.Attr{"transB": int64(1)}, x, "classes")
	node("Softmax", "scores", nil, x)
	if err := g.Check(); err != nil {
		t.Fatal(err)
	}

	good, err := pack.ReadDir(e.pack)
	if err != nil {
		t.Fatal(err)
	}
	defer good.Close()
	p := good.Pack
	p.Version, p.Graph = 3, g
	input := good.Exam.Cases[0].Inputs
	p.Exam = &pack.Exam{Tolerance: 1e-3, Cases: []pack.Case{{Inputs: input, Outputs: []*model.Tensor{answer(t, g, input[0])}}}}

	dir := filepath.Join(t.TempDir(), "slow")
	l, err := oci.Create(dir)
	if err != nil {
		t.Fatal(err)
	}
	d, err := pack.Write(l, &p)
	if err != nil {
		t.Fatal(err)
	}
	key, err := sign.ReadPrivate(e.key)
	if err != nil {
		t.Fatal(err)
	}
	if err := pack.Sign(l, d.Digest.String(), key); err != nil {
		t.Fatal(err)
	}
	return packed{dir, d.Digest.String()}
}

// answer runs g once.
func answer(t *testing.T, g *model.Graph, in *model.Tensor) *model.Tensor {
	t.Helper()
	p, err := engine.Compile(g, engine.Options{})
	if err != nil {
		t.Fatal(err)
	}
	s := p.NewSession()
	copy(s.Input(0).Data, in.Data)
	if err := s.Run(); err != nil {
		t.Fatal(err)
	}
	return s.Output(0).Clone()
}

// TestUsage: the exit statuses that scripts rely on.
func TestUsage(t *testing.T) {
	for _, c := range []struct {
		program string
		args    []string
		want    int
	}{
		{"dunlin", []string{"version"}, 0},
		{"dunlin", []string{"--help"}, 0},
		{"dunlin", []string{"nonsense"}, 2},
		{"dunlin", []string{"model", "nonsense"}, 2},
		{"dunlin", []string{"model", "run"}, 2},
		{"dunlin", []string{"model", "run", "--nonsense"}, 2},
		{"dunlin", []string{"model", "inspect", "no-such-file.onnx"}, 1},
		{"dunlin", []string{"completion", "bash"}, 0},
		{"dunlin-agent", []string{"version"}, 0},
		{"dunlin-agent", []string{"nonsense"}, 2},
		{"dunlin-agent", []string{"check", "-config", "no-such-file.toml"}, 1},
	} {
		cmd := exec.Command(filepath.Join(programs, c.program), c.args...)
		out, _ := cmd.CombinedOutput()
		if got := cmd.ProcessState.ExitCode(); got != c.want {
			t.Errorf("%s %q: exit status %d, want %d: %s", c.program, c.args, got, c.want, out)
		}
	}
}
