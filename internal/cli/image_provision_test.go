package cli

import (
	"encoding/json"
	"io/fs"
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

	"dunlin/firmware-tools/image"
	"dunlin/sync/wire"
)

// TestImageProvision runs the command as a person does: an image, an agent, a
// claim in a file.
func TestImageProvision(t *testing.T) {
	dir := t.TempDir()
	at := func(name string) string { return filepath.Join(dir, name) }
	d, err := diskfs.Create(at("os.img"), 150<<20, diskfs.SectorSizeDefault)
	if err != nil {
		t.Fatal(err)
	}
	table := &mbr.Table{LogicalSectorSize: 512, PhysicalSectorSize: 512, Partitions: []*mbr.Partition{{Index: 1, Type: mbr.Fat32LBA, Start: 8192, Size: 140 << 11}}}
	if err := d.Partition(table); err != nil {
		t.Fatal(err)
	}
	boot, err := d.CreateFilesystem(disk.FilesystemSpec{Partition: 1, FSType: filesystem.TypeFat32, VolumeLabel: "bootfs"})
	if err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{"cmdline.txt": "console=tty1 rootwait\n", "config.txt": "\n", "user-data": "#cloud-config\n", "meta-data": "\n"} {
		f, err := boot.OpenFile(name, os.O_CREATE|os.O_RDWR)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := f.Write([]byte(text)); err != nil {
			t.Fatal(err)
		}
	}
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	build := exec.Command("go", "build", "-trimpath", "-tags", "nethttpomithttp2", "-ldflags", "-s -w", "-o", at("agent"), "dunlin/cmd/dunlin-agent")
	build.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux", "GOARCH=arm64")
	if text, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, text)
	}
	claim := claimOf(t, "http://10.0.0.5:7070")
	for name, text := range map[string]string{"claim": claim + "\n", "wifi": "correct horse\n", "key.pub": "# mine\nssh-ed25519 AAAA me\n"} {
		if err := os.WriteFile(at(name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	call := func(args ...string) (status int, stdout, stderr string) {
		return try(t, append([]string{"image", "provision"}, args...)...)
	}
	usual := []string{at("os.img"), "--agent", at("agent"), "--claim", "@" + at("claim")}
	for _, tc := range []struct {
		args   []string
		status int
		want   string // on standard error
	}{
		{nil, statusUsage, "arg"},
		{[]string{at("os.img")}, statusUsage, "--agent or --deb"},
		{[]string{at("os.img"), "--agent", at("agent"), "--deb", at("agent")}, statusUsage, "--agent or --deb"},
		{append(usual, "--in-place", "-o", "x"), statusUsage, "leave --output out"},
		{[]string{at("os.img"), "--agent", at("agent"), "--claim", "dunlin-claim:1.x"}, statusFailed, "hint: copy the whole line"},
		{[]string{at("claim"), "--agent", at("agent")}, statusFailed, "no boot partition"},
		{append(usual, "--wifi", "Barn", "--wifi-password-file", at("wifi")), statusFailed, "hint: for example DE"},
		{append(usual, "-o", at("agent")), statusFailed, "is there already"},
	} {
		if status, _, errOut := call(tc.args...); status != tc.status || !strings.Contains(errOut, tc.want) {
			t.Errorf("%v: status %d\n%s", tc.args, status, errOut)
		}
	}
	if status, out, _ := call(append(usual, "--dry-run")...); status != 0 || !strings.Contains(out, "nothing was written") {
		t.Errorf("dry run: status %d\n%s", status, out)
	}
	if entries, err := os.ReadDir(dir); err != nil || len(entries) != 5 {
		t.Errorf("left behind: %v, %v", entries, err)
	}
	status, out, errOut := call(append(usual, "--json", "--user", "ann", "--ssh-key", at("key.pub"), "--wifi", "Barn", "--wifi-password-file", at("wifi"), "--wifi-country", "DE")...)
	var r struct {
		Image string
		image.Report
	}
	if err := json.Unmarshal([]byte(out), &r); status != 0 || err != nil || r.Image != at("os-dunlin.img") || r.Format != image.Trixie {
		t.Fatalf("status %d, %v\n%s%s", status, err, out, errOut)
	}
	if s, err := image.Inspect(r.Image); err != nil || !s.Prepared {
		t.Errorf("%+v, %v", s, err)
	}
	if s, err := image.Inspect(at("os.img")); err != nil || s.Prepared {
		t.Errorf("the image itself was written to: %+v, %v", s, err)
	}
	if status, out, errOut := call(append(usual, "--in-place")...); status != 0 || !strings.Contains(out, "dunlin-token") || !strings.Contains(errOut, "the claim is good for 1h0m0s") {
		t.Errorf("in place: status %d\n%s%s", status, out, errOut)
	}
}

// claimOf is a claim of a hub at that address.
func claimOf(t *testing.T, address string) string {
	t.Helper()
	line, err := wire.NewClaim(address, [32]byte{}, time.Now(), time.Hour).Encode()
	if err != nil {
		t.Fatal(err)
	}
	return line
}

// TestDeviceHint: root is advised for a card's device, not for a folder.
func TestDeviceHint(t *testing.T) {
	for path, want := range map[string]bool{os.DevNull: true, filepath.Join(t.TempDir(), "os.img"): false} {
		f := provisionFlags{o: image.Options{Image: path}}
		if hint := hintOf(f.hinted(&fs.PathError{Op: "open", Path: "/root/x", Err: fs.ErrPermission})); strings.Contains(hint, "root") != want {
			t.Errorf("%s: hint %q", path, hint)
		}
	}
}
