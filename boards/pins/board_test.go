//go:build board && linux

package pins

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// What follows needs a board, virtual or real, and says by its environment
// what may be touched on it:
//
//	DUNLIN_BOARD_OUT   a line that nothing hangs on: it is driven
//	DUNLIN_BOARD_EDGES a line that somebody pulses, high for 50 ms or more, 5 times once the test says that it waits
//	DUNLIN_BOARD_I2C   "/dev/i2c-0 48 02 4b00": a bus, an address at which a register holds two bytes, these bytes; 76 must be free
//	DUNLIN_BOARD_SPI   "/dev/spidev0.0 9f000000 00bf2541": a chip select, what is sent, what comes back but for the first byte
//	DUNLIN_BOARD_GIVE  "spi0.0": a chip select of which no program has a file yet: it is given to spidev first
//
// go test -c -tags board ./boards/pins; run it there with -test.run Board -test.v.
func boardHas(t *testing.T, name string) []string {
	t.Helper()
	words := strings.Fields(strings.ReplaceAll(os.Getenv(name), "_", " "))
	if len(words) == 0 {
		t.Skip(name + " is not set")
	}
	return words
}

func TestBoardOutput(t *testing.T) {
	name := boardHas(t, "DUNLIN_BOARD_OUT")[0]
	h := Open()
	for _, l := range h.Lines() {
		t.Log(l, l.Name, l.User)
	}
	if err := h.Check(name); err != nil {
		t.Fatal(err)
	}
	for range 2 { // let go, it can be had again
		o, err := h.Output(name, false)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := h.Input(name, PullAsIs, Rising); !errors.Is(err, ErrBusy) {
			t.Errorf("a line that is had: %v", err)
		}
		for _, active := range []bool{true, false, true} {
			if err := o.Set(active); err != nil || bool(o.pin.Read()) != active {
				t.Errorf("%v was set, the line is %v (%v)", active, o.pin.Read(), err)
			}
		}
		if err := o.Close(); err != nil {
			t.Error(err)
		}
	}
	if _, err := h.Output("no-such-line", false); !errors.Is(err, ErrUnknown) {
		t.Error(err)
	}
}

// Rising edges, falling ones, and a level that holds: each sees every pulse
// once.
func TestBoardEdges(t *testing.T) {
	name := boardHas(t, "DUNLIN_BOARD_EDGES")[0]
	const pulses = 5
	for _, w := range []Trigger{{Edge: Rising}, {Edge: Falling}, {Edge: Rising, Hold: 20 * time.Millisecond}} {
		w.Line = name
		ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
		hits := 0
		fmt.Printf("waiting for %d pulses at %s\n", pulses, name)
		err := Open().Watch(ctx, w, func(at time.Time) {
			t.Logf("hit at %v", at.Format("05.000"))
			if hits++; hits == pulses {
				time.AfterFunc(500*time.Millisecond, cancel) // one more would be one too many
			}
		})
		cancel()
		if !errors.Is(err, context.Canceled) || hits != pulses {
			t.Errorf("%+v: %d hits, %v", w, hits, err)
		}
	}
}

func unhex(t *testing.T, s string) (b []byte) {
	t.Helper()
	if _, err := fmt.Sscanf(s, "%x", &b); err != nil {
		t.Fatalf("%q: %v", s, err)
	}
	return b
}

func TestBoardI2C(t *testing.T) {
	w := boardHas(t, "DUNLIN_BOARD_I2C")
	address, err := strconv.ParseUint(w[1], 16, 7)
	if err != nil {
		t.Fatal(err)
	}
	b, err := OpenI2C(w[0])
	if err != nil {
		t.Fatal(err)
	}
	got, want := make([]byte, 2), unhex(t, w[3])
	for range 100 {
		if err := b.Tx(uint16(address), unhex(t, w[2]), got); err != nil || !bytes.Equal(got, want) {
			t.Fatalf("%x, want %x (%v)", got, want, err)
		}
	}
	// The drivers do not agree; it is an error number with all of them.
	err = b.Tx(0x76, []byte{0xd0}, got)
	if !errors.Is(err, syscall.ENXIO) && !errors.Is(err, syscall.EREMOTEIO) && !errors.Is(err, syscall.ETIMEDOUT) {
		t.Errorf("where nothing answers: %v", err)
	}
	t.Log("where nothing answers:", err)
	if err := b.Close(); err != nil {
		t.Error(err)
	}
	if err := b.Tx(uint16(address), unhex(t, w[2]), got); !errors.Is(err, ErrClosed) {
		t.Errorf("a closed bus: %v", err)
	}
}

func TestBoardSPI(t *testing.T) {
	w := boardHas(t, "DUNLIN_BOARD_SPI")
	if name := os.Getenv("DUNLIN_BOARD_GIVE"); name != "" {
		for _, step := range [][2]string{{"devices/" + name + "/driver_override", "spidev"}, {"drivers/spidev/bind", name}} {
			if err := os.WriteFile("/sys/bus/spi/"+step[0], []byte(step[1]), 0o200); err != nil {
				t.Fatal(err)
			}
		}
	}
	s, err := OpenSPI(w[0], 1_000_000)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	send, want := unhex(t, w[1]), unhex(t, w[2])
	got := make([]byte, len(send))
	for range 100 {
		if err := s.Tx(send, got); err != nil || !bytes.Equal(got[1:], want[1:]) {
			t.Fatalf("%x, want %x (%v)", got, want, err)
		}
	}
}
