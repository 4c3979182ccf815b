package sensors

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"periph.io/x/conn/v3"
	"periph.io/x/conn/v3/conntest"
	"periph.io/x/conn/v3/i2c"
	"periph.io/x/conn/v3/i2c/i2ctest"
	"periph.io/x/conn/v3/physic"
)

// tape is both buses of periph.io's playbacks.
type tape struct {
	i2c  []i2ctest.IO
	spi  []conntest.IO
	fail error // of a bus
}

func (p tape) I2C(path string) (i2c.BusCloser, error) {
	return &i2ctest.Playback{Ops: p.i2c, DontPanic: true}, p.fail
}

func (p tape) SPI(path string, hertz int) (Wire, error) {
	return &conntest.Playback{Ops: p.spi, DontPanic: true, D: conn.Full}, p.fail
}

// once opens a chip, reads it and closes it; a playback complains there of
// what was not played.
func once(t *testing.T, c Config, p tape) (got string, takes time.Duration, err error) {
	t.Helper()
	if field, err := c.Check(); err != nil {
		t.Fatalf("%s: %v", field, err)
	}
	synctest.Test(t, func(t *testing.T) {
		chip, e := Open(t.Context(), c, p)
		if e != nil {
			err = e
			return
		}
		start := time.Now()
		all, e := chip.Read(t.Context())
		takes = time.Since(start)
		err = errors.Join(e, chip.Close())
		for _, r := range all {
			got += fmt.Sprintf("%s %v %s; ", r.Quantity, r.Value, r.Unit)
		}
	})
	return got, takes, err
}

// The worked example on the wire: msb, lsb, and four bits in xlsb.
var (
	workedData   = []byte{0x65, 0x5a, 0xc0, 0x7e, 0xed, 0x00, 0x6d, 0x60}
	workedTP, wH = worked.registers()
)

func bmeOps(addr uint16, id byte) []i2ctest.IO {
	return []i2ctest.IO{
		{Addr: addr, W: []byte{0xd0}, R: []byte{id}},
		{Addr: addr, W: []byte{0xe0, 0xb6}},
		{Addr: addr, W: []byte{0xf3}, R: []byte{0x01}}, // it loads its calibration
		{Addr: addr, W: []byte{0xf3}, R: []byte{0x00}},
		{Addr: addr, W: []byte{0x88}, R: workedTP[:]},
		{Addr: addr, W: []byte{0xe1}, R: wH[:]},
		{Addr: addr, W: []byte{0xf2, 0x01}},
		{Addr: addr, W: []byte{0xf5, 0x00}},
		{Addr: addr, W: []byte{0xf4, 0x25}},
		{Addr: addr, W: []byte{0xf3}, R: []byte{0x08}}, // it measures
		{Addr: addr, W: []byte{0xf3}, R: []byte{0x00}},
		{Addr: addr, W: []byte{0xf7}, R: workedData},
	}
}

const workedAir = "temperature 25.08 °C; humidity 44.0967 %; pressure 1006.53 hPa; "

func TestBME280(t *testing.T) {
	got, takes, err := once(t, Config{Kind: "bme280", Bus: "/dev/i2c-1", Address: 0x77}, tape{i2c: bmeOps(0x77, 0x60)})
	if err != nil || got != workedAir || takes != 12*time.Millisecond {
		t.Errorf("%s (%v, in %v), want %s", got, err, takes, workedAir)
	}
	read := func(reg byte, r ...byte) conntest.IO {
		return conntest.IO{W: append([]byte{reg}, make([]byte, len(r))...), R: append([]byte{0xff}, r...)}
	}
	got, _, err = once(t, Config{Kind: "bme280", Bus: "spidev0.1"}, tape{spi: []conntest.IO{
		read(0xd0, 0x60),
		{W: []byte{0x60, 0xb6}},
		read(0xf3, 0), read(0x88, workedTP[:]...), read(0xe1, wH[:]...),
		{W: []byte{0x72, 0x01}},
		{W: []byte{0x75, 0x00}},
		{W: []byte{0x74, 0x25}},
		read(0xf3, 0), read(0xf7, workedData...),
	}})
	if err != nil || got != workedAir {
		t.Errorf("on SPI: %s (%v), want %s", got, err, workedAir)
	}
	const at = 0x76
	got, _, err = once(t, Config{Kind: "bmp280", Bus: "i2c-1"}, tape{i2c: []i2ctest.IO{
		{Addr: at, W: []byte{0xd0}, R: []byte{0x58}},
		{Addr: at, W: []byte{0xe0, 0xb6}},
		{Addr: at, W: []byte{0xf3}, R: []byte{0}},
		{Addr: at, W: []byte{0x88}, R: workedTP[:24]},
		{Addr: at, W: []byte{0xf5, 0x00}},
		{Addr: at, W: []byte{0xf4, 0x25}},
		{Addr: at, W: []byte{0xf3}, R: []byte{0}},
		{Addr: at, W: []byte{0xf7}, R: workedData[:6]},
	}})
	if want := "temperature 25.08 °C; pressure 1006.53 hPa; "; err != nil || got != want {
		t.Errorf("BMP280: %s (%v), want %s", got, err, want)
	}
}

// What is not measured is absent, and the error says why.
func TestBME280Fails(t *testing.T) {
	bme := Config{Kind: "bme280", Bus: "/dev/i2c-1"}
	with := func(i int, r ...byte) tape {
		ops := bmeOps(0x76, 0x60)
		ops[i].R = r
		return tape{i2c: ops}
	}
	never := bmeOps(0x76, 0x60)[:9]
	for range 20 {
		never = append(never, i2ctest.IO{Addr: 0x76, W: []byte{0xf3}, R: []byte{0x08}})
	}
	for name, c := range map[string]struct {
		p         tape
		is        error
		got, text string
	}{
		"no bus":         {tape{fail: syscall.ENOENT}, syscall.ENOENT, "", ""},
		"nothing":        {tape{}, ErrSilent, "", "0x77 where its SDO is high"},
		"a BMP280":       {tape{i2c: bmeOps(0x76, 0x58)[:1]}, ErrOther, "", `kind = "bmp280"`},
		"another":        {tape{i2c: bmeOps(0x76, 0x61)[:1]}, ErrOther, "", "its id is 0x61, want 0x60"},
		"floating":       {tape{i2c: bmeOps(0x76, 0xff)[:1]}, ErrSilent, "", "0xff"},
		"no calibration": {tape{i2c: func() []i2ctest.IO { o := with(4, make([]byte, 26)...).i2c; return o[:6] }()}, nil, "", "its calibration is empty"},
		"busy for ever":  {tape{i2c: never}, ErrNotDone, "", "stays 0x08"},
		"not measured":   {with(11, 0x80, 0, 0, 0x80, 0, 0, 0x80, 0), nil, "", "it measured nothing"},
		"no humidity":    {with(11, append(append([]byte{}, workedData[:6]...), 0x80, 0)...), nil, "temperature 25.08 °C; pressure 1006.53 hPa; ", "no humidity"},
		"no pressure":    {with(11, append([]byte{0x80, 0, 0}, workedData[3:]...)...), nil, "temperature 25.08 °C; humidity 44.0967 %; ", "no pressure"},
		"too hot":        {with(11, 0x65, 0x5a, 0xc0, 0xff, 0xff, 0xf0, 0x6d, 0x60), ErrRange, "", "-40 to 85"},
		"too deep":       {with(11, 0x00, 0x00, 0x00, 0x7e, 0xed, 0x00, 0x6d, 0x60), ErrRange, "temperature 25.08 °C; humidity 44.0967 %; ", "300 to 1100"},
	} {
		got, _, err := once(t, bme, c.p)
		if err == nil || c.is != nil && !errors.Is(err, c.is) || got != c.got {
			t.Errorf("%s: %q, %v; want %q", name, got, err, c.got)
			continue
		}
		if e, ok := errors.AsType[*Error](err); c.text != "" && (!ok || !strings.Contains(e.Error()+e.Hint, c.text)) {
			t.Errorf("%s: %v; want %q in it", name, err, c.text)
		}
	}
}

func TestADS1115(t *testing.T) {
	const at = 0x49
	for _, c := range []struct {
		config Config
		high   byte // of the configuration, without the start
		low    byte
		value  []byte
		want   string
		takes  time.Duration
	}{
		{Config{}, 0x43, 0x83, []byte{0x40, 0x00}, "voltage 2.048 V; ", 9593750 * time.Nanosecond},
		{Config{Channel: "3", RangeMV: 256, Rate: 860}, 0x7b, 0xe3, []byte{0xff, 0xff}, "voltage -7.8125e-06 V; ", 2279069 * time.Nanosecond},
		{Config{Channel: "0-1", RangeMV: 6144, Rate: 8}, 0x01, 0x03, []byte{0x80, 0x01}, "voltage -6.14381 V; ", 138500 * time.Microsecond},
		{Config{Scale: 50, Offset: -10, Quantity: "level", Unit: "cm"}, 0x43, 0x83, []byte{0x20, 0x00}, "level 41.2 cm; ", 9593750 * time.Nanosecond},
	} {
		c.config.Kind, c.config.Bus, c.config.Address = "ads1115", "i2c-1", at
		got, takes, err := once(t, c.config, tape{i2c: []i2ctest.IO{
			{Addr: at, W: []byte{1}, R: []byte{0x85, 0x83}}, // as after a reset
			{Addr: at, W: []byte{1, c.high | 0x80, c.low}},
			{Addr: at, W: []byte{1}, R: []byte{c.high | 0x80, c.low}},
			{Addr: at, W: []byte{0}, R: c.value},
		}})
		if err != nil || got != c.want || takes != c.takes {
			t.Errorf("%+v: %s (%v, in %v), want %s in %v", c.config, got, err, takes, c.want, c.takes)
		}
	}
	fails := func(is error, text string, after ...i2ctest.IO) {
		t.Helper()
		ops := append([]i2ctest.IO{{Addr: at, W: []byte{1}, R: []byte{0x85, 0x83}}, {Addr: at, W: []byte{1, 0xc3, 0x83}}}, after...)
		got, _, err := once(t, Config{Kind: "ads1115", Bus: "i2c-1", Address: at}, tape{i2c: ops})
		if got != "" || !errors.Is(err, is) || !strings.Contains(err.Error(), text) {
			t.Errorf("%s, %v; want %v", got, err, is)
		}
	}
	status := func(high byte) i2ctest.IO { return i2ctest.IO{Addr: at, W: []byte{1}, R: []byte{high, 0x83}} }
	fails(ErrRange, "channel 0 is beyond", status(0xc3), i2ctest.IO{Addr: at, W: []byte{0}, R: []byte{0x7f, 0xff}})
	fails(ErrOther, "0x4383 was written", status(0xff))
	var busy []i2ctest.IO
	for range 21 {
		busy = append(busy, status(0x43))
	}
	fails(ErrNotDone, "stays 0x4383", busy...)
}

func TestMCP3008(t *testing.T) {
	for _, c := range []struct {
		config Config
		second byte
		r      []byte
		want   string
	}{
		{Config{}, 0x80, []byte{0xff, 0xfa, 0x00}, "voltage 1.65 V; "}, // what comes before the null bit is anything
		{Config{Channel: "7", ReferenceMV: 5000}, 0xf0, []byte{0, 0x03, 0xff}, "voltage 4.99512 V; "},
		{Config{Channel: "3-2"}, 0x30, []byte{0, 0x00, 0x01}, "voltage 0.00322266 V; "},
		{Config{Scale: -100, Offset: 330, Quantity: "dry", Unit: "%"}, 0x80, []byte{0, 0x00, 0x00}, "dry 330 %; "},
	} {
		c.config.Kind, c.config.Bus = "mcp3008", "/dev/spidev0.0"
		op := conntest.IO{W: []byte{1, c.second, 0}, R: c.r}
		got, _, err := once(t, c.config, tape{spi: []conntest.IO{op, op}})
		if err != nil || got != c.want {
			t.Errorf("%+v: %s (%v), want %s", c.config, got, err, c.want)
		}
	}
	floating := conntest.IO{W: []byte{1, 0x80, 0}, R: []byte{0xff, 0xff, 0xff}}
	if got, _, err := once(t, Config{Kind: "mcp3008", Bus: "spidev0.0"}, tape{spi: []conntest.IO{floating}}); !errors.Is(err, ErrSilent) || got != "" {
		t.Errorf("nothing at the chip select: %s, %v", got, err)
	}
}

// The table of TI SBOS288, and what is no temperature. A 0 is asked for twice:
// before its first measurement the register holds one.
func TestLM75(t *testing.T) {
	const silent = 0xffff
	read := func(words ...uint16) (ops []i2ctest.IO) {
		register := byte(lmTemperature)
		for _, v := range words {
			ops = append(ops, i2ctest.IO{Addr: 0x4f, W: []byte{register}, R: []byte{byte(v >> 8), byte(v)}})
			if register == lmTemperature && v == silent { // then the limit is asked for
				register = lmHigh
			} else {
				register = lmTemperature
			}
		}
		return ops
	}
	for _, c := range []struct {
		words []uint16 // the first to be opened
		want  string
		is    error
		takes time.Duration
	}{
		{[]uint16{0x7ff0, 0x7d00}, "", ErrRange, 0},
		{[]uint16{0x7d00, 0x7d00}, "temperature 125 °C; ", nil, 0},
		{[]uint16{0x1900, 0x1900}, "temperature 25 °C; ", nil, 0},
		{[]uint16{0x1900, 0x0040}, "temperature 0.25 °C; ", nil, 0},
		{[]uint16{0x1900, 0x001f}, "temperature 0.0625 °C; ", nil, 0},
		{[]uint16{0x1900, 0xffc0}, "temperature -0.25 °C; ", nil, 0},
		{[]uint16{0x1900, 0xe700}, "temperature -25 °C; ", nil, 0},
		{[]uint16{0x1900, 0xc900}, "temperature -55 °C; ", nil, 0},
		{[]uint16{0x1900, 0xc8f0}, "", ErrRange, 0},
		{[]uint16{0x1900, 0x0000, 0x0000}, "temperature 0 °C; ", nil, 350 * time.Millisecond},
		{[]uint16{0x1900, 0x0008, 0x1880}, "temperature 24.5 °C; ", nil, 350 * time.Millisecond},
		{[]uint16{0x0000, 0x1880, 0x1880}, "temperature 24.5 °C; ", nil, 0},
		{[]uint16{silent, silent}, "", ErrSilent, 0},
		{nil, "", ErrSilent, 0},
		{[]uint16{0x1900, silent, silent}, "", ErrSilent, 0},
		{[]uint16{silent, 0x507f, silent, 0x507f}, "temperature -0.0625 °C; ", nil, 0}, // an LM75 at -0.5 °C
		{[]uint16{0x1900, silent}, "", ErrSilent, 0},                                   // it is gone before its limit was read
	} {
		got, takes, err := once(t, Config{Kind: "lm75", Bus: "i2c-1", Address: 0x4f}, tape{i2c: read(c.words...)})
		if got != c.want || takes != c.takes || !errors.Is(err, c.is) {
			t.Errorf("%04x: %s (%v, in %v), want %s", c.words, got, err, takes, c.want)
		}
	}
}

// shelf is a bus with some registers at some addresses.
type shelf map[uint16]map[byte][]byte

func (s shelf) String() string                  { return "shelf" }
func (s shelf) SetSpeed(physic.Frequency) error { return nil }
func (s shelf) Tx(addr uint16, w, r []byte) error {
	if len(w) != 1 || s[addr][w[0]] == nil {
		return syscall.EREMOTEIO
	}
	copy(r, s[addr][w[0]])
	return nil
}

func TestAsk(t *testing.T) {
	ads := map[byte][]byte{2: {0x80, 0x00}, 3: {0x7f, 0xff}}
	lm := map[byte][]byte{2: {0x4b, 0x00}, 3: {0x50, 0x00}}
	old := map[byte][]byte{2: {0x4b, 0x7f}, 3: {0x50, 0x15}} // an LM75, with what it leaves undefined
	bus := shelf{
		0x76: {0xd0: {0x58}}, 0x77: {0xd0: {0x60}},
		0x48: ads, 0x49: lm, 0x4a: ads, 0x4b: {2: {0, 0}, 3: {0, 0}}, 0x4f: lm, 0x4c: old, 0x4e: ads, // no ADS1115 is at the last
	}
	if got := fmt.Sprint(Ask(bus, func(a int) bool { return a == 0x4a })); got != "[{bmp280 118} {bme280 119} {ads1115 72} {lm75 73} {lm75 76} {lm75 79}]" {
		t.Error(got)
	}
	if got := Ask(shelf{}, func(int) bool { return false }); got != nil {
		t.Error("on an empty bus:", got)
	}
}

func TestCheck(t *testing.T) {
	for _, c := range []struct {
		c     Config
		field string
	}{
		{Config{Kind: "bme280", Bus: "/dev/i2c-1"}, ""},
		{Config{Kind: "bme280", Bus: "/dev/spidev0.0"}, ""},
		{Config{Kind: "lm75", Bus: "i2c-1", Address: 0x4f}, ""},
		{Config{Kind: "lm75", Bus: "i2c-1", Address: 0x47}, "address"},
		{Config{Kind: "lm75", Bus: "spidev0.0"}, "bus"},
		{Config{Kind: "lm75", Bus: "i2c-1", Scale: 2}, "scale"},
		{Config{Kind: "dht22", Bus: "/dev/i2c-1"}, "kind"},
		{Config{Kind: "bme280", Bus: "/dev/i2c-01"}, "bus"},
		{Config{Kind: "bme280", Bus: "/dev/../i2c-1"}, "bus"},
		{Config{Kind: "bme280", Bus: ""}, "bus"},
		{Config{Kind: "ads1115", Bus: "spidev0.0"}, "bus"},
		{Config{Kind: "mcp3008", Bus: "i2c-1"}, "bus"},
		{Config{Kind: "bme280", Bus: "i2c-1", Address: 0x48}, "address"},
		{Config{Kind: "bme280", Bus: "spidev0.0", Address: 0x76}, "address"},
		{Config{Kind: "bme280", Bus: "i2c-1", Channel: "1"}, "channel"},
		{Config{Kind: "ads1115", Bus: "i2c-1", Channel: "1-0"}, "channel"},
		{Config{Kind: "ads1115", Bus: "i2c-1", Channel: "4"}, "channel"},
		{Config{Kind: "mcp3008", Bus: "spidev0.0", Channel: "8"}, "channel"},
		{Config{Kind: "ads1115", Bus: "i2c-1", RangeMV: 3300}, "range_mv"},
		{Config{Kind: "ads1115", Bus: "i2c-1", Rate: 100}, "rate"},
		{Config{Kind: "ads1115", Bus: "i2c-1", ReferenceMV: 3300}, "reference_mv"},
		{Config{Kind: "mcp3008", Bus: "spidev0.0", ReferenceMV: 33}, "reference_mv"},
		{Config{Kind: "bme280", Bus: "i2c-1", Scale: 2}, "scale"},
		{Config{Kind: "bme280", Bus: "i2c-1", Offset: 2}, "offset"},
		{Config{Kind: "bme280", Bus: "i2c-1", Quantity: "heat"}, "quantity"},
		{Config{Kind: "ads1115", Bus: "i2c-1", Quantity: "a.b"}, "quantity"},
		{Config{Kind: "ads1115", Bus: "i2c-1", Unit: "a\"b"}, "unit"},
	} {
		if field, err := c.c.Check(); field != c.field || (err == nil) != (field == "") {
			t.Errorf("%+v: %s: %v, want %q", c.c, field, err, c.field)
		}
	}
}

// A chip that does not come to its end does not hold up a stop.
func TestReadStops(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		chip, err := Open(t.Context(), Config{Kind: "ads1115", Bus: "i2c-1", Rate: 8}, tape{i2c: []i2ctest.IO{
			{Addr: 0x48, W: []byte{1}, R: []byte{0, 0}}, {Addr: 0x48, W: []byte{1, 0xc3, 0x03}},
		}})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
		defer cancel()
		if all, err := chip.Read(ctx); !errors.Is(err, context.DeadlineExceeded) || all != nil {
			t.Errorf("%v, %v", all, err)
		}
	})
}
