package cli

import (
	"fmt"
	"math"
	"strconv"
	"strings"

	"dunlin/quant"
	"dunlin/quant/certify"
)

// certificate says what was promised of a pack, and what that rests on. It
// stands in the pack's report.
type certificate struct {
	Certified   bool    `json:"certified"`
	Measure     string  `json:"measure"`  // "accuracy", or "agreement" with the float model where there are no labels
	Compared    string  `json:"compared"` // what counts as the same answer, in words
	MaxDrop     float64 `json:"max_drop"` // shares, 0 to 1
	Confidence  float64 `json:"confidence"`
	Bound       string  `json:"bound"`  // "bernstein" or "exact": which of a point's bounds decided
	Target      string  `json:"target"` // "size" or "latency"
	Samples     int     `json:"samples"`
	Calibration int     `json:"calibration_samples"`
	Data        string  `json:"data"`
	Seed        uint64  `json:"seed"` // of the split
	Machine     string  `json:"machine"`

	FloatAccuracy *float64 `json:"float_accuracy,omitempty"` // on the samples

	Front   []frontPoint         `json:"front"`  // from the float model to the smallest, in the order of the tests
	Chosen  int                  `json:"chosen"` // index in Front, -1: none
	Layers  *quant.Sensitivity   `json:"sensitivity,omitempty"`
	Rounded []quant.RoundedLayer `json:"rounded,omitempty"` // where candidates were rounded for their outputs
	Trained *trainedReport       `json:"trained,omitempty"` // where training for int8 was tried, or passed over
	Refused []refusal            `json:"refused,omitempty"`
}

// frontPoint is one candidate, measured through the kernels.
type frontPoint struct {
	Name      string           `json:"name"`
	Levels    map[string]int   `json:"levels"` // how many layers have each level
	Bytes     int64            `json:"bytes"`  // of the weights
	KL        float64          `json:"kl"`     // of the output against the float model's, on calibration samples
	Outcomes  certify.Outcomes `json:"outcomes"`
	Accuracy  *float64         `json:"accuracy,omitempty"`
	Drop      float64          `json:"drop"`      // seen on the samples
	Bernstein float64          `json:"bernstein"` // what the true drop is at most
	Exact     float64          `json:"exact"`     // the same, from the distribution of the counts
	Gain      float64          `json:"gain"`      // what the true gain is at most: the interval's other end
	Level     float64          `json:"level"`     // of the test, 1 - confidence or the part of it that this walk has
	Certified bool             `json:"certified"`
	MedianMS  float64          `json:"median_ms"` // of one run on Machine, FastestMS likewise
	FastestMS float64          `json:"fastest_ms"`
	Why       string           `json:"why,omitempty"` // it is not certified
}

// bound returns the bound that decides.
func (p frontPoint) bound(rule string) float64 {
	if rule == "exact" {
		return p.Exact
	}
	return p.Bernstein
}

// refusal is something that was tried, or not, and why it is not in the pack.
type refusal struct {
	What string `json:"what"`
	Why  string `json:"why"`
}

// bounds are the rules that --bound names.
var bounds = map[string]certify.Bound{"bernstein": certify.Bernstein, "exact": certify.Exact}

// boundText names a rule and its source.
func boundText(rule string) string {
	if rule == "exact" {
		return "the exact distribution of the counts (Berger & Boos 1994)"
	}
	return "empirical Bernstein (Maurer & Pontil 2009, Theorem 4)"
}

// share is a flag that takes "1%" or "0.01".
type share float64

func (s *share) String() string { return percent(float64(*s)) }

func (s *share) Type() string { return "PERCENT" }

func (s *share) Set(text string) error {
	digits, isPercent := strings.CutSuffix(strings.TrimSpace(text), "%")
	v, err := strconv.ParseFloat(strings.TrimSpace(digits), 64)
	if isPercent {
		v /= 100
	}
	if err != nil || !(v > 0 && v < 1) {
		return fmt.Errorf("want a part such as 1%% or 0.01, more than 0%% and less than 100%%")
	}
	*s = share(v)
	return nil
}

// percent prints a share.
func percent(v float64) string {
	return strconv.FormatFloat(math.Round(v*1e6)/1e4, 'f', -1, 64) + " %"
}

// points prints a share as points of accuracy, two digits.
func points(v float64) string { return fmt.Sprintf("%.2f", 100*v) }
