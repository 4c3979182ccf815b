package kernels

import (
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

var models = flag.String("models", "", "print what this llvm-mca models for the inner loops of arm64")

// modelCPUs are the cores of a Raspberry Pi 3 and Zero 2, the little core of
// most phones since, and those of a Raspberry Pi 4 and 5. The last has two
// models in LLVM 19: under its own name LLVM takes the A57's, which has one
// pipe for FMLA; that of its server sibling has the two that Arm describes.
var modelCPUs = []string{"cortex-a53", "cortex-a55", "cortex-a72", "cortex-a76", "neoverse-n1"}

// products are the multiplications of an instruction by its mnemonic and first
// operand.
var products = []struct {
	mnemonic, shape string
	n               int
}{
	{"sdot", "4s", 16},
	{"smmla", "4s", 32},
	{"smull", "8h", 8},
	{"smull2", "8h", 8},
	{"smlal", "8h", 8},
	{"smlal2", "8h", 8},
	{"fmla", "8h", 8},
	{"fmul", "8h", 8},
	{"fmla", "4s", 4},
	{"fmul", "4s", 4},
}

// line is an instruction as objdump prints it.
type line struct {
	at   uint64
	text string
	n    int    // products
	to   uint64 // where a branch leads
}

var (
	objdumpLine = regexp.MustCompile(`^\s*([0-9a-f]+):\s+(.*?)\s*$`)
	branch      = regexp.MustCompile(`^(?:b(?:\.\w+)?|cbn?z \w+,) ([0-9a-f]+)\b`)
)

// BenchmarkModels prints, for each loop of products of each arm64 function, the
// products a cycle that llvm-mca models: no caches, no branches mispredicted,
// the loop alone. They are models, not measurements. It needs
// aarch64-linux-gnu-objdump and the llvm-mca that -models names:
//
//	go test ./kernels -run xxx -bench Models -models llvm-mca-19
func BenchmarkModels(t *testing.B) {
	if *models == "" {
		t.Skip("-models names no llvm-mca")
	}
	binary := filepath.Join(t.TempDir(), "kernels.test")
	build := exec.Command("go", "test", "-c", "-o", binary, ".")
	build.Env = append(os.Environ(), "GOOS=linux", "GOARCH=arm64", "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("compile for arm64: %v\n%s", err, out)
	}
	dump, err := exec.Command("aarch64-linux-gnu-objdump", "-d", "--no-show-raw-insn", "--section=.text", binary).Output()
	if err != nil {
		t.Fatal(err)
	}
	fmt.Printf("%-32s %5s", "loop", "MACs")
	for _, cpu := range modelCPUs {
		fmt.Printf(" %12s", cpu)
	}
	fmt.Println()
	for function := range strings.SplitSeq(string(dump), "\n\n") {
		head, body, _ := strings.Cut(strings.TrimSpace(function), "\n")
		name := regexp.MustCompile(`<dunlin/kernels\.(\w+(?:NEON|FP16|DOTPROD|I8MM))\.abi0>:`).FindStringSubmatch(head)
		if name == nil {
			continue
		}
		for i, loop := range loops(body) {
			macs := productsOf(loop)
			if macs == 0 {
				continue
			}
			fmt.Printf("%-32s %5d", fmt.Sprintf("%s.%d", name[1], i), macs)
			for _, cpu := range modelCPUs {
				if lacks(cpu, name[1]) {
					fmt.Printf(" %12s", "-")
					continue
				}
				fmt.Printf(" %12.2f", float64(macs)/cycles(t, cpu, loop))
			}
			fmt.Println()
		}
	}
}

// lacks reports whether a core has not got the instructions of a function:
// none here has I8MM, and the first ones have neither DOTPROD nor FP16.
func lacks(cpu, function string) bool {
	old := cpu == "cortex-a53" || cpu == "cortex-a72"
	return strings.HasSuffix(function, "I8MM") || old && !strings.HasSuffix(function, "NEON")
}

// loops returns the innermost loops that multiply, without the branches out of
// them.
func loops(body string) [][]line {
	var lines []line
	var found [][]line
	for text := range strings.Lines(body) {
		m := objdumpLine.FindStringSubmatch(text)
		if m == nil {
			continue
		}
		at, _ := strconv.ParseUint(m[1], 16, 64)
		l := line{at: at, text: strings.ReplaceAll(m[2], "\t", " ")}
		for _, p := range products {
			if rest, ok := strings.CutPrefix(l.text, p.mnemonic+" "); ok && strings.Contains(strings.SplitN(rest, ",", 2)[0], p.shape) {
				l.n = p.n
			}
		}
		if b := branch.FindStringSubmatch(l.text); b != nil {
			l.to, _ = strconv.ParseUint(b[1], 16, 64)
			if loop := innermost(lines, l); loop != nil {
				found = append(found, loop)
			}
		}
		lines = append(lines, l)
	}
	return found
}

// innermost returns the lines from where branch b leads to b, but for branches
// that lead on, nil where b does, or others lead back to places between, or
// nothing is multiplied.
func innermost(lines []line, b line) []line {
	var loop []line
	n := 0
	for _, l := range lines {
		switch {
		case l.at < b.to:
		case l.to == 0:
			loop, n = append(loop, l), n+l.n
		case l.to >= b.to && l.to <= l.at:
			return nil
		}
	}
	if n == 0 {
		return nil
	}
	return loop
}

// productsOf returns how many products a turn of loop adds up; FMUL after SCVTF
// or before FCVTN scales.
func productsOf(loop []line) int {
	n, scaled, converts := 0, 0, false
	for _, l := range loop {
		n += l.n
		if strings.HasPrefix(l.text, "fmul ") {
			scaled += l.n
		}
		converts = converts || strings.HasPrefix(l.text, "scvtf ") || strings.HasPrefix(l.text, "fcvtn ")
	}
	if converts {
		n -= scaled
	}
	return n
}

// cycles returns what llvm-mca says one turn of a loop takes.
func cycles(t testing.TB, cpu string, loop []line) float64 {
	t.Helper()
	var source strings.Builder
	for _, l := range loop {
		text, _, _ := strings.Cut(l.text, " //")
		source.WriteString(text + "\n")
	}
	const turns = 200
	mca := exec.Command(*models, "-mtriple=aarch64", "-mcpu="+cpu, "-mattr=+dotprod,+i8mm,+fullfp16", "-iterations="+strconv.Itoa(turns))
	mca.Stdin = strings.NewReader(source.String())
	out, err := mca.CombinedOutput()
	if err != nil {
		t.Fatalf("%s: %v\n%s", cpu, err, out)
	}
	m := regexp.MustCompile(`Total Cycles:\s+(\d+)`).FindSubmatch(out)
	if m == nil {
		t.Fatalf("%s: no cycles in\n%s", cpu, out)
	}
	n, _ := strconv.Atoi(string(m[1]))
	return float64(n) / turns
}
