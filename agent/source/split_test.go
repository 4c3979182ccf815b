package source

import (
	"bytes"
	"encoding/binary"
	"errors"
	"image/jpeg"
	"io"
	"slices"
	"testing"
	"testing/iotest"
)

// withThumbnail puts a whole JPEG into an APP1 segment of another.
func withThumbnail(outer, inner []byte) []byte {
	head := []byte{0xff, 0xe1, 0, 0}
	binary.BigEndian.PutUint16(head[2:], uint16(2+len(inner)))
	return slices.Concat(outer[:2], head, inner, outer[2:])
}

// all returns what a splitter finds.
func all(t *testing.T, r io.Reader, most int) (found [][]byte, bad int, err error) {
	t.Helper()
	s := newSplitter(r, most)
	for {
		data, err := s.next()
		if err != nil {
			return found, s.bad, err
		}
		found = append(found, data)
	}
}

func TestSplitter(t *testing.T) {
	a, b, c := shot(t, 10), pngShot(t, 200), withThumbnail(shot(t, 90), shot(t, 5))
	// Fill bytes before a marker belong to the picture.
	filled := slices.Concat(a[:2], []byte{0xff, 0xff}, a[2:])
	for _, x := range []struct {
		name string
		in   []byte
		want [][]byte
		bad  int
	}{
		{"one after the other", slices.Concat(a, b, c, a), [][]byte{a, b, c, a}, 0},
		{"rubbish between", slices.Concat([]byte("\xff\xd8\xfe"), a, []byte("\r\n--x\r\n"), b, []byte("end")), [][]byte{a, b}, 0},
		{"fill bytes", slices.Concat(filled, a), [][]byte{filled, a}, 0},
		{"cut in a scan", slices.Concat(a[:len(a)-20], c, a), [][]byte{c, a}, 1},
		{"unfinished", slices.Concat(a, c[:len(c)-1]), [][]byte{a}, 0},
		{"nothing", nil, nil, 0},
	} {
		for _, r := range []io.Reader{bytes.NewReader(x.in), iotest.OneByteReader(bytes.NewReader(x.in))} {
			got, bad, err := all(t, r, 1<<20)
			if !slices.EqualFunc(got, x.want, bytes.Equal) || bad != x.bad {
				t.Errorf("%s: %d pictures, %d bad, want %d and %d", x.name, len(got), bad, len(x.want), x.bad)
			}
			if !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
				t.Errorf("%s: %v", x.name, err)
			}
		}
	}
}

// What is no picture, and what is too large, ends in an error rather than in
// memory.
func TestSplitterBounds(t *testing.T) {
	a := shot(t, 10)
	if got, bad, err := all(t, bytes.NewReader(slices.Concat(a, a)), len(a)-1); len(got) != 0 || bad == 0 || !errors.Is(err, errNoImage) {
		t.Errorf("pictures of %d bytes where fewer are allowed: %d, %d bad, %v", len(a), len(got), bad, err)
	}
	if _, _, err := all(t, zeros{}, 1<<16); !errors.Is(err, errNoImage) {
		t.Errorf("no picture: %v", err)
	}
	huge := slices.Concat(pngMagic, []byte{0xff, 0xff, 0xff, 0xff}, []byte("IDAT"))
	if _, _, err := all(t, io.MultiReader(bytes.NewReader(huge), zeros{}), 1<<16); !errors.Is(err, errNoImage) {
		t.Errorf("a chunk of 4 GB: %v", err)
	}
}

// zeros never ends.
type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }

// A JPEG as a USB camera gives it, without Huffman tables, decodes to the
// same pixels as the whole one.
func TestTablesAreAdded(t *testing.T) {
	whole := shot(t, 77)
	at := bytes.Index(whole, []byte{0xff, 0xc4})
	if at < 0 {
		t.Fatal("the encoder writes no tables")
	}
	end := at
	for whole[end] == 0xff && whole[end+1] == 0xc4 {
		end += 2 + int(binary.BigEndian.Uint16(whole[end+2:]))
	}
	bare := slices.Concat(whole[:at], whole[end:])
	want, err := jpeg.Decode(bytes.NewReader(whole))
	if err != nil {
		t.Fatal(err)
	}
	got, err := jpeg.Decode(bytes.NewReader(withTables(bare)))
	if err != nil {
		t.Fatal(err)
	}
	for y := range 24 {
		for x := range 40 {
			if got.At(x, y) != want.At(x, y) {
				t.Fatalf("pixel %d, %d: %v, want %v", x, y, got.At(x, y), want.At(x, y))
			}
		}
	}
	for _, same := range [][]byte{whole, pngShot(t, 1), nil, {0xff, 0xd8}, {0xff, 0xd8, 0xff, 0xe0, 0xff, 0xff}} {
		if !bytes.Equal(withTables(same), same) {
			t.Errorf("%d bytes were changed", len(same))
		}
	}
}

// Whatever comes, what is found was there, and is no larger than allowed.
func FuzzSplitter(f *testing.F) {
	f.Add([]byte("\xff\xd8\xff\xd9"), 3)
	f.Add(shot(f, 3), 100)
	f.Add(pngShot(f, 3), 7)
	f.Add([]byte("\xff\xd8\xff\xda\x00\x02\xff\x00\xff\xd0\xff\xff\xd9"), 1)
	f.Fuzz(func(t *testing.T, data []byte, cut int) {
		const most = 4 << 10
		if cut < 0 || cut > len(data) {
			cut = len(data) / 2
		}
		s := newSplitter(io.MultiReader(bytes.NewReader(data[:cut]), bytes.NewReader(data[cut:])), most)
		for {
			got, err := s.next()
			if err != nil {
				return
			}
			if len(got) > most || !isPicture(got) || !bytes.Contains(data, got) {
				t.Fatalf("%d bytes that were not in the stream, or too many", len(got))
			}
			withTables(got)
		}
	})
}

// The same of the parts of an answer.
func FuzzParts(f *testing.F) {
	f.Add([]byte("--b\r\nContent-Length: 3\r\n\r\nabc\r\n--b\r\n\r\nxyz\r\n--b--\r\n"), "b")
	f.Add([]byte("\n--b\n\nab\n--b--"), "--b")
	f.Add([]byte("--b\r\nContent-Length: -1\r\n\r\n"), "b")
	f.Fuzz(func(t *testing.T, data []byte, boundary string) {
		const most = 4 << 10
		p := newParts(bytes.NewReader(data), boundary, most)
		for {
			got, err := p.next()
			if err != nil {
				return
			}
			if len(got) > most || !bytes.Contains(data, got) {
				t.Fatalf("a part of %d bytes", len(got))
			}
		}
	})
}
