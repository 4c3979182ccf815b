package figures

import (
	"encoding/binary"
	"fmt"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"syscall"
	"time"
)

// once is one process from its start to its end.
type once struct {
	took time.Duration
	cpu  time.Duration
	peak int64 // bytes resident, at most
}

// processes is how often each is started.
const processes = 11

// process prints what a process takes that gives one answer.
func (s *session) process() error {
	if err := s.prepare(); err != nil {
		return err
	}
	dunlin, err := s.build()
	if err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "dunlin-figures")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	file, err := filepath.Abs(filepath.Join(s.generatedDir(), "mobilenetv2.qdq.onnx"))
	if err != nil {
		return err
	}
	packed, input := filepath.Join(dir, "packed"), filepath.Join(dir, "input.bin")
	if err := s.pack(dunlin, file, dir, packed); err != nil {
		return err
	}
	if err := os.WriteFile(input, sines(3*224*224), 0o666); err != nil {
		return err
	}
	run := func(model string) []string {
		return []string{dunlin, "model", "run", model, "--threads", "1", "--input", "0=" + input, "--output-dir", filepath.Join(dir, "out")}
	}
	commands := []struct {
		name string
		args []string
	}{
		{"dunlin model run, ONNX file", run(file)},
		{"dunlin model run, packed model", run(packed)},
		{"Node with ONNX Runtime (ort.mjs once)", []string{"node", filepath.Join(s.benchDir(), "ort.mjs"), "once", "1", file}},
	}
	all := make([][]once, len(commands))
	for range processes {
		for i, c := range commands {
			o, err := start(c.args)
			if err != nil {
				return fmt.Errorf("%s: %w", c.name, err)
			}
			all[i] = append(all[i], o)
		}
	}
	s.heading("Process", "make bench-peers", s.ortVersion())
	fmt.Fprintf(s.out, "MobileNetV2 int8, from the start of the process to its end after one answer: the median of %d, in turn.\n\n", processes)
	rows := [][]string{{"process", "time, ms", "fastest, ms", "CPU, ms", "peak memory, MB"}}
	for i, c := range commands {
		m := middle(all[i])
		rows = append(rows, []string{
			c.name, fmt.Sprintf("%.0f", m.took.Seconds()*1e3), fmt.Sprintf("%.0f", least(all[i]).Seconds()*1e3),
			fmt.Sprintf("%.0f", m.cpu.Seconds()*1e3), fmt.Sprintf("%.1f", float64(m.peak)/1e6),
		})
	}
	s.rows(rows)
	return nil
}

// start runs a process to its end. Its peak is never below that of this one,
// from which it was forked.
func start(args []string) (once, error) {
	cmd := exec.Command(args[0], args[1:]...)
	begin := time.Now()
	text, err := cmd.CombinedOutput()
	o := once{took: time.Since(begin)}
	if err != nil {
		return o, fmt.Errorf("%w: %s", err, text)
	}
	o.cpu = cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()
	o.peak = cmd.ProcessState.SysUsage().(*syscall.Rusage).Maxrss << 10
	return o, nil
}

// middle returns the median of each figure by itself.
func middle(all []once) once {
	by := func(f func(once) int64) int64 {
		var list []int64
		for _, o := range all {
			list = append(list, f(o))
		}
		slices.Sort(list)
		return list[len(list)/2]
	}
	return once{
		took: time.Duration(by(func(o once) int64 { return int64(o.took) })),
		cpu:  time.Duration(by(func(o once) int64 { return int64(o.cpu) })),
		peak: by(func(o once) int64 { return o.peak }),
	}
}

func least(all []once) time.Duration {
	t := all[0].took
	for _, o := range all {
		t = min(t, o.took)
	}
	return t
}

// pack makes a packed model of a file as it is, with the example's pictures
// for its exam.
func (s *session) pack(dunlin, file, dir, out string) error {
	spec := filepath.Join(dir, "prep.toml")
	text := "[[input]]\nkind = \"picture\"\ncolor = \"rgb\"\nwidth = 224\nheight = 224\nlayout = \"nchw\"\nscale = 0.00392156862745098\n"
	if err := os.WriteFile(spec, []byte(text), 0o666); err != nil {
		return err
	}
	pictures := filepath.Join("examples", "garments", "calibration")
	cmd := exec.Command(dunlin, "model", "compress", file, "--to", "float32", "--calibrate", pictures, "--samples", "2", "--exam", "1", "--prep", spec, "-o", out)
	cmd.Stdout, cmd.Stderr = s.log, s.log
	return cmd.Run()
}

// sines is what ort.mjs puts in a float input.
func sines(n int) []byte {
	var b []byte
	for i := range n {
		b = binary.LittleEndian.AppendUint32(b, math.Float32bits(float32(math.Sin(float64(i)))))
	}
	return b
}
