package image

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	diskfs "github.com/diskfs/go-diskfs"
	"github.com/diskfs/go-diskfs/disk"
	"github.com/diskfs/go-diskfs/filesystem"
	"github.com/diskfs/go-diskfs/partition/mbr"

	"dunlin/firmware-tools/deb"
	"dunlin/sync/wire"
)

// need finds a program of another's making that checks what was written.
func need(t testing.TB, name, from string) string {
	t.Helper()
	for _, dir := range []string{"", "/usr/sbin/", "/sbin/"} {
		if path, err := exec.LookPath(dir + name); err == nil {
			return path
		}
	}
	if os.Getenv("CI") != "" {
		t.Fatalf("%s is missing: apt-get install %s", name, from)
	}
	t.Skipf("%s is missing: apt-get install %s", name, from)
	return ""
}

func output(t testing.TB, name string, args ...string) string {
	t.Helper()
	out, err := exec.Command(name, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
	return string(out)
}

const (
	mib       = 1 << 20
	bootStart = 4 * mib
	bootSize  = 160 * mib // below 128 MiB the library makes a FAT32 that is none
	rootSize  = 64 * mib
	kernelWas = "console=serial0,115200 console=tty1 root=PARTUUID=4e639091-02 rootfstype=ext4 fsck.repair=yes rootwait quiet init=/usr/lib/raspberrypi-sys-mods/firstboot"
)

// contents are the files of an image, by path without a leading slash.
type contents map[string]string

func osRelease(version int, codename string) string {
	return fmt.Sprintf("PRETTY_NAME=\"Debian GNU/Linux %d (%s)\"\nID=debian\nVERSION_CODENAME=%s\n", version, codename, codename)
}

var (
	bookwormBoot = contents{"cmdline.txt": kernelWas + "\n", "config.txt": "dtparam=audio=on\n", "issue.txt": "Raspberry Pi reference 2025-05-13\n"}
	bookwormRoot = contents{"usr/lib/os-release": osRelease(12, "bookworm"), "usr/lib/ld-linux-aarch64.so.1": "\x7fELF"}
	trixieBoot   = contents{
		"cmdline.txt": kernelWas + "\n", "config.txt": "dtparam=audio=on\n", "meta-data": "# meta-data\ninstance-id: rpi-image\n",
		"user-data": "#cloud-config\n\n# hostname: raspberrypi\n# users:\n", "network-config": "# This file contains the network configuration\n",
	}
	trixieRoot = contents{"usr/lib/os-release": osRelease(13, "trixie"), "usr/bin/cloud-init": "#!/usr/bin/python3\n", "usr/lib/ld-linux-aarch64.so.1": "\x7fELF"}
)

// makeImage makes the image of a card. With mtools the boot partition is made
// as the image's own makers do it, by mkfs.vfat, with names in short form.
func makeImage(t testing.TB, boot, root contents, mtools bool) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "raspios.img")
	d, err := diskfs.Create(path, bootStart+bootSize+rootSize+mib, diskfs.SectorSizeDefault)
	if err != nil {
		t.Fatal(err)
	}
	err = d.Partition(&mbr.Table{LogicalSectorSize: 512, PhysicalSectorSize: 512, Partitions: []*mbr.Partition{
		{Index: 1, Type: mbr.Fat32LBA, Start: bootStart / 512, Size: bootSize / 512},
		{Index: 2, Type: mbr.Linux, Start: (bootStart + bootSize) / 512, Size: rootSize / 512},
	}})
	if err != nil {
		t.Fatal(err)
	}
	fill(t, d, 2, filesystem.TypeExt4, root)
	if !mtools {
		fill(t, d, 1, filesystem.TypeFat32, boot)
	}
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	if mtools {
		output(t, need(t, "mkfs.vfat", "dosfstools"), "-F", "32", "-n", "bootfs", "--offset", fmt.Sprint(bootStart/512), path, fmt.Sprint(bootSize/1024))
		for name, text := range boot {
			from := filepath.Join(t.TempDir(), name)
			if err := os.WriteFile(from, []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
			output(t, need(t, "mcopy", "mtools"), "-i", path+"@@4M", from, "::"+name)
		}
	}
	return path
}

func fill(t testing.TB, d *disk.Disk, part int, kind filesystem.Type, files contents) {
	t.Helper()
	fs, err := d.CreateFilesystem(disk.FilesystemSpec{Partition: part, FSType: kind, VolumeLabel: "fs"})
	if err != nil {
		t.Fatal(err)
	}
	for name, text := range files {
		if dir := filepath.Dir(name); dir != "." {
			if err := fs.Mkdir(dir); err != nil {
				t.Fatal(err)
			}
		}
		f, err := fs.OpenFile(name, os.O_CREATE|os.O_RDWR)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := f.Write([]byte(text)); err != nil {
			t.Fatal(err)
		}
		if err := f.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// checked holds that other people's programs find both file systems sound, and
// returns the boot partition's files as mtools reads them.
func checked(t testing.TB, path string) func(name string) string {
	t.Helper()
	image, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer image.Close()
	part := func(name string, from, size int64) string {
		out, err := os.Create(filepath.Join(t.TempDir(), name))
		if err != nil {
			t.Fatal(err)
		}
		defer out.Close()
		if err := copySparse(t.Context(), out, io.NewSectionReader(image, from, size), size, func(int64, int64) {}); err != nil {
			t.Fatal(err)
		}
		return out.Name()
	}
	output(t, need(t, "fsck.vfat", "dosfstools"), "-n", part("boot", bootStart, bootSize))
	root := part("root", bootStart+bootSize, rootSize)
	output(t, need(t, "e2fsck", "e2fsprogs"), "-fn", root)
	if text := output(t, need(t, "debugfs", "e2fsprogs"), "-R", "cat /usr/lib/os-release", root); !strings.Contains(text, "VERSION_CODENAME") {
		t.Errorf("os-release: %s", text)
	}
	mtype := need(t, "mtype", "mtools")
	return func(name string) string {
		t.Helper()
		return output(t, mtype, "-i", path+"@@4M", "::"+name)
	}
}

func listed(t testing.TB, path string) string {
	t.Helper()
	return output(t, need(t, "mdir", "mtools"), "-b", "-i", path+"@@4M", "::")
}

// agentFor writes what passes for a program of dunlin's: the head of one for
// Linux, what Go's linker says of it (debug/buildinfo), and ballast.
func agentFor(t testing.TB, program, goarch string, size int) string {
	t.Helper()
	const data, at = 64 + 56, 1 << 20 // where the one segment begins: in the file, in memory
	mod := fmt.Sprintf("%016d"+"path\tdunlin/cmd/%s\nbuild\tCGO_ENABLED=0\nbuild\tGOARCH=%s\nbuild\tGOOS=linux\nbuild\tGOARM=6\n"+"%016d", 0, program, goarch, 0)
	info := make([]byte, 32)
	copy(info, "\xff Go buildinf:\x08\x02") // the texts follow
	for _, text := range []string{"go1.26", mod} {
		info = append(binary.AppendUvarint(info, uint64(len(text))), text...)
	}
	var b bytes.Buffer
	for _, part := range []any{
		elf.Header64{
			Ident: [16]byte{0x7f, 'E', 'L', 'F', byte(elf.ELFCLASS64), byte(elf.ELFDATA2LSB), byte(elf.EV_CURRENT)},
			Type:  uint16(elf.ET_EXEC), Machine: uint16(elf.EM_AARCH64), Version: 1, Ehsize: 64, Phoff: 64, Phentsize: 56, Phnum: 1,
		},
		elf.Prog64{Type: uint32(elf.PT_LOAD), Flags: uint32(elf.PF_R | elf.PF_W), Off: data, Vaddr: at, Filesz: uint64(len(info)), Memsz: uint64(len(info))},
		info,
	} {
		if err := binary.Write(&b, binary.LittleEndian, part); err != nil {
			t.Fatal(err)
		}
	}
	for i := b.Len(); i < size; i++ {
		b.WriteByte(byte(i * 7))
	}
	path := filepath.Join(t.TempDir(), program)
	if err := os.WriteFile(path, b.Bytes(), 0o755); err != nil {
		t.Fatal(err)
	}
	return path
}

// debFor writes a package with nothing but ballast in it, under a name that
// does not say what it is for.
func debFor(t testing.TB, name, arch string, size int) (path string, written int) {
	t.Helper()
	ballast := make([]byte, size)
	for i := range ballast {
		ballast[i] = byte(i>>16*i>>8*i ^ i)
	}
	p := deb.Package{
		Name: name, Version: "1.0", Arch: arch, Maintainer: deb.Maintainer, Summary: "ballast", Time: time.Unix(1700000000, 0),
		Files: []deb.File{{Path: "/usr/bin/" + name, Mode: 0o755, Data: ballast}},
	}
	var b bytes.Buffer
	if err := p.Write(&b); err != nil {
		t.Fatal(err)
	}
	path = filepath.Join(t.TempDir(), "agent.deb")
	if err := os.WriteFile(path, b.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	return path, b.Len()
}

func claimOf(t testing.TB, http string, ttl time.Duration) string {
	t.Helper()
	line, err := wire.NewClaim(http, [32]byte{}, time.Now().Add(-time.Minute), ttl+time.Minute).Encode()
	if err != nil {
		t.Fatal(err)
	}
	return line
}

var mine = Settings{
	Hostname: "door-1", User: "ann", PasswordHash: "$6$saltsalt$abcdefghijkl.", SSHKeys: []string{"ssh-ed25519 AAAAC3Nza ann's laptop"},
	WiFi: WiFi{SSID: `it's "ours"`, Password: "correct horse", Country: "DE"},
}

func TestBookworm(t *testing.T) {
	for _, mtools := range []bool{false, true} {
		if mtools && testing.Short() {
			continue
		}
		path := makeImage(t, bookwormBoot, bookwormRoot, mtools)
		agent, token := agentFor(t, agentName, "arm64", 5*mib+17), claimOf(t, "http://10.0.0.5:7070", time.Hour)
		var at, of int64
		o := Options{Image: path, Agent: agent, Token: token, Settings: mine, Progress: func(done, total int64) { at, of = done, total }}
		r, err := Provision(o)
		if err != nil {
			t.Fatal(err)
		}
		if r.Format != Bookworm || r.System.Codename != "bookworm" || r.System.Arch != "arm64" || at != of || of < 5*mib {
			t.Errorf("%+v, %d of %d", r, at, of)
		}
		read := checked(t, path)
		want, err := os.ReadFile(agent)
		if err != nil {
			t.Fatal(err)
		}
		if got := read(nameAgent); got != string(want) {
			t.Errorf("the agent has %d bytes on the card, %d before", len(got), len(want))
		}
		if got := read(nameToken); got != token+"\n" {
			t.Errorf("token %q", got)
		}
		if got := read("cmdline.txt"); got != kernelWas+" "+runWords+"\n" {
			t.Errorf("cmdline.txt %q", got)
		}
		run := read(nameRun)
		for _, want := range []string{
			"\"$imager\" set_hostname 'door-1'\n", "enable_ssh -k 'ssh-ed25519 AAAAC3Nza ann'\"'\"'s laptop'\n", "userconf\" 'ann' '$6$saltsalt$abcdefghijkl.'\n",
			"set_wlan 'it'\"'\"'s \"ours\"' '" + mine.WiFi.key() + "' 'DE'\n",
		} {
			if !strings.Contains(run, want) {
				t.Errorf("firstrun.sh lacks %q:\n%s", want, run)
			}
		}
		if strings.Contains(run, "correct horse") {
			t.Error("the Wi-Fi password itself is on the card")
		}

		// Again, with a package and no claim: it replaces what was there.
		pkg, size := debFor(t, agentName, "arm64", 3*mib)
		if r, err = Provision(Options{Image: path, Deb: pkg}); err != nil || !r.System.Prepared || r.System.FirstRun {
			t.Fatalf("%+v, %v", r, err)
		}
		read = checked(t, path)
		if got := read("cmdline.txt"); got != kernelWas+" "+runWords+"\n" {
			t.Errorf("cmdline.txt after the second time: %q", got)
		}
		if read(nameToken) != nothing || read(nameAgent) != nothing || len(read(nameDeb)) != size || strings.Contains(read(nameRun), "ann") {
			t.Errorf("something is left of the first time:\n%s", listed(t, path))
		}
	}
}

func TestTrixie(t *testing.T) {
	for _, mtools := range []bool{false, true} {
		if mtools && testing.Short() {
			continue
		}
		path := makeImage(t, trixieBoot, trixieRoot, mtools)
		o := Options{Image: path, Agent: agentFor(t, agentName, "arm64", mib), Token: claimOf(t, "https://hub.example", time.Hour), Settings: mine, Config: []byte("metrics_every_s = 30\n")}
		r, err := Provision(o)
		if err != nil || r.Format != Trixie {
			t.Fatalf("%+v, %v", r, err)
		}
		read := checked(t, path)
		meta := read("meta-data")
		id := strings.TrimSpace(strings.TrimPrefix(meta, "instance-id: "))
		if !strings.HasPrefix(id, "dunlin-") || read("cmdline.txt") != kernelWas+" ds=nocloud;i="+id+"\n" {
			t.Errorf("meta-data %q, cmdline.txt %q", meta, read("cmdline.txt"))
		}
		wantUser := `#cloud-config
# dunlin image provision: whole
hostname: "door-1"
manage_etc_hosts: true
user:
  name: "ann"
  shell: /bin/bash
  sudo: null
  lock_passwd: false
  passwd: "$6$saltsalt$abcdefghijkl."
  ssh_authorized_keys:
    - "ssh-ed25519 AAAAC3Nza ann's laptop"
ssh_pwauth: false
runcmd:
  - [ systemctl, enable, --now, ssh ]
  - [ sh, -c, "if [ -f /boot/firmware/dunlin-first-boot.sh ]; then sh /boot/firmware/dunlin-first-boot.sh; fi" ]
`
		if got := read("user-data"); got != wantUser {
			t.Errorf("user-data:\n%s", got)
		}
		if got := read("network-config"); !strings.Contains(got, "        \"it's \\\"ours\\\"\":\n          password: \""+mine.WiFi.key()+"\"\n") {
			t.Errorf("network-config:\n%s", got)
		}
		if got := read(nameConfig); got != string(o.Config) {
			t.Errorf("configuration %q", got)
		}
		o.Settings = Settings{}
		if _, err := Provision(o); err != nil {
			t.Fatal(err)
		}
		read = checked(t, path)
		if got := read("meta-data"); got == meta {
			t.Error("the same instance twice: cloud-init would do nothing")
		}
		if got := read("cmdline.txt"); strings.Count(got, "ds=nocloud") != 1 {
			t.Errorf("cmdline.txt %q", got)
		}
		if got := read("user-data") + read("network-config"); strings.Contains(got, "ann") || strings.Contains(got, "ours") {
			t.Errorf("left of the first time:\n%s", got)
		}
	}
}

// TestOthersFiles: what a person, or another program, has put there is kept.
func TestOthersFiles(t *testing.T) {
	agent := agentFor(t, agentName, "arm64", mib)
	with := func(base contents, name, text string) contents {
		c := contents{name: text}
		for k, v := range base {
			if k != name {
				c[k] = v
			}
		}
		return c
	}
	theirRun := "#!/bin/sh\necho theirs\nrm -f /boot/firstrun.sh\nexit 0\n"
	path := makeImage(t, with(bookwormBoot, "firstrun.sh", theirRun), bookwormRoot, false)
	for range 2 {
		r, err := Provision(Options{Image: path, Agent: agent})
		if err != nil {
			t.Fatal(err)
		}
		read := checked(t, path)
		if read(nameTheirs) != theirRun || !strings.Contains(read(nameRun), "sh \"$here/"+nameTheirs+"\"") {
			t.Errorf("%v:\n%s", r.Notes, read(nameRun))
		}
	}
	if _, err := Provision(Options{Image: path, Agent: agent, Settings: mine}); err == nil {
		t.Error("two sets of settings were taken")
	}

	theirUser := "#cloud-config\nhostname: theirs\n"
	path = makeImage(t, with(trixieBoot, "user-data", theirUser), trixieRoot, false)
	for range 2 {
		if _, err := Provision(Options{Image: path, Agent: agent}); err != nil {
			t.Fatal(err)
		}
		if got := checked(t, path)("user-data"); got != theirUser+markPart+"\nruncmd:\n"+runLine+"\n"+markEnd+"\n" {
			t.Errorf("user-data:\n%s", got)
		}
	}
	for _, text := range []string{"#cloud-config\nruncmd:\n- x\n", "#!/bin/sh\necho\n"} {
		path = makeImage(t, with(trixieBoot, "user-data", text), trixieRoot, false)
		if _, err := Provision(Options{Image: path, Agent: agent}); err == nil {
			t.Errorf("added to %q", text)
		}
	}
}

// TestRefused: nothing is written to what is not understood.
func TestRefused(t *testing.T) {
	good := makeImage(t, bookwormBoot, bookwormRoot, false)
	agent := agentFor(t, agentName, "arm64", mib)
	file := func(name string, data []byte) string {
		path := filepath.Join(t.TempDir(), name)
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	armhf, _ := debFor(t, agentName, "armhf", 10)
	amd64, _ := debFor(t, agentName, "amd64", 10)
	hub, _ := debFor(t, "dunlin-hub", "arm64", 10)
	unknown := makeImage(t, bookwormBoot, contents{"usr/lib/os-release": osRelease(12, "bookworm")}, false)
	big := contents{"ballast": strings.Repeat("x", 150*mib)}
	for k, v := range bookwormBoot {
		big[k] = v
	}
	for _, tc := range []struct {
		name string
		o    Options
		want string
	}{
		{"no program", Options{Image: good}, "give one of them"},
		{"both", Options{Image: good, Agent: agent, Deb: agent}, "give one of them"},
		{"no image", Options{Image: "/nowhere.img", Agent: agent}, "no such file"},
		{"a folder", Options{Image: t.TempDir(), Agent: agent}, "is a folder"},
		{"xz", Options{Image: file("a.img.xz", []byte("\xfd7zXZ\x00rest")), Agent: agent}, "compressed"},
		{"zip", Options{Image: file("a.zip", []byte("PK\x03\x04rest")), Agent: agent}, "compressed"},
		{"short", Options{Image: file("a.img", []byte("x")), Agent: agent}, "no image"},
		{"zeros", Options{Image: file("a.img", make([]byte, 4*mib)), Agent: agent}, "no boot partition"},
		{"another system", Options{Image: makeImage(t, contents{"boot.scr": "x"}, contents{"usr/lib/os-release": osRelease(11, "bullseye")}, false), Agent: agent}, "bullseye"},
		{"another machine", Options{Image: good, Agent: agentFor(t, agentName, "amd64", mib)}, "is for amd64, the image for arm64"},
		{"another machine, and who knows the image's", Options{Image: unknown, Agent: agentFor(t, agentName, "amd64", mib)}, "no Raspberry Pi runs"},
		{"armhf", Options{Image: good, Agent: agentFor(t, agentName, "arm", mib)}, "is for armhf, the image for arm64"},
		{"dunlin", Options{Image: good, Agent: agentFor(t, "dunlin", "arm64", mib)}, "is dunlin, not the agent"},
		{"relay", Options{Image: good, Agent: agentFor(t, "relay", "arm64", mib)}, "no program of dunlin"},
		{"armhf.deb", Options{Image: good, Deb: armhf}, "is for armhf, the image for arm64"},
		{"amd64.deb by another name", Options{Image: good, Deb: amd64}, "is for amd64, the image for arm64"},
		{"the hub's package", Options{Image: good, Deb: hub}, "is the package dunlin-hub"},
		{"junk.deb", Options{Image: good, Deb: file("dunlin-agent_1_arm64.deb", []byte("!<arch>\njunk"))}, "no Debian package"},
		{"no package", Options{Image: good, Deb: agent}, "no Debian package"},
		{"no program", Options{Image: good, Agent: file("dunlin-agent", []byte("#!/bin/sh\n"))}, "no program of dunlin"},
		{"a claim that ended", Options{Image: good, Agent: agent, Token: claimOf(t, "http://10.0.0.5", -time.Minute)}, "ended at"},
		{"a hub on loopback", Options{Image: good, Agent: agent, Token: claimOf(t, "http://127.0.0.1:7070", time.Hour)}, "the board itself"},
		{"no claim", Options{Image: good, Agent: agent, Token: "hello"}, "does not begin with"},
		{"no TOML", Options{Image: good, Agent: agent, Config: []byte("a = = b")}, "configuration: "},
		{"state elsewhere", Options{Image: good, Agent: agent, Config: []byte("state_dir = \"/srv\"")}, "state_dir"},
		{"two tokens", Options{Image: good, Agent: agent, Token: claimOf(t, "http://10.0.0.5", time.Hour), Config: []byte("[hub]\ntoken_file = \"t\"")}, "names a token"},
		{"format", Options{Image: good, Agent: agent, Format: "buster"}, "want auto, bookworm or trixie"},
		{"hostname", Options{Image: good, Agent: agent, Settings: Settings{Hostname: "a b"}}, "hostname"},
		{"user", Options{Image: good, Agent: agent, Settings: Settings{User: "Root"}}, "user"},
		{"user without login", Options{Image: good, Agent: agent, Settings: Settings{User: "ann"}}, "nobody could log in"},
		{"key", Options{Image: good, Agent: agent, Settings: Settings{User: "ann", SSHKeys: []string{"-----BEGIN OPENSSH PRIVATE KEY-----"}}}, "no public key"},
		{"password", Options{Image: good, Agent: agent, Settings: Settings{User: "ann", PasswordHash: "secret"}}, "no hash"},
		{"country", Options{Image: good, Agent: agent, Settings: Settings{WiFi: WiFi{SSID: "x", Password: "12345678"}}}, "country"},
		{"short password", Options{Image: good, Agent: agent, Settings: Settings{WiFi: WiFi{SSID: "x", Password: "1234567", Country: "DE"}}}, "8 to 63"},
		{"no room", Options{Image: makeImage(t, big, bookwormRoot, false), Agent: agentFor(t, agentName, "arm64", 12*mib)}, "KiB are free"},
	} {
		before := touched(tc.o.Image)
		_, err := Provision(tc.o)
		if err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: %v", tc.name, err)
		}
		if touched(tc.o.Image) != before {
			t.Errorf("%s: the image was written to", tc.name)
		}
	}
	before := touched(good)
	if r, err := Provision(Options{Image: good, Agent: agent, DryRun: true}); err != nil || len(r.Files) < 4 {
		t.Errorf("dry run: %+v, %v", r, err)
	}
	if touched(good) != before {
		t.Error("a dry run wrote to the image")
	}
}

// touched is when a file was last written to; there may be none.
func touched(path string) time.Time {
	info, err := os.Stat(path)
	if err != nil {
		return time.Time{}
	}
	return info.ModTime()
}

func TestInUse(t *testing.T) {
	table := "/dev/sda1 / ext4 rw 0 0\n/dev/mmcblk0p1 /boot vfat rw 0 0\n/dev/sdbc1 /x ext4 rw 0 0\n"
	for device, want := range map[string]string{"/dev/sda": "/dev/sda1", "/dev/mmcblk0": "/dev/mmcblk0p1", "/dev/sdb": "", "/dev/sdbc1": "/dev/sdbc1"} {
		if got := inUse(table, device); got != want {
			t.Errorf("%s: %q", device, got)
		}
	}
}

// TestWiFiKey is the example of IEEE 802.11, J.4.2.
func TestWiFiKey(t *testing.T) {
	w := WiFi{SSID: "IEEE", Password: "password"}
	if got := w.key(); got != "f42c6fc52df0ebef9ebb4b90b38a5f902e83fe1b135a70e23aed762e9710a12e" {
		t.Errorf("%s", got)
	}
}

func TestCopy(t *testing.T) {
	from := makeImage(t, bookwormBoot, bookwormRoot, false)
	to := filepath.Join(t.TempDir(), "copy.img")
	if err := Copy(t.Context(), from, to, func(int64, int64) {}); err != nil {
		t.Fatal(err)
	}
	a, err := os.ReadFile(from)
	if err != nil {
		t.Fatal(err)
	}
	if b, err := os.ReadFile(to); err != nil || !bytes.Equal(a, b) {
		t.Errorf("the copy differs, %v", err)
	}
	if out := output(t, "du", "--block-size=1M", to); len(strings.Fields(out)[0]) > 2 {
		t.Errorf("the copy takes %s MB of the disk: its holes were filled", out)
	}
	var no *Error
	if err := Copy(t.Context(), from, to, func(int64, int64) {}); !errors.As(err, &no) {
		t.Errorf("over a file: %v", err)
	}
}
