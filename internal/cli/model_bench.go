package cli

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"dunlin/engine"
	"dunlin/model"
)

// benchLine is what --json prints for each model.
type benchLine struct {
	Model    string  `json:"model"`
	Threads  int     `json:"threads"`
	MedianMS float64 `json:"median_ms"`
	MinMS    float64 `json:"min_ms"`
	Runs     int     `json:"runs"`
	LoadMS   float64 `json:"load_ms"`
	ArenaKiB int     `json:"arena_kib"`
	PeakKiB  int     `json:"peak_kib,omitempty"` // most memory that the process has had resident so far
	Error    string  `json:"error,omitempty"`

	Profile []profileRow `json:"profile,omitempty"`
}

func modelBenchCommand() *cobra.Command {
	var (
		in      inputFlags
		flags   compileFlags
		seconds float64
		steps   bool
		asJSON  bool
	)
	c := &cobra.Command{
		Use:   "bench [flags] MODEL…",
		Short: "Measure how long one inference takes here",
		Long: `Bench runs each MODEL over and over for --seconds and prints the median and the
fastest run. Without --input it makes deterministic pseudo-random inputs; axes that
the model leaves open are then 1. Loading and the first run are not counted.

With --profile, runs with a clock follow: a row a step of the plan, then one a kernel,
with the products a second and their share of the most that this CPU can do.`,
		Example: `  dunlin model bench net.onnx
  dunlin model bench --profile net.onnx
  dunlin model bench --threads 1 --seconds 5 --json a.onnx b.onnx
  dunlin model bench --require int8 net-int8.onnx`,
		Args: cobra.MinimumNArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			o, err := flags.options()
			if err != nil {
				return err
			}
			rows := [][]string{{"MODEL", "MEDIAN", "FASTEST", "RUNS", "LOAD", "ARENA"}}
			var failed error
			for _, path := range args {
				line, err := benchModel(path, in, o, time.Duration(seconds*float64(time.Second)), steps)
				if err != nil {
					line = benchLine{Model: filepath.Base(path), Threads: o.Threads, Error: err.Error()}
					failed = fmt.Errorf("bench %s: %w", path, err)
				}
				if asJSON {
					if err := json.NewEncoder(c.OutOrStdout()).Encode(line); err != nil {
						return err
					}
				}
				if !asJSON && line.Profile != nil {
					fmt.Fprintln(c.OutOrStdout(), line.Model)
					printProfile(c.OutOrStdout(), line.Profile)
					fmt.Fprintln(c.OutOrStdout())
				}
				rows = append(rows, []string{
					line.Model, fmt.Sprintf("%.3f ms", line.MedianMS), fmt.Sprintf("%.3f ms", line.MinMS),
					fmt.Sprint(line.Runs), fmt.Sprintf("%.1f ms", line.LoadMS), fmt.Sprintf("%d KiB", line.ArenaKiB),
				})
			}
			if !asJSON {
				table(c.OutOrStdout(), rows)
			}
			return failed
		},
	}
	in.register(c)
	flags.register(c)
	c.Flags().Float64Var(&seconds, "seconds", 1, "how long to measure each model")
	c.Flags().BoolVar(&steps, "profile", false, "a row a step: time, products a second, share of this CPU's peak")
	jsonFlag(c, &asJSON)
	return c
}

func benchModel(path string, in inputFlags, o engine.Options, d time.Duration, steps bool) (benchLine, error) {
	begin := time.Now()
	m, err := load(path)
	if err != nil {
		return benchLine{}, err
	}
	defer m.close()
	shapes, data, err := in.resolve(m.graph, true)
	if err != nil {
		return benchLine{}, err
	}
	p, s, err := m.session(shapes, data, o)
	if err != nil {
		return benchLine{}, err
	}
	for i, port := range p.Inputs() {
		if data[port.Name] == nil {
			pseudoRandom(s.Input(i))
		}
	}
	load := time.Since(begin)
	times, err := measure(s, d)
	if err != nil {
		return benchLine{}, err
	}
	var rows []profileRow
	if steps {
		if rows, err = profile(p, s, d); err != nil {
			return benchLine{}, err
		}
	}
	return benchLine{
		Profile: rows,
		Model:   filepath.Base(path), Threads: threadsOf(p), MedianMS: millis(times[len(times)/2]), MinMS: millis(times[0]),
		Runs: len(times), LoadMS: millis(load), ArenaKiB: p.Memory().Arena >> 10, PeakKiB: peakMemory(),
	}, nil
}

// peakMemory returns the most that this process has had resident, in KiB; 0
// where the system does not tell.
func peakMemory() (kib int) {
	text, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return 0
	}
	for line := range strings.Lines(string(text)) {
		if n, _ := fmt.Sscanf(line, "VmHWM: %d kB", &kib); n == 1 {
			return kib
		}
	}
	return 0
}

// threadsOf returns how many threads a program uses.
func threadsOf(p *engine.Program) int {
	n := 1
	for _, s := range p.Steps() {
		n = max(n, s.Parts)
	}
	return n
}

// measure runs s for d, at least 5 times after one that is not counted, and
// returns the times of the runs, the shortest first.
func measure(s *engine.Session, d time.Duration) ([]time.Duration, error) {
	if err := s.Run(); err != nil {
		return nil, err
	}
	var times []time.Duration
	for begin := time.Now(); time.Since(begin) < d || len(times) < 5; {
		t := time.Now()
		if err := s.Run(); err != nil {
			return nil, err
		}
		times = append(times, time.Since(t))
	}
	slices.Sort(times)
	return times, nil
}

func millis(d time.Duration) float64 { return float64(d.Nanoseconds()) / 1e6 }

// pseudoRandom fills t from a fixed linear congruential generator (Knuth,
// MMIX): floats in [-1, 1), integers in [0, 4), which are valid indices of
// most tables.
func pseudoRandom(t *model.Tensor) {
	x := uint64(1)
	next := func() uint64 { x = x*6364136223846793005 + 1442695040888963407; return x >> 33 }
	switch t.Type {
	case model.F32:
		for i := range t.F32() {
			t.F32()[i] = float32(next())/(1<<30) - 1
		}
	case model.I64:
		for i := range t.I64() {
			t.I64()[i] = int64(next() % 4)
		}
	case model.I32:
		for i := range t.I32() {
			t.I32()[i] = int32(next() % 4)
		}
	case model.I8, model.U8:
		for i := range t.Data {
			t.Data[i] = byte(next())
		}
	case model.Bool:
		for i := range t.Data {
			t.Data[i] = byte(next() & 1)
		}
	default: // F16, F64 and the rest: zeros
	}
}
