// Package image puts the agent into a Raspberry Pi OS image, or onto a card
// that holds one: Provision writes the agent, its configuration, its claim and
// the person's own settings to the boot partition, and has the first boot
// install them. Inspect says what an image is.
//
// Its promise: an image that is not understood is not written to; what starts
// the first boot's work is written last, so that an interrupted Provision
// leaves an image that boots as before; done twice, it replaces what it wrote.
// The claim and every secret is overwritten on the card when it was used (files/first-boot.sh).
//
// The two ways of the first boot, as Raspberry Pi Imager goes them:
//
//	Bookworm  firstrun.sh, which cmdline.txt names (systemd.run=)
//	Trixie    cloud-init: user-data, meta-data, network-config, and cmdline.txt names the instance (ds=nocloud)
//
// The root file system is read, to know the system, and never written: FAT
// survives every layout of it, and every computer can look at what was written.
package image

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	_ "embed"
)

// Format is the way of the first boot.
type Format string

// The formats.
const (
	Auto     Format = "auto" // what the image has
	Bookworm Format = "bookworm"
	Trixie   Format = "trixie"
)

// Options say what is put into an image.
type Options struct {
	Image  string // file or block device
	Format Format // "": Auto

	// One of them: the program, or its Debian package. It is for the image's
	// architecture.
	Agent, Deb string

	Token    string // a claim's or a token's line, "": none
	Config   []byte // agent.toml, nil: the package's own
	Settings Settings

	// DryRun reads and checks everything, and writes nothing.
	DryRun bool
	// Progress is told how much of the program is written, nil: nobody.
	Progress func(done, total int64)
}

// Written is one file of the boot partition that Provision wrote.
type Written struct {
	Name  string `json:"name"`
	Bytes int64  `json:"bytes"`
}

// Report says what Provision found and did.
type Report struct {
	System  System    `json:"system"`
	Format  Format    `json:"format"`
	Files   []Written `json:"files"`
	Cmdline string    `json:"cmdline"` // of the kernel, as it is now
	Notes   []string  `json:"notes,omitempty"`
}

// Error is what an image or an option is refused for.
type Error struct {
	Err  error
	Hint string // one sentence for a person, or ""
}

func (e *Error) Error() string { return e.Err.Error() }
func (e *Error) Unwrap() error { return e.Err }

func refuse(hint, format string, a ...any) error { return &Error{fmt.Errorf(format, a...), hint} }

// Names on the boot partition. They lie in its root: the library that writes
// it makes folders whose way up fsck complains about.
const (
	nameAgent  = "dunlin-agent"
	nameDeb    = "dunlin-agent.deb"
	nameToken  = "dunlin-token"
	nameConfig = "dunlin-agent.toml"
	nameScript = "dunlin-first-boot.sh"
	nameTheirs = "dunlin-other-firstrun.sh" // a firstrun.sh that was there before
	nameRun    = "firstrun.sh"
	nameUser   = "user-data"
	nameMeta   = "meta-data"
	nameNet    = "network-config"
	nameKernel = "cmdline.txt"
)

// mark is the line by which a file of ours is known again.
const mark = "# dunlin image provision"

// nothing is the content of a file that is no longer meant to be there.
const nothing = mark + ": nothing\n"

// firstBoot installs the agent on the running board.
//
//go:embed files/first-boot.sh
var firstBoot []byte

// file is what is to be written.
type file struct {
	name string
	data []byte
}

// Provision writes to the image that o names, in place. Errors are *Error
// where a person can do something about them.
func Provision(o Options) (r Report, err error) {
	if err := o.check(); err != nil {
		return r, err
	}
	d, err := openDisk(o.Image, !o.DryRun)
	if err != nil {
		return r, err
	}
	defer func() { err = errors.Join(err, d.close()) }()
	r.System = d.system()
	if r.Format, err = choose(o.Format, r.System); err != nil {
		return r, err
	}
	program, err := o.program(r.System)
	if err != nil {
		return r, err
	}
	other := file{name: nameDeb}
	if program.name == nameDeb {
		other.name = nameAgent
	}
	files := []file{other, program, {nameToken, line(o.Token)}, {nameConfig, o.Config}, {nameScript, firstBoot}}
	var start []file // what has the first boot do it
	if r.Format == Trixie {
		start, err = d.cloudInit(o.Settings)
	} else {
		start, err = d.firstRun(o.Settings)
	}
	if err != nil {
		return r, err
	}
	files = append(files, start...)
	kernel := files[len(files)-1]
	r.Cmdline = strings.TrimSpace(string(kernel.data))
	r.Notes = o.notes(r.System, time.Now())
	for _, f := range files {
		if len(f.data) > 0 {
			r.Files = append(r.Files, Written{f.name, int64(len(f.data))})
		}
	}
	if err := d.room(files); err != nil || o.DryRun {
		return r, err
	}
	return r, d.writeAll(files, o.Progress)
}

// Inspect says what is in an image.
func Inspect(path string) (s System, err error) {
	d, err := openDisk(path, false)
	if err != nil {
		return s, err
	}
	defer func() { err = errors.Join(err, d.close()) }()
	return d.system(), nil
}

// line ends a line, so that a shell reads it; nothing stays nothing.
func line(text string) []byte {
	if text == "" {
		return nil
	}
	return []byte(strings.TrimSpace(text) + "\n")
}

// choose decides the format, or says what was seen.
func choose(want Format, s System) (Format, error) {
	switch want {
	case Bookworm, Trixie:
		return want, nil
	case Auto, "":
	default:
		return "", refuse("", "format %q: want auto, bookworm or trixie", want)
	}
	switch {
	case s.CloudInit:
		return Trixie, nil
	case s.Codename == "bookworm" && s.RaspberryPi:
		return Bookworm, nil
	case s.Codename == "trixie" && s.RaspberryPi: // its first images had no cloud-init
		return Bookworm, nil
	}
	return "", refuse("this is for Raspberry Pi OS (Bookworm, Trixie) and images with cloud-init; --format says which it is, where it cannot be seen", "image is of no kind that is known: %s", s)
}

// theirs keeps another program's firstrun.sh.
func theirs(old []byte) []byte {
	if len(old) == 0 || bytes.Contains(old, []byte(mark)) {
		return nil
	}
	return old
}

// withKernel returns the kernel's command line without the words that drop
// picks, and with more at its end.
func withKernel(old []byte, drop func(word string) bool, more string) []byte {
	words := slices.DeleteFunc(strings.Fields(string(old)), drop)
	return []byte(strings.Join(append(words, strings.Fields(more)...), " ") + "\n")
}
