package boards

import (
	"cmp"
	"fmt"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// Input is something on the board that frames or readings can come from.
type Input struct {
	Kind string `json:"kind"`           // "camera", "serial", "sound", "i2c" or "spi"
	Path string `json:"path"`           // as programs want it: "/dev/video0", "/dev/ttyUSB0", "plughw:1,0", "/dev/i2c-1"
	Name string `json:"name,omitempty"` // for people
	Note string `json:"note,omitempty"` // what else one should know
}

// The kinds of Input.
const (
	InputCamera = "camera"
	InputSerial = "serial"
	InputSound  = "sound"
	InputI2C    = "i2c"
	InputSPI    = "spi"
)

// Inputs lists cameras, serial ports, sound cards that record, and I2C and SPI
// buses, by what the kernel says of them below root; no device is opened.
func Inputs(root string) []Input {
	root = filepath.Clean(root)
	return slices.Concat(cameras(root), serials(root), sounds(root), buses(root))
}

// noCameras begin the names of video devices that move pictures within the
// chip: a Raspberry Pi has a dozen of them.
var noCameras = []string{"bcm2835-codec", "bcm2835-isp", "rpivid", "rpi-hevc", "pispbe"}

// csiCameras begin the names of camera connectors, which give raw data that
// only libcamera makes pictures of.
var csiCameras = []string{"unicam", "rp1-cfe"}

func cameras(root string) (found []Input) {
	for _, dev := range numbered(root, "video") {
		about := filepath.Join(root, "sys/class/video4linux", filepath.Base(dev))
		name := text(about, "name")
		begins := func(s string) bool { return strings.HasPrefix(name, s) }
		// The second node of a USB camera has no pictures but what goes with them.
		if index := text(about, "index"); index != "" && index != "0" || slices.ContainsFunc(noCameras, begins) {
			continue
		}
		in := Input{Kind: InputCamera, Path: dev, Name: name}
		if slices.ContainsFunc(csiCameras, begins) {
			in.Note = "at the camera connector: pictures come by rpicam-vid"
		}
		found = append(found, in)
	}
	return found
}

func serials(root string) (found []Input) {
	names := map[string]string{} // by-id, which stays the same when the numbers change
	links, _ := filepath.Glob(filepath.Join(root, "dev/serial/by-id/*"))
	for _, link := range links {
		if to, err := filepath.EvalSymlinks(link); err == nil {
			names[filepath.Base(to)] = "/dev/serial/by-id/" + filepath.Base(link)
		}
	}
	for _, kind := range []string{"ttyUSB", "ttyACM", "ttyAMA", "ttyTHS", "ttyS"} {
		for _, dev := range numbered(root, kind) {
			// The kernel makes nodes for ports that are not there; type 0 is such a one.
			if name := filepath.Base(dev); kind == "ttyS" {
				if t := text(filepath.Join(root, "sys/class/tty", name), "type"); t == "" || t == "0" {
					continue
				}
			}
			found = append(found, Input{Kind: InputSerial, Path: dev, Name: names[filepath.Base(dev)]})
		}
	}
	return found
}

// sounds reads lines such as "01-00: USB Audio : USB Audio : capture 1".
func sounds(root string) (found []Input) {
	list, err := read(filepath.Join(root, "proc/asound/pcm"))
	if err != nil {
		return nil
	}
	for line := range strings.Lines(string(list)) {
		fields := strings.Split(strings.TrimSpace(line), ":")
		card, device, ok := strings.Cut(fields[0], "-")
		c, err1 := strconv.Atoi(card)
		d, err2 := strconv.Atoi(device)
		if !ok || err1 != nil || err2 != nil || !slices.ContainsFunc(fields, func(f string) bool {
			return strings.HasPrefix(strings.TrimSpace(f), "capture")
		}) {
			continue
		}
		in := Input{Kind: InputSound, Path: fmt.Sprintf("plughw:%d,%d", c, d)}
		if len(fields) > 1 {
			in.Name = strings.TrimSpace(fields[1])
		}
		found = append(found, in)
	}
	return found
}

// buses lists I2C buses, and the chip selects of SPI buses to which a program
// has access.
func buses(root string) (found []Input) {
	for _, dev := range numbered(root, "i2c-") {
		found = append(found, Input{Kind: InputI2C, Path: dev, Name: text(filepath.Join(root, "sys/class/i2c-dev", filepath.Base(dev)), "name")})
	}
	selects, _ := filepath.Glob(filepath.Join(root, "dev/spidev[0-9]*.[0-9]*"))
	for _, path := range selects { // sorted; nobody has ten of them
		found = append(found, Input{Kind: InputSPI, Path: "/dev/" + filepath.Base(path)})
	}
	return found
}

// numbered lists /dev/<kind><number>, by the number.
func numbered(root, kind string) (devices []string) {
	found, _ := filepath.Glob(filepath.Join(root, "dev", kind+"[0-9]*"))
	number := func(path string) int {
		n, err := strconv.Atoi(strings.TrimPrefix(filepath.Base(path), kind))
		if err != nil {
			return -1
		}
		return n
	}
	for _, path := range found {
		if number(path) >= 0 {
			devices = append(devices, "/dev/"+filepath.Base(path))
		}
	}
	slices.SortFunc(devices, func(a, b string) int { return cmp.Compare(number(a), number(b)) })
	return devices
}

// text returns what an attribute says, "" where it says nothing.
func text(dir, name string) string {
	t, err := read(filepath.Join(dir, name))
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(t))
}
