package boards

import (
	"os"
	"path/filepath"
	"reflect"
	"testing"
)

// A board with a USB camera (two nodes), a camera connector, the codecs of a
// Pi, serial ports that are there and not, two sound cards, and buses.
func TestInputs(t *testing.T) {
	root := t.TempDir()
	put := func(path, text string) {
		t.Helper()
		path = filepath.Join(root, path)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	video := func(name, what, index string) {
		put("dev/"+name, "")
		put("sys/class/video4linux/"+name+"/name", what+"\n")
		put("sys/class/video4linux/"+name+"/index", index+"\n")
	}
	video("video2", "HD Webcam C525", "0")
	video("video3", "HD Webcam C525", "1")
	video("video0", "unicam", "0")
	video("video10", "bcm2835-codec-decode", "0")
	put("dev/video-enc", "")
	put("dev/ttyUSB0", "")
	put("dev/ttyAMA0", "")
	put("dev/ttyS0", "")
	put("sys/class/tty/ttyS0/type", "4\n")
	put("dev/ttyS1", "")
	put("sys/class/tty/ttyS1/type", "0\n")
	put("dev/serial/by-id/.keep", "")
	if err := os.Symlink("../../ttyUSB0", filepath.Join(root, "dev/serial/by-id/usb-FTDI_A1-if00")); err != nil {
		t.Fatal(err)
	}
	put("proc/asound/pcm", "00-00: bcm2835 Headphones : bcm2835 Headphones : playback 8\n01-00: USB Audio : USB Audio : playback 1 : capture 1\nrubbish\n")
	put("dev/i2c-20", "")
	put("dev/i2c-1", "")
	put("sys/class/i2c-dev/i2c-1/name", "bcm2835 (i2c@7e804000)\n")
	put("dev/spidev0.1", "")
	put("dev/spidev0.0", "")
	want := []Input{
		{InputCamera, "/dev/video0", "unicam", "at the camera connector: pictures come by rpicam-vid"},
		{InputCamera, "/dev/video2", "HD Webcam C525", ""},
		{InputSerial, "/dev/ttyUSB0", "/dev/serial/by-id/usb-FTDI_A1-if00", ""},
		{InputSerial, "/dev/ttyAMA0", "", ""},
		{InputSerial, "/dev/ttyS0", "", ""},
		{InputSound, "plughw:1,0", "USB Audio", ""},
		{InputI2C, "/dev/i2c-1", "bcm2835 (i2c@7e804000)", ""},
		{InputI2C, "/dev/i2c-20", "", ""},
		{InputSPI, "/dev/spidev0.0", "", ""},
		{InputSPI, "/dev/spidev0.1", "", ""},
	}
	if got := Inputs(root); !reflect.DeepEqual(got, want) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
	if got := Inputs(t.TempDir()); len(got) != 0 {
		t.Errorf("of an empty machine: %+v", got)
	}
}
