package prep

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"math"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"

	"dunlin/model"
)

// chirp is noise of a linear congruential generator, of 16 bits, that grows
// and ebbs away; integers only, so that it is the same everywhere.
func chirp(rate, n int) Sound {
	s := Sound{rate, make([]float32, n)}
	state := uint32(1)
	for i := range s.Samples {
		state = state*1664525 + 1013904223
		level := min(i, n-i)
		s.Samples[i] = float32(int(state>>16)-1<<15) / (1 << 15) * float32(level) / float32(n)
	}
	return s
}

// One hash for every CPU. It covers sine, logarithm, exponential, transform, bands and resampling.
func TestSoundIsTheSameBitsEverywhere(t *testing.T) {
	h := sha256.New()
	for _, rules := range []SoundRules{
		{Rate: 16000, Features: "mfcc", Frames: 49, Level: "peak", FrameMS: 30, HopMS: 20, Power: 1, Low: 20, High: 4000, Log: "ln", Add: 1e-6, DCT: "ortho"},
		{Rate: 16000, Features: "mel", Frames: 30, FrameMS: 64, Window: "hamming", Mel: "slaney", Bins: 128, Log: "db", Range: 60},
		{Rate: 11025, Features: "spectrum", Frames: 20, FrameMS: 20, Log: "log10"},
		{Rate: 44100, Features: "samples", Frames: 40000, Gain: 32768},
	} {
		in := sound(t, "nchw", rules)
		f, err := in.Frames(chirp(22050, 22050))
		if err != nil {
			t.Fatal(err)
		}
		binary.Write(h, binary.LittleEndian, f.Values)
	}
	for x := -30.0; x < 30; x += 0.37 {
		binary.Write(h, binary.LittleEndian, []float64{exp(x), ln(x * x), sinPi(x), cosPi(x), tanh(x)})
	}
	const want = "3abaafbe551203e6"
	if got := fmt.Sprintf("%x", h.Sum(nil)[:8]); got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

// A tone lies in the band around it, and is as loud as its amplitude says: a
// periodic Hann window sums to half its length, so the line has n/4.
func TestTone(t *testing.T) {
	in := sound(t, "ntf", SoundRules{Rate: 16000, Features: "spectrum", Frames: 3, FrameMS: 32, Power: 1})
	f, err := in.Frames(tone(16000, 4000, 1000))
	if err != nil {
		t.Fatal(err)
	}
	row := f.Values[f.Width : 2*f.Width]
	if best := slices.Index(row, slices.Max(row)); best != 32 || math.Abs(float64(row[32])-128) > 0.01 || row[40] > 0.01 {
		t.Errorf("line %d: %v, want 128 in line 32", best, row[best])
	}
	mel := sound(t, "ntf", SoundRules{Rate: 16000, Frames: 3, FrameMS: 32, Mel: "slaney", High: 8000})
	if f, err = mel.Frames(tone(16000, 4000, 1000)); err != nil {
		t.Fatal(err)
	}
	bands := mel.Rules.melBands()
	row = f.Values[f.Width : 2*f.Width]
	best := slices.Index(row, slices.Max(row))
	if b := bands[best]; b.first > 32 || b.first+len(b.weights) <= 32 {
		t.Errorf("the loudest band has lines %d to %d, want 32 in it", b.first, b.first+len(b.weights))
	}
}

func TestWindows(t *testing.T) {
	in := sound(t, "nft", SoundRules{Rate: 1000, Features: "samples", Frames: 4, Step: 2})
	in.Scale, in.Mean, in.Std = 10, []float64{5}, []float64{2}
	s := Sound{1000, []float32{1, 2, 3, 4, 5, 6, 7, 8, 9}}
	f, err := in.Frames(s)
	if err != nil || in.Windows(f) != 3 {
		t.Fatalf("%d windows of %v: %v", in.Windows(f), f, err)
	}
	if got := window(t, in, f, 2); !slices.Equal(got, []float32{22.5, 27.5, 32.5, 37.5}) {
		t.Errorf("window 2: %v", got)
	}
	for _, i := range []int{-1, 3} {
		if err := in.Window(f, i, model.Of(model.F32, make([]float32, 4), 1, 1, 4)); err == nil {
			t.Errorf("window %d was made", i)
		}
	}
	dst := model.Of(model.F32, make([]float32, 4), 1, 1, 4)
	if err := in.Sound(Sound{1000, []float32{1}}, dst); err != nil || !slices.Equal(dst.F32(), []float32{2.5, -2.5, -2.5, -2.5}) {
		t.Errorf("a sound that is too short: %v, %v", dst.F32(), err)
	}
	if err := in.Sound(s, model.Of(model.F32, make([]float32, 4), 4)); err == nil {
		t.Error("a tensor of another shape was filled")
	}
	if err := in.Picture(gray(2, 2, func(x, y int) uint8 { return 0 }), dst); err == nil {
		t.Error("a picture was heard")
	}
	if err := spec(func(*Input) {}).Sound(s, dst); err == nil {
		t.Error("a sound was seen")
	}
}

// Frames begin at multiples of the hop, and what follows the last whole one
// is not used: 480 + 2*160 samples hold three, one more hop less a sample too.
func TestFramesCount(t *testing.T) {
	in := sound(t, "ntf", SoundRules{Rate: 16000, Features: "spectrum", Frames: 1, FrameMS: 30, HopMS: 10})
	for n, want := range map[int]int{0: 1, 479: 1, 480: 1, 639: 1, 640: 2, 800: 3, 959: 3, 960: 4} {
		if f, err := in.Frames(Sound{16000, make([]float32, n)}); err != nil || f.Rows != want {
			t.Errorf("%d samples: %d frames, %v, want %d", n, f.Rows, err, want)
		}
	}
}

func TestSoundLayouts(t *testing.T) {
	rules := SoundRules{Rate: 16000, Features: "mel", Frames: 3, FrameMS: 10, Bins: 4}
	var plain []float32
	for layout, shape := range map[string][]int{
		"ntf": {1, 3, 4}, "nchw": {1, 1, 3, 4}, "nhwc": {1, 3, 4, 1}, "flat": {1, 12}, "nft": {1, 4, 3},
	} {
		in := sound(t, layout, rules)
		if !slices.Equal(in.Shape(), shape) {
			t.Errorf("%s: %v", layout, in.Shape())
		}
		f, err := in.Frames(chirp(16000, 400))
		if err != nil {
			t.Fatal(err)
		}
		plain = f.Values[:12]
		for i, v := range window(t, in, f, 0) {
			at := i
			if layout == "nft" {
				at = i%3*4 + i/3
			}
			if v != plain[at] {
				t.Errorf("%s: value %d is %v, want %v", layout, i, v, plain[at])
			}
		}
	}
}

// The bands of TensorFlow and librosa at some places, by their formulas.
func TestMelBands(t *testing.T) {
	htk := SoundRules{Rate: 16000, FFT: 512, Bins: 40, Low: 20, High: 4000, Mel: "htk"}
	for i, b := range htk.melBands() {
		if b.first == 0 || slices.Max(b.weights) > 1 {
			t.Errorf("htk band %d: from line %d, %v", i, b.first, b.weights)
		}
	}
	slaney := SoundRules{Rate: 16000, FFT: 512, Bins: 32, Low: 60, High: 3800, Mel: "slaney"}
	b := slaney.melBands()[0] // openWakeWord's matrix: 0.000545, 0.007361, 0.014177 from line 2 on
	if b.first != 2 || math.Abs(b.weights[0]-0.000545) > 1e-6 || math.Abs(b.weights[2]-0.01417671) > 1e-8 {
		t.Errorf("slaney band 0: from line %d, %v", b.first, b.weights)
	}
	if hz := slaneyHz(slaneyMel(3333)); math.Abs(hz-3333) > 1e-9 {
		t.Errorf("3333 Hz to mel and back: %v", hz)
	}
}

// The rows of the cosine transform are at right angles; "ortho" rows have
// length 1.
func TestCosines(t *testing.T) {
	r := SoundRules{Bins: 23, Coeffs: 23, DCT: "ortho"}
	rows := r.cosines()
	for i := range rows {
		for j := range rows {
			sum, want := 0.0, 0.0
			for k := range rows[i] {
				sum += rows[i][k] * rows[j][k]
			}
			if i == j {
				want = 1
			}
			if math.Abs(sum-want) > 1e-14 {
				t.Fatalf("rows %d and %d: %v", i, j, sum)
			}
		}
	}
}

// A Spec says the same in both of its forms, and a preset survives being
// stored in a pack.
func TestSpecForms(t *testing.T) {
	var specs []Spec
	for _, name := range Presets() {
		s := preset(t, name)
		specs = append(specs, s)
		if long, ok := Preset(name + "-qdq-int8"); !ok || !reflect.DeepEqual(long, s) {
			t.Errorf("%s-qdq-int8: %v", name, ok)
		}
	}
	for _, file := range []string{"good.toml", "good-sound.toml", "good-boxes.toml"} {
		text, err := os.ReadFile("testdata/" + file)
		if err != nil {
			t.Fatal(err)
		}
		s, err := ParseTOML(text)
		if err != nil {
			t.Fatalf("%s: %v", file, err)
		}
		specs = append(specs, s)
	}
	for _, s := range specs {
		text, err := json.Marshal(s)
		if err != nil {
			t.Fatal(err)
		}
		got, err := ParseJSON(text)
		if err != nil || !reflect.DeepEqual(got, s) {
			t.Errorf("%s\nis read as %+v, %v", text, got, err)
		}
		if s.Inputs[0].Kind == "sound" && bytes.Contains(text, []byte("color")) {
			t.Errorf("a sound has a color: %s", text)
		}
	}
	if _, ok := Preset("mobilenet"); ok {
		t.Error("there is a preset mobilenet")
	}
	if !slices.IsSorted(Presets()) || strings.Join(Presets(), " ") == "" {
		t.Error(Presets())
	}
}
