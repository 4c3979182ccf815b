package source

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

// splitter finds the pictures in a stream of JPEG and PNG files that follow
// one another without anything to tell where one ends, as ffmpeg's image2pipe
// and rpicam-vid write them.
//
// The end of a JPEG is not the first EOI: a picture of a camera may hold
// another one as its thumbnail. So its segments are followed, and its scans
// read to the marker behind them. What lies between two pictures, and the rest
// of one that is broken, is skipped.
type splitter struct {
	r   *bufio.Reader
	max int
	buf []byte
	bad int // pictures that were broken or too large
}

func newSplitter(r io.Reader, most int) *splitter {
	return &splitter{r: bufio.NewReaderSize(r, 64<<10), max: most}
}

var (
	pngMagic   = []byte("\x89PNG\r\n\x1a\n")
	errBroken  = errors.New("broken picture")
	errCut     = fmt.Errorf("%w: the next one begins in it", errBroken)
	errNoImage = errors.New("no JPEG or PNG")
)

// next returns the next whole picture, in memory of its own. Errors are the
// reader's, or errNoImage where it gives something else.
func (s *splitter) next() ([]byte, error) {
	cut := false // the first two bytes of this one were read as part of the last
	for skipped := 0; ; {
		head, err := s.r.Peek(8)
		if len(head) < 3 && err != nil {
			return nil, err
		}
		s.buf = s.buf[:0]
		switch {
		case cut:
			s.buf = append(s.buf, 0xff, 0xd8)
			err = s.jpeg()
		case head[0] == 0xff && head[1] == 0xd8 && head[2] == 0xff:
			if err = s.take(2); err == nil {
				err = s.jpeg()
			}
		case bytes.Equal(head, pngMagic):
			err = s.png()
		default:
			if _, err := s.r.Discard(1); err != nil {
				return nil, err
			}
			if skipped++; skipped > s.max {
				return nil, fmt.Errorf("%w in %d bytes", errNoImage, skipped)
			}
			continue
		}
		switch {
		case err == nil:
			return bytes.Clone(s.buf), nil
		case !errors.Is(err, errBroken):
			return nil, err
		}
		s.bad++
		cut = errors.Is(err, errCut)
		if skipped += max(len(s.buf), 1); skipped > s.max {
			return nil, fmt.Errorf("%w that can be used in %d bytes", errNoImage, skipped)
		}
	}
}

// take appends the next n bytes to the picture.
func (s *splitter) take(n int) error {
	if n < 0 || len(s.buf)+n > s.max {
		return fmt.Errorf("%w: more than %d bytes", errBroken, s.max)
	}
	// In pieces: a length that a broken picture claims is no reason to have
	// so much memory.
	for n > 0 {
		part := min(n, 64<<10)
		at := len(s.buf)
		s.buf = append(s.buf, make([]byte, part)...)
		if k, err := io.ReadFull(s.r, s.buf[at:]); err != nil {
			s.buf = s.buf[:at+k]
			return err
		}
		n -= part
	}
	return nil
}

// jpeg reads what follows the SOI of a JPEG file (ITU-T T.81, B.1 and B.2).
func (s *splitter) jpeg() error {
	behindScan := false // then the 0xff of the next marker was read
	for {
		marker, err := s.marker(behindScan)
		if err != nil {
			return err
		}
		switch {
		case marker == 0xd9: // EOI
			return nil
		case marker == 0xd8: // SOI
			return errCut
		case marker >= 0xd0 && marker < 0xd8: // RST, which has no length
			behindScan = false
			continue
		case marker < 0xc0:
			return fmt.Errorf("%w: no JPEG marker: %02x", errBroken, marker)
		}
		if err := s.take(2); err != nil {
			return err
		}
		n := int(binary.BigEndian.Uint16(s.buf[len(s.buf)-2:]))
		if n < 2 {
			return fmt.Errorf("%w: a JPEG segment of %d bytes", errBroken, n)
		}
		if err := s.take(n - 2); err != nil {
			return err
		}
		if behindScan = marker == 0xda; behindScan { // SOS
			if err := s.scan(); err != nil {
				return err
			}
		}
	}
}

// marker reads a marker and returns its second byte.
func (s *splitter) marker(halfRead bool) (byte, error) {
	if !halfRead {
		if err := s.take(1); err != nil {
			return 0, err
		}
		if b := s.buf[len(s.buf)-1]; b != 0xff {
			return 0, fmt.Errorf("%w: %02x where a JPEG marker should be", errBroken, b)
		}
	}
	for {
		if err := s.take(1); err != nil {
			return 0, err
		}
		if b := s.buf[len(s.buf)-1]; b != 0xff { // else a fill byte
			return b, nil
		}
	}
}

// scan reads the coded data of a scan up to the first byte of the marker
// behind it. In it 0xff is followed by 0, or is a restart marker.
func (s *splitter) scan() error {
	for {
		chunk, err := s.r.ReadSlice(0xff)
		if len(s.buf)+len(chunk) > s.max {
			return fmt.Errorf("%w: more than %d bytes", errBroken, s.max)
		}
		s.buf = append(s.buf, chunk...)
		if errors.Is(err, bufio.ErrBufferFull) {
			continue
		}
		if err != nil {
			return err
		}
		after, err := s.r.Peek(1)
		if err != nil {
			return err
		}
		if b := after[0]; b != 0 && (b < 0xd0 || b > 0xd7) {
			return nil
		}
		if err := s.take(1); err != nil {
			return err
		}
	}
}

// png reads one PNG file: its chunks up to IEND.
func (s *splitter) png() error {
	if err := s.take(len(pngMagic)); err != nil {
		return err
	}
	for {
		if err := s.take(8); err != nil {
			return err
		}
		head := s.buf[len(s.buf)-8:]
		n, end := binary.BigEndian.Uint32(head), string(head[4:]) == "IEND"
		if uint64(n) > uint64(s.max) {
			return fmt.Errorf("%w: a PNG chunk of %d bytes", errBroken, n)
		}
		if err := s.take(int(n) + 4); err != nil {
			return err
		}
		if end {
			return nil
		}
	}
}
