package train

import (
	"fmt"
	"math"

	"dunlin/kernels"
)

// ScheduleShape is how the learning rate goes on after the warm-up.
type ScheduleShape string

// The shapes; t goes from 0 to 1 over the steps after the warm-up.
//
//	Constant  Rate
//	Staircase Rate · Factorⁿ, n = whole numbers of Every epochs gone by since the start
//	Cosine    Last + (Rate-Last)·(1 + cos πt)/2   (Loshchilov & Hutter 2017, arXiv:1608.03983)
//	Linear    Rate + (Last-Rate)·t
const (
	Constant  ScheduleShape = "constant"
	Staircase ScheduleShape = "step"
	Cosine    ScheduleShape = "cosine"
	Linear    ScheduleShape = "linear"
)

// Schedule gives the learning rate of each step.
type Schedule struct {
	Shape  ScheduleShape // "": Constant
	Rate   float64       // the highest rate
	Warmup float64       // epochs over which the rate first rises in even steps to Rate; the step after them is the first of the shape
	Last   float64       // where Cosine and Linear end
	Every  float64       // epochs between two steps of the staircase
	Factor float64       // what each of them multiplies the rate by
}

// Check fails on settings that give no sensible rate.
func (s Schedule) Check(epochs int) error {
	switch {
	case !(s.Rate > 0) || math.IsInf(s.Rate, 0):
		return fmt.Errorf("schedule: rate %v: want more than 0", s.Rate)
	case !(s.Warmup >= 0) || s.Warmup > float64(epochs):
		return fmt.Errorf("schedule: %v epochs of warm-up in a training of %d", s.Warmup, epochs)
	case !(s.Last >= 0) || s.Last > s.Rate:
		return fmt.Errorf("schedule: last rate %v: want 0 to the rate, %v", s.Last, s.Rate)
	}
	switch s.Shape {
	case "", Constant, Cosine, Linear:
		return nil
	case Staircase:
		if !(s.Every > 0) || !(s.Factor > 0) || s.Factor >= 1 {
			return fmt.Errorf("schedule %s: every %v epochs times %v: want more than 0 epochs, and a factor above 0 and below 1", s.Shape, s.Every, s.Factor)
		}
		return nil
	}
	return fmt.Errorf("schedule %q is unknown: want %s, %s, %s or %s", s.Shape, Constant, Staircase, Cosine, Linear)
}

// At returns the rate of a step, counted from 0 over the whole training of
// epochs with perEpoch steps each.
func (s Schedule) At(step, perEpoch, epochs int) float64 {
	warm := int(math.Round(s.Warmup * float64(perEpoch)))
	if step < warm {
		return s.Rate * float64(step+1) / float64(warm)
	}
	t := float64(step-warm) / float64(max(epochs*perEpoch-warm, 1))
	switch s.Shape {
	case Staircase:
		return s.Rate * power(s.Factor, int(float64(step)/(s.Every*float64(perEpoch))))
	case Cosine:
		return s.Last + float64((s.Rate-s.Last)*0.5*(1+kernels.Cosine(math.Pi*t)))
	case Linear:
		return s.Rate + float64((s.Last-s.Rate)*t)
	}
	return s.Rate
}
