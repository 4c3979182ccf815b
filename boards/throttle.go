package boards

import (
	"path/filepath"
	"strconv"
	"strings"
)

// throttling asks the firmware of a Pi; where there is none to ask, the
// supply's alarm and the cooling devices that slow a CPU down.
func (s sensors) throttling(v *Vitals) {
	if !s.firmware(v) {
		v.LowVolt = s.supplyAlarm()
		v.Throttled = s.cooled()
	}
}

// firmware reads get_throttled: hex digits without 0x,
//
//	bit 0 under-voltage, 1 frequency capped, 2 throttled, 3 soft temperature limit
//
// and the same 16 bits higher since boot. The soc node has an address in its
// name on some models.
func (s sensors) firmware(v *Vitals) bool {
	for _, path := range s.find("sys/devices/platform/soc*/soc*:firmware/get_throttled") {
		text, ok := s.text(path)
		if !ok {
			continue
		}
		bits, err := strconv.ParseUint(strings.TrimPrefix(text, "0x"), 16, 32)
		if err != nil {
			continue
		}
		any := func(mask uint64) *bool { b := bits&mask != 0; return &b }
		v.LowVolt, v.Capped, v.Throttled, v.SoftLimit = any(1<<0), any(1<<1), any(1<<2), any(1<<3)
		v.LowBefore, v.Slowed, v.HotBefore = any(1<<16), any(1<<17|1<<18), any(1<<19)
		return true
	}
	return false
}

// supplyAlarm reads the driver of the Pi's supply, which a kernel has that
// lacks get_throttled. Its number changes from boot to boot.
func (s sensors) supplyAlarm() *bool {
	for _, dir := range s.find("sys/class/hwmon/hwmon*") {
		if name, _ := s.text(filepath.Join(dir, "name")); name != "rpi_volt" {
			continue
		}
		if n, ok := s.int(filepath.Join(dir, "in0_lcrit_alarm")); ok {
			low := n != 0
			return &low
		}
	}
	return nil
}

// cooled reports whether a cooling device holds a CPU's or GPU's clock down.
// Fans are cooling devices too, and say nothing of that.
func (s sensors) cooled() *bool {
	var found, slow bool
	for _, dir := range s.find("sys/class/thermal/cooling_device*") {
		kind, _ := s.text(filepath.Join(dir, "type"))
		kind = strings.ToLower(kind)
		if !strings.Contains(kind, "cpu") && !strings.Contains(kind, "gpu") && kind != "processor" {
			continue
		}
		if n, ok := s.int(filepath.Join(dir, "cur_state")); ok {
			found, slow = true, slow || n > 0
		}
	}
	if !found {
		return nil
	}
	return &slow
}
