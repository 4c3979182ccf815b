package boards

import (
	"encoding/binary"
	"strconv"
	"strings"
)

// piModel is a kind of Raspberry Pi.
type piModel struct {
	code       uint32 // type in the revision code
	compatible string // in the device tree, after "raspberrypi,"
	id, name   string // name without "Raspberry Pi "
}

// piModels is after "Raspberry Pi revision codes" and the device trees of
// Linux (https://www.raspberrypi.com/documentation/computers/raspberry-pi.html,
// arch/arm*/boot/dts/broadcom).
var piModels = []piModel{
	{0x00, "model-a", "rpi-a", "Model A"},
	{0x01, "model-b", "rpi-b", "Model B"},
	{0x02, "model-a-plus", "rpi-a-plus", "Model A+"},
	{0x03, "model-b-plus", "rpi-b-plus", "Model B+"},
	{0x04, "2-model-b", "rpi-2", "2 Model B"},
	{0x06, "compute-module", "rpi-cm1", "Compute Module 1"},
	{0x08, "3-model-b", "rpi-3b", "3 Model B"},
	{0x09, "model-zero", "rpi-zero", "Zero"},
	{0x0a, "3-compute-module", "rpi-cm3", "Compute Module 3"},
	{0x0c, "model-zero-w", "rpi-zero-w", "Zero W"},
	{0x0d, "3-model-b-plus", "rpi-3b-plus", "3 Model B+"},
	{0x0e, "3-model-a-plus", "rpi-3a-plus", "3 Model A+"},
	{0x10, "3-plus-compute-module", "rpi-cm3-plus", "Compute Module 3+"},
	{0x11, "4-model-b", "rpi-4b", "4 Model B"},
	{0x12, "model-zero-2-w", "rpi-zero-2w", "Zero 2 W"},
	{0x13, "400", "rpi-400", "400"},
	{0x14, "4-compute-module", "rpi-cm4", "Compute Module 4"},
	{0x15, "4-compute-module-s", "rpi-cm4s", "Compute Module 4S"},
	{0x17, "5-model-b", "rpi-5", "5 Model B"},
	{0x18, "5-compute-module", "rpi-cm5", "Compute Module 5"},
	{0x19, "500", "rpi-500", "500"},
	{0x1a, "5-compute-module-lite", "rpi-cm5-lite", "Compute Module 5 Lite"},
}

// piSoCs is by bits 12 to 15 of the revision code.
var piSoCs = []string{"bcm2835", "bcm2836", "bcm2837", "bcm2711", "bcm2712"}

// piSoCByCPU is for a Pi of which nothing but its core is known.
var piSoCByCPU = map[string]string{
	"ARM1176": "bcm2835", "Cortex-A7": "bcm2836", "Cortex-A53": "bcm2837", "Cortex-A72": "bcm2711", "Cortex-A76": "bcm2712",
}

// raspberry recognises a Raspberry Pi by its device tree, or else by its
// revision code.
func (c clues) raspberry(b *Board) bool {
	rev, coded := parsePiRevision(c.revision)
	var m *piModel
	if len(c.compatible) > 0 {
		name, ours := strings.CutPrefix(c.compatible[0], "raspberrypi,")
		if !ours {
			return false
		}
		m = findPi(func(m piModel) bool { return m.compatible == name })
	}
	if m == nil && coded {
		m = findPi(func(m piModel) bool { return m.code == rev.model })
	}
	if m == nil {
		return false
	}
	b.ID, b.Name = m.id, "Raspberry Pi "+m.name
	if coded {
		b.Name += " Rev 1." + strconv.Itoa(rev.board)
		b.Revision, b.RAM = strconv.FormatUint(uint64(rev.code), 16), rev.ram
		if b.SoC == "" {
			b.SoC = rev.soc
		}
	}
	if c.model != "" {
		b.Name = c.model // the firmware writes it, with the revision
	}
	return true
}

func findPi(is func(piModel) bool) *piModel {
	for i := range piModels {
		if is(piModels[i]) {
			return &piModels[i]
		}
	}
	return nil
}

// piRevision is what a new-style revision code says.
type piRevision struct {
	code  uint32 // without warranty bits
	model uint32
	board int // "Rev 1.board"
	soc   string
	ram   int64 // bytes
}

// parsePiRevision reads a new-style code; ok is false for an old one, which is
// a number from a list of 2012 to 2014.
//
//	bits 0-3 board revision, 4-11 type, 12-15 chip, 16-19 maker,
//	20-22 memory (256 MB << n), 23 new style, 24 and more warranty
func parsePiRevision(v uint32) (r piRevision, ok bool) {
	const newStyle = 1 << 23
	if v&newStyle == 0 {
		return r, false
	}
	r = piRevision{code: v & 0xffffff, model: v >> 4 & 0xff, board: int(v & 0xf), ram: 256 << 20 << (v >> 20 & 7)}
	if n := int(v >> 12 & 0xf); n < len(piSoCs) {
		r.soc = piSoCs[n]
	}
	return r, true
}

// bigEndian reads a number of the device tree, 0 where it is none.
func bigEndian(b []byte) uint32 {
	if len(b) != 4 {
		return 0
	}
	return binary.BigEndian.Uint32(b)
}
