package cli

import (
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"dunlin/hub"
	"dunlin/internal/release"
	"dunlin/internal/sign"
	"dunlin/sync/wire"
)

// startHub runs a hub until the test ends, and has the commands know it.
func startHub(t *testing.T, keys ...sign.PublicKey) {
	t.Helper()
	dir := t.TempDir()
	h, err := hub.Open(hub.Options{Dir: dir, HTTPAddr: "127.0.0.1:0", MQTTAddr: "127.0.0.1:0", ReleaseKeys: keys, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- h.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	select {
	case <-h.Ready():
	case err := <-ended:
		ended <- nil
		t.Fatal(err)
	}
	token, err := os.ReadFile(filepath.Join(dir, "admin.token"))
	if err != nil {
		t.Fatal(err)
	}
	t.Setenv("DUNLIN_HUB", h.HTTPURL())
	t.Setenv("DUNLIN_TOKEN", strings.TrimSpace(string(token)))
}

// TestFleetHints: what the hub refuses comes with the command that helps.
func TestFleetHints(t *testing.T) {
	startHub(t)
	refused := func(want string, args ...string) {
		t.Helper()
		if status, _, errs := try(t, args...); status != statusFailed || !strings.Contains(errs, want) {
			t.Errorf("%v: status %d: %s, want %q", args, status, errs, want)
		}
	}
	refused("dunlin-agent 9.9.9: no such release at the hub\ndunlin: hint: send it there first: dunlin agent push", "fleet", "rollout", release.Name, "9.9.9")
	must(t, "fleet", "enrol", "line-1")
	refused("dunlin fleet enrol default/line-1 --claim --renew", "fleet", "enrol", "line-1", "--claim")
	status, line, notes := try(t, "fleet", "enrol", "line-1", "--claim", "--renew")
	if status != statusOK || !wire.IsClaim(strings.TrimSpace(line)) || !strings.Contains(notes, "a board cannot reach this hub") || !strings.Contains(notes, "dunlin hub --lan HOST") {
		t.Errorf("status %d, %q\n%s", status, line, notes)
	}
}

// TestNoteOf: by the address in a claim.
func TestNoteOf(t *testing.T) {
	for address, want := range map[string]string{
		"http://127.0.0.1:7070": "cannot reach", "http://localhost:7070": "cannot reach", "https://[::1]:7070": "cannot reach", "https://127.0.0.2": "cannot reach",
		"http://10.0.0.5:7070": "without TLS", "https://10.0.0.5:7070": "", "https://localhost.example": "",
	} {
		line := claimOf(t, address)
		if note := noteOf(line); (note == "") != (want == "") || !strings.Contains(note, want) {
			t.Errorf("%s: %q, want %q", address, note, want)
		}
	}
}
