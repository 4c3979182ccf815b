package rollout

import (
	"fmt"
	"time"

	"dunlin/sync/wire"
)

// Verdict is the health gate's answer.
type Verdict int

// The verdicts. Hold is the answer whenever the other two are not certain.
const (
	Hold Verdict = iota
	Pass
	Fail
)

// gate judges the open wave (or the one that a pause interrupted). The first
// row that applies decides:
//
//	what is seen                                                      verdict
//	----------------------------------------------------------------  -------
//	a canary refused or reverted, and the model is to blame           fail
//	more than MaxFailed of wave 2 failed                              fail
//	errors:  share(new) > share(control) + MaxErrors                  fail
//	latency: mean(new) > MaxSlowdown * mean(control)                  fail
//	score:   mean(new) < mean(control) - MaxScoreDrop                 fail
//	a device of the wave that is online is assigned, on trial, stuck  hold
//	agent: a device of the wave is on trial, online or not            hold
//	no device of the wave passed (wave 2 may be empty)                hold
//	fewer than MinRuns answers with the new model (an agent: 0)       hold
//	the wave is open for less than SoakS                              hold
//	otherwise                                                         pass
//
// "new" sums what the devices answered with the new model since they were
// given it, "control" what the devices of the rollout answered with their old
// one.
// The rows of errors, latency and score need JudgeRuns answers on the side of
// the new model; latency and score need them on the control's side too, and
// errors are compared with 0 where there is no control. A device that is
// offline neither passes nor holds a wave: it keeps its assignment and is
// judged when it comes back, by the first two rows, as long as the rollout
// runs. An agent on trial is the exception: one that crashes is mostly offline.
func (s *State) gate(now time.Time) (Verdict, string) {
	phase := s.Phase
	if phase == Paused {
		phase = s.Held
	}
	c := s.count(phase)
	if c.failedCanaries > 0 {
		return Fail, c.why
	}
	if c.rest > 0 && float64(c.failedRest) > s.Rules.MaxFailed*float64(c.rest) {
		return Fail, fmt.Sprintf("%d of %d devices failed; the first: %s", c.failedRest, c.rest, c.why)
	}
	if why := s.compareFigures(c.before, c.after); why != "" {
		return Fail, why
	}
	switch {
	case c.undecided > 0:
		return Hold, fmt.Sprintf("%d of %d devices have not finished (%d are offline)", c.undecided, c.wave, c.offline)
	case c.passed == 0 && (c.wave > 0 || phase == Canary):
		return Hold, fmt.Sprintf("none of %d devices has passed (%d are offline)", c.wave, c.offline)
	case c.after.Runs < s.Rules.MinRuns:
		return Hold, fmt.Sprintf("%d answers with the new model, %d wanted", c.after.Runs, s.Rules.MinRuns)
	case now.Sub(s.Since) < time.Duration(s.Rules.SoakS)*time.Second:
		return Hold, fmt.Sprintf("the wave must be open for %d s", s.Rules.SoakS)
	}
	return Pass, s.reached()
}

// reached says how many of all devices have passed, for the end of a rollout.
func (s *State) reached() string {
	passed, offline := 0, 0
	for i := range s.Devices {
		switch d := &s.Devices[i]; {
		case d.Stage == Passed:
			passed++
		case !d.Online:
			offline++
		}
	}
	text := fmt.Sprintf("%d of %d devices passed", passed, len(s.Devices))
	if offline > 0 {
		text += fmt.Sprintf(", %d offline", offline)
	}
	return text
}

// counts are the sums that the gate looks at.
type counts struct {
	wave, passed, undecided, offline int // of the open wave
	rest                             int
	failedCanaries, failedRest       int
	why                              string // of the first failed device
	before, after                    Figures
}

func (s *State) count(phase Phase) counts {
	var c counts
	for i := range s.Devices {
		d := &s.Devices[i]
		if !d.Canary {
			c.rest++
		}
		if d.Stage == Failed {
			if d.Canary {
				c.failedCanaries++
			} else {
				c.failedRest++
			}
			if c.why == "" || d.Canary && c.failedCanaries == 1 {
				c.why = fmt.Sprintf("%s: %s", d.Name, d.Reason)
			}
		}
		c.before.add(d.Before)
		if d.given() {
			c.after.add(d.After.minus(d.Base))
		}
		if d.Canary != (phase == Canary) {
			continue
		}
		c.wave++
		switch {
		case d.Stage == Passed:
			c.passed++
		case !d.Online && (d.Stage != Trial || s.OfferKind() != wire.OfferAgent):
			c.offline++
		case d.Stage != Failed:
			c.undecided++
		}
	}
	return c
}

// compareFigures returns why the new model's figures are too bad, or "".
func (s *State) compareFigures(before, after Figures) string {
	if after.Runs < s.Rules.JudgeRuns {
		return ""
	}
	share := func(f Figures) float64 { return float64(f.Errors) / float64(max(f.Runs, 1)) }
	if share(after) > share(before)+s.Rules.MaxErrors {
		return fmt.Sprintf("errors: %.1f %% of %d answers, %.1f %% with the old model", 100*share(after), after.Runs, 100*share(before))
	}
	if before.Runs < s.Rules.JudgeRuns {
		return ""
	}
	mean := func(f Figures, sum float64) float64 { return sum / float64(max(f.Runs-f.Errors, 1)) }
	was, is := mean(before, float64(before.Micros)), mean(after, float64(after.Micros))
	if s.Rules.MaxSlowdown > 0 && is > s.Rules.MaxSlowdown*was {
		return fmt.Sprintf("latency: %.2f ms on average, %.2f ms with the old model", is/1000, was/1000)
	}
	was, is = mean(before, before.Score), mean(after, after.Score)
	if s.Rules.MaxScoreDrop > 0 && is < was-s.Rules.MaxScoreDrop {
		return fmt.Sprintf("score of the first label: %.3f on average, %.3f with the old model", is, was)
	}
	return ""
}
