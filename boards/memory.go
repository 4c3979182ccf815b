package boards

import (
	"math"
	"path/filepath"
	"strconv"
	"strings"
)

// Memory is what bounds this process, and how short memory is.
type Memory struct {
	Limit *int64 `json:"limit,omitempty"` // bytes: the least limit of its control groups (MemoryMax, MemoryHigh)
	Used  *int64 `json:"used,omitempty"`  // bytes that its control group has

	// Shares of the last 10 seconds in which some, or all, of the processes
	// waited for memory, in percent.
	Some10 *float64 `json:"pressure_some_10s,omitempty"`
	Full10 *float64 `json:"pressure_full_10s,omitempty"`
}

func (s sensors) memory() *Memory {
	var m Memory
	if text, ok := s.text("proc/pressure/memory"); ok { // absent with psi=0, as on a Pi
		m.Some10, m.Full10 = pressure(text, "some"), pressure(text, "full")
	}
	if text, ok := s.text("proc/self/cgroup"); ok {
		s.group(groupOf(text), &m)
	}
	if m == (Memory{}) {
		return nil
	}
	return &m
}

// groupOf returns the process's control group of version 2, "" where there is
// none: the line "0::/system.slice/dunlin-agent.service".
func groupOf(text string) string {
	for line := range strings.Lines(text) {
		path, ok := strings.CutPrefix(strings.TrimSpace(line), "0::/")
		if ok && !strings.Contains(path, "..") {
			return path
		}
	}
	return ""
}

// group reads the limits from the process's control group up to the root,
// which has none itself.
func (s sensors) group(path string, m *Memory) {
	const top, maxDepth = "sys/fs/cgroup", 16
	for depth := 0; path != "" && path != "." && depth < maxDepth; depth++ {
		dir := filepath.Join(top, path)
		if n, ok := s.int(filepath.Join(dir, "memory.current")); ok && n >= 0 && depth == 0 {
			m.Used = &n
		}
		for _, name := range []string{"memory.max", "memory.high"} {
			if n, ok := s.int(filepath.Join(dir, name)); ok && n >= 0 && (m.Limit == nil || n < *m.Limit) { // "max" is no number
				m.Limit = &n
			}
		}
		path = filepath.Dir(path)
	}
}

// pressure reads avg10 of a line "some avg10=0.12 avg60=…".
func pressure(text, kind string) *float64 {
	for line := range strings.Lines(text) {
		f := strings.Fields(line)
		if len(f) < 2 || f[0] != kind {
			continue
		}
		value, ok := strings.CutPrefix(f[1], "avg10=")
		if !ok {
			return nil
		}
		v, err := strconv.ParseFloat(value, 64)
		if err != nil || math.IsNaN(v) || v < 0 || v > 100 {
			return nil
		}
		return &v
	}
	return nil
}

// memory returns a line of meminfo in bytes.
func memory(text, field string) *int64 {
	for line := range strings.Lines(text) {
		key, value, ok := strings.Cut(line, ":")
		if !ok || key != field {
			continue
		}
		f := strings.Fields(value)
		if len(f) != 2 || f[1] != "kB" {
			return nil
		}
		n, err := strconv.ParseInt(f[0], 10, 64)
		if err != nil || n < 0 || n > 1<<50 {
			return nil
		}
		n <<= 10
		return &n
	}
	return nil
}
