package deb

import (
	"bytes"
	"errors"
	"os"
	"strings"
	"testing"
)

func TestReadControl(t *testing.T) {
	_, data := written(t, small())
	c, err := ReadControl(data)
	if want := (Control{"small", "1.2.0~rc1", "all"}); err != nil || c != want {
		t.Fatalf("%+v, %v; want %+v", c, err, want)
	}
	for n := range len(data) - 1 { // the last byte may be padding
		if c, err := ReadControl(data[:n]); !errors.Is(err, ErrNoPackage) {
			t.Fatalf("%d of %d bytes were taken: %+v", n, len(data), c)
		}
	}
	for what, tc := range map[string]struct {
		data []byte
		want string
	}{
		"junk":            {[]byte("!<arch>\njunk"), "4 bytes are left"},
		"another version": {bytes.Replace(data, []byte("2.0\n"), []byte("3.0\n"), 1), `"3.0\n"`},
		"another order":   {bytes.Replace(data, []byte("control.tar.gz"), []byte("data.tar.gz   "), 1), `"data.tar.gz"`},
		"another packing": {bytes.Replace(data, []byte("control.tar.gz"), []byte("control.tar.xz"), 1), "not control.tar.gz"},
		"a size":          {bytes.Replace(data, []byte("4         `"), []byte("-4        `"), 1), "its size"},
	} {
		if _, err := ReadControl(tc.data); !errors.Is(err, ErrNoPackage) || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: %v, want %s", what, err, tc.want)
		}
	}
	for _, text := range []string{"", "Package: a b\nVersion: 1\nArchitecture: all\n", "Package: ab\nArchitecture: all\n", " Package: ab\n Version: 1\n Architecture: all\n"} {
		if c, err := parseControl(text); err == nil {
			t.Errorf("%q was taken: %+v", text, c)
		}
	}
}

// dpkg-deb is the reference for what others make.
func TestReadOthers(t *testing.T) {
	need(t, "dpkg-deb")
	path, _ := written(t, small())
	root := t.TempDir()
	output(t, "dpkg-deb", "-R", path, root+"/tree")
	output(t, "dpkg-deb", "-Zgzip", "-b", root+"/tree", root+"/other.deb")
	other, err := os.ReadFile(root + "/other.deb")
	if err != nil {
		t.Fatal(err)
	}
	c, err := ReadControl(other)
	if want := (Control{"small", "1.2.0~rc1", "all"}); err != nil || c != want {
		t.Errorf("%+v, %v; want %+v", c, err, want)
	}
}

func FuzzReadControl(f *testing.F) {
	var b bytes.Buffer
	if err := small().Write(&b); err != nil {
		f.Fatal(err)
	}
	f.Add(b.Bytes())
	f.Add([]byte("!<arch>\njunk"))
	f.Fuzz(func(t *testing.T, data []byte) {
		if c, err := ReadControl(data); err == nil && (c.Package == "" || c.Version == "" || c.Arch == "") {
			t.Errorf("%+v", c)
		} else if err != nil && !errors.Is(err, ErrNoPackage) {
			t.Error(err)
		}
	})
}
