package source

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
)

// Windows cuts endless sound into WAV files of one length, each a frame.
type Windows struct {
	WAV      bool // a WAV header comes first and says rate and channels; else samples alone come
	Rate     int  // samples a second; of samples alone
	Channels int  // 1 or 2; of samples alone
	Millis   int  // length of a window
	Hop      int  // from the beginning of one window to the next, in ms; 0: Millis, so that none overlap
}

// soundBytes of one sample of one channel: signed, 16 bits, little-endian.
const soundBytes = 2

// windowReader hands out windows.
type windowReader struct {
	Windows
	r    io.Reader
	buf  []byte // the window, or as much of it as overlaps the last one
	size int    // bytes of a window, hop of the way to the next; 0: not known yet
	hop  int
	skip int64 // bytes between the last window and the next
}

func (w Windows) reader(r io.Reader) *windowReader { return &windowReader{Windows: w, r: r} }

// next returns the next window as a WAV file.
func (w *windowReader) next() ([]byte, error) {
	if w.size == 0 {
		if err := w.open(); err != nil {
			return nil, err
		}
	}
	if _, err := io.CopyN(io.Discard, w.r, w.skip); err != nil {
		return nil, err
	}
	at := len(w.buf)
	w.buf = append(w.buf, make([]byte, w.size-at)...)
	if _, err := io.ReadFull(w.r, w.buf[at:]); err != nil {
		return nil, err
	}
	file := append(waveHeader(w.Rate, w.Channels, w.size), w.buf...)
	w.skip = int64(max(0, w.hop-w.size))
	w.buf = w.buf[:copy(w.buf, w.buf[min(w.hop, w.size):])]
	return file, nil
}

// open reads the header, where there is one, and knows the sizes then.
func (w *windowReader) open() error {
	if w.WAV {
		if err := w.header(); err != nil {
			return err
		}
	}
	hop := w.Hop
	if hop == 0 {
		hop = w.Millis
	}
	frame := w.Channels * soundBytes
	w.size, w.hop = w.Rate*w.Millis/1000*frame, w.Rate*hop/1000*frame
	if w.size == 0 || w.hop == 0 {
		return fmt.Errorf("%d ms at %d samples a second are no sound", min(w.Millis, hop), w.Rate)
	}
	return nil
}

// header reads a WAV header up to the samples.
func (w *windowReader) header() error {
	head := make([]byte, 12)
	if _, err := io.ReadFull(w.r, head); err != nil {
		return err
	}
	if string(head[:4]) != "RIFF" || string(head[8:]) != "WAVE" {
		return errors.New("no RIFF WAVE header")
	}
	for known := false; ; {
		if _, err := io.ReadFull(w.r, head[:8]); err != nil {
			return err
		}
		id, size := string(head[:4]), binary.LittleEndian.Uint32(head[4:])
		if id == "data" {
			if !known {
				return errors.New("WAV: samples before their format")
			}
			return nil // however long it says: a pipe's header is a guess
		}
		if size > 1<<16 {
			return fmt.Errorf("WAV: a chunk %q of %d bytes before the samples", id, size)
		}
		body := make([]byte, size+size&1)
		if _, err := io.ReadFull(w.r, body); err != nil {
			return err
		}
		if id != "fmt " || size < 16 {
			continue
		}
		rate, bits := binary.LittleEndian.Uint32(body[4:]), binary.LittleEndian.Uint16(body[14:])
		w.Channels = int(binary.LittleEndian.Uint16(body[2:]))
		if bits != 8*soundBytes || w.Channels < 1 || w.Channels > 2 || rate < 1 || rate > MaxRate {
			return fmt.Errorf("WAV: %d bits, %d channels, %d samples a second: want 16 bits, 1 or 2 channels, at most %d",
				bits, w.Channels, rate, MaxRate)
		}
		w.Rate, known = int(rate), true
	}
}

// MaxRate is the most samples a second that are taken.
const MaxRate = 192_000

// waveHeader returns the header of a WAV file of 16-bit PCM with size bytes
// of samples.
func waveHeader(rate, channels, size int) []byte {
	var b bytes.Buffer
	put := func(v any) { _ = binary.Write(&b, binary.LittleEndian, v) } // of a Buffer it does not fail
	b.WriteString("RIFF")
	put(uint32(min(36+size, math.MaxInt32)))
	b.WriteString("WAVEfmt ")
	put(uint32(16))
	put(uint16(1)) // PCM
	put(uint16(channels))
	put(uint32(rate))
	put(uint32(rate * channels * soundBytes))
	put(uint16(channels * soundBytes))
	put(uint16(8 * soundBytes))
	b.WriteString("data")
	put(uint32(size))
	return b.Bytes()
}
