// Package boards says on which board the program runs and how it fares: its
// name, the CPU features that matter to kernels, its temperature and its
// memory. Start with Detect and Health.
//
// Its promise: neither call blocks or starts a process, and what a board
// does not tell is absent, never zero. Everything is read below a given root,
// so that the files of any board can be tried on any machine. It drives
// nothing: pins and buses have a room of their own.
package boards

import (
	"encoding/binary"
	"path/filepath"
	"runtime"
	"strings"

	"golang.org/x/sys/cpu"
)

// Board is what is known of the machine.
type Board struct {
	Name       string   `json:"name"`                 // for people: "Raspberry Pi 5 Model B Rev 1.0"
	Compatible []string `json:"compatible,omitempty"` // device tree, most specific first: "raspberrypi,5-model-b"
	Features   []string `json:"features,omitempty"`   // of the CPU: "asimddp", "avx2"
}

// Detect reads the board's files below root ("/" on the machine itself):
// first the device tree, then the revision code of a Raspberry Pi, then DMI.
// The Hardware line of cpuinfo is not looked at: it says BCM2835 on every Pi.
func Detect(root string) Board {
	b := Board{Features: features()}
	b.Compatible = stringList(read(filepath.Join(root, "proc/device-tree/compatible")))
	if name := stringList(read(filepath.Join(root, "proc/device-tree/model"))); len(name) > 0 {
		b.Name = name[0]
	}
	if b.Name == "" {
		b.Name = piName(revision(root))
	}
	if b.Name == "" && len(b.Compatible) > 0 {
		b.Name = b.Compatible[0]
	}
	if b.Name == "" {
		b.Name = dmiName(root)
	}
	if b.Name == "" {
		b.Name = "unknown " + runtime.GOARCH
	}
	return b
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

// revision returns the Pi's revision code, 0 where there is none.
func revision(root string) uint32 {
	if b, err := read(filepath.Join(root, "proc/device-tree/system/linux,revision")); err == nil && len(b) == 4 {
		return binary.BigEndian.Uint32(b)
	}
	text, err := readEnd(filepath.Join(root, "proc/cpuinfo"))
	if err != nil {
		return 0
	}
	for line := range strings.Lines(string(text)) {
		key, value, ok := strings.Cut(line, ":")
		if ok && strings.TrimSpace(key) == "Revision" {
			return parseHex(strings.TrimSpace(value))
		}
	}
	return 0
}

func parseHex(s string) (v uint32) {
	if s == "" || len(s) > 8 {
		return 0
	}
	for _, c := range []byte(strings.ToLower(s)) {
		d := strings.IndexByte("0123456789abcdef", c)
		if d < 0 {
			return 0
		}
		v = v<<4 | uint32(d)
	}
	return v
}

// piName reads a new-style revision code: bit 23 set, type in bits 4 to 11
// (https://www.raspberrypi.com/documentation/computers/raspberry-pi.html,
// "Raspberry Pi revision codes").
func piName(rev uint32) string {
	if rev&(1<<23) == 0 {
		return ""
	}
	models := map[uint32]string{
		0x00: "A", 0x01: "B", 0x02: "A+", 0x03: "B+", 0x04: "2 Model B", 0x06: "Compute Module 1", 0x08: "3 Model B",
		0x09: "Zero", 0x0a: "Compute Module 3", 0x0c: "Zero W", 0x0d: "3 Model B+", 0x0e: "3 Model A+", 0x10: "Compute Module 3+",
		0x11: "4 Model B", 0x12: "Zero 2 W", 0x13: "400", 0x14: "Compute Module 4", 0x15: "Compute Module 4S",
		0x17: "5 Model B", 0x18: "Compute Module 5", 0x19: "500", 0x1a: "Compute Module 5 Lite",
	}
	m, ok := models[rev>>4&0xff]
	if !ok {
		return "Raspberry Pi"
	}
	return "Raspberry Pi " + m
}

func dmiName(root string) string {
	var parts []string
	for _, name := range []string{"sys_vendor", "product_name"} {
		if b, err := read(filepath.Join(root, "sys/class/dmi/id", name)); err == nil {
			if s := printable(string(b)); s != "" {
				parts = append(parts, s)
			}
		}
	}
	return strings.Join(parts, " ")
}

// features lists what of this CPU kernels can use, by the kernel's names. It
// comes from the CPU itself: a 32-bit system on a 64-bit chip, and a virtual
// machine, show another list in cpuinfo.
func features() []string {
	var out []string
	for _, f := range []struct {
		has  bool
		name string
	}{
		{cpu.ARM64.HasASIMD, "asimd"}, {cpu.ARM64.HasASIMDHP, "asimdhp"}, {cpu.ARM64.HasASIMDDP, "asimddp"},
		{cpu.ARM64.HasI8MM, "i8mm"}, {cpu.ARM64.HasSVE, "sve"}, {cpu.ARM.HasNEON, "neon"},
		{cpu.X86.HasSSE41, "sse4_1"}, {cpu.X86.HasAVX2, "avx2"}, {cpu.X86.HasFMA, "fma"},
		{cpu.X86.HasAVX512BW, "avx512bw"}, {cpu.X86.HasAVX512VNNI, "avx512_vnni"}, {cpu.X86.HasAVXVNNI, "avx_vnni"},
	} {
		if f.has {
			out = append(out, f.name)
		}
	}
	return out
}
