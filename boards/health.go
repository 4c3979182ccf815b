package boards

import (
	"path/filepath"
	"strconv"
	"strings"
)

// Vitals is how the board fares now. A field that could not be read is nil or
// empty.
type Vitals struct {
	TempC *float64 `json:"temp_c,omitempty"` // the hottest of Temps, in degrees Celsius
	Temps []Temp   `json:"temps,omitempty"`

	MemTotal *int64  `json:"mem_total,omitempty"`     // bytes
	MemFree  *int64  `json:"mem_available,omitempty"` // bytes that can be had without swapping
	Memory   *Memory `json:"memory,omitempty"`        // limits and pressure

	Throttled *bool  `json:"throttled,omitempty"`       // the clock is held down now, by heat or by the supply
	Capped    *bool  `json:"freq_capped,omitempty"`     // a Pi's firmware caps the frequency now
	SoftLimit *bool  `json:"soft_limit,omitempty"`      // a Pi is above its soft temperature limit now
	LowVolt   *bool  `json:"under_voltage,omitempty"`   // the supply is too low now
	LowBefore *bool  `json:"low_since_boot,omitempty"`  // it was too low at some time since boot
	Slowed    *bool  `json:"slow_since_boot,omitempty"` // the clock was held down, or capped, at some time since boot
	HotBefore *bool  `json:"hot_since_boot,omitempty"`  // the soft limit was passed at some time since boot
	Clocks    []Freq `json:"clocks,omitempty"`

	Root  *Space `json:"root,omitempty"`  // the file system of the root
	Cards []Card `json:"cards,omitempty"` // cards, eMMC and disks
}

// Temp is one sensor.
type Temp struct {
	Name string  `json:"name"` // "cpu", "gpu", "soc0", as the kernel names it without "-thermal"
	C    float64 `json:"c"`    // degrees Celsius
}

// Freq is one clock. A Pi's firmware lowers it without telling the kernel:
// there HzNow is what was asked for, and Throttled is right
// (raspberrypi/linux#2986).
type Freq struct {
	Name     string `json:"name"` // "policy0", or the GPU's device
	HzNow    int64  `json:"hz_now"`
	HzMax    int64  `json:"hz_max,omitempty"`
	Governor string `json:"governor,omitempty"`
}

// Health reads the board's sensors below root. Each file is read once, by one
// read that does not wait; what fails is left out.
func Health(root string) Vitals { return health(sensors{root: root, read: read}) }

// Strain is the part of Health that changes from second to second:
// temperatures, throttling and memory. It costs a fraction of it.
func Strain(root string) Vitals { return sensors{root: root, read: read}.strain() }

// sensors is where Health reads; tests give a read that fails as the kernels
// of some boards do.
type sensors struct {
	root string
	read func(path string) ([]byte, error) // at most 4 KiB
}

func health(s sensors) Vitals {
	v := s.strain()
	v.Clocks, v.Cards, v.Root = s.clocks(), s.cards(), space(s.root)
	return v
}

func (s sensors) strain() Vitals {
	v := Vitals{Temps: s.temps(), Memory: s.memory()}
	for _, t := range v.Temps {
		if v.TempC == nil || t.C > *v.TempC {
			v.TempC = &t.C
		}
	}
	if text, ok := s.text("proc/meminfo"); ok {
		v.MemTotal, v.MemFree = memory(text, "MemTotal"), memory(text, "MemAvailable")
	}
	s.throttling(&v)
	return v
}

// text reads a file below the root.
func (s sensors) text(path string) (string, bool) {
	b, err := s.read(filepath.Join(s.root, path))
	return strings.TrimSpace(string(b)), err == nil && len(b) > 0
}

// int reads a file that holds one decimal number.
func (s sensors) int(path string) (int64, bool) {
	text, ok := s.text(path)
	if !ok {
		return 0, false
	}
	n, err := strconv.ParseInt(text, 10, 64)
	return n, err == nil
}

// find lists what matches a pattern below the root, as paths below it.
func (s sensors) find(pattern string) []string {
	found, err := filepath.Glob(filepath.Join(quoteGlob(s.root), pattern))
	if err != nil {
		return nil
	}
	for i, path := range found {
		rel, err := filepath.Rel(s.root, path)
		if err != nil {
			return nil
		}
		found[i] = rel
	}
	return found[:min(len(found), maxFound)]
}

// maxFound bounds how many of one kind are read; an Orin has nine zones, and
// a server a clock for each of its CPUs.
const maxFound = 64

var quoter = strings.NewReplacer(`\`, `\\`, "*", `\*`, "?", `\?`, "[", `\[`)

func quoteGlob(path string) string { return quoter.Replace(path) }

// temps reads the thermal zones and, where there is none that works, the
// sensors of a PC's CPU.
func (s sensors) temps() (out []Temp) {
	for _, z := range s.zones() {
		if c, ok := s.celsius(filepath.Join(z.dir, "temp")); ok {
			out = append(out, Temp{z.name, c})
		}
	}
	if len(out) > 0 {
		return out
	}
	for _, dir := range s.find("sys/class/hwmon/hwmon*") {
		if !s.ofCPU(dir) {
			continue
		}
		if c, ok := s.celsius(filepath.Join(dir, "temp1_input")); ok {
			out = append(out, Temp{"cpu", c})
		}
	}
	return out
}

// ofCPU reports whether a folder of hwmon is a CPU's.
func (s sensors) ofCPU(dir string) bool {
	name, _ := s.text(filepath.Join(dir, "name"))
	return name == "coretemp" || name == "k10temp" || name == "cpu_thermal"
}

// zone is a thermal zone that is switched on, and whose number is a
// temperature.
type zone struct{ name, dir string }

func (s sensors) zones() (out []zone) {
	for _, dir := range s.find("sys/class/thermal/thermal_zone*") {
		kind, _ := s.text(filepath.Join(dir, "type"))
		name := zoneName(kind)
		if name == "" {
			name = strings.TrimPrefix(filepath.Base(dir), "thermal_")
		}
		if noSensor[name] {
			continue
		}
		if mode, ok := s.text(filepath.Join(dir, "mode")); ok && mode == "disabled" {
			continue
		}
		out = append(out, zone{name, dir})
	}
	return out
}

// celsius reads thousandths of a degree. A sensor that is off answers EAGAIN
// or EINVAL, -256 degrees (Jetson) or -44 (acpitz).
func (s sensors) celsius(path string) (float64, bool) {
	milli, ok := s.int(path)
	if !ok || milli <= -40_000 || milli > 200_000 {
		return 0, false
	}
	return float64(milli) / 1000, true
}

// noSensor are zones whose number is no temperature that was measured: the
// PMIC of a Jetson says 100 degrees at all times, and the fan's is an average.
var noSensor = map[string]bool{"pmic-die": true, "pmic": true, "thermal-fan-est": true}

// zoneName makes one name of what kernels call a zone: "CPU-therm",
// "cpu-thermal", "cpu_thermal", "bcm2835_thermal".
func zoneName(kind string) string {
	name := strings.ToLower(printable(kind))
	for _, end := range []string{"-thermal", "_thermal", "-therm", "_therm"} {
		if short, ok := strings.CutSuffix(name, end); ok {
			name = short
			break
		}
	}
	if name == "bcm2835" || name == "x86_pkg_temp" {
		return "cpu"
	}
	return name
}

// clocks reads the CPU's and the GPU's.
func (s sensors) clocks() (out []Freq) {
	add := func(dir, now, most, governor string, unit int64) {
		n, ok := s.int(filepath.Join(dir, now))
		if !ok || n <= 0 || n > 1<<50/unit {
			return
		}
		f := Freq{Name: filepath.Base(dir), HzNow: n * unit}
		if n, ok := s.int(filepath.Join(dir, most)); ok && n > 0 && n <= 1<<50/unit {
			f.HzMax = n * unit
		}
		if g, ok := s.text(filepath.Join(dir, governor)); ok {
			f.Governor = printable(g)
		}
		out = append(out, f)
	}
	for _, dir := range s.find("sys/devices/system/cpu/cpufreq/policy*") {
		add(dir, "scaling_cur_freq", "scaling_max_freq", "scaling_governor", 1000)
	}
	for _, dir := range s.find("sys/class/devfreq/*gpu*") {
		add(dir, "cur_freq", "max_freq", "governor", 1)
	}
	return out
}
