// Package policy decides how much less a device does when it gets too hot or
// short of memory. It is a pure state machine: readings and the time go in, a
// level and its reason come out. Start with New and Machine.Step.
//
//	level 0   everything
//	      1   every second frame
//	      2   every fourth, on half of the threads
//	      3   every fourth, on one thread, by the model's small form where it has one
//
// Heat and memory each climb a ladder of their own, and the higher one counts.
// One step up shows its effect before the next is taken; one step down takes a
// minute without a reason for it, so that a device at its limit does not swing.
// Before memory costs a frame, caches are dropped, and at the top of its ladder
// again and again, as long as it is short.
//
// The promise: the same readings at the same times give the same levels; a
// sensor that says nothing neither raises nor, for a while, lowers the level;
// and time only goes forward, whatever the wall clock does. It reads no sensor
// and changes nothing: the agent does both.
package policy

import (
	"fmt"
	"strings"
	"time"
)

// Level is how far a device holds itself back.
type Level int

// Top is the highest level.
const Top Level = 3

// Frames returns how many frames come for one that is looked at.
func (l Level) Frames() int { return [...]int{1, 2, 4, 4}[l] }

// Threads returns how many of all threads an inference may use.
func (l Level) Threads(all int) int {
	switch {
	case l < 2:
		return all
	case l == 2:
		return max(1, all/2)
	}
	return 1
}

// Small reports whether the model's small form is to answer.
func (l Level) Small() bool { return l == Top }

// Reading is what is known at a moment.
type Reading struct {
	Heat   *Heat    // nil: no sensor says anything
	Memory []Memory // of the machine, of the group; none: nobody says
	// Stalled is how much of the last ten seconds processes waited for memory,
	// in percent; nil: nobody says.
	Stalled *float64
}

// Heat is the sensor that is the closest to its limit.
type Heat struct {
	Sensor        string
	C, Soft, Hard float64 // degrees Celsius
	Slowed        bool    // the board says that the clock is held down, and not for want of voltage
}

// Memory is what is left of something, in bytes.
type Memory struct {
	Left, Of int64
	From     string // "RAM", "memory.high of …"
}

// Rules are the limits of time, and what calm is.
type Rules struct {
	Step     time.Duration // from one step up to the next
	Urgent   time.Duration // the same beyond the hard limit
	Calm     time.Duration // without a reason, before a step down
	Patience time.Duration // that a sensor may be silent and count as unchanged
	CalmC    float64       // so many degrees below the soft limit are calm
}

// Usual suits a board with or without a heat sink, which follows its load
// within half a minute, and readings every five seconds.
var Usual = Rules{Step: 30 * time.Second, Urgent: 5 * time.Second, Calm: time.Minute, Patience: 2 * time.Minute, CalmC: 5}

// Change is what follows from a reading.
type Change struct {
	From, To Level
	Shed     bool   // caches are to be dropped
	Again    bool   // nothing but that, as before: memory is still short at the top
	Why      string // "cpu is at 82.1 °C, its soft limit is 80 °C"
}

// Machine holds the state; its zero value is not used: see New.
type Machine struct {
	rules  Rules
	heat   ladder
	memory ladder        // its first rung is dropping caches
	shed   time.Duration // when caches were dropped last
	last   time.Duration
}

// New returns a machine at level 0.
func New(r Rules) *Machine {
	return &Machine{rules: r, heat: newLadder(int(Top)), memory: newLadder(int(Top) + 1)}
}

// Level returns the level, and why it is not 0.
func (m *Machine) Level() (l Level, why string) {
	heat, memory := Level(m.heat.level), Level(max(0, m.memory.level-1))
	if memory > heat {
		return memory, m.memory.why
	}
	if heat == 0 {
		return 0, ""
	}
	return heat, m.heat.why
}

// Step takes a reading at a time since some fixed moment, by a clock that is
// never set, and returns what changed; ok is false where nothing did.
func (m *Machine) Step(r Reading, now time.Duration) (c Change, ok bool) {
	now = max(now, m.last)
	m.last = now
	c.From, _ = m.Level()
	shed := m.memory.level
	hot, heatWhy := m.rules.heat(r.Heat)
	cooled := m.heat.step(hot, heatWhy, now, m.rules)
	short, memoryWhy := memory(r)
	m.memory.step(short, memoryWhy, now, m.rules)
	c.To, c.Why = m.Level()
	c.Shed = m.memory.level > shed
	// Caches fill again, and a model that was put away comes back for whoever
	// needs it: where no rung is left, that is all that can still be given.
	if !c.Shed && m.memory.level == m.memory.top && short >= over && now-m.shed >= m.rules.Step {
		c.Shed, c.Again = true, c.From == c.To
	}
	if c.Shed {
		m.shed = now
	}
	switch {
	case c.Shed:
		c.Why = memoryWhy
	case c.To == 0 && cooled:
		c.Why = heatWhy
	case c.To == 0:
		c.Why = memoryWhy
	}
	return c, c.From != c.To || c.Shed
}

// need is what a reading asks for.
type need int

const (
	unknown need = iota // nobody says
	calm
	between // no reason for either step
	over
	urgent
)

// heat reads a sensor.
func (r Rules) heat(h *Heat) (need, string) {
	if h == nil {
		return unknown, "no sensor tells a temperature"
	}
	at := fmt.Sprintf("%s is at %.1f °C, ", h.Sensor, h.C)
	switch {
	case h.C >= h.Hard:
		return urgent, at + fmt.Sprintf("its hard limit is %g °C", h.Hard)
	case h.C >= h.Soft:
		return over, at + fmt.Sprintf("its soft limit is %g °C", h.Soft)
	case h.Slowed && h.C > h.Soft-2*r.CalmC:
		return over, at + "and the board holds the clock down"
	case h.C > h.Soft-r.CalmC:
		return between, at + fmt.Sprintf("its soft limit is %g °C", h.Soft)
	}
	return calm, at + fmt.Sprintf("its soft limit is %g °C", h.Soft)
}

// Memory is short where so much is left, the lower of a share and an amount:
// a tenth of 8 GB is no shortage. There is enough where twice as much is left.
const (
	shortShare = 10 // one part in so many
	shortBytes = 64 << 20
	// Processes that wait for memory a fifth of the time get little else done;
	// a twentieth is passed over.
	stalledOver, stalledCalm = 20, 5
)

// memory reads what is left.
func memory(r Reading) (need, string) {
	worst, why := unknown, "nobody tells how much memory is left"
	see := func(n need, what string) {
		if n > worst {
			worst, why = n, what
		}
	}
	for _, m := range r.Memory {
		short := min(m.Of/shortShare, shortBytes)
		what := fmt.Sprintf("%d MB are left of %d MB (%s)", m.Left>>20, m.Of>>20, m.From)
		switch {
		case m.Left < short/4:
			see(urgent, what)
		case m.Left < short:
			see(over, what)
		case m.Left < 2*short:
			see(between, what)
		default:
			see(calm, what)
		}
	}
	if s := r.Stalled; s != nil {
		what := fmt.Sprintf("processes waited for memory %.0f %% of the time", *s)
		switch {
		case *s >= stalledOver:
			see(over, what)
		case *s >= stalledCalm:
			see(between, what)
		default:
			see(calm, what)
		}
	}
	return worst, why
}

// never is before every time.
const never = -1 << 62

// ladder is one reason's level.
type ladder struct {
	level, top int
	raised     time.Duration // when it last rose
	calm       time.Duration // since when there has been no reason; never: there is one
	heard      time.Duration // when something was known last
	why        string        // of the level
}

func newLadder(top int) ladder { return ladder{top: top, raised: never, calm: never} }

// step takes what one reading asks for and reports whether the level changed.
func (l *ladder) step(n need, why string, now time.Duration, r Rules) bool {
	if n == unknown {
		if silent := now - l.heard; silent < r.Patience {
			l.calm = never
			return false
		}
		n = calm
	} else {
		l.heard = now
	}
	switch n {
	case over, urgent:
		l.calm = never
		wait := r.Step
		if n == urgent {
			wait = r.Urgent
		}
		if l.level > 0 {
			l.why = why
		}
		if l.level == l.top || l.level > 0 && now-l.raised < wait {
			return false
		}
		l.level, l.raised, l.why = l.level+1, now, why
		return true
	case between:
		l.calm = never
	case calm:
		if l.calm == never {
			l.calm = now
		}
		if l.level == 0 || now-l.calm < r.Calm {
			return false
		}
		l.level, l.calm, l.why = l.level-1, now, why
		return true
	}
	return false
}

// Text says in a few words what is done at a level: "frames at 1/4, 1 thread,
// small form".
func (l Level) Text(threads int, small bool) string {
	if l == 0 {
		return "nothing is held back"
	}
	parts := []string{fmt.Sprintf("frames at 1/%d", l.Frames())}
	if n := l.Threads(threads); n < threads {
		s := "s"
		if n == 1 {
			s = ""
		}
		parts = append(parts, fmt.Sprintf("%d thread%s", n, s))
	}
	if small && l.Small() {
		parts = append(parts, "small form")
	}
	return strings.Join(parts, ", ")
}
