// Package chart draws measurements as a picture: points with intervals over
// two axes, as SVG. Start with Scatter, or with ReadFront for what the report of
// a pack tells.
//
// The picture needs no style sheet, no script and no font of its own: text and
// axes have the colour of the text around it, and the colours of points are
// legible on white and on black. Its promise: the same points give the same
// bytes, and no name in them can leave the text it stands in.
//
// It measures nothing and rounds for display only.
package chart

import (
	"cmp"
	"fmt"
	"html"
	"math"
	"strconv"
	"strings"
)

// Mark is how a point looks.
type Mark string

// The marks.
const (
	Good   Mark = "good"   // kept its promise
	Bad    Mark = "bad"    // did not
	Chosen Mark = "chosen" // good, and named in the picture
)

var colours = map[Mark]string{Good: "#2b9b62", Bad: "#d64545", Chosen: "#2f6fde"}

// Point is one measurement.
type Point struct {
	X, Y      float64
	Low, High float64 // the interval of Y; none where they are equal
	Name      string  // shown when a pointer rests on it, of a Chosen point beside it
	Mark      Mark    // "" is Good
}

// Axis is one axis.
type Axis struct {
	Label string // with the unit
	Zero  bool   // begins at 0
	Log   bool   // equal ratios are equally far apart; for values over 0, and of X
}

// Scatter is a picture of points.
type Scatter struct {
	Title  string // read out where the picture is not seen
	X, Y   Axis
	Points []Point
	Limit  *float64 // a value of Y that no interval may pass, drawn as a line
	Note   string   // beside that line

	// Width and Height are the picture's own units, in which a letter is 12
	// high; 0 is 640 and 340. It is drawn as wide as there is room.
	Width, Height float64
}

const (
	usualWidth, usualHeight  = 640.0, 340.0
	left, right, top, bottom = 64.0, 16.0, 16.0, 48.0
	marksWanted              = 6
)

// scale maps values to places.
type scale struct {
	low, high, step float64
	from, to        float64
	log             bool
}

func (s scale) at(v float64) float64 {
	if s.log {
		return s.from + math.Log(v/s.low)/math.Log(s.high/s.low)*(s.to-s.from)
	}
	return s.from + (v-s.low)/(s.high-s.low)*(s.to-s.from)
}

// newScale covers values with round numbers, at least two of them.
func newScale(values []float64, zero bool, from, to float64) scale {
	low, high := math.Inf(1), math.Inf(-1)
	for _, v := range values {
		low, high = min(low, v), max(high, v)
	}
	if zero {
		low = min(0, low)
	}
	if !(low <= high) || math.IsInf(high-low, 0) {
		low, high = 0, 1
	}
	if high-low <= max(math.Abs(high)*1e-9, 1e-12) { // nobody reads that many decimals, and a step must not be 0
		pad := max(math.Abs(high)*0.01, 1e-9)
		low, high = low-pad, high+pad
	}
	step := roundStep((high - low) / marksWanted)
	return scale{low: math.Floor(low/step) * step, high: math.Ceil(high/step) * step, step: step, from: from, to: to}
}

// newLogScale covers values over 0 with 1, 2 or 5 times a power of ten at both
// ends.
func newLogScale(values []float64, from, to float64) scale {
	low, high := math.Inf(1), 0.0
	for _, v := range values {
		low, high = min(low, v), max(high, v)
	}
	if !(low > 0) || !(low <= high) || high/low > 1e6 || low < 1e-9 || high > 1e15 {
		return newScale(values, true, from, to)
	}
	s := scale{low: roundStep(low), high: roundStep(high * 1.02), from: from, to: to, log: true}
	if s.low > low {
		s.low = roundStep(low / 2.5)
	}
	if s.high <= s.low {
		s.high = roundStep(s.low * 1.5)
	}
	return s
}

// marks are the values that stand beside an axis.
func (s scale) marks() (all []float64) {
	if s.log {
		for v := s.low; v <= s.high*(1+1e-9); v = roundStep(v * 1.5) {
			all = append(all, v)
		}
		return all
	}
	for i := 0; ; i++ {
		v := s.low + float64(i)*s.step
		if v > s.high+s.step/2 {
			return all
		}
		all = append(all, v)
	}
}

// text prints a mark.
func (s scale) text(v float64) string {
	if s.log {
		return strconv.FormatFloat(v, 'g', 6, 64)
	}
	return strconv.FormatFloat(v, 'f', s.digits(), 64)
}

// roundStep returns the least of 1, 2 and 5 times a power of ten that is v or
// more.
func roundStep(v float64) float64 {
	power := math.Pow(10, math.Floor(math.Log10(v)))
	for _, m := range []float64{1, 2, 5} {
		if m*power >= v*(1-1e-9) {
			return m * power
		}
	}
	return 10 * power
}

// digits is how many decimals tell the marks of a scale apart.
func (s scale) digits() int { return max(0, int(math.Ceil(-math.Log10(s.step)-1e-9))) }

// SVG returns the picture. Points that no axis can show are left out.
func (c Scatter) SVG() string {
	c.Width, c.Height = cmp.Or(c.Width, usualWidth), cmp.Or(c.Height, usualHeight)
	var points []Point
	var xs, ys []float64
	for _, p := range c.Points {
		if !finite(p.X) || !finite(p.Y) || !finite(p.Low) || !finite(p.High) {
			continue
		}
		points = append(points, p)
		xs, ys = append(xs, p.X), append(ys, p.Y)
		if p.Low != p.High {
			ys = append(ys, p.Low, p.High)
		}
	}
	if c.Limit != nil && finite(*c.Limit) {
		ys = append(ys, *c.Limit)
	}
	x := newScale(xs, c.X.Zero, left, c.Width-right)
	if c.X.Log {
		x = newLogScale(xs, left, c.Width-right)
	}
	y := newScale(ys, c.Y.Zero, c.Height-bottom, top)
	var b strings.Builder
	fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %g %g" role="img" aria-label="%s" font-family="system-ui, sans-serif" font-size="12" fill="currentColor">`,
		c.Width, c.Height, html.EscapeString(c.Title))
	c.axes(&b, x, y)
	if c.Limit != nil && finite(*c.Limit) {
		c.limit(&b, y)
	}
	for _, p := range points {
		if p.Mark != Chosen {
			p.draw(&b, x, y)
		}
	}
	for _, p := range points { // on top of the others
		if p.Mark == Chosen {
			p.draw(&b, x, y)
			p.name(&b, points, x, y)
		}
	}
	b.WriteString("</svg>")
	return b.String()
}

// finite leaves out numbers that are infinite, and those so large that the end
// of an axis could be.
func finite(v float64) bool { return math.Abs(v) < 1e30 }

// axes draws both axes with their marks.
func (c Scatter) axes(b *strings.Builder, x, y scale) {
	line := func(x1, y1, x2, y2, opacity float64) {
		fmt.Fprintf(b, `<line x1="%.1f" y1="%.1f" x2="%.1f" y2="%.1f" stroke="currentColor" stroke-opacity="%g"/>`, x1, y1, x2, y2, opacity)
	}
	text := func(px, py float64, anchor, s string) {
		fmt.Fprintf(b, `<text x="%.1f" y="%.1f" text-anchor="%s">%s</text>`, px, py, anchor, html.EscapeString(s))
	}
	for _, v := range x.marks() {
		line(x.at(v), y.from, x.at(v), y.from+4, 0.6)
		text(x.at(v), y.from+18, "middle", x.text(v))
	}
	for _, v := range y.marks() {
		line(left, y.at(v), x.to, y.at(v), 0.15)
		text(left-6, y.at(v)+4, "end", y.text(v))
	}
	line(left, y.from, x.to, y.from, 0.6)
	line(left, top, left, y.from, 0.6)
	text((left+x.to)/2, c.Height-8, "middle", c.X.Label)
	fmt.Fprintf(b, `<text transform="translate(14 %.1f) rotate(-90)" text-anchor="middle">%s</text>`, (top+y.from)/2, html.EscapeString(c.Y.Label))
}

// limit draws the line that no interval may pass.
func (c Scatter) limit(b *strings.Builder, y scale) {
	at := y.at(*c.Limit)
	fmt.Fprintf(b, `<line x1="%g" y1="%.1f" x2="%g" y2="%.1f" stroke="%s" stroke-dasharray="5 4"/>`, left, at, c.Width-right, at, colours[Bad])
	fmt.Fprintf(b, `<text x="%g" y="%.1f" text-anchor="start" fill="%s">%s</text>`, left+6, at-5, colours[Bad], html.EscapeString(c.Note))
}

// draw draws a point with its interval.
func (p Point) draw(b *strings.Builder, x, y scale) {
	colour, radius := colours[p.Mark], 4.5
	if colour == "" {
		colour = colours[Good]
	}
	if p.Mark == Chosen {
		radius = 6.5
	}
	px, py := x.at(p.X), y.at(p.Y)
	fmt.Fprintf(b, `<g fill="%s" stroke="%s"><title>%s</title>`, colour, colour, html.EscapeString(p.Name))
	if p.Low != p.High {
		low, high := y.at(p.Low), y.at(p.High)
		fmt.Fprintf(b, `<path d="M%.1f %.1fV%.1fM%.1f %.1fh8M%.1f %.1fh8" stroke-width="1.5" fill="none"/>`, px, low, high, px-4, low, px-4, high)
	}
	fmt.Fprintf(b, `<circle cx="%.1f" cy="%.1f" r="%g"/></g>`, px, py, radius)
}

// name writes a point's name, above the intervals of all that stand where it
// does.
func (p Point) name(b *strings.Builder, all []Point, x, y scale) {
	const letter = 6.5 // about as wide as one is
	px, length := x.at(p.X), letter*float64(len(p.Name))
	anchor, dx, from := "start", -4.0, px
	if px > (x.from+x.to)/2 {
		anchor, dx, from = "end", 4, px-length
	}
	above := y.at(p.Y)
	for _, q := range all {
		if qx := x.at(q.X); qx > from-letter && qx < from+length+letter {
			above = min(above, y.at(max(q.Y, q.High)))
		}
	}
	fmt.Fprintf(b, `<text x="%.1f" y="%.1f" text-anchor="%s" font-weight="600" fill="%s">%s</text>`,
		px+dx, max(top+2, above-10), anchor, colours[Chosen], html.EscapeString(p.Name))
}
