package agent

import (
	"bytes"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// Commands run as a user would run them.
func TestCommandLine(t *testing.T) {
	dir := t.TempDir()
	good := filepath.Join(dir, "good.toml")
	if err := os.WriteFile(good, []byte("state_dir = \"state\"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		args        string
		status      int
		out, errOut string
	}{
		{"help", 0, "examples:", ""},
		{"-h", 0, "usage:", ""},
		{"version", 0, "dunlin-agent " + Version, ""},
		{"version now", 2, "", `argument "now" is one too many`},
		{"fly", 2, "", "dunlin-agent: error: there is no command \"fly\"\ndunlin-agent: hint: dunlin-agent help"},
		{"run -colour", 2, "", "flag provided but not defined"},
		{"check -example", 0, "state_dir = \"/var/lib/dunlin\"", ""},
		{"check -config " + good, 0, "hub: none", ""},
		{"check -config " + filepath.Join(dir, "none.toml"), 1, "", "hint: give the file with -config"},
		{"check -config testdata/bad-level.toml", 1, "", "log.level"},
		{"-config testdata/bad-level.toml", 1, "", "log.level"},
		{"completion bash", 0, "complete -F", ""},
		{"completion csh", 2, "", "bash, zsh or fish"},
		{"sources", 0, "program  ", ""},
		{"sources -json", 0, `"programs"`, ""},
		{"sources here", 2, "", "one too many"},
		{"sources -ask i2c-99", 1, "", "hint: on a Raspberry Pi, sudo raspi-config"},
		{"sources -ask spidev0.0", 1, "", "only I2C has addresses"},
		{"status -socket " + filepath.Join(dir, "no.sock"), 1, "", "ask the agent"},
	} {
		var out, errOut bytes.Buffer
		status := Main(strings.Fields(c.args), &out, &errOut)
		if status != c.status || !strings.Contains(out.String(), c.out) || !strings.Contains(errOut.String(), c.errOut) {
			t.Errorf("%s: status %d\nout %s\nerr %s", c.args, status, out.String(), errOut.String())
		}
	}
}

// status asks the running agent; a second agent on the same files is refused;
// without any hub a signed pack from a folder is taken.
func TestAloneWithAPack(t *testing.T) {
	h := newTestHub(t) // for its pack only
	o := h.offer(4, false)
	h.halt()
	keyFile := filepath.Join(h.dir, "release.pem")
	if err := h.release.Public().WriteFile(keyFile); err != nil {
		t.Fatal(err)
	}
	if err := addSignature(h, o); err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	path := filepath.Join(dir, "agent.toml")
	text := fmt.Sprintf("state_dir = \"state\"\n[http]\nlisten = \"127.0.0.1:0\"\n[outbox]\neach = true\n[model]\npack = %q\nrelease_keys = [%q]\n",
		h.store.Dir(), keyFile)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	var out, errOut bytes.Buffer
	if Main([]string{"check", "-config", path}, &out, &errOut) != 0 || !strings.Contains(out.String(), "shade version 4") {
		t.Fatalf("check: %s%s", out.String(), errOut.String())
	}
	c, err := ReadConfig(path)
	if err != nil {
		t.Fatal(err)
	}
	a, _ := run(t, c)
	wait(t, "the model", func() bool { return a.slots.Running() != nil })
	res, err := http.Post("http://"+a.Addr()+"/v2/models/shade/infer", "image/png", bytes.NewReader(picture(t, 240, 1)))
	if err != nil || res.StatusCode != http.StatusOK {
		t.Fatalf("%v, %v", res, err)
	}
	res.Body.Close()
	out.Reset()
	if Main([]string{"status", "-config", path}, &out, &errOut) != 0 || !strings.Contains(out.String(), "shade version 4") ||
		!strings.Contains(out.String(), "1 waiting") && !strings.Contains(out.String(), "2 waiting") {
		t.Errorf("status: %s%s", out.String(), errOut.String())
	}
	out.Reset()
	if Main([]string{"status", "-json", "-config", path}, &out, &errOut) != 0 || !strings.Contains(out.String(), `"epoch"`) {
		t.Errorf("status: %s%s", out.String(), errOut.String())
	}
	errOut.Reset()
	if Main([]string{"run", "-config", path}, &out, &errOut) != exitFail || !strings.Contains(errOut.String(), "in use by another process") {
		t.Errorf("a second agent: %s", errOut.String())
	}
}
