package sensors

import (
	"errors"
	"fmt"
	"math"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Config says which chip is where, and what is made of its numbers.
type Config struct {
	Kind        string  // "bme280", "bmp280", "lm75", "ads1115" or "mcp3008"
	Bus         string  // "/dev/i2c-1" or "/dev/spidev0.0"; "/dev/" may be left out
	Address     int     // on I2C; 0: the usual one of the kind
	Channel     string  // of a converter: "2", or "0-1" for the difference of two; "": "0"
	RangeMV     int     // ADS1115: full scale, in millivolts; 0: 4096
	Rate        int     // ADS1115: samples a second; 0: 128
	ReferenceMV int     // MCP3008: voltage at its VREF, in millivolts; 0: 3300
	Scale       float64 // of a converter: value = volts*Scale + Offset; 0: 1
	Offset      float64
	Quantity    string // of a converter: what the value is; "": "voltage"
	Unit        string // of a converter: the value's; "": "V" where the value is the voltage
}

// kind is what is known of a kind of chip.
type kind struct {
	quantities  []string // nil: one, which Config.Quantity names
	addresses   []int    // the first is the usual one; nil: it is on SPI alone
	addressHint string
	spi         bool
}

var kinds = map[string]kind{
	"bme280":  {[]string{"temperature", "humidity", "pressure"}, []int{0x76, 0x77}, boschHint, true},
	"bmp280":  {[]string{"temperature", "pressure"}, []int{0x76, 0x77}, boschHint, true},
	"lm75":    {[]string{"temperature"}, []int{0x48, 0x49, 0x4a, 0x4b, 0x4c, 0x4d, 0x4e, 0x4f}, "0x48 to 0x4f, as its A0 to A2 are wired", false},
	"ads1115": {nil, []int{0x48, 0x49, 0x4a, 0x4b}, "0x48, 0x49, 0x4a or 0x4b where its ADDR is at GND, VDD, SDA or SCL", false},
	"mcp3008": {nil, nil, "", true},
}

const boschHint = "0x76, or 0x77 where its SDO is high"

// Quantities names what the chip gives, in the order of its readings.
func (c Config) Quantities() []string {
	if q := kinds[c.Kind].quantities; q != nil {
		return q
	}
	if c.Quantity != "" {
		return []string{c.Quantity}
	}
	return []string{"voltage"}
}

func (c Config) address() int {
	if a := kinds[c.Kind].addresses; c.Address == 0 && len(a) > 0 {
		return a[0]
	}
	return c.Address
}

// Place says where the chip is. Two configurations with one place are of the
// same chip, which answers one of them at a time: who has it read from several
// goroutines must keep them apart over Open and each Read.
func (c Config) Place() string {
	path, spi, _ := ParseBus(c.Bus)
	if spi {
		return path
	}
	return fmt.Sprintf("%s 0x%02x", path, c.address())
}

// quantity is what can stand in a metric as it is.
var quantity = regexp.MustCompile(`^[A-Za-z][A-Za-z0-9_-]{0,23}$`)

// Check returns the first field that breaks a rule, by its name in a
// configuration file.
func (c Config) Check() (field string, err error) {
	k, ok := kinds[c.Kind]
	converter, ads, mcp := k.quantities == nil, c.Kind == "ads1115", c.Kind == "mcp3008"
	_, spi, busErr := ParseBus(c.Bus)
	_, muxErr := c.channel()
	for _, r := range []struct {
		field string
		wrong bool
		want  string
	}{
		{"kind", !ok, "bme280, bmp280, lm75, ads1115 or mcp3008"},
		{"bus", busErr != nil, "/dev/i2c-1, /dev/spidev0.0 or the like"},
		{"bus", spi && !k.spi, "an I2C bus: an " + c.Kind + " is not made for SPI"},
		{"bus", !spi && k.addresses == nil, "an SPI bus, as /dev/spidev0.0: an " + c.Kind + " is not made for I2C"},
		{"address", spi && c.Address != 0, "none: SPI has no addresses"},
		{"address", !spi && !slices.Contains(k.addresses, c.address()), k.addressHint},
		{"channel", !converter && c.Channel != "", "none for this kind"},
		{"channel", ads && muxErr != nil, "0 to 3, or one of 0-1, 0-3, 1-3, 2-3"},
		{"channel", mcp && muxErr != nil, "0 to 7, or a pair: 0-1 or 1-0, 2-3 or 3-2, 4-5 or 5-4, 6-7 or 7-6"},
		{"range_mv", !ads && c.RangeMV != 0, "none for this kind"},
		{"range_mv", ads && c.RangeMV != 0 && !slices.Contains(adsRanges, c.RangeMV), "6144, 4096, 2048, 1024, 512 or 256"},
		{"rate", !ads && c.Rate != 0, "none for this kind"},
		{"rate", ads && c.Rate != 0 && !slices.Contains(adsRates, c.Rate), "8, 16, 32, 64, 128, 250, 475 or 860"},
		{"reference_mv", !mcp && c.ReferenceMV != 0, "none for this kind"},
		{"reference_mv", mcp && c.ReferenceMV != 0 && (c.ReferenceMV < 250 || c.ReferenceMV > 5500), "250 to 5500"},
		{"scale", !converter && c.Scale != 0, "none for this kind"},
		{"scale", !(math.Abs(c.Scale) <= 1e9), "a number of at most 1e9"}, // so written for NaN
		{"offset", !converter && c.Offset != 0, "none for this kind"},
		{"offset", !(math.Abs(c.Offset) <= 1e9), "a number of at most 1e9"},
		{"quantity", !converter && c.Quantity != "", "none for this kind"},
		{"quantity", c.Quantity != "" && !quantity.MatchString(c.Quantity), "1 to 24 letters, digits, dashes and underscores"},
		{"unit", !converter && c.Unit != "", "none for this kind"},
		{"unit", !isUnit(c.Unit), "at most 12 bytes, and no quotes"},
	} {
		if r.wrong {
			return r.field, errors.New("want " + r.want)
		}
	}
	return "", nil
}

func isUnit(s string) bool {
	return len(s) <= 12 && utf8.ValidString(s) && !strings.ContainsFunc(s, func(r rune) bool {
		return !unicode.IsPrint(r) || r == '"' || r == '\\' || r == '\''
	})
}

// ParseBus takes the name of a bus apart: the file of an I2C bus, or of a
// chip select of an SPI bus.
func ParseBus(name string) (path string, spi bool, err error) {
	path = "/dev/" + strings.TrimPrefix(name, "/dev/")
	small := func(s string) bool {
		n, err := strconv.Atoi(s)
		return err == nil && n >= 0 && n < 1000 && s == strconv.Itoa(n)
	}
	if n, ok := strings.CutPrefix(path, "/dev/i2c-"); ok && small(n) {
		return path, false, nil
	}
	if n, ok := strings.CutPrefix(path, "/dev/spidev"); ok {
		if bus, selected, ok := strings.Cut(n, "."); ok && small(bus) && small(selected) {
			return path, true, nil
		}
	}
	return "", false, fmt.Errorf("bus %.40q: want /dev/i2c-1, /dev/spidev0.0 or the like", name)
}

// channel returns the bits by which a converter selects its input.
func (c Config) channel() (int, error) {
	name := c.Channel
	if name == "" {
		name = "0"
	}
	all := adsChannels
	if c.Kind == "mcp3008" {
		all = mcpChannels
	}
	bits, ok := all[name]
	if !ok {
		return 0, fmt.Errorf("there is no channel %.20q", name)
	}
	return bits, nil
}

// converted returns the one reading of a converter.
func (c Config) converted(volts float64) []Reading {
	scale, unit := c.Scale, c.Unit
	if scale == 0 {
		scale = 1
	}
	if unit == "" && scale == 1 && c.Offset == 0 && (c.Quantity == "" || c.Quantity == "voltage") {
		unit = "V"
	}
	// The conversion keeps the product from being fused with the sum.
	return []Reading{{c.Quantities()[0], round(float64(volts*scale) + c.Offset), unit}}
}
