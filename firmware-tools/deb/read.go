package deb

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"path"
	"strconv"
	"strings"
)

// Control is what a package says of itself, as far as it is asked here.
type Control struct {
	Package, Version string
	Arch             string // amd64, arm64, armhf or all
}

// Bounds of what is read of a package that somebody else may have made.
const (
	maxControlTar = 4 << 20
	maxControl    = 64 << 10
)

// ErrNoPackage is wrapped by the error for what is no Debian package, or not
// the whole of one.
var ErrNoPackage = errors.New("no Debian package")

// ReadControl reads what a package says of itself, and holds that all of the
// package is there. Its control archive must be compressed as Write does it, with
// gzip, or not at all. Errors wrap ErrNoPackage.
func ReadControl(deb []byte) (Control, error) {
	c, err := readControl(deb)
	if err != nil {
		return Control{}, fmt.Errorf("%w: %w", ErrNoPackage, err)
	}
	return c, nil
}

// readControl walks the three members: see the top of deb.go.
func readControl(deb []byte) (c Control, err error) {
	rest, ok := bytes.CutPrefix(deb, []byte("!<arch>\n"))
	if !ok {
		return c, errors.New("it is no ar archive")
	}
	var name string
	var version, control, data []byte
	if name, version, rest, err = cutMember(rest); err != nil {
		return c, err
	}
	if name != "debian-binary" || !bytes.HasPrefix(version, []byte("2.")) {
		return c, fmt.Errorf("its first member is %.20q, %.10q", name, version)
	}
	if name, control, rest, err = cutMember(rest); err != nil {
		return c, err
	}
	var from io.Reader = bytes.NewReader(control)
	switch name {
	case "control.tar":
	case "control.tar.gz":
		if from, err = gzip.NewReader(from); err != nil {
			return c, fmt.Errorf("%s: %w", name, err)
		}
	default:
		return c, fmt.Errorf("its second member is %.20q, not control.tar.gz", name)
	}
	if c, err = controlIn(io.LimitReader(from, maxControlTar)); err != nil {
		return c, fmt.Errorf("%s: %w", name, err)
	}
	if name, data, _, err = cutMember(rest); err != nil {
		return c, err
	}
	if !strings.HasPrefix(name, "data.tar") || len(data) == 0 {
		return c, fmt.Errorf("its third member is %.20q of %d bytes", name, len(data))
	}
	return c, nil
}

// cutMember takes the first member off an ar archive.
func cutMember(ar []byte) (name string, data, rest []byte, err error) {
	const head, nameLen, sizeAt, sizeLen = 60, 16, 48, 10
	if len(ar) < head || ar[head-2] != '`' || ar[head-1] != '\n' {
		return "", nil, nil, fmt.Errorf("a member is missing, or its head is damaged: %d bytes are left", len(ar))
	}
	name = strings.TrimSuffix(strings.TrimRight(string(ar[:nameLen]), " "), "/")
	size, err := strconv.ParseUint(strings.TrimRight(string(ar[sizeAt:sizeAt+sizeLen]), " "), 10, 40)
	if err != nil {
		return "", nil, nil, fmt.Errorf("member %.20q: its size: %w", name, err)
	}
	ar = ar[head:]
	if size > uint64(len(ar)) {
		return "", nil, nil, fmt.Errorf("member %.20q has %d bytes, and %d are there: it was cut off", name, size, len(ar))
	}
	data, rest = ar[:size], ar[size:]
	if size%2 == 1 && len(rest) > 0 {
		rest = rest[1:]
	}
	return name, data, rest, nil
}

// controlIn finds the control file in its archive.
func controlIn(from io.Reader) (c Control, err error) {
	for t := tar.NewReader(from); ; {
		h, err := t.Next()
		if errors.Is(err, io.EOF) {
			return c, errors.New("there is no control file in it")
		}
		if err != nil {
			return c, err
		}
		if path.Clean(h.Name) != "control" || h.Typeflag != tar.TypeReg {
			continue
		}
		if h.Size > maxControl {
			return c, fmt.Errorf("a control file of %d bytes, at most %d", h.Size, maxControl)
		}
		text, err := io.ReadAll(t)
		if err != nil {
			return c, err
		}
		return parseControl(string(text))
	}
}

// parseControl reads the fields: deb-control(5). Lines that begin with a space
// continue a field that is not asked for.
func parseControl(text string) (c Control, err error) {
	fields := map[string]*string{"package": &c.Package, "version": &c.Version, "architecture": &c.Arch}
	for line := range strings.Lines(text) {
		key, value, _ := strings.Cut(line, ":")
		if to := fields[strings.ToLower(key)]; to != nil {
			*to = strings.TrimSpace(value)
		}
	}
	if !matches(validName, c.Package) || !matches(validName, c.Arch) || c.Version == "" {
		return Control{}, fmt.Errorf("its control file names package %.40q, version %.40q, architecture %.40q", c.Package, c.Version, c.Arch)
	}
	return c, nil
}
