package prep

import "math"

// band is a triangle over the bins of a spectrum: weights of first, first+1, …
type band struct {
	first   int
	weights []float64
}

// melBands returns r.Bins triangles whose corners lie evenly between r.Low
// and r.High on a mel scale, each beginning at the middle of the one before.
//
//	htk     mel = 1127 ln(1 + f/700); straight sides in mel, height 1, and the
//	        bin of 0 Hz left out: linear_to_mel_weight_matrix of TensorFlow
//	slaney  mel = 3f/200 below 1000 Hz, 15 + 27 ln(f/1000)/ln 6.4 above;
//	        straight sides in Hz, area 1: filters.mel of librosa
func (r *SoundRules) melBands() []band {
	scale, back, mel, firstBin := htkMel, same, htkMel, 1
	if r.Mel == "slaney" {
		scale, back, mel, firstBin = slaneyMel, slaneyHz, same, 0
	}
	at := make([]float64, r.FFT/2+1) // each line of the spectrum, in mel or Hz
	for bin := range at {
		at[bin] = mel(float64(bin) * float64(r.Rate) / float64(r.FFT))
	}
	low, high := scale(r.Low), scale(r.High)
	corner := func(i int) float64 { return back(low + float64((high-low)*float64(i)/float64(r.Bins+1))) }
	bands := make([]band, r.Bins)
	for i := range bands {
		bands[i] = triangleBand(at, firstBin, corner(i), corner(i+1), corner(i+2))
		if r.Mel == "slaney" {
			for k, w := range bands[i].weights {
				bands[i].weights[k] = float64(w * 2 / (corner(i+2) - corner(i)))
			}
		}
	}
	return bands
}

func same(v float64) float64 { return v }

// triangleBand returns the weights of the lines at[first:] under a triangle
// of height 1.
func triangleBand(at []float64, first int, left, middle, right float64) band {
	var b band
	for bin := first; bin < len(at) && at[bin] < right; bin++ {
		weight := min((at[bin]-left)/(middle-left), (right-at[bin])/(right-middle))
		if weight <= 0 {
			continue
		}
		if b.weights == nil {
			b.first = bin
		}
		b.weights = append(b.weights, weight)
	}
	return b
}

func htkMel(hz float64) float64 { return float64(1127 * ln(1+hz/700)) }

func slaneyMel(hz float64) float64 {
	if hz < 1000 {
		return 3 * hz / 200
	}
	return 15 + float64(27*ln(hz/1000)/ln(6.4))
}

func slaneyHz(mel float64) float64 {
	if mel < 15 {
		return 200 * mel / 3
	}
	return float64(1000 * exp((mel-15)*ln(6.4)/27))
}

// cosines returns the rows of the cosine transform DCT-II over r.Bins values.
func (r *SoundRules) cosines() [][]float64 {
	rows := make([][]float64, r.Coeffs)
	for k := range rows {
		rows[k] = make([]float64, r.Bins)
		scale := math.Sqrt(2 / float64(r.Bins))
		if k == 0 && r.DCT == "ortho" {
			scale = math.Sqrt(1 / float64(r.Bins))
		}
		for i := range rows[k] {
			rows[k][i] = float64(scale * cosPi(float64(k)*(2*float64(i)+1)/(2*float64(r.Bins))))
		}
	}
	return rows
}

// taper returns the frame's window: periodic, in the middle, zeros beside it.
func (r *SoundRules) taper() []float64 {
	frame, window := r.samples(r.FrameMS), r.samples(r.WindowMS)
	w := make([]float64, frame)
	for i := range window {
		c := cosPi(2 * float64(i) / float64(window))
		v := 1.0
		switch r.Window {
		case "hann":
			v = 0.5 - float64(0.5*c)
		case "hamming":
			v = 0.54 - float64(0.46*c)
		}
		w[(frame-window)/2+i] = v
	}
	return w
}
