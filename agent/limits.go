package agent

import (
	"cmp"
	"fmt"
	"io"
	"log/slog"
	"math"
	"os"
	"runtime/debug"

	"dunlin/boards"
)

// LimitsConfig is about how hot the board may get, and how much memory this
// process may have.
type LimitsConfig struct {
	Enabled  bool `toml:"enabled"`
	SoftC    int  `toml:"soft_celsius"`
	HardC    int  `toml:"hard_celsius"`
	MemoryMB int  `toml:"memory_mb"`
}

// limitsCheck returns the first field that breaks a rule.
func limitsCheck(c LimitsConfig) fieldError {
	for _, r := range []struct {
		field        string
		v, low, high int
	}{
		{"limits.soft_celsius", c.SoftC, 30, 120},
		{"limits.hard_celsius", c.HardC, 35, 125},
		{"limits.memory_mb", c.MemoryMB, 32, 1 << 20},
	} {
		if r.v != 0 && (r.v < r.low || r.v > r.high) {
			return fieldError{r.field, fmt.Errorf("%d: want %d to %d, or 0", r.v, r.low, r.high)}
		}
	}
	if c.HardC != 0 && c.HardC <= c.SoftC {
		return fieldError{"limits.hard_celsius", fmt.Errorf("%d: want more than soft_celsius, which is %d", c.HardC, c.SoftC)}
	}
	return fieldError{}
}

// bounds returns what bounds the board below root, and what the configuration
// says in its place.
func (c *Config) bounds(root string) boards.Bounds {
	return boards.Limits(root).With(float64(c.Limits.SoftC), float64(c.Limits.HardC), int64(c.Limits.MemoryMB)<<20, byConfiguration)
}

// byConfiguration is who says so where the configuration does.
const byConfiguration = "the configuration"

// maxMemory is what a model may take, in bytes; 0: unknown.
func (c *Config) maxMemory(b boards.Bounds) int64 {
	half := int64(0)
	if b.Memory != nil {
		half = *b.Memory / 2
	}
	return cmp.Or(int64(c.Model.MaxMemoryMB)<<20, half)
}

// goMemory is the limit of Go's memory, in bytes: near it the collector works
// harder, rather than that the kernel kills the process. What Go does not count
// must have room beside it: the program, files that are mapped (weights, the
// outbox), and the kernel's own. Of the RAM, other programs need their share.
func goMemory(b boards.Bounds) int64 {
	const beside = 16 << 20
	n := *b.Memory
	if b.MemoryFrom == "RAM" {
		return n / 4 * 3
	}
	return max(n/2, n-max(n/8, beside))
}

// limitMemory gives Go its limit, unless the environment does, and says which
// and why.
func limitMemory(b boards.Bounds, log *slog.Logger) {
	if text := os.Getenv("GOMEMLIMIT"); text != "" {
		log.Info("memory limit is the environment's", "gomemlimit", text)
		return
	}
	if b.Memory == nil {
		log.Warn("memory limit is not set: nothing says how much there is")
		return
	}
	n := goMemory(b)
	debug.SetMemoryLimit(n)
	log.Info("memory limit", "gomemlimit_mb", n>>20, "of_mb", *b.Memory>>20, "from", b.MemoryFrom)
}

// describeLimits writes what the board may and this process may have.
func describeLimits(w io.Writer, c *Config, b boards.Bounds) {
	list := func(name string, soft, hard *float64) {
		fmt.Fprintf(w, "limits: %s: soft %s, hard %s\n", name, celsius(soft), celsius(hard))
	}
	for _, z := range b.Zones {
		list(z.Name, z.SoftC, z.HardC)
	}
	switch {
	case b.SoftC != nil || b.HardC != nil:
		list(b.TempsFrom, b.SoftC, b.HardC)
	case len(b.Zones) == 0 && c.Limits.Enabled:
		fmt.Fprintln(w, "limits: nobody says how hot this board may get: give soft_celsius")
	}
	if b.Memory != nil {
		fmt.Fprintf(w, "limits: %d MB of memory (%s), Go's collector keeps below %d MB, a model below %d MB\n",
			*b.Memory>>20, b.MemoryFrom, goMemory(b)>>20, c.maxMemory(b)>>20)
	}
}

func celsius(v *float64) string {
	if v == nil {
		return "unknown"
	}
	return fmt.Sprintf("%g °C", *v)
}

// goMemoryLimit returns the limit in use, 0 for none.
func goMemoryLimit() int64 {
	if n := debug.SetMemoryLimit(-1); n != math.MaxInt64 {
		return n
	}
	return 0
}
