package sensors

import (
	"encoding/binary"

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
	for _, at := range kinds["ads1115"].addresses {
		low, high := make([]byte, 2), make([]byte, 2)
		if taken(at) || !read(at, adsLow, low) || !read(at, adsHigh, high) {
			continue
		}
		if binary.BigEndian.Uint16(low) == adsLowReset && binary.BigEndian.Uint16(high) == adsHighReset {
			all = append(all, Found{"ads1115", at})
		}
	}
	return all
}
