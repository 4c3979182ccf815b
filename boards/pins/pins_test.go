package pins

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"periph.io/x/conn/v3/gpio"
)

// testPin is a pin of periph.io's that remembers. (Its gpiotest.Pin needs a
// module that ours does not require.)
type testPin struct {
	gpio.PinIO // for the methods that are not used here
	edges      chan gpio.Level

	mu     sync.Mutex
	log    []string
	level  gpio.Level
	fail   error
	closed int
}

func newPin() *testPin { return &testPin{PinIO: gpio.INVALID, edges: make(chan gpio.Level)} }

func (p *testPin) did(what string) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.log = append(p.log, what)
	return p.fail
}

func (p *testPin) Out(l gpio.Level) error { return p.did(l.String()) }

func (p *testPin) In(pull gpio.Pull, e gpio.Edge) error {
	return p.did("In " + pull.String() + " " + e.String())
}

func (p *testPin) Close() { p.closed++ }

func (p *testPin) Read() gpio.Level {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.level
}

func (p *testPin) WaitForEdge(d time.Duration) bool {
	if p.did("wait") != nil {
		return false
	}
	select {
	case l := <-p.edges:
		p.mu.Lock()
		defer p.mu.Unlock()
		p.level = l
		return true
	case <-time.After(d):
		return false
	}
}

func (p *testPin) said() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return strings.Join(p.log, ", ")
}

// board is a host as a Pi 5 has it: two chips that share a name of a line.
func board() (h *Host, gpio17, second *testPin) {
	gpio17, second = newPin(), newPin()
	return New(
		Chip{"pinctrl-rp1", []Pin{{newPin(), "ID_SDA", ""}, {gpio17, "GPIO17", ""}, {newPin(), "2712_WAKE", ""}}},
		Chip{"gpio-brcmstb@107d508500", []Pin{{newPin(), "2712_WAKE", ""}, {second, "", "other@1"}}},
	), gpio17, second
}

func TestFind(t *testing.T) {
	h, _, _ := board()
	for _, c := range []struct {
		name string
		want int
		err  error
		text string // in the error or its hint
	}{
		{"GPIO17", 1, nil, ""},
		{"pinctrl-rp1:1", 1, nil, ""},
		{"gpio-brcmstb@107d508500:1", 4, nil, ""},
		{"GPIO99", 0, ErrUnknown, "ID_SDA, GPIO17"},
		{"pinctrl-rp1:3", 0, ErrUnknown, "pinctrl-rp1:0"},
		{"pinctrl-rp1:01", 0, ErrUnknown, ""},
		{"2712_WAKE", 0, ErrAmbiguous, "pinctrl-rp1:2, gpio-brcmstb@107d508500:0"},
		{"gpiochip0:17", 0, ErrName, "chips change their numbers"},
		{"/dev/gpiochip4", 0, ErrName, "chips change their numbers"},
		{"", 0, ErrName, "it is empty"},
		{"GPIO 17", 0, ErrName, "' ' in it"},
		{"GPIO\"17", 0, ErrName, "in it"},
		{strings.Repeat("x", 49), 0, ErrName, "more than 48 bytes"},
	} {
		i, err := h.find(c.name)
		if !errors.Is(err, c.err) || err == nil && i != c.want {
			t.Errorf("%q: %d, %v", c.name, i, err)
			continue
		}
		if e, ok := errors.AsType[*LineError](err); ok && !strings.Contains(e.Error()+e.Hint, c.text) {
			t.Errorf("%q: %v, hint %s; want %q", c.name, e, e.Hint, c.text)
		}
	}
	var all []string
	for _, l := range h.Lines() {
		all = append(all, l.String()+" "+l.Name+" "+l.User)
	}
	if want := []string{
		"gpio-brcmstb@107d508500:0 2712_WAKE ", "gpio-brcmstb@107d508500:1  other@1", "pinctrl-rp1:0 ID_SDA ", "pinctrl-rp1:1 GPIO17 ", "pinctrl-rp1:2 2712_WAKE ",
	}; !slices.Equal(all, want) {
		t.Errorf("lines %q", all)
	}
}

func TestDrive(t *testing.T) {
	for _, c := range []struct {
		low  bool
		want string
	}{
		{false, "Low, High, Low, Low"}, {true, "High, Low, High, High"},
	} {
		synctest.Test(t, func(t *testing.T) {
			h, pin, _ := board()
			o, err := h.Output("GPIO17", c.low)
			if err != nil {
				t.Fatal(err)
			}
			start := time.Now()
			if err := o.Drive(t.Context(), 500*time.Millisecond); err != nil {
				t.Error(err)
			}
			if d := time.Since(start); d != 500*time.Millisecond {
				t.Errorf("driven for %v", d)
			}
			for range 2 { // the second does nothing
				if err := o.Close(); err != nil {
					t.Error(err)
				}
			}
			if pin.said() != c.want || pin.closed != 1 {
				t.Errorf("active low %v: %s, closed %d times; want %s", c.low, pin.said(), pin.closed, c.want)
			}
			if err := o.Set(true); !errors.Is(err, ErrClosed) {
				t.Errorf("a closed line: %v", err)
			}
		})
	}
}

// When ctx ends, so does the pulse; the line is inactive.
func TestDriveStops(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, pin, _ := board()
		o, err := h.Output("GPIO17", false)
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := o.Drive(ctx, time.Hour); !errors.Is(err, context.DeadlineExceeded) {
			t.Error(err)
		}
		if pin.said() != "Low, High, Low" {
			t.Error(pin.said())
		}
	})
}

// One caller has a line at a time, whichever of its names it gave; a line
// that was refused can be tried again.
func TestTaken(t *testing.T) {
	h, pin, second := board()
	o, err := h.Output("GPIO17", false)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := h.Output("pinctrl-rp1:1", false); !errors.Is(err, ErrBusy) {
		t.Errorf("a second caller: %v", err)
	}
	if err := h.Check("GPIO17"); !errors.Is(err, ErrBusy) {
		t.Errorf("check of a line that is had: %v", err)
	}
	if err := o.Close(); err != nil {
		t.Fatal(err)
	}
	if err := h.Check("GPIO17"); err != nil || pin.said() != "Low, Low, In PullNoChange NoEdge" || pin.closed != 2 {
		t.Errorf("check: %v, %s, closed %d times", err, pin.said(), pin.closed)
	}
	const other = "gpio-brcmstb@107d508500:1"
	second.fail = fmt.Errorf("line_request ioctl: %s", syscall.EBUSY.Error()) // as periph.io says it
	for _, err := range []error{h.Check(other), func() error { _, err := h.Output(other, true); return err }()} {
		if !errors.Is(err, ErrBusy) || !strings.Contains(err.Error(), "by other@1") {
			t.Errorf("a line that another program has: %v", err)
		}
	}
	if _, err := h.Input(other, PullUp, BothEdges); !errors.Is(err, ErrBusy) {
		t.Errorf("input: %v", err)
	}
	second.fail = nil
	if i, err := h.Input(other, PullUp, BothEdges); err != nil || i.Close() != nil || !strings.HasSuffix(second.said(), "In PullUp BothEdges") {
		t.Errorf("after it was let go: %v, %s", err, second.said())
	}
}

// A line whose writes fail says so, and is let go all the same.
func TestOutputFails(t *testing.T) {
	h, pin, _ := board()
	o, err := h.Output("GPIO17", false)
	if err != nil {
		t.Fatal(err)
	}
	pin.fail = syscall.EIO
	if err := o.Drive(t.Context(), time.Hour); !errors.Is(err, syscall.EIO) {
		t.Errorf("drive: %v", err)
	}
	if err := o.Close(); !errors.Is(err, syscall.EIO) || pin.closed != 1 {
		t.Errorf("close: %v", err)
	}
	if _, err := h.Output("GPIO17", false); !errors.Is(err, syscall.EIO) || pin.closed != 2 {
		t.Errorf("output: %v, closed %d times", err, pin.closed)
	}
}

func TestEdges(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, pin, _ := board()
		in, err := h.Input("GPIO17", PullDown, BothEdges)
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		start := time.Now()
		go func() {
			for i := range 3 {
				<-time.After(time.Second)
				pin.edges <- gpio.Level(i%2 == 0)
			}
			cancel()
		}()
		var got []string
		err = in.Edges(ctx, func(high bool, at time.Time) { got = append(got, fmt.Sprint(high, " ", at.Sub(start))) })
		if want := []string{"true 1s", "false 2s", "true 3s"}; !errors.Is(err, context.Canceled) || !slices.Equal(got, want) {
			t.Errorf("%v, %q, want %q", err, got, want)
		}
		pin.fail = syscall.EIO // from now on each wait fails at once
		if err := in.Edges(t.Context(), nil); !errors.Is(err, ErrWait) {
			t.Errorf("a line that cannot be waited for: %v", err)
		}
	})
}

func TestNoChip(t *testing.T) {
	h := New()
	if err := h.Check("GPIO17"); !errors.Is(err, ErrNoChip) || len(h.Lines()) != 0 {
		t.Error(err)
	}
}

// What this machine has is unknown to the test: it lists, and takes nothing.
func TestOpen(t *testing.T) {
	h := Open()
	if h != Open() {
		t.Error("two hosts for one machine")
	}
	for _, l := range h.Lines() {
		if i, err := h.find(l.String()); err == nil && h.lines[i].Line != l {
			t.Errorf("%s is found as %v", l, h.lines[i].Line)
		}
	}
	if _, err := h.Output("dunlin-no-such-line", false); err == nil {
		t.Error("a line that does not exist was opened")
	}
}

func FuzzCheckName(f *testing.F) {
	f.Add("GPIO17")
	f.Add("gpiochip0:3")
	f.Add("pinctrl-rp1:17")
	f.Fuzz(func(t *testing.T, name string) {
		h, _, _ := board()
		i, err := h.find(name)
		if (CheckName(name) != nil) && err == nil {
			t.Errorf("%q is no name, and is line %d", name, i)
		}
	})
}
