package sensors

import (
	"encoding/binary"
	"slices"

	"periph.io/x/conn/v3/i2c"
)

// Found is a chip that answered.
type Found struct {
	Kind    string
	Address int
}

// Ask looks for the chips that this package knows at their usual addresses.
//
// To ask is to write the number of a register and to read it. That changes
// nothing in these chips, but may in others that live at the same addresses
// (a PCA9548 at 0x76 takes the number for the channels to open): ask on a bus
// of which that is known. taken says which addresses are somebody's already.
func Ask(bus i2c.Bus, taken func(address int) bool) (all []Found) {
	read := func(address int, reg byte, dst []byte) bool {
		return bus.Tx(uint16(address), []byte{reg}, dst) == nil
	}
	for _, at := range kinds["bme280"].addresses {
		id := make([]byte, 1)
		if taken(at) || !read(at, regID, id) {
			continue
		}
		if kind := map[byte]string{idBME280: "bme280", idBMP280: "bmp280"}[id[0]]; kind != "" {
			all = append(all, Found{kind, at})
		}
	}
	// Neither of these has an id. Their limits stand in the same registers, and
	// after a reset hold what no other chip has there.
	for _, at := range kinds["lm75"].addresses { // an ADS1115's among them
		low, high := make([]byte, 2), make([]byte, 2)
		if taken(at) || !read(at, adsLow, low) || !read(at, adsHigh, high) {
			continue
		}
		kind := ""
		switch low, high := binary.BigEndian.Uint16(low), binary.BigEndian.Uint16(high); {
		case low == adsLowReset && high == adsHighReset:
			kind = "ads1115"
		case low&lmSure == lmLowReset && high&lmSure == lmHighReset:
			kind = "lm75"
		}
		if slices.Contains(kinds[kind].addresses, at) {
			all = append(all, Found{kind, at})
		}
	}
	return all
}
