package chart

import (
	"encoding/xml"
	"errors"
	"io"
	"math"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// elements parses a picture and returns its elements of one name.
func elements(t *testing.T, svg, name string) (all []map[string]string) {
	t.Helper()
	d := xml.NewDecoder(strings.NewReader(svg))
	for {
		tok, err := d.Token()
		if errors.Is(err, io.EOF) {
			return all
		}
		if err != nil {
			t.Fatalf("%v in %s", err, svg)
		}
		if e, ok := tok.(xml.StartElement); ok && e.Name.Local == name {
			m := map[string]string{}
			for _, a := range e.Attr {
				m[a.Name.Local] = a.Value
			}
			all = append(all, m)
		}
	}
}

func number(t *testing.T, s string) float64 {
	t.Helper()
	v, err := strconv.ParseFloat(s, 64)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// TestPlaces: points stand in the order of their values, inside the axes, and
// the limit stands where a point of its value does.
func TestPlaces(t *testing.T) {
	limit := 90.5
	c := Scatter{Title: "t", X: Axis{Label: "KiB", Zero: true}, Y: Axis{Label: "%"}, Limit: &limit, Note: "limit", Points: []Point{
		{X: 100, Y: 92, Low: 91.8, High: 92.1, Name: "a"},
		{X: 50, Y: 91, Low: 90.2, High: 91.5, Name: "b", Mark: Bad},
		{X: 25, Y: 90.5, Low: 90.5, High: 90.5, Name: "c", Mark: Chosen},
	}}
	svg := c.SVG()
	if svg != c.SVG() {
		t.Error("two pictures of the same points differ")
	}
	dots := elements(t, svg, "circle")
	if len(dots) != 3 {
		t.Fatalf("%d points", len(dots))
	}
	for i := 1; i < 3; i++ {
		if number(t, dots[i]["cx"]) >= number(t, dots[i-1]["cx"]) || number(t, dots[i]["cy"]) <= number(t, dots[i-1]["cy"]) {
			t.Errorf("point %d at %v, the one before at %v", i, dots[i], dots[i-1])
		}
	}
	for _, d := range dots {
		if x, y := number(t, d["cx"]), number(t, d["cy"]); x < left || x > usualWidth-right || y < top || y > usualHeight-bottom {
			t.Errorf("a point at %v %v lies outside the axes", x, y)
		}
	}
	found := false
	for _, l := range elements(t, svg, "line") {
		found = found || l["stroke-dasharray"] != "" && l["y1"] == dots[2]["cy"]
	}
	if !found {
		t.Error("the limit is not where a point of its value is")
	}
	if n := len(elements(t, svg, "path")); n != 2 {
		t.Errorf("%d intervals, want 2", n)
	}
}

func TestOddPoints(t *testing.T) {
	for name, points := range map[string][]Point{
		"none":    nil,
		"one":     {{X: 5, Y: 5, Low: 5, High: 5}},
		"zero":    {{}, {}},
		"nan":     {{X: math.NaN(), Y: 1}, {X: 1, Y: math.Inf(1)}, {X: 1, Y: 1, Low: 1, High: 1}},
		"tiny":    {{X: 1e-12, Y: 1}, {X: 2e-12, Y: 1}},
		"huge":    {{X: -1e300, Y: 1}, {X: 1e300, Y: 1}},
		"hostile": {{X: 1, Y: 1, Mark: Chosen, Name: `</title><script>"&'`}},
	} {
		svg := Scatter{Title: `<&">`, Note: "<", X: Axis{Label: "<"}, Y: Axis{Label: "&"}, Points: points}.SVG()
		if strings.Contains(svg, "NaN") || strings.Contains(svg, "Inf") {
			t.Errorf("%s: %s", name, svg)
		}
		svg += Scatter{X: Axis{Log: true}, Points: points}.SVG()
		if n := len(elements(t, "<g>"+svg+"</g>", "script")); n != 0 {
			t.Errorf("%s: a name became an element", name)
		}
	}
}

func TestRoundStep(t *testing.T) {
	for _, c := range [][2]float64{{1, 1}, {1.1, 2}, {2.5, 5}, {5.1, 10}, {0.03, 0.05}, {700, 1000}} {
		if got := roundStep(c[0]); math.Abs(got-c[1]) > 1e-9*c[1] {
			t.Errorf("%v: %v, want %v", c[0], got, c[1])
		}
	}
}

// TestLog: equal ratios are equally far apart, between round numbers.
func TestLog(t *testing.T) {
	c := Scatter{X: Axis{Log: true}, Points: []Point{{X: 45, Y: 1}, {X: 90, Y: 1}, {X: 180, Y: 1}}}
	dots := elements(t, c.SVG(), "circle")
	at := func(i int) float64 { return number(t, dots[i]["cx"]) }
	if d := (at(2) - at(1)) - (at(1) - at(0)); math.Abs(d) > 0.2 || at(0) < left {
		t.Errorf("at %v, %v and %v", at(0), at(1), at(2))
	}
	s := newLogScale([]float64{45, 180}, 0, 1)
	if m := s.marks(); !slices.EqualFunc(m, []float64{20, 50, 100, 200}, func(a, b float64) bool { return math.Abs(a-b) < 1e-6 }) {
		t.Errorf("marks %v", m)
	}
}
