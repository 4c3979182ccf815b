//go:build !linux

package pins

import (
	"errors"

	"periph.io/x/conn/v3"
	"periph.io/x/conn/v3/i2c"
)

// OpenI2C fails: I2C buses are Linux's here.
func OpenI2C(path string) (i2c.BusCloser, error) { return nil, busError(path, errors.ErrUnsupported) }

// SPI is an open chip select.
type SPI struct{ conn.Conn }

// Close does nothing.
func (SPI) Close() error { return nil }

// OpenSPI fails: SPI buses are Linux's here.
func OpenSPI(path string, hertz int) (SPI, error) {
	return SPI{}, busError(path, errors.ErrUnsupported)
}
