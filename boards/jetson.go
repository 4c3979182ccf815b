package boards

import (
	"regexp"
	"strings"
)

// jetsonModule is one of NVIDIA's modules. The carrier board is not looked
// at: there are many, and none changes what the module can do.
type jetsonModule struct {
	id, name string
	soc      string
	ram      int64 // bytes; 0: sold with several
}

const gb = 1 << 30

// jetsonModules is by part number, as the device tree writes it after the
// carrier's ("nvidia,p3768-0000+p3767-0003"), or alone on older boards. Names
// are after NVIDIA's jetson-gpio and jetson_stats.
var jetsonModules = map[string]jetsonModule{
	"p3448-0000": {"jetson-nano", "NVIDIA Jetson Nano", "tegra210", 4 * gb},
	"p3448-0002": {"jetson-nano", "NVIDIA Jetson Nano", "tegra210", 4 * gb},
	"p3448-0003": {"jetson-nano-2gb", "NVIDIA Jetson Nano 2GB", "tegra210", 2 * gb},
	"p3450-0000": {"jetson-nano", "NVIDIA Jetson Nano", "tegra210", 4 * gb}, // the kit with its module
	"p3450-0002": {"jetson-nano", "NVIDIA Jetson Nano", "tegra210", 4 * gb},
	"p3542-0000": {"jetson-nano-2gb", "NVIDIA Jetson Nano 2GB", "tegra210", 2 * gb},
	"p2771-0000": {"jetson-tx2", "NVIDIA Jetson TX2", "tegra186", 0},
	"p2972-0000": {"jetson-agx-xavier", "NVIDIA Jetson AGX Xavier", "tegra194", 0},
	"p2972-0006": {"jetson-agx-xavier", "NVIDIA Jetson AGX Xavier", "tegra194", 8 * gb},
	"p3668-0000": {"jetson-xavier-nx", "NVIDIA Jetson Xavier NX", "tegra194", 8 * gb},
	"p3668-0001": {"jetson-xavier-nx", "NVIDIA Jetson Xavier NX", "tegra194", 8 * gb},
	"p3668-0003": {"jetson-xavier-nx", "NVIDIA Jetson Xavier NX 16GB", "tegra194", 16 * gb},
	"p3767-0000": {"jetson-orin-nx", "NVIDIA Jetson Orin NX 16GB", "tegra234", 16 * gb},
	"p3767-0001": {"jetson-orin-nx", "NVIDIA Jetson Orin NX 8GB", "tegra234", 8 * gb},
	"p3767-0003": {"jetson-orin-nano", "NVIDIA Jetson Orin Nano 8GB", "tegra234", 8 * gb},
	"p3767-0004": {"jetson-orin-nano", "NVIDIA Jetson Orin Nano 4GB", "tegra234", 4 * gb},
	"p3767-0005": {"jetson-orin-nano", "NVIDIA Jetson Orin Nano 8GB", "tegra234", 8 * gb},
	"p3701-0000": {"jetson-agx-orin", "NVIDIA Jetson AGX Orin", "tegra234", 0},
	"p3701-0004": {"jetson-agx-orin", "NVIDIA Jetson AGX Orin 32GB", "tegra234", 32 * gb},
	"p3701-0005": {"jetson-agx-orin", "NVIDIA Jetson AGX Orin 64GB", "tegra234", 64 * gb},
	"p3701-0008": {"jetson-agx-orin", "NVIDIA Jetson AGX Orin Industrial", "tegra234", 64 * gb},
	"p3834-0005": {"jetson-thor", "NVIDIA Jetson Thor", "tegra264", 0},
	"p3834-0008": {"jetson-thor", "NVIDIA Jetson Thor", "tegra264", 0},
}

// jetsonNames are boards whose device tree has a name in place of a number.
var jetsonNames = map[string]string{
	"nvidia,jetson-nano": "p3450-0000", "nvidia,jetson-xavier": "p2972-0000", "nvidia,quill": "p2771-0000",
}

// partNumber is one part of NVIDIA's; what follows it ("-super") is a power
// mode.
var partNumber = regexp.MustCompile(`p\d{4}-\d{4}`)

// jetson recognises a Jetson by the module in its device tree. A module that
// is not in the table is known by its family: the first four digits.
func (c clues) jetson(b *Board) bool {
	for _, s := range c.compatible {
		if !strings.HasPrefix(s, "nvidia,") {
			continue
		}
		parts := partNumber.FindAllString(s, 2)
		if part, ok := jetsonNames[s]; ok {
			parts = []string{part}
		}
		if len(parts) == 0 {
			continue
		}
		part := parts[len(parts)-1] // carrier+module
		m, ok := jetsonModules[part]
		if !ok {
			if m, ok = jetsonFamily(part); !ok {
				continue
			}
		}
		b.ID, b.Name, b.Revision, b.System = m.id, m.name, part, parseL4T(c.l4t)
		if b.SoC = c.soc(); b.SoC == "" {
			b.SoC = m.soc
		}
		if m.ram > 0 {
			b.RAM = m.ram
		}
		if c.model != "" {
			b.Name = c.model
		}
		return true
	}
	return false
}

// jetsonFamily stands for a variant that came out after this table.
func jetsonFamily(part string) (m jetsonModule, ok bool) {
	for known, as := range jetsonModules {
		if known[:5] != part[:5] {
			continue
		}
		// The shortest name of the family says least of what is not known.
		if !ok || len(as.name) < len(m.name) || len(as.name) == len(m.name) && as.id < m.id {
			m, ok = as, true
		}
	}
	m.ram = 0
	return m, ok
}

var l4tRelease = regexp.MustCompile(`^# R(\d{1,3}) \(release\), REVISION: (\d{1,3}(?:\.\d{1,3}){0,2})`)

// parseL4T reads "# R36 (release), REVISION: 4.3, GCID: …" as "36.4.3". The
// date further on has another form in every release.
func parseL4T(line string) string {
	m := l4tRelease.FindStringSubmatch(line)
	if m == nil {
		return ""
	}
	return m[1] + "." + m[2]
}
