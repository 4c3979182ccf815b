package samples

import (
	"bytes"
	"compress/gzip"
	"encoding/binary"
	"errors"
	"image"
	"image/color"
	"image/png"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"dunlin/internal/shared"
	"dunlin/model"
	"dunlin/model/prep"
)

func write(t *testing.T, dir, name string, data []byte) string {
	t.Helper()
	path := filepath.Join(dir, name)
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func onePixel(t *testing.T, v uint8) []byte {
	t.Helper()
	img := image.NewGray(image.Rect(0, 0, 1, 1))
	img.SetGray(0, 0, color.Gray{Y: v})
	var b bytes.Buffer
	if err := png.Encode(&b, img); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func idxFile(dims []int, body ...byte) []byte {
	b := []byte{0, 0, 8, byte(len(dims))}
	for _, d := range dims {
		b = binary.BigEndian.AppendUint32(b, uint32(d))
	}
	return append(b, body...)
}

func zipped(data []byte) []byte {
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	w.Write(data)
	w.Close()
	return b.Bytes()
}

func redAt(s Sample) uint8 { r, _, _, _ := s.Picture.At(0, 0).RGBA(); return uint8(r >> 8) }

// read returns class and first red value of every sample.
func read(t *testing.T, path string, o Options) (classes []int, reds []uint8) {
	t.Helper()
	set, err := Open(path, o)
	if err != nil {
		t.Fatal(err)
	}
	for i := range set.Len() {
		s, err := set.At(i)
		if err != nil {
			t.Fatal(err)
		}
		classes, reds = append(classes, s.Class), append(reds, redAt(s))
	}
	return classes, reds
}

func TestForms(t *testing.T) {
	labelled, plain, idxDir, cifarDir := t.TempDir(), t.TempDir(), t.TempDir(), t.TempDir()
	for _, dir := range []string{labelled, plain} {
		write(t, dir, "b.png", onePixel(t, 20))
		write(t, dir, "a.png", onePixel(t, 10))
	}
	write(t, labelled, "labels.csv", []byte("file,class,name\nb.png,7,seven\na.png, 3,three\n"))
	write(t, idxDir, "t10k-images-idx3-ubyte.gz", zipped(idxFile([]int{2, 1, 2}, 10, 0, 20, 0)))
	write(t, idxDir, "t10k-labels-idx1-ubyte.gz", zipped(idxFile([]int{2}, 3, 7)))
	record := append([]byte{9, 77}, make([]byte, cifarRecord-2)...)
	write(t, cifarDir, "test.bin", append(slices.Clone(record), record...))
	bothIDX, bothCIFAR := t.TempDir(), t.TempDir()
	write(t, bothIDX, "train-images-idx3-ubyte", idxFile([]int{1, 1, 2}, 30, 0))
	write(t, bothIDX, "train-labels-idx1-ubyte", idxFile([]int{1}, 5))
	write(t, bothIDX, "t10k-images-idx3-ubyte", idxFile([]int{1, 1, 2}, 40, 0))
	write(t, bothIDX, "t10k-labels-idx1-ubyte", idxFile([]int{1}, 6))
	write(t, bothCIFAR, "data_batch_1.bin", record)
	write(t, bothCIFAR, "data_batch_2.bin", append(slices.Clone(record), record...))
	write(t, bothCIFAR, "test_batch.bin", append([]byte{1, 88}, make([]byte, cifarRecord-2)...))
	if HasParts(cifarDir) || HasParts(idxDir) || HasParts(labelled) || !HasParts(bothIDX) || !HasParts(bothCIFAR) {
		t.Error("which folders have two parts is not told")
	}

	for _, c := range []struct {
		dir     string
		o       Options
		classes []int
		reds    []uint8
	}{
		{labelled, Options{}, []int{7, 3}, []uint8{20, 10}},
		{labelled, Options{LabelOffset: 1, Limit: 1}, []int{8}, []uint8{20}},
		{plain, Options{LabelOffset: 1}, []int{Unlabelled, Unlabelled}, []uint8{10, 20}},
		{idxDir, Options{}, []int{3, 7}, []uint8{10, 20}},
		{filepath.Join(idxDir, "t10k-images-idx3-ubyte.gz"), Options{}, []int{3, 7}, []uint8{10, 20}},
		{cifarDir, Options{}, []int{9, 9}, []uint8{77, 77}},
		{cifarDir, Options{Train: true}, []int{9, 9}, []uint8{77, 77}},
		{bothIDX, Options{}, []int{6}, []uint8{40}},
		{bothIDX, Options{Train: true}, []int{5}, []uint8{30}},
		{bothCIFAR, Options{}, []int{1}, []uint8{88}},
		{bothCIFAR, Options{Train: true}, []int{9, 9, 9}, []uint8{77, 77, 77}},
	} {
		classes, reds := read(t, c.dir, c.o)
		if !slices.Equal(classes, c.classes) || !slices.Equal(reds, c.reds) {
			t.Errorf("%s %+v: classes %v, reds %v", c.dir, c.o, classes, reds)
		}
	}
}

// tone is a WAV of 4 samples of 16 bits, the first of value v.
func tone(v byte) []byte {
	b := []byte("RIFF\x2c\x00\x00\x00WAVEfmt \x10\x00\x00\x00\x01\x00\x01\x00\x40\x1f\x00\x00\x80\x3e\x00\x00\x02\x00\x10\x00data\x08\x00\x00\x00")
	return append(b, 0, v, 0, 0, 0, 0, 0, 0)
}

// TestKinds reads sounds, a folder for each class and tables of numbers, and
// makes the input of each.
func TestKinds(t *testing.T) {
	sounds, classes, numbers := t.TempDir(), t.TempDir(), t.TempDir()
	write(t, sounds, "b.wav", tone(64))
	write(t, sounds, "a.wav", tone(32))
	write(t, sounds, "labels.csv", []byte("b.wav,1\na.wav,0\n"))
	for i, name := range []string{"cat", "dog", ".hidden"} {
		if err := os.Mkdir(filepath.Join(classes, name), 0o700); err != nil {
			t.Fatal(err)
		}
		write(t, filepath.Join(classes, name), "x.png", onePixel(t, uint8(10*i+10)))
	}
	write(t, numbers, "values.csv", []byte("\ufefftime,b, class,a\n12:00,2,1,0.5\n\n12:01,-3,0,1e2"))

	sound := prep.Input{Kind: "sound", Layout: "flat", Scale: 1, Rules: &prep.SoundRules{Rate: 8000, Features: "samples", Frames: 4, Step: 4, Gain: 1}}
	picture := prep.Input{Kind: "picture", Color: "gray", Width: 1, Height: 1, Fit: "stretch", Resize: "nearest", Layout: "nchw", Scale: 1, Keep: 1}
	values := prep.Input{Kind: "values", Layout: "flat", Scale: 1, Fields: []string{"a", "b"}}
	for _, c := range []struct {
		path  string
		in    prep.Input
		class []int
		want  [][]float32
	}{
		{sounds, sound, []int{1, 0}, [][]float32{{.5, 0, 0, 0}, {.25, 0, 0, 0}}},
		{classes, picture, []int{0, 1}, [][]float32{{10}, {20}}},
		{numbers, values, []int{1, 0}, [][]float32{{.5, 2}, {100, -3}}},
		{filepath.Join(numbers, "values.csv"), values, []int{1, 0}, [][]float32{{.5, 2}, {100, -3}}},
	} {
		set, err := Open(c.path, Options{})
		if err != nil {
			t.Fatal(err)
		}
		if set.Len() != len(c.want) || !set.Labelled() {
			t.Fatalf("%s: %d samples, labelled %v", c.path, set.Len(), set.Labelled())
		}
		for i, want := range c.want {
			s, err := set.At(i)
			if err != nil {
				t.Fatal(err)
			}
			dst, err := model.NewTensor(model.F32, c.in.Shape()...)
			if err != nil {
				t.Fatal(err)
			}
			if err := s.Fill(c.in, dst); err != nil || !slices.Equal(dst.F32(), want) || s.Class != c.class[i] {
				t.Errorf("%s: sample %d: class %d, %v, want %d, %v; %v", c.path, i, s.Class, dst.F32(), c.class[i], want, err)
			}
			other := picture
			if c.in.Kind == "picture" {
				other = values
			}
			if err := s.Fill(other, dst); err == nil || !strings.Contains(err.Error(), "takes a") {
				t.Errorf("%s as a %s: %v", s.Name, other.Kind, err)
			}
		}
	}
}

func TestRefused(t *testing.T) {
	dir := t.TempDir()
	if _, err := Open(dir, Options{}); !errors.Is(err, ErrNoSamples) {
		t.Errorf("empty folder: %v", err)
	}
	for name, c := range map[string]struct {
		data []byte
		want string
	}{
		"short.bin":               {make([]byte, 100), "no CIFAR-10 records"},
		"x-images-idx3-ubyte":     {idxFile([]int{2, 1, 2}, 1), "asks for 4 bytes"},
		"huge-images-idx3-ubyte":  {idxFile([]int{1 << 31, 1 << 31, 1 << 31}), "dimension 0"},
		"numbers.csv":             {[]byte("1,2\n3,4\n"), "want a heading"},
		"twice.csv":               {[]byte("a,a\n3,4\n"), "stands twice"},
		"labels-images-idx3-x.gz": {[]byte("not gzip at all"), "gzip"},
	} {
		if _, err := Open(write(t, dir, name, c.data), Options{}); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q in it", name, err, c.want)
		}
	}
	for text, want := range map[string]string{
		"../x.png,1\n":     "below the folder",
		"a.png\n":          "1 columns",
		"a.png,1\nb.png,z": `class "z"`,
	} {
		bad := t.TempDir()
		write(t, bad, "labels.csv", []byte(text))
		if _, err := Open(bad, Options{}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q in it", text, err, want)
		}
	}
}

// The real sets have the sizes and the balance that their pages state.
func TestRealSets(t *testing.T) {
	for _, c := range []struct {
		elem  []string
		n     int
		class map[int]int // class -> how many
	}{
		{[]string{"data", "vision", "cifar10", "test-2000.bin"}, 2000, map[int]int{0: 200, 9: 200}},
		{[]string{"data", "vision", "mnist"}, 10000, map[int]int{0: 980, 1: 1135, 9: 1009}},
		{[]string{"data", "vision", "imagenet-sample-500"}, 500, map[int]int{0: 1, 998: 1, 999: 0}},
	} {
		set, err := Open(shared.Dir(t, c.elem...), Options{})
		if err != nil {
			t.Fatal(err)
		}
		if set.Len() != c.n || !set.Labelled() {
			t.Errorf("%v: %d samples, labelled %v", c.elem, set.Len(), set.Labelled())
		}
		seen := map[int]int{}
		for i := range set.Len() {
			s, err := set.At(i)
			if err != nil {
				t.Fatal(err)
			}
			seen[s.Class]++
		}
		for class, want := range c.class {
			if seen[class] != want {
				t.Errorf("%v: class %d stands %d times, want %d", c.elem, class, seen[class], want)
			}
		}
	}
}

// TestRows: a row that is not like the heading says so when it is read.
func TestRows(t *testing.T) {
	for text, want := range map[string]string{
		"a,class\n1\n":    "1 cells for 2 columns",
		"a,class\n1,x\n":  `class "x"`,
		"a,class\n1,-2\n": `class "-2"`,
	} {
		set, err := Open(write(t, t.TempDir(), "x.csv", []byte(text)), Options{})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := set.At(0); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q in it", text, err, want)
		}
	}
}

func FuzzTable(f *testing.F) {
	f.Add("a,class\n1,2\n\"x\",3", 0)
	f.Add("a\n\n\n1e400\n", 0)
	dir := f.TempDir()
	f.Fuzz(func(t *testing.T, text string, i int) {
		file := filepath.Join(dir, "x.csv")
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		set, err := Open(file, Options{})
		if err != nil || i < 0 || i >= set.Len() {
			return
		}
		s, err := set.At(i)
		if err == nil && (s.Line == nil || s.Class < Unlabelled) {
			t.Fatalf("%q: %+v", text, s)
		}
	})
}

// TestSpread: a sample of each part, and every class of a set in which they
// take turns.
func TestSpread(t *testing.T) {
	seen := map[int]bool{}
	for i, at := range Spread(200, 2000) {
		if at < 10*i || at >= 10*(i+1) {
			t.Errorf("sample %d is %d", i, at)
		}
		seen[at%10] = true
	}
	if len(seen) != 10 {
		t.Errorf("only %d of 10 classes", len(seen))
	}
	if !slices.Equal(Spread(200, 2000), Spread(200, 2000)) {
		t.Error("twice the same is not the same")
	}
	if got := Spread(0, 2); !slices.Equal(got, []int{0, 1}) {
		t.Errorf("%v", got)
	}
	if got := Spread(5, 2); len(got) != 2 {
		t.Errorf("%v", got)
	}
}

func FuzzIDX(f *testing.F) {
	f.Add(idxFile([]int{2, 1, 2}, 1, 2, 3, 4))
	f.Add(idxFile([]int{2}, 1, 2))
	f.Fuzz(func(t *testing.T, data []byte) {
		for rank := 1; rank <= 3; rank++ {
			body, dims, err := parseIDX(data, rank)
			if err != nil {
				continue
			}
			n := 1
			for _, d := range dims {
				n *= d
			}
			if n != len(body) {
				t.Fatalf("%v: %d bytes", dims, len(body))
			}
		}
	})
}
