package boards

import (
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"syscall"
	"testing"

	"dunlin/internal/shared"
)

func ptr[T any](v T) *T { return &v }

func TestHealth(t *testing.T) {
	root := write(t, map[string]string{
		"sys/class/thermal/thermal_zone0/type":                            "cpu-thermal\n",
		"sys/class/thermal/thermal_zone0/temp":                            "48850\n",
		"sys/class/thermal/thermal_zone1/type":                            "GPU-therm\n",
		"sys/class/thermal/thermal_zone1/temp":                            "51200\n",
		"sys/class/thermal/thermal_zone2/temp":                            "-256000\n", // off, on a Jetson
		"sys/class/thermal/thermal_zone3/temp":                            "not a number\n",
		"sys/class/thermal/thermal_zone4/mode":                            "disabled\n",
		"sys/class/thermal/thermal_zone4/temp":                            "90000\n",
		"sys/class/thermal/thermal_zone5/temp":                            "",
		"sys/class/thermal/thermal_zone6/temp":                            "2147483647000\n",
		"sys/class/thermal/thermal_zone7/temp":                            "-44000\n",   // off, acpitz
		"sys/class/thermal/thermal_zone8/type":                            "PMIC-Die\n", // always 100 degrees
		"sys/class/thermal/thermal_zone8/temp":                            "100000\n",
		"proc/meminfo":                                                    "MemTotal:        3884360 kB\nMemFree: 1 kB\nMemAvailable:    3000000 kB\n",
		"proc/pressure/memory":                                            "some avg10=1.53 avg60=0.87 avg300=0.20 total=1\nfull avg10=0.40 avg60=0.00 avg300=0.00 total=1\n",
		"proc/self/cgroup":                                                "0::/system.slice/dunlin-agent.service\n",
		"sys/fs/cgroup/system.slice/memory.max":                           "500000000\n",
		"sys/fs/cgroup/system.slice/dunlin-agent.service/memory.max":      "max\n",
		"sys/fs/cgroup/system.slice/dunlin-agent.service/memory.high":     "400000000\n",
		"sys/fs/cgroup/system.slice/dunlin-agent.service/memory.current":  "30000000\n",
		"sys/fs/cgroup/system.slice/dunlin-agent.service/memory.stat":     "anon 1\ninactive_file 5000000\n",
		"sys/fs/cgroup/system.slice/dunlin-agent.service/memory.pressure": "some avg10=2.50 avg60=0.87 avg300=0.20 total=1\n",
		"sys/fs/cgroup/system.slice/dunlin-agent.service/memory.events":   "low 0\nhigh 7\nmax 2\noom 0\noom_kill 0\n",
		"sys/devices/platform/soc/soc:firmware/get_throttled":             "50005\n",
		"sys/devices/platform/soc@1/other:firmware/get_throttled":         "0\n",
		"sys/devices/system/cpu/cpufreq/policy0/scaling_cur_freq":         "600000\n",
		"sys/devices/system/cpu/cpufreq/policy0/scaling_max_freq":         "1500000\n",
		"sys/devices/system/cpu/cpufreq/policy0/scaling_governor":         "ondemand\n",
		"sys/devices/system/cpu/cpufreq/policy1/scaling_governor":         "ondemand\n", // without a clock
		"sys/block/mmcblk0/device/type":                                   "MMC\n",
		"sys/block/mmcblk0/device/life_time":                              "0x02 0x03\n",
		"sys/block/mmcblk0/device/pre_eol_info":                           "0x01\n",
		"sys/block/mmcblk0/stat":                                          "  1 2 3 4 5 6 2048 8 9 10 11\n",
		"sys/block/mmcblk1/device/type":                                   "SD\n",
		"sys/block/loop0/stat":                                            "  1 2 3 4 5 6 2048 8 9 10 11\n",
	})
	v := Health(root)
	if v.Root == nil || v.Root.Total <= 0 || v.Root.Free < 0 || v.Root.Free > v.Root.Total {
		t.Errorf("space %+v", v.Root)
	}
	v.Root = nil
	want := Vitals{
		TempC: ptr(51.2), Temps: []Temp{{"cpu", 48.85}, {"gpu", 51.2}},
		MemTotal: ptr(int64(3884360 << 10)), MemFree: ptr(int64(3000000 << 10)),
		Memory: &Memory{
			Limit: ptr(int64(400000000)), LimitFrom: "memory.high of system.slice/dunlin-agent.service", Used: ptr(int64(30000000)), Idle: ptr(int64(5000000)),
			Some10: ptr(1.53), Full10: ptr(0.4), Own10: ptr(2.5), Events: &MemoryEvents{High: 7, Max: 2},
		},
		Throttled: ptr(true), Capped: ptr(false), SoftLimit: ptr(false), LowVolt: ptr(true),
		LowBefore: ptr(true), Slowed: ptr(true), HotBefore: ptr(false),
		Clocks: []Freq{{"policy0", 600_000_000, 1_500_000_000, "ondemand"}},
		Cards: []Card{
			{Name: "mmcblk0", Kind: "MMC", Written: ptr(int64(2048 * 512)), Wear: ptr(30), Spare: "normal"},
			{Name: "mmcblk1", Kind: "SD"},
		},
	}
	if !reflect.DeepEqual(v, want) {
		t.Errorf("got %+v\nwant %+v", v, want)
	}
}

// The lines of a file of values that people read on their boards.
func TestThrottledSamples(t *testing.T) {
	text, err := os.ReadFile(shared.Dir(t, "data", "boards") + "/rpi-get_throttled-samples.txt")
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for line := range strings.Lines(string(text)) {
		value, says, ok := strings.Cut(strings.TrimSpace(line), "\t")
		if !ok || strings.HasPrefix(line, "#") {
			continue
		}
		n++
		v := Health(write(t, map[string]string{"sys/devices/platform/soc@107c000000/soc@107c000000:firmware/get_throttled": value + "\n"}))
		if v.Throttled == nil {
			t.Fatalf("%s is not read", value)
		}
		for what, got := range map[string]*bool{"under-voltage now": v.LowVolt, "throttled now": v.Throttled, "limit now": v.SoftLimit} {
			if *got != strings.Contains(says, what) {
				t.Errorf("%s (%s): %s is %v", value, says, what, *got)
			}
		}
		history := strings.Contains(says, "history")
		if got := *v.LowBefore || *v.Slowed || *v.HotBefore; got != history {
			t.Errorf("%s (%s): since boot %v", value, says, got)
		}
	}
	if n < 5 {
		t.Errorf("%d samples", n)
	}
}

// Without the firmware's file: the supply's alarm and the cooling devices.
func TestHealthWithoutFirmware(t *testing.T) {
	v := Health(write(t, map[string]string{
		"sys/class/hwmon/hwmon3/name":                 "rpi_volt\n",
		"sys/class/hwmon/hwmon3/in0_lcrit_alarm":      "1\n",
		"sys/class/hwmon/hwmon1/name":                 "coretemp\n",
		"sys/class/hwmon/hwmon1/temp1_input":          "61000\n",
		"sys/class/thermal/cooling_device0/type":      "pwm-fan\n",
		"sys/class/thermal/cooling_device0/cur_state": "3\n",
		"sys/class/thermal/cooling_device1/type":      "cpufreq-cpu0\n",
		"sys/class/thermal/cooling_device1/cur_state": "0\n",
		"sys/class/devfreq/17000000.gpu/cur_freq":     "306000000\n",
		"sys/class/devfreq/17000000.gpu/governor":     "nvhost_podgov\n",
		"sys/class/thermal/thermal_zone0/type":        "acpitz\n",
		"sys/class/thermal/thermal_zone0/temp":        "-44000\n",
		"proc/self/cgroup":                            "1:name=systemd:/\n0::/../../etc\n",
	}))
	v.Root = nil
	want := Vitals{
		TempC: ptr(61.0), Temps: []Temp{{"cpu", 61}}, LowVolt: ptr(true), Throttled: ptr(false),
		Clocks: []Freq{{"17000000.gpu", 306_000_000, 0, "nvhost_podgov"}},
	}
	if !reflect.DeepEqual(v, want) {
		t.Errorf("got %+v\nwant %+v", v, want)
	}
}

// The zones' names of real boards.
func TestZoneNames(t *testing.T) {
	root := shared.Dir(t, "data", "boards")
	for path, want := range map[string]string{
		"jetson-nano-2gb/sys/class/thermal/thermal_zone1/type": "cpu",
		"jetson-nano-2gb/sys/class/thermal/thermal_zone2/type": "gpu",
		"jetson-nano-2gb/sys/class/thermal/thermal_zone0/type": "ao",
		"procfs-mixed/sys/class/thermal/thermal_zone0/type":    "cpu",
	} {
		text, err := os.ReadFile(filepath.Join(root, path))
		if err != nil {
			t.Fatal(err)
		}
		if got := zoneName(string(text)); got != want {
			t.Errorf("%q: %q, want %q", text, got, want)
		}
	}
	for _, zone := range []string{"thermal_zone4", "thermal_zone5"} {
		text, err := os.ReadFile(filepath.Join(root, "jetson-nano-2gb/sys/class/thermal", zone, "type"))
		if err != nil || !noSensor[zoneName(string(text))] {
			t.Errorf("%q is taken for a temperature (%v)", text, err)
		}
	}
	if v := Health(filepath.Join(root, "jetson-nano-2gb")); v.TempC != nil {
		t.Errorf("zones without a temperature gave %v", *v.TempC)
	}
	if v := Health(filepath.Join(root, "procfs-mixed")); v.TempC == nil || *v.TempC != 49.925 {
		t.Errorf("temperature %v", v.TempC)
	}
}

// An Orin Nano's zones 2 to 4 answer EAGAIN to every read; its sample lists
// them. They are absent, and the others are there.
func TestHealthErrno(t *testing.T) {
	list, err := os.ReadFile(shared.Dir(t, "data", "boards", "jetson-orin-nano") + "/ERRNO")
	if err != nil {
		t.Fatal(err)
	}
	errnos := map[string]error{"EAGAIN": syscall.EAGAIN, "EINVAL": syscall.EINVAL}
	failing, files := map[string]error{}, map[string]string{}
	for line := range strings.Lines(string(list)) {
		path, errno, _ := strings.Cut(strings.TrimSpace(line), " ")
		failing[path], files[path] = errnos[errno], "0\n" // what a careless reader makes of it
	}
	if len(failing) < 3 {
		t.Fatalf("%d failing files", len(failing))
	}
	files["sys/class/thermal/thermal_zone0/temp"] = "47125\n"
	root := write(t, files)
	v := health(sensors{root, func(path string) ([]byte, error) {
		rel, err := filepath.Rel(root, path)
		if err != nil {
			t.Fatal(err)
		}
		if err := failing[rel]; err != nil {
			return nil, err
		}
		return read(path)
	}})
	if len(v.Temps) != 1 || v.Temps[0].C != 47.125 {
		t.Errorf("temperatures %+v", v.Temps)
	}
}

// A pipe that holds nothing answers EAGAIN for ever, as those zones do, and
// blocks whoever waits for it. Before read was one raw read, this hung.
func TestHealthNeverBlocks(t *testing.T) {
	root := write(t, map[string]string{"sys/class/thermal/thermal_zone0/type": "cpu-thermal\n", "proc/device-tree/x": ""})
	for _, name := range []string{
		"sys/class/thermal/thermal_zone0/temp", "proc/meminfo", "proc/cpuinfo", "proc/device-tree/compatible",
	} {
		path := filepath.Join(root, name)
		if err := syscall.Mkfifo(path, 0o600); err != nil {
			t.Fatal(err)
		}
		keep, err := os.OpenFile(path, os.O_RDWR, 0) // a writer, so that an empty pipe is EAGAIN and not its end
		if err != nil {
			t.Fatal(err)
		}
		defer keep.Close()
		if _, err := read(path); !errors.Is(err, syscall.EAGAIN) {
			t.Errorf("%s: %v, want EAGAIN", name, err)
		}
	}
	if v := Health(root); v.TempC != nil || v.Temps != nil || v.MemTotal != nil {
		t.Errorf("%+v", v)
	}
	if b := Detect(root); b.Known() || b.RAM != 0 {
		t.Errorf("%+v", b)
	}
}

// A board that tells nothing has no temperature, rather than one of zero.
func TestHealthAbsent(t *testing.T) {
	v := Health(t.TempDir())
	v.Root = nil // the file system that the test is on
	if !reflect.DeepEqual(v, Vitals{}) {
		t.Errorf("an empty root gave %+v", v)
	}
	if v := Health(filepath.Join(t.TempDir(), "none")); v.Root != nil {
		t.Errorf("a root that is not there has %+v", v.Root)
	}
}

// A root whose name looks like a pattern is still that root.
func TestHealthRootName(t *testing.T) {
	root := filepath.Join(t.TempDir(), "a[b]*?")
	dir := filepath.Join(root, "sys/class/thermal/thermal_zone0")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "temp"), []byte("50000\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	if v := Health(root); v.TempC == nil || *v.TempC != 50 {
		t.Errorf("temperature %v", v.TempC)
	}
}

func FuzzHealth(f *testing.F) {
	root := write(f, map[string]string{"sys/class/thermal/thermal_zone0/temp": "", "sys/devices/platform/soc/soc:firmware/get_throttled": ""})
	f.Add("48850\n", "50005", "MemTotal: 1 kB\n", "some avg10=0.00", "0x01 0x02", "0::/a/b")
	f.Add("-256000", "0xg", "MemTotal: 99999999999999 kB\n", "some avg10=NaN", "0x00 0x0c", "0::/../..")
	f.Fuzz(func(t *testing.T, temp, throttled, meminfo, psi, life, group string) {
		files := map[string]string{
			"thermal_zone0/temp": temp, "get_throttled": throttled, "proc/meminfo": meminfo, "pressure/memory": psi,
			"self/cgroup": group, "life_time": life, "stat": temp, "memory.max": temp, "memory.current": life,
			"memory.events": meminfo, "memory.limit_in_bytes": life,
		}
		v := health(sensors{root, func(path string) ([]byte, error) {
			for end, text := range files {
				if strings.HasSuffix(path, end) {
					return []byte(text), nil
				}
			}
			return nil, syscall.ENOENT
		}})
		if v.TempC != nil && (*v.TempC <= -40 || *v.TempC > 200) {
			t.Errorf("%v degrees", *v.TempC)
		}
		if v.MemTotal != nil && *v.MemTotal < 0 {
			t.Errorf("%d bytes", *v.MemTotal)
		}
		if m := v.Memory; m != nil && m.Some10 != nil && !(*m.Some10 >= 0 && *m.Some10 <= 100) {
			t.Errorf("%+v", m)
		}
		if n := lifeTime(life); n != nil && (*n < 10 || *n > 110) {
			t.Errorf("wear %d", *n)
		}
		if n := written(temp); n != nil && *n < 0 {
			t.Errorf("written %d", *n)
		}
	})
}
