package prep

import (
	"encoding/binary"
	"math"
	"os"
	"testing"

	"dunlin/internal/shared"
	"dunlin/model"
)

func clip(t *testing.T, elem ...string) Sound {
	t.Helper()
	data, err := os.ReadFile(shared.Dir(t, append([]string{"data", "audio"}, elem...)...))
	if err != nil {
		t.Fatal(err)
	}
	s, err := DecodeSound(data, SoundLimits{})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func sound(t *testing.T, layout string, rules SoundRules) Input {
	t.Helper()
	s := Spec{Inputs: []Input{{Kind: "sound", Layout: layout, Rules: &rules}}}
	s.setDefaults()
	if err := s.Check(); err != nil {
		t.Fatal(err)
	}
	return s.Inputs[0]
}

// openWakeWord's front end is itself a network: its golden run is what
// torchlibrosa's log-mel spectrogram gives, in float32.
func TestMelGolden(t *testing.T) {
	g := readGolden(t, "oww-melspectrogram")
	x, want := g.in["input"], g.out["output"].F32()
	in := sound(t, "nchw", SoundRules{
		Rate: 16000, Features: "mel", Frames: 325, Gain: 1,
		FrameMS: 32, HopMS: 10, WindowMS: 25, Window: "hann", FFT: 512, Power: 2,
		Bins: 32, Low: 60, High: 3800, Mel: "slaney", Log: "db", Floor: 1e-10, Range: 80,
	})
	f, err := in.Frames(Sound{16000, x.F32()})
	if err != nil || f.Rows != 325 || f.Width != 32 {
		t.Fatalf("%d x %d: %v", f.Rows, f.Width, err)
	}
	// float32 sums of 512 products there, float64 here: 5e-4 of 10 dB.
	if largest, mean := difference(f.Values, want); largest > 5e-4 || mean > 5e-6 {
		t.Errorf("at most %.2g dB off, %.2g on average", largest, mean)
	}
}

// The anomaly detector sees five frames of 128 bands at once, one frame
// further each time.
func TestWindowsGolden(t *testing.T) {
	data, err := os.ReadFile(shared.Dir(t, "data", "audio", "mlperftiny-ad01", "normal_id_01_00000000_hist_librosa-f32-200x128.bin"))
	if err != nil {
		t.Fatal(err)
	}
	f := Frames{200, 128, make([]float32, len(data)/4)}
	for i := range f.Values {
		f.Values[i] = math.Float32frombits(binary.LittleEndian.Uint32(data[4*i:]))
	}
	in := sound(t, "flat", SoundRules{
		Rate: 16000, Frames: 5, Step: 1, FrameMS: 64, HopMS: 32, FFT: 1024, Bins: 128, Mel: "slaney", Log: "db", Add: 2.3e-16,
	})
	want := readGolden(t, "mlperftiny-ad01").in["input"].F32()
	if n := in.Windows(f); n != 196 {
		t.Errorf("%d windows, want 196", n)
	}
	for k := range 4 { // every 50th was kept
		if largest, _ := difference(window(t, in, f, 50*k), want[k*640:(k+1)*640]); largest != 0 {
			t.Errorf("window %d: %v off", 50*k, largest)
		}
	}
}

func window(t *testing.T, in Input, f Frames, i int) []float32 {
	t.Helper()
	dst, err := model.NewTensor(model.F32, in.Shape()...)
	if err == nil {
		err = in.Window(f, i, dst)
	}
	if err != nil {
		t.Fatal(err)
	}
	return dst.F32()
}

// The speech detector takes 512 samples and the 64 before them; chunk 100 was
// kept. A window begins where the chunk's context does, so the first 448
// samples are skipped.
func TestSamplesGolden(t *testing.T) {
	want := readGolden(t, "silero-vad-v6").in["input"].F32()
	in := sound(t, "flat", SoundRules{Rate: 16000, Features: "samples", Frames: 576, Step: 512})
	s := clip(t, "clips", "silero-vad-test-60s.wav")
	s.Samples = s.Samples[512-64:]
	f, err := in.Frames(s)
	if err != nil {
		t.Fatal(err)
	}
	if largest, _ := difference(window(t, in, f, 99), want); largest != 0 {
		t.Errorf("%v off", largest)
	}
}
