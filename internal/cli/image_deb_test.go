package cli

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

func TestImageDeb(t *testing.T) {
	if testing.Short() {
		t.Skip("it builds the agent")
	}
	t.Setenv("SOURCE_DATE_EPOCH", "1700000000")
	dir := t.TempDir()
	at := func(name string) string { return filepath.Join(dir, name) }
	build := exec.Command("go", "build", "-trimpath", "-buildvcs=false", "-ldflags", "-s -w -X dunlin/agent.Version=1.2.0-rc1", "-o", dir, "dunlin/cmd/dunlin-agent")
	build.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux", "GOARCH=arm", "GOARM=6")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	if err := os.WriteFile(at("agent.toml"), []byte("# of this fleet\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	var sums []string
	for _, extra := range [][]string{nil, nil, {"--config", at("agent.toml")}} {
		args := append([]string{"image", "deb", at("dunlin-agent"), "--version", "1.2.0-rc1", "-o", at("out"), "--json"}, extra...)
		var made []madeDeb
		if err := json.Unmarshal([]byte(must(t, args...)), &made); err != nil || len(made) != 1 {
			t.Fatalf("%v, %v", made, err)
		}
		m := made[0]
		if m.File != at("out/dunlin-agent_1.2.0~rc1_armhf.deb") || m.Package != "dunlin-agent" || m.Arch != "armhf" {
			t.Errorf("made %+v", m)
		}
		if info, err := os.Stat(m.File); err != nil || int(info.Size()) != m.Bytes {
			t.Errorf("%s: %v, %d bytes", m.File, err, m.Bytes)
		}
		sums = append(sums, m.SHA256)
	}
	if sums[0] != sums[1] || sums[1] == sums[2] {
		t.Errorf("digests %v: want the first two equal, and another with another configuration", sums)
	}

	for want, args := range map[string][]string{
		"is not of version 9.9.9":                    {at("dunlin-agent"), "--version", "9.9.9"},
		"as make build had it: dunlin-agent version": {at("dunlin-agent"), "--version", "(devel)"},
		"no program of dunlin":                       {at("agent.toml"), "--version", "1.2.0-rc1"},
		"give one of them":                           {at("dunlin-agent"), at("dunlin-agent"), "--version", "1.2.0-rc1"},
		"no such file":                               {at("dunlin-agent"), "--version", "1.2.0-rc1", "--config", at("nowhere")},
		"maintainer \"me\"":                          {at("dunlin-agent"), "--version", "1.2.0-rc1", "--maintainer", "me"},
		"requires at least 1 arg":                    {},
		"SOURCE_DATE_EPOCH: \"x\"":                   {at("dunlin-agent"), "--version", "1.2.0-rc1"},
	} {
		if strings.HasPrefix(want, "SOURCE") {
			t.Setenv("SOURCE_DATE_EPOCH", "x")
		} else {
			t.Setenv("SOURCE_DATE_EPOCH", "1700000000")
		}
		status, _, errs := try(t, append([]string{"image", "deb", "-o", at("bad")}, args...)...)
		if status == statusOK || !strings.Contains(errs, want) {
			t.Errorf("want %q, got status %d: %s", want, status, errs)
		}
	}
	if entries, err := os.ReadDir(at("bad")); err == nil && len(entries) > 0 {
		t.Errorf("a refused package was written: %v", entries)
	}
}
