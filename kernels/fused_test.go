package kernels

import (
	"bufio"
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// fusesControl multiplies and adds without a conversion between, so that on
// arm64 the compiler makes one instruction of it. It proves that the scan
// below sees what it looks for.
//
//go:noinline
func fusesControl(a, b, c float32) float32 { return a*b + c }

// keepsControl is its mirror.
//
//go:noinline
func keepsControl(a, b, c float32) float32 { return float32(a*b) + c }

var (
	fused   = regexp.MustCompile(`\bFN?M(ADD|SUB)[SD]?\b`)
	control = map[string]bool{"dunlin/kernels.fusesControl": true}
)

// No definition of this package is compiled to a fused multiply-add, whose
// single rounding other CPUs do not have: see the package comment.
func TestDefinitionsAreNotFused(t *testing.T) {
	if v := fusesControl(2, 3, 4) + keepsControl(2, 3, 4); v != 20 {
		t.Fatal(v)
	}
	goTool, err := exec.LookPath("go")
	if err != nil {
		if os.Getenv("CI") != "" {
			t.Fatalf("the go command is absent: %v", err)
		}
		t.Skip("skipped: no go command to compile for arm64 with")
	}
	binary := filepath.Join(t.TempDir(), "kernels.test")
	build := exec.Command(goTool, "test", "-c", "-o", binary, ".")
	build.Env = append(os.Environ(), "GOOS=linux", "GOARCH=arm64", "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("compile for arm64: %v\n%s", err, out)
	}
	dump, err := exec.Command(goTool, "tool", "objdump", "-s", `^dunlin/kernels\.`, binary).Output()
	if err != nil {
		t.Fatalf("objdump: %v", err)
	}
	functions, found := scanFused(dump)
	for _, name := range []string{"dunlin/kernels.addInt8Generic", "dunlin/kernels.convInt8Generic", "dunlin/kernels.dotF32", "dunlin/kernels.exp", "dunlin/kernels.keepsControl"} {
		if !functions[name] {
			t.Errorf("%s is not in the object code", name)
		}
	}
	if !found["dunlin/kernels.fusesControl"] {
		t.Error("the control function is not fused: the scan proves nothing")
	}
	for name := range found {
		if !control[name] {
			t.Errorf("%s has a fused multiply-add", name)
		}
	}
	t.Logf("%d functions scanned", len(functions))
}

// scanFused returns the functions in the output of objdump, tests apart, and
// those with a fused multiply-add.
func scanFused(dump []byte) (functions, found map[string]bool) {
	functions, found = map[string]bool{}, map[string]bool{}
	name := ""
	for s := bufio.NewScanner(bytes.NewReader(dump)); s.Scan(); {
		line := s.Text()
		if rest, ok := strings.CutPrefix(line, "TEXT "); ok {
			name, _, _ = strings.Cut(rest, "(SB)")
			file := strings.TrimSpace(rest[strings.LastIndex(rest, " ")+1:])
			if strings.HasSuffix(file, "_test.go") && !strings.HasSuffix(name, "Control") {
				name = ""
			} else {
				functions[name] = true
			}
			continue
		}
		if name != "" && fused.MatchString(line) {
			found[name] = true
		}
	}
	return functions, found
}
