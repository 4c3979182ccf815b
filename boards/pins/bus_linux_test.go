package pins

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"unsafe"
)

// The layouts are those of C on 64 bits and on 32: the numbers of the calls
// have the sizes in them.
func TestBusLayouts(t *testing.T) {
	var m i2cMessage
	var s spiTransfer
	pointer := unsafe.Sizeof(uintptr(0))
	for name, c := range map[string][2]uintptr{
		"i2c_msg":                  {unsafe.Sizeof(m), 8 + pointer},
		"i2c_msg.buf":              {unsafe.Offsetof(m.buf), 8},
		"i2c_rdwr_ioctl_data":      {unsafe.Sizeof(i2cTransaction{}), 2 * pointer},
		"spi_ioc_transfer":         {unsafe.Sizeof(s), 32},
		"spi_ioc_transfer.len":     {unsafe.Offsetof(s.length), 16},
		"spi_ioc_transfer.bits":    {unsafe.Offsetof(s.bits), 26},
		"spi_ioc_transfer.rx_nbit": {unsafe.Offsetof(s.rxNBits), 29},
		"SPI_IOC_MESSAGE(1)":       {spiMessage1 >> 16 & 0x3fff, unsafe.Sizeof(s)},
	} {
		if c[0] != c[1] {
			t.Errorf("%s: %d, want %d", name, c[0], c[1])
		}
	}
}

func TestNoBus(t *testing.T) {
	none, file := filepath.Join(t.TempDir(), "i2c-9"), filepath.Join(t.TempDir(), "spidev0.0")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		path string
		is   error
		hint string
	}{
		{none, os.ErrNotExist, "do_i2c 0"}, {file, ErrNoBus, ""}, {filepath.Join(t.TempDir(), "spidev0.0"), os.ErrNotExist, "do_spi 0"}, {"/dev/null", ErrNoBus, ""},
	} {
		_, err := OpenI2C(c.path)
		if strings.Contains(c.path, "spi") {
			_, err = OpenSPI(c.path, 1_000_000)
		}
		e, ok := errors.AsType[*BusError](err)
		emulated := c.is == ErrNoBus && errors.Is(err, syscall.ENOSYS) // qemu without a machine knows few calls
		if !ok || !errors.Is(err, c.is) && !emulated || e.Bus != c.path || !strings.Contains(e.Hint, c.hint) {
			t.Errorf("%s: %v; want %v, hint %q", c.path, err, c.is, c.hint)
		}
	}
}
