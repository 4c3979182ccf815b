package chart

import (
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
)

// ErrNoFront means that a report tells of no front: the whole network was
// brought to one precision, and nothing was promised.
var ErrNoFront = errors.New("the report has no front")

// maxFront bounds the points of a front, and maxName the letters of a name,
// that are drawn: a report is anybody's until somebody signed it.
const (
	maxFront = 256
	maxName  = 80
)

// Front is what the report of a pack tells of a network and its smaller forms,
// as far as it can be drawn. Shares are 0 to 1.
type Front struct {
	Measure       string       `json:"measure"` // "accuracy", or "agreement" with the float network
	MaxDrop       float64      `json:"max_drop"`
	Bound         string       `json:"bound"` // which of a point's bounds decided: "exact", or else Bernstein's
	FloatAccuracy *float64     `json:"float_accuracy"`
	Points        []FrontPoint `json:"front"` // the first is the float network
	Chosen        int          `json:"chosen"`
}

// FrontPoint is one form of the network.
type FrontPoint struct {
	Name      string  `json:"name"`
	Bytes     int64   `json:"bytes"` // of the weights
	Drop      float64 `json:"drop"`  // seen on the samples
	Bernstein float64 `json:"bernstein"`
	Exact     float64 `json:"exact"`
	Gain      float64 `json:"gain"` // what the true gain is at most: the other end of the interval
	Certified bool    `json:"certified"`
	MedianMS  float64 `json:"median_ms"`
}

// ReadFront reads a pack's report, JSON. It returns ErrNoFront where there is
// nothing to be drawn, and another error where it cannot be read.
func ReadFront(report []byte) (*Front, error) {
	var r struct {
		Certificate *Front `json:"certificate"`
	}
	if err := json.Unmarshal(report, &r); err != nil {
		return nil, fmt.Errorf("report: %w", err)
	}
	f := r.Certificate
	if f == nil || len(f.Points) == 0 {
		return nil, ErrNoFront
	}
	if len(f.Points) > maxFront {
		return nil, fmt.Errorf("report: a front of %d points, at most %d are drawn", len(f.Points), maxFront)
	}
	for i, p := range f.Points {
		if name := []rune(p.Name); len(name) > maxName {
			f.Points[i].Name = string(name[:maxName]) + "…"
		}
	}
	return f, nil
}

// Size draws accuracy, or agreement, against the bytes of the weights.
func (f *Front) Size() Scatter {
	return f.scatter("accuracy against size", Axis{Label: "weights, KiB", Log: true}, func(p FrontPoint) float64 { return float64(p.Bytes) / 1024 })
}

// Time draws it against the time of one run.
func (f *Front) Time() Scatter {
	return f.scatter("accuracy against time", Axis{Label: "median of one run, ms", Zero: true}, func(p FrontPoint) float64 { return p.MedianMS })
}

func (f *Front) scatter(title string, x Axis, at func(FrontPoint) float64) Scatter {
	whole, label := 1.0, "answers as before, %"
	if f.FloatAccuracy != nil {
		whole, label = *f.FloatAccuracy, "accuracy, %"
	}
	limit := 100 * (whole - f.MaxDrop)
	s := Scatter{
		Title: title, X: x, Y: Axis{Label: label}, Limit: &limit,
		Note: strconv.FormatFloat(100*f.MaxDrop, 'g', 4, 64) + " % less than the float model",
	}
	for i, p := range f.Points {
		bound := p.Bernstein
		if f.Bound == "exact" {
			bound = p.Exact
		}
		point := Point{X: at(p), Y: 100 * (whole - p.Drop), Name: p.Name, Mark: Good}
		point.Low, point.High = max(0, 100*(whole-bound)), point.Y
		if f.Measure == "accuracy" {
			point.High = min(100, 100*(whole+p.Gain))
		}
		if i == 0 { // the float model is not an estimate
			point.Low, point.High = point.Y, point.Y
		}
		switch {
		case i == f.Chosen:
			point.Mark = Chosen
		case !p.Certified:
			point.Mark = Bad
		}
		s.Points = append(s.Points, point)
	}
	return s
}
