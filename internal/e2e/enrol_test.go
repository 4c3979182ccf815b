package e2e_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"dunlin/internal/freeport"
)

// TestEnrolByClaim: the line that "dunlin fleet enrol --qr" prints is all that
// an agent needs; a second one that is given it gets nothing, and the operator
// sees that it tried.
func TestEnrolByClaim(t *testing.T) {
	f := startFleet(t)
	login := []string{"--hub", f.http, "--token", f.token}
	shown := dunlin(t, append([]string{"fleet", "enrol", "e2e/door", "--qr", "--ttl", "10m"}, login...)...)
	lines := strings.Split(strings.TrimSpace(shown), "\n")
	line := lines[len(lines)-1]
	if len(lines) < 20 || !strings.HasPrefix(line, "dunlin-claim:") || len(line) > 200 {
		t.Fatalf("printed:\n%s", shown)
	}

	card := func(name string) *agent {
		a := &agent{dir: filepath.Join(f.dir, name), http: "http://" + freeport.Addr(t)}
		if err := os.MkdirAll(a.dir, 0o755); err != nil {
			t.Fatal(err)
		}
		config := fmt.Sprintf("state_dir = \"state\"\n[hub]\ntoken_file = \"claim\"\n[http]\nlisten = %q\n", strings.TrimPrefix(a.http, "http://"))
		file := filepath.Join(a.dir, "agent.toml")
		for path, text := range map[string]string{file: config, filepath.Join(a.dir, "claim"): line + "\n"} {
			if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		out, err := exec.Command(filepath.Join(programs, "dunlin-agent"), "check", "-config", file).Output()
		if err != nil || !strings.Contains(string(out), "by a claim that ends at") {
			t.Errorf("check: %v: %s", err, out)
		}
		a.program = &program{t: t, name: "dunlin-agent", args: []string{"run", "-config", file}, log: filepath.Join(f.dir, name+".log")}
		a.start()
		t.Cleanup(a.stop)
		return a
	}
	first := card("door")
	online := func() error {
		var d struct{ Online bool }
		if err := f.ask("GET", "/v1/devices/e2e/door", nil, &d); err != nil {
			return err
		}
		if !d.Online {
			return errors.New("it is offline")
		}
		return nil
	}
	wait(t, time.Minute, "the device to be online", online)
	if _, err := os.Stat(filepath.Join(first.dir, "claim")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the claim is still there: %v", err)
	}

	// Killed and started again, it is the same device with its own token.
	first.kill()
	first.start()
	wait(t, time.Minute, "the device to be online again", online)

	second := card("thief")
	wait(t, time.Minute, "the second use to be refused", func() error {
		var s struct{ Hub struct{ Error string } }
		if err := call("GET", second.http+"/v1/status", "", strings.NewReader(""), &s); err != nil {
			return err
		}
		if !strings.Contains(s.Hub.Error, "used, by e2e/door") {
			return fmt.Errorf("it says %q", s.Hub.Error)
		}
		return nil
	})
	var out struct {
		Claims []struct {
			Devices []string
			Refused int
		}
	}
	if err := json.Unmarshal([]byte(dunlin(t, append([]string{"fleet", "claims", "--json"}, login...)...)), &out); err != nil {
		t.Fatal(err)
	}
	if len(out.Claims) != 1 || out.Claims[0].Refused != 1 || strings.Join(out.Claims[0].Devices, " ") != "e2e/door" {
		t.Errorf("%+v", out)
	}
	if table := dunlin(t, append([]string{"fleet", "claims"}, login...)...); !strings.Contains(table, "used") || !strings.Contains(table, "1, from 127.0.0.1") {
		t.Errorf("claims:\n%s", table)
	}
}

// TestEnrolPNG: the code in a file is the line that was printed, as another
// program reads it.
func TestEnrolPNG(t *testing.T) {
	f := startFleet(t)
	file := filepath.Join(f.dir, "claim.png")
	line := strings.TrimSpace(dunlin(t, "fleet", "enrol", "--count", "3", "--png", file, "--hub", f.http, "--token", f.token))
	zbar, err := exec.LookPath("zbarimg")
	if err != nil {
		if os.Getenv("CI") != "" {
			t.Fatal("zbarimg is missing: apt-get install zbar-tools")
		}
		t.Skip("zbarimg is missing: apt-get install zbar-tools")
	}
	out, err := exec.Command(zbar, "--raw", "-q", file).Output()
	if err != nil || strings.TrimSpace(string(out)) != line {
		t.Errorf("%v: read %q, printed %q", err, out, line)
	}
}
