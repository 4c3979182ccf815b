package prep

import (
	"bytes"
	"errors"
	"image"
	"image/color"
	"image/png"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"dunlin/model"
)

func spec(edit func(*Input)) Input {
	s := Spec{Inputs: []Input{{Name: "x", Color: "gray", Width: 4, Height: 4, Scale: 1}}}
	s.setDefaults()
	edit(&s.Inputs[0])
	return s.Inputs[0]
}

func gray(w, h int, at func(x, y int) uint8) *image.Gray {
	g := image.NewGray(image.Rect(0, 0, w, h))
	for y := range h {
		for x := range w {
			g.SetGray(x, y, color.Gray{Y: at(x, y)})
		}
	}
	return g
}

func run(t *testing.T, in Input, img image.Image) []float32 {
	t.Helper()
	dst, err := model.NewTensor(model.F32, in.Shape()...)
	if err != nil {
		t.Fatal(err)
	}
	if err := in.Picture(img, dst); err != nil {
		t.Fatal(err)
	}
	return dst.F32()
}

// A picture of one value stays that value, whatever the sizes and the filter:
// the weights of every output pixel sum to one.
func TestPlainStaysPlain(t *testing.T) {
	for _, how := range []string{"bilinear", "nearest", "area"} {
		for _, size := range [][4]int{{1, 1, 7, 5}, {28, 28, 28, 28}, {641, 3, 17, 224}, {5, 1000, 300, 2}} {
			in := spec(func(in *Input) { in.Width, in.Height, in.Resize = size[2], size[3], how })
			for i, v := range run(t, in, gray(size[0], size[1], func(x, y int) uint8 { return 201 })) {
				if v != 201 {
					t.Fatalf("%s %v: pixel %d is %v", how, size, i, v)
				}
			}
		}
	}
}

func TestResize(t *testing.T) {
	ramp := gray(4, 1, func(x, _ int) uint8 { return []uint8{0, 100, 200, 40}[x] })
	for _, c := range []struct {
		how   string
		width int
		want  []float32
	}{
		{"nearest", 4, []float32{0, 100, 200, 40}},
		{"bilinear", 4, []float32{0, 100, 200, 40}},
		{"area", 4, []float32{0, 100, 200, 40}},
		{"area", 2, []float32{50, 120}},
		{"area", 1, []float32{85}},
		{"nearest", 2, []float32{100, 40}},
		{"nearest", 8, []float32{0, 0, 100, 100, 200, 200, 40, 40}},
		// 2 from 4: weights 6, 6, 2 of 14 and their mirror image.
		{"bilinear", 2, []float32{71, 117}},
		// 8 from 4: 1/4 and 3/4 of the neighbours.
		{"bilinear", 8, []float32{0, 25, 75, 125, 175, 160, 80, 40}},
	} {
		in := spec(func(in *Input) { in.Width, in.Height, in.Resize = c.width, 1, c.how })
		if got := run(t, in, ramp); !slices.Equal(got, c.want) {
			t.Errorf("%s to %d: %v, want %v", c.how, c.width, got, c.want)
		}
	}
}

// Both passes are the same filter: turning a picture turns the result, to the
// one step by which rounding between the passes can differ.
func TestResizeIsSymmetric(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 2))
	img := gray(37, 53, func(x, y int) uint8 { return uint8(rnd.IntN(256)) })
	turned := gray(53, 37, func(x, y int) uint8 { return img.GrayAt(y, x).Y })
	a := run(t, spec(func(in *Input) { in.Width, in.Height = 11, 90 }), img)
	b := run(t, spec(func(in *Input) { in.Width, in.Height = 90, 11 }), turned)
	for y := range 90 {
		for x := range 11 {
			if d := a[y*11+x] - b[x*90+y]; d > 1 || d < -1 {
				t.Fatalf("at %d,%d: %v and %v", x, y, a[y*11+x], b[x*90+y])
			}
		}
	}
}

func TestFit(t *testing.T) {
	wide := gray(8, 4, func(x, _ int) uint8 { return uint8(10 * x) })
	if got := run(t, spec(func(in *Input) { in.Fit, in.Resize = "crop", "nearest" }), wide)[:4]; !slices.Equal(got, []float32{20, 30, 40, 50}) {
		t.Errorf("crop: %v", got)
	}
	got := run(t, spec(func(in *Input) { in.Fit, in.Resize, in.Pad = "letterbox", "nearest", 9 }), wide)
	want := []float32{9, 9, 9, 9, 10, 30, 50, 70, 10, 30, 50, 70, 9, 9, 9, 9}
	if !slices.Equal(got, want) {
		t.Errorf("letterbox: %v, want %v", got, want)
	}
	if got := run(t, spec(func(in *Input) { in.Fit, in.Resize, in.Keep = "crop", "nearest", 0.5 }), wide)[:4]; !slices.Equal(got, []float32{30, 30, 40, 40}) {
		t.Errorf("crop, half kept: %v", got)
	}
}

func TestColorLayoutNormalise(t *testing.T) {
	img := image.NewRGBA(image.Rect(3, 3, 4, 4)) // an origin other than 0,0
	img.SetRGBA(3, 3, color.RGBA{10, 20, 30, 255})
	for _, c := range []struct {
		color, layout string
		want          []float32
	}{
		{"rgb", "nchw", []float32{9, 9, 7}},
		{"bgr", "nhwc", []float32{29, 9, 2}},
	} {
		in := spec(func(in *Input) {
			in.Color, in.Layout, in.Width, in.Height = c.color, c.layout, 1, 1
			in.Mean, in.Std = []float64{1, 2, 2}, []float64{1, 2, 4}
		})
		if got := run(t, in, img); !slices.Equal(got, c.want) {
			t.Errorf("%s %s: %v, want %v", c.color, c.layout, got, c.want)
		}
	}
	if got := run(t, spec(func(in *Input) { in.Width, in.Height = 1, 1 }), img); got[0] != (299*10+587*20+114*30+500)/1000 {
		t.Errorf("gray: %v", got)
	}
}

func TestPictureRefusesAnotherShape(t *testing.T) {
	dst, _ := model.NewTensor(model.F32, 1, 1, 4, 5)
	if err := spec(func(*Input) {}).Picture(gray(2, 2, func(x, y int) uint8 { return 0 }), dst); err == nil {
		t.Error("a tensor of another shape was filled")
	}
}

func TestDecodeLimits(t *testing.T) {
	var b bytes.Buffer
	if err := png.Encode(&b, gray(100, 100, func(x, y int) uint8 { return 0 })); err != nil {
		t.Fatal(err)
	}
	if _, err := Decode(b.Bytes(), Limits{}); err != nil {
		t.Error(err)
	}
	if _, err := Decode(b.Bytes(), Limits{MaxPixels: 9999}); !errors.Is(err, ErrTooLarge) {
		t.Errorf("too many pixels: %v", err)
	}
	if _, err := Decode(b.Bytes(), Limits{MaxBytes: 10}); !errors.Is(err, ErrTooLarge) {
		t.Errorf("too many bytes: %v", err)
	}
	if _, err := Decode(b.Bytes()[:b.Len()-20], Limits{}); err == nil {
		t.Error("half a file was decoded")
	}
}

func TestClasses(t *testing.T) {
	out := Output{Name: "y", Kind: "classes", Top: 3}
	scores := model.Of(model.F32, []float32{0.1, 0.4, 0.4, 0.05, 0.05}, 1, 5)
	got, err := out.Classes(scores, []string{"a", "b"}, map[string]string{"b": "http://e/b"}, nil)
	want := []Label{{1, "b", 0.4, "http://e/b"}, {2, "class 2", 0.4, ""}, {0, "a", 0.1, ""}}
	if err != nil || !slices.Equal(got, want) {
		t.Errorf("got %v, %v", got, err)
	}
	out.Softmax = true
	got, _ = out.Classes(model.Of(model.F32, []float32{1000, 1000}, 2), nil, nil, nil)
	if len(got) != 2 || got[0].Score != 0.5 {
		t.Errorf("softmax of equal large scores: %v", got)
	}
	nan := model.Of(model.F32, []float32{0, 0}, 2)
	nan.F32()[1] -= float32(inf()) - float32(inf())
	if _, err := out.Classes(nan, nil, nil, nil); err == nil {
		t.Error("NaN has a rank")
	}
}

func inf() float64 { v := 1e308; return v * 10 }

// Every file of testdata/bad-*.toml breaks one rule; its first line says which
// words the error must have.
func TestSpecRules(t *testing.T) {
	files, err := filepath.Glob("testdata/bad-*.toml")
	if err != nil || len(files) < 8 {
		t.Fatalf("%d files: %v", len(files), err)
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		first, _, _ := strings.Cut(string(text), "\n")
		want := strings.TrimPrefix(first, "# ")
		if _, err := ParseTOML(text); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v, want %q in it", file, err, want)
		}
	}
	good, err := os.ReadFile("testdata/good.toml")
	if err != nil {
		t.Fatal(err)
	}
	s, err := ParseTOML(good)
	if err != nil || s.Inputs[0].Width != 28 || s.Outputs[0].Top != 3 {
		t.Errorf("good.toml: %+v, %v", s, err)
	}
}

func FuzzParseJSON(f *testing.F) {
	f.Add([]byte(`{"inputs":[{"name":"x","width":2,"height":2}],"outputs":[{"name":"y"}]}`))
	f.Add([]byte(`{"inputs":[{"name":"x","color":"rgb","width":2,"height":2,"mean":[1,2,3],"std":[0,1,1]}]}`))
	f.Add([]byte(`{"inputs":[{"kind":"sound","sound":{"rate":8000,"features":"mfcc","frames":3,"frame_ms":9,"log":"ln"}}]}`))
	f.Add([]byte(`{"inputs":[{"kind":"sound","layout":"flat","sound":{"rate":8000,"features":"samples","frames":3,"level":"peak"}}]}`))
	f.Add([]byte(`{"inputs":[{"width":8,"height":8}],"outputs":[{"kind":"boxes","boxes":{"decoder":"fastestdet","tensors":["y"]}},{"kind":"text"}]}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		s, err := ParseJSON(text)
		if err != nil {
			return
		}
		for _, in := range s.Inputs {
			if in.Kind == "sound" {
				hearAnything(t, in)
				continue
			}
			if in.Width*in.Height > 1<<12 {
				continue
			}
			dst, err := model.NewTensor(model.F32, in.Shape()...)
			if err != nil {
				t.Fatal(err)
			}
			if err := in.Picture(gray(3, 5, func(x, y int) uint8 { return uint8(x * y) }), dst); err != nil {
				t.Fatal(err)
			}
		}
	})
}

// hearAnything fails where a Spec that Check lets through cannot be used on a
// short sound, within the time that fuzzing has.
func hearAnything(t *testing.T, in Input) {
	r := in.Rules
	if r.Range > 0 && r.FFT > 1<<10 { // then all frames count, not those of one window
		return
	}
	if int64(r.Frames)*int64(r.FFT+r.Width()*(1+r.Bins)) > 1<<18 || int64(r.Frames)*int64(r.hop()) > 1<<20 {
		return
	}
	dst, err := model.NewTensor(model.F32, in.Shape()...)
	if err != nil {
		t.Fatal(err)
	}
	if err := in.Sound(chirp(16000, 64), dst); err != nil {
		t.Fatal(err)
	}
}
