package train

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"testing"
)

// TestExact trains and computes with Options.Exact on every tier of this CPU,
// and with the generic kernels: the bits are the same.
func TestExact(t *testing.T) {
	tiers := []string{"generic", "avx2", "neon", ""}
	t.Run("training", func(t *testing.T) {
		var want [32]byte
		for i, tier := range tiers {
			t.Setenv("DUNLIN_KERNELS", tier)
			n := laidOut(t, pictureNet(), Options{Batch: 5, Seed: 1, Exact: true})
			descend(t, n, 4)
			if got := digest(n); i == 0 {
				want = got
			} else if got != want {
				t.Errorf("kernels %q end in %x, generic ones in %x", tier, got, want)
			}
		}
	})
	for i := range cases {
		t.Run(cases[i].name, func(t *testing.T) {
			var want [][]float32
			for k, tier := range tiers {
				t.Setenv("DUNLIN_KERNELS", tier)
				got := exactRun(t, &cases[i])
				if k == 0 {
					want = got
				}
				for j := range got {
					if !bytes.Equal(bytesOf(got[j]), bytesOf(want[j])) {
						t.Errorf("kernels %q: tensor %d differs from that of the generic ones", tier, j)
					}
				}
			}
		})
	}
}

// exactRun returns the output and all gradients of a case.
func exactRun(t *testing.T, c *graphCase) (all [][]float32) {
	n, r := startNetWith(t, c, Options{Batch: 3, InputGradients: true, Exact: true})
	n.Forward(c.training)
	fillNormal(r, n.OutputGradient(0))
	n.Backward()
	all = append(all, n.Output(0))
	for i := range n.Inputs() {
		all = append(all, n.InputGradient(i))
	}
	for _, p := range n.Parameters() {
		all = append(all, p.Gradient)
	}
	return all
}

// fusesControl multiplies and adds without a conversion between, so that on
// arm64 the compiler makes one instruction of it.
//
//go:noinline
func fusesControl(a, b, c float32) float32 { return a*b + c }

// TestNothingFused looks for multiply-adds of a single rounding, which amd64
// has not, in what this package is compiled to for arm64: Options.Exact
// promises the same bits there. The control function proves that the scan sees
// them.
func TestNothingFused(t *testing.T) {
	if testing.Short() {
		t.Skip("compiles for arm64")
	}
	if fusesControl(2, 3, 4) != 10 {
		t.Fatal("arithmetic")
	}
	binary := filepath.Join(t.TempDir(), "train.test")
	build := exec.Command("go", "test", "-c", "-o", binary, ".")
	build.Env = append(os.Environ(), "GOOS=linux", "GOARCH=arm64", "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("compile for arm64: %v\n%s", err, out)
	}
	dump, err := exec.Command("go", "tool", "objdump", "-s", `^dunlin/train\.`, binary).Output()
	if err != nil {
		t.Fatalf("objdump: %v", err)
	}
	fused := regexp.MustCompile(`\bFN?M(ADD|SUB)[SD]?\b`)
	name, control := "", false
	for line := range bytes.Lines(dump) {
		switch {
		case bytes.HasPrefix(line, []byte("TEXT ")):
			if name = string(bytes.TrimSpace(line)); bytes.Contains(line, []byte("_test.go")) && !bytes.Contains(line, []byte("fusesControl")) {
				name = ""
			}
		case name != "" && fused.Match(line) && bytes.Contains([]byte(name), []byte("fusesControl")):
			control = true
		case name != "" && fused.Match(line):
			t.Errorf("%s has a fused multiply-add: %s", name, bytes.TrimSpace(line))
		}
	}
	if !control {
		t.Error("the control function is not fused: the scan proves nothing")
	}
}
