package sensors

import (
	"encoding/binary"
	"math"
	"math/rand/v2"
	"testing"
)

// worked is the calibration of the worked example in Bosch's datasheet of the
// BMP280 (BST-BMP280-DS001, section 3.12), whose formulas are the BME280's.
// That has none for the humidity: h1 to h6 are a real chip's.
var worked = calibration{
	t1: 27504, t2: 26435, t3: -1000,
	p1: 36477, p2: -10685, p3: 3024, p4: 2855, p5: 140, p6: -7, p7: 15500, p8: -14600, p9: 6000,
	h1: 75, h2: 364, h3: 0, h4: 313, h5: 50, h6: 30,
}

const (
	workedT = 519888 // 25.08 °C
	workedP = 415148 // 100653.27 Pa
)

// registers returns what a chip with this calibration holds at 0x88 and 0xe1.
func (c calibration) registers() (tp [26]byte, h [7]byte) {
	words := []uint16{
		c.t1, uint16(c.t2), uint16(c.t3), c.p1, uint16(c.p2), uint16(c.p3), uint16(c.p4), uint16(c.p5), uint16(c.p6),
		uint16(c.p7), uint16(c.p8), uint16(c.p9),
	}
	for i, w := range words {
		binary.LittleEndian.PutUint16(tp[2*i:], w)
	}
	tp[25] = c.h1
	binary.LittleEndian.PutUint16(h[:], uint16(c.h2))
	h[2], h[3], h[4], h[5], h[6] = c.h3, byte(c.h4>>4), byte(c.h4&15)|byte(c.h5&15)<<4, byte(c.h5>>4), byte(c.h6)
	return tp, h
}

func TestWorkedExample(t *testing.T) {
	if got := parseCalibration(worked.registers()); got != worked {
		t.Errorf("calibration %+v\nwant %+v", got, worked)
	}
	negative := calibration{h4: -300, h5: -5, h6: -1, t2: -1}
	if got := parseCalibration(negative.registers()); got != negative {
		t.Errorf("calibration %+v\nwant %+v", got, negative)
	}
	hundredths, fine := worked.temperature(workedT)
	if hundredths != 2508 || fine != 128422 {
		t.Errorf("%d hundredths of a degree, fine %d; want 2508 and 128422", hundredths, fine)
	}
	// The datasheet has 100653.27 Pa, computed in floating point.
	if p, ok := worked.pressure(workedP, fine); !ok || math.Abs(float64(p)/256-100653.27) > 0.02 {
		t.Errorf("%v Pa (%v), want 100653.27", float64(p)/256, ok)
	}
	if _, p, _ := worked.exact(workedT, workedP, 0); math.Abs(p-100653.27) > 0.02 {
		t.Errorf("%v Pa in floating point, want 100653.27: the test's own formula is wrong", p)
	}
}

// exact is the datasheet's other form of the formulas, in floating point
// (BST-BME280-DS002, section 8.1).
func (c calibration) exact(adcT, adcP, adcH int32) (celsius, pascal, percent float64) {
	f := func(n int16) float64 { return float64(n) }
	a, t1 := float64(adcT), float64(c.t1)
	d := a/131072 - t1/8192
	fine := math.Trunc((a/16384-t1/1024)*f(c.t2) + d*d*f(c.t3))
	v1 := fine/2 - 64000
	v2 := v1*v1*f(c.p6)/32768 + v1*f(c.p5)*2
	v2 = v2/4 + f(c.p4)*65536
	v1 = (f(c.p3)*v1*v1/524288 + f(c.p2)*v1) / 524288
	v1 = (1 + v1/32768) * float64(c.p1)
	p := (1048576 - float64(adcP) - v2/4096) * 6250 / v1
	p += (f(c.p9)*p*p/2147483648 + p*f(c.p8)/32768 + f(c.p7)) / 16
	h := fine - 76800
	h = (float64(adcH) - (f(c.h4)*64 + f(c.h5)/16384*h)) *
		(f(c.h2) / 65536 * (1 + float64(c.h6)/67108864*h*(1+float64(c.h3)/67108864*h)))
	h *= 1 - float64(c.h1)*h/524288
	return fine / 5120, p, min(max(h, 0), 100)
}

// The two forms agree within what the integers round, over the whole range
// and for calibrations around a real one.
func TestIntegersAgreeWithFloats(t *testing.T) {
	r := rand.New(rand.NewPCG(5, 1))
	near := func(n, by int) int16 { return int16(n + r.IntN(2*by+1) - by) }
	for range 20_000 {
		c := worked
		c.t1, c.t2, c.t3 = uint16(near(27504, 1000)), near(26435, 500), near(-1000, 500)
		c.p1, c.p2, c.p3 = uint16(36477+r.IntN(2000)), near(-10685, 300), near(3024, 200)
		c.h1, c.h2, c.h4, c.h5, c.h6 = uint8(near(75, 10)), near(364, 20), near(313, 40), near(50, 20), int8(near(30, 5))
		adcT, adcP, adcH := int32(350_000+r.IntN(330_000)), int32(250_000+r.IntN(350_000)), int32(15_000+r.IntN(35_000))
		wantT, wantP, wantH := c.exact(adcT, adcP, adcH)
		hundredths, fine := c.temperature(adcT)
		p, ok := c.pressure(adcP, fine)
		gotT, gotP, gotH := float64(hundredths)/100, float64(p)/256, float64(c.humidity(adcH, fine))/1024
		if !ok || math.Abs(gotT-wantT) > 0.01 || math.Abs(gotP-wantP) > 1 || math.Abs(gotH-wantH) > 0.05 {
			t.Fatalf("%+v of %d, %d, %d: %.3f °C, %.3f Pa, %.4f %%\nwant %.3f, %.3f, %.4f", c, adcT, adcP, adcH, gotT, gotP, gotH, wantT, wantP, wantH)
		}
	}
}

// Whatever calibration and data a bus delivers, what is given out lies within
// what the chip measures.
func FuzzCalibration(f *testing.F) {
	tp, h := worked.registers()
	data := []byte{0x65, 0x5a, 0xc0, 0x7e, 0xed, 0x00, 0x6d, 0x60}
	f.Add(tp[:], h[:], data, true)
	f.Add(make([]byte, 26), make([]byte, 7), make([]byte, 8), true)
	f.Fuzz(func(t *testing.T, tp, h, data []byte, humid bool) {
		if len(tp) != 26 || len(h) != 7 || len(data) != 8 {
			return
		}
		b := &bosch{link: link{chip: "fuzzed"}, humid: humid, cal: parseCalibration([26]byte(tp), [7]byte(h))}
		all, err := b.readings(data)
		if len(all) == 0 && err == nil {
			t.Error("neither readings nor an error")
		}
		within := map[string][2]float64{"temperature": {-40, 85}, "humidity": {0, 100}, "pressure": {300, 1100}}
		for _, r := range all {
			if w := within[r.Quantity]; !(r.Value >= w[0] && r.Value <= w[1]) {
				t.Errorf("%s of %v %s", r.Quantity, r.Value, r.Unit)
			}
		}
	})
}
