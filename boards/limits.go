package boards

import (
	"cmp"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// Bounds is how hot a board may get, and how much memory this process may
// have. What nobody says is nil.
type Bounds struct {
	// SoftC is from where on a clock is held down, in degrees Celsius: better
	// not to get there. HardC is from where on it is held down hard, or the
	// board switches off. They are for sensors that Zones does not name.
	SoftC     *float64 `json:"soft_c,omitempty"`
	HardC     *float64 `json:"hard_c,omitempty"`
	TempsFrom string   `json:"temps_from,omitempty"` // who says so: "Raspberry Pi", "trip points"

	Zones []ZoneBounds `json:"zones,omitempty"` // by name

	Memory     *int64 `json:"memory,omitempty"`      // bytes: the least of the RAM and the limits of the control groups
	MemoryFrom string `json:"memory_from,omitempty"` // which that is: "RAM", "memory.high of …"
}

// ZoneBounds is what the system says of one sensor; Name is Temp's.
type ZoneBounds struct {
	Name  string   `json:"name"`
	SoftC *float64 `json:"soft_c,omitempty"`
	HardC *float64 `json:"hard_c,omitempty"`
}

const (
	// underHard is how far below the hard limit the soft one is taken to be
	// where nobody says, in degrees: a board that only knows when to switch
	// off needs time to cool down before.
	underHard = 10
	// leastGap is between the two at least: what the policy does at the soft
	// one must have a chance before the hard one.
	leastGap = 5
)

// piBounds is what Raspberry Pi documents: from 80 degrees on the Arm cores
// are slowed down step by step, at 85 (temp_limit of config.txt) the GPU too
// (https://www.raspberrypi.com/documentation/computers/raspberry-pi.html,
// "Frequency management and thermal control").
func piBounds(id string) (soft, hard float64) {
	switch id {
	case "rpi-3b-plus", "rpi-3a-plus":
		// Their firmware takes 200 MHz of 1,400 at temp_soft_limit already, which
		// is 60 degrees, and 70 at most: that is no emergency, what comes after
		// is.
		return 70, 85
	}
	return 80, 85
}

// Limits reads what bounds the board below root: the figures of its maker
// where they are in this package's table, the system's own trip points (a
// Jetson's, a PC's), and the limits of memory. Where two say something of one
// sensor, the lower one counts.
func Limits(root string) Bounds {
	root = filepath.Clean(root)
	return limits(sensors{root: root, read: read}, look(root).board())
}

func limits(s sensors, board Board) Bounds {
	var b Bounds
	var from []string
	if strings.HasPrefix(board.ID, "rpi-") {
		soft, hard := piBounds(board.ID)
		b.SoftC, b.HardC = &soft, &hard
		from = append(from, "Raspberry Pi")
	}
	tripped := false
	for _, z := range s.trips() {
		tripped = true
		z.SoftC, z.HardC = least(z.SoftC, b.SoftC), least(z.HardC, b.HardC)
		z.spread()
		b.Zones = append(b.Zones, z)
	}
	if tripped {
		from = append(from, "trip points")
	}
	b.TempsFrom = strings.Join(from, ", ")
	if text, ok := s.text("proc/meminfo"); ok {
		if b.Memory = memory(text, "MemTotal"); b.Memory != nil {
			b.MemoryFrom = "RAM"
		}
	}
	if m := s.memory(); m != nil && m.Limit != nil && (b.Memory == nil || *m.Limit < *b.Memory) {
		b.Memory, b.MemoryFrom = m.Limit, m.LimitFrom
	}
	return b
}

// least returns the lower of two, nil where there is neither.
func least(a, b *float64) *float64 {
	if a == nil || b != nil && *b < *a {
		return b
	}
	return a
}

// spread puts the soft limit where it leaves time before the hard one.
func (z *ZoneBounds) spread() {
	if z.HardC == nil {
		return
	}
	soft := *z.HardC - underHard
	if z.SoftC != nil {
		soft = min(*z.SoftC, *z.HardC-leastGap)
	}
	z.SoftC = &soft
}

// trips reads the trip points of the sensors that temps reads, by name: of
// several zones of one name the lowest. A PC's CPU may have its own beside.
func (s sensors) trips() (all []ZoneBounds) {
	add := func(z ZoneBounds) {
		if z.SoftC == nil && z.HardC == nil {
			return
		}
		i := slices.IndexFunc(all, func(o ZoneBounds) bool { return o.Name == z.Name })
		if i < 0 {
			all = append(all, z)
			return
		}
		all[i].SoftC, all[i].HardC = least(all[i].SoftC, z.SoftC), least(all[i].HardC, z.HardC)
	}
	for _, z := range s.zones() {
		add(s.tripsOf(z))
	}
	for _, dir := range s.find("sys/class/hwmon/hwmon*") {
		if s.ofCPU(dir) {
			add(ZoneBounds{Name: "cpu", HardC: s.trip(filepath.Join(dir, "temp1_crit"))})
		}
	}
	return all
}

// maxTrips bounds what is read of a zone; Linux allows 31.
const maxTrips = 32

// tripsOf reads one zone's. At a passive one the kernel slows the clocks, at
// a hot one it tells programs, at a critical one it switches the board off. An
// active one starts a fan, which is no limit.
func (s sensors) tripsOf(z zone) ZoneBounds {
	b := ZoneBounds{Name: z.name}
	for i := range maxTrips {
		at := filepath.Join(z.dir, "trip_point_"+strconv.Itoa(i))
		kind, ok := s.text(at + "_type")
		if !ok {
			break
		}
		switch kind {
		case "passive":
			b.SoftC = least(b.SoftC, s.trip(at+"_temp"))
		case "hot", "critical":
			b.HardC = least(b.HardC, s.trip(at+"_temp"))
		}
	}
	return b
}

// trip reads a temperature at which something is done. A PC writes 0, or
// less, for one that is not set, and one that it will never see for one that
// is switched off.
func (s sensors) trip(path string) *float64 {
	c, ok := s.celsius(path)
	if !ok || c < 40 || c > 150 {
		return nil
	}
	return &c
}

// Of returns the limits of a sensor, nil for those that nobody says.
func (b Bounds) Of(sensor string) (soft, hard *float64) {
	for _, z := range b.Zones {
		if z.Name == sensor {
			return z.SoftC, z.HardC
		}
	}
	return b.SoftC, b.HardC
}

// Closest returns the sensor that is the closest to its soft limit, or the
// furthest beyond it, with its limits; ok is false where none has one. hard is
// soft where nobody says a hard one, plus a margin.
func (b Bounds) Closest(temps []Temp) (t Temp, soft, hard float64, ok bool) {
	for _, sensor := range temps {
		s, h := b.Of(sensor.Name)
		if s == nil || ok && sensor.C-*s <= t.C-soft {
			continue
		}
		t, soft, hard, ok = sensor, *s, *s+underHard, true
		if h != nil {
			hard = *h
		}
	}
	return t, soft, hard, ok
}

// With returns bounds that a person gave in place of the board's own, for
// every sensor; what is 0 stays as it is.
func (b Bounds) With(softC, hardC float64, memory int64, from string) Bounds {
	if softC > 0 || hardC > 0 {
		z := ZoneBounds{SoftC: b.SoftC, HardC: b.HardC}
		if softC > 0 {
			above := softC + underHard
			z.SoftC, z.HardC = &softC, &above
		}
		if hardC > 0 {
			z.HardC = &hardC
		}
		if softC == 0 {
			z.spread()
		}
		b.SoftC, b.HardC, b.Zones, b.TempsFrom = z.SoftC, z.HardC, nil, from
	}
	if memory > 0 {
		b.Memory, b.MemoryFrom = &memory, cmp.Or(from, b.MemoryFrom)
	}
	return b
}
