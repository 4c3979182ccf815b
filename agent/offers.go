package agent

import (
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"dunlin/boards"
	"dunlin/boards/sensors"
)

// offers is what a board has for sources and sensors.
type offers struct {
	Inputs   []boards.Input    `json:"inputs"`
	Chips    []chipFound       `json:"chips,omitempty"`
	Programs map[string]string `json:"programs"` // where each of usefulPrograms is, "" where it is not
}

// usefulPrograms write what a source of kind exec reads, and how.
var usefulPrograms = []struct{ name, use string }{
	{"rpicam-vid", `camera connector of a Raspberry Pi: command = ["rpicam-vid", "-t", "0", "--codec", "mjpeg", "-o", "-"]`},
	{"libcamera-vid", `the same on older systems: command = ["libcamera-vid", "-t", "0", "--codec", "mjpeg", "-o", "-"]`},
	{"ffmpeg", `RTSP, USB cameras, files: command = ["ffmpeg", "-nostdin", "-i", "rtsp://…", "-f", "image2pipe", "-c:v", "mjpeg", "-"]`},
	{"arecord", `microphones: command = ["arecord", "-D", "plughw:1,0", "-f", "S16_LE", "-r", "16000", "-c", "1", "-t", "raw"], format = "pcm"`},
}

// chipFound is a chip that answered on an I2C bus.
type chipFound struct {
	Bus     string `json:"bus"`
	Kind    string `json:"kind"`
	Address int    `json:"address"`
}

// askable are the I2C buses on which chips may be asked what they are without
// being told to: a Raspberry Pi's header, which is there for them. On other
// buses live a board's own parts, which a question may disturb.
func askable(b boards.Board, inputs []boards.Input) (buses []string) {
	for _, in := range inputs {
		if strings.HasPrefix(b.ID, "rpi-") && in.Path == "/dev/i2c-1" {
			buses = append(buses, in.Path)
		}
	}
	return buses
}

// askBus asks the chips on a bus what they are, but for those that the kernel
// knows by their address: it lists them below devices, as 1-0076.
func askBus(bus string, buses sensors.Buses, devices string) (found []chipFound, err error) {
	path, spi, err := sensors.ParseBus(bus)
	if err == nil && spi {
		err = fmt.Errorf("bus %s: only I2C has addresses to ask at", path)
	}
	if err != nil {
		return nil, err
	}
	b, err := buses.I2C(path)
	if err != nil {
		return nil, err
	}
	number := strings.TrimPrefix(path, "/dev/i2c-")
	for _, f := range sensors.Ask(b, func(address int) bool {
		_, err := os.Stat(filepath.Join(devices, fmt.Sprintf("%s-%04x", number, address)))
		return err == nil
	}) {
		found = append(found, chipFound{path, f.Kind, f.Address})
	}
	return found, b.Close()
}

func sourcesCommand(args []string, stdout, stderr io.Writer) error {
	fs := flag.NewFlagSet("sources", flag.ContinueOnError)
	asJSON, ask := fs.Bool("json", false, ""), fs.String("ask", "", "")
	if err := flags(fs, args, stderr); err != nil {
		return err
	}
	o := offers{Inputs: boards.Inputs("/"), Programs: map[string]string{}}
	buses := askable(boards.Detect("/"), o.Inputs)
	if *ask != "" {
		buses = []string{*ask}
	}
	for _, bus := range buses {
		found, err := askBus(bus, boardBuses{}, "/sys/bus/i2c/devices")
		if err != nil && *ask != "" {
			return err
		} else if err != nil { // the rest of the list is worth having
			fmt.Fprintf(stderr, "dunlin-agent: %v\n", err)
		}
		o.Chips = append(o.Chips, found...)
	}
	for _, p := range usefulPrograms {
		path, err := exec.LookPath(p.name)
		if err != nil {
			path = ""
		}
		o.Programs[p.name] = path
	}
	if *asJSON {
		e := json.NewEncoder(stdout)
		e.SetIndent("", "  ")
		return e.Encode(o)
	}
	printOffers(stdout, o)
	return nil
}

func printOffers(w io.Writer, o offers) {
	for _, in := range o.Inputs {
		fmt.Fprintf(w, "%-8s %s", in.Kind, in.Path)
		if in.Name != "" {
			fmt.Fprintf(w, "  %s", in.Name)
		}
		if in.Note != "" {
			fmt.Fprintf(w, " (%s)", in.Note)
		}
		fmt.Fprintln(w)
	}
	for _, c := range o.Chips {
		fmt.Fprintf(w, "%-8s %s at 0x%02x on %s  [[sensor]] kind = %q, bus = %q, address = 0x%02x\n", "chip", c.Kind, c.Address, c.Bus, c.Kind, c.Bus, c.Address)
	}
	if len(o.Inputs) == 0 {
		fmt.Fprintln(w, "no camera, serial port, microphone or bus is there")
	}
	for _, p := range usefulPrograms {
		if path := o.Programs[p.name]; path != "" {
			fmt.Fprintf(w, "%-8s %s  %s\n", "program", path, p.use)
		} else {
			fmt.Fprintf(w, "%-8s %s is not installed  %s\n", "program", p.name, p.use)
		}
	}
	fmt.Fprintf(w, "%-8s any: dir in [folder]\n", "folder")
	fmt.Fprintf(w, "%-8s any camera with an address: kind = \"mjpeg\" or \"snapshot\"\n", "network")
}
