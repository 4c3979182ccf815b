package policy

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"
)

// at is a reading at a second, and what must be so after it.
type at struct {
	second int
	r      Reading
	level  Level
	why    string // that the change has; "": nothing changes
}

func heat(c float64) Reading {
	return Reading{Heat: &Heat{Sensor: "cpu", C: c, Soft: 80, Hard: 85}}
}

// left is a group of 128 MB with so many MB left: short below 12.8, calm from
// 25.6 on, urgent below 3.2.
func left(mb int64) Reading {
	return Reading{Memory: []Memory{{Left: mb << 20, Of: 128 << 20, From: "memory.high of a"}}}
}

func both(c float64, mb int64) Reading {
	r := heat(c)
	r.Memory = left(mb).Memory
	return r
}

func slowed(c float64) Reading {
	r := heat(c)
	r.Heat.Slowed = true
	return r
}

func stalled(percent float64) Reading { return Reading{Stalled: &percent} }

func TestMachine(t *testing.T) {
	for name, all := range map[string][]at{
		"a board that is cool": {{0, heat(50), 0, ""}, {5, heat(79.9), 0, ""}, {10, heat(75), 0, ""}},
		"up a step at a time, and down again": {
			{0, heat(80), 1, "cpu is at 80.0 °C, its soft limit is 80 °C"},
			{5, heat(81), 1, ""},
			{25, heat(81), 1, ""},
			{30, heat(82.1), 2, "cpu is at 82.1 °C"},
			{60, heat(82), 3, "cpu is at 82.0 °C"},
			{90, heat(82), 3, ""}, // there is no more to give
			{120, heat(74), 3, ""},
			{175, heat(74), 3, ""},
			{180, heat(74.5), 2, "cpu is at 74.5 °C"},
			{235, heat(74), 2, ""},
			{240, heat(74), 1, "74.0"},
			{300, heat(74), 0, "cpu is at 74.0 °C, its soft limit is 80 °C"},
			{400, heat(74), 0, ""},
		},
		"between the limits nothing moves": {
			{0, heat(80), 1, "soft"},
			{30, heat(79), 1, ""},
			{200, heat(75.1), 1, ""},
			{1000, heat(78), 1, ""},
			{1005, heat(75), 1, ""},
			{1060, heat(75.5), 1, ""}, // not calm for a whole minute
			{1065, heat(75), 1, ""},
			{1120, heat(75), 1, ""},
			{1125, heat(75), 0, "75.0"},
		},
		"beyond the hard limit it does not wait": {
			{0, heat(86), 1, "hard limit is 85"}, {5, heat(86), 2, "hard"}, {10, heat(86), 3, "hard"},
		},
		"hot again while it cools down": {
			{0, heat(80), 1, "soft"},
			{30, heat(80), 2, "soft"},
			{60, heat(60), 2, ""},
			{120, heat(60), 1, "60.0"},
			{125, heat(81), 2, "81.0"}, // the last step up is long ago
			{130, heat(81), 2, ""},
		},
		"the board's own word": {
			{0, slowed(78), 1, "the board holds the clock down"}, {5, slowed(60), 1, ""}, // at 60 it is not for heat
			{65, slowed(60), 0, "60.0"},
		},
		"no sensor, ever": {{0, Reading{}, 0, ""}, {1000, Reading{}, 0, ""}},
		"a sensor that goes and comes back": {
			{0, heat(81), 1, "soft"},
			{20, Reading{}, 1, ""},
			{40, Reading{}, 1, ""}, // as it was
			{50, heat(81), 2, "81.0"},
			{60, Reading{}, 2, ""},
			{65, heat(70), 2, ""},
			{100, Reading{}, 2, ""}, // what is silent was not calm
			{125, heat(70), 2, ""},
			{185, heat(70), 1, "70.0"},
		},
		"a sensor that goes for good": {
			{0, heat(81), 1, "soft"},
			{100, Reading{}, 1, ""},
			{119, Reading{}, 1, ""},
			{120, Reading{}, 1, ""},
			{179, Reading{}, 1, ""},
			{180, Reading{}, 0, "no sensor tells"},
		},
		"another sensor has its own limits": {
			{0, heat(79), 0, ""},
			{5, Reading{Heat: &Heat{Sensor: "gpu", C: 61, Soft: 60, Hard: 90}}, 1, "gpu is at 61.0 °C, its soft limit is 60 °C"},
		},
		"a clock that goes back": {
			{100, heat(81), 1, "soft"},
			{10, heat(81), 1, ""},
			{129, heat(81), 1, ""},
			{130, heat(81), 2, "soft"},
			{50, heat(60), 2, ""},
			{189, heat(60), 2, ""},
			{190, heat(60), 1, "60.0"},
		},
		"stopped for a day": {{0, heat(81), 1, "soft"}, {86400, heat(60), 1, ""}, {86460, heat(60), 0, "60.0"}},
		"memory: caches first, then frames": {
			{0, left(100), 0, ""},
			{5, left(20), 0, ""},
			{10, left(12), 0, "12 MB are left of 128 MB (memory.high of a)"},
			{15, left(12), 0, ""},
			{40, left(12), 1, "12 MB"},
			{70, left(12), 2, "12 MB"},
			{100, left(12), 3, "12 MB"},
			{115, left(12), 3, ""},
			{130, left(12), 3, "12 MB"}, // caches again: there is nothing else to give
			{135, left(26), 3, ""},
			{195, left(26), 2, "26 MB"},
			{255, left(26), 1, "26 MB"},
			{315, left(26), 0, "26 MB"},
		},
		"memory that is nearly gone": {{0, left(3), 0, "3 MB"}, {5, left(3), 1, "3 MB"}, {10, left(3), 2, "3 MB"}},
		"a machine of 8 GB is not short at a tenth": {
			{0, Reading{Memory: []Memory{{Left: 500 << 20, Of: 8 << 30, From: "RAM"}}}, 0, ""},
			{5, Reading{Memory: []Memory{{Left: 60 << 20, Of: 8 << 30, From: "RAM"}}}, 0, "60 MB are left of 8192 MB (RAM)"},
		},
		"processes wait for memory": {
			{0, stalled(4), 0, ""},
			{5, stalled(19), 0, ""},
			{10, stalled(34), 0, "waited for memory 34 % of the time"},
			{40, stalled(34), 1, "34 %"},
			{45, stalled(10), 1, ""},
			{200, stalled(10), 1, ""},
		},
		"heat and memory: the higher one counts": {
			{0, both(81, 100), 1, "cpu"},
			{5, both(81, 3), 1, "3 MB"}, // caches go, the level stays
			{10, both(81, 3), 1, "3 MB"},
			{15, both(79, 3), 2, "3 MB"},
			{20, both(79, 3), 3, "3 MB"},
			{25, both(60, 100), 3, ""},
			{85, both(60, 100), 2, "MB are left"},
			{145, both(60, 100), 1, "MB are left"},
			{205, both(60, 100), 0, "MB are left"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			m := New(Usual)
			for _, a := range all {
				before, _ := m.Level()
				c, changed := m.Step(a.r, time.Duration(a.second)*time.Second)
				now, why := m.Level()
				if now != a.level || changed != (a.why != "") || changed && (!strings.Contains(c.Why, a.why) || c.From != before || c.To != now) {
					t.Fatalf("second %d: level %d, %+v, %v, want %d, %q", a.second, now, c, changed, a.level, a.why)
				}
				if (now == 0) != (why == "") {
					t.Fatalf("second %d: level %d because %q", a.second, now, why)
				}
			}
		})
	}
}

// Caches are dropped when memory gets short, and again at each step up for
// want of it, but not when it was heat.
func TestShed(t *testing.T) {
	m := New(Usual)
	for i, a := range []struct {
		r    Reading
		shed bool
	}{{heat(81), false}, {both(81, 12), true}, {both(81, 12), true}, {both(60, 100), false}} {
		if c, _ := m.Step(a.r, time.Duration(i)*40*time.Second); c.Shed != a.shed {
			t.Errorf("reading %d: %+v", i, c)
		}
	}
}

// Memory that stays short has caches dropped for as long as it does, at the
// pace of the steps, and nobody is told the same again.
func TestShedAtTheTop(t *testing.T) {
	m := New(Usual)
	sheds, again := 0, 0
	for second := 0; second <= 7200; second += 5 {
		c, ok := m.Step(left(1), time.Duration(second)*time.Second)
		if ok != c.Shed {
			t.Fatalf("second %d: %+v, %v", second, c, ok)
		}
		if c.Shed {
			sheds++
		}
		if c.Again {
			again++
		}
	}
	if want := 4 + (7200-15)/30; sheds != want || again != want-4 {
		t.Errorf("caches are dropped %d times, %d of them again, want %d", sheds, again, want)
	}
	if c, ok := m.Step(both(50, 20), 7300*time.Second); ok {
		t.Errorf("memory is not short any more: %+v", c)
	}
}

// Whatever comes, at whatever time: levels are in range and move by one, and
// what is calm for long ends at 0.
func TestAnyReadings(t *testing.T) {
	for seed := range uint64(200) {
		rng := rand.New(rand.NewPCG(seed, 1))
		m, now := New(Usual), time.Duration(0)
		for range 500 {
			now += time.Duration(rng.IntN(40)) * time.Second
			r := both(60+40*rng.Float64(), rng.Int64N(128))
			if rng.IntN(4) == 0 {
				r.Heat = nil
			}
			if rng.IntN(4) == 0 {
				r.Memory = nil
			}
			c, changed := m.Step(r, now)
			if c.To < 0 || c.To > Top || c.To-c.From > 1 || c.From-c.To > 1 || !changed && c.From != c.To || changed && c.Why == "" {
				t.Fatalf("seed %d: %+v of %+v", seed, c, r)
			}
		}
		for range 20 {
			now += 30 * time.Second
			m.Step(both(50, 100), now)
		}
		if l, _ := m.Level(); l != 0 {
			t.Fatalf("seed %d: level %d after ten calm minutes", seed, l)
		}
	}
}

func TestMeasures(t *testing.T) {
	for _, c := range []struct {
		level            Level
		threads          int
		small            bool
		frames, threaded int
		text             string
	}{
		{0, 4, true, 1, 4, "nothing is held back"},
		{1, 4, true, 2, 4, "frames at 1/2"},
		{2, 4, true, 4, 2, "frames at 1/4, 2 threads"},
		{3, 4, true, 4, 1, "frames at 1/4, 1 thread, small form"},
		{3, 4, false, 4, 1, "frames at 1/4, 1 thread"},
		{2, 1, false, 4, 1, "frames at 1/4"},
		{2, 3, false, 4, 1, "frames at 1/4, 1 thread"},
	} {
		if n := c.level.Threads(c.threads); n != c.threaded || c.level.Frames() != c.frames {
			t.Errorf("level %d: %d threads, frames at 1/%d", c.level, n, c.level.Frames())
		}
		if got := c.level.Text(c.threads, c.small); got != c.text {
			t.Errorf("level %d: %q", c.level, got)
		}
	}
}

func ExampleMachine() {
	m := New(Usual)
	for second, c := range []float64{70, 82, 82} {
		r := Reading{Heat: &Heat{Sensor: "cpu", C: c, Soft: 80, Hard: 85}}
		if change, ok := m.Step(r, time.Duration(second)*time.Second); ok {
			fmt.Println(change.To.Text(4, false)+":", change.Why)
		}
	}
	// Output: frames at 1/2: cpu is at 82.0 °C, its soft limit is 80 °C
}
