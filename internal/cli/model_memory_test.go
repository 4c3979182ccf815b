package cli

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strings"
	"testing"

	"dunlin/model"
	"dunlin/model/onnx"
)

// compressed is set for the process that TestMemory starts: to the arguments
// of the command, a line each.
const compressed = "DUNLIN_TEST_COMPRESS"

// wideNet is an ONNX file of dense layers with 1.2 million weights.
func wideNet(t *testing.T) []byte {
	t.Helper()
	r := rand.New(rand.NewPCG(7, 8))
	g := model.New("wide")
	g.Inputs, g.Outputs = []string{"x"}, []string{"y"}
	g.Values["x"] = &model.Value{Type: model.F32, Shape: model.Shape{1, 3, 32, 32}}
	g.Values["y"] = &model.Value{Type: model.F32, Shape: model.Shape{1, 10}}
	weights := func(name string, shape ...int) string {
		w, err := model.NewTensor(model.F32, shape...)
		if err != nil {
			t.Fatal(err)
		}
		for i := range w.F32() {
			w.F32()[i] = float32(r.NormFloat64()) / 32
		}
		g.AddConst(name, w)
		return name
	}
	g.Nodes = []*model.Node{{Op: "Flatten", Name: "flatten", In: []string{"x"}, Out: []string{"v0"}}}
	widths := []int{3072, 384, 10}
	for i := range widths[1:] {
		in, out := fmt.Sprintf("v%d", i), fmt.Sprintf("h%d", i)
		next := fmt.Sprintf("v%d", i+1)
		if i == len(widths)-2 {
			out = "y"
		}
		g.Nodes = append(g.Nodes, &model.Node{Op: "Gemm", Name: fmt.Sprintf("dense%d", i), In: []string{in, weights(fmt.Sprintf("w%d", i), widths[i], widths[i+1]), weights(fmt.Sprintf("b%d", i), widths[i+1])}, Out: []string{out}})
		if out != "y" {
			g.Nodes = append(g.Nodes, &model.Node{Op: "Relu", Name: fmt.Sprintf("relu%d", i), In: []string{out}, Out: []string{next}})
		}
	}
	var b bytes.Buffer
	if err := onnx.Export(&b, g); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// noise writes n pictures of CIFAR-10's form, of nothing.
func noise(t *testing.T, file string, n int) string {
	t.Helper()
	var seed [32]byte
	binary.LittleEndian.PutUint64(seed[:], uint64(n))
	data, r := make([]byte, n*3073), rand.NewChaCha8(seed)
	_, _ = r.Read(data)
	for i := range n {
		data[i*3073] %= 10
	}
	if err := os.WriteFile(file, data, 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

// TestMemory: the command takes the weights and 64 MiB at most, as the kernel
// counts it, for few samples and for many.
func TestMemory(t *testing.T) {
	if args := os.Getenv(compressed); args != "" {
		var errs bytes.Buffer
		if status := Run(t.Context(), strings.Split(args, "\n"), &errs, &errs); status != statusOK {
			t.Fatalf("status %d: %s", status, errs.String())
		}
		fmt.Printf("most %d\n", residentMost(t))
		return
	}
	if raceEnabled() {
		t.Skip("skipped: the race detector takes memory of its own")
	}
	dir := t.TempDir()
	net := filepath.Join(dir, "wide.onnx")
	prep := "[[input]]\nkind = \"picture\"\nwidth = 32\nheight = 32\n[[output]]\nkind = \"classes\"\nsoftmax = true\n"
	for name, text := range map[string][]byte{net: wideNet(t), filepath.Join(dir, "prep.toml"): []byte(prep)} {
		if err := os.WriteFile(name, text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	info, err := os.Stat(net)
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range []int{60, 600} {
		args := []string{
			"model", "compress", net, "--data", noise(t, filepath.Join(dir, fmt.Sprintf("%d.bin", n)), n), "--samples", "512", "--uncertified", "--max-drop", "90%",
			"--bound", "exact", "--seconds", "0.001", "-o", filepath.Join(dir, fmt.Sprint(n)),
		}
		c := exec.Command(os.Args[0], "-test.run", "^TestMemory$", "-test.v")
		c.Env = append(os.Environ(), compressed+"="+strings.Join(args, "\n"), "GOCOVERDIR="+dir)
		out, err := c.CombinedOutput()
		var most int64
		for line := range strings.Lines(string(out)) {
			_, _ = fmt.Sscanf(line, "most %d", &most)
		}
		if err != nil || most == 0 {
			t.Fatalf("%v: %s", err, out)
		}
		over := most - info.Size()
		t.Logf("%d samples: at most %.1f MiB, the weights of %.1f MiB and %.1f", n, float64(most)/(1<<20), float64(info.Size())/(1<<20), float64(over)/(1<<20))
		if over > beside {
			t.Errorf("with %d samples it takes %d bytes beside the weights, %d too many", n, over, over-beside)
		}
	}
}

// raceEnabled reports whether this is a build with the race detector.
func raceEnabled() bool {
	info, ok := debug.ReadBuildInfo()
	return ok && slices.ContainsFunc(info.Settings, func(s debug.BuildSetting) bool { return s.Key == "-race" && s.Value == "true" })
}

// residentMost returns the most memory that this process has had.
func residentMost(t *testing.T) int64 {
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
