package deb

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// need skips a test where a program of Debian's is not installed.
func need(t *testing.T, program string) {
	t.Helper()
	if _, err := exec.LookPath(program); err != nil {
		t.Skipf("there is no %s", program)
	}
}

// output runs a program, and fails the test where it fails.
func output(t *testing.T, name string, args ...string) string {
	t.Helper()
	out, err := exec.Command(name, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
	return string(out)
}

// small is a package with one of everything.
func small() *Package {
	return &Package{
		Name: "small", Version: "1.2.0~rc1", Arch: "all", Maintainer: "A Person <person@dunlin.invalid>", Section: "misc",
		Depends: "passwd", Summary: "nothing", Text: "First.\n\nSecond.\n", Time: time.Unix(1700000001, 999),
		Scripts: map[string][]byte{"postinst": []byte("#!/bin/sh\nexit 0\n")},
		Files: []File{
			{Path: "/usr/share/small/odd", Mode: 0o644, Data: []byte("odd")},
			{Path: "/etc/small.conf", Mode: 0o640, Data: []byte("x = 1\n"), Config: true},
			{Path: "/usr/share/a", Mode: 0o755, Data: make([]byte, 1025)},
		},
	}
}

func written(t *testing.T, p *Package) (path string, data []byte) {
	t.Helper()
	var b bytes.Buffer
	if err := p.Write(&b); err != nil {
		t.Fatal(err)
	}
	path = filepath.Join(t.TempDir(), p.FileName())
	if err := os.WriteFile(path, b.Bytes(), 0o644); err != nil {
		t.Fatal(err)
	}
	return path, b.Bytes()
}

// dpkg-deb is the reference for the format.
func TestWrite(t *testing.T) {
	need(t, "dpkg-deb")
	path, data := written(t, small())
	if _, again := written(t, small()); !bytes.Equal(data, again) {
		t.Error("two runs made different bytes")
	}
	if got, want := output(t, "dpkg-deb", "-f", path), `Package: small
Version: 1.2.0~rc1
Architecture: all
Maintainer: A Person <person@dunlin.invalid>
Installed-Size: 9
Depends: passwd
Section: misc
Priority: optional
Description: nothing
 First.
 .
 Second.
`; got != want {
		t.Errorf("control:\n%s", got)
	}
	if got := output(t, "dpkg-deb", "-I", path, "conffiles"); got != "/etc/small.conf\n" {
		t.Errorf("conffiles: %q", got)
	}
	list := output(t, "dpkg-deb", "-c", path)
	for _, want := range []string{"drwxr-xr-x root/root", "-rw-r----- root/root         6 ", "2023-11-14", "./usr/share/small/odd\n"} {
		if !strings.Contains(list, want) {
			t.Errorf("no %q in\n%s", want, list)
		}
	}
	root := t.TempDir()
	output(t, "dpkg-deb", "-x", path, root)
	output(t, "dpkg-deb", "-e", path, filepath.Join(root, "DEBIAN"))
	output(t, "sh", "-c", "cd "+root+" && md5sum --quiet --strict -c DEBIAN/md5sums && test -x DEBIAN/postinst")
}

func TestWriteRefuses(t *testing.T) {
	for want, spoil := range map[string]func(*Package){
		"name":           func(p *Package) { p.Name = "Small" },
		"version":        func(p *Package) { p.Version = "1.0-rc1" },
		"(devel)":        func(p *Package) { p.Version = "(devel)" },
		"architecture":   func(p *Package) { p.Arch = "" },
		"maintainer":     func(p *Package) { p.Maintainer = "me" },
		"one line":       func(p *Package) { p.Depends = "passwd\nEssential: yes" },
		"summary":        func(p *Package) { p.Summary = "" },
		"time":           func(p *Package) { p.Time = time.Time{} },
		`script "evil"`:  func(p *Package) { p.Scripts["evil"] = nil },
		`"/usr/../etc"`:  func(p *Package) { p.Files[0].Path = "/usr/../etc" },
		`"usr"`:          func(p *Package) { p.Files[0].Path = "usr" },
		`"/usr/share/a"`: func(p *Package) { p.Files[0].Path = "/usr/share/a" },
	} {
		p := small()
		spoil(p)
		var b bytes.Buffer
		if err := p.Write(&b); err == nil || !strings.Contains(err.Error(), want) || b.Len() > 0 {
			t.Errorf("%s: error %v, %d bytes written", want, err, b.Len())
		}
	}
}

func TestVersion(t *testing.T) {
	need(t, "dpkg")
	for _, pair := range [][2]string{{"v1.2.0-rc1", "1.2.0"}, {"1.2.0", "1.2.1-dev"}, {"0.1.0-dev", "v0.1.0"}, {"1.9.0", "1.10.0"}} {
		output(t, "dpkg", "--compare-versions", Version(pair[0]), "lt", Version(pair[1]))
	}
}

func TestIdentifyRefuses(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]string{"/bin/sh": "no program of dunlin", self: "no program of dunlin: it is", "/nowhere": "no such file"} {
		if _, err := Identify(path); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", path, err)
		}
	}
}

func FuzzIdentify(f *testing.F) {
	f.Add([]byte("\x7fELF"))
	f.Add([]byte("\xff Go buildinf:"))
	f.Fuzz(func(t *testing.T, data []byte) {
		if b, err := identify(data); err == nil && b.Arch == "" {
			t.Errorf("a program %q without an architecture", b.Program)
		}
	})
}
