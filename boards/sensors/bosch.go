package sensors

import (
	"context"
	"encoding/binary"
	"errors"
	"time"
)

// Registers of the BME280 (Bosch BST-BME280-DS002, section 5.3) and of the
// BMP280 (BST-BMP280-DS001, section 4.3), which lacks those of the humidity.
const (
	regCalibration = 0x88 // 26 bytes: temperature, pressure, one unused, H1
	regID          = 0xd0
	regReset       = 0xe0
	regHumidity    = 0xe1 // 7 bytes: H2 to H6
	regCtrlHum     = 0xf2
	regStatus      = 0xf3
	regCtrlMeas    = 0xf4
	regConfig      = 0xf5
	regData        = 0xf7 // 8 bytes: pressure 20 bits, temperature 20 bits, humidity 16 bits

	idBME280 = 0x60
	idBMP280 = 0x58

	resetWord     = 0xb6
	statusBusy    = 0x08 // a measurement is under way
	statusLoading = 0x01 // the calibration is being copied

	// Forced mode with each quantity sampled once and no filter: "weather
	// monitoring", section 3.5.1. The chip sleeps in between and does not warm
	// itself.
	humOnce  = 0x01
	measOnce = 0x01<<5 | 0x01<<2 | 0x01

	// What registers hold that were not measured.
	skipped20 = 0x80000
	skipped16 = 0x8000
)

// measureTime is the longest that one measurement of all three takes, 9.3 ms
// (section 9.1), rounded up.
const measureTime = 10 * time.Millisecond

// bosch is a BME280 or a BMP280.
type bosch struct {
	link
	humid bool
	cal   calibration
}

// openBosch resets the chip and reads its calibration.
func openBosch(ctx context.Context, c Config, l link) (Chip, error) {
	b := &bosch{link: l, humid: c.Kind == "bme280"}
	id := make([]byte, 1)
	if err := b.read(regID, id); err != nil {
		return nil, err
	}
	switch want := map[bool]byte{true: idBME280, false: idBMP280}[b.humid]; {
	case id[0] == want:
	case id[0] == idBMP280:
		return nil, l.wrong(`give kind = "bmp280"`, "%w: its id 0x%02x is a BMP280's, which measures no humidity", ErrOther, id[0])
	case id[0] == idBME280:
		return nil, l.wrong(`give kind = "bme280"`, "%w: its id 0x%02x is a BME280's", ErrOther, id[0])
	case id[0] == 0x00 || id[0] == 0xff: // what a wire says at which nothing is
		return nil, l.wrong(l.hint, "%w: its id reads as 0x%02x", ErrSilent, id[0])
	default:
		return nil, l.wrong(l.hint, "%w: its id is 0x%02x, want 0x%02x", ErrOther, id[0], want)
	}
	if err := b.write(regReset, resetWord); err != nil {
		return nil, err
	}
	if err := b.settled(ctx, 2*time.Millisecond, statusLoading); err != nil {
		return nil, err
	}
	return b, b.calibrate()
}

// read reads registers from reg on.
func (b *bosch) read(reg byte, dst []byte) error {
	if b.i2c != nil {
		return b.tx([]byte{reg}, dst)
	}
	// On SPI bit 7 means "read", and bytes come while others go (section 6.3).
	w, r := make([]byte, 1+len(dst)), make([]byte, 1+len(dst))
	w[0] = reg | 0x80
	if err := b.tx(w, r); err != nil {
		return err
	}
	copy(dst, r[1:])
	return nil
}

func (b *bosch) write(reg, value byte) error {
	if b.i2c == nil {
		reg &^= 0x80
	}
	return b.tx([]byte{reg, value}, nil)
}

// settled waits until no bit of the status is set.
func (b *bosch) settled(ctx context.Context, first time.Duration, bits byte) error {
	status := make([]byte, 1)
	for range 20 {
		if err := pause(ctx, first); err != nil {
			return err
		}
		first = 2 * time.Millisecond
		if err := b.read(regStatus, status); err != nil {
			return err
		}
		if status[0]&bits == 0 {
			return nil
		}
	}
	return b.wrong(b.hint, "%w: its status stays 0x%02x", ErrNotDone, status[0])
}

func (b *bosch) calibrate() error {
	var tp [26]byte
	var h [7]byte
	if !b.humid { // it ends at 0xa1
		if err := b.read(regCalibration, tp[:24]); err != nil {
			return err
		}
	} else {
		if err := b.read(regCalibration, tp[:]); err != nil {
			return err
		}
		if err := b.read(regHumidity, h[:]); err != nil {
			return err
		}
	}
	b.cal = parseCalibration(tp, h)
	if b.cal.t1 == 0 || b.cal.p1 == 0 {
		return b.wrong(b.hint, "its calibration is empty")
	}
	return nil
}

// Read implements Chip.
func (b *bosch) Read(ctx context.Context) ([]Reading, error) {
	// The humidity's setting counts from the next write of regCtrlMeas on. All
	// are written each time: a chip that lost its supply forgot them.
	if b.humid {
		if err := b.write(regCtrlHum, humOnce); err != nil {
			return nil, err
		}
	}
	if err := b.write(regConfig, 0); err != nil {
		return nil, err
	}
	if err := b.write(regCtrlMeas, measOnce); err != nil {
		return nil, err
	}
	if err := b.settled(ctx, measureTime, statusBusy); err != nil {
		return nil, err
	}
	raw := make([]byte, 8)
	if !b.humid {
		raw = raw[:6]
	}
	if err := b.read(regData, raw); err != nil {
		return nil, err
	}
	return b.readings(raw)
}

// readings makes numbers of the data registers.
func (b *bosch) readings(raw []byte) (all []Reading, err error) {
	bits20 := func(p []byte) int32 { return int32(p[0])<<12 | int32(p[1])<<4 | int32(p[2])>>4 }
	take := func(quantity, unit string, low, high, value float64) {
		if value < low || value > high {
			err = errors.Join(err, b.wrong("", "%s of %v %s is %w: %v to %v", quantity, round(value), unit, ErrRange, low, high))
			return
		}
		all = append(all, Reading{quantity, round(value), unit})
	}
	pressure, temperature := bits20(raw), bits20(raw[3:])
	if temperature == skipped20 {
		return nil, b.wrong(b.hint, "it measured nothing: did it lose its supply?")
	}
	t, fine := b.cal.temperature(temperature)
	take("temperature", "°C", -40, 85, float64(t)/100)
	if err != nil {
		return nil, err // the others are computed of it
	}
	if b.humid {
		h := int32(binary.BigEndian.Uint16(raw[6:]))
		if h == skipped16 {
			err = errors.Join(err, b.wrong(b.hint, "it measured no humidity"))
		} else {
			take("humidity", "%", 0, 100, float64(b.cal.humidity(h, fine))/1024)
		}
	}
	p, ok := b.cal.pressure(pressure, fine)
	if pressure == skipped20 || !ok {
		return all, errors.Join(err, b.wrong(b.hint, "it measured no pressure"))
	}
	take("pressure", "hPa", 300, 1100, float64(p)/256/100)
	return all, err
}
