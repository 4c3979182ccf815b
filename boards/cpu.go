package boards

import (
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/cpu"
)

// cpuinfo is what /proc/cpuinfo says of the first CPU, and of the board.
type cpuinfo struct {
	implementer, part uint64   // Arm: MIDR
	model             string   // "model name"
	features          []string // "Features" or "flags"
	hardware          string
	revision          uint32 // of the board, on a Pi; 0: none
}

// parseCPUInfo reads "key : value" lines. The stanzas of the CPUs come first,
// what is said of the board stands last.
func parseCPUInfo(text string) (c cpuinfo) {
	for line := range strings.Lines(text) {
		key, value, ok := strings.Cut(line, ":")
		if !ok {
			continue
		}
		value = strings.TrimSpace(value)
		switch strings.TrimSpace(key) {
		case "CPU implementer":
			c.implementer = number(value)
		case "CPU part":
			c.part = number(value)
		case "model name":
			c.model = printable(value)
		case "Features", "flags":
			if c.features == nil {
				c.features = strings.Fields(value)
			}
		case "Hardware":
			c.hardware = printable(value)
		case "Revision":
			if v, err := strconv.ParseUint(value, 16, 32); err == nil {
				c.revision = uint32(v)
			}
		}
	}
	return c
}

// number reads a number as C writes it, 0 where it is none.
func number(s string) uint64 {
	v, err := strconv.ParseUint(s, 0, 32)
	if err != nil {
		return 0
	}
	return v
}

// cores are Arm's main id registers (MIDR), implementer<<12 | part
// (arch/arm64/include/asm/cputype.h of Linux).
var cores = map[uint64]string{
	0x41b76: "ARM1176", 0x41c07: "Cortex-A7", 0x41d03: "Cortex-A53", 0x41d04: "Cortex-A35", 0x41d05: "Cortex-A55",
	0x41d07: "Cortex-A57", 0x41d08: "Cortex-A72", 0x41d09: "Cortex-A73", 0x41d0a: "Cortex-A75", 0x41d0b: "Cortex-A76",
	0x41d0c: "Neoverse-N1", 0x41d40: "Neoverse-V1", 0x41d41: "Cortex-A78", 0x41d42: "Cortex-A78AE", 0x41d49: "Neoverse-N2",
	0x41d4f: "Neoverse-V2", 0x41d83: "Neoverse-V3AE", 0x41d84: "Neoverse-V3",
	0x4e003: "Denver 2", 0x4e004: "Carmel",
}

// name is the core's on Arm, else what its maker calls the CPU.
func (c cpuinfo) name() string {
	if c.part != 0 {
		if n, ok := cores[c.implementer<<12|c.part]; ok {
			return n
		}
		return "Arm core " + strconv.FormatUint(c.implementer<<12|c.part, 16)
	}
	return c.model
}

// kernelFeature is one that kernels or a person's choice of one depend on, by
// the kernel's name for it, which is also the one in cpuinfo.
type kernelFeature struct {
	name string
	has  bool // this CPU
}

func kernelFeatures() []kernelFeature {
	return []kernelFeature{
		{"asimd", cpu.ARM64.HasASIMD},
		{"asimdhp", cpu.ARM64.HasASIMDHP},
		{"asimddp", cpu.ARM64.HasASIMDDP},
		{"i8mm", cpu.ARM64.HasI8MM},
		{"sve", cpu.ARM64.HasSVE},
		{"neon", cpu.ARM.HasNEON},
		{"sse4_1", cpu.X86.HasSSE41},
		{"avx2", cpu.X86.HasAVX2},
		{"fma", cpu.X86.HasFMA},
		{"avx512bw", cpu.X86.HasAVX512BW},
		{"avx512_vnni", cpu.X86.HasAVX512VNNI},
		{"avx_vnni", cpu.X86.HasAVXVNNI},
	}
}

// features asks the CPU on which this program runs.
func features() (out []string) {
	for _, f := range kernelFeatures() {
		if f.has {
			out = append(out, f.name)
		}
	}
	return out
}

// kernelFeatures picks the same names from cpuinfo.
func (c cpuinfo) kernelFeatures() (out []string) {
	for _, f := range kernelFeatures() {
		if slices.Contains(c.features, f.name) {
			out = append(out, f.name)
		}
	}
	return out
}
