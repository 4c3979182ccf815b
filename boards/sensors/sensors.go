// Package sensors reads chips on an I2C or SPI bus: BME280 and BMP280 (air),
// LM75 (temperature), ADS1115 and MCP3008 (voltages). Start with Config, Open and Chip.
//
// Its promise: a number that it returns was measured, and has its unit; what
// failed, or lies beyond what the chip can measure, is an error and no number.
//
// It opens no device: buses are handed in, as periph.io's interfaces, so that
// its playbacks and other hosts' buses serve as well. When to read, and what
// to do with it, is the agent's.
package sensors

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"strconv"
	"time"

	"periph.io/x/conn/v3"
	"periph.io/x/conn/v3/i2c"
)

// Reading is one number of a chip.
type Reading struct {
	Quantity string // "temperature"
	Value    float64
	Unit     string // "°C"
}

// Chip is a chip that answers.
type Chip interface {
	// Read measures once, which takes up to 400 ms. It returns what was
	// measured, and an error about what was not: there may be both.
	Read(ctx context.Context) ([]Reading, error)
	// Close lets its bus go.
	Close() error
}

// Bus is an I2C bus, as it was opened.
type Bus = i2c.BusCloser

// Wire is an SPI chip select, as it was opened: mode 0, words of 8 bits.
type Wire interface {
	conn.Conn
	io.Closer
}

// Buses is where chips are found. The board's are boards/pins'.
type Buses interface {
	I2C(path string) (Bus, error)
	SPI(path string, hertz int) (Wire, error)
}

// What went wrong with a chip, as far as that can be told. An *Error wraps one
// of them, or what the bus said.
var (
	ErrSilent  = errors.New("nothing answers")
	ErrOther   = errors.New("another chip answers")
	ErrRange   = errors.New("beyond what the chip measures")
	ErrNotDone = errors.New("the measurement does not end")
)

// Error says which chip cannot be read, and why.
type Error struct {
	Chip string // "bme280 at 0x76"
	Err  error
	Hint string // one sentence for a person, or ""
}

func (e *Error) Error() string { return e.Chip + ": " + e.Err.Error() }
func (e *Error) Unwrap() error { return e.Err }

// spiHertz is slow enough for every chip here at 2.7 V, and for wires of a
// hand's length: the MCP3008 takes at most 1.35 MHz then.
const spiHertz = 1_000_000

// Open finds the chip of c on its bus and makes sure that it is the one. The
// configuration must have passed Check.
func Open(ctx context.Context, c Config, buses Buses) (Chip, error) {
	open := map[string]func(context.Context, Config, link) (Chip, error){
		"bme280": openBosch, "bmp280": openBosch, "lm75": openLM75, "ads1115": openADS1115, "mcp3008": openMCP3008,
	}[c.Kind]
	path, isSPI, err := ParseBus(c.Bus)
	if err == nil && open == nil {
		err = fmt.Errorf("there is no kind %q", c.Kind)
	}
	if err != nil {
		return nil, err
	}
	l := link{chip: c.Kind}
	if isSPI {
		wire, err := buses.SPI(path, spiHertz)
		if err != nil {
			return nil, err
		}
		l.spi, l.Closer = wire, wire
		l.hint = "check its wiring and supply, and that it is at the chip select of " + path
	} else {
		bus, err := buses.I2C(path)
		if err != nil {
			return nil, err
		}
		l.i2c, l.Closer, l.address = bus, bus, uint16(c.address())
		l.chip = fmt.Sprintf("%s at 0x%02x", c.Kind, l.address)
		l.hint = fmt.Sprintf("check its wiring, supply and address: %s; dunlin-agent sources shows what answers", kinds[c.Kind].addressHint)
	}
	chip, err := open(ctx, c, l)
	if err != nil {
		return nil, errors.Join(err, l.Close())
	}
	return chip, nil
}

// link is a chip's end of a bus.
type link struct {
	io.Closer
	chip    string // for errors
	hint    string // where nothing answers
	address uint16
	i2c     i2c.Bus // nil: it is on SPI
	spi     conn.Conn
}

// wrong returns an error of this chip.
func (l link) wrong(hint, format string, args ...any) error {
	return &Error{Chip: l.chip, Err: fmt.Errorf(format, args...), Hint: hint}
}

// tx sends w, and reads r after it on I2C, at the same time on SPI.
func (l link) tx(w, r []byte) (err error) {
	if l.i2c != nil {
		err = l.i2c.Tx(l.address, w, r)
	} else {
		err = l.spi.Tx(w, r)
	}
	if err != nil {
		return l.wrong(l.hint, "%w: %w", ErrSilent, err)
	}
	return nil
}

// pause waits for the chip.
func pause(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// round returns x with six significant digits: no chip here measures more,
// and every one costs a byte in each result.
func round(x float64) float64 {
	y, err := strconv.ParseFloat(strconv.FormatFloat(x, 'g', 6, 64), 64)
	if err != nil {
		return math.NaN() // only what is no number is no text of one
	}
	return y
}
