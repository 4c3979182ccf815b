package sensors

import "encoding/binary"

// calibration is what the maker wrote into a BME280 or BMP280 (Bosch
// BST-BME280-DS002, table 16).
type calibration struct {
	t1                             uint16
	t2, t3                         int16
	p1                             uint16
	p2, p3, p4, p5, p6, p7, p8, p9 int16
	h1, h3                         uint8
	h2, h4, h5                     int16
	h6                             int8
}

// parseCalibration takes the registers from 0x88 and from 0xe1 on apart.
func parseCalibration(tp [26]byte, h [7]byte) calibration {
	u := func(i int) uint16 { return binary.LittleEndian.Uint16(tp[2*i:]) }
	s := func(i int) int16 { return int16(u(i)) }
	return calibration{
		t1: u(0), t2: s(1), t3: s(2),
		p1: u(3), p2: s(4), p3: s(5), p4: s(6), p5: s(7), p6: s(8), p7: s(9), p8: s(10), p9: s(11),
		h1: tp[25], h2: int16(binary.LittleEndian.Uint16(h[:])), h3: h[2],
		// Two of 12 bits share the byte between them.
		h4: int16(int8(h[3]))<<4 | int16(h[4]&0x0f), h5: int16(int8(h[5]))<<4 | int16(h[4]>>4),
		h6: int8(h[6]),
	}
}

// The formulas are those of BST-BME280-DS002, section 4.2.3, in integers of
// 64 bits throughout: the same numbers where the datasheet's 32 bits are
// enough, and no overflow where a calibration is none.

// temperature returns hundredths of a degree Celsius, and the fine temperature
// of which the others are computed.
func (c *calibration) temperature(adc int32) (hundredths, fine int64) {
	a, t1 := int64(adc), int64(c.t1)
	v1 := (a>>3 - t1<<1) * int64(c.t2) >> 11
	d := a>>4 - t1
	v2 := (d * d >> 12) * int64(c.t3) >> 14
	fine = v1 + v2
	return (fine*5 + 128) >> 8, fine
}

// pressure returns 256ths of a pascal; false: the calibration gives none.
func (c *calibration) pressure(adc int32, fine int64) (int64, bool) {
	v1 := fine - 128000
	v2 := v1 * v1 * int64(c.p6)
	v2 += v1 * int64(c.p5) << 17
	v2 += int64(c.p4) << 35
	v1 = v1*v1*int64(c.p3)>>8 + v1*int64(c.p2)<<12
	v1 = (1<<47 + v1) * int64(c.p1) >> 33
	if v1 == 0 {
		return 0, false
	}
	p := int64(1048576 - adc)
	p = (p<<31 - v2) * 3125 / v1
	v1 = int64(c.p9) * (p >> 13) * (p >> 13) >> 25
	v2 = int64(c.p8) * p >> 19
	return (p+v1+v2)>>8 + int64(c.p7)<<4, true
}

// humidity returns 1024ths of a per cent of relative humidity, from 0 to 100 %.
func (c *calibration) humidity(adc int32, fine int64) int64 {
	v := fine - 76800
	wet := (int64(adc)<<14 - int64(c.h4)<<20 - int64(c.h5)*v + 16384) >> 15
	warm := ((v*int64(c.h6)>>10)*(v*int64(c.h3)>>11+32768)>>10 + 2097152) * int64(c.h2)
	v = wet * ((warm + 8192) >> 14)
	v -= ((v >> 15) * (v >> 15) >> 7) * int64(c.h1) >> 4
	return min(max(v, 0), 419430400) >> 12
}
