// Package pins drives and reads a board's GPIO lines, and opens its I2C and SPI
// buses. Start with Open, Host.Output and Host.Watch; OpenI2C and OpenSPI.
//
// Its promise: a line is found by its name ("GPIO17") or by the label of its
// chip and its place on it ("pinctrl-rp1:17"), never by the number of a chip
// or of a pin, which change from kernel to kernel; and an Output that is
// closed was made inactive before.
//
// It is the only package that knows periph.io's host, and it decides nothing:
// rules are the agent's, and what chips on a bus say is boards/sensors'.
package pins

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"

	"periph.io/x/conn/v3/gpio"
)

// Why a line cannot be had. A *LineError wraps one of them, or what the
// kernel said.
var (
	ErrNoChip    = errors.New("this machine has no GPIO chip that can be opened")
	ErrUnknown   = errors.New("there is no such line")
	ErrAmbiguous = errors.New("several lines have that name")
	ErrBusy      = errors.New("the line is in use")
	ErrName      = errors.New("not the name of a line")
)

// LineError says which line cannot be used, and why.
type LineError struct {
	Line string
	Err  error
	User string // who has it, where that is known
	Hint string // one sentence for a person, or ""
}

func (e *LineError) Error() string { return fmt.Sprintf("line %s: %v", e.Line, e.Err) }
func (e *LineError) Unwrap() error { return e.Err }

// Line is what is known of a line without taking it.
type Line struct {
	Chip   string // label of its chip: "pinctrl-rp1"
	Offset int    // its place on the chip, from 0
	Name   string // "GPIO17"; "": it has none
	User   string // who had it when the chips were read: "dunlin-agent@812"; "": nobody that tells
}

// String is a name by which the line is found whatever its own name is.
func (l Line) String() string { return l.Chip + ":" + strconv.Itoa(l.Offset) }

// Chip is a GPIO chip: its label and its lines, by offset.
type Chip struct {
	Label string
	Pins  []Pin
}

// Pin is a line as periph.io drives it. A pin that has a method Close() is
// closed when it is let go.
type Pin struct {
	gpio.PinIO
	Name string // the kernel's; "": none
	User string
}

// Host is the lines of one machine. Its methods may be called at once; a line
// is had by one caller at a time.
type Host struct {
	lines []*hostLine
	err   error // why there are none

	mu    sync.Mutex // guards taken
	taken map[int]bool
}

type hostLine struct {
	Line
	pin gpio.PinIO
}

// New returns a host with the given chips, for machines that periph.io drives
// otherwise, and for tests. Two chips may share a label: a line of theirs can
// then be had by its name only.
func New(chips ...Chip) *Host {
	h := &Host{taken: map[int]bool{}}
	for _, c := range chips {
		for i, p := range c.Pins {
			h.lines = append(h.lines, &hostLine{Line{Chip: c.Label, Offset: i, Name: p.Name, User: p.User}, p.PinIO})
		}
	}
	if len(h.lines) == 0 {
		h.err = ErrNoChip
	}
	return h
}

// Lines lists all lines, by chip and offset.
func (h *Host) Lines() []Line {
	sorted := slices.Clone(h.lines)
	slices.SortStableFunc(sorted, func(a, b *hostLine) int {
		return cmp.Or(strings.Compare(a.Chip, b.Chip), a.Offset-b.Offset)
	})
	out := make([]Line, len(sorted))
	for i, l := range sorted {
		out[i] = l.Line
	}
	return out
}

// maxName bounds a name; the kernel's have at most 31 bytes, a chip's label too.
const maxName = 48

// CheckName reports whether a text can be the name of a line: printable
// ASCII without spaces, quotes and backslashes, and no chip's number. Such a
// line need not exist.
func CheckName(name string) error {
	if name == "" {
		return fmt.Errorf("%w: it is empty", ErrName)
	}
	if len(name) > maxName {
		return fmt.Errorf("%w: more than %d bytes", ErrName, maxName)
	}
	for _, r := range name {
		if r <= ' ' || r > '~' || strings.ContainsRune("\"'`\\", r) {
			return fmt.Errorf("%w: %q in it", ErrName, r)
		}
	}
	if rest, ok := strings.CutPrefix(strings.TrimPrefix(name, "/dev/"), "gpiochip"); ok && (rest == "" || rest[0] >= '0' && rest[0] <= '9') {
		return fmt.Errorf("%w: chips change their numbers; give the line's name (GPIO17), or its chip's label and its place (pinctrl-rp1:17)", ErrName)
	}
	return nil
}

// find returns the one line that a name means.
func (h *Host) find(name string) (int, error) {
	if err := CheckName(name); err != nil {
		return 0, &LineError{Line: strconv.QuoteToASCII(name[:min(len(name), maxName)]), Err: err}
	}
	if h.err != nil {
		return 0, &LineError{Line: name, Err: h.err, Hint: hintNoChip(h.err)}
	}
	var found []int
	for i, l := range h.lines {
		if l.Name == name || l.Line.String() == name {
			found = append(found, i)
		}
	}
	switch len(found) {
	case 1:
		return found[0], nil
	case 0:
		return 0, &LineError{Line: name, Err: ErrUnknown, Hint: h.hintUnknown()}
	}
	var all []string
	for _, i := range found {
		all = append(all, h.lines[i].Line.String())
	}
	return 0, &LineError{Line: name, Err: ErrAmbiguous, Hint: "give one of " + strings.Join(all[:min(len(all), 8)], ", ")}
}

// hintUnknown shows what names look like here.
func (h *Host) hintUnknown() string {
	var some []string
	for _, l := range h.Lines() {
		if l.Name != "" && len(some) < 6 {
			some = append(some, l.Name)
		}
	}
	if len(some) == 0 {
		return "no line has a name here: give its chip's label and its place, as in " + h.lines[0].Line.String()
	}
	return "there are " + strings.Join(some, ", ") + " and others; or give a chip's label and a place, as in " + h.lines[0].Line.String()
}

// take has a line for one caller; the function it returns gives it back.
func (h *Host) take(name string) (l *hostLine, give func(), err error) {
	i, err := h.find(name)
	if err != nil {
		return l, nil, err
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.taken[i] {
		return l, nil, &LineError{Line: name, Err: ErrBusy, Hint: "this program has it already, perhaps by its other name"}
	}
	h.taken[i] = true
	l = h.lines[i]
	return l, func() {
		if c, ok := l.pin.(interface{ Close() }); ok {
			c.Close()
		}
		h.mu.Lock()
		defer h.mu.Unlock()
		delete(h.taken, i)
	}, nil
}

// refused explains what the kernel said to a request for a line.
func (l *hostLine) refused(name string, err error) error {
	if !isBusy(err) {
		return &LineError{Line: name, Err: err}
	}
	e := &LineError{Line: name, Err: ErrBusy, Hint: "another program or a driver of the kernel has it; gpioinfo says which"}
	if l.User != "" {
		e.User, e.Err = l.User, fmt.Errorf("%w by %s", ErrBusy, l.User)
	}
	return e
}

// Check reports whether a line can be had: it takes the line as an input,
// which drives nothing, and lets it go. A line that is in use stays as it is.
func (h *Host) Check(name string) error {
	l, give, err := h.take(name)
	if err != nil {
		return err
	}
	defer give()
	if err := l.pin.In(gpio.PullNoChange, gpio.NoEdge); err != nil {
		return l.refused(name, err)
	}
	return nil
}
