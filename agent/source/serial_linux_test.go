package source

import (
	"fmt"
	"os"
	"testing"

	"golang.org/x/sys/unix"
)

// A serial port, on a pair of pseudo-terminals: the port is set as asked, its
// first line is left out, and one that is unplugged ends.
func TestSerial(t *testing.T) {
	device, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer device.Close()
	fd := int(device.Fd())
	if err := unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	n, err := unix.IoctlGetInt(fd, unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	port := fmt.Sprintf("/dev/pts/%d", n)
	got := make(chan string, 10)
	ended := make(chan error, 1)
	const baud = 31250 // MIDI's, which is in no list of rates
	go func() {
		ended <- Lines{Path: port, Baud: baud}.Play(t.Context(), func(line []byte) { got <- string(line) })
	}()
	var set *unix.Termios
	wait(t, "the port to be set", func() bool {
		set, err = unix.IoctlGetTermios(fd, unix.TCGETS2)
		return err == nil && set.Ospeed == baud
	})
	if set.Lflag&(unix.ICANON|unix.ECHO|unix.ISIG) != 0 || set.Cflag&unix.CSIZE != unix.CS8 || set.Iflag&unix.ICRNL != 0 {
		t.Errorf("the port is not raw: %+v", set)
	}
	if _, err := device.WriteString(".5,1\r\n21.5,2\r\n\x03,3\r\n"); err != nil {
		t.Fatal(err)
	}
	wantLines(t, got, "21.5,2", "\x03,3") // a byte that would interrupt a terminal is a byte
	if err := device.Close(); err != nil {
		t.Fatal(err)
	}
	if err := <-ended; err == nil {
		t.Error("the port was unplugged, and there is no error")
	}
}
