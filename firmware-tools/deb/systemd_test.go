//go:build systemd && linux

package deb

import (
	"bufio"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"syscall"
	"testing"
)

// TestUnderSystemd boots a Debian 12 in QEMU, has systemd start what the
// packages install, and runs testdata/guest.sh there. It is behind a tag (make
// install-test): it wants the network once, debootstrap, qemu-system-x86, cpio,
// root, and five minutes.
func TestUnderSystemd(t *testing.T) {
	cache, err := os.UserCacheDir()
	if err != nil {
		t.Fatal(err)
	}
	base := filepath.Join(cache, "dunlin", "bookworm-amd64")
	// A folder that is there is whole: it gets its name at the end.
	output(t, "sh", "-ec", `
[ ! -e "$1" ] || exit 0
rm -rf "$1.new"; mkdir -p "$1.new/kernel"
debootstrap --variant=minbase --include=systemd,systemd-sysv,udev,kmod bookworm "$1.new/root"
cd "$1.new/kernel"
apt-get download "$(apt-cache depends linux-image-cloud-amd64 | awk '/Depends:/{print $2; exit}')"
dpkg -x linux-image-*.deb .
mv "$1.new" "$1"
`, "sh", base)

	dir, programs := t.TempDir(), build(t)
	for _, program := range []string{"dunlin-agent", "dunlin"} {
		b, err := Identify(filepath.Join(programs, program))
		if err != nil {
			t.Fatal(err)
		}
		p := Agent(b, release)
		if program == "dunlin" {
			p = Hub(b, release)
		}
		path, _ := written(t, p)
		output(t, "mv", path, dir)
	}
	// The whole of it is the first file system of the kernel, which copies itself to one
	// that systemd can move and protect.
	output(t, "sh", "-ec", `
cd "$1"; guest=$3
cp -a "$2/root" root
cp -a "$2"/kernel/lib/modules root/usr/lib/
depmod -b root "$(ls root/usr/lib/modules)"
rm -rf root/usr/share/doc root/usr/share/locale root/var/cache/apt root/var/lib/apt/lists
mv ./*.deb root/root/
install -m 755 "$guest" root/root/guest.sh
printf 'tun\n' >root/etc/modules-load.d/tun.conf
printf '[Service]\nType=oneshot\nExecStart=/root/guest.sh\nTimeoutStartSec=20min\n[Install]\nWantedBy=multi-user.target\n' >root/etc/systemd/system/guest.service
ln -s ../guest.service root/etc/systemd/system/multi-user.target.wants/guest.service
cat >root/init <<'END'
#!/bin/sh
mount -t tmpfs -o size=85%,mode=755 tmpfs /mnt
cd /
for d in bin etc home lib lib64 root run sbin srv usr var tmp; do cp -a $d /mnt/; done
mkdir -p /mnt/dev /mnt/proc /mnt/sys /mnt/mnt
mount -t devtmpfs devtmpfs /mnt/dev
exec switch_root /mnt /lib/systemd/systemd
END
chmod +x root/init
(cd root && find . | cpio -o -H newc --quiet | gzip -1) >initrd
cp "$2"/kernel/boot/vmlinuz-* vmlinuz
`, "sh", dir, base, guestScript(t))

	cmd := exec.CommandContext(t.Context(), "qemu-system-x86_64", "-cpu", "Nehalem", "-m", "3072", "-display", "none", "-serial", "stdio", "-serial", "null",
		"-no-reboot", "-nic", "none", "-kernel", filepath.Join(dir, "vmlinuz"), "-initrd", filepath.Join(dir, "initrd"), "-append", "console=ttyS0 quiet systemd.show_status=0")
	// QEMU ends with the thread that starts it, and so with a test that is killed.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	checks, log := map[string]string{}, strings.Builder{}
	found := regexp.MustCompile(`CHECK (\S+) (.*)`)
	for lines := bufio.NewScanner(out); lines.Scan(); {
		line := strings.TrimRight(lines.Text(), "\r")
		log.WriteString(line + "\n")
		if m := found.FindStringSubmatch(line); m != nil {
			checks[m[1]] = m[2]
			t.Logf("%s: %s", m[1], m[2])
		}
	}
	if err := cmd.Wait(); err != nil {
		t.Error(err)
	}
	text, err := os.ReadFile(guestScript(t))
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range regexp.MustCompile(`(?m)^(?:check|echo "CHECK) (\S+) `).FindAllStringSubmatch(string(text), -1) {
		if checks[m[1]] != "ok" {
			t.Errorf("%s: %q", m[1], checks[m[1]])
		}
	}
	if t.Failed() {
		t.Log(log.String())
	}
}

func guestScript(t *testing.T) string {
	t.Helper()
	path, err := filepath.Abs(filepath.Join("testdata", "guest.sh"))
	if err != nil {
		t.Fatal(err)
	}
	return path
}
