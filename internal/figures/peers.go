package figures

import (
	"bytes"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
)

// generated are the models of gen_models.py that are compared: real
// architectures with random weights.
var generated = []string{
	"mobilenetv2.qdq", "resnet18.qdq", "resnet50.qdq", "dscnn_kws.qdq",
	"bert_mini.qdq", "bert_mini.dyn", "minilm_l6_h384.qdq", "minilm_l6_h384.dyn",
	"mobilenetv2.fp32", "resnet18.fp32", "resnet50.fp32", "bert_mini.fp32",
}

func (s *session) generatedDir() string { return filepath.Join(s.cache, "models") }

// python is Debian's, whose packages have onnx.
const python = "/usr/bin/python3"

// benchDir is a copy of the shared folder's bench with ONNX Runtime in it.
func (s *session) benchDir() string { return filepath.Join(s.cache, "bench") }

// prepare brings ONNX Runtime and the generated models where they are not
// there yet.
func (s *session) prepare() error {
	for _, tool := range []struct{ name, how string }{
		{"node", "apt install nodejs"}, {"npm", "apt install npm"}, {python, "apt install python3 python3-onnx python3-numpy"},
	} {
		if _, err := exec.LookPath(tool.name); err != nil {
			return missing(tool.name, tool.how)
		}
	}
	if err := exec.Command(python, "-c", "import onnx, numpy").Run(); err != nil {
		return missing("onnx for "+python, "apt install python3-onnx python3-numpy")
	}
	from := filepath.Join(s.shared, "bench")
	if !exists(from) {
		return fmt.Errorf("%s is not there: set DUNLIN_SHARED", from)
	}
	if err := copyFiles(s.benchDir(), from); err != nil {
		return err
	}
	if !exists(filepath.Join(s.benchDir(), "node_modules", "onnxruntime-node")) {
		if err := s.in(s.benchDir(), "npm", "install", "--ignore-scripts", "--no-audit", "--no-fund"); err != nil {
			return fmt.Errorf("npm install onnxruntime-node: %w", err)
		}
	}
	for _, name := range generated {
		if !exists(filepath.Join(s.generatedDir(), name+".onnx")) {
			network, _, _ := strings.Cut(name, ".")
			if err := s.in(s.benchDir(), python, "gen_models.py", s.generatedDir(), network); err != nil {
				return fmt.Errorf("gen_models.py %s: %w", network, err)
			}
		}
	}
	return nil
}

// in runs a command in dir; all that it prints goes to the log.
func (s *session) in(dir, name string, args ...string) error {
	cmd := exec.Command(name, args...)
	cmd.Dir, cmd.Stdout, cmd.Stderr = dir, s.log, s.log
	return cmd.Run()
}

// copyFiles copies the files of folder from, those below it not, to dir.
func copyFiles(dir, from string) error {
	if err := os.MkdirAll(dir, 0o777); err != nil {
		return err
	}
	list, err := os.ReadDir(from)
	if err != nil {
		return err
	}
	for _, e := range list {
		if e.Type()&fs.ModeType != 0 {
			continue
		}
		data, err := os.ReadFile(filepath.Join(from, e.Name()))
		if err == nil {
			err = os.WriteFile(filepath.Join(dir, e.Name()), data, 0o666)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// compared is a line of compare.py.
var compared = regexp.MustCompile(`^(\S+)\s+ort\s+([\d.]+) ms\s+dunlin\s+([\d.]+) ms\s+ratio\s+([\d.]+)$`)

// peers prints dunlin beside ONNX Runtime.
func (s *session) peers() error {
	if err := s.prepare(); err != nil {
		return err
	}
	dunlin, err := s.build()
	if err != nil {
		return err
	}
	var made, real []string
	for _, name := range generated {
		made = append(made, filepath.Join(s.generatedDir(), name+".onnx"))
	}
	if real, err = filepath.Glob(filepath.Join(s.shared, "models", "onnx", "*.onnx")); err != nil {
		return err
	}
	goldens := filepath.Join(s.shared, "goldens", "onnx")
	version := s.ortVersion()
	for _, c := range []struct {
		title string
		flags []string
		files []string
	}{
		{"Beside ONNX Runtime, one thread", nil, made},
		{"Beside ONNX Runtime, two threads", []string{"--threads", "2"}, made},
		{"Beside ONNX Runtime, real models on their golden inputs, one thread", []string{"--golden", goldens}, real},
	} {
		rows := [][]string{{"model", "ONNX Runtime, ms", "dunlin, ms", "ratio"}}
		var rest []string
		args := append(append([]string{filepath.Join(s.benchDir(), "compare.py"), "--rounds", "5"}, c.flags...), absolute(c.files)...)
		cmd := exec.Command(python, args...)
		cmd.Env = append(os.Environ(), "DUNLIN="+dunlin)
		err := s.lines(cmd, func(line string) {
			fmt.Fprintln(s.log, line)
			if m := compared.FindStringSubmatch(line); m != nil {
				rows = append(rows, []string{strings.TrimSuffix(m[1], ".onnx"), m[2], m[3], m[4]})
			} else {
				rest = append(rest, line)
			}
		})
		if err != nil && len(rows) == 1 {
			return err
		}
		s.heading(c.title, "make bench-peers", version)
		fmt.Fprint(s.out, "Medians, the two in turn in one run of compare.py; a ratio above 1 says that dunlin is faster.\n\n")
		s.rows(rows)
		for _, line := range rest {
			fmt.Fprintf(s.out, "%s\n\n", line)
		}
	}
	return nil
}

// absolute makes paths that hold in another folder.
func absolute(paths []string) []string {
	out := make([]string, len(paths))
	for i, p := range paths {
		out[i] = p
		if a, err := filepath.Abs(p); err == nil {
			out[i] = a
		}
	}
	return out
}

// ortVersion names the ONNX Runtime at hand.
func (s *session) ortVersion() string {
	cmd := exec.Command("node", "-p", "require('onnxruntime-node/package.json').version + ' in Node ' + process.version")
	cmd.Dir = s.benchDir()
	out, err := cmd.Output()
	if err != nil {
		return "ONNX Runtime"
	}
	return "ONNX Runtime " + string(bytes.TrimSpace(out))
}
