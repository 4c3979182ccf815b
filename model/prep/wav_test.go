package prep

import (
	"encoding/binary"
	"errors"
	"math"
	"slices"
	"strings"
	"testing"
)

// wave returns a WAV file; extra chunks stand between "fmt " and "data".
func wave(tag, channels, rate, bits int, data []byte, extra ...string) []byte {
	le := binary.LittleEndian
	f := le.AppendUint16(nil, uint16(tag))
	f = le.AppendUint16(f, uint16(channels))
	f = le.AppendUint32(f, uint32(rate))
	f = le.AppendUint32(f, uint32(rate*channels*bits/8))
	f = le.AppendUint16(f, uint16(channels*bits/8))
	f = le.AppendUint16(f, uint16(bits))
	if tag == waveExtensible {
		f = append(f, 22, 0, byte(bits), 0, 0, 0, 0, 0, wavePCM, 0, 0, 0, 0, 0, 16, 0, 128, 0, 0, 170, 0, 56, 155, 113)
	}
	b := append([]byte("RIFF\x00\x00\x00\x00WAVEfmt "), byte(len(f)), 0, 0, 0)
	b = append(b, f...)
	for _, chunk := range extra {
		b = append(b, chunk...)
	}
	b = append(b, "data"...)
	return append(le.AppendUint32(b, uint32(len(data))), data...)
}

func TestDecodeSound(t *testing.T) {
	f32 := func(v ...float32) (b []byte) {
		for _, x := range v {
			b = binary.LittleEndian.AppendUint32(b, math.Float32bits(x))
		}
		return b
	}
	endless := wave(wavePCM, 1, 8000, 16, []byte{0, 64, 0, 192})
	copy(endless[40:], "\xff\xff\xff\xff")
	for _, c := range []struct {
		name string
		file []byte
		want []float32
	}{
		{"8 bits", wave(wavePCM, 1, 8000, 8, []byte{0, 128, 192, 255}), []float32{-1, 0, 0.5, 127. / 128}},
		{"16 bits", wave(wavePCM, 1, 8000, 16, []byte{0, 0x80, 0, 0, 0, 0x40, 0xff, 0x7f}), []float32{-1, 0, 0.5, 32767. / 32768}},
		{"24 bits", wave(wavePCM, 1, 8000, 24, []byte{0, 0, 0x80, 1, 0, 0, 0xff, 0xff, 0xff}), []float32{-1, 1. / (1 << 23), -1. / (1 << 23)}},
		{"32 bits", wave(wavePCM, 1, 8000, 32, []byte{0, 0, 0, 0x80, 0, 0, 0, 0x20}), []float32{-1, 0.25}},
		{"float", wave(waveFloat, 1, 8000, 32, f32(0.25, -3)), []float32{0.25, -3}},
		{"stereo", wave(wavePCM, 2, 8000, 16, []byte{0, 0x40, 0, 0, 0, 0x80, 0, 0x40}), []float32{0.25, -0.25}},
		{"extensible", wave(waveExtensible, 1, 8000, 16, []byte{0, 0x40}), []float32{0.5}},
		{"a chunk of odd length", wave(wavePCM, 1, 8000, 8, []byte{192}, "LIST\x03\x00\x00\x00abc\x00"), []float32{0.5}},
		{"to the end", endless, []float32{0.5, -0.5}},
		{"half a sample left", wave(wavePCM, 1, 8000, 16, []byte{0, 0x40, 7}), []float32{0.5}},
		{"nothing", wave(wavePCM, 1, 8000, 16, nil), []float32{}},
	} {
		s, err := DecodeSound(c.file, SoundLimits{})
		if err != nil || s.Rate != 8000 || !slices.Equal(s.Samples, c.want) {
			t.Errorf("%s: %v %v, want %v", c.name, s, err, c.want)
		}
	}
	good := wave(wavePCM, 1, 8000, 16, make([]byte, 100))
	for _, c := range []struct {
		name string
		file []byte
		want string
	}{
		{"no header", []byte("RIFFxxxxAVI "), "no RIFF WAVE"},
		{"short", good[:len(good)-1], "99 are left"},
		{"no data", good[:36], `no chunk "data"`},
		{"data first", slices.Concat(good[:12], good[36:]), `before chunk "fmt "`},
		{"a-law", wave(6, 1, 8000, 8, nil), "format 6"},
		{"12 bits", wave(wavePCM, 1, 8000, 12, nil), "12 bits"},
		{"5.1", wave(wavePCM, 6, 8000, 16, nil), "6 channels"},
		{"no rate", wave(wavePCM, 1, 0, 16, nil), "0 samples a second"},
		{"NaN", wave(waveFloat, 1, 8000, 32, f32(float32(math.NaN()))), "not a finite number"},
		{"Inf", wave(waveFloat, 2, 8000, 32, f32(float32(math.Inf(1)), 0)), "not a finite number"},
	} {
		if _, err := DecodeSound(c.file, SoundLimits{}); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q in it", c.name, err, c.want)
		}
	}
	for _, lim := range []SoundLimits{{MaxBytes: 100}, {MaxSamples: 49}} {
		if _, err := DecodeSound(good, lim); !errors.Is(err, ErrSoundTooLarge) {
			t.Errorf("%+v: %v", lim, err)
		}
	}
}

func FuzzDecodeSound(f *testing.F) {
	f.Add(wave(wavePCM, 1, 16000, 16, []byte{1, 2, 3, 4}))
	f.Add(wave(wavePCM, 2, 44100, 24, make([]byte, 12), "fact\x04\x00\x00\x00\x02\x00\x00\x00"))
	f.Add(wave(waveFloat, 1, 8000, 32, []byte{0, 0, 128, 63}))
	f.Add(wave(waveExtensible, 1, 8000, 8, []byte{9}))
	f.Fuzz(func(t *testing.T, file []byte) {
		s, err := DecodeSound(file, SoundLimits{MaxSamples: 4096})
		if err != nil {
			return
		}
		in := sound(t, "nft", SoundRules{Rate: 16000, Features: "mfcc", Frames: 3, FrameMS: 4, Log: "ln", Bins: 8, Coeffs: 4})
		frames, err := in.Frames(s)
		if err != nil {
			t.Fatal(err)
		}
		for i, v := range frames.Values {
			if v != v {
				t.Fatalf("feature %d is not a number", i)
			}
		}
	})
}
