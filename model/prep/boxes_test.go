package prep

import (
	"image"
	"image/color"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"dunlin/model"
)

// What Picture draws into the input at some place, Place finds again on the
// picture: a white rectangle on black, for each fit.
func TestPlaceIsWherePictureDraws(t *testing.T) {
	for _, fit := range []string{"stretch", "crop", "letterbox"} {
		for _, size := range [][2]int{{400, 100}, {100, 400}, {64, 64}, {311, 257}} {
			w, h := size[0], size[1]
			part := image.Rect(w*2/5, h*2/5, w*3/5, h*7/10)
			img := gray(w, h, func(x, y int) uint8 {
				if (image.Point{x, y}).In(part) {
					return 255
				}
				return 0
			})
			in := spec(func(in *Input) {
				in.Fit, in.Resize, in.Width, in.Height = fit, "nearest", 128, 96
				if fit == "crop" {
					in.Keep = 0.875
				}
			})
			var seen image.Rectangle
			for i, v := range run(t, in, img) {
				if v == 255 {
					seen = seen.Union(image.Rect(i%128, i/128, i%128+1, i/128+1))
				}
			}
			at := in.Place(w, h)
			x0, y0 := at.point(float64(seen.Min.X), float64(seen.Min.Y))
			x1, y1 := at.point(float64(seen.Max.X), float64(seen.Max.Y))
			stepX, stepY := at.point(1, 1)
			zeroX, zeroY := at.point(0, 0)
			stepX, stepY = stepX-zeroX+0.01, stepY-zeroY+0.01 // one pixel of the input
			visible := part.Intersect(image.Rect(at.from.x0, at.from.y0, at.from.x1, at.from.y1))
			for _, d := range []float64{
				(x0 - float64(visible.Min.X)) / stepX, (x1 - float64(visible.Max.X)) / stepX,
				(y0 - float64(visible.Min.Y)) / stepY, (y1 - float64(visible.Max.Y)) / stepY,
			} {
				if math.Abs(d) > 1 {
					t.Errorf("%s %v: found %.1f,%.1f %.1f,%.1f, drawn %v", fit, size, x0, y0, x1, y1, visible)
					break
				}
			}
		}
	}
}

func TestSuppress(t *testing.T) {
	one := func(class int, score, x0, x1 float64) found {
		return found{class: class, score: score, x0: x0, x1: x1, y1: 10}
	}
	list := []found{
		one(0, 0.6, 100, 110), // of equal scores the first stays
		one(0, 0.6, 102, 112),
		one(0, 0.9, 0, 10),
		one(0, 0.8, 3, 13), // shares 7/13 with the one before
		one(1, 0.7, 1, 11), // another class
		one(0, 0.5, 50, 50),
		one(0, 0.5, 60, 50),
	}
	for _, c := range []struct {
		overlap float64
		across  bool
		top     int
		want    []float64
	}{
		{0.5, false, 9, []float64{0, 1, 100}},
		{0.5, true, 9, []float64{0, 100}},
		{0.54, false, 9, []float64{0, 3, 1, 100}},
		{1, true, 9, []float64{0, 3, 1, 100, 102}},
		{0.5, false, 2, []float64{0, 1}},
	} {
		var got []float64
		for _, f := range suppress(slices.Clone(list), c.overlap, c.across, c.top) {
			got = append(got, f.x0)
		}
		if !slices.Equal(got, c.want) {
			t.Errorf("%+v: got %v", c, got)
		}
	}
}

func ultra(labels []string, entities map[string]string, scores, corners []float32, fit func(*Input)) ([]Box, error) {
	n := len(corners) / 4
	in := Input{Width: 100, Height: 100}
	if fit != nil {
		fit(&in)
	}
	out := Output{Kind: "boxes", Top: 10, Box: &BoxRules{Decoder: "ultraface", Score: 0.5, Overlap: 0.5}}
	return out.Boxes([]*model.Tensor{model.Of(model.F32, scores, 1, n, len(scores)/n), model.Of(model.F32, corners, 1, n, 4)},
		in.Place(400, 200), labels, entities, nil)
}

func TestBoxes(t *testing.T) {
	got, err := ultra([]string{"cat", "dog"}, map[string]string{"dog": "http://e/dog"},
		[]float32{0.1, 0.6, 0.3, 0.1, 0.2, 0.7, 0.5, 0.4, 0.1},
		[]float32{0.25, 0.5, 0.5, 0.75, -1, 0, 2, 1, 0, 0, 1, 1}, nil)
	if err != nil || len(got) != 2 {
		t.Fatalf("%v, %v", got, err)
	}
	if b := got[0]; b.Label != "dog" || b.Index != 1 || b.Entity != "http://e/dog" || b.X0 != 0 || b.X1 != 400 || b.Y0 != 0 || b.Y1 != 200 {
		t.Errorf("a box beyond the picture: %+v", b)
	}
	if b := got[1]; b.Label != "cat" || b.X0 != 100 || b.Y0 != 100 || b.X1 != 200 || b.Y1 != 150 {
		t.Errorf("stretched: %+v", b)
	}
	got, err = ultra(nil, nil, []float32{0, 1}, []float32{0.25, 0.5, 0.5, 0.75}, func(in *Input) { in.Fit = "letterbox" })
	if err != nil || got[0].Label != "class 0" || got[0].X0 != 100 || got[0].X1 != 200 || got[0].Y0 != 100 || got[0].Y1 != 200 {
		t.Errorf("letterbox: %+v, %v", got, err)
	}
}

func TestBoxesRefuse(t *testing.T) {
	nan := float32(math.NaN())
	for _, c := range []struct {
		name            string
		scores, corners []float32
		want            string
	}{
		{"a score", []float32{0, nan}, []float32{0, 0, 1, 1}, "score of box 0 is not a number"},
		{"a corner", []float32{0, 1}, []float32{0, 0, 1, nan}, "a corner or a point is not a number"},
		{"one class", []float32{1}, []float32{0, 0, 1, 1}, "want float32 [1, N, C]"},
	} {
		if _, err := ultra(nil, nil, c.scores, c.corners, nil); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v", c.name, err)
		}
	}
	out := Output{Kind: "boxes", Top: 1, Box: &BoxRules{Decoder: "yunet", Score: 0.5, Overlap: 0.5}}
	at := Input{Width: 64, Height: 64}.Place(64, 64)
	if _, err := out.Boxes(nil, at, nil, nil, nil); err == nil || !strings.Contains(err.Error(), "0 tensors, want 12") {
		t.Error(err)
	}
	tensors := slices.Repeat([]*model.Tensor{model.Of(model.F32, make([]float32, 64), 1, 64, 1)}, 12)
	if _, err := out.Boxes(tensors, at, nil, nil, nil); err == nil || !strings.Contains(err.Error(), "want float32 [1, 64, 4]") {
		t.Error(err)
	}
	if _, err := out.Boxes(tensors, Input{Width: 60, Height: 64}.Place(1, 1), nil, nil, nil); err == nil || !strings.Contains(err.Error(), "multiples of 8") {
		t.Error(err)
	}
	if _, err := out.Classes(tensors[0], nil, nil, nil); err == nil {
		t.Error("boxes were read as classes")
	}
	if _, err := (Output{Kind: "classes"}).Boxes(tensors, at, nil, nil, nil); err == nil {
		t.Error("classes were read as boxes")
	}
}

// Whatever bits a network answers, its boxes lie within the picture, in the
// order of their scores, or there is an error.
func FuzzBoxes(f *testing.F) {
	shapes := map[string][][]int{
		"fastestdet": {{1, 8, 3, 3}},
		"ultraface":  {{1, 40, 3}, {1, 40, 4}},
		"blazeface":  {{1, 128, 1}, {1, 96, 1}, {1, 128, 16}, {1, 96, 16}},
		"yunet": {
			{1, 64, 1},
			{1, 16, 1},
			{1, 4, 1},
			{1, 64, 1},
			{1, 16, 1},
			{1, 4, 1},
			{1, 64, 4},
			{1, 16, 4},
			{1, 4, 4},
			{1, 64, 10},
			{1, 16, 10},
			{1, 4, 10},
		},
	}
	f.Add(uint64(1), uint8(0), uint16(500), uint16(300))
	f.Add(uint64(2), uint8(1), uint16(1), uint16(9))
	f.Add(uint64(3), uint8(2), uint16(9), uint16(1))
	f.Fuzz(func(t *testing.T, seed uint64, fit uint8, w, h uint16) {
		w, h = w%maxPicture+1, h%maxPicture+1
		rnd := rand.New(rand.NewPCG(seed, 7))
		in := Input{Width: 64, Height: 64, Fit: []string{"stretch", "crop", "letterbox"}[fit%3], Keep: 1}
		for name, list := range shapes {
			var tensors []*model.Tensor
			for _, shape := range list {
				x, err := model.NewTensor(model.F32, shape...)
				if err != nil {
					t.Fatal(err)
				}
				for i := range x.F32() {
					x.F32()[i] = rnd.Float32()
					if seed%5 != 0 && rnd.IntN(8) == 0 {
						x.F32()[i] = math.Float32frombits(rnd.Uint32())
					}
				}
				tensors = append(tensors, x)
			}
			out := Output{Kind: "boxes", Top: 20, Box: &BoxRules{Decoder: name, Score: 0.3, Overlap: 0.5}}
			boxes, err := out.Boxes(tensors, in.Place(int(w), int(h)), nil, nil, nil)
			if err != nil {
				continue
			}
			for i, b := range boxes {
				inside := 0 <= b.X0 && b.X0 <= b.X1 && b.X1 <= float32(w) && 0 <= b.Y0 && b.Y0 <= b.Y1 && b.Y1 <= float32(h)
				if !inside || b.Score < 0.3 || i > 0 && boxes[i-1].Score < b.Score || len(boxes) > 20 {
					t.Fatalf("%s: box %d of %d: %+v", name, i, len(boxes), b)
				}
			}
			Draw(gray(8, 8, func(x, y int) uint8 { return 0 }), boxes)
		}
	})
}

func TestDraw(t *testing.T) {
	img := image.NewRGBA(image.Rect(10, 10, 110, 70)) // an origin other than 0,0
	for i := range img.Pix {
		img.Pix[i] = 200
	}
	before := slices.Clone(img.Pix)
	got := Draw(img, []Box{{Label: "I", Score: 1, X0: 20, Y0: 20, X1: 60, Y1: 50, Points: []Point{{90, 60}}}})
	if !slices.Equal(img.Pix, before) {
		t.Error("the picture itself was changed")
	}
	if got.Bounds() != image.Rect(0, 0, 100, 60) {
		t.Fatal(got.Bounds())
	}
	line, black, plain := color.RGBA(palette[0]), color.RGBA{A: 255}, color.RGBA{200, 200, 200, 200}
	for p, want := range map[image.Point]color.RGBA{
		{20, 30}: line, {59, 30}: line, {40, 20}: line, {40, 49}: line, // the four sides
		{40, 30}: plain, {60, 30}: plain, {40, 50}: plain, // inside and beyond
		{90, 60 - 1}: line, {85, 59}: plain, // the point
		{20, 11}: line, {21 + 2, 12}: black, {21 + 2, 18}: black, {21, 15}: line, {19, 15}: plain, // the plate and its I
	} {
		if c := got.At(p.X, p.Y).(color.RGBA); c != want {
			t.Errorf("at %v: %v, want %v", p, c, want)
		}
	}
	// What does not fit is cut off, not an error.
	Draw(img, []Box{{Label: strings.Repeat("ab½", 99), X0: -5, Y0: -5, X1: 1e9, Y1: float32(math.Inf(1)), Points: []Point{{float32(math.NaN()), -1e30}}}})
	Draw(image.NewGray(image.Rect(0, 0, 1, 1)), []Box{{Label: "x", X1: 1, Y1: 1}})
}

// Each character has a picture of its own, of seven lines.
func TestGlyphs(t *testing.T) {
	seen := map[string]rune{}
	for c := ' '; c <= '~'; c++ {
		g := glyph(c)
		if len(g) != glyphWidth || strings.ContainsFunc(g, func(r rune) bool { return r > 0x7f }) {
			t.Errorf("%q: %x", c, g)
		}
		if other, twice := seen[g]; twice {
			t.Errorf("%q looks like %q", c, other)
		}
		seen[g] = c
	}
	if len(glyphs) != ('~'-' '+1)*glyphWidth || glyph('é') != noGlyph || glyph('\n') != noGlyph {
		t.Error("the table has another length")
	}
}

// What lies at a place of the input lies there on the picture, and back.
func TestPlaceInput(t *testing.T) {
	for _, fit := range []string{"stretch", "crop", "letterbox"} {
		p := Input{Width: 320, Height: 240, Fit: fit, Keep: 0.875}.Place(1000, 517)
		for _, at := range [][2]float64{{0, 0}, {160, 120}, {17.5, 200.25}} {
			x, y := p.Input(p.point(at[0], at[1]))
			if math.Abs(x-at[0]) > 1e-9 || math.Abs(y-at[1]) > 1e-9 {
				t.Errorf("%s: %v became %v, %v", fit, at, x, y)
			}
		}
	}
}
