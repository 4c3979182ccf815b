package figures

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
)

// benched is what dunlin model bench --json prints.
type benched struct {
	Median float64 `json:"median_ms"`
	Least  float64 `json:"min_ms"`
	Load   float64 `json:"load_ms"`
	Arena  int     `json:"arena_kib"`
	Error  string  `json:"error"`
}

// network is a model file with the inputs that it is measured on.
type network struct {
	path   string
	inputs []string // flags
}

// ways are the columns of the table of models.
var ways = []struct {
	name  string
	flags []string
}{
	{"1 thread", []string{"--threads", "1"}},
	{"2 threads", []string{"--threads", "2"}},
	{"AVX-VNNI", []string{"--threads", "1", "--kernels", "avxvnni"}},
	{"AVX2", []string{"--threads", "1", "--kernels", "avx2"}},
}

// models prints the time of each model.
func (s *session) models() error {
	dunlin, err := s.build()
	if err != nil {
		return err
	}
	all, err := s.networks()
	if err != nil {
		return err
	}
	head := []string{"model"}
	for _, w := range ways {
		head = append(head, w.name+", ms")
	}
	rows := [][]string{append(head, "AVX-VNNI by AVX2", "load, ms", "arena, KiB")}
	for _, n := range all {
		row := []string{strings.TrimSuffix(filepath.Base(n.path), ".onnx")}
		var first benched
		medians := make([]float64, len(ways))
		for i, w := range ways {
			b, err := s.bench(dunlin, n, w.flags)
			if err != nil {
				return err
			}
			if i == 0 {
				first = b
			}
			medians[i] = b.Median
			row = append(row, fmt.Sprintf("%.3f", b.Median))
		}
		rows = append(rows, append(row, fmt.Sprintf("%.2f", medians[3]/max(medians[2], 1e-9)), fmt.Sprintf("%.1f", first.Load), fmt.Sprint(first.Arena)))
		fmt.Fprintln(s.log, strings.Join(rows[len(rows)-1], " "))
	}
	s.heading("Models", "make bench")
	fmt.Fprint(s.out, "Median time of one inference; of the middle of three processes. A tier that this CPU lacks falls back to plain Go.\n\n")
	s.rows(rows)
	return nil
}

// bench measures a network in three processes and returns the middle one.
func (s *session) bench(dunlin string, n network, flags []string) (benched, error) {
	var runs []benched
	for range 3 {
		args := append([]string{"model", "bench", "--seconds", "0.4", "--json"}, flags...)
		cmd := exec.Command(dunlin, append(append(args, n.inputs...), n.path)...)
		var b benched
		err := s.lines(cmd, func(line string) {
			if strings.HasPrefix(line, "{") {
				_ = json.Unmarshal([]byte(line), &b) // what is no answer leaves no median
			}
		})
		if b.Error != "" || err != nil || b.Median == 0 {
			return b, fmt.Errorf("%s: %s %v", n.path, b.Error, err)
		}
		runs = append(runs, b)
	}
	slices.SortFunc(runs, func(a, b benched) int {
		if a.Median < b.Median {
			return -1
		}
		return 1
	})
	return runs[1], nil
}

// networks returns the generated models, where they have been made, and the
// real ones with their golden inputs.
func (s *session) networks() ([]network, error) {
	var all []network
	for _, name := range generated {
		if path := filepath.Join(s.generatedDir(), name+".onnx"); exists(path) {
			all = append(all, network{path: path})
		}
	}
	if len(all) == 0 {
		fmt.Fprintln(s.log, "figures: the generated models are not there yet (make bench-peers makes them): the real ones alone")
	}
	real, err := filepath.Glob(filepath.Join(s.shared, "models", "onnx", "*.onnx"))
	if err != nil || len(real) == 0 && len(all) == 0 {
		return nil, fmt.Errorf("no models in %s (set DUNLIN_SHARED): %v", s.shared, err)
	}
	for _, path := range real {
		inputs, err := s.golden(path)
		if err != nil {
			return nil, err
		}
		if inputs != nil {
			all = append(all, network{path, inputs})
		}
	}
	return all, nil
}

// golden returns the flags for a real model's golden inputs, nil where it has
// none.
func (s *session) golden(path string) ([]string, error) {
	dir := filepath.Join(s.shared, "goldens", "onnx", strings.TrimSuffix(filepath.Base(path), ".onnx"))
	text, err := os.ReadFile(filepath.Join(dir, "golden.json"))
	if err != nil {
		return nil, nil // without a golden it is not measured
	}
	var g struct {
		Inputs []struct {
			File  string
			Shape []int
		}
	}
	if err := json.Unmarshal(text, &g); err != nil {
		return nil, fmt.Errorf("%s: %w", dir, err)
	}
	flags := []string{}
	for i, in := range g.Inputs {
		shape := strings.Trim(strings.ReplaceAll(fmt.Sprint(in.Shape), " ", ","), "[]")
		flags = append(flags, "--input", fmt.Sprintf("%d=%s", i, filepath.Join(dir, in.File)), "--shape", fmt.Sprintf("%d=%s", i, shape))
	}
	return flags, nil
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}
