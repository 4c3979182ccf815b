package image

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// board is a running system as the scripts see it: a boot partition, a root,
// and the programs of the image that they call, each of which notes how.
type board struct {
	t          *testing.T
	boot, root string
	bin        string
}

// newBoard takes the boot partition of an image that was provisioned.
func newBoard(t *testing.T, image string) *board {
	t.Helper()
	dir := t.TempDir()
	b := &board{t, filepath.Join(dir, "boot"), filepath.Join(dir, "root"), filepath.Join(dir, "bin")}
	for _, d := range []string{b.boot, b.root, b.bin} {
		if err := os.Mkdir(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	output(t, need(t, "mcopy", "mtools"), "-n", "-i", image+"@@4M", "::*", b.boot)
	for _, name := range []string{
		filepath.Join(b.bin, "systemctl"), filepath.Join(b.bin, "dpkg"), filepath.Join(b.bin, "chown"),
		filepath.Join(b.root, "usr/lib/raspberrypi-sys-mods/imager_custom"), filepath.Join(b.root, "usr/lib/userconf-pi/userconf"),
	} {
		b.put(name, 0)
	}
	return b
}

// put writes a program that notes its arguments, one a line.
func (b *board) put(path string, status int) {
	b.t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		b.t.Fatal(err)
	}
	text := fmt.Sprintf("#!/bin/sh\nfor a in %s \"$@\"; do printf '[%%s]' \"$a\"; done >>%s/calls\necho >>%s/calls\nexit %d\n", filepath.Base(path), b.bin, b.bin, status)
	if err := os.WriteFile(path, []byte(text), 0o755); err != nil {
		b.t.Fatal(err)
	}
}

// run runs a script of the boot partition and returns what it called.
func (b *board) run(shell, script string) (calls string, err error) {
	b.t.Helper()
	cmd := exec.Command(shell, filepath.Join(b.boot, script))
	cmd.Env = append(os.Environ(), "DUNLIN_ROOT="+b.root, "PATH="+b.bin+":"+os.Getenv("PATH"))
	out, err := cmd.CombinedOutput()
	if len(out) > 0 {
		b.t.Logf("%s: %s", script, out)
	}
	text, readErr := os.ReadFile(filepath.Join(b.bin, "calls"))
	if readErr != nil {
		b.t.Fatal(readErr)
	}
	return string(text), err
}

func (b *board) read(path string) string {
	b.t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		b.t.Error(err)
	}
	return string(text)
}

func (b *board) gone(names ...string) {
	b.t.Helper()
	for _, name := range names {
		if _, err := os.Lstat(filepath.Join(b.boot, name)); !errors.Is(err, fs.ErrNotExist) {
			b.t.Errorf("%s is still on the boot partition (%v)", name, err)
		}
	}
}

// watch opens a file of the boot partition before the scripts run; wiped then
// says whether what the disk held of it is zeros.
func (b *board) watch(name string) (wiped func() bool) {
	b.t.Helper()
	f, err := os.Open(filepath.Join(b.boot, name))
	if err != nil {
		b.t.Fatal(err)
	}
	b.t.Cleanup(func() { f.Close() })
	return func() bool {
		data := make([]byte, 1<<16)
		n, _ := f.ReadAt(data, 0)
		return n > 0 && len(bytes.Trim(data[:n], "\x00")) == 0
	}
}

func shells(t *testing.T) (all []string) {
	for _, name := range []string{"dash", "bash"} {
		if path, err := exec.LookPath(name); err == nil {
			all = append(all, path)
		}
	}
	if len(all) == 0 {
		t.Fatal("no shell")
	}
	return all
}

func TestFirstBootBookworm(t *testing.T) {
	path := makeImage(t, bookwormBoot, bookwormRoot, false)
	token := claimOf(t, "http://10.0.0.5:7070", time.Hour)
	if _, err := Provision(Options{Image: path, Agent: agentFor(t, agentName, "arm64", 1000), Token: token, Settings: mine}); err != nil {
		t.Fatal(err)
	}
	for _, shell := range shells(t) {
		b := newBoard(t, path)
		b.put(filepath.Join(b.boot, nameAgent), 0) // in place of the program for another machine
		token0, run0 := b.watch(nameToken), b.watch(nameRun)
		calls, err := b.run(shell, nameRun)
		if err != nil {
			t.Errorf("%s: %v", shell, err)
		}
		for _, want := range []string{
			"[imager_custom][set_hostname][door-1]\n", "[imager_custom][enable_ssh][-k][ssh-ed25519 AAAAC3Nza ann's laptop]\n",
			"[userconf][ann][$6$saltsalt$abcdefghijkl.]\n", `[imager_custom][set_wlan][it's "ours"][` + mine.WiFi.key() + "][DE]\n",
			"[dunlin-agent][install]\n", "[systemctl][enable][dunlin-agent]\n", "[systemctl][--no-block][restart][dunlin-agent]\n", "[chown][dunlin:dunlin]",
		} {
			if !strings.Contains(calls, want) {
				t.Errorf("%s: no call %s in\n%s", shell, want, calls)
			}
		}
		if got := b.read(filepath.Join(b.boot, nameKernel)); got != kernelWas+"\n" {
			t.Errorf("cmdline.txt %q", got)
		}
		kept := filepath.Join(b.root, "var/lib/dunlin/token")
		if info, err := os.Stat(kept); err != nil || info.Mode().Perm() != 0o600 || b.read(kept) != token+"\n" {
			t.Errorf("token: %v, %v", info, err)
		}
		b.gone(nameToken, nameRun, nameAgent, nameScript)
		if !token0() || !run0() {
			t.Errorf("%s: secrets are removed and not overwritten", shell)
		}
		if log := b.read(filepath.Join(b.boot, "dunlin-first-boot.log")); !strings.Contains(log, "dunlin: done") || strings.Contains(log, token) {
			t.Errorf("log:\n%s", log)
		}
	}
}

// TestFirstBootFails: the board starts anew as an ordinary one, nothing is
// lost, and it can be tried again.
func TestFirstBootFails(t *testing.T) {
	path := makeImage(t, bookwormBoot, bookwormRoot, false)
	if _, err := Provision(Options{Image: path, Agent: agentFor(t, agentName, "arm64", 1000), Token: claimOf(t, "http://10.0.0.5:7070", time.Hour)}); err != nil {
		t.Fatal(err)
	}
	b := newBoard(t, path)
	agent := filepath.Join(b.boot, nameAgent)
	b.put(agent, 1)
	if _, err := b.run("sh", nameRun); err != nil {
		t.Errorf("firstrun.sh fails, and the board would stay where it is: %v", err)
	}
	if got := b.read(filepath.Join(b.boot, nameKernel)); got != kernelWas+"\n" {
		t.Errorf("cmdline.txt %q", got)
	}
	b.gone(nameRun)
	if got := b.read(filepath.Join(b.boot, nameToken)); !strings.HasPrefix(got, "dunlin-claim:") {
		t.Errorf("the token is gone: %q", got)
	}
	if _, err := b.run("sh", nameScript); err == nil {
		t.Error("it says that it succeeded")
	}
	// It installs itself, and systemd cannot start it yet: that is no failure.
	for _, file := range []string{"usr/local/bin/dunlin-agent", "etc/systemd/system/dunlin-agent.service"} {
		b.put(filepath.Join(b.root, file), 0)
	}
	if _, err := b.run("sh", nameScript); err != nil {
		t.Errorf("the second try: %v\n%s", err, b.read(filepath.Join(b.boot, "dunlin-first-boot.log")))
	}
	b.gone(nameToken, nameAgent, nameScript)
}

func TestFirstBootTrixie(t *testing.T) {
	path := makeImage(t, trixieBoot, trixieRoot, false)
	deb, _ := debFor(t, agentName, "arm64", 10)
	o := Options{Image: path, Deb: deb, Token: claimOf(t, "https://hub.example", time.Hour), Settings: mine, Config: []byte("state_dir = \"/var/lib/dunlin\"\n")}
	if _, err := Provision(o); err != nil {
		t.Fatal(err)
	}
	for _, shell := range shells(t) {
		b := newBoard(t, path)
		watched := []func() bool{b.watch(nameToken), b.watch(nameUser), b.watch(nameNet)}
		calls, err := b.run(shell, nameScript)
		if err != nil {
			t.Errorf("%s: %v", shell, err)
		}
		if want := "[dpkg][--install][" + filepath.Join(b.boot, nameDeb) + "]\n"; !strings.Contains(calls, want) {
			t.Errorf("no call %s in\n%s", want, calls)
		}
		if got := b.read(filepath.Join(b.root, "etc/dunlin/agent.toml")); got != string(o.Config) {
			t.Errorf("configuration %q", got)
		}
		b.gone(nameToken, nameDeb, nameScript, nameConfig, nameNet)
		for i, wiped := range watched {
			if !wiped() {
				t.Errorf("%s: secret %d is not overwritten", shell, i)
			}
		}
		if got := b.read(filepath.Join(b.boot, nameUser)); !strings.HasPrefix(got, "#cloud-config\n") || strings.Contains(got, "ann") {
			t.Errorf("user-data %q", got)
		}
	}
}

// TestScripts has the shell programs read by a checker of such programs.
func TestScripts(t *testing.T) {
	check := need(t, "shellcheck", "shellcheck")
	for name, text := range map[string]string{nameScript: string(firstBoot), nameRun: runScript(mine, true)} {
		path := filepath.Join(t.TempDir(), name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		// SC2310 and such are of taste; what is left is errors and warnings.
		output(t, check, "--severity=warning", "--shell=sh", path)
	}
}
