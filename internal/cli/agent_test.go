package cli

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"dunlin/internal/oci"
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
	build := exec.Command("go", "build", "-trimpath", "-tags", "nethttpomithttp2", "-ldflags", "-s -w -X dunlin/agent.Version=0.2.0",
		"-o", filepath.Join(dir, "dist", "here", release.Name), "dunlin/cmd/dunlin-agent")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if text, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, text)
	}
	for what, c := range map[string]struct {
		args []string
		want string
	}{
		"another version":  {[]string{"agent", "pack", at("dist"), "--version", "0.3.0", "-o", at("no")}, "dunlin/agent.Version=0.3.0"},
		"a pre-release":    {[]string{"agent", "pack", at("dist"), "--version", "0.2.0-rc1", "-o", at("no")}, "0.2.0-rc1"},
		"another program":  {[]string{"agent", "pack", os.Args[0], "--version", "0.2.0", "-o", at("no")}, "not the agent"},
		"one twice":        {[]string{"agent", "pack", at("dist"), at("dist"), "--version", "0.2.0", "-o", at("no")}, "too"},
		"an empty folder":  {[]string{"agent", "pack", t.TempDir(), "--version", "0.2.0", "-o", at("no")}, "make build"},
		"nothing said":     {[]string{"agent", "pack", at("dist")}, "--version V -o RELEASE"},
		"no release":       {[]string{"agent", "sign", at("none"), "--key", at("key")}, "dunlin model sign --make-key"},
		"no such version":  {[]string{"fleet", "rollout", release.Name, "2", "--token", "t"}, "MAJOR.MINOR.PATCH"},
		"of another model": {[]string{"fleet", "rollout", "garments", "0.2.0", "--token", "t"}, `version "0.2.0"`},
	} {
		if status, _, errs := try(t, c.args...); status == statusOK || !strings.Contains(errs, c.want) {
			t.Errorf("%s: status %d: %s, want %q", what, status, errs, c.want)
		}
	}
	if out := must(t, "agent", "pack", at("dist"), "--version", "0.2.0", "--from", "0.1.0", "-o", at("out")); !strings.Contains(out, release.Platform()+"\n") {
		t.Errorf("pack: %s", out)
	}
	if status, _, errs := try(t, "agent", "push", at("out"), "--token", "t"); status != statusFailed || !strings.Contains(errs, "dunlin agent sign") {
		t.Errorf("push without a signature: %d %s", status, errs)
	}
	must(t, "model", "sign", "--make-key", "--key", at("key"))
	must(t, "agent", "sign", at("out"), "--key", at("key"))
	l, d, r, err := openRelease(at("out"))
	if err != nil || r.Version != "0.2.0" || r.From != "0.1.0" || len(r.Builds) != 1 {
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
	if _, err := oci.Open(at("no")); err == nil {
		t.Error("what was refused left a release")
	}
}
