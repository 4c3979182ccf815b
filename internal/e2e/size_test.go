package e2e_test

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"dunlin/internal/shared"
)

// The limits of the agent: what a small board can spare.
const (
	maxBinary = 12 << 20 // bytes, linux/arm64, stripped
	maxIdle   = 25 << 10 // KiB resident, connected, with a model
)

// maxRun is what a process may take that loads MobileNetV2 in int8 and runs
// it, in bytes resident at the peak: 30 MB as the limits above count them.
const maxRun = 30 << 20

// TestSize measures the agent as it ships; make size prints what it logs.
func TestSize(t *testing.T) {
	for _, p := range []struct{ arch, arm string }{{"arm64", ""}, {"arm", "7"}, {"arm", "6"}, {"amd64", ""}} {
		out := filepath.Join(t.TempDir(), "dunlin-agent")
		cmd := exec.Command("go", "build", "-trimpath", "-buildvcs=false", "-ldflags", "-s -w -buildid=", "-tags", "nethttpomithttp2", "-o", out, "dunlin/cmd/dunlin-agent") // as make build does
		cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux", "GOARCH="+p.arch, "GOARM="+p.arm)
		if text, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%s: %v: %s", p.arch, err, text)
		}
		info, err := os.Stat(out)
		if err != nil {
			t.Fatal(err)
		}
		t.Logf("dunlin-agent linux/%s%s: %.2f MB", p.arch, p.arm, float64(info.Size())/1e6)
		if p.arch == "arm64" && info.Size() > maxBinary {
			t.Errorf("dunlin-agent for arm64 has %d bytes, limit %d", info.Size(), maxBinary)
		}
	}
	e, f := theExample(t), startFleet(t)
	a := f.startAgent("idle", fmt.Sprintf("[model]\npack = %q\nrelease_keys = [%q]\n", e.pack, e.key+".pub"))
	a.runs(e.digest)
	wait(t, time.Minute, "the agent to be connected and settled", func() error {
		kib, err := resident(a.cmd.Process.Pid)
		if err == nil && kib > maxIdle {
			err = fmt.Errorf("%d KiB resident, limit %d", kib, maxIdle)
		}
		return err
	})
	kib, err := resident(a.cmd.Process.Pid)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("dunlin-agent idle with a model: %.1f MB resident", float64(kib)/1024)
}

// anyPicture is preprocessing for MobileNetV2. What is measured does not
// depend on what the pictures show.
const anyPicture = `[[input]]
kind = "picture"
color = "rgb"
width = 224
height = 224
layout = "nchw"
scale = 0.0078125
`

// TestSizeOfModelRun measures a process that opens a packed int8 model and
// answers.
func TestSizeOfModelRun(t *testing.T) {
	file := shared.Dir(t, "models", "onnx", "mobilenet-v2-1.0-224-dequant.onnx")
	dir := t.TempDir()
	dunlin, prep, packed := filepath.Join(dir, "dunlin"), filepath.Join(dir, "prep.toml"), filepath.Join(dir, "packed")
	if err := os.WriteFile(prep, []byte(anyPicture), 0o600); err != nil {
		t.Fatal(err)
	}
	build := exec.Command("go", "build", "-trimpath", "-ldflags", "-s -w", "-o", dunlin, "dunlin/cmd/dunlin")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if text, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, text)
	}
	pictures := filepath.Join("..", "..", "examples", "garments", "calibration")
	compress := exec.Command(dunlin, "model", "compress", file, "--calibrate", pictures, "--samples", "2", "--exam", "1", "--prep", prep, "-o", packed)
	if text, err := compress.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, text)
	}
	text, err := exec.Command(dunlin, "model", "bench", "--threads", "1", "--seconds", "0.01", "--json", packed).Output()
	if err != nil {
		t.Fatal(err)
	}
	var b struct {
		Peak int `json:"peak_kib"`
	}
	if err := json.Unmarshal(text, &b); err != nil || b.Peak == 0 {
		t.Fatalf("%s: %v", text, err)
	}
	t.Logf("dunlin model bench, MobileNetV2 int8: %.1f MB resident at the peak", float64(b.Peak)*1024/1e6)
	if b.Peak<<10 > maxRun {
		t.Errorf("%d KiB resident at the peak, limit %d", b.Peak, maxRun>>10)
	}
}

// resident returns VmRSS of a process, in KiB.
func resident(pid int) (kib int, err error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(text)) {
		if n, err := fmt.Sscanf(line, "VmRSS: %d kB", &kib); n == 1 {
			return kib, err
		}
	}
	return 0, fmt.Errorf("process %d says no VmRSS", pid)
}
