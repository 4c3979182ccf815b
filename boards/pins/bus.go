package pins

import (
	"errors"
	"os"
	"strings"
)

// ErrNoBus is wrapped by the error for a file that is no bus, or none that can
// do what is asked of it.
var ErrNoBus = errors.New("not such a bus")

// BusError says which I2C bus or SPI chip select cannot be used, and why.
type BusError struct {
	Bus  string // its file: "/dev/i2c-1"
	Err  error
	Hint string // one sentence for a person, or ""
}

func (e *BusError) Error() string { return e.Bus + ": " + e.Err.Error() }
func (e *BusError) Unwrap() error { return e.Err }

// busError explains why a bus was not opened.
func busError(path string, err error) error {
	name, group := "i2c", "i2c"
	if strings.Contains(path, "spidev") {
		name, group = "spi", "spi"
	}
	hint := ""
	switch {
	case errors.Is(err, os.ErrNotExist):
		hint = "on a Raspberry Pi, sudo raspi-config nonint do_" + name + " 0 turns it on; dunlin-agent sources lists the buses there are"
	case errors.Is(err, os.ErrPermission):
		hint = "add the user to the group of " + path + ", which is " + group + " on a Raspberry Pi"
	}
	return &BusError{Bus: path, Err: err, Hint: hint}
}
