package prep

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
)

// Sound is one channel of samples; full scale is -1 to 1.
type Sound struct {
	Rate    int // samples a second
	Samples []float32
}

// SoundLimits bound what DecodeSound takes.
type SoundLimits struct {
	MaxBytes   int // of the file; 0: 64 MiB
	MaxSamples int // of one channel; 0: 30 million (120 MB once decoded, 31 minutes at 16 kHz)
}

// ErrSoundTooLarge is returned, wrapped, by DecodeSound and Resample for a
// sound over its limits.
var ErrSoundTooLarge = errors.New("sound is too large")

// DecodeSound reads a WAV file: PCM of 8, 16, 24 or 32 bits or 32-bit float,
// one channel or two, whose mean is taken. A data chunk of 0 or 2^32-1 bytes
// goes on to the end of the file, as programs that write to a pipe leave it.
//
// It fails on other forms, on a file that ends early and on samples that are
// not finite.
func DecodeSound(data []byte, lim SoundLimits) (Sound, error) {
	if lim.MaxBytes == 0 {
		lim.MaxBytes = 64 << 20
	}
	if lim.MaxSamples == 0 {
		lim.MaxSamples = 30_000_000
	}
	if len(data) > lim.MaxBytes {
		return Sound{}, fmt.Errorf("%w: %d bytes, limit %d", ErrSoundTooLarge, len(data), lim.MaxBytes)
	}
	if len(data) < 12 || string(data[:4]) != "RIFF" || string(data[8:12]) != "WAVE" {
		return Sound{}, errors.New("sound: no RIFF WAVE header (want WAV)")
	}
	var format *waveFormat
	for rest := data[12:]; len(rest) >= 8; {
		id, size := string(rest[:4]), binary.LittleEndian.Uint32(rest[4:])
		body := rest[8:]
		if id == "data" && (size == 0 || size == math.MaxUint32) {
			size = uint32(min(len(body), math.MaxInt32))
		}
		if uint64(size) > uint64(len(body)) {
			return Sound{}, fmt.Errorf("sound: chunk %q has %d bytes, %d are left", id, size, len(body))
		}
		switch id {
		case "fmt ":
			f, err := parseWaveFormat(body[:size])
			if err != nil {
				return Sound{}, fmt.Errorf("sound: %w", err)
			}
			format = &f
		case "data":
			if format == nil {
				return Sound{}, errors.New("sound: chunk \"data\" stands before chunk \"fmt \"")
			}
			return format.samples(body[:size], lim.MaxSamples)
		}
		next := int64(size) + int64(size&1) // chunks begin at even places
		rest = body[min(next, int64(len(body))):]
	}
	return Sound{}, errors.New("sound: no chunk \"data\"")
}

// waveFormat is a chunk "fmt ".
type waveFormat struct {
	float                bool
	rate, channels, bits int
}

// The numbers of wave formats that are read here.
const (
	wavePCM        = 1
	waveFloat      = 3
	waveExtensible = 0xfffe
)

// parseWaveFormat reads
//
//	tag(2) channels(2) rate(4) bytes a second(4) bytes a frame(2) bits(2)
//	and, extensible, size(2) valid bits(2) speakers(4) tag(2) …
func parseWaveFormat(b []byte) (waveFormat, error) {
	if len(b) < 16 {
		return waveFormat{}, fmt.Errorf("chunk \"fmt \" has %d bytes, want at least 16", len(b))
	}
	tag := binary.LittleEndian.Uint16(b)
	if tag == waveExtensible && len(b) >= 26 {
		tag = binary.LittleEndian.Uint16(b[24:])
	}
	f := waveFormat{
		float:    tag == waveFloat,
		channels: int(binary.LittleEndian.Uint16(b[2:])),
		bits:     int(binary.LittleEndian.Uint16(b[14:])),
	}
	rate := binary.LittleEndian.Uint32(b[4:])
	if rate < minRate || rate > maxRate {
		return f, fmt.Errorf("%d samples a second: want %d to %d", rate, minRate, maxRate)
	}
	f.rate = int(rate)
	known := tag == wavePCM && (f.bits == 8 || f.bits == 16 || f.bits == 24 || f.bits == 32) || tag == waveFloat && f.bits == 32
	if !known {
		return f, fmt.Errorf("format %d with %d bits: want PCM of 8, 16, 24 or 32 bits, or float of 32", tag, f.bits)
	}
	if f.channels != 1 && f.channels != 2 {
		return f, fmt.Errorf("%d channels: want 1 or 2", f.channels)
	}
	if frame := int(binary.LittleEndian.Uint16(b[12:])); frame != f.channels*f.bits/8 {
		return f, fmt.Errorf("%d bytes for %d samples of %d bits", frame, f.channels, f.bits)
	}
	return f, nil
}

// samples reads a chunk "data".
func (f waveFormat) samples(b []byte, limit int) (Sound, error) {
	size := f.bits / 8
	n := len(b) / (size * f.channels)
	if n > limit {
		return Sound{}, fmt.Errorf("%w: %d samples, limit %d", ErrSoundTooLarge, n, limit)
	}
	s := Sound{f.rate, make([]float32, n)}
	for i := range s.Samples {
		v := f.sample(b[i*size*f.channels:])
		if f.channels == 2 {
			v = (v + f.sample(b[(2*i+1)*size:])) / 2
		}
		s.Samples[i] = float32(v)
		if math.IsNaN(v) || math.Abs(v) > math.MaxFloat32 {
			return Sound{}, fmt.Errorf("sound: sample %d of %d is not a finite number", i, n)
		}
	}
	return s, nil
}

// sample reads one sample; every integer form is a float64 exactly.
func (f waveFormat) sample(b []byte) float64 {
	switch {
	case f.float:
		return float64(math.Float32frombits(binary.LittleEndian.Uint32(b)))
	case f.bits == 8:
		return (float64(b[0]) - 128) / (1 << 7)
	case f.bits == 16:
		return float64(int16(binary.LittleEndian.Uint16(b))) / (1 << 15)
	case f.bits == 24:
		return float64(int32(uint32(b[0])<<8|uint32(b[1])<<16|uint32(b[2])<<24)>>8) / (1 << 23)
	}
	return float64(int32(binary.LittleEndian.Uint32(b))) / (1 << 31)
}
