package boards

import (
	"path/filepath"
	"reflect"
	"strings"
	"syscall"
	"testing"

	"dunlin/internal/shared"
)

func TestLimits(t *testing.T) {
	pi := func(model string) string { return "raspberrypi," + model + "\x00brcm,bcm2711\x00" }
	for name, c := range map[string]struct {
		files map[string]string
		want  Bounds
	}{
		"pi 4": {
			map[string]string{"proc/device-tree/compatible": pi("4-model-b"), "proc/meminfo": "MemTotal: 3884360 kB\n"},
			Bounds{SoftC: ptr(80.0), HardC: ptr(85.0), TempsFrom: "Raspberry Pi", Memory: ptr(int64(3884360 << 10)), MemoryFrom: "RAM"},
		},
		"pi 3B+, whose soft limit of 60 is no emergency": {
			map[string]string{"proc/device-tree/compatible": pi("3-model-b-plus")},
			Bounds{SoftC: ptr(70.0), HardC: ptr(85.0), TempsFrom: "Raspberry Pi"},
		},
		"pi that the kernel switches off at 80": {
			map[string]string{
				"proc/device-tree/compatible":                        pi("3-model-b"),
				"sys/class/thermal/thermal_zone0/type":               "cpu-thermal\n",
				"sys/class/thermal/thermal_zone0/trip_point_0_type":  "critical\n",
				"sys/class/thermal/thermal_zone0/trip_point_0_temp":  "80000\n",
				"sys/class/thermal/thermal_zone0/trip_point_1_type":  "active\n", // a fan
				"sys/class/thermal/thermal_zone0/trip_point_1_temp":  "50000\n",
				"sys/class/thermal/thermal_zone0/trip_point_11_type": "passive\n", // not reached: they have no holes
				"sys/class/thermal/thermal_zone0/trip_point_11_temp": "60000\n",
			},
			Bounds{
				SoftC: ptr(80.0), HardC: ptr(85.0), TempsFrom: "Raspberry Pi, trip points",
				Zones: []ZoneBounds{{Name: "cpu", SoftC: ptr(75.0), HardC: ptr(80.0)}},
			},
		},
		"jetson, each zone its own": {
			map[string]string{
				"proc/device-tree/compatible":                       "nvidia,p3768-0000+p3767-0003\x00nvidia,tegra234\x00",
				"sys/class/thermal/thermal_zone0/type":              "cpu-thermal\n",
				"sys/class/thermal/thermal_zone0/trip_point_0_type": "critical\n",
				"sys/class/thermal/thermal_zone0/trip_point_0_temp": "104500\n",
				"sys/class/thermal/thermal_zone0/trip_point_1_type": "hot\n",
				"sys/class/thermal/thermal_zone0/trip_point_1_temp": "103000\n",
				"sys/class/thermal/thermal_zone0/trip_point_2_type": "passive\n",
				"sys/class/thermal/thermal_zone0/trip_point_2_temp": "99000\n",
				"sys/class/thermal/thermal_zone1/type":              "tj-thermal\n",
				"sys/class/thermal/thermal_zone1/trip_point_0_type": "passive\n",
				"sys/class/thermal/thermal_zone1/trip_point_0_temp": "70000\n",
				"sys/class/thermal/thermal_zone2/type":              "PMIC-Die\n", // no temperature
				"sys/class/thermal/thermal_zone2/trip_point_0_type": "critical\n",
				"sys/class/thermal/thermal_zone2/trip_point_0_temp": "120000\n",
			},
			Bounds{TempsFrom: "trip points", Zones: []ZoneBounds{
				{Name: "cpu", SoftC: ptr(98.0), HardC: ptr(103.0)}, {Name: "tj", SoftC: ptr(70.0)},
			}},
		},
		"pc: thresholds that are not set, and the CPU's own": {
			map[string]string{
				"sys/class/dmi/id/sys_vendor":                       "Intel\n",
				"sys/class/thermal/thermal_zone0/type":              "x86_pkg_temp\n",
				"sys/class/thermal/thermal_zone0/trip_point_0_type": "passive\n",
				"sys/class/thermal/thermal_zone0/trip_point_0_temp": "0\n",
				"sys/class/thermal/thermal_zone1/type":              "acpitz\n",
				"sys/class/thermal/thermal_zone1/trip_point_0_type": "critical\n",
				"sys/class/thermal/thermal_zone1/trip_point_0_temp": "119000\n",
				"sys/class/hwmon/hwmon3/name":                       "coretemp\n",
				"sys/class/hwmon/hwmon3/temp1_crit":                 "100000\n",
			},
			Bounds{TempsFrom: "trip points", Zones: []ZoneBounds{
				{Name: "acpitz", SoftC: ptr(109.0), HardC: ptr(119.0)}, {Name: "cpu", SoftC: ptr(90.0), HardC: ptr(100.0)},
			}},
		},
		"group of version 1": {
			map[string]string{
				"proc/meminfo":     "MemTotal: 1000 kB\n",
				"proc/self/cgroup": "12:pids:/x\n4:cpu,memory:/docker/1f3e\n",
				"sys/fs/cgroup/memory/docker/1f3e/memory.limit_in_bytes": "9223372036854771712\n", // none
				"sys/fs/cgroup/memory/docker/memory.limit_in_bytes":      "900000\n",
			},
			Bounds{Memory: ptr(int64(900000)), MemoryFrom: "memory.limit_in_bytes of docker"},
		},
		"container, which is at the top of what it sees": {
			map[string]string{"proc/meminfo": "MemTotal: 1000 kB\n", "proc/self/cgroup": "0::/\n", "sys/fs/cgroup/memory.max": "700000\n"},
			Bounds{Memory: ptr(int64(700000)), MemoryFrom: "memory.max of the top group"},
		},
		"limit above what is fitted": {
			map[string]string{"proc/meminfo": "MemTotal: 1000 kB\n", "proc/self/cgroup": "0::/a\n", "sys/fs/cgroup/a/memory.max": "70000000\n"},
			Bounds{Memory: ptr(int64(1000 << 10)), MemoryFrom: "RAM"},
		},
		"nothing is known": {nil, Bounds{}},
	} {
		if got := Limits(write(t, c.files)); !reflect.DeepEqual(got, c.want) {
			t.Errorf("%s:\n got %+v\nwant %+v", name, got, c.want)
		}
	}
}

// The samples of real boards: a Pi has its maker's figures, whatever kernel
// it runs.
func TestLimitsOfSamples(t *testing.T) {
	root := shared.Dir(t, "data", "boards")
	for sample, soft := range map[string]float64{"rpi-3b-plus": 70, "rpi-4b": 80, "rpi-5b": 80, "dtb-bcm2837-rpi-zero-2-w": 80} {
		if b := Limits(filepath.Join(root, sample)); b.SoftC == nil || *b.SoftC != soft || b.HardC == nil || *b.HardC != 85 {
			t.Errorf("%s: %+v", sample, b)
		}
	}
	for _, sample := range []string{"jetson-orin-nano", "procfs-mixed"} { // whose trip points are not in the sample
		if b := Limits(filepath.Join(root, sample)); b.SoftC != nil || b.Zones != nil {
			t.Errorf("%s has limits that nobody told: %+v", sample, b)
		}
	}
}

func TestClosest(t *testing.T) {
	b := Bounds{SoftC: ptr(80.0), HardC: ptr(85.0), Zones: []ZoneBounds{{"gpu", ptr(60.0), ptr(90.0)}, {"tj", ptr(99.0), nil}}}
	for _, c := range []struct {
		temps      []Temp
		name       string
		soft, hard float64
	}{
		{[]Temp{{"cpu", 70}, {"gpu", 55}}, "gpu", 60, 90}, // hotter is not closer
		{[]Temp{{"cpu", 79}, {"gpu", 55}}, "cpu", 80, 85},
		{[]Temp{{"tj", 98.5}, {"gpu", 55}}, "tj", 99, 109},
		{[]Temp{{"cpu", 90}, {"gpu", 80}}, "gpu", 60, 90}, // 20 beyond
	} {
		if got, soft, hard, ok := b.Closest(c.temps); !ok || got.Name != c.name || soft != c.soft || hard != c.hard {
			t.Errorf("%v: %v, %v, %v, %v", c.temps, got, soft, hard, ok)
		}
	}
	if _, _, _, ok := b.Closest(nil); ok {
		t.Error("no sensor is close to its limit")
	}
	if _, _, _, ok := (Bounds{}).Closest([]Temp{{"cpu", 200}}); ok {
		t.Error("a sensor without a limit is close to it")
	}
}

func TestBoundsOfAPerson(t *testing.T) {
	pi := Bounds{SoftC: ptr(80.0), HardC: ptr(85.0), TempsFrom: "Raspberry Pi", Zones: []ZoneBounds{{"cpu", ptr(75.0), ptr(80.0)}}, Memory: ptr(int64(1000)), MemoryFrom: "RAM"}
	for _, c := range []struct {
		soft, hard float64
		want       [2]float64
	}{{60, 0, [2]float64{60, 70}}, {60, 65, [2]float64{60, 65}}, {0, 70, [2]float64{65, 70}}} {
		b := pi.With(c.soft, c.hard, 0, "limits")
		if _, soft, hard, ok := b.Closest([]Temp{{"cpu", 50}}); !ok || soft != c.want[0] || hard != c.want[1] || b.TempsFrom != "limits" {
			t.Errorf("%v, %v: %v, %v of %+v", c.soft, c.hard, soft, hard, b)
		}
	}
	if b := pi.With(0, 0, 500, "limits"); *b.Memory != 500 || b.MemoryFrom != "limits" || *b.SoftC != 80 || len(b.Zones) != 1 {
		t.Errorf("%+v", b)
	}
	if b := (Bounds{}).With(0, 70, 0, "limits"); *b.SoftC != 60 || *b.HardC != 70 {
		t.Errorf("%+v", b)
	}
}

func FuzzLimits(f *testing.F) {
	root := write(f, map[string]string{"sys/class/thermal/thermal_zone0/temp": "", "sys/class/hwmon/hwmon0/name": ""})
	f.Add("critical", "80000", "0::/a", "1000", "high 1\nmax 2\n")
	f.Add("passive", "-274000", "3:memory:/../x", "9223372036854771712", "high -1\n")
	f.Fuzz(func(t *testing.T, kind, temp, group, limit, events string) {
		b := limits(sensors{root, func(path string) ([]byte, error) {
			name := filepath.Base(path)
			switch {
			case strings.HasSuffix(name, "_type"):
				return []byte(kind), nil
			case strings.HasSuffix(name, "_temp"), name == "temp1_crit":
				return []byte(temp), nil
			case name == "cgroup":
				return []byte(group), nil
			case strings.HasPrefix(name, "memory.") && name != "memory.events":
				return []byte(limit), nil
			case name == "memory.events":
				return []byte(events), nil
			case name == "name":
				return []byte("coretemp"), nil
			}
			return nil, syscall.ENOENT
		}}, Board{})
		for _, z := range b.Zones {
			if z.SoftC != nil && (*z.SoftC < 30 || *z.SoftC > 150) || z.HardC != nil && (z.SoftC == nil || *z.HardC < *z.SoftC+leastGap) {
				t.Errorf("%+v of %q %q", z, kind, temp)
			}
		}
		if b.Memory != nil && (*b.Memory < 0 || *b.Memory >= noLimit) {
			t.Errorf("%d bytes", *b.Memory)
		}
	})
}

// What is left of a limit is what the group of the limit has not: others may be
// in it.
func TestUsageIsOfTheLimit(t *testing.T) {
	v := Strain(write(t, map[string]string{
		"proc/self/cgroup":                        "0::/shop/agent\n",
		"sys/fs/cgroup/shop/memory.max":           "900\n",
		"sys/fs/cgroup/shop/memory.current":       "800\n",
		"sys/fs/cgroup/shop/memory.stat":          "inactive_file 50\n",
		"sys/fs/cgroup/shop/agent/memory.max":     "max\n",
		"sys/fs/cgroup/shop/agent/memory.high":    "2000\n",
		"sys/fs/cgroup/shop/agent/memory.current": "100\n",
		"sys/fs/cgroup/shop/agent/memory.stat":    "inactive_file 7\n",
	}))
	want := Memory{Limit: ptr(int64(900)), LimitFrom: "memory.max of shop", Used: ptr(int64(800)), Idle: ptr(int64(50))}
	if v.Memory == nil || !reflect.DeepEqual(*v.Memory, want) {
		t.Errorf("%+v", v.Memory)
	}
}

func BenchmarkStrain(b *testing.B) {
	for b.Loop() {
		Strain("/")
	}
}
