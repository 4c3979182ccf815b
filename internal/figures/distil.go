package figures

import (
	"embed"
	"encoding/json"
	"fmt"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
)

//go:embed recipes
var recipes embed.FS

// lesson is a student with a teacher, and alone.
type lesson struct {
	name, recipe  string
	teacher, data string // paths; data is "" where the recipe knows it
	weights       int    // of the teacher
}

// seeds are how often each student is trained.
const seeds = 3

// distil prints what a student learns from a teacher that it does not learn
// from the labels alone.
func (s *session) distil() error {
	dunlin, err := s.build()
	if err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "dunlin-figures")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	s.heading("Distillation", "make distil")
	fmt.Fprintf(s.out, "Right answers on held-out pictures, in percent: %d seeds each, mean ± standard deviation.\n\n", seeds)
	rows := [][]string{{"data", "weights, teacher", "student", "alone", "distilled", "gain, points"}}
	for _, l := range []lesson{
		{"Fashion-MNIST, 3,000 to learn from", "fashion.toml", filepath.Join("examples", "garments", "garments.onnx"), "", 78666},
		{
			"CIFAR-10, 1,400 to learn from", "cifar10.toml", filepath.Join(s.shared, "models", "onnx", "mlperftiny-ic01-resnet8-cifar10.onnx"),
			filepath.Join(s.shared, "data", "vision", "cifar10", "test-2000.bin"), 77706,
		},
	} {
		row, err := s.taught(dunlin, dir, l)
		if err != nil {
			return fmt.Errorf("%s: %w", l.name, err)
		}
		rows = append(rows, row)
	}
	s.rows(rows)
	return nil
}

// withoutTeacher is the part of a recipe that a student alone leaves out.
var withoutTeacher = regexp.MustCompile(`(?s)\[distil\].*?\n\n`)

// taught trains a lesson's student with its teacher and alone.
func (s *session) taught(dunlin, dir string, l lesson) ([]string, error) {
	text, err := recipes.ReadFile("recipes/" + l.recipe)
	if err != nil {
		return nil, err
	}
	var paths [2]string
	for i, p := range []string{l.teacher, l.data} {
		if paths[i], err = filepath.Abs(p); err != nil {
			return nil, err
		}
	}
	with := strings.NewReplacer("TEACHER", paths[0], "DATA", paths[1]).Replace(string(text))
	var all [2][]float64 // alone, distilled
	var gains []float64
	student := 0
	for seed := 1; seed <= seeds; seed++ {
		for i, recipe := range []string{withoutTeacher.ReplaceAllString(with, ""), with} {
			file := filepath.Join(dir, l.recipe)
			if err := os.WriteFile(file, []byte(recipe), 0o666); err != nil {
				return nil, err
			}
			var right float64
			if student, right, err = s.trained(dunlin, file, filepath.Join(dir, "out"), seed); err != nil {
				return nil, err
			}
			all[i] = append(all[i], 100*right)
		}
		gains = append(gains, all[1][seed-1]-all[0][seed-1])
		fmt.Fprintf(s.log, "%s, seed %d: alone %.2f, distilled %.2f\n", l.name, seed, all[0][seed-1], all[1][seed-1])
	}
	return []string{l.name, fmt.Sprint(l.weights), fmt.Sprint(student), spread(all[0]), spread(all[1]), spread(gains)}, nil
}

// trained runs one training, and returns how many weights it had and the share
// of right answers at its end.
func (s *session) trained(dunlin, recipe, out string, seed int) (weights int, right float64, err error) {
	cmd := exec.Command(dunlin, "train", recipe, "--seed", fmt.Sprint(seed), "--anew", "--json", "-o", out)
	cmd.Stderr = s.log
	text, err := cmd.Output()
	if err != nil {
		return 0, 0, err
	}
	var r struct {
		Parameters int
		Best       int
		Epochs     []struct {
			Accuracy float64 `json:"test_accuracy"`
		}
	}
	if err := json.Unmarshal(text, &r); err != nil {
		return 0, 0, err
	}
	if r.Best < 1 || r.Best > len(r.Epochs) {
		return 0, 0, fmt.Errorf("a training of %d epochs whose best is %d", len(r.Epochs), r.Best)
	}
	return r.Parameters, r.Epochs[r.Best-1].Accuracy, nil
}

// spread returns mean and standard deviation.
func spread(list []float64) string {
	mean, sum := 0.0, 0.0
	for _, v := range list {
		mean += v / float64(len(list))
	}
	for _, v := range list {
		sum += (v - mean) * (v - mean)
	}
	return fmt.Sprintf("%.2f ± %.2f", mean, math.Sqrt(sum/float64(max(1, len(list)-1))))
}
