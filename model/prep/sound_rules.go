package prep

import (
	"fmt"
	"math"
	"slices"
)

// SoundRules say how a sound becomes rows of features, and how many rows a
// network takes at once. In prep.toml they are the table [input.sound].
//
// The way of a sound: resampled to Rate, levelled, cut into frames, each
// frame times a window, the FFT's magnitude or power, mel bands, logarithm,
// cosine transform; then (x*scale - mean) / std as for pictures. Features
// says where to stop.
type SoundRules struct {
	Rate     int     `toml:"rate" json:"rate"`                       // samples a second that the network wants
	Features string  `toml:"features" json:"features"`               // "samples", "spectrum", "mel" or "mfcc"
	Frames   int     `toml:"frames" json:"frames"`                   // rows of the tensor; of "samples", samples
	Step     int     `toml:"step" json:"step"`                       // rows from one window over a longer sound to the next; default: frames
	Level    string  `toml:"level" json:"level"`                     // "none", or "peak": divided by the largest sample of the sound
	Gain     float64 `toml:"gain" json:"gain"`                       // full scale becomes this; default 1, and 32768 where a network wants 16-bit values
	FrameMS  float64 `toml:"frame_ms" json:"frame_ms,omitempty"`     // length of a frame
	HopMS    float64 `toml:"hop_ms" json:"hop_ms,omitempty"`         // from one frame to the next; default: half a frame
	WindowMS float64 `toml:"window_ms" json:"window_ms,omitempty"`   // the window lies in the middle of the frame, zeros beside it; default: the frame
	Window   string  `toml:"window" json:"window,omitempty"`         // "hann", "hamming" (both periodic) or "none"
	FFT      int     `toml:"fft" json:"fft,omitempty"`               // points, a power of two; default: the least that holds a frame
	Power    int     `toml:"power" json:"power,omitempty"`           // of the magnitude: 1 or 2
	Bins     int     `toml:"mel_bins" json:"mel_bins,omitempty"`     // bands, default 40
	Low      float64 `toml:"mel_low_hz" json:"mel_low_hz,omitempty"` // where the first band begins
	High     float64 `toml:"mel_high_hz" json:"mel_high_hz,omitempty"`
	Mel      string  `toml:"mel_scale" json:"mel_scale,omitempty"`       // "htk" or "slaney", see melBands
	Log      string  `toml:"log" json:"log,omitempty"`                   // "none", "ln", "log10" or "db" (10 log10)
	Add      float64 `toml:"log_add" json:"log_add,omitempty"`           // log(max(x + log_add, log_floor)): one of them is more than 0
	Floor    float64 `toml:"log_floor" json:"log_floor,omitempty"`       // default 1e-10 where log_add is not set
	Range    float64 `toml:"log_range" json:"log_range,omitempty"`       // values this far below the sound's largest are raised; 0: none are
	Coeffs   int     `toml:"coefficients" json:"coefficients,omitempty"` // of the cosine transform, the first so many
	DCT      string  `toml:"dct" json:"dct,omitempty"`                   // "htk": sqrt(2/N) for all; "ortho": 1/sqrt 2 of that for the first
}

// Limits of SoundRules.
const (
	minRate, maxRate = 1000, 384000
	maxFFT           = 1 << 15
	maxBins          = 512
	maxWindow        = 1 << 22 // values of one tensor
)

func (in *Input) soundDefaults() {
	if in.Scale == 0 {
		in.Scale = 1
	}
	if in.Rules == nil {
		return
	}
	rules := *in.Rules // the caller's stays as it is
	in.Rules = &rules
	rules.defaults()
}

// defaults fills what was left out, where Features needs it.
func (r *SoundRules) defaults() {
	orString := func(field *string, value string) {
		if *field == "" {
			*field = value
		}
	}
	orFloat := func(field *float64, value float64) {
		if *field == 0 {
			*field = value
		}
	}
	orInt := func(field *int, value int) {
		if *field == 0 {
			*field = value
		}
	}
	orString(&r.Level, "none")
	orString(&r.Features, "mel")
	orFloat(&r.Gain, 1)
	orInt(&r.Step, r.Frames)
	if r.Features == "samples" {
		return
	}
	orFloat(&r.HopMS, r.FrameMS/2)
	orFloat(&r.WindowMS, r.FrameMS)
	orString(&r.Window, "hann")
	orInt(&r.Power, 2)
	if r.FFT == 0 {
		r.FFT = 2
		for r.FFT < r.samples(r.FrameMS) && r.FFT < maxFFT {
			r.FFT *= 2
		}
	}
	orString(&r.Log, "none")
	if r.Log != "none" && r.Add == 0 {
		orFloat(&r.Floor, 1e-10)
	}
	if r.Features == "spectrum" {
		return
	}
	orInt(&r.Bins, 40)
	orFloat(&r.High, float64(r.Rate)/2)
	orString(&r.Mel, "htk")
	if r.Features == "mfcc" {
		orInt(&r.Coeffs, min(13, r.Bins))
		orString(&r.DCT, "htk")
	}
}

// samples returns how many samples ms milliseconds are, to the nearest, a
// half to even; -1 where that is no sensible number.
func (r *SoundRules) samples(ms float64) int {
	n := math.RoundToEven(float64(r.Rate) * ms / 1000)
	if !(n >= 0 && n <= 1<<24) {
		return -1
	}
	return int(n)
}

// Width returns how many features a row has.
func (r *SoundRules) Width() int {
	switch r.Features {
	case "spectrum":
		return r.FFT/2 + 1
	case "mel":
		return r.Bins
	case "mfcc":
		return r.Coeffs
	}
	return 1
}

func (in Input) checkSound() error {
	r := in.Rules
	if r == nil {
		return fmt.Errorf("a sound needs a table [input.sound]")
	}
	if in.Fields != nil {
		return fmt.Errorf("a sound has no fields")
	}
	if in.Color != "" || in.Width != 0 || in.Height != 0 || in.Fit != "" || in.Keep != 0 || in.Pad != 0 || in.Resize != "" {
		return fmt.Errorf("a sound has no color, width, height, fit, keep, pad or resize")
	}
	if err := oneOf("layout", in.Layout, "nchw", "nhwc", "ntf", "nft", "flat"); err != nil {
		return err
	}
	if err := r.check(); err != nil {
		return err
	}
	n := r.Width()
	if r.Frames < 1 || r.Frames > maxWindow/n || r.Step < 1 || r.Step > maxWindow {
		return fmt.Errorf("frames %d, step %d: want 1 to %d", r.Frames, r.Step, maxWindow/n)
	}
	if int64(r.Frames)*int64(r.hop()) > maxSamples {
		return fmt.Errorf("frames %d: a window of more than %d samples", r.Frames, maxSamples)
	}
	for _, list := range [][]float64{in.Mean, in.Std} {
		if len(list) > 1 && len(list) != n {
			return fmt.Errorf("%d means and %d stds for %d features: want one, or one for each", len(in.Mean), len(in.Std), n)
		}
	}
	return nil
}

func oneOf(field, value string, want ...string) error {
	if !slices.Contains(want, value) {
		return fmt.Errorf("%s %q: want one of %v", field, value, want)
	}
	return nil
}

func (r *SoundRules) check() error {
	if r.Rate < minRate || r.Rate > maxRate {
		return fmt.Errorf("rate %d: want %d to %d", r.Rate, minRate, maxRate)
	}
	if err := oneOf("features", r.Features, "samples", "spectrum", "mel", "mfcc"); err != nil {
		return err
	}
	if err := oneOf("level", r.Level, "none", "peak"); err != nil {
		return err
	}
	if !(math.Abs(r.Gain) > 0 && math.Abs(r.Gain) <= 1<<31) {
		return fmt.Errorf("gain %v: want a number, not 0, at most 2^31", r.Gain)
	}
	if r.Features == "samples" {
		if *r != (SoundRules{Rate: r.Rate, Features: r.Features, Frames: r.Frames, Step: r.Step, Level: r.Level, Gain: r.Gain}) {
			return fmt.Errorf("features \"samples\": want rate, frames, step, level and gain only")
		}
		return nil
	}
	if err := r.checkFrame(); err != nil {
		return err
	}
	if err := r.checkLog(); err != nil {
		return err
	}
	return r.checkMel()
}

func (r *SoundRules) checkFrame() error {
	if r.FFT < 2 || r.FFT > maxFFT || r.FFT&(r.FFT-1) != 0 {
		return fmt.Errorf("fft %d: want a power of two, at most %d", r.FFT, maxFFT)
	}
	frame, hop, window := r.samples(r.FrameMS), r.samples(r.HopMS), r.samples(r.WindowMS)
	if frame < 1 || frame > r.FFT {
		return fmt.Errorf("frame_ms %v is %d samples: want 1 to %d, the points of the fft", r.FrameMS, frame, r.FFT)
	}
	if hop < 1 || hop > 1<<20 {
		return fmt.Errorf("hop_ms %v is %d samples: want at least 1", r.HopMS, hop)
	}
	if window < 1 || window > frame {
		return fmt.Errorf("window_ms %v is %d samples: want 1 to %d, the frame", r.WindowMS, window, frame)
	}
	if r.Power != 1 && r.Power != 2 {
		return fmt.Errorf("power %d: want 1 or 2", r.Power)
	}
	return oneOf("window", r.Window, "hann", "hamming", "none")
}

func (r *SoundRules) checkLog() error {
	if err := oneOf("log", r.Log, "none", "ln", "log10", "db"); err != nil {
		return err
	}
	for _, v := range []float64{r.Add, r.Floor, r.Range} {
		if !(v >= 0 && v <= 1e12) {
			return fmt.Errorf("log_add %v, log_floor %v, log_range %v: want 0 to 1e12", r.Add, r.Floor, r.Range)
		}
	}
	// Below the least normal number the sums would lose their digits.
	if r.Log != "none" && max(r.Add, r.Floor) < 0x1p-1000 {
		return fmt.Errorf("log_add %v, log_floor %v: one must be more than 0, for silence has no logarithm", r.Add, r.Floor)
	}
	return nil
}

func (r *SoundRules) checkMel() error {
	if r.Features == "spectrum" {
		if r.Bins != 0 || r.Low != 0 || r.High != 0 || r.Mel != "" || r.Coeffs != 0 || r.DCT != "" {
			return fmt.Errorf("features \"spectrum\": want no mel_… , coefficients or dct")
		}
		return nil
	}
	if r.Bins < 1 || r.Bins > maxBins {
		return fmt.Errorf("mel_bins %d: want 1 to %d", r.Bins, maxBins)
	}
	if !(r.Low >= 0 && r.Low < r.High && r.High <= float64(r.Rate)/2) {
		return fmt.Errorf("mel_low_hz %v, mel_high_hz %v: want 0 <= low < high <= %v, half of rate", r.Low, r.High, float64(r.Rate)/2)
	}
	if err := oneOf("mel_scale", r.Mel, "htk", "slaney"); err != nil {
		return err
	}
	if r.Features == "mel" {
		if r.Coeffs != 0 || r.DCT != "" {
			return fmt.Errorf("features \"mel\": want no coefficients or dct")
		}
		return nil
	}
	if r.Coeffs < 1 || r.Coeffs > r.Bins {
		return fmt.Errorf("coefficients %d: want 1 to %d, the mel_bins", r.Coeffs, r.Bins)
	}
	return oneOf("dct", r.DCT, "htk", "ortho")
}
