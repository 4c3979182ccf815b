package deb

import (
	"bytes"
	"debug/buildinfo"
	"fmt"
	"os"
	"strings"
)

// Binary is a program to be packed.
type Binary struct {
	Program string // dunlin-agent or dunlin
	Arch    string // Debian's name: amd64, arm64, armhf

	data []byte
}

// maxBinary bounds what is read.
const maxBinary = 512 << 20

// Identify reads a program and says what it is, from what Go's linker wrote
// into it. A program that is none of dunlin's, or built for a system that Debian
// has no package for, is an error.
func Identify(path string) (Binary, error) {
	info, err := os.Stat(path)
	if err != nil {
		return Binary{}, err
	}
	if info.Size() > maxBinary {
		return Binary{}, fmt.Errorf("%s: %d bytes, more than %d", path, info.Size(), maxBinary)
	}
	data, err := os.ReadFile(path)
	if err != nil {
		return Binary{}, err
	}
	b, err := identify(data)
	if err != nil {
		return Binary{}, fmt.Errorf("%s: %w", path, err)
	}
	return b, nil
}

func identify(data []byte) (Binary, error) {
	info, err := buildinfo.Read(bytes.NewReader(data))
	if err != nil {
		return Binary{}, fmt.Errorf("no program of dunlin: %w", err)
	}
	b := Binary{data: data}
	var found bool
	if b.Program, found = strings.CutPrefix(info.Path, "dunlin/cmd/"); !found || b.Program != "dunlin" && b.Program != "dunlin-agent" {
		return Binary{}, fmt.Errorf("no program of dunlin: it is %q", info.Path)
	}
	set := map[string]string{}
	for _, s := range info.Settings {
		set[s.Key] = s.Value
	}
	switch target := set["GOOS"] + "/" + set["GOARCH"]; {
	case target == "linux/amd64", target == "linux/arm64":
		b.Arch = set["GOARCH"]
	case target == "linux/arm" && set["GOARM"] != "5":
		b.Arch = "armhf" // Raspberry Pi OS means ARMv6 by it, Debian ARMv7
	default:
		return Binary{}, fmt.Errorf("built for %s %s: there are packages for linux/amd64, linux/arm64 and linux/arm from ARMv6 on", target, set["GOARM"])
	}
	if set["CGO_ENABLED"] == "1" {
		return Binary{}, fmt.Errorf("built with cgo, so it needs the C library of the machine where it was built: build it with CGO_ENABLED=0, as make build does")
	}
	return b, nil
}

// Data is the program itself.
func (b Binary) Data() []byte { return b.data }

// SetTo reports whether the linker has set a variable of a program to a text:
// -X gives it a zero byte behind it, which the texts of the compiler have not.
// So 0.2.0 is not found in a program of 0.2.0-dev, nor in one that needs a
// library of that version.
func SetTo(program []byte, text string) bool {
	return bytes.Contains(program, append([]byte(text), 0))
}

// HasVersion reports whether the program can be of version v: whether the
// text is in it. Where the compiler has set it, not the linker, that is all there
// is to see.
func (b Binary) HasVersion(v string) bool { return bytes.Contains(b.data, []byte(v)) }
