package agent

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"dunlin/boards"
	"dunlin/boards/sensors"
)

// thresholds is the bus of an ADS1115 as it is after a reset.
type thresholds struct{ adc }

func (b *thresholds) I2C(path string) (sensors.Bus, error) { return b, nil }

func (b *thresholds) Tx(addr uint16, w, r []byte) error {
	if w[0] != 2 && w[0] != 3 {
		return b.adc.Tx(addr, w, r)
	}
	copy(r, map[byte][]byte{2: {0x80, 0x00}, 3: {0x7f, 0xff}}[w[0]])
	return nil
}

// Chips are asked on a Pi's header, or where a person says so, but for those
// that a driver of the kernel has.
func TestAskBus(t *testing.T) {
	inputs := []boards.Input{{Kind: boards.InputI2C, Path: "/dev/i2c-0"}, {Kind: boards.InputI2C, Path: "/dev/i2c-1"}}
	if got := fmt.Sprint(askable(boards.Board{ID: "rpi-5"}, inputs)); got != "[/dev/i2c-1]" {
		t.Error(got)
	}
	if got := askable(boards.Board{ID: "jetson-orin-nano"}, inputs); got != nil {
		t.Error(got)
	}
	devices := t.TempDir()
	for _, taken := range []string{"1-0049", "1-004a", "2-0048"} {
		if err := os.Mkdir(filepath.Join(devices, taken), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	found, err := askBus("i2c-1", &thresholds{}, devices)
	if err != nil || fmt.Sprint(found) != "[{/dev/i2c-1 ads1115 72} {/dev/i2c-1 ads1115 75}]" {
		t.Errorf("%v, %v", found, err)
	}
	var out bytes.Buffer
	printOffers(&out, offers{Inputs: inputs, Chips: found})
	if want := `chip     ads1115 at 0x48 on /dev/i2c-1  [[sensor]] kind = "ads1115", bus = "/dev/i2c-1", address = 0x48`; !strings.Contains(out.String(), want) {
		t.Errorf("%s\nwant %s", out.String(), want)
	}
}
