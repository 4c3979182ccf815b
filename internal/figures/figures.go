// Package figures makes the tables of docs/PERFORMANCE.md: it runs the
// benchmarks, the command dunlin and its peers, and prints what they say as
// Markdown that can be pasted there. Start with Main.
//
// Its promise: no number in a table comes from anywhere but a program that it
// ran just then, and each table says which, where and when. It is for the
// project itself, and runs in its root; no shipped program links it.
package figures

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"time"
)

// table is one table that Main prints.
type table struct {
	name, what string
	print      func(*session) error
}

var tables = []table{
	{"kernels", "each kernel, tier by tier: products a second, and their share of the most that this CPU can do", (*session).kernels},
	{"models", "each model: time of a run, by tier and threads; the model files of ../shared", (*session).models},
	{"peers", "each model beside ONNX Runtime: one thread, two, and the real models with their golden inputs", (*session).peers},
	{"process", "from the start of a process to its first answer, and its memory, beside ONNX Runtime in Node", (*session).process},
	{"train", "a step of training beside torch with OpenBLAS, one thread", (*session).train},
	{"distil", "students with a teacher and alone, three seeds each; 20 minutes", (*session).distil},
	{"arm", "what llvm-mca models for the inner loops of arm64", (*session).arm},
}

// session is one run of the program.
type session struct {
	out, log io.Writer
	shared   string // models and goldens
	cache    string // what is made once: generated models, ONNX Runtime
	dunlin   string // the command, once built
}

// Main prints the tables that args name, and returns an exit status.
func Main(args []string, stdout, stderr io.Writer) int {
	s := &session{out: stdout, log: stderr, shared: os.Getenv("DUNLIN_SHARED")}
	if s.shared == "" {
		s.shared = filepath.Join("..", "shared")
	}
	dir, err := os.UserCacheDir()
	if err != nil {
		dir = os.TempDir()
	}
	s.cache = filepath.Join(dir, "dunlin-figures")
	for _, name := range args {
		var found *table
		for i := range tables {
			if tables[i].name == name {
				found = &tables[i]
			}
		}
		if found == nil {
			usage(stderr)
			return 2
		}
		if err := found.print(s); err != nil {
			fmt.Fprintf(stderr, "figures: error: %s: %v\n", name, err)
			return 1
		}
	}
	if len(args) == 0 {
		usage(stderr)
		return 2
	}
	return 0
}

func usage(w io.Writer) {
	fmt.Fprintln(w, "usage: figures TABLE…")
	for _, t := range tables {
		fmt.Fprintf(w, "  %-8s %s\n", t.name, t.what)
	}
}

// heading begins a table: what it shows, and what was run, where, when.
func (s *session) heading(title, command string, versions ...string) {
	fmt.Fprintf(s.out, "### %s\n\n", title)
	fmt.Fprintf(s.out, "Measured with `%s` on %s, %s.\n\n", command, machine(), strings.Join(append([]string{time.Now().Format("2 January 2006"), runtime.Version()}, versions...), ", "))
}

// rows prints a table.
func (s *session) rows(rows [][]string) {
	for i, row := range rows {
		fmt.Fprintf(s.out, "| %s |\n", strings.Join(row, " | "))
		if i == 0 {
			fmt.Fprintf(s.out, "|%s\n", strings.Repeat("---|", len(row)))
		}
	}
	fmt.Fprintln(s.out)
}

// machine names this one's CPU.
func machine() string {
	name := runtime.GOARCH
	if text, err := os.ReadFile("/proc/cpuinfo"); err == nil {
		name = cpuName(string(text), name)
	}
	return fmt.Sprintf("%s, %d cores", name, runtime.NumCPU())
}

// cpuName reads /proc/cpuinfo: the model's name, with family and model where
// the name alone does not tell.
func cpuName(cpuinfo, name string) string {
	field := map[string]string{}
	for line := range strings.Lines(cpuinfo) {
		if k, v, ok := strings.Cut(line, ":"); ok && field[strings.TrimSpace(k)] == "" {
			field[strings.TrimSpace(k)] = strings.TrimSpace(v)
		}
	}
	if field["model name"] != "" {
		name = field["model name"]
	}
	if field["cpu family"] != "" {
		name += fmt.Sprintf(" (family %s, model %s)", field["cpu family"], field["model"])
	}
	return name
}

// build makes the command dunlin, as it ships.
func (s *session) build() (string, error) {
	if s.dunlin != "" {
		return s.dunlin, nil
	}
	if err := os.MkdirAll(s.cache, 0o777); err != nil {
		return "", err
	}
	path, err := filepath.Abs(filepath.Join(s.cache, "dunlin"))
	if err != nil {
		return "", err
	}
	cmd := exec.Command("go", "build", "-trimpath", "-ldflags", "-s -w", "-o", path, "./cmd/dunlin")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	cmd.Stderr = s.log
	if err := cmd.Run(); err != nil {
		return "", fmt.Errorf("build dunlin: %w", err)
	}
	s.dunlin = path
	return path, nil
}

// lines runs a command and calls f with each line that it prints; what it
// says on its standard error goes to the log.
func (s *session) lines(cmd *exec.Cmd, f func(line string)) error {
	cmd.Stderr = s.log
	pipe, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	scan := bufio.NewScanner(pipe)
	scan.Buffer(nil, 1<<24)
	for scan.Scan() {
		f(scan.Text())
	}
	return errors.Join(scan.Err(), cmd.Wait())
}
