package e2e_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"dunlin/engine"
	"dunlin/examples/garments"
	"dunlin/internal/shared"
	"dunlin/model"
	"dunlin/model/onnx"
	"dunlin/model/prep"
	"dunlin/model/samples"
	"dunlin/quant"
)

// ortTensor is one input of a job for testdata/ort.mjs.
type ortTensor struct {
	Name  string      `json:"name"`
	Type  string      `json:"dtype"`
	Shape model.Shape `json:"shape"`
	File  string      `json:"file"`
}

// ortJob is one run of a model in ONNX Runtime.
type ortJob struct {
	Model  string      `json:"model"`
	Inputs []ortTensor `json:"inputs"`
	Out    string      `json:"out"`
}

// output reads the i-th output of a job that was run.
func (j ortJob) output(t *testing.T, i int) []byte {
	t.Helper()
	data, err := os.ReadFile(fmt.Sprint(j.Out, i))
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// runORT runs the jobs in one process. It skips the test where ONNX Runtime is
// not there; CI installs it.
func runORT(t *testing.T, jobs []ortJob) {
	t.Helper()
	node, err := exec.LookPath("node")
	if _, e := os.Stat("testdata/node_modules/onnxruntime-node"); err == nil {
		err = e
	}
	if err != nil {
		if os.Getenv("CI") != "" {
			t.Fatalf("ONNX Runtime for node: %v; .ci/run installs it", err)
		}
		t.Skipf("skipped: no ONNX Runtime for node (%v); make onnxruntime installs it", err)
	}
	in, err := json.Marshal(jobs)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), node, "testdata/ort.mjs")
	cmd.Stdin = bytes.NewReader(in)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("ONNX Runtime: %v\n%s", err, out)
	}
}

// export writes g to a file of its own and returns its name.
func export(t *testing.T, dir, name string, g *model.Graph) string {
	t.Helper()
	var b bytes.Buffer
	if err := onnx.Export(&b, g); err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	path := filepath.Join(dir, name+".onnx")
	if err := os.WriteFile(path, b.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func importModel(t *testing.T, path string) *model.Graph {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	g, err := onnx.Import(data)
	if err != nil {
		t.Fatalf("%s: %v", path, err)
	}
	return g
}

// floats reads little-endian float32 values.
func floats(t *testing.T, data []byte) []float32 {
	t.Helper()
	v, err := model.View(model.F32, model.Shape{len(data) / 4}, data)
	if err != nil {
		t.Fatal(err)
	}
	return v.F32()
}

// TestExportedGoldens: ONNX Runtime makes of the real models, read and written
// again, what it makes of their own files.
func TestExportedGoldens(t *testing.T) {
	type golden struct{ Inputs, Outputs []ortTensor }
	dir := t.TempDir()
	var jobs []ortJob
	var want []golden
	for _, path := range globbed(t, shared.Dir(t, "goldens", "onnx"), "*/golden.json") {
		name := filepath.Base(filepath.Dir(path))
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		var g golden
		if err := json.Unmarshal(text, &g); err != nil {
			t.Fatalf("%s: %v", path, err)
		}
		for _, list := range [][]ortTensor{g.Inputs, g.Outputs} {
			for i := range list {
				list[i].File = filepath.Join(filepath.Dir(path), list[i].File)
			}
		}
		file := export(t, dir, name, importModel(t, shared.Dir(t, "models", "onnx", name+".onnx")))
		jobs = append(jobs, ortJob{file, g.Inputs, filepath.Join(dir, name+"-")})
		want = append(want, g)
	}
	runORT(t, jobs)
	for k, j := range jobs {
		for i, out := range want[k].Outputs {
			data, err := os.ReadFile(out.File)
			if err != nil {
				t.Fatal(err)
			}
			got := j.output(t, i)
			switch {
			case bytes.Equal(got, data):
			case out.Type != "float32":
				t.Errorf("%s: output %s differs", filepath.Base(j.Model), out.Name)
			default:
				if d := farthest(floats(t, got), floats(t, data)); d > 1e-4 {
					t.Errorf("%s: output %s is off by %.2g of its range", filepath.Base(j.Model), out.Name, d)
				}
			}
		}
	}
}

// farthest returns the greatest difference as a share of the range of want, 1
// at least.
func farthest(got, want []float32) float64 {
	if len(got) != len(want) {
		return math.Inf(1)
	}
	most, scale := 0.0, 1.0
	for i, w := range want {
		most, scale = max(most, math.Abs(float64(got[i])-float64(w))), max(scale, math.Abs(float64(w)))
	}
	return most / scale
}

func globbed(t *testing.T, dir, pattern string) []string {
	t.Helper()
	list, err := filepath.Glob(filepath.Join(dir, pattern))
	if err != nil || len(list) < 20 {
		t.Fatalf("%s in %s: %d found, %v", pattern, dir, len(list), err)
	}
	return list
}

// TestExportedGarments: ONNX Runtime and the engine agree on the demo's
// network, in float32 within 1e-4, and on the classes of the int8 network that
// quant makes of it.
func TestExportedGarments(t *testing.T) {
	dir := t.TempDir()
	if err := garments.WriteTo(dir); err != nil {
		t.Fatal(err)
	}
	set, spec := pictures(t, dir)
	float := importModel(t, filepath.Join(dir, "garments.onnx"))
	float.Values[float.Inputs[0]].Shape, float.Values[float.Inputs[0]].Dims = spec.Inputs[0].Shape(), nil
	ranges, err := quant.Calibrate(float, func(i int) ([]*model.Tensor, error) { return []*model.Tensor{set[i]}, nil }, 100, quant.Options{})
	if err != nil {
		t.Fatal(err)
	}
	small, _, err := quant.Apply(float, ranges, quant.Options{To: "int8"})
	if err != nil {
		t.Fatal(err)
	}
	agree(t, dir, "float32", float, set[100:140], 1e-4)
	if same := agree(t, dir, "int8", small, set[100:140], 0.02); same < 39 {
		t.Errorf("int8: the same class for %d of 40 pictures", same)
	}
}

// pictures returns the samples of the example as the network's input.
func pictures(t *testing.T, dir string) ([]*model.Tensor, prep.Spec) {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(dir, "prep.toml"))
	if err != nil {
		t.Fatal(err)
	}
	spec, err := prep.ParseTOML(text)
	if err != nil {
		t.Fatal(err)
	}
	set, err := samples.Open(filepath.Join(dir, "samples"), samples.Options{})
	if err != nil {
		t.Fatal(err)
	}
	list := make([]*model.Tensor, set.Len())
	for i := range list {
		s, err := set.At(i)
		if err == nil {
			list[i], err = model.NewTensor(model.F32, spec.Inputs[0].Shape()...)
		}
		if err == nil {
			err = spec.Inputs[0].Picture(s.Picture, list[i])
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	return list, spec
}

// agree runs g in ONNX Runtime and in the engine, fails where the first output
// differs by more than most of its range, and returns for how many inputs the
// greatest element is the same.
func agree(t *testing.T, dir, name string, g *model.Graph, set []*model.Tensor, most float64) (same int) {
	t.Helper()
	file := export(t, dir, name, g)
	var jobs []ortJob
	for i, x := range set {
		in := fmt.Sprintf("%s/%s-in-%d", dir, name, i)
		if err := os.WriteFile(in, x.Data, 0o600); err != nil {
			t.Fatal(err)
		}
		jobs = append(jobs, ortJob{file, []ortTensor{{g.Inputs[0], x.Type.String(), x.Shape, in}}, fmt.Sprintf("%s/%s-%d-", dir, name, i)})
	}
	runORT(t, jobs)
	p, err := engine.Compile(importModel(t, file), engine.Options{Shapes: map[string]model.Shape{g.Inputs[0]: set[0].Shape}})
	if err != nil {
		t.Fatal(err)
	}
	s, worst := p.NewSession(), 0.0
	for i, x := range set {
		copy(s.Input(0).Data, x.Data)
		if err := s.Run(); err != nil {
			t.Fatal(err)
		}
		got, want := s.Output(0).F32(), floats(t, jobs[i].output(t, 0))
		worst = max(worst, farthest(got, want))
		if best(got) == best(want) {
			same++
		}
	}
	if worst > most {
		t.Errorf("%s: off by %.2g of the range, at most %g allowed", name, worst, most)
	}
	t.Logf("%s: off by at most %.2g, the same class for %d of %d", strings.TrimSuffix(filepath.Base(file), ".onnx"), worst, same, len(set))
	return same
}

func best(v []float32) int {
	at := 0
	for i, x := range v {
		if x > v[at] {
			at = i
		}
	}
	return at
}
