package prep

import (
	"errors"
	"math"
	"testing"
)

func tone(rate, n int, hz float64) Sound {
	s := Sound{rate, make([]float32, n)}
	for i := range s.Samples {
		s.Samples[i] = float32(math.Sin(2 * math.Pi * hz * float64(i) / float64(rate)))
	}
	return s
}

// A tone below both half rates stays that tone at the same time, one above
// the new half rate is gone, and a constant stays itself. The ends, where the
// kernel meets silence, do not count.
func TestResample(t *testing.T) {
	for _, c := range []struct {
		from, to int
		hz       float64
		largest  float64 // distance from the tone, or from silence where the tone does not fit
	}{
		{8000, 16000, 1000, 1e-4},
		{8000, 16000, 3000, 2e-3},
		{44100, 16000, 440, 1e-4},
		{44100, 16000, 6000, 2e-3},
		{44100, 16000, 9500, 2e-3},
		{48000, 16000, 12000, 1e-3},
		{16000, 44100, 5000, 1e-3},
		{11025, 16000, 0, 0},
		{16000, 8000, 0, 0},
	} {
		in := tone(c.from, c.from/2, c.hz)
		if c.hz == 0 {
			for i := range in.Samples {
				in.Samples[i] = 0.75
			}
		}
		out, err := in.Resample(c.to)
		if err != nil || out.Rate != c.to || len(out.Samples) != (len(in.Samples)*c.to+c.from-1)/c.from {
			t.Fatalf("%d to %d: %d samples, %v", c.from, c.to, len(out.Samples), err)
		}
		want := tone(c.to, len(out.Samples), c.hz)
		worst := 0.0
		for i := c.to / 50; i < len(out.Samples)-c.to/50; i++ {
			w := want.Samples[i]
			switch {
			case c.hz == 0:
				w = 0.75
			case 2*c.hz > float64(min(c.from, c.to)):
				w = 0
			}
			worst = max(worst, math.Abs(float64(out.Samples[i]-w)))
		}
		if worst > c.largest {
			t.Errorf("%d to %d, %v Hz: off by %.2g, want at most %v", c.from, c.to, c.hz, worst, c.largest)
		}
	}
	same := tone(16000, 10, 100)
	if out, err := same.Resample(16000); err != nil || &out.Samples[0] != &same.Samples[0] {
		t.Errorf("the same rate: %v", err)
	}
	if _, err := (Sound{1000, make([]float32, 1<<20)}).Resample(384000); !errors.Is(err, ErrSoundTooLarge) {
		t.Errorf("too many samples: %v", err)
	}
	if _, err := same.Resample(10); err == nil {
		t.Error("10 samples a second were made")
	}
	if _, err := (Sound{}).Resample(16000); err == nil {
		t.Error("a sound without a rate was resampled")
	}
}
