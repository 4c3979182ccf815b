//go:build board

package e2e_test

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"dunlin/facts"
	"dunlin/firmware-tools/vm"
)

// fdt is a flattened device tree (devicetree.org's specification, chapter 5):
// a header, then tokens, each a big-endian word.
type fdt []byte

const (
	fdtBeginNode = 1
	fdtEndNode   = 2
	fdtProperty  = 3
	fdtNop       = 4
)

// property returns where a property of a node is; the node goes by the end of
// its name.
func (d fdt) property(t *testing.T, node, name string) []byte {
	t.Helper()
	word := func(at int) int { return int(binary.BigEndian.Uint32(d[at:])) }
	text := func(at int) string { return string(d[at : at+bytes.IndexByte(d[at:], 0)]) }
	var path []string
	for at := word(8); ; {
		token := word(at)
		at += 4
		switch token {
		case fdtBeginNode:
			path = append(path, text(at))
			at += len(text(at)) + 1
		case fdtEndNode:
			path = path[:len(path)-1]
		case fdtProperty:
			length, called := word(at), text(word(12)+word(at+4))
			at += 8
			if called == name && path[len(path)-1] == node {
				return d[at : at+length]
			}
			at += length
		case fdtNop:
		default:
			t.Fatalf("the device tree has no property %s of %s", name, node)
		}
		at = (at + 3) &^ 3
	}
}

// imx7 is a board with NXP's i.MX 7Dual, whose I2C and SPI controllers QEMU
// emulates, and the device tree of a board with that chip.
func imx7(t *testing.T) vm.Board {
	b := named(t, "armhf")
	b.Name, b.Machine, b.CPU, b.Cores, b.DTB, b.Console = "imx7", "mcimx7d-sabre", "", 1, "imx7d-smegw01.dtb", "ttymxc0,115200"
	b.Net = "virtio-net-pci" // which is not reached: of its PCI the kernel wants more
	b.Modules = []string{"gpio-mxc", "i2c-imx", "i2c-dev", "spi-imx", "fec"}
	return b
}

// imx7Tree is the board's device tree, in which the first SPI controller is
// where the last one is: QEMU puts a chip there, and the chip select is of the
// first.
func imx7Tree(t *testing.T, kind vm.Board) (path string) {
	t.Helper()
	dir, err := vm.CacheDir()
	if err != nil {
		t.Fatal(err)
	}
	kernel, err := kind.Flavour.Fetch(t.Context(), dir)
	if err != nil {
		cannot(t, err)
	}
	if path, err = kernel.DTB(kind.DTB); err != nil {
		t.Fatal(err)
	}
	tree, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"reg", "interrupts"} {
		first, last := fdt(tree).property(t, "spi@30820000", name), fdt(tree).property(t, "spi@30630000", name)
		was := slices.Clone(first)
		copy(first, last)
		copy(last, was)
	}
	path = filepath.Join(t.TempDir(), kind.DTB)
	if err := os.WriteFile(path, tree, 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

// TestBoardBuses runs the tests that boards/pins has for any board: a
// thermometer's register is read over I2C, a flash chip's id over SPI.
func TestBoardBuses(t *testing.T) {
	kind := imx7(t)
	tree := imx7Tree(t, kind)
	ctx, v := startPins(t, kind, "TestBoard(I2C|SPI)",
		[]string{"DUNLIN_BOARD_I2C=/dev/i2c-1 48 02 4b00", "DUNLIN_BOARD_SPI=/dev/spidev0.0 9f000000000000 00bf2541000000", "DUNLIN_BOARD_GIVE=spi0.0"},
		vm.Boot{Args: []string{"-dtb", tree, "-device", "tmp105,bus=i2c-bus.1,address=0x48", "-device", "sst25vf016b,bus=spi"}}, 2*time.Minute)
	pinsPassed(ctx, t, v)
}

// vexpress is Arm's board of the Cortex-A15, which has an I2C bus, and a
// network.
func vexpress(t *testing.T) vm.Board {
	b := named(t, "armhf")
	b.Name, b.Machine, b.CPU, b.DTB = "vexpress", "vexpress-a15", "", "vexpress-v2p-ca15-tc1.dtb"
	b.Modules = append(slices.Clone(b.Modules), "i2c-versatile", "i2c-dev")
	return b
}

// TestBoardSensor has a thermometer on a board's I2C bus read by the agent as
// it ships, and finds what it measured among the facts of results. At another
// address is nothing: that is said, and nowhere a number.
func TestBoardSensor(t *testing.T) {
	e, f := theExample(t), startBoardFleet(t)
	const bus = "/dev/i2c-0"
	b := f.newBoard(vexpress(t), "sensor", fmt.Sprintf(`
[[sensor]]
name = "cellar"
kind = "lm75"
bus = %[1]q
every_ms = 500
[[sensor]]
name = "attic"
kind = "lm75"
bus = %[1]q
address = 0x4a
every_ms = 500
`, bus), nil)
	f.offer(e)
	b.start(vm.Boot{Args: []string{"-device", "tmp105,id=thermometer,bus=i2c,address=0x48"}})
	out, err := b.vm.Run(t.Context(), "/usr/bin/dunlin-agent", "sources", "-json", "-ask", bus)
	if err != nil {
		t.Fatal(err)
	}
	var offers struct {
		Chips []struct {
			Bus, Kind string
			Address   int
		}
	}
	if err := json.Unmarshal([]byte(out), &offers); err != nil {
		t.Fatal(err)
	}
	if len(offers.Chips) != 1 || offers.Chips[0].Kind != "lm75" || offers.Chips[0].Address != 0x48 {
		t.Errorf("on the bus the agent finds %+v:\n%s", offers.Chips, out)
	}
	b.runs(e.digest)
	data, want := e.pictures(t, 3)
	said := []struct {
		milli  int
		object string
	}{{21_500, "21.5 °C"}, {-10_500, "-10.5 °C"}, {0, "0 °C"}} // a zero that was measured is one
	for i, name := range slices.Sorted(maps.Keys(want)) {
		b.warm(said[i].milli)
		b.give(name, data[name])
		r := f.resultOf("sensor", name)
		if len(r.Facts) != 1 {
			t.Fatalf("facts of %s: %+v", name, r.Facts)
		}
		m := r.Facts[0].Measured
		if m == nil || m.Value != float64(said[i].milli)/1000 || m.Unit != "°C" || m.AgeMS < 0 || m.AgeMS > 3000 {
			t.Errorf("measured: %+v", m)
		}
		if r.Facts[0].Measured = nil; r.Facts[0] != (facts.Answer{
			Subject: "urn:dunlin:sensor/e2e/sensor/cellar", Predicate: "urn:dunlin:quantity/temperature", Label: "temperature",
			Object: said[i].object, Source: "sensor cellar (lm75)",
		}) {
			t.Errorf("%s: %+v", name, r.Facts[0])
		}
	}
	attic := b.sensors()[1]
	if len(attic.Readings) != 0 || attic.Reads != 0 || !strings.Contains(attic.Error, "lm75 at 0x4a: nothing answers: "+bus) {
		t.Errorf("where nothing is: %+v", attic)
	}
	b.stop()
}

// sensorState is what a status says of a sensor.
type sensorState struct {
	Name, Error string
	Reads       uint64
	Readings    []struct{ Value float64 }
}

func (b *board) sensors() []sensorState {
	b.t.Helper()
	var s struct{ Sensors []sensorState }
	if err := b.vm.Ask(b.t.Context(), "GET", "/agent/v1/status", nil, &s); err != nil {
		b.t.Fatal(err)
	}
	if len(s.Sensors) != 2 {
		b.t.Fatalf("sensors: %+v", s.Sensors)
	}
	return s.Sensors
}

// warm gives the emulated thermometer a temperature, in 1/1000 °C, and waits
// until the agent has it.
func (b *board) warm(milli int) {
	b.t.Helper()
	if out, err := b.vm.Monitor(b.t.Context(), fmt.Sprintf("qom-set /machine/peripheral/thermometer temperature %d", milli)); err != nil || out != "" {
		b.t.Fatalf("warm the thermometer: %v %s", err, out)
	}
	wait(b.t, 60*time.Second, fmt.Sprintf("the agent to read %d/1000 °C", milli), func() error {
		s := b.sensors()[0]
		if len(s.Readings) != 1 || s.Readings[0].Value != float64(milli)/1000 {
			return fmt.Errorf("it has %+v", s)
		}
		return nil
	})
}
