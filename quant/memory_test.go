package quant

import (
	"fmt"
	"os"
	"runtime/debug"
	"strings"
	"testing"
	"time"

	"dunlin/internal/shared"
)

// BenchmarkMemory prints what calibration, learned rounding and the front of a
// large network take at most, one after the other in one process, and how
// long: run it alone (-run '^$' -bench Memory -benchtime 1x). Calibration may
// take the weights and 64 MiB, however many samples there are.
func BenchmarkMemory(t *testing.B) {
	defer debug.SetGCPercent(debug.SetGCPercent(10))
	start := residentMost(t)
	g := importFile(t, shared.Dir(t, "models", "onnx", "mobilenet-v2-1.0-224-dequant.onnx"))
	weights := g.StoredBytes()
	pictures := imagenet(t, shared.Dir(t, "data", "vision", "imagenet-sample-500"))
	stage := func(what string, run func() error) int64 {
		before := time.Now()
		if err := run(); err != nil {
			t.Fatal(err)
		}
		most := residentMost(t) - start - weights
		t.Logf("%s: at most %.1f MiB beside the %.1f MiB of the weights, %v", what, float64(most)/(1<<20), float64(weights)/(1<<20), time.Since(before).Round(time.Second))
		return most
	}
	var r *Ranges
	for _, n := range []int{4, 20, 100} {
		most := stage(fmt.Sprintf("calibration with %d pictures", n), func() (err error) {
			r, err = Calibrate(g, pictures.next, n, Options{})
			return err
		})
		if most > 64<<20 {
			t.Errorf("calibration takes %d bytes beside the weights", most)
		}
	}
	var learned *Rounding
	stage("rounding", func() (err error) {
		learned, err = LearnRounding(g, r, pictures.next, 100, Options{})
		return err
	})
	stage("front", func() error {
		_, _, err := Front(g, r, pictures.next, 100, FrontOptions{Options: Options{Rounding: learned}})
		return err
	})
}

// residentMost returns the most memory that this process has had.
func residentMost(t testing.TB) int64 {
	t.Helper()
	data, err := os.ReadFile("/proc/self/status")
	if err != nil {
		t.Skipf("skipped: %v", err)
	}
	for line := range strings.Lines(string(data)) {
		var kib int64
		if n, _ := fmt.Sscanf(line, "VmHWM: %d kB", &kib); n == 1 {
			return kib << 10
		}
	}
	t.Fatal("no VmHWM")
	return 0
}
