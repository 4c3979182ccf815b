package boards

import (
	"os"
	"path/filepath"
	"reflect"
	"runtime"
	"slices"
	"strings"
	"testing"

	"dunlin/internal/shared"
)

// samples is what each folder of real files must be taken for. Where the
// files come from is in SOURCES.md beside them.
var samples = map[string]Board{
	"rpi-zero-w":               {Name: "unknown Raspberry Pi (ARM1176)", SoC: "bcm2835", CPU: "ARM1176", Seen: []string{"ARM1176"}}, // cpuinfo alone, cut off before its revision
	"rpi-zero-2w-armhf":        {Name: "Raspberry Pi Zero 2 W Rev 1.0", ID: "rpi-zero-2w", SoC: "bcm2837", CPU: "Cortex-A53", Revision: "902120", RAM: 512 << 20, Features: []string{"neon"}},
	"dtb-bcm2837-rpi-zero-2-w": {Name: "Raspberry Pi Zero 2 W", ID: "rpi-zero-2w", SoC: "bcm2837"},
	"dtb-bcm2837-rpi-3-b":      {Name: "Raspberry Pi 3 Model B", ID: "rpi-3b", SoC: "bcm2837"},
	"dtb-bcm2837-rpi-3-b-plus": {Name: "Raspberry Pi 3 Model B+", ID: "rpi-3b-plus", SoC: "bcm2837"},
	"rpi-3b-plus":              {Name: "Raspberry Pi 3 Model B Plus Rev 1.3", ID: "rpi-3b-plus", SoC: "bcm2837", CPU: "Cortex-A53", Revision: "a020d3", RAM: 1 << 30, Features: []string{"asimd"}},
	"rpi-4b":                   {Name: "Raspberry Pi 4 Model B Rev 1.5", ID: "rpi-4b", SoC: "bcm2711", CPU: "Cortex-A72", Revision: "d03115", RAM: 8 << 30, Features: []string{"asimd"}},
	"rpi-4b-armhf":             {Name: "Raspberry Pi 4 Model B Rev 1.2", ID: "rpi-4b", SoC: "bcm2711", CPU: "Cortex-A72", Revision: "c03112", RAM: 4 << 30, Features: []string{"neon"}},
	"rpi-4b-armhf-procfs":      {Name: "Raspberry Pi 4 Model B Rev 1.1", ID: "rpi-4b", SoC: "bcm2711", CPU: "Cortex-A72", Revision: "c03111", RAM: 4 << 30, Features: []string{"neon"}},
	"dtb-bcm2711-rpi-4-b":      {Name: "Raspberry Pi 4 Model B", ID: "rpi-4b", SoC: "bcm2711"},
	"dtb-bcm2711-rpi-400":      {Name: "Raspberry Pi 400", ID: "rpi-400", SoC: "bcm2711"},
	"dtb-bcm2711-rpi-cm4-io":   {Name: "Raspberry Pi Compute Module 4 IO Board", ID: "rpi-cm4", SoC: "bcm2711"},
	"rpi-5b":                   {Name: "Raspberry Pi 5 Model B Rev 1.0", ID: "rpi-5", SoC: "bcm2712", CPU: "Cortex-A76", Revision: "d04170", RAM: 8 << 30, Features: []string{"asimd", "asimdhp", "asimddp"}},
	"dtb-tegra210-p3450-0000":  {Name: "NVIDIA Jetson Nano Developer Kit", ID: "jetson-nano", SoC: "tegra210", Revision: "p3450-0000", RAM: 4 << 30},
	"jetson-nano-2gb":          {Name: "unknown board (" + runtime.GOARCH + ")", Seen: []string{runtime.GOARCH}}, // names of thermal zones alone
	"jetson-orin-nano":         {Name: "NVIDIA Orin Nano Developer Kit", ID: "jetson-orin-nano", SoC: "tegra234", Revision: "p3767-0003", RAM: 8 << 30, System: "35.3.1"},
	"jetson-agx-orin-64":       {Name: "NVIDIA Jetson AGX Orin 64GB", ID: "jetson-agx-orin", SoC: "tegra234", Revision: "p3701-0005", RAM: 64 << 30},
	"jetson-agx-orin-jp7":      {Name: "NVIDIA Jetson AGX Orin Developer Kit", ID: "jetson-agx-orin", SoC: "tegra234", Revision: "p3701-0000", System: "39.2.0"},
	"jetson-agx-thor":          {Name: "NVIDIA Jetson AGX Thor Developer Kit", ID: "jetson-thor", SoC: "tegra264", Revision: "p3834-0008", System: "38.2.0"},
	"procfs-mixed":             {Name: "unknown board (" + runtime.GOARCH + ")", Seen: []string{runtime.GOARCH}}, // a mixture of many machines' sensors
}

func TestDetectSamples(t *testing.T) {
	root := shared.Dir(t, "data", "boards")
	dirs, err := os.ReadDir(root)
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range dirs {
		if !d.IsDir() {
			continue
		}
		want, ok := samples[d.Name()]
		if !ok {
			t.Errorf("%s: a sample that this test does not know", d.Name())
			continue
		}
		got := Detect(filepath.Join(root, d.Name()))
		got.Compatible = nil // as in the file
		if !reflect.DeepEqual(got, want) {
			t.Errorf("%s:\n got %+v\nwant %+v", d.Name(), got, want)
		}
	}
}

// The boards of which only the strings in their files are known.
func TestDetectByStrings(t *testing.T) {
	const zeroW = "processor\t: 0\nmodel name\t: ARMv6-compatible processor rev 7 (v6l)\nFeatures\t: half thumb fastmult vfp edsp java tls\n" +
		"CPU implementer\t: 0x41\nCPU part\t: 0xb76\n\nHardware\t: BCM2835\nRevision\t: 29000c1\n"
	for _, c := range []struct {
		name  string
		files map[string]string
		want  Board
	}{
		{"Zero W, out of warranty", map[string]string{"proc/cpuinfo": zeroW}, Board{
			Name: "Raspberry Pi Zero W Rev 1.1", ID: "rpi-zero-w", SoC: "bcm2835", CPU: "ARM1176", Revision: "9000c1", RAM: 512 << 20,
		}},
		{"Pi 5 16 GB, code in the device tree", map[string]string{
			"proc/device-tree/compatible":            "raspberrypi,5-model-b\x00brcm,bcm2712\x00",
			"proc/device-tree/system/linux,revision": "\x00\xe0\x41\x71",
		}, Board{Name: "Raspberry Pi 5 Model B Rev 1.1", ID: "rpi-5", SoC: "bcm2712", Revision: "e04171", RAM: 16 << 30}},
		{"a Pi of the future", map[string]string{"proc/device-tree/compatible": "raspberrypi,6-model-b\x00brcm,bcm2799\x00"}, Board{
			Name: "unknown board (raspberrypi,6-model-b, brcm,bcm2799)", SoC: "bcm2799", Seen: []string{"raspberrypi,6-model-b", "brcm,bcm2799"},
		}},
		{"PC", map[string]string{
			"sys/class/dmi/id/sys_vendor": "Intel(R) Client Systems\n", "sys/class/dmi/id/product_name": "NUC8i5BEH\n",
			"sys/class/dmi/id/board_name": "NUC8BEB\n", "proc/meminfo": "MemTotal:  16000000 kB\n",
			"proc/cpuinfo": "processor : 0\nmodel name : Intel(R) Core(TM) i5-8259U CPU @ 2.30GHz\nflags : fpu sse4_1 fma avx2 vmx\n",
		}, Board{
			Name: "Intel(R) Client Systems NUC8i5BEH", ID: "pc", CPU: "Intel(R) Core(TM) i5-8259U CPU @ 2.30GHz", RAM: 16000000 << 10,
			Features: []string{"sse4_1", "avx2", "fma"},
		}},
		{"virtual board", map[string]string{"proc/device-tree/compatible": "linux,dummy-virt\x00", "proc/device-tree/model": "linux,dummy-virt\x00"}, Board{
			Name: "QEMU virtual machine", ID: "virt",
		}},
		{"some other board", map[string]string{
			"proc/device-tree/compatible": "radxa,rock-5b\x00rockchip,rk3588\x00", "proc/device-tree/model": "Radxa ROCK 5B\x00",
			"proc/cpuinfo": "CPU implementer : 0x41\nCPU part : 0xd05\nFeatures : fp asimd asimddp\n",
		}, Board{
			Name: "unknown board (Radxa ROCK 5B, radxa,rock-5b, rockchip,rk3588, Cortex-A55)", CPU: "Cortex-A55", Features: []string{"asimd", "asimddp"},
			Seen: []string{"Radxa ROCK 5B", "radxa,rock-5b", "rockchip,rk3588", "Cortex-A55"},
		}},
	} {
		got := Detect(write(t, c.files))
		got.Compatible = nil
		if !reflect.DeepEqual(got, c.want) {
			t.Errorf("%s:\n got %+v\nwant %+v", c.name, got, c.want)
		}
		if got.Known() != (got.Seen == nil) {
			t.Errorf("%s: known is %v", c.name, got.Known())
		}
	}
}

// Every compatible string of the list of Jetsons belongs to one family.
func TestJetsonList(t *testing.T) {
	for compatible, want := range map[string]string{
		"nvidia,p3768-0000+p3767-0000": "jetson-orin-nx", "nvidia,p3768-0000+p3767-0001": "jetson-orin-nx",
		"nvidia,p3768-0000+p3767-0000-super": "jetson-orin-nx", "nvidia,p3509-0000+p3767-0000": "jetson-orin-nx",
		"nvidia,p3768-0000+p3767-0003": "jetson-orin-nano", "nvidia,p3768-0000+p3767-0004": "jetson-orin-nano",
		"nvidia,p3768-0000+p3767-0005-super": "jetson-orin-nano", "nvidia,p9999-0000+p3767-0005": "jetson-orin-nano",
		"nvidia,p3737-0000+p3701-0000": "jetson-agx-orin", "nvidia,p3737-0000+p3701-0008": "jetson-agx-orin",
		"nvidia,p3737-0000+p3701-0099": "jetson-agx-orin", // a variant after the table
		"nvidia,p3509-0000+p3668-0000": "jetson-xavier-nx", "nvidia,p3449-0000+p3668-0003": "jetson-xavier-nx",
		"nvidia,p2972-0000": "jetson-agx-xavier", "nvidia,jetson-xavier": "jetson-agx-xavier",
		"nvidia,p2771-0000": "jetson-tx2", "nvidia,quill": "jetson-tx2",
		"nvidia,p3450-0002": "jetson-nano", "nvidia,jetson-nano": "jetson-nano",
		"nvidia,p3971-0050+p3834-0005": "jetson-thor", "nvidia,p3971-0089+p3834-0008": "jetson-thor",
		"nvidia,p1234-0000": "", "nvidia,": "", "acme,p3450-0000": "",
	} {
		if got := (clues{compatible: []string{compatible}}).board(); got.ID != want {
			t.Errorf("%s: %q (%s), want %q", compatible, got.ID, got.Name, want)
		}
	}
}

func TestPiRevision(t *testing.T) {
	for rev, want := range map[uint32]string{
		0xa020d3: "Raspberry Pi 3 Model B+ Rev 1.3", 0x902120: "Raspberry Pi Zero 2 W Rev 1.0", 0x2902120: "Raspberry Pi Zero 2 W Rev 1.0",
		0xd04170: "Raspberry Pi 5 Model B Rev 1.0", 0xc03130: "Raspberry Pi 400 Rev 1.0", 0xb03140: "Raspberry Pi Compute Module 4 Rev 1.0",
		0x000e: "", 0xa00ff0: "",
	} {
		b := clues{revision: rev}.board()
		if want == "" {
			want = "unknown board (" + runtime.GOARCH + ")"
		}
		if b.Name != want {
			t.Errorf("%x: %q, want %q", rev, b.Name, want)
		}
	}
}

// What this machine is is unknown to the test, but its features are its CPU's.
func TestDetectHere(t *testing.T) {
	b := Detect("/")
	if b.Name == "" || !slices.Equal(b.Features, features()) {
		t.Errorf("%+v", b)
	}
}

// A core count for which cpuinfo is longer than what is kept of it.
func TestLongCPUInfo(t *testing.T) {
	text := strings.Repeat("processor\t: 0\nFeatures\t: fp asimd\nCPU implementer\t: 0x41\nCPU part\t: 0xd08\n\n", 3000) + "Revision\t: d03115\n"
	b := Detect(write(t, map[string]string{"proc/cpuinfo": text}))
	if b.Name != "Raspberry Pi 4 Model B Rev 1.5" || b.CPU != "Cortex-A72" {
		t.Errorf("%+v", b)
	}
}

// write makes the files of a board below a new root.
func write(t testing.TB, files map[string]string) string {
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

// Whatever the files say, names stay short and printable.
func FuzzDetect(f *testing.F) {
	f.Add("raspberrypi,5-model-b\x00brcm,bcm2712\x00", "Raspberry Pi 5\x00", "Revision\t: d04170\n", "Acme", "# R36 (release), REVISION: 4.3, GCID: 1")
	f.Add("nvidia,p3768-0000+p3767-0003-super\x00", "", "CPU part : 0xd42\nCPU implementer : 0x41\n", "", "")
	f.Fuzz(func(t *testing.T, compatible, model, cpu, dmi, l4t string) {
		if len(compatible)+len(model)+len(cpu)+len(dmi)+len(l4t) > 1<<14 {
			return
		}
		c := clues{compatible: stringList([]byte(compatible), nil), cpu: parseCPUInfo(cpu), l4t: printable(l4t)}
		if m := stringList([]byte(model), nil); len(m) > 0 {
			c.model = m[0]
		}
		if s := printable(dmi); s != "" {
			c.dmi = []string{s}
		}
		c.revision = c.cpu.revision
		b := c.board()
		if b.Name == "" || len(b.Name) > 1024 || b.RAM < 0 {
			t.Errorf("%+v", b)
		}
		for _, r := range b.Name + b.SoC + b.CPU + b.System {
			if r < ' ' || r > '~' {
				t.Errorf("%q in %+v", r, b)
			}
		}
	})
}
