package pins

import (
	"errors"
	"fmt"
	"runtime"
	"sync"
	"unsafe"

	"golang.org/x/sys/unix"
	"periph.io/x/conn/v3"
	"periph.io/x/conn/v3/i2c"
	"periph.io/x/conn/v3/physic"
)

// The buses are periph.io's interfaces over the kernel's i2c-dev and spidev.
// periph.io has both too, in host/v3/sysfs, but whoever imports that registers
// its GPIO driver as well, which fights with gpioioctl over the names of
// lines; it hands the kernel addresses of a stack that may move meanwhile; and
// of an error only its text is left.

// device is an open bus, used by one caller at a time.
type device struct {
	path string

	mu sync.Mutex // guards fd, and holds transactions apart
	fd int        // -1: closed
}

func openBus(path string) (*device, error) {
	for {
		fd, err := unix.Open(path, unix.O_RDWR|unix.O_CLOEXEC, 0)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return nil, busError(path, err)
		}
		return &device{path: path, fd: fd}, nil
	}
}

// call does an ioctl; mu is held.
func (d *device) call(number uintptr, arg unsafe.Pointer) error {
	if d.fd < 0 {
		return ErrClosed
	}
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(d.fd), number, uintptr(arg)); errno != 0 {
		return errno
	}
	return nil
}

func (d *device) String() string { return d.path }

// Close lets the bus go.
func (d *device) Close() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.fd < 0 {
		return nil
	}
	fd := d.fd
	d.fd = -1
	return unix.Close(fd)
}

// The parts of Linux's i2c.h and i2c-dev.h that a transaction needs.
const (
	i2cFuncs  = 0x0705 // I2C_FUNCS
	i2cRdWr   = 0x0707 // I2C_RDWR
	i2cPlain  = 0x01   // I2C_FUNC_I2C: more than SMBus
	i2cReads  = 0x01   // I2C_M_RD
	maxI2C    = 8192   // that i2c-dev takes
	maxI2CAdr = 0x77
)

type i2cMessage struct {
	address, flags, length uint16
	buf                    *byte
}

type i2cTransaction struct {
	messages *i2cMessage
	count    uint32
}

// i2cBus is an open I2C bus.
type i2cBus struct{ *device }

// OpenI2C opens an I2C bus by its file, "/dev/i2c-1". The error is a
// *BusError.
func OpenI2C(path string) (i2c.BusCloser, error) {
	d, err := openBus(path)
	if err != nil {
		return nil, err
	}
	var can uintptr // an unsigned long
	err = d.call(i2cFuncs, unsafe.Pointer(&can))
	if err == nil && can&i2cPlain == 0 {
		err = fmt.Errorf("%w: it is an SMBus", ErrNoBus)
	} else if errors.Is(err, unix.ENOTTY) {
		err = fmt.Errorf("%w: it is no I2C bus", ErrNoBus)
	}
	if err != nil {
		return nil, errors.Join(busError(path, err), d.Close())
	}
	return i2cBus{d}, nil
}

// Tx implements i2c.Bus: it writes w and then reads r, in one transaction.
// What the kernel says stays as it is: syscall.EREMOTEIO or ENXIO where no
// chip answers.
func (b i2cBus) Tx(address uint16, w, r []byte) error {
	if address > maxI2CAdr || len(w) > maxI2C || len(r) > maxI2C {
		return fmt.Errorf("%s: address 0x%02x, %d bytes to write, %d to read: %w", b.path, address, len(w), len(r), unix.EINVAL)
	}
	var m [2]i2cMessage
	n := uint32(0)
	if len(w) > 0 {
		m[n] = i2cMessage{address, 0, uint16(len(w)), &w[0]}
		n++
	}
	if len(r) > 0 {
		m[n] = i2cMessage{address, i2cReads, uint16(len(r)), &r[0]}
		n++
	}
	if n == 0 {
		return nil
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if err := b.call(i2cRdWr, unsafe.Pointer(&i2cTransaction{&m[0], n})); err != nil {
		return fmt.Errorf("%s: %w", b.path, err)
	}
	return nil
}

// SetSpeed implements i2c.Bus. A bus has its speed from the device tree.
func (b i2cBus) SetSpeed(physic.Frequency) error {
	return fmt.Errorf("%s: set its speed: %w", b.path, errors.ErrUnsupported)
}

// The parts of Linux's spidev.h that a transfer needs.
const (
	spiWrMode   = 0x40016b01 // SPI_IOC_WR_MODE
	spiWrBits   = 0x40016b03 // SPI_IOC_WR_BITS_PER_WORD
	spiWrSpeed  = 0x40046b04 // SPI_IOC_WR_MAX_SPEED_HZ
	spiMessage1 = 0x40206b00 // SPI_IOC_MESSAGE(1)
	maxSPI      = 256
)

type spiTransfer struct {
	tx, rx                         uint64
	length, hertz                  uint32
	delay                          uint16
	bits, change, txNBits, rxNBits uint8
	wordDelay, _                   uint8
}

// spiWork is a transfer and its bytes, in one object of the heap, which does
// not move: the kernel has their addresses as numbers.
type spiWork struct {
	spiTransfer
	w, r [maxSPI]byte
}

// SPI is an open chip select of an SPI bus: mode 0, words of 8 bits.
type SPI struct {
	*device
	hertz uint32
	work  *spiWork
}

var _ conn.Conn = SPI{}

// OpenSPI opens a chip select by its file, "/dev/spidev0.0". The error is a
// *BusError.
func OpenSPI(path string, hertz int) (SPI, error) {
	d, err := openBus(path)
	if err != nil {
		return SPI{}, err
	}
	mode, bits, speed := uint8(0), uint8(8), uint32(hertz)
	for _, set := range []struct {
		number uintptr
		arg    unsafe.Pointer
	}{{spiWrMode, unsafe.Pointer(&mode)}, {spiWrBits, unsafe.Pointer(&bits)}, {spiWrSpeed, unsafe.Pointer(&speed)}} {
		if err == nil {
			err = d.call(set.number, set.arg)
		}
	}
	if errors.Is(err, unix.ENOTTY) {
		err = fmt.Errorf("%w: it is no SPI chip select", ErrNoBus)
	}
	if err != nil {
		return SPI{}, errors.Join(busError(path, err), d.Close())
	}
	return SPI{d, speed, &spiWork{}}, nil
}

// Tx implements conn.Conn: it sends w, and r is what comes meanwhile. One of
// them may be empty, else they are of one length.
func (s SPI) Tx(w, r []byte) error {
	n := max(len(w), len(r))
	if n == 0 || n > maxSPI || len(w) > 0 && len(r) > 0 && len(w) != len(r) {
		return fmt.Errorf("%s: %d bytes to send, %d to receive: %w", s.path, len(w), len(r), unix.EINVAL)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	t := s.work
	clear(t.w[copy(t.w[:], w):])
	t.spiTransfer = spiTransfer{
		tx: uint64(uintptr(unsafe.Pointer(&t.w))), rx: uint64(uintptr(unsafe.Pointer(&t.r))),
		length: uint32(n), hertz: s.hertz, bits: 8,
	}
	err := s.call(spiMessage1, unsafe.Pointer(&t.spiTransfer))
	runtime.KeepAlive(t)
	if err != nil {
		return fmt.Errorf("%s: %w", s.path, err)
	}
	copy(r, t.r[:])
	return nil
}

// Duplex implements conn.Conn.
func (s SPI) Duplex() conn.Duplex { return conn.Full }
