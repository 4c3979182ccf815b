//go:build board

package e2e_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"dunlin/firmware-tools/vm"
	"dunlin/firmware-tools/vm/guest"
)

// gpio returns what the kernel says of a line that somebody has: its user and
// its level, "hi" or "lo", which it reads from the chip. The lines of a chip
// are numbered from the base that the kernel gave it.
func gpio(ctx context.Context, v *vm.VM, chip string, offset int) (user, level string, err error) {
	text, err := v.Get(ctx, "/sys/kernel/debug/gpio")
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
			user, level, err := gpio(t.Context(), b.vm, chip, line)
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
	if user, level, err := gpio(t.Context(), b.vm, chip, 1); err != nil || level == "hi" {
		t.Errorf("after the agent's end line 1 is %q, had by %q: %v", level, user, err)
	}
	b.stop()
}

// generic is the virt board with the kernel that has cameras, and leaves the
// power button's line to programs.
func generic(t *testing.T) vm.Board {
	b := named(t, "virt")
	b.Flavour = vm.Generic
	return b
}

// buttonLine is where QEMU's power button is.
const buttonLine = "9030000.pl061:3"

// press presses the button for a tenth of a second, and returns when it has
// been up again for longer than that. What it waits for is the finger.
func press(t *testing.T, v *vm.VM) {
	t.Helper()
	if out, err := v.Monitor(t.Context(), "system_powerdown"); err != nil || out != "" {
		t.Fatalf("press the button: %v %s", err, out)
	}
	time.Sleep(400 * time.Millisecond)
}

// withCamera adds the kernel's virtual camera.
func withCamera(c *vm.Config) {
	c.Modules = []string{"vivid n_devs=1 node_types=0x1 num_inputs=1 input_types=0x0"}
}

const cameraSource = "[[source]]\nname = \"shelf\"\nkind = \"v4l2\"\ndevice = \"/dev/video0\"\nwidth = 320\nheight = 240\n"

// TestBoardCamera takes pictures from the kernel's virtual camera through
// mapped buffers, with the structures of 32 bits; those of 64 bits are
// TestBoardButton's.
func TestBoardCamera(t *testing.T) {
	e, f := theExample(t), startBoardFleet(t)
	b := f.newBoard(named(t, "armhf"), "camera", cameraSource+"every_ms = 200\n", withCamera)
	f.offer(e)
	b.start(vm.Boot{})
	b.runs(e.digest)
	f.frames("camera", 3)
	b.stop()
}

// frames waits for so many results of the camera of a device. The picture
// moves: each frame has another digest.
func (f *fleet) frames(device string, n int) {
	f.t.Helper()
	wait(f.t, 120*time.Second, fmt.Sprintf("%d pictures of the camera", n), func() error {
		rows, err := f.results()
		if err != nil {
			return err
		}
		inputs := map[string]bool{}
		for _, r := range rows {
			if r.Device != "e2e/"+device || r.Result.Source != "v4l2:shelf" || r.Result.Error != "" || len(r.Result.Labels) == 0 {
				f.t.Fatalf("result of %s, %s: %d labels %s", r.Device, r.Result.Source, len(r.Result.Labels), r.Result.Error)
			}
			inputs[r.Result.Input] = true
		}
		if len(inputs) < n {
			return fmt.Errorf("%d different ones in %d results", len(inputs), len(rows))
		}
		return nil
	})
}

// TestBoardButton has the camera looked at when a button is pressed, and at no
// other time; and the board's agent offers the camera.
func TestBoardButton(t *testing.T) {
	e, f := theExample(t), startBoardFleet(t)
	b := f.newBoard(generic(t), "button", cameraSource+fmt.Sprintf("[[trigger]]\nsources = [\"shelf\"]\nline = %q\nedge = \"rising\"\n", buttonLine), withCamera)
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
	looked := func() (uint64, error) {
		var s struct {
			Sources []struct {
				Frames, Taken uint64
				Error         string
			}
		}
		err := b.vm.Ask(t.Context(), "GET", "/agent/v1/status", nil, &s)
		if err == nil && (len(s.Sources) != 1 || s.Sources[0].Frames < 10 || s.Sources[0].Error != "") {
			err = fmt.Errorf("the camera does not play: %+v", s.Sources)
		}
		if err != nil {
			return 0, err
		}
		return s.Sources[0].Taken, nil
	}
	wait(t, 60*time.Second, "the camera to play, and nobody to look", func() error {
		n, err := looked()
		if n != 0 {
			t.Fatalf("%d frames were looked at before the button was pressed", n)
		}
		return err
	})
	presses := uint64(0)
	for want := range uint64(3) {
		// A press is short, and an emulator that got no time for it has not seen it.
		next := time.Time{}
		wait(t, 60*time.Second, "a frame to be looked at", func() error {
			if time.Now().After(next) && presses < 6 {
				press(t, b.vm)
				presses++
				next = time.Now().Add(10 * time.Second)
			}
			n, err := looked()
			if err == nil && n <= want {
				err = fmt.Errorf("%d so far", n)
			}
			return err
		})
	}
	f.frames("button", 3)
	if n, err := looked(); err != nil || n > presses {
		t.Errorf("%d frames were looked at, the button was pressed %d times: %v", n, presses, err)
	}
	b.stop()
}

// hits counts what the test on the board saw of the button.
func hits(v *vm.VM) int {
	n := 0
	for _, line := range v.Console() {
		if strings.Contains(line, "hit at") {
			n++
		}
	}
	return n
}

// pinsTest builds the tests of boards/pins for a board.
func pinsTest(t *testing.T, kind vm.Board) []byte {
	t.Helper()
	test := filepath.Join(t.TempDir(), "pins.test")
	cmd := exec.Command("go", "test", "-c", "-tags", "board", "-o", test, "dunlin/boards/pins")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux", "GOARCH="+kind.GOARCH, "GOARM="+kind.GOARM)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	data, err := os.ReadFile(test)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// startPins starts a board that runs some of those tests, in the environment
// that they want, within the time.
func startPins(t *testing.T, kind vm.Board, tests string, env []string, boot vm.Boot, limit time.Duration) (context.Context, *vm.VM) {
	t.Helper()
	m, err := vm.New(t.Context(), kind, vm.Config{
		Files: vm.Base(vm.Files{"pins.test": {Data: pinsTest(t, kind), Mode: 0o755}}),
		Service: guest.Service{
			Exec: []string{"/pins.test", "-test.run", tests, "-test.v"}, Env: env,
			StartMS: 600_000, RestartMS: 600_000,
		},
	})
	if err != nil {
		cannot(t, err)
	}
	t.Cleanup(func() { m.Close() })
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	t.Cleanup(cancel)
	v, err := m.Start(ctx, boot)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(v.Kill)
	return ctx, v
}

// pinsPassed waits for the end of those tests, of which two are to pass.
func pinsPassed(ctx context.Context, t *testing.T, v *vm.VM) {
	t.Helper()
	line, err := v.WaitLine(ctx, vm.Marked("service ended"))
	if err != nil {
		t.Fatal(err)
	}
	all := strings.Join(v.Console(), "\n")
	if !strings.Contains(line, "exit status 0") || strings.Count(all, "--- PASS") != 2 {
		t.Errorf("on the board:\n%s", all)
	}
}

// TestBoardEdges runs the test that boards/pins has for any board: lines that
// are driven, edges and levels that are seen each once.
func TestBoardEdges(t *testing.T) {
	ctx, v := startPins(t, generic(t), "TestBoard(Output|Edges)",
		[]string{"DUNLIN_BOARD_OUT=9030000.pl061:1", "DUNLIN_BOARD_EDGES=" + buttonLine}, vm.Boot{}, 3*time.Minute)
	for i := range 3 { // kinds of edges
		waits := 0
		if _, err := v.WaitLine(ctx, func(line string) bool {
			if strings.Contains(line, "waiting for 5 pulses") {
				waits++
			}
			return waits > i
		}); err != nil {
			t.Fatal(err)
		}
		wait(t, 30*time.Second, "somebody to listen to the button", func() error {
			user, _, err := gpio(ctx, v, "9030000.pl061", 3)
			if err == nil && user == "" {
				err = errors.New("nobody has the line")
			}
			return err
		})
		// Where this machine gives the emulator no time for the tenth of a second
		// that a press lasts, there was none for the board.
		for presses := 0; hits(v) < 5*(i+1); presses++ {
			if presses == 7 {
				t.Fatalf("7 presses, and not yet 5 hits:\n%s", v.Tail(30))
			}
			press(t, v)
		}
	}
	pinsPassed(ctx, t, v)
}

// TestBoardNetwork: a board reaches what it was given, by name and by address,
// and nothing else of this machine.
func TestBoardNetwork(t *testing.T) {
	kind := named(t, "virt")
	program := filepath.Join(t.TempDir(), "relay")
	if err := vm.Build(t.Context(), "dunlin/firmware-tools/vm/relay", program, kind.GOARCH, "", ""); err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(program)
	if err != nil {
		t.Fatal(err)
	}
	greet := func(host string) string {
		l, err := net.Listen("tcp", net.JoinHostPort(host, "0"))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { l.Close() })
		go func() {
			for {
				c, err := l.Accept()
				if err != nil {
					return
				}
				fmt.Fprintf(c, "hello of %s", l.Addr())
				c.Close()
			}
		}()
		return l.Addr().String()
	}
	here := greet("127.0.0.1")
	_, port, _ := net.SplitHostPort(here)
	want := map[string]string{here: here, "localhost:" + port: here}
	addrs, err := net.InterfaceAddrs()
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range addrs { // this machine by an address that is not the loopback's
		if ip, ok := a.(*net.IPNet); ok && !ip.IP.IsLoopback() && ip.IP.To4() != nil {
			other := greet(ip.IP.String())
			want[other] = other
			break
		}
	}
	c := vm.Config{Files: vm.Base(vm.Files{"relay": {Data: data, Mode: 0o755}}), Reach: []string{here}}
	for addr := range want {
		if addr != here && addr != "localhost:"+port { // the same port at the board's loopback
			c.Reach = append(c.Reach, addr)
		}
	}
	c.Hub = map[int]string{boardHTTP: here}
	m, err := vm.New(t.Context(), kind, c)
	if err != nil {
		cannot(t, err)
	}
	defer m.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	v, err := m.Start(ctx, vm.Boot{})
	if err != nil {
		t.Fatal(err)
	}
	defer v.Kill()
	if err := v.Up(ctx); err != nil {
		t.Fatal(err)
	}
	want[fmt.Sprintf("%s:%d", vm.HubHost, boardHTTP)] = here
	for range 2 { // each connection is one of its own
		for addr, from := range want {
			if out, err := v.Run(ctx, "/relay", addr); err != nil || out != "hello of "+from {
				t.Errorf("%s: %v %q, want the greeting of %s", addr, err, out, from)
			}
		}
	}
	for _, addr := range []string{"10.0.2.2:" + port, fmt.Sprintf("%s:%d", vm.HubHost, boardMQTT), "192.0.2.1:80"} {
		if out, err := v.Run(ctx, "/relay", addr); !errors.As(err, new(*vm.RunError)) {
			t.Errorf("%s: %v %q, want no way there", addr, err, out)
		}
	}
}
