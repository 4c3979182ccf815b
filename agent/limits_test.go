package agent

import (
	"bytes"
	"log/slog"
	"math"
	"runtime/debug"
	"strings"
	"testing"

	"dunlin/boards"
)

func TestGoMemory(t *testing.T) {
	for _, c := range []struct {
		memory int64
		from   string
		want   int64
	}{
		{512 << 20, "RAM", 384 << 20}, {128 << 20, "memory.high of a", 112 << 20}, {1 << 30, "memory.max of a", 896 << 20}, {24 << 20, "the configuration", 12 << 20},
	} {
		if got := goMemory(boards.Bounds{Memory: &c.memory, MemoryFrom: c.from}); got != c.want {
			t.Errorf("%d of %s: %d, want %d", c.memory, c.from, got, c.want)
		}
	}
}

// Go's memory is limited by what the board has, or the configuration says, and
// the environment goes before both; the log says which.
func TestLimitMemory(t *testing.T) {
	defer debug.SetMemoryLimit(debug.SetMemoryLimit(math.MaxInt64))
	b := newBoard(t)
	b.set("proc/self/cgroup", "0::/agent\n")
	b.set("sys/fs/cgroup/agent/memory.high", "134217728\n")
	for _, x := range []struct {
		env  string
		c    Config
		root string
		want int64
		says string
	}{
		{"", defaults(), b.root, 112 << 20, `gomemlimit_mb=112 of_mb=128 from="memory.high of agent"`},
		{"", Config{Limits: LimitsConfig{MemoryMB: 64}}, b.root, 48 << 20, `gomemlimit_mb=48 of_mb=64 from="the configuration"`},
		{"99MiB", defaults(), b.root, 0, `the environment's" gomemlimit=99MiB`},
		{"", defaults(), t.TempDir(), 0, "nothing says how much there is"},
	} {
		debug.SetMemoryLimit(math.MaxInt64)
		t.Setenv("GOMEMLIMIT", x.env)
		var log bytes.Buffer
		limitMemory(x.c.bounds(x.root), slog.New(slog.NewTextHandler(&log, nil)))
		if got := goMemoryLimit(); got != x.want || !strings.Contains(log.String(), x.says) {
			t.Errorf("%+v, GOMEMLIMIT %q: %d, want %d; the log says %s", x.c.Limits, x.env, got, x.want, log.String())
		}
	}
}

func TestDescribeLimits(t *testing.T) {
	b := newBoard(t)
	for want, c := range map[string]Config{
		"limits: Raspberry Pi: soft 80 °C, hard 85 °C\nlimits: 976 MB of memory (RAM), Go's collector keeps below 732 MB, a model below 488 MB\n": defaults(),
		"limits: the configuration: soft 60 °C, hard 70 °C\nlimits: 100 MB of memory (the configuration), Go's collector keeps below 84 MB, a model below 20 MB\n": {
			Model: ModelConfig{MaxMemoryMB: 20}, Limits: LimitsConfig{SoftC: 60, MemoryMB: 100},
		},
	} {
		var out bytes.Buffer
		describeLimits(&out, &c, c.bounds(b.root))
		if out.String() != want {
			t.Errorf("got\n%swant\n%s", out.String(), want)
		}
	}
	var out bytes.Buffer
	c := defaults()
	if describeLimits(&out, &c, boards.Bounds{}); !strings.Contains(out.String(), "give soft_celsius") {
		t.Errorf("an unknown board: %s", out.String())
	}
	out.Reset()
	soft, hard := 99.0, 104.5
	if describeLimits(&out, &c, boards.Bounds{Zones: []boards.ZoneBounds{{Name: "cpu", SoftC: &soft, HardC: &hard}}}); out.String() != "limits: cpu: soft 99 °C, hard 104.5 °C\n" {
		t.Errorf("zones: %s", out.String())
	}
}
