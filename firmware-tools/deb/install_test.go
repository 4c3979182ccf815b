package deb

import (
	"crypto/sha256"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"dunlin/sync/wire"
)

// testInstall has dunlin-agent install itself in a small Debian without a
// package of it, and take itself away again. What systemctl is asked is
// written down by a script in its place.
func testInstall(t *testing.T, program string) {
	if os.Geteuid() != 0 {
		t.Skip("chroot needs root")
	}
	root := smallDebian(t)
	at := func(path string) string { return filepath.Join(root, path) }
	output(t, "cp", program, at("/tmp/dunlin-agent"))
	fake := `#!/bin/sh
[ "$1" != show ] || exec cat /tmp/state
echo "$*" >>/tmp/asked
[ "$1" != disable ] || [ ! -e /tmp/state ] || { echo Failed to disable unit; exit 1; }
`
	if err := os.WriteFile(at("/usr/bin/systemctl"), []byte(fake), 0o755); err != nil {
		t.Fatal(err)
	}
	// There is no /proc in it, where a program finds its own file.
	output(t, "sh", "-c", `mkdir -p "$1"/proc/self && ln -s /tmp/dunlin-agent "$1"/proc/self/exe`, "sh", root)
	agent := func(args ...string) (string, error) {
		cmd := exec.Command("chroot", append([]string{root, "/tmp/dunlin-agent", "install"}, args...)...)
		cmd.Stdin = strings.NewReader("dunlin-claim:1.no\n")
		out, err := cmd.CombinedOutput()
		return string(out), err
	}
	must := func(args ...string) string {
		t.Helper()
		out, err := agent(args...)
		if err != nil {
			t.Fatalf("install %s: %v\n%s", strings.Join(args, " "), err, out)
		}
		return out
	}
	asked := func() string {
		text, err := os.ReadFile(at("/tmp/asked"))
		if err != nil {
			t.Error(err)
		}
		_ = os.Remove(at("/tmp/asked"))
		return string(text)
	}
	if out, err := agent(); err == nil || !strings.Contains(out, "does not run systemd") || !strings.Contains(out, "hint: ") {
		t.Errorf("without systemd: %v, %s", err, out)
	}
	if err := os.MkdirAll(at("/run/systemd/system"), 0o755); err != nil {
		t.Fatal(err)
	}
	claim, err := wire.NewClaim("https://hub.example", sha256.Sum256(nil), time.Now(), time.Hour).Encode()
	if err != nil {
		t.Fatal(err)
	}
	before := listing(t, root)
	for want, args := range map[string][]string{
		"want LINE, or -uninstall": {"-uninstall", claim},
		"two lines":                {"-token", claim, claim},
		"claim":                    {"dunlin-claim:1.short"},
		"has no address of a hub":  {"-token", "-"},
		"enrolment token":          {"what is this"},
		"flag provided":            {"-nonsense"},
	} {
		if out, err := agent(args...); err == nil || !strings.Contains(out, want) {
			t.Errorf("want %q, got %v: %s", want, err, out)
		}
	}
	if out := must("-dry-run", claim); !strings.Contains(out, "write /etc/systemd/system/dunlin-agent.service\n") || strings.Contains(out, claim) {
		t.Errorf("dry run: %s", out)
	}
	if after := listing(t, root); after != before {
		t.Errorf("what was refused, or only said, changed something:\n%s", after)
	}

	must(claim)
	if got := asked(); !strings.Contains(got, "daemon-reload\n") || !strings.HasSuffix(got, "enable dunlin-agent.service\nrestart dunlin-agent.service\n") {
		t.Errorf("systemctl was asked: %s", got)
	}
	token := at("/var/lib/dunlin/token")
	text, err := os.ReadFile(token)
	if err != nil || string(text) != claim+"\n" {
		t.Errorf("the line: %q, %v", text, err)
	}
	info, err := os.Stat(token)
	if err != nil {
		t.Fatal(err)
	}
	if id := info.Sys().(*syscall.Stat_t).Uid; info.Mode().Perm() != 0o600 || id == 0 {
		t.Errorf("the line's file has mode %v and belongs to user %d", info.Mode(), id)
	}
	unit, err := os.ReadFile(at("/etc/systemd/system/dunlin-agent.service"))
	if err != nil || !strings.Contains(string(unit), "\nExecStart=/usr/local/bin/dunlin-agent run\n") || strings.Contains(string(unit), "/usr/bin/") {
		t.Errorf("unit: %v, %s", err, unit)
	}
	if out := output(t, "chroot", root, "/usr/local/bin/dunlin-agent", "check"); !strings.Contains(out, "by a claim that ends at") || !strings.Contains(out, "fine") {
		t.Errorf("check: %s", out)
	}

	// A second time, with a configuration of the user's: it stays.
	config := "[hub]\ntoken_file = \"mine\"\n"
	if err := os.WriteFile(at("/etc/dunlin/agent.toml"), []byte(config), 0o644); err != nil {
		t.Fatal(err)
	}
	if out, err := agent(claim); err == nil || !strings.Contains(out, "names a token") {
		t.Errorf("the configuration names a token already: %v, %s", err, out)
	}
	must()
	if got, err := os.ReadFile(at("/etc/dunlin/agent.toml")); err != nil || string(got) != config {
		t.Errorf("configuration: %q, %v", got, err)
	}

	// A user who may write the folder cannot have root write elsewhere.
	if err := os.Remove(at("/etc/dunlin/agent.toml")); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"token", "token.new"} {
		_ = os.Remove(at("/var/lib/dunlin/" + name))
		if err := os.Symlink("/etc/shadow", at("/var/lib/dunlin/"+name)); err != nil {
			t.Fatal(err)
		}
	}
	must("-token", claim)
	if text, err := os.ReadFile(at("/etc/shadow")); err != nil || !strings.HasPrefix(string(text), "root:") {
		t.Errorf("a link was followed: %q, %v", text, err)
	}

	// What may be running keeps its files.
	_ = os.Remove(at("/tmp/asked"))
	installed := listing(t, root)
	for _, state := range []string{"", "LoadState=loaded\nActiveState=active\n", "LoadState=not-found\nActiveState=active\n", "LoadState=masked\nActiveState=inactive\n"} {
		if err := os.WriteFile(at("/tmp/state"), []byte(state), 0o644); err != nil {
			t.Fatal(err)
		}
		for _, args := range [][]string{{"-uninstall"}, {"-uninstall", "-purge"}} {
			if out, err := agent(args...); err == nil || !strings.Contains(out, "Failed to disable unit") || !strings.Contains(out, "hint: nothing was removed") {
				t.Errorf("%q, %q: %v, %s", state, args, err, out)
			}
		}
	}
	if err := os.Remove(at("/tmp/state")); err != nil {
		t.Fatal(err)
	}
	_ = os.Remove(at("/tmp/asked"))
	if after := listing(t, root); after != installed {
		t.Error("an agent that could not be stopped was removed:")
		difference(t, installed, after)
	}

	must("-uninstall")
	if _, err := os.Stat(token); err != nil {
		t.Errorf("uninstall took what the agent keeps: %v", err)
	}
	if err := os.WriteFile(at("/tmp/state"), []byte("LoadState=not-found\nActiveState=inactive\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	must("-uninstall", "-purge") // of a unit that is gone
	_ = os.Remove(at("/tmp/state"))
	_ = os.Remove(at("/tmp/asked"))
	if after := listing(t, root); after != before {
		difference(t, before, after)
	}
}
