// Package deb makes Debian packages of the two programs. Start with Identify,
// which says what a binary is, then Agent or Hub, then Package.Write; nothing
// else is needed on the machine where they are made, not even Debian.
//
// Its promise: the same binary, version and time give the same bytes.
//
// It builds no binaries (make build does), signs nothing and keeps no archive.
//
// A package is an ar archive of three members (deb(5)): debian-binary, and two
// tar archives, one of what dpkg is to know and one of the files. Go's archive/tar and
// compress/gzip write them; ar is a header of 60 bytes in front of each.
package deb

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto/md5"
	"fmt"
	"io"
	"io/fs"
	"path"
	"regexp"
	"slices"
	"strings"
	"time"
)

// Package is a binary package of Debian. What is said of a field is what Write
// demands.
type Package struct {
	Name       string
	Version    string // as Debian compares them: 1.2.0~rc1 comes before 1.2.0
	Arch       string // amd64, arm64, armhf or all
	Maintainer string // NAME <ADDRESS>
	Depends    string // "" or what stands after Depends:
	Section    string
	Summary    string            // one line
	Text       string            // lines below it; an empty one parts paragraphs
	Time       time.Time         // of every file in it
	Scripts    map[string][]byte // postinst and so on
	Files      []File
}

// File is one file of a package. Folders above it are made by Write.
type File struct {
	Path   string // /usr/bin/dunlin
	Mode   fs.FileMode
	Data   []byte
	Config bool // a conffile: what an administrator changed in it outlives upgrades
}

const (
	validName    = `^[a-z0-9][a-z0-9+.-]+$`
	validVersion = `^[0-9][A-Za-z0-9.+~]*$`
	validScript  = `^(pre|post)(inst|rm)$`
)

// check returns what is wrong with a package.
func (p *Package) check() error {
	for _, r := range []struct {
		wrong bool
		what  string
	}{
		{!matches(validName, p.Name), fmt.Sprintf("name %q", p.Name)},
		{!matches(validVersion, p.Version), fmt.Sprintf("version %q: want a digit, then letters, digits, dots, + and ~", p.Version)},
		{!matches(validName, p.Arch), fmt.Sprintf("architecture %q", p.Arch)},
		{!strings.HasSuffix(p.Maintainer, ">") || !strings.Contains(p.Maintainer, " <"), fmt.Sprintf("maintainer %q: want NAME <ADDRESS>", p.Maintainer)},
		{strings.ContainsAny(p.Maintainer+p.Depends+p.Section+p.Summary, "\n\r"), "a field of more than one line"},
		{p.Summary == "", "no summary"},
		{p.Time.Unix() < 0, fmt.Sprintf("time %v", p.Time)},
	} {
		if r.wrong {
			return fmt.Errorf("package %s: %s", p.Name, r.what)
		}
	}
	seen := map[string]bool{}
	for _, f := range p.Files {
		if !path.IsAbs(f.Path) || path.Clean(f.Path) != f.Path || f.Path == "/" || strings.ContainsAny(f.Path, " \n") || seen[f.Path] {
			return fmt.Errorf("package %s: file %q", p.Name, f.Path)
		}
		seen[f.Path] = true
	}
	for name := range p.Scripts {
		if !matches(validScript, name) {
			return fmt.Errorf("package %s: script %q", p.Name, name)
		}
	}
	return nil
}

// FileName is NAME_VERSION_ARCH.deb.
func (p *Package) FileName() string {
	return p.Name + "_" + p.Version + "_" + p.Arch + ".deb"
}

// Write writes the package to w.
func (p *Package) Write(w io.Writer) error {
	if err := p.check(); err != nil {
		return err
	}
	files := slices.SortedFunc(slices.Values(p.Files), func(a, b File) int { return strings.Compare(a.Path, b.Path) })
	data, err := p.archive(files, true)
	if err != nil {
		return err
	}
	control, err := p.archive(p.control(files), false)
	if err != nil {
		return err
	}
	if _, err := io.WriteString(w, "!<arch>\n"); err != nil {
		return err
	}
	for _, m := range []struct {
		name string
		data []byte
	}{{"debian-binary", []byte("2.0\n")}, {"control.tar.gz", control}, {"data.tar.gz", data}} {
		if err := p.member(w, m.name, m.data); err != nil {
			return err
		}
	}
	return nil
}

// member writes a member of an ar archive: name, time, owner, group, mode in
// octal and size, as text in fields of fixed width; data of odd length is
// padded.
func (p *Package) member(w io.Writer, name string, data []byte) error {
	if _, err := fmt.Fprintf(w, "%-16s%-12d%-6d%-6d%-8s%-10d`\n", name, p.Time.Unix(), 0, 0, "100644", len(data)); err != nil {
		return err
	}
	if len(data)%2 == 1 {
		data = append(slices.Clip(data), '\n')
	}
	_, err := w.Write(data)
	return err
}

// control returns the files of the control archive, whose paths are names.
func (p *Package) control(files []File) []File {
	var sums, conf bytes.Buffer
	kib := 0 // as dpkg-gencontrol counts: each file rounded up, each folder 1
	folders := map[string]bool{}
	for _, f := range files {
		kib += (len(f.Data) + 1023) / 1024
		for dir := path.Dir(f.Path); !folders[dir]; dir = path.Dir(dir) {
			folders[dir] = true
			kib++
		}
		if f.Config {
			fmt.Fprintln(&conf, f.Path)
			continue
		}
		fmt.Fprintf(&sums, "%x  %s\n", md5.Sum(f.Data), f.Path[1:])
	}
	out := []File{{Path: "/control", Mode: 0o644, Data: p.fields(kib)}, {Path: "/md5sums", Mode: 0o644, Data: sums.Bytes()}}
	if conf.Len() > 0 {
		out = append(out, File{Path: "/conffiles", Mode: 0o644, Data: conf.Bytes()})
	}
	for name, text := range p.Scripts {
		out = append(out, File{Path: "/" + name, Mode: 0o755, Data: text})
	}
	slices.SortFunc(out, func(a, b File) int { return strings.Compare(a.Path, b.Path) })
	return out
}

// fields writes the control file; kib is the room that the package takes.
func (p *Package) fields(kib int) []byte {
	var b bytes.Buffer
	for _, f := range [][2]string{
		{"Package", p.Name},
		{"Version", p.Version},
		{"Architecture", p.Arch},
		{"Maintainer", p.Maintainer},
		{"Installed-Size", fmt.Sprint(kib)},
		{"Depends", p.Depends},
		{"Section", p.Section},
		{"Priority", "optional"},
		{"Description", p.Summary},
	} {
		if f[1] != "" {
			fmt.Fprintf(&b, "%s: %s\n", f[0], f[1])
		}
	}
	for line := range strings.Lines(p.Text) {
		if line = strings.TrimRight(line, "\n"); line == "" {
			line = "."
		}
		fmt.Fprintf(&b, " %s\n", line)
	}
	return b.Bytes()
}

// archive makes a compressed tar archive of files, with the folders above them
// where folders is set.
func (p *Package) archive(files []File, folders bool) ([]byte, error) {
	var out bytes.Buffer
	zip, err := gzip.NewWriterLevel(&out, gzip.BestCompression)
	if err != nil {
		return nil, err
	}
	t := tar.NewWriter(zip)
	add := func(name string, kind byte, mode fs.FileMode, data []byte) error {
		h := tar.Header{
			Name: name, Typeflag: kind, Mode: int64(mode.Perm()), Size: int64(len(data)), ModTime: time.Unix(p.Time.Unix(), 0),
			Uname: "root", Gname: "root", Format: tar.FormatGNU,
		}
		if err := t.WriteHeader(&h); err != nil {
			return fmt.Errorf("package %s: %s: %w", p.Name, name, err)
		}
		_, err := t.Write(data)
		return err
	}
	if err := add("./", tar.TypeDir, 0o755, nil); err != nil {
		return nil, err
	}
	made := map[string]bool{"/": true}
	for _, f := range files {
		for i := 1; folders && i < len(f.Path); i++ {
			if dir := f.Path[:i]; f.Path[i] == '/' && !made[dir] {
				made[dir] = true
				if err := add("."+dir+"/", tar.TypeDir, 0o755, nil); err != nil {
					return nil, err
				}
			}
		}
		if err := add("."+f.Path, tar.TypeReg, f.Mode, f.Data); err != nil {
			return nil, err
		}
	}
	if err := t.Close(); err != nil {
		return nil, err
	}
	if err := zip.Close(); err != nil {
		return nil, err
	}
	return out.Bytes(), nil
}

// matches compiles a form when it is needed: this package is linked into a
// program that mostly does something else.
func matches(form, s string) bool { return regexp.MustCompile(form).MatchString(s) }
