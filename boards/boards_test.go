package boards

import (
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"

	"dunlin/internal/shared"
)

// The files of real boards; where each comes from is in SOURCES.md there.
func TestDetect(t *testing.T) {
	root := shared.Dir(t, "data", "boards")
	for _, c := range []struct{ board, name, compatible string }{
		{"rpi-5b", "Raspberry Pi 5 Model B Rev 1.0", "raspberrypi,5-model-b"},
		{"rpi-zero-2w-armhf", "Raspberry Pi Zero 2 W Rev 1.0", "raspberrypi,model-zero-2-w"},
		{"dtb-bcm2711-rpi-400", "Raspberry Pi 400", "raspberrypi,400"},
		{"rpi-4b-armhf-procfs", "Raspberry Pi 4 Model B", ""}, // by its revision code, c03111
		{"jetson-orin-nano", "NVIDIA Orin Nano Developer Kit", "nvidia,p3768-0000+p3767-0003"},
		{"jetson-agx-orin-64", "nvidia,p3737-0000+p3701-0005", "nvidia,p3737-0000+p3701-0005"},
		{"procfs-mixed", "unknown " + runtime.GOARCH, ""},
	} {
		b := Detect(filepath.Join(root, c.board))
		first := ""
		if len(b.Compatible) > 0 {
			first = b.Compatible[0]
		}
		if b.Name != c.name || first != c.compatible {
			t.Errorf("%s: %q, %q; want %q, %q", c.board, b.Name, first, c.name, c.compatible)
		}
	}
}

func TestPiRevision(t *testing.T) {
	for rev, want := range map[uint32]string{
		0xa020d3: "Raspberry Pi 3 Model B+", 0x902120: "Raspberry Pi Zero 2 W", 0x2902120: "Raspberry Pi Zero 2 W",
		0xd04170: "Raspberry Pi 5 Model B", 0x000e: "", 0xa00ff0: "Raspberry Pi",
	} {
		if got := piName(rev); got != want {
			t.Errorf("%x: %q, want %q", rev, got, want)
		}
	}
}

// write makes the files of a board below a new root.
func write(t *testing.T, files map[string]string) string {
	t.Helper()
	root := t.TempDir()
	for name, text := range files {
		path := filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return root
}

func TestHealth(t *testing.T) {
	root := write(t, map[string]string{
		"sys/class/thermal/thermal_zone0/temp":                     "48850\n",
		"sys/class/thermal/thermal_zone1/temp":                     "51200\n",
		"sys/class/thermal/thermal_zone2/temp":                     "99000\n", // answers EAGAIN below
		"sys/class/thermal/thermal_zone3/temp":                     "-256000\n",
		"proc/meminfo":                                             "MemTotal:        3884360 kB\nMemFree: 1 kB\nMemAvailable:    3000000 kB\n",
		"sys/devices/platform/soc/soc:firmware/get_throttled":      "50005\n",
		"sys/devices/platform/soc/soc:firmware/unrelated":          "",
		"sys/devices/platform/soc@1/other:firmware/get_throttled":  "0\n",
		"sys/class/thermal/cooling_device0/cur_state":              "0\n",
		"sys/class/thermal/thermal_zone0/type":                     "cpu-thermal\n",
		"sys/class/thermal/thermal_zone4/temp":                     "not a number\n",
		"sys/class/thermal/thermal_zone5/mode":                     "disabled\n",
		"sys/class/thermal/thermal_zone6/temp":                     "",
		"proc/device-tree/model":                                   "Raspberry Pi 4 Model B\x00",
		"proc/unrelated":                                           "",
		"sys/class/dmi/id/sys_vendor":                              "Acme\n",
		"sys/class/dmi/id/product_name":                            "Box 1\n",
		"sys/class/thermal/thermal_zone7/temp":                     "2147483647000\n",
		"sys/class/thermal/thermal_zone8/temp":                     "-44000\n",
		"sys/devices/platform/soc/soc:firmware/get_throttled_note": "",
	})
	v := health(root, func(path string) ([]byte, error) {
		if strings.Contains(path, "zone2") {
			return nil, syscall.EAGAIN
		}
		return read(path)
	})
	if v.TempC == nil || *v.TempC != 51.2 {
		t.Errorf("temperature %v, want 51.2", v.TempC)
	}
	if v.MemTotal == nil || *v.MemTotal != 3884360<<10 || v.MemFree == nil || *v.MemFree != 3000000<<10 {
		t.Errorf("memory %v of %v", v.MemFree, v.MemTotal)
	}
	if v.LowVolt == nil || !*v.LowVolt || !*v.Throttled || !*v.LowBefore || !*v.Slowed {
		t.Errorf("throttling %+v", v)
	}
}

// A board that tells nothing has no temperature, rather than one of zero.
func TestHealthAbsent(t *testing.T) {
	if v := Health(t.TempDir()); v != (Vitals{}) {
		t.Errorf("an empty root gave %+v", v)
	}
}

// Before read was one raw read, a pipe that holds nothing blocked it.
func TestReadNeverBlocks(t *testing.T) {
	path := filepath.Join(t.TempDir(), "pipe")
	if err := syscall.Mkfifo(path, 0o600); err != nil {
		t.Fatal(err)
	}
	keep, err := os.OpenFile(path, os.O_RDWR, 0) // a writer, so that an empty pipe is EAGAIN and not its end
	if err != nil {
		t.Fatal(err)
	}
	defer keep.Close()
	if _, err := read(path); err == nil {
		t.Error("read something from an empty pipe")
	}
}

func TestDMI(t *testing.T) {
	root := write(t, map[string]string{"sys/class/dmi/id/sys_vendor": "Acme\n", "sys/class/dmi/id/product_name": "Box 1\n"})
	if b := Detect(root); b.Name != "Acme Box 1" {
		t.Errorf("name %q", b.Name)
	}
}
