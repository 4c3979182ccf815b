// Package boards says on which board the program runs and how it fares: its
// name, its chip, the CPU features that matter to kernels, its temperature,
// its supply, its memory and its card. Start with Detect and Health.
//
// Its promise: neither call blocks or starts a process, and what a board
// does not tell is absent, never zero. Everything is read below a given root,
// so that the files of any board can be tried on any machine. It drives
// nothing: pins have a room of their own, boards/pins.
package boards

import (
	"path/filepath"
	"runtime"
	"strings"
)

// Board is what is known of the machine. What is not known is empty.
type Board struct {
	Name       string   `json:"name"`                 // for people: "Raspberry Pi 5 Model B Rev 1.0"; "unknown board (what was seen)"
	ID         string   `json:"id,omitempty"`         // of the kind of board: "rpi-5", "jetson-orin-nano", "pc"; "": not in the table
	SoC        string   `json:"soc,omitempty"`        // "bcm2712", "tegra234"
	CPU        string   `json:"cpu,omitempty"`        // "Cortex-A76"; on a PC what its maker calls it
	Revision   string   `json:"revision,omitempty"`   // a Pi's revision code without warranty bits, or a Jetson's module: "d04170", "p3767-0003"
	RAM        int64    `json:"ram,omitempty"`        // bytes fitted; where nothing says so, what the system has of them
	System     string   `json:"system,omitempty"`     // a Jetson's Linux for Tegra: "36.4.3"
	Compatible []string `json:"compatible,omitempty"` // device tree, most specific first: "raspberrypi,5-model-b"
	Features   []string `json:"features,omitempty"`   // of the CPU, for kernels: "asimddp", "avx2"
	Seen       []string `json:"seen,omitempty"`       // of a board that is in no table: what its files say
}

// Known reports whether the board is in this package's tables.
func (b Board) Known() bool { return b.ID != "" }

// Detect reads the board's files below root ("/" on the machine itself):
// first the device tree, then the revision code of a Raspberry Pi, then DMI.
//
// Features of the machine itself come from its CPU (HWCAP on Arm, CPUID on
// x86): a 32-bit system on a 64-bit chip shows another list in cpuinfo. Below
// another root there is only that list.
func Detect(root string) Board {
	root = filepath.Clean(root)
	b := look(root).board()
	if root == "/" {
		b.Features = features()
	}
	return b
}

// clues is what the files of a board say; board draws the conclusions.
type clues struct {
	compatible []string
	model      string // of the device tree
	revision   uint32 // of a Pi; 0: none
	cpu        cpuinfo
	dmi        []string // vendor, product, board
	l4t        string   // first line of /etc/nv_tegra_release
	memTotal   int64
}

func look(root string) clues {
	var c clues
	at := func(name string) string { return filepath.Join(root, name) }
	c.compatible = stringList(read(at("proc/device-tree/compatible")))
	if model := stringList(read(at("proc/device-tree/model"))); len(model) > 0 {
		c.model = model[0]
	}
	if text, err := readEnds(at("proc/cpuinfo")); err == nil {
		c.cpu = parseCPUInfo(string(text))
	}
	c.revision = c.cpu.revision
	if b, err := read(at("proc/device-tree/system/linux,revision")); err == nil {
		c.revision = bigEndian(b)
	}
	for _, name := range []string{"sys_vendor", "product_name", "board_name"} {
		if b, err := read(at("sys/class/dmi/id/" + name)); err == nil {
			if s := printable(string(b)); s != "" {
				c.dmi = append(c.dmi, s)
			}
		}
	}
	if b, err := read(at("etc/nv_tegra_release")); err == nil {
		c.l4t = printable(string(b))
	}
	if text, err := read(at("proc/meminfo")); err == nil {
		if n := memory(string(text), "MemTotal"); n != nil {
			c.memTotal = *n
		}
	}
	return c
}

// board concludes from clues. The Hardware line of cpuinfo is the last of
// them, and only says that it is some Raspberry Pi: kernels write BCM2835
// there on every one of them.
func (c clues) board() Board {
	b := Board{Compatible: c.compatible, CPU: c.cpu.name(), SoC: c.soc(), RAM: c.memTotal, Features: c.cpu.kernelFeatures()}
	switch {
	case c.raspberry(&b), c.jetson(&b), c.virtual(&b):
	case len(c.compatible) == 0 && c.model == "" && len(c.dmi) > 0:
		b.ID, b.Name = "pc", strings.Join(c.dmi[:min(len(c.dmi), 2)], " ")
	default:
		b.Seen = c.seen()
		b.Name = "unknown board"
		if strings.HasPrefix(c.cpu.hardware, "BCM2") {
			b.Name = "unknown Raspberry Pi"
			b.SoC = piSoCByCPU[b.CPU]
		}
		what := strings.Join(b.Seen, ", ")
		b.Name += " (" + what[:min(len(what), 160)] + ")"
	}
	return b
}

// seen lists what there is to say of a board that is not in a table.
func (c clues) seen() []string {
	var out []string
	add := func(s string) {
		if s != "" && len(out) < 6 {
			out = append(out, s)
		}
	}
	add(c.model)
	for _, s := range c.compatible {
		add(s)
	}
	for _, s := range c.dmi {
		add(s)
	}
	add(c.cpu.name())
	if len(out) == 0 {
		add(runtime.GOARCH)
	}
	return out
}

// soc is the chip: the device tree names it, after the board, by its maker.
func (c clues) soc() string {
	for _, s := range c.compatible {
		for _, maker := range []string{"brcm,bcm", "nvidia,tegra"} {
			if strings.HasPrefix(s, maker) {
				_, chip, _ := strings.Cut(s, ",")
				return chip
			}
		}
	}
	return ""
}

// virtual recognises QEMU's machine of Arm, on which tests run.
func (c clues) virtual(b *Board) bool {
	if len(c.compatible) == 0 || c.compatible[0] != "linux,dummy-virt" {
		return false
	}
	b.ID, b.Name = "virt", "QEMU virtual machine"
	return true
}

// stringList splits the value of a device-tree property: texts that each end
// with a NUL.
func stringList(data []byte, err error) []string {
	if err != nil {
		return nil
	}
	var out []string
	for s := range strings.SplitSeq(string(data), "\x00") {
		if s = printable(s); s != "" {
			out = append(out, s)
		}
	}
	return out
}

// printable drops what does not belong in a name, and bounds it.
func printable(s string) string {
	s = strings.Map(func(r rune) rune {
		if r < ' ' || r > '~' {
			return -1
		}
		return r
	}, s)
	return strings.TrimSpace(s[:min(len(s), 128)])
}
