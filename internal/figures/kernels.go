package figures

import (
	"fmt"
	"os/exec"
	"regexp"
	"slices"
	"strings"
)

// benchLine is a line that go test -bench prints for a row of a table of
// kernels: BenchmarkEveryVariant/<kernel>/<shape>/<tier>-<procs>, or without
// the first name, then the metrics.
var benchLine = regexp.MustCompile(`^Benchmark(?:EveryVariant/)?(\w+)/(\S+)/([\w-]+?)(?:-exact)?-\d+\s+\d+\s+(.*)$`)

// measured is one such line. Lines without products are none.
type measured struct {
	kernel, shape, tier string
	rate, peak          string
}

func parseBench(line string) (m measured, ok bool) {
	f := benchLine.FindStringSubmatch(line)
	if f == nil {
		return m, false
	}
	m = measured{kernel: f[1], shape: f[2], tier: f[3]}
	fields := strings.Fields(f[4])
	for i := 0; i+1 < len(fields); i += 2 {
		switch fields[i+1] {
		case "GMAC/s":
			m.rate = fields[i]
		case "%peak":
			m.peak = fields[i]
		}
	}
	return m, m.rate != ""
}

// kernels prints a table a kernel: a row a shape, a column a tier.
func (s *session) kernels() error {
	args := []string{"test", "-run", "xxx", "-bench", ".", "-benchtime", "0.3s", "./kernels"}
	var all []measured
	err := s.lines(exec.Command("go", args...), func(line string) {
		if m, ok := parseBench(line); ok {
			all = append(all, m)
			fmt.Fprintln(s.log, line)
		}
	})
	if err != nil {
		return err
	}
	s.heading("Kernels", "make bench")
	fmt.Fprint(s.out, "GMAC/s of one thread, and their share of what this CPU's widest multiplication of the tier gives in a loop of nothing else.\n\n")
	for _, t := range kernelTables(all) {
		fmt.Fprintf(s.out, "**%s**\n\n", t.kernel)
		s.rows(t.rows)
	}
	return nil
}

type kernelTable struct {
	kernel string
	rows   [][]string
}

// kernelTables sorts what was measured into tables, in the order measured.
func kernelTables(all []measured) []kernelTable {
	var tables []kernelTable
	for len(all) > 0 {
		kernel, n := all[0].kernel, 0
		var shapes, tiers []string
		cells := map[[2]string]string{}
		for n < len(all) && all[n].kernel == kernel {
			m := all[n]
			if !slices.Contains(shapes, m.shape) {
				shapes = append(shapes, m.shape)
			}
			if !slices.Contains(tiers, m.tier) {
				tiers = append(tiers, m.tier)
			}
			cell := m.rate
			if m.peak != "" {
				cell += " (" + m.peak + " %)"
			}
			cells[[2]string{m.shape, m.tier}] = cell
			n++
		}
		t := kernelTable{kernel: kernel, rows: [][]string{append([]string{"shape"}, tiers...)}}
		for _, shape := range shapes {
			row := []string{shape}
			for _, tier := range tiers {
				row = append(row, cells[[2]string{shape, tier}])
			}
			t.rows = append(t.rows, row)
		}
		tables, all = append(tables, t), all[n:]
	}
	return tables
}

// arm prints what llvm-mca models.
func (s *session) arm() error {
	mca := ""
	for _, name := range []string{"llvm-mca-21", "llvm-mca-20", "llvm-mca-19", "llvm-mca"} {
		if _, err := exec.LookPath(name); err == nil {
			mca = name
			break
		}
	}
	if mca == "" {
		return missing("llvm-mca", "apt install llvm-19")
	}
	if _, err := exec.LookPath("aarch64-linux-gnu-objdump"); err != nil {
		return missing("aarch64-linux-gnu-objdump", "apt install binutils-aarch64-linux-gnu")
	}
	version := mca
	err := s.lines(exec.Command(mca, "--version"), func(line string) {
		if _, v, ok := strings.Cut(line, "LLVM version "); ok {
			version = "LLVM " + v
		}
	})
	if err != nil {
		return err
	}
	var rows [][]string
	cmd := exec.Command("go", "test", "./kernels", "-run", "xxx", "-bench", "Models", "-benchtime", "1x", "-models", mca)
	if err := s.lines(cmd, func(line string) {
		if row := modelled(line); row != nil {
			rows = append(rows, row)
		}
	}); err != nil {
		return err
	}
	if len(rows) < 2 {
		return fmt.Errorf("%s modelled no loop", mca)
	}
	s.heading("arm64, modelled", "make bench-arm", version)
	fmt.Fprint(s.out, "These are models, not measurements: multiplications a cycle of each inner loop as llvm-mca schedules it, all data in the\n"+
		"first cache, no branch mispredicted. No such board was at hand.\n\n")
	s.rows(rows)
	return nil
}

// modelled reads a line of BenchmarkModels, nil where it is another.
func modelled(line string) []string {
	f := strings.Fields(line)
	switch {
	case len(f) >= 3 && f[0] == "loop" && f[1] == "MACs":
		f[1] = "products a turn"
		return f
	case len(f) >= 3 && regexp.MustCompile(`^\w+\.\d+$`).MatchString(f[0]) && regexp.MustCompile(`^\d+$`).MatchString(f[1]):
		return f
	}
	return nil
}

// missing says how to get a program that is not here.
func missing(program, how string) error {
	return fmt.Errorf("%s is not installed: %s", program, how)
}
