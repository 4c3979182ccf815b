package quant

import (
	"context"
	"path/filepath"
	"testing"

	"dunlin/model"
	"dunlin/train"
)

// TestGarmentsPrunedAndTrained: what cutting channels of the demo's model
// took, a short training gives back with the model it was as the teacher. With
// -long on 20,000 pictures, twice, in ten minutes.
func TestGarmentsPrunedAndTrained(t *testing.T) {
	if testing.Short() {
		t.Skip("skipped: it trains")
	}
	test, pictures := fashion(t, "t10k"), fashion(t, "train")
	if test == nil || pictures == nil {
		t.Skip("skipped: Debian's dataset-fashion-mnist is not installed")
	}
	shares, epochs := []float64{.3, .5}, 2
	pictures.n = 20000
	if !*long {
		shares, epochs, test.n, pictures.n = []float64{.3}, 1, 500, 800
	}
	g := importFile(t, filepath.Join("..", "examples", "garments", "garments.onnx"))
	calib := *pictures
	calib.n = 128
	r, err := Calibrate(g, calib.next, calib.n, Options{})
	if err != nil {
		t.Fatal(err)
	}
	data := trainingData(*pictures)
	float := accuracy(t, g, *test)
	for _, share := range shares {
		small, rep, err := PruneChannels(g, r, PruneOptions{Share: share, Multiple: 4})
		if err != nil {
			t.Fatal(err)
		}
		cut := accuracy(t, small, *test)
		trained := distil(t, g, small, data, epochs)
		after := accuracy(t, trained, *test)
		t.Logf("%g of the channels: %d -> %d bytes, %d -> %d multiplications; float %.2f %%, cut %.2f %%, trained again %.2f %%", share,
			rep.Bytes[0], rep.Bytes[1], rep.MACs[0], rep.MACs[1], float, cut, after)
		if float-after > (float-cut)/2 {
			t.Errorf("%g: %.2f points were lost, %.2f are after training", share, float-cut, float-after)
		}
		ranges, err := Calibrate(trained, calib.next, calib.n, Options{})
		if err != nil {
			t.Fatal(err)
		}
		q, small8, err := Apply(trained, ranges, Options{})
		if err != nil {
			t.Fatal(err)
		}
		checkSteps(t, q)
		t.Logf("and in int8: %d bytes, %.2f %%", small8.After, accuracy(t, q, *test))
	}
}

// trainingData is l in memory.
func trainingData(l labelled) *train.Data {
	d := &train.Data{Inputs: []train.Column{{Shape: l.tensor(0).Shape[1:]}}}
	for i := range l.n {
		d.Inputs[0].Floats = append(d.Inputs[0].Floats, l.tensor(i).F32()...)
		d.Classes = append(d.Classes, int32(l.class(i)))
	}
	return d
}

// distil trains student on data with teacher's answers.
func distil(t *testing.T, teacher, student *model.Graph, data *train.Data, epochs int) *model.Graph {
	t.Helper()
	const batch = 64
	big, err := train.NewNet(teacher, train.Options{Batch: batch, Logits: true})
	if err != nil {
		t.Fatal(err)
	}
	n, err := train.NewNet(student, train.Options{Batch: batch, Logits: true})
	if err != nil {
		t.Fatal(err)
	}
	_, err = train.Fit(context.Background(), n, data, train.FitOptions{
		Epochs: epochs, Loss: &train.Distillation{Temperature: 4, Weight: .7}, Optimiser: train.OptimiserOptions{Method: train.Adam},
		Schedule: train.Schedule{Shape: train.Cosine, Rate: 2e-3, Warmup: .1}, Seed: 1, Teacher: train.TeacherOf(big),
	})
	if err != nil {
		t.Fatal(err)
	}
	return n.Graph()
}
