package agent

import (
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"os/exec"

	"dunlin/boards"
)

// offers is what a board has for sources.
type offers struct {
	Inputs   []boards.Input    `json:"inputs"`
	Programs map[string]string `json:"programs"` // where each of usefulPrograms is, "" where it is not
}

// usefulPrograms write what a source of kind exec reads, and how.
var usefulPrograms = []struct{ name, use string }{
	{"rpicam-vid", `camera connector of a Raspberry Pi: command = ["rpicam-vid", "-t", "0", "--codec", "mjpeg", "-o", "-"]`},
	{"libcamera-vid", `the same on older systems: command = ["libcamera-vid", "-t", "0", "--codec", "mjpeg", "-o", "-"]`},
	{"ffmpeg", `RTSP, USB cameras, files: command = ["ffmpeg", "-nostdin", "-i", "rtsp://…", "-f", "image2pipe", "-c:v", "mjpeg", "-"]`},
	{"arecord", `microphones: command = ["arecord", "-D", "plughw:1,0", "-f", "S16_LE", "-r", "16000", "-c", "1", "-t", "raw"], format = "pcm"`},
}

func sourcesCommand(args []string, stdout, stderr io.Writer) error {
	fs := flag.NewFlagSet("sources", flag.ContinueOnError)
	asJSON := fs.Bool("json", false, "")
	if err := flags(fs, args, stderr); err != nil {
		return err
	}
	o := offers{Inputs: boards.Inputs("/"), Programs: map[string]string{}}
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
	if len(o.Inputs) == 0 {
		fmt.Fprintln(w, "no camera, serial port or microphone is connected")
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
