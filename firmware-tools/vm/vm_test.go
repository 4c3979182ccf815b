package vm

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"

	"dunlin/firmware-tools/vm/guest"
)

// unpack reads what cpio writes, by the kernel's description of the format.
func unpack(t *testing.T, data []byte) (names []string, files map[string]string, modes map[string]uint64) {
	t.Helper()
	files, modes = map[string]string{}, map[string]uint64{}
	for at := 0; ; {
		head := data[at:]
		if !bytes.HasPrefix(head, []byte("070701")) {
			t.Fatalf("no header at %d", at)
		}
		field := func(i int) uint64 {
			n, err := strconv.ParseUint(string(head[6+8*i:14+8*i]), 16, 32)
			if err != nil {
				t.Fatal(err)
			}
			return n
		}
		size, nameSize := int(field(6)), int(field(11))
		name := string(head[110 : 110+nameSize-1])
		body := (at + 110 + nameSize + 3) &^ 3
		if name == "TRAILER!!!" {
			return names, files, modes
		}
		names = append(names, name)
		files[name], modes[name] = string(data[body:body+size]), field(1)
		at = (body + size + 3) &^ 3
	}
}

func TestCPIO(t *testing.T) {
	in := Files{"init": {Data: []byte("program"), Mode: 0o755}, "a/b/c": {Data: []byte("x")}, "a/empty/": {}, "a/b/d": {}}
	data := cpio(in)
	if !bytes.Equal(data, cpio(in)) {
		t.Error("the same files gave other bytes")
	}
	names, files, modes := unpack(t, data)
	if want := []string{"a", "a/b", "a/b/c", "a/b/d", "a/empty", "init"}; !reflect.DeepEqual(names, want) {
		t.Errorf("names %v, want %v", names, want) // a folder before what is in it, and once
	}
	if files["init"] != "program" || files["a/b/c"] != "x" {
		t.Errorf("contents: %v", files)
	}
	if modes["init"] != 0o100755 || modes["a/b/c"] != 0o100644 || modes["a/empty"] != 0o040755 {
		t.Errorf("modes: %v", modes)
	}
}

func TestDependency(t *testing.T) {
	text := "linux-image-arm64\n  Depends: linux-image-6.1.0-56-arm64\n  Suggests: linux-image-6.1.0-99-arm64\n |Depends: other-arm64\n"
	if got := dependency(text, "arm64"); got != "linux-image-6.1.0-56-arm64" {
		t.Errorf("%q", got)
	}
	if got := dependency(text, "cloud-arm64"); got != "" {
		t.Errorf("%q", got)
	}
}

// TestFind: the name of one flavour ends as another's does.
func TestFind(t *testing.T) {
	dir := t.TempDir()
	for _, v := range []string{"6.1.0-56-cloud-arm64", "6.1.0-9-arm64", "6.1.0-56-rt-arm64"} {
		boot := filepath.Join(dir, "arm64", "linux-image-"+v, "boot")
		if err := errors.Join(os.MkdirAll(boot, 0o755), os.WriteFile(filepath.Join(boot, "vmlinuz-"+v), nil, 0o644)); err != nil {
			t.Fatal(err)
		}
	}
	for flavour, want := range map[Flavour]string{Cloud: "6.1.0-56-cloud-arm64", Generic: "6.1.0-9-arm64", ARMHF: ""} {
		if k, ok := flavour.find(dir); k.Version != want || ok != (want != "") {
			t.Errorf("%v: %q %v, want %q", flavour, k.Version, ok, want)
		}
	}
}

// module makes a module's file with that .modinfo: an ELF with two sections.
func module(info string) []byte {
	names := "\x00.modinfo\x00.shstrtab\x00"
	h := elf.Header64{
		Ident: [16]byte{0x7f, 'E', 'L', 'F', byte(elf.ELFCLASS64), byte(elf.ELFDATA2LSB), byte(elf.EV_CURRENT)},
		Type:  uint16(elf.ET_REL), Machine: uint16(elf.EM_AARCH64), Version: 1, Ehsize: 64, Shentsize: 64, Shnum: 3, Shstrndx: 2,
		Shoff: uint64(64 + len(info) + len(names)),
	}
	var b bytes.Buffer
	_ = binary.Write(&b, binary.LittleEndian, h) // a bytes.Buffer takes everything
	b.WriteString(info + names)
	for _, s := range []elf.Section64{
		{},
		{Name: 1, Type: uint32(elf.SHT_PROGBITS), Off: 64, Size: uint64(len(info)), Addralign: 1},
		{Name: 10, Type: uint32(elf.SHT_STRTAB), Off: uint64(64 + len(info)), Size: uint64(len(names)), Addralign: 1},
	} {
		_ = binary.Write(&b, binary.LittleEndian, s)
	}
	return b.Bytes()
}

func TestModules(t *testing.T) {
	k := Kernel{Dir: t.TempDir(), Version: "6.1"}
	dir := filepath.Join(k.Dir, "lib/modules/6.1")
	files := map[string][]byte{
		"modules.builtin":                 []byte("kernel/drivers/tty/pl011.ko\n"),
		"kernel/fs/ext4/ext4.ko":          module("license=GPL\x00depends=jbd2,mbcache\x00softdep=pre: crypto-crc32c post: late\x00"),
		"kernel/fs/jbd2/jbd2.ko":          module("depends=\x00"),
		"kernel/fs/mbcache.ko":            module("depends=pl011\x00"),
		"kernel/crypto/crc32c_generic.ko": module("alias=crypto-crc32c\x00"),
		"kernel/x/a-b.ko":                 module("depends=c_d\x00"),
		"kernel/x/c-d.ko":                 module("depends=a_b\x00"),
		"kernel/x/lost.ko":                module("depends=nowhere\x00"),
		"kernel/x/torn.ko":                []byte("\x7fELF"),
		"kernel/x/late.ko":                module(""),
	}
	for name, data := range files {
		path := filepath.Join(dir, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, data, 0o644)); err != nil {
			t.Fatal(err)
		}
	}
	m, err := openModules(k)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"ext4", "pl011", "jbd2"} {
		if err := m.add(name); err != nil {
			t.Fatal(err)
		}
	}
	if want := []string{"jbd2", "mbcache", "crc32c_generic", "ext4"}; !slices.Equal(m.order, want) {
		t.Errorf("order %v, want %v", m.order, want)
	}
	for name, want := range map[string]string{
		"nothing": "this kernel has none", "lost": "module nowhere", "a-b": "needs itself", "torn": "module torn",
	} {
		if err := m.add(name); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", name, err, want)
		}
	}
}

func FuzzModuleNeeds(f *testing.F) {
	f.Add(module("depends=a,b\x00softdep=pre: c\x00"))
	f.Add([]byte("\x7fELF\x02\x01\x01"))
	f.Fuzz(func(t *testing.T, data []byte) {
		n, err := moduleNeeds(data)
		if total := len(n.hard) + len(n.soft); err == nil && total > len(data) {
			t.Errorf("%d needs of %d bytes", total, len(data))
		}
	})
}

func TestUnit(t *testing.T) {
	s, err := Unit("[Unit]\nExecStart=/no\n[Service]\n# User=ghost\nExecStart=/usr/bin/a run\nUser=dunlin\nStateDirectory=dunlin\nWatchdogSec=30\nRestartSec=500ms\nTimeoutStartSec=3min\nTimeoutStopSec=20s\n[Install]\nRestartSec=9\n")
	want := guest.Service{Exec: []string{"/usr/bin/a", "run"}, User: serviceUser, State: "/var/lib/dunlin", WatchdogMS: 30_000, RestartMS: 500, StartMS: 180_000, StopMS: 20_000}
	if err != nil || !reflect.DeepEqual(s, want) {
		t.Errorf("%+v %v, want %+v", s, err, want)
	}
	for _, bad := range []string{"[Service]\nUser=x\n", "[Service]\nExecStart=/a %i\n", "[Service]\nExecStart=/a\nWatchdogSec=soon\n", "[Service]\nExecStart=/a\nRestartSec=5 fortnights\n"} {
		if _, err := Unit(bad); err == nil {
			t.Errorf("%q was taken", bad)
		}
	}
	if s := Agent(); s.WatchdogMS == 0 || s.User == 0 || s.State != "/var/lib/dunlin" || s.Exec[0] != "/usr/bin/dunlin-agent" {
		t.Errorf("the agent's unit: %+v", s)
	}
}

func TestReachAddresses(t *testing.T) {
	for addr, ok := range map[string]bool{
		"127.0.0.1:7070": true, "hub.example:443": true, "hub.example": false, "[::1]:80": false, "a:0": false, "a:70000": false, "a:x": false,
	} {
		if _, _, err := splitReach(addr); (err == nil) != ok {
			t.Errorf("%s: %v", addr, err)
		}
	}
}

func TestBoards(t *testing.T) {
	for _, b := range Boards() {
		if got, err := Named(b.Name); err != nil || !reflect.DeepEqual(got, b) {
			t.Errorf("%s: %+v %v", b.Name, got, err)
		}
	}
	if _, err := Named("pi9"); err == nil || !strings.Contains(err.Error(), "zero2w") {
		t.Errorf("%v: want the names there are", err)
	}
}

// TestNoQEMU: whoever lacks a program is told what brings it.
func TestNoQEMU(t *testing.T) {
	b, err := Named("virt")
	if err != nil {
		t.Fatal(err)
	}
	b.QEMU = "qemu-system-that-nobody-has"
	_, err = New(t.Context(), b, Config{})
	var missing *ToolError
	if !errors.As(err, &missing) || !errors.Is(err, ErrNoTool) || missing.Hint() != "apt-get install qemu-system-arm" {
		t.Errorf("%v", err)
	}
}

// TestNoKernel: where apt-get cannot help, the hint says what can.
func TestNoKernel(t *testing.T) {
	t.Setenv("PATH", t.TempDir())
	dir := t.TempDir()
	_, err := Flavour{"sparc", "sparc"}.Fetch(t.Context(), dir)
	var e *KernelError
	if !errors.As(err, &e) || !strings.Contains(e.Hint(), filepath.Join(dir, "sparc", "linux-image-VERSION-sparc")) {
		t.Errorf("%v", err)
	}
}

func TestMakeDisk(t *testing.T) {
	debugfs, err := tool("debugfs", "e2fsprogs")
	if err != nil {
		t.Skip(err)
	}
	image := filepath.Join(t.TempDir(), "disk.img")
	if err := MakeDisk(image, 8, Files{"etc/a.toml": {Data: []byte("x = 1\n"), Mode: 0o600}, "var/lib/": {}}); err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command(debugfs, "-R", "cat /etc/a.toml", image).Output()
	if err != nil || string(out) != "x = 1\n" {
		t.Errorf("%v: %q", err, out)
	}
	out, err = exec.Command(debugfs, "-R", "stat /etc/a.toml", image).Output()
	if err != nil || !strings.Contains(string(out), "Mode:  0600") {
		t.Errorf("%v: %s", err, out)
	}
	out, err = exec.Command(debugfs, "-R", "stat /var/lib", image).Output()
	if err != nil || !strings.Contains(string(out), "Type: directory") {
		t.Errorf("%v: %s", err, out)
	}
	if err := MakeDisk(image, 1, Files{"big": {Data: bytes.Repeat([]byte{1}, 4<<20)}}); err == nil || !strings.Contains(err.Error(), "make disk") {
		t.Errorf("4 MB on a disk of 1 MB: %v", err)
	}
}

// TestCheckDisk: 700 MB are no card, but a disk.
func TestCheckDisk(t *testing.T) {
	image := filepath.Join(t.TempDir(), "disk.img")
	card, err := Named("pi3")
	disk, err2 := Named("virt")
	if err := errors.Join(err, err2, os.WriteFile(image, nil, 0o644)); err != nil {
		t.Fatal(err)
	}
	for size, want := range map[int64]string{0: "-s 1M", 700 << 20: "-s 1024M", 256 << 20: ""} {
		if err := os.Truncate(image, size); err != nil {
			t.Fatal(err)
		}
		err := card.CheckDisk(image)
		if bad, ok := errors.AsType[*DiskError](err); ok != (want != "") || ok && !strings.Contains(bad.Hint(), want) {
			t.Errorf("%d bytes: %v", size, err)
		}
		if err := disk.CheckDisk(image); err != nil {
			t.Error(err)
		}
	}
}
