package chart

import (
	"errors"
	"fmt"
	"strings"
	"testing"
)

const aReport = `{"bytes":{"before":1},"certificate":{"measure":"accuracy","max_drop":0.01,"bound":"bernstein","float_accuracy":0.92,"chosen":1,"front":[
{"name":"float32","bytes":326000,"certified":true,"median_ms":0.05},
{"name":"15 int8","bytes":87000,"drop":0.002,"bernstein":0.006,"exact":0.004,"gain":0.001,"certified":true,"median_ms":0.02},
{"name":"15 <int4>","bytes":50000,"drop":0.012,"bernstein":0.019,"exact":0.016,"certified":false,"median_ms":0.02}]}}`

func TestFront(t *testing.T) {
	f, err := ReadFront([]byte(aReport))
	if err != nil {
		t.Fatal(err)
	}
	s := f.Size()
	if len(s.Points) != 3 || *s.Limit != 91 || s.Y.Label != "accuracy, %" {
		t.Errorf("%d points, limit %v, %q", len(s.Points), *s.Limit, s.Y.Label)
	}
	for i, want := range []string{"good 92.00 [92.00 92.00]", "chosen 91.80 [91.40 92.10]", "bad 90.80 [90.10 92.00]"} {
		p := s.Points[i]
		if got := fmt.Sprintf("%s %.2f [%.2f %.2f]", p.Mark, p.Y, p.Low, p.High); got != want {
			t.Errorf("point %d is %s, want %s", i, got, want)
		}
	}
	if svg := s.SVG(); !strings.Contains(svg, ">15 &lt;int4&gt;<") || strings.Contains(svg, "<int4>") {
		t.Errorf("a name is not escaped: %s", svg)
	}
	f.Bound, f.Measure, f.FloatAccuracy = "exact", "agreement", nil
	if p := f.Time().Points[1]; p.X != 0.02 || p.Low != 100*(1-0.004) || p.High != p.Y {
		t.Errorf("agreement by the exact bound: %+v", p)
	}
	s.Width, s.Height = 400, 300
	if box := elements(t, s.SVG(), "svg")[0]["viewBox"]; box != "0 0 400 300" {
		t.Errorf("a small picture has the box %s", box)
	}
}

func TestNoFront(t *testing.T) {
	many := `{"certificate":{"front":[` + strings.Repeat(`{},`, maxFront) + `{}]}}`
	for text, want := range map[string]error{`{}`: ErrNoFront, `{"certificate":{"chosen":-1,"front":[]}}`: ErrNoFront, `{"certificate":[]}`: nil, many: nil, ``: nil} {
		if _, err := ReadFront([]byte(text)); err == nil || want != nil && !errors.Is(err, want) {
			t.Errorf("%.40s: %v", text, err)
		}
	}
}

// FuzzReadFront: whatever a report holds, the picture is XML without a script.
func FuzzReadFront(f *testing.F) {
	f.Add([]byte(aReport))
	f.Add([]byte(`{"certificate":{"float_accuracy":0,"front":[{"name":"a","drop":5e-324},{"name":"b","median_ms":1e308,"bytes":-9223372036854775808}]}}`))
	f.Fuzz(func(t *testing.T, report []byte) {
		front, err := ReadFront(report)
		if err != nil {
			return
		}
		for _, s := range []Scatter{front.Size(), front.Time()} {
			if len(elements(t, s.SVG(), "script")) != 0 {
				t.Error("a script")
			}
		}
	})
}
