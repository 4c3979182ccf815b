package pins

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
	"periph.io/x/conn/v3/driver/driverreg"
	"periph.io/x/host/v3/gpioioctl" // registers its driver, and no other is wanted
)

// Open returns the lines of this machine. The first call reads the chips,
// later ones return the same host; a machine without chips has a host on
// which every line is an error.
//
// Call it before the program opens files on other goroutines: where a chip
// has two names in /dev (a Pi 5 with an older kernel), periph.io v3.8.5 closes
// it twice and then closes file 0.
func Open() *Host { return open() }

var open = sync.OnceValue(func() *Host {
	restore := keepStdin()
	state, err := driverreg.Init()
	restore()
	h := New(chips()...)
	if h.err == nil {
		return h
	}
	if err != nil {
		h.err = fmt.Errorf("%w: %w", ErrNoChip, err)
	} else if err := whyNone(); err != nil {
		h.err = fmt.Errorf("%w: %w", ErrNoChip, err)
	} else if len(state.Failed) > 0 {
		h.err = fmt.Errorf("%w: %w", ErrNoChip, state.Failed[0].Err)
	}
	return h
})

// chips shows what the driver found.
func chips() (out []Chip) {
	for _, c := range gpioioctl.Chips {
		chip := Chip{Label: c.Label()}
		for _, l := range c.Lines() {
			// Of lines with the same name, periph.io renames all but the first.
			name := strings.TrimPrefix(l.Name(), c.Name()+"-")
			if name == "-" || name == "_" || CheckName(name) != nil {
				name = ""
			}
			chip.Pins = append(chip.Pins, Pin{PinIO: l, Name: name, User: l.Consumer()})
		}
		out = append(out, chip)
	}
	return out
}

// whyNone says what kept the driver from the chips there are; it tells only
// the log.
func whyNone() error {
	devices, err := filepath.Glob("/dev/gpiochip*")
	if err != nil || len(devices) == 0 {
		return err
	}
	f, err := os.Open(devices[0])
	if err != nil {
		return err
	}
	return errors.Join(errors.New("the kernel is older than 5.10"), f.Close())
}

// keepStdin returns a function that puts file 0 back where it was closed. A
// file opened next would get its number, which periph.io takes for none.
func keepStdin() (restore func()) {
	kept, err := unix.FcntlInt(0, unix.F_DUPFD_CLOEXEC, 3)
	if err != nil {
		return func() {}
	}
	return func() {
		if _, err := unix.FcntlInt(0, unix.F_GETFD, 0); errors.Is(err, unix.EBADF) {
			_ = unix.Dup3(kept, 0, 0) // where it fails, nothing is worse than before
		}
		_ = unix.Close(kept)
	}
}

// isBusy knows EBUSY, which periph.io passes on as text.
func isBusy(err error) bool {
	return errors.Is(err, syscall.EBUSY) || strings.Contains(err.Error(), syscall.EBUSY.Error())
}

func hintNoChip(err error) string {
	if errors.Is(err, os.ErrPermission) {
		return "add the user to the group of /dev/gpiochip*, which is gpio on a Raspberry Pi"
	}
	return "ls /dev/gpiochip* shows the chips of a machine"
}
