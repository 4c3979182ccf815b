package boards

import (
	"path/filepath"
	"strconv"
	"strings"
)

// Vitals is how the board fares now. A field that could not be read is nil.
type Vitals struct {
	TempC     *float64 `json:"temp_c,omitempty"`          // the hottest thermal zone, in degrees Celsius
	MemTotal  *int64   `json:"mem_total,omitempty"`       // bytes
	MemFree   *int64   `json:"mem_available,omitempty"`   // bytes that can be had without swapping
	Throttled *bool    `json:"throttled,omitempty"`       // a Pi's firmware holds the clock down now
	LowVolt   *bool    `json:"under_voltage,omitempty"`   // a Pi's supply is too low now
	LowBefore *bool    `json:"low_since_boot,omitempty"`  // it was too low at some time since boot
	Slowed    *bool    `json:"slow_since_boot,omitempty"` // the clock was held down at some time since boot
}

// Health reads the board's sensors below root.
func Health(root string) Vitals { return health(root, read) }

// reader returns at most 4 KiB of a file; tests give one that fails as the
// kernels of some boards do.
type reader func(path string) ([]byte, error)

func health(root string, read reader) Vitals {
	var v Vitals
	v.TempC = hottest(root, read)
	if text, err := read(filepath.Join(root, "proc/meminfo")); err == nil {
		v.MemTotal, v.MemFree = memory(string(text), "MemTotal"), memory(string(text), "MemAvailable")
	}
	v.firmware(root, read)
	return v
}

// maxZones bounds the thermal zones looked at; an Orin has nine.
const maxZones = 64

// hottest returns the highest temperature of all zones. A zone that is off
// answers EAGAIN, EINVAL, -256 degrees (Jetson) or -44 (acpitz): those are
// left out.
func hottest(root string, read reader) *float64 {
	zones, err := filepath.Glob(filepath.Join(root, "sys/class/thermal/thermal_zone*/temp"))
	if err != nil {
		return nil
	}
	var top *float64
	for _, path := range zones[:min(len(zones), maxZones)] {
		text, err := read(path)
		if err != nil {
			continue
		}
		milli, err := strconv.ParseInt(strings.TrimSpace(string(text)), 10, 64)
		if err != nil || milli <= -40_000 || milli > 200_000 {
			continue
		}
		if t := float64(milli) / 1000; top == nil || t > *top {
			top = &t
		}
	}
	return top
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

// firmware reads get_throttled of a Pi: hex digits without 0x, bit 0
// under-voltage, bit 2 throttled, and the same 16 bits higher since boot. The
// soc node has an address in its name on some models.
func (v *Vitals) firmware(root string, read reader) {
	paths, err := filepath.Glob(filepath.Join(root, "sys/devices/platform/soc*/soc*:firmware/get_throttled"))
	if err != nil || len(paths) == 0 {
		return
	}
	text, err := read(paths[0])
	if err != nil {
		return
	}
	bits, err := strconv.ParseUint(strings.TrimPrefix(strings.TrimSpace(string(text)), "0x"), 16, 32)
	if err != nil {
		return
	}
	bit := func(n int) *bool { b := bits>>n&1 == 1; return &b }
	v.LowVolt, v.Throttled, v.LowBefore, v.Slowed = bit(0), bit(2), bit(16), bit(18)
}
