//go:build board

package e2e_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"dunlin/firmware-tools/vm"
)

// gpio returns what the kernel says of a line that somebody has: its user and
// its level, "hi" or "lo", which it reads from the chip. The lines of a chip
// are numbered from the base that the kernel gave it.
func (b *board) gpio(chip string, offset int) (user, level string, err error) {
	text, err := b.vm.Get(b.t.Context(), "/sys/kernel/debug/gpio")
	if err != nil {
		return "", "", err
	}
	first := -1
	for line := range strings.Lines(string(text)) {
		if strings.HasPrefix(line, "gpiochip") {
			first = -1
			if _, after, ok := strings.Cut(line, "GPIOs "); ok && strings.Contains(line, chip) {
				fmt.Sscanf(after, "%d-", &first)
			}
			continue
		}
		var number int
		if _, err := fmt.Sscanf(line, " gpio-%d", &number); err != nil || first < 0 || number != first+offset {
			continue
		}
		_, after, ok := strings.Cut(line, "|")
		name, state, ok2 := strings.Cut(after, ")")
		fields := strings.Fields(state)
		if !ok || !ok2 || len(fields) < 2 {
			return "", "", fmt.Errorf("what does the kernel say: %q", line)
		}
		return strings.TrimSpace(name), fields[1], nil
	}
	return "", "", nil
}

// TestBoardPins drives lines of the board's own GPIO chip by a rule, and reads
// them back from the chip.
func TestBoardPins(t *testing.T) {
	const chip = "9030000.pl061"
	e, f := theExample(t), startBoardFleet(t)
	data, want := e.pictures(t, 1)
	var name, label string
	for n, labels := range want {
		name, label = n, labels[0].Label
	}
	rule := func(label string, line, millis int, low bool) string {
		return fmt.Sprintf("[[rule]]\nlabel = %q\nmin_score = 0.5\nline = \"%s:%d\"\nmillis = %d\nactive_low = %v\n", label, chip, line, millis, low)
	}
	b := f.newBoard(named(t, "virt"), "pins", rule(label, 1, 60_000, false)+rule("no such label", 2, 60_000, true)+rule(label, 4, 100, false), nil)
	f.offer(e)
	b.start(vm.Boot{})
	b.runs(e.digest)
	is := func(when string, line int, want string) {
		t.Helper()
		wait(t, 30*time.Second, fmt.Sprintf("line %d to be %s %s", line, want, when), func() error {
			user, level, err := b.gpio(chip, line)
			if err == nil && (level != want || user == "") {
				err = fmt.Errorf("it is %q, had by %q", level, user)
			}
			return err
		})
	}
	is("before any picture", 1, "lo")
	is("before any picture", 2, "hi")
	is("before any picture", 4, "lo")
	b.give(name, data[name])
	is("after the picture", 1, "hi")
	is("after its time", 4, "lo")
	is("with the label of another rule", 2, "hi")
	if f.resultOf("pins", name).Labels[0].Label != label {
		t.Error("the board saw something else")
	}
	// The short pulse was there: the agent counts what it drove.
	var s struct {
		Lines []struct {
			Line   string
			Pulses uint64
			Error  string
		}
	}
	if err := b.vm.Ask(t.Context(), "GET", "/agent/v1/status", nil, &s); err != nil {
		t.Fatal(err)
	}
	pulses := map[string]uint64{}
	for _, l := range s.Lines {
		pulses[l.Line] = l.Pulses
		if l.Error != "" {
			t.Errorf("line %s: %s", l.Line, l.Error)
		}
	}
	if pulses[chip+":1"] != 1 || pulses[chip+":2"] != 0 || pulses[chip+":4"] != 1 {
		t.Errorf("pulses: %v", pulses)
	}
	// An agent that is stopped in order leaves nothing driven.
	if err := b.vm.Service(t.Context(), false); err != nil {
		t.Fatal(err)
	}
	if user, level, err := b.gpio(chip, 1); err != nil || level == "hi" {
		t.Errorf("after the agent's end line 1 is %q, had by %q: %v", level, user, err)
	}
	b.stop()
}

// TestBoardCamera takes pictures from the kernel's virtual camera through
// mapped buffers, with the structures of 64 and of 32 bits.
func TestBoardCamera(t *testing.T) {
	large := named(t, "virt")
	large.Flavour = vm.Generic // the small kernel has no cameras
	for _, kind := range []vm.Board{large, named(t, "armhf")} {
		t.Run(kind.Name, func(t *testing.T) { camera(t, kind) })
		if testing.Short() {
			break
		}
	}
}

func camera(t *testing.T, kind vm.Board) {
	e, f := theExample(t), startBoardFleet(t)
	b := f.newBoard(kind, "camera", "[[source]]\nname = \"shelf\"\nkind = \"v4l2\"\ndevice = \"/dev/video0\"\nwidth = 320\nheight = 240\nevery_ms = 200\n", func(c *vm.Config) {
		c.Modules = []string{"vivid n_devs=1 node_types=0x1 num_inputs=1 input_types=0x0"}
	})
	f.offer(e)
	b.start(vm.Boot{})
	out, err := b.vm.Run(t.Context(), "/usr/bin/dunlin-agent", "sources", "-json")
	if err != nil {
		t.Fatal(err)
	}
	var offers struct {
		Inputs []struct{ Kind, Path, Name string }
	}
	if err := json.Unmarshal([]byte(out), &offers); err != nil {
		t.Fatal(err)
	}
	found := false
	for _, in := range offers.Inputs {
		found = found || in.Kind == "camera" && in.Path == "/dev/video0" && strings.HasPrefix(in.Name, "vivid")
	}
	if !found {
		t.Errorf("the agent offers %+v, want the camera vivid at /dev/video0", offers.Inputs)
	}
	b.runs(e.digest)
	inputs := map[string]bool{} // the picture moves: each frame has another digest
	wait(t, 60*time.Second, "three different pictures of the camera", func() error {
		rows, err := f.results()
		if err != nil {
			return err
		}
		for _, r := range rows {
			if r.Result.Source != "v4l2:shelf" {
				return fmt.Errorf("a result of %s", r.Result.Source)
			}
			if r.Result.Error != "" || len(r.Result.Labels) == 0 {
				return fmt.Errorf("a frame without labels: %s", r.Result.Error)
			}
			inputs[r.Result.Input] = true
		}
		if len(inputs) < 3 {
			return errors.New("not yet")
		}
		return nil
	})
	b.stop()
}
