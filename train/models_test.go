package train

import (
	"math/rand/v2"
	"os"
	"testing"

	"dunlin/internal/shared"
	"dunlin/model/onnx"
)

// TestModels lays networks of the world out for training, with norms folded
// into their convolutions as exporters leave them, and runs them beside the
// engine.
func TestModels(t *testing.T) {
	for name, parameters := range map[string]int{
		"mlperftiny-ad01": 20, "mlperftiny-ic01-resnet8-cifar10": 20, "mlperftiny-kws01-dscnn": 20,
		"mlperftiny-vww01-mbv1-0.25": 56, "mobilenet-v2-1.0-224-dequant": 106,
	} {
		t.Run(name, func(t *testing.T) {
			if testing.Short() && parameters > 56 {
				t.Skip("224 by 224 pixels")
			}
			data, err := os.ReadFile(shared.Dir(t, "models", "onnx", name+".onnx"))
			if err != nil {
				t.Fatal(err)
			}
			g, err := onnx.Import(data)
			if err != nil {
				t.Fatal(err)
			}
			n := laidOut(t, g, Options{Batch: 2})
			if len(n.Parameters()) != parameters {
				t.Errorf("%d parameters, not %d", len(n.Parameters()), parameters)
			}
			fillNormal(rand.New(rand.NewPCG(5, 6)), n.Input(0))
			n.Forward(false)
			compareWithEngine(t, n, g)
		})
	}
}
