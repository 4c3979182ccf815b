package source

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// setSerial makes a serial port raw, with 8 bits, no parity, one stop bit and
// no flow control, at any rate that its chip can do.
func setSerial(f *os.File, baud int) error {
	raw, err := f.SyscallConn()
	if err != nil {
		return err
	}
	var set error
	err = raw.Control(func(fd uintptr) {
		t, err := unix.IoctlGetTermios(int(fd), unix.TCGETS2)
		if err != nil {
			set = err
			return
		}
		t.Iflag &^= unix.IGNBRK | unix.BRKINT | unix.PARMRK | unix.ISTRIP | unix.INLCR | unix.IGNCR | unix.ICRNL | unix.IXON | unix.IXOFF
		t.Oflag &^= unix.OPOST
		t.Lflag &^= unix.ECHO | unix.ECHONL | unix.ICANON | unix.ISIG | unix.IEXTEN
		t.Cflag &^= unix.CSIZE | unix.PARENB | unix.CSTOPB | unix.CRTSCTS | unix.CBAUD | unix.CBAUD<<unix.IBSHIFT
		t.Cflag |= unix.CS8 | unix.CREAD | unix.CLOCAL | unix.BOTHER // BOTHER: the rate is a number, not one of a list
		t.Ispeed, t.Ospeed = uint32(baud), uint32(baud)
		t.Cc[unix.VMIN], t.Cc[unix.VTIME] = 1, 0
		set = unix.IoctlSetTermios(int(fd), unix.TCSETS2, t)
	})
	if err == nil {
		err = set
	}
	if err != nil {
		return fmt.Errorf("%s: serial port: %w", f.Name(), err)
	}
	return nil
}
