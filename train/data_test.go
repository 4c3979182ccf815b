package train

import (
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"dunlin/model"
)

// pictures returns n pictures of bytes, 2 channels of 3 x 4, each byte
// different in a picture.
func pictures(n int) *Data {
	c := Column{Shape: model.Shape{2, 3, 4}, Scale: 1.0 / 255, Mean: []float64{0.5, 0.25}, Std: []float64{0.5}}
	d := &Data{}
	for i := range n {
		for v := range 24 {
			c.Bytes = append(c.Bytes, uint8(10*v+i))
		}
		d.Classes = append(d.Classes, int32(i%3))
	}
	d.Inputs = []Column{c}
	return d
}

func TestBytesAreWhatPrepSays(t *testing.T) {
	d := pictures(1)
	table := d.Inputs[0].table()
	for c, mean := range d.Inputs[0].Mean {
		for v := range 256 {
			if want := float32((float64(v)*(1.0/255) - mean) / 0.5); table[c][v] != want {
				t.Fatalf("channel %d, byte %d: %v, want %v", c, v, table[c][v], want)
			}
		}
	}
}

// Every mirrored and moved picture is one of those that plain arithmetic gives,
// and all of them come up.
func TestMirrorShift(t *testing.T) {
	const h, w, shift = 3, 4, 2
	shape := model.Shape{2, h, w}
	from := make([]float32, 2*h*w)
	for i := range from {
		from[i] = float32(i + 1)
	}
	border := []float32{-1, -2}
	want := map[string]bool{}
	key := func(x []float32) string {
		var s strings.Builder
		for _, v := range x {
			s.WriteByte(byte('A' + int(v) + 2))
		}
		return s.String()
	}
	for _, mirror := range []bool{false, true} {
		for dy := -shift; dy <= shift; dy++ {
			for dx := -shift; dx <= shift; dx++ {
				x := make([]float32, len(from))
				for i := range x {
					c, row, col := i/(h*w), i/w%h-dy, i%w-dx
					if mirror {
						col = w - 1 - col
					}
					if x[i] = border[c]; row >= 0 && row < h && col >= 0 && col < w {
						x[i] = from[(c*h+row)*w+col]
					}
				}
				want[key(x)] = false
			}
		}
	}
	r, augment, scratch := rand.New(rand.NewPCG(1, 2)), MirrorShift(true, shift), make([]float32, len(from))
	plain := 0
	for range 3000 {
		x := slices.Clone(from)
		augment(r, shape, x, scratch, border)
		if _, ok := want[key(x)]; !ok {
			t.Fatalf("%v is none of them", x)
		}
		want[key(x)] = true
		if slices.Equal(x, from) {
			plain++
		}
	}
	for k, seen := range want {
		if !seen {
			t.Errorf("%q never came", k)
		}
	}
	if plain < 30 || plain > 100 { // 3000/50 = 60, 5 standard deviations
		t.Errorf("%d of 3000 were left as they are", plain)
	}
	x := slices.Clone(from)
	MirrorShift(false, 0)(r, shape, x, scratch, border)
	if !slices.Equal(x, from) {
		t.Errorf("nothing to do, and it became %v", x)
	}
}

func TestPart(t *testing.T) {
	d := pictures(10)
	d.Values = make([]float32, 20)
	d.Values[9] = 7
	p := d.Part(4, 7)
	if err := p.Check(); err != nil || p.Len() != 3 || p.Inputs[0].Bytes[0] != 4 || p.Classes[0] != 1 || p.Values[1] != 7 || p.Teacher != nil {
		t.Errorf("%d samples, %v: %+v", p.Len(), err, p)
	}
}

func TestDataRefused(t *testing.T) {
	for want, change := range map[string]func(*Data){
		"no samples":                func(d *Data) { d.Inputs = nil },
		"want one":                  func(d *Data) { d.Inputs[0].Floats = make([]float32, 24) },
		"a sample has shape":        func(d *Data) { d.Inputs = append(d.Inputs, Column{Shape: model.Shape{3, 0}}) },
		"want 216":                  func(d *Data) { d.Inputs[0].Bytes = d.Inputs[0].Bytes[:239] },
		"without a scale":           func(d *Data) { d.Inputs[0].Scale = 0 },
		"holds 0":                   func(d *Data) { d.Inputs[0].Std = []float64{1, 0} },
		"3 means for 2 channels":    func(d *Data) { d.Inputs[0].Mean = make([]float64, 3) },
		"9 classes for 10":          func(d *Data) { d.Classes = d.Classes[1:] },
		"7 target values for 10":    func(d *Data) { d.Values = make([]float32, 7) },
		"12 teacher values for 10 ": func(d *Data) { d.Teacher = make([]float32, 12) },
	} {
		d := pictures(10)
		change(d)
		if err := d.Check(); err == nil || !strings.Contains(err.Error(), strings.TrimSpace(want)) {
			t.Errorf("%v, want %q", err, want)
		}
	}
}

// TestSample: a byte means what the column says, channel by channel.
func TestSample(t *testing.T) {
	d := &Data{Inputs: []Column{{Shape: model.Shape{2, 1, 2}, Bytes: []byte{9, 9, 9, 9, 0, 10, 20, 30}, Scale: .1, Mean: []float64{1, 2}, Std: []float64{.5, 2}}}}
	if got := d.Sample(1); len(got) != 1 || !slices.Equal(got[0], []float32{-2, 0, 0, .5}) {
		t.Errorf("%v", got)
	}
}
