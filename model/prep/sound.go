package prep

import (
	"fmt"
	"math"

	"dunlin/model"
)

// Frames are the features of a whole sound: Rows rows of Width values, before
// scale, mean and std. A network takes some of them at a time: see Window.
type Frames struct {
	Rows, Width int
	Values      []float32 // [Rows, Width]
}

// Sound writes the beginning of s to dst, as long as one window.
//
//	dst  float32, in.Shape()
//
// A sound that is too short ends in silence, one that is longer is cut: Frames
// and Window go through all of it.
func (in Input) Sound(s Sound, dst *model.Tensor) error {
	f, err := in.frames(s, false)
	if err != nil {
		return err
	}
	return in.Window(f, 0, dst)
}

// Frames returns the features of all of s, resampled where its rate is not
// the network's. A sound shorter than one window is filled with silence to
// its length; of what follows the last whole frame nothing is used.
func (in Input) Frames(s Sound) (Frames, error) { return in.frames(s, true) }

// frames returns all rows, or those that the first window needs.
func (in Input) frames(s Sound, all bool) (Frames, error) {
	if in.Kind != "sound" || in.Rules == nil {
		return Frames{}, fmt.Errorf("prep: input %q: takes a %s, no sound", in.Name, in.Kind)
	}
	r := in.Rules
	s, err := s.Resample(r.Rate)
	if err != nil {
		return Frames{}, fmt.Errorf("prep: input %q: %w", in.Name, err)
	}
	x := r.levelled(s.Samples)
	rows := r.Frames
	if all || r.Range > 0 { // the loudest row counts, wherever it is
		rows += max(0, len(x)-r.reach(rows)) / r.hop()
	}
	f := Frames{Rows: rows, Width: r.Width()}
	if rows > maxSamples/f.Width {
		return Frames{}, fmt.Errorf("prep: input %q: %w: %d frames of %d features, limit %d values", in.Name, ErrSoundTooLarge, rows, f.Width, maxSamples)
	}
	if r.Features == "samples" {
		f.Values = make([]float32, rows)
		for i := range min(len(x), rows) {
			f.Values[i] = float32(x[i])
		}
		return f, nil
	}
	f.Values = r.features(x, rows)
	return f, nil
}

// hop returns the samples from one row to the next.
func (r *SoundRules) hop() int {
	if r.Features == "samples" {
		return 1
	}
	return r.samples(r.HopMS)
}

// reach returns how many samples the first rows rows need.
func (r *SoundRules) reach(rows int) int {
	if r.Features == "samples" {
		return rows
	}
	return (rows-1)*r.hop() + r.samples(r.FrameMS)
}

// levelled returns the samples times r.Gain; with "peak", divided by the
// largest of them first. It is the largest, not the farthest from 0, since
// that is how the networks were trained that want it.
func (r *SoundRules) levelled(x []float32) []float64 {
	peak := float32(0)
	for _, v := range x {
		peak = max(peak, v)
	}
	gain := r.Gain
	if r.Level == "peak" && peak > 0 {
		gain /= float64(peak)
	}
	out := make([]float64, len(x))
	for i, v := range x {
		out[i] = float64(float64(v) * gain)
	}
	return out
}

// features returns rows rows of x, silence where x has ended.
func (r *SoundRules) features(x []float64, rows int) []float32 {
	var (
		taper    = r.taper()
		fft      = newFFT(r.FFT)
		frame    = make([]float64, len(taper))
		spectrum = make([]float64, r.FFT/2+1)
		values   = make([]float32, 0, rows*r.Width())
		top      = math.Inf(-1)
		bands    []band
		cosines  [][]float64
	)
	switch r.Features {
	case "mel":
		bands = r.melBands()
	case "mfcc":
		bands, cosines = r.melBands(), r.cosines()
	}
	for row := range rows {
		clear(frame)
		if at := row * r.hop(); at < len(x) {
			copy(frame, x[at:])
		}
		for i, w := range taper {
			frame[i] = float64(frame[i] * w)
		}
		fft.power(frame, spectrum)
		if r.Power == 1 {
			for i, v := range spectrum {
				spectrum[i] = math.Sqrt(v)
			}
		}
		out := spectrum
		if bands != nil {
			out = inBands(spectrum, bands)
		}
		r.logarithm(out)
		if cosines != nil {
			out = transform(out, cosines)
		}
		for _, v := range out {
			top = max(top, v)
			values = append(values, float32(v))
		}
	}
	if r.Range > 0 {
		floor := float32(top - r.Range)
		for i, v := range values {
			values[i] = max(v, floor)
		}
	}
	return values
}

func inBands(spectrum []float64, bands []band) []float64 {
	out := make([]float64, len(bands))
	for i, b := range bands {
		for k, w := range b.weights {
			out[i] += float64(w * spectrum[b.first+k])
		}
	}
	return out
}

func transform(x []float64, rows [][]float64) []float64 {
	out := make([]float64, len(rows))
	for k, row := range rows {
		for i, c := range row {
			out[k] += float64(c * x[i])
		}
	}
	return out
}

func (r *SoundRules) logarithm(x []float64) {
	unit := 1.0
	switch r.Log {
	case "none":
		return
	case "log10":
		unit = 1 / math.Ln10
	case "db":
		unit = 10 / math.Ln10
	}
	for i, v := range x {
		x[i] = float64(unit * ln(max(v+r.Add, r.Floor)))
	}
}

// Windows returns how many windows of the network f holds, at least 1: they
// begin at rows 0, step, 2*step and so on, and the last is whole.
func (in Input) Windows(f Frames) int {
	return 1 + max(0, f.Rows-in.Rules.Frames)/in.Rules.Step
}

// Window writes window i of f, scaled, to dst.
//
//	dst  float32, in.Shape(); value = (feature*scale - mean) / std
//
// It fails where there is no such window or dst has another type or shape.
func (in Input) Window(f Frames, i int, dst *model.Tensor) error {
	r := in.Rules
	if in.Kind != "sound" || r == nil || f.Width != r.Width() || len(f.Values) != f.Rows*f.Width {
		return fmt.Errorf("prep: input %q: %d rows of %d features do not come from it", in.Name, f.Rows, f.Width)
	}
	if n := in.Windows(f); i < 0 || i >= n || f.Rows < r.Frames {
		return fmt.Errorf("prep: input %q: window %d of %d: %d rows", in.Name, i, n, f.Rows)
	}
	first := i * r.Step
	if dst.Type != model.F32 || !dst.Shape.Equal(in.Shape()) {
		return fmt.Errorf("prep: input %q: tensor is %v %v, want float32 %v", in.Name, dst.Type, dst.Shape, in.Shape())
	}
	pick := func(list []float64, col int, none float64) float64 {
		switch len(list) {
		case 0:
			return none
		case 1:
			return list[0]
		}
		return list[col]
	}
	out := dst.F32()
	for col := range f.Width {
		mean, std := pick(in.Mean, col, 0), pick(in.Std, col, 1)
		for row := range r.Frames {
			scaled := float64(float64(f.Values[(first+row)*f.Width+col]) * in.Scale)
			at := row*f.Width + col
			if in.Layout == "nft" {
				at = col*r.Frames + row
			}
			out[at] = float32((scaled - mean) / std)
		}
	}
	return nil
}

func (in Input) soundShape() []int {
	t, f := in.Rules.Frames, in.Rules.Width()
	switch in.Layout {
	case "nhwc":
		return []int{1, t, f, 1}
	case "ntf":
		return []int{1, t, f}
	case "nft":
		return []int{1, f, t}
	case "flat":
		return []int{1, t * f}
	}
	return []int{1, 1, t, f}
}
