package cli

import (
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"dunlin/internal/release"
	"dunlin/internal/sign"
	"dunlin/model/pack"
	"dunlin/sync/wire"
)

// TestAgentRoad walks a release from a folder of binaries to a signed layout,
// as a person would.
func TestAgentRoad(t *testing.T) {
	dir := t.TempDir()
	at := func(name string) string { return filepath.Join(dir, name) }
	build := func(folder, goarch, flags string) {
		t.Helper()
		cmd := exec.Command("go", "build", "-trimpath", "-tags", "nethttpomithttp2", "-ldflags", "-s -w "+flags, "-o", filepath.Join(dir, folder, release.Name), "dunlin/cmd/dunlin-agent")
		cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOARCH="+goarch)
		if text, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, text)
		}
	}
	other := map[string]string{"amd64": "arm64"}[runtime.GOARCH]
	if other == "" {
		other = "amd64"
	}
	build("dist/here", runtime.GOARCH, "-X dunlin/agent.Version=0.2.0")
	build("stale/there", other, "") // 0.1.0-dev
	build("rc/there", other, "-X dunlin/agent.Version=0.2.0-rc1")
	build("both/there", other, "-X dunlin/agent.Version=0.2.0")
	// A bare name is the file here, not the first on the PATH.
	path := t.TempDir()
	if err := os.WriteFile(filepath.Join(path, release.Name), []byte("#!/bin/sh\necho dunlin-agent 0.9.9\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", path+string(os.PathListSeparator)+os.Getenv("PATH"))
	t.Chdir(at("dist/here"))
	for what, c := range map[string]struct {
		args []string
		want string
	}{
		"another version":            {[]string{"agent", "pack", at("dist"), "--version", "0.3.0", "-o", at("no")}, "dunlin/agent.Version=0.3.0"},
		"a pre-release":              {[]string{"agent", "pack", at("dist"), "--version", "0.2.0-rc1", "-o", at("no")}, "0.2.0-rc1"},
		"stale for another machine":  {[]string{"agent", "pack", at("dist"), at("stale"), "--version", "0.2.0", "-o", at("no")}, "there/dunlin-agent, for linux/" + other + ": it was not built with version 0.2.0"},
		"the version it has not yet": {[]string{"agent", "pack", at("stale"), "--version", "0.1.0", "-o", at("no")}, "not built with version 0.1.0"},
		"the version it was before":  {[]string{"agent", "pack", at("rc"), "--version", "0.2.0", "-o", at("no")}, "not built with version 0.2.0"},
		"a rollout of a pre-release": {[]string{"fleet", "rollout", release.Name, "0.2.0-rc9", "--token", "t"}, "MAJOR.MINOR.PATCH and nothing more"},
		"another program":            {[]string{"agent", "pack", os.Args[0], "--version", "0.2.0", "-o", at("no")}, "not the agent"},
		"one twice":                  {[]string{"agent", "pack", at("dist"), at("dist"), "--version", "0.2.0", "-o", at("no")}, "too"},
		"an empty folder":            {[]string{"agent", "pack", t.TempDir(), "--version", "0.2.0", "-o", at("no")}, "make build"},
		"nothing said":               {[]string{"agent", "pack", at("dist")}, "--version V -o RELEASE"},
		"no release":                 {[]string{"agent", "sign", at("none"), "--key", at("key")}, "dunlin model sign --make-key"},
		"no such version":            {[]string{"fleet", "rollout", release.Name, "2", "--token", "t"}, "MAJOR.MINOR.PATCH"},
		"of another model":           {[]string{"fleet", "rollout", "garments", "0.2.0", "--token", "t"}, `version "0.2.0"`},
	} {
		if status, _, errs := try(t, c.args...); status == statusOK || !strings.Contains(errs, c.want) || strings.Contains(errs, "%!") {
			t.Errorf("%s: status %d: %s, want %q", what, status, errs, c.want)
		}
	}
	if out := must(t, "agent", "pack", release.Name, at("both"), "--version", "0.2.0", "--from", "0.1.0", "-o", at("out")); !strings.Contains(out, release.Platform()+"\n") {
		t.Errorf("pack: %s", out)
	}
	if status, _, errs := try(t, "agent", "push", at("out"), "--token", "t"); status != statusFailed || !strings.Contains(errs, "dunlin agent sign") {
		t.Errorf("push without a signature: %d %s", status, errs)
	}
	must(t, "model", "sign", "--make-key", "--key", at("key"))
	must(t, "agent", "sign", at("out"), "--key", at("key"))
	l, d, r, err := openRelease(at("out"))
	if err != nil || r.Version != "0.2.0" || r.From != "0.1.0" || len(r.Builds) != 2 {
		t.Fatalf("%+v, %v", r, err)
	}
	key, err := sign.ReadPublic(at("key.pub"))
	if err != nil {
		t.Fatal(err)
	}
	s, ok := pack.Signature(l, string(d))
	if err := (sign.Trust{key}).Verify(wire.OfferAgent.Purpose(), []byte(d), s); !ok || err != nil {
		t.Errorf("signature: %v, %v", ok, err)
	}
	if _, err := os.Stat(at("no")); err == nil {
		t.Error("what was refused left a folder")
	}
	startHub(t, key)
	must(t, "agent", "push", at("out"))
	if status, _, errs := try(t, "fleet", "rollout", release.Name, "0.2.0"); status != statusFailed || !strings.Contains(errs, "hint: enrol a device first") {
		t.Errorf("a rollout to nobody: %d %s", status, errs)
	}
}
