package sensors

import (
	"context"
	"encoding/binary"
	"math"
	"slices"
	"time"
)

// Registers and bits of the ADS1115 (TI SBAS444, section 9.6).
const (
	adsConversion = 0x00
	adsConfig     = 0x01
	adsLow        = 0x02
	adsHigh       = 0x03

	adsStart      = 0x8000 // written: begin; read: no conversion is under way
	adsSingle     = 0x0100 // one conversion, then power down
	adsComparator = 0x0003 // off

	// What the thresholds of the comparator hold after a reset, and where
	// nobody uses it.
	adsLowReset  = 0x8000
	adsHighReset = 0x7fff
)

// adsChannels are the bits MUX of its inputs.
var adsChannels = map[string]int{"0-1": 0, "0-3": 1, "1-3": 2, "2-3": 3, "0": 4, "1": 5, "2": 6, "3": 7}

// Full scales in millivolts, by the bits PGA, and samples a second, by the
// bits DR.
var (
	adsRanges = []int{6144, 4096, 2048, 1024, 512, 256}
	adsRates  = []int{8, 16, 32, 64, 128, 250, 475, 860}
)

// ads1115 is one input of an ADS1115.
type ads1115 struct {
	link
	c       Config
	config  uint16 // without adsStart
	rangeMV int
	takes   time.Duration // of one conversion, at most
}

// openADS1115 reads its configuration: the chip has no other sign.
func openADS1115(_ context.Context, c Config, l link) (Chip, error) {
	rangeMV, rate := c.RangeMV, c.Rate
	if rangeMV == 0 {
		rangeMV = 4096
	}
	if rate == 0 {
		rate = 128
	}
	if c.Channel == "" {
		c.Channel = "0"
	}
	mux, err := c.channel()
	if err != nil {
		return nil, err
	}
	config := mux<<12 | slices.Index(adsRanges, rangeMV)<<9 | adsSingle | slices.Index(adsRates, rate)<<5 | adsComparator
	// Its oscillator is within 10 %, and it needs 25 µs to wake up.
	takes := time.Second*11/10/time.Duration(rate) + time.Millisecond
	a := &ads1115{link: l, c: c, config: uint16(config), rangeMV: rangeMV, takes: takes}
	_, err = a.read(adsConfig)
	return a, err
}

func (a *ads1115) read(reg byte) (uint16, error) {
	r := make([]byte, 2)
	err := a.tx([]byte{reg}, r)
	return binary.BigEndian.Uint16(r), err
}

// Read implements Chip.
func (a *ads1115) Read(ctx context.Context) ([]Reading, error) {
	w := binary.BigEndian.AppendUint16([]byte{adsConfig}, a.config|adsStart)
	if err := a.tx(w, nil); err != nil {
		return nil, err
	}
	for wait, tries := a.takes, 0; ; wait, tries = a.takes/8, tries+1 {
		if err := pause(ctx, wait); err != nil {
			return nil, err
		}
		is, err := a.read(adsConfig)
		if err != nil {
			return nil, err
		}
		if is&^adsStart != a.config {
			return nil, a.wrong(a.hint, "%w, or another program uses it: its configuration is 0x%04x, 0x%04x was written", ErrOther, is, a.config)
		}
		if is&adsStart != 0 {
			break
		}
		if tries == 20 {
			return nil, a.wrong(a.hint, "%w: its configuration stays 0x%04x", ErrNotDone, is)
		}
	}
	v, err := a.read(adsConversion)
	if err != nil {
		return nil, err
	}
	if n := int16(v); n == math.MaxInt16 || n == math.MinInt16 {
		return nil, a.wrong("give a larger range_mv, or a divider of voltage", "channel %s is %w: %d mV", a.c.Channel, ErrRange, a.rangeMV)
	}
	return a.c.converted(float64(int16(v)) * float64(a.rangeMV) / 1000 / 32768), nil
}
