package engine_test

import (
	"os"
	"testing"

	"dunlin/engine"
	"dunlin/internal/shared"
	"dunlin/model"
)

// Every golden of a float model is reproduced: 1e-4 of the output's range, or
// 1e-2 where weights are stored in half precision. Quantised ones are judged
// by TestIntegerGoldens.
func TestEveryFloatGolden(t *testing.T) {
	loose := map[string]float64{"silero-vad-v6-fp16-half": 1e-2}
	list, err := os.ReadDir(shared.Dir(t, "goldens", "onnx"))
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range list {
		name := d.Name()
		t.Run(name, func(t *testing.T) {
			g := readGolden(t, name)
			p, s := g.session(t, engine.Options{})
			if p.Exact() {
				return
			}
			if err := s.Run(); err != nil {
				t.Fatal(err)
			}
			limit := 1e-4
			if l := loose[name]; l > 0 {
				limit = l
			}
			for i, out := range g.Outputs {
				want, got := g.tensor(t, out.DType, out.File, out.Shape), s.Output(i)
				if got.Type != want.Type || !got.Shape.Equal(want.Shape) {
					t.Fatalf("output %s: %v %v, want %v %v", out.Name, got.Type, got.Shape, want.Type, want.Shape)
				}
				if want.Type != model.F32 {
					continue
				}
				if e := rangeError(got.F32(), want.F32()); !(e <= limit) {
					t.Errorf("output %s: error is %g of the output's range", out.Name, e)
				}
			}
		})
	}
}
