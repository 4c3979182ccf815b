package recipe

import (
	"bytes"
	"fmt"
	"html"
	"math"
	"strconv"
	"strings"

	"dunlin/train"
)

// The places of things in the picture, in pixels.
const (
	curvesWidth, curvesHeight = 720, 400
	plotLeft, plotRight       = 64, 656
	plotTop, plotBottom       = 48, 344
)

// Colours that people who see few colours tell apart (Okabe and Ito 2008).
const (
	colorTrain    = "#0072b2"
	colorTest     = "#d55e00"
	colorAccuracy = "#009e73"
)

// Curves draws the losses of a training by epoch, and the accuracy on a scale
// of its own at the right, as an SVG picture that needs nothing else.
func Curves(name string, record []train.Epoch) []byte {
	var losses, accuracies []float64
	for _, e := range record {
		losses = append(losses, e.TrainLoss)
		if e.TestLoss != nil {
			losses = append(losses, *e.TestLoss)
		}
		if e.TestAccuracy != nil {
			accuracies = append(accuracies, 100**e.TestAccuracy)
		}
	}
	loss, share := newScale(losses, 0, math.Inf(1)), newScale(accuracies, 0, 100)
	b := &bytes.Buffer{}
	fmt.Fprintf(b, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" font-family="system-ui, sans-serif" font-size="12">`+"\n", curvesWidth, curvesHeight)
	fmt.Fprintf(b, `<rect width="%d" height="%d" fill="#fff"/>`+"\n", curvesWidth, curvesHeight)
	text(b, plotLeft, 24, "start", "#222", `font-size="15" font-weight="600"`, name)
	for _, v := range loss.ticks() {
		y := loss.y(v)
		fmt.Fprintf(b, `<path d="M%d %sH%d" stroke="#ddd"/>`+"\n", plotLeft, coordinate(y), plotRight)
		text(b, plotLeft-8, y+4, "end", "#444", "", short(v))
	}
	epochs := lastEpoch(record)
	for _, e := range epochTicks(epochs) {
		x := epochX(e, epochs)
		fmt.Fprintf(b, `<path d="M%s %dv5" stroke="#888"/>`+"\n", coordinate(x), plotBottom)
		text(b, x, plotBottom+20, "middle", "#444", "", strconv.Itoa(e))
	}
	text(b, (plotLeft+plotRight)/2, plotBottom+40, "middle", "#444", "", "epoch")
	sideways(b, 16, "loss")
	if accuracies != nil {
		for _, v := range share.ticks() {
			text(b, plotRight+8, share.y(v)+4, "start", colorAccuracy, "", short(v)+" %")
		}
		sideways(b, curvesWidth-8, "right")
	}
	fmt.Fprintf(b, `<path d="M%d %dV%dH%d" fill="none" stroke="#888"/>`+"\n", plotLeft, plotTop, plotBottom, plotRight)
	curve(b, record, colorTrain, loss, func(e train.Epoch) *float64 { return &e.TrainLoss })
	curve(b, record, colorTest, loss, func(e train.Epoch) *float64 { return e.TestLoss })
	curve(b, record, colorAccuracy, share, func(e train.Epoch) *float64 {
		if e.TestAccuracy == nil {
			return nil
		}
		v := 100 * *e.TestAccuracy
		return &v
	})
	legend(b, record)
	b.WriteString("</svg>\n")
	return b.Bytes()
}

func text(b *bytes.Buffer, x, y float64, anchor, color, more, s string) {
	fmt.Fprintf(b, `<text x="%s" y="%s" text-anchor="%s" fill="%s" %s>%s</text>`+"\n", coordinate(x), coordinate(y), anchor, color, more, html.EscapeString(s))
}

// sideways writes what an axis is, turned by a quarter.
func sideways(b *bytes.Buffer, x float64, s string) {
	y := float64(plotTop+plotBottom) / 2
	text(b, x, y, "middle", "#444", fmt.Sprintf(`transform="rotate(-90 %s %s)"`, coordinate(x), coordinate(y)), s)
}

// legend names the curves at the top right, with their last values.
func legend(b *bytes.Buffer, record []train.Epoch) {
	if len(record) == 0 {
		return
	}
	last := record[len(record)-1]
	entries := []struct{ color, text string }{{colorTrain, "training loss " + short(last.TrainLoss)}}
	if last.TestLoss != nil {
		entries = append(entries, struct{ color, text string }{colorTest, "test loss " + short(*last.TestLoss)})
	}
	if last.TestAccuracy != nil {
		entries = append(entries, struct{ color, text string }{colorAccuracy, fmt.Sprintf("right %.2f %%", 100**last.TestAccuracy)})
	}
	x := float64(plotRight)
	for i := len(entries) - 1; i >= 0; i-- {
		e := entries[i]
		x -= float64(7*len(e.text) + 28)
		fmt.Fprintf(b, `<path d="M%s 20h16" stroke="%s" stroke-width="2.5"/>`+"\n", coordinate(x), e.color)
		text(b, x+20, 24, "start", "#222", "", e.text)
	}
}

// curve draws what of returns of each epoch, where it returns something.
func curve(b *bytes.Buffer, record []train.Epoch, color string, s scale, of func(train.Epoch) *float64) {
	var points []string
	for _, e := range record {
		if v := of(e); v != nil && !math.IsNaN(*v) && !math.IsInf(*v, 0) {
			points = append(points, coordinate(epochX(e.Epoch, lastEpoch(record)))+" "+coordinate(s.y(*v)))
		}
	}
	switch len(points) {
	case 0:
	case 1:
		at := strings.Fields(points[0])
		fmt.Fprintf(b, `<circle cx="%s" cy="%s" r="3" fill="%s"/>`+"\n", at[0], at[1], color)
	default:
		fmt.Fprintf(b, `<path d="M%s" fill="none" stroke="%s" stroke-width="2" stroke-linejoin="round"/>`+"\n", strings.Join(points, "L"), color)
	}
}

// lastEpoch is where the axis ends: a record may begin late, where a training
// went on from a checkpoint.
func lastEpoch(record []train.Epoch) int {
	if len(record) == 0 {
		return 1
	}
	return record[len(record)-1].Epoch
}

func epochX(epoch, epochs int) float64 {
	if epochs < 2 {
		return (plotLeft + plotRight) / 2
	}
	return plotLeft + float64(plotRight-plotLeft)*float64(epoch-1)/float64(epochs-1)
}

// epochTicks returns the epochs that the axis names: at most about ten.
func epochTicks(epochs int) []int {
	step := max(int(nice(float64(epochs)/10)), 1)
	var list []int
	for e := 1; e <= epochs; e++ {
		if e%step == 0 || e == 1 && step <= 2 {
			list = append(list, e)
		}
	}
	return list
}

// scale is the range of a vertical axis.
type scale struct{ low, high, step float64 }

// newScale returns a range with round ends around the values, within the
// bounds that they cannot pass.
func newScale(values []float64, least, most float64) scale {
	low, high := math.Inf(1), math.Inf(-1)
	for _, v := range values {
		if !math.IsNaN(v) && !math.IsInf(v, 0) {
			low, high = min(low, v), max(high, v)
		}
	}
	if low > high {
		low, high = 0, 1
	}
	step := nice(max(high-low, math.Abs(high)*1e-3, 1e-9) / 5)
	s := scale{math.Floor(low/step) * step, math.Ceil(high/step) * step, step}
	if s.high <= s.low {
		s.high = s.low + step
	}
	s.low, s.high = max(s.low, min(least, low)), min(s.high, max(most, high))
	if s.low > 0 && s.low < 0.4*s.high { // near enough to show it all
		s.low = 0
	}
	return s
}

func (s scale) y(v float64) float64 {
	return plotBottom - (plotBottom-plotTop)*(v-s.low)/(s.high-s.low)
}

// ticks returns the values that the axis names.
func (s scale) ticks() []float64 {
	step := s.step
	for (s.high-s.low)/step > 8 {
		step *= 2
	}
	var list []float64
	for i := math.Ceil(s.low/step - 1e-6); i*step <= s.high+step*1e-6 && len(list) < 20; i++ {
		list = append(list, i*step+0) // no -0
	}
	return list
}

// nice returns 1, 2 or 5 times a power of ten, the first not below v.
func nice(v float64) float64 {
	if !(v > 0) {
		return 1
	}
	p := math.Pow(10, math.Floor(math.Log10(v)))
	for _, k := range []float64{1, 2, 5} {
		if k*p >= v*(1-1e-9) {
			return k * p
		}
	}
	return 10 * p
}

func coordinate(v float64) string { return strconv.FormatFloat(math.Round(v*10)/10, 'f', -1, 64) }

// short writes a number as people read it.
func short(v float64) string { return strconv.FormatFloat(v, 'g', 4, 64) }
