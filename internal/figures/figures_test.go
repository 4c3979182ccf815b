package figures

import (
	"bytes"
	"slices"
	"strings"
	"testing"
	"time"

	"dunlin/train"
)

func TestParseBench(t *testing.T) {
	for line, want := range map[string]measured{
		"BenchmarkEveryVariant/GEMMInt8/1x1024x1024/avx512-exact-2         \t     553\t      9511 ns/op\t        27.58 %peak\t       150.4 GMAC/s": {"GEMMInt8", "1x1024x1024", "avx512", "150.4", "27.58"},
		"BenchmarkConvTranspose/16x1024x1024/generic-16 \t 1\t 5 ns/op\t 1.5 GMAC/s":                                                               {"ConvTranspose", "16x1024x1024", "generic", "1.5", ""},
	} {
		if got, ok := parseBench(line); !ok || got != want {
			t.Errorf("%+v, %v", got, ok)
		}
	}
	for _, line := range []string{"", "PASS", "goos: linux", "BenchmarkPackInt8/avx2-2 \t 10\t 1 ns/op\t 3 MB/s", "BenchmarkX/1/avx2-2 \t 10\t 1 ns/op"} {
		if got, ok := parseBench(line); ok {
			t.Errorf("%q is %+v", line, got)
		}
	}
}

func TestKernelTables(t *testing.T) {
	tables := kernelTables([]measured{
		{"A", "1", "generic", "1", ""}, {"A", "1", "avx2", "2", "50"}, {"A", "2", "avx2", "3", "60"}, {"B", "1", "avx2", "4", ""},
	})
	if len(tables) != 2 || tables[0].kernel != "A" || tables[1].kernel != "B" {
		t.Fatalf("%+v", tables)
	}
	want := [][]string{{"shape", "generic", "avx2"}, {"1", "1", "2 (50 %)"}, {"2", "", "3 (60 %)"}}
	if !slices.EqualFunc(tables[0].rows, want, slices.Equal) {
		t.Errorf("%q", tables[0].rows)
	}
}

func TestModelled(t *testing.T) {
	if got := modelled("loop                              MACs   cortex-a53"); !slices.Equal(got, []string{"loop", "products a turn", "cortex-a53"}) {
		t.Errorf("%q", got)
	}
	if got := modelled("tileInt8_4x16_DOTPROD.0           1024            -"); !slices.Equal(got, []string{"tileInt8_4x16_DOTPROD.0", "1024", "-"}) {
		t.Errorf("%q", got)
	}
	for _, line := range []string{"PASS", "ok  \tdunlin/kernels\t1.2s", "BenchmarkModels \t 1\t 5 ns/op"} {
		if got := modelled(line); got != nil {
			t.Errorf("%q is %q", line, got)
		}
	}
}

func TestCompared(t *testing.T) {
	m := compared.FindStringSubmatch("mobilenetv2.qdq.onnx                           ort    1.6452 ms  dunlin    1.4278 ms  ratio  1.15")
	if !slices.Equal(m[1:], []string{"mobilenetv2.qdq.onnx", "1.6452", "1.4278", "1.15"}) {
		t.Errorf("%q", m)
	}
	if m := compared.FindStringSubmatch("26 models: worst ratio 0.18, geometric mean 0.88; dunlin failed 0"); m != nil {
		t.Errorf("%q", m)
	}
}

func TestCPUName(t *testing.T) {
	info := "processor\t: 0\ncpu family\t: 26\nmodel\t\t: 2\nmodel name\t: AMD EPYC\n\nprocessor\t: 1\nmodel name\t: other\n"
	if got := cpuName(info, "amd64"); got != "AMD EPYC (family 26, model 2)" {
		t.Error(got)
	}
	if got := cpuName("processor : 0\n", "arm64"); got != "arm64" {
		t.Error(got)
	}
}

// A process's time and memory are those of the process.
func TestStart(t *testing.T) {
	o, err := start([]string{"sleep", "0.05"})
	if err != nil || o.took < 50*time.Millisecond || o.peak < 1<<16 {
		t.Errorf("%+v, %v", o, err)
	}
	if _, err := start([]string{"false"}); err == nil {
		t.Error("a failure is none")
	}
	m := middle([]once{{1, 30, 200}, {2, 10, 100}, {3, 20, 300}})
	if m != (once{2, 20, 200}) || least([]once{{2, 0, 0}, {1, 0, 0}}) != 1 {
		t.Errorf("%+v", m)
	}
}

// What is timed is training: in 20 steps on one batch the loss falls.
func TestOurSteps(t *testing.T) {
	for _, c := range trainings {
		l := &lastLoss{Loss: c.loss}
		step, err := ourStep(c.make, c.batch, l)
		if err != nil {
			t.Fatal(err)
		}
		step()
		first := l.last
		for range 20 {
			step()
		}
		if !(l.last < first*0.99) {
			t.Errorf("%s: loss %v, then %v", c.name, first, l.last)
		}
	}
}

// lastLoss keeps what a loss came to.
type lastLoss struct {
	train.Loss
	last float64
}

func (l *lastLoss) Of(n int, out []float32, t train.Targets, gradient []float32) float64 {
	l.last = l.Loss.Of(n, out, t, gradient)
	return l.last
}

func TestMedian(t *testing.T) {
	if m := median([]float64{9, 1, 5}); m != 5 {
		t.Error(m)
	}
}

func TestUsage(t *testing.T) {
	var out, errs bytes.Buffer
	if status := Main([]string{"nothing"}, &out, &errs); status != 2 || !strings.Contains(errs.String(), "peers") || out.Len() > 0 {
		t.Errorf("status %d: %s", status, &errs)
	}
}

func TestSpread(t *testing.T) {
	if got := spread([]float64{1, 2, 3}); got != "2.00 ± 1.00" {
		t.Error(got)
	}
}

// TestLessons: without its teacher a recipe is the same but for that.
func TestLessons(t *testing.T) {
	for _, name := range []string{"fashion.toml", "cifar10.toml"} {
		text, err := recipes.ReadFile("recipes/" + name)
		if err != nil {
			t.Fatal(err)
		}
		alone := withoutTeacher.ReplaceAllString(string(text), "")
		if strings.Contains(alone, "TEACHER") || !strings.Contains(string(text), "TEACHER") || !strings.Contains(alone, "[optimiser]") || !strings.Contains(alone, "[network]") {
			t.Errorf("%s: %s", name, alone)
		}
	}
}
