//go:build !linux

package source

import (
	"errors"
	"os"
)

func setSerial(*os.File, int) error { return errors.New("serial ports are for Linux alone") }
