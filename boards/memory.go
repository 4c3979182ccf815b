package boards

import (
	"cmp"
	"math"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// Memory is what bounds this process, and how short memory is.
type Memory struct {
	Limit     *int64 `json:"limit,omitempty"`      // bytes: the least limit of its control groups (MemoryMax, MemoryHigh)
	LimitFrom string `json:"limit_from,omitempty"` // which: "memory.high of system.slice/dunlin-agent.service"
	Used      *int64 `json:"used,omitempty"`       // bytes that the group of the limit has, else its own, pages of files among them
	Idle      *int64 `json:"idle,omitempty"`       // bytes of these that are of files nobody read lately: they can be had back

	// Shares of the last 10 seconds in which some, or all, of the processes
	// waited for memory, in percent: of the machine's, and of the group's.
	Some10 *float64 `json:"pressure_some_10s,omitempty"`
	Full10 *float64 `json:"pressure_full_10s,omitempty"`
	Own10  *float64 `json:"pressure_own_10s,omitempty"`

	Events *MemoryEvents `json:"events,omitempty"`
}

// MemoryEvents counts what the kernel did to the group since it was made.
type MemoryEvents struct {
	High int64 `json:"high"`     // it was slowed down at memory.high
	Max  int64 `json:"max"`      // it was about to pass memory.max, and pages were taken from it
	OOM  int64 `json:"oom_kill"` // a process of it was killed
}

func (s sensors) memory() *Memory {
	var m Memory
	if text, ok := s.text("proc/pressure/memory"); ok { // absent with psi=0, as on a Pi
		m.Some10, m.Full10 = pressure(text, "some"), pressure(text, "full")
	}
	if text, ok := s.text("proc/self/cgroup"); ok {
		if path, ok := groupOf(text, ""); ok {
			s.group(path, groupV2, &m)
		}
		if path, ok := groupOf(text, "memory"); ok {
			s.group(path, groupV1, &m)
		}
	}
	if m == (Memory{}) {
		return nil
	}
	return &m
}

// groupOf returns the process's control group: of version 2 by the line
// "0::/system.slice/dunlin-agent.service", of version 1 by that of a controller,
// "4:cpu,memory:/docker/1f3e". A path that leaves the tree is none.
func groupOf(text, controller string) (path string, ok bool) {
	for line := range strings.Lines(text) {
		number, rest, _ := strings.Cut(strings.TrimSpace(line), ":")
		controllers, path, _ := strings.Cut(rest, ":")
		path, inside := strings.CutPrefix(path, "/")
		if !inside || strings.Contains(path, "..") {
			continue
		}
		if controller == "" && number == "0" && controllers == "" ||
			controller != "" && slices.Contains(strings.Split(controllers, ","), controller) {
			return path, true
		}
	}
	return "", false
}

// groupFiles is what a version calls the files of a group.
type groupFiles struct {
	top    string // where the tree of groups is
	used   string
	idle   string // the line of memory.stat
	limits []string
}

var (
	groupV2 = groupFiles{"sys/fs/cgroup", "memory.current", "inactive_file", []string{"memory.max", "memory.high"}}
	groupV1 = groupFiles{"sys/fs/cgroup/memory", "memory.usage_in_bytes", "total_inactive_file", []string{"memory.limit_in_bytes"}}
)

// noLimit is beyond what any machine has; version 1 writes nearly 2^63 where
// there is no limit, version 2 "max".
const noLimit = 1 << 50

// group reads the limits from the process's control group up to the top of
// the tree. In a container that is the container's own group, elsewhere the
// root, which has no limit.
func (s sensors) group(path string, f groupFiles, m *Memory) {
	const maxDepth = 16
	s.own(filepath.Join(f.top, path), m)
	s.usage(filepath.Join(f.top, path), f, m)
	for depth := 0; depth < maxDepth; depth++ {
		for _, name := range f.limits {
			n, ok := s.int(filepath.Join(f.top, path, name))
			if ok && n >= 0 && n < noLimit && (m.Limit == nil || n < *m.Limit) {
				m.Limit, m.LimitFrom = &n, name+" of "+cmp.Or(printable(path), "the top group")
				s.usage(filepath.Join(f.top, path), f, m)
			}
		}
		if path == "" {
			return
		}
		if path = filepath.Dir(path); path == "." {
			path = ""
		}
	}
}

// usage reads what a group has, where it says so.
func (s sensors) usage(dir string, f groupFiles, m *Memory) {
	n, ok := s.int(filepath.Join(dir, f.used))
	if !ok || n < 0 {
		return
	}
	m.Used, m.Idle = &n, nil
	if text, ok := s.text(filepath.Join(dir, "memory.stat")); ok {
		if n, ok := counter(text, f.idle); ok {
			m.Idle = &n
		}
	}
}

// own reads how the process's own group does.
func (s sensors) own(dir string, m *Memory) {
	if text, ok := s.text(filepath.Join(dir, "memory.pressure")); ok {
		m.Own10 = pressure(text, "some")
	}
	if text, ok := s.text(filepath.Join(dir, "memory.events")); ok {
		var e MemoryEvents
		e.High, _ = counter(text, "high")
		e.Max, _ = counter(text, "max")
		e.OOM, _ = counter(text, "oom_kill")
		m.Events = &e
	}
}

// counter reads a line "name 123".
func counter(text, name string) (int64, bool) {
	for line := range strings.Lines(text) {
		f := strings.Fields(line)
		if len(f) != 2 || f[0] != name {
			continue
		}
		n, err := strconv.ParseInt(f[1], 10, 64)
		return n, err == nil && n >= 0
	}
	return 0, false
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
