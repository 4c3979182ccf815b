package sensors

import (
	"context"
	"encoding/binary"
	"time"
)

// Registers of the LM75 (TI SNOS808), which the TMP75 (TI SBOS288), the
// TMP102 (TI SBOS397) and others have too.
const (
	lmTemperature = 0x00 // in 1/256 °C; of the last four bits no such chip makes use
	lmUsed        = 0xfff0
	lmHigh        = 0x03 // limit of its alarm
	// lmSure are the bits that each of them has. What an LM75 says below them is
	// undefined (TI SNIS153B, p. 11), and cannot be told from a TMP102's.
	lmSure = 0xff80

	// What the limits of its alarm hold after a reset: 75 and 80 °C.
	lmLowReset  = 0x4b00
	lmHighReset = 0x5000
)

// lmConversion is the longest that a measurement takes, rounded up.
const lmConversion = 350 * time.Millisecond

// lm75 is an LM75 or what answers as one. It measures without end, and keeps
// the resolution that it has after a reset: 0.5 °C of an LM75 or TMP75, 0.0625
// °C of a TMP102. All twelve bits are taken as measured, so what an LM75 leaves
// undefined makes a reading of it up to 0.44 °C too high.
type lm75 struct{ link }

// openLM75 reads it once: the chip has no other sign.
func openLM75(ctx context.Context, _ Config, l link) (Chip, error) {
	c := lm75{l}
	_, err := c.Read(ctx)
	return c, err
}

// Read implements Chip. The register is 0 until the first measurement after a
// reset has ended, so a 0 is one only when it is there a measurement later.
func (c lm75) Read(ctx context.Context) ([]Reading, error) {
	v, err := c.register(lmTemperature)
	if err == nil && v&lmUsed == 0 {
		if err = pause(ctx, lmConversion); err == nil {
			v, err = c.register(lmTemperature)
		}
	}
	if err != nil {
		return nil, err
	}
	if v == 0xffff { // what a wire says at which nothing is, or -0.5 °C of an LM75
		limit, err := c.register(lmHigh)
		if err != nil {
			return nil, err
		}
		if limit == v {
			return nil, c.wrong(c.hint, "%w: its temperature and its limit read as 0xffff", ErrSilent)
		}
	}
	t := float64(int16(v&lmUsed)) / 256
	if t < -55 || t > 125 {
		return nil, c.wrong(c.hint, "temperature of %v °C is %w: -55 to 125", t, ErrRange)
	}
	return []Reading{{"temperature", round(t), "°C"}}, nil
}

func (c lm75) register(number byte) (uint16, error) {
	r := make([]byte, 2)
	err := c.tx([]byte{number}, r)
	return binary.BigEndian.Uint16(r), err
}
