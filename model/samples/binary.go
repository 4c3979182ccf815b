package samples

import (
	"bytes"
	"compress/gzip"
	"encoding/binary"
	"fmt"
	"image"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// maxFile bounds what is read of one file, after decompression: the largest
// of the known sets (60,000 pictures of 28 x 28) has 47 MB.
const maxFile = 1 << 30

// readFile returns a file's bytes, decompressed where its name ends in .gz.
func readFile(name string) ([]byte, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	var r io.Reader = f
	if strings.HasSuffix(name, ".gz") {
		if r, err = gzip.NewReader(f); err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
	}
	var b bytes.Buffer
	n, err := io.Copy(&b, io.LimitReader(r, maxFile+1))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	if n > maxFile {
		return nil, fmt.Errorf("%s: more than %d bytes", name, maxFile)
	}
	return b.Bytes(), nil
}

// idx is the format of MNIST (http://yann.lecun.com/exdb/mnist): a magic
// number 0x0000 08 D with D dimensions, D big-endian uint32 lengths, bytes.
type idx struct {
	name    string
	w, h    int
	pixels  []byte
	classes []byte // nil: no file of labels
}

func openIDX(images string) (source, error) {
	pixels, dims, err := readIDX(images, 3)
	if err != nil {
		return nil, err
	}
	s := &idx{name: filepath.Base(images), h: dims[1], w: dims[2], pixels: pixels}
	base := strings.NewReplacer("images", "labels", "idx3", "idx1").Replace(filepath.Base(images))
	labels := filepath.Join(filepath.Dir(images), base)
	if _, err := os.Stat(labels); err != nil {
		return s, nil
	}
	classes, n, err := readIDX(labels, 1)
	if err != nil {
		return nil, err
	}
	if n[0] != dims[0] {
		return nil, fmt.Errorf("%s has %d labels for %d pictures", labels, n[0], dims[0])
	}
	s.classes = classes
	return s, nil
}

func readIDX(name string, rank int) (body []byte, dims []int, err error) {
	data, err := readFile(name)
	if err != nil {
		return nil, nil, err
	}
	if body, dims, err = parseIDX(data, rank); err != nil {
		return nil, nil, fmt.Errorf("%s: %w", name, err)
	}
	return body, dims, nil
}

func parseIDX(data []byte, rank int) (body []byte, dims []int, err error) {
	if len(data) < 4+4*rank || !bytes.Equal(data[:4], []byte{0, 0, 8, byte(rank)}) {
		return nil, nil, fmt.Errorf("not an IDX file of bytes with %d dimensions", rank)
	}
	size := uint64(1)
	for i := range rank {
		d := binary.BigEndian.Uint32(data[4+4*i:])
		if d == 0 || d > maxFile || size*uint64(d) > maxFile {
			return nil, nil, fmt.Errorf("IDX dimension %d is %d", i, d)
		}
		size *= uint64(d)
		dims = append(dims, int(d))
	}
	body = data[4+4*rank:]
	if uint64(len(body)) != size {
		return nil, nil, fmt.Errorf("IDX header %v asks for %d bytes, file has %d", dims, size, len(body))
	}
	return body, dims, nil
}

func (s *idx) count() int     { return len(s.pixels) / (s.w * s.h) }
func (s *idx) labelled() bool { return s.classes != nil }

func (s *idx) at(i int) (Sample, error) {
	n := s.w * s.h
	img := &image.Gray{Pix: s.pixels[i*n : (i+1)*n : (i+1)*n], Stride: s.w, Rect: image.Rect(0, 0, s.w, s.h)}
	class := Unlabelled
	if s.classes != nil {
		class = int(s.classes[i])
	}
	return Sample{Name: fmt.Sprintf("%s#%d", s.name, i), Picture: img, Class: class}, nil
}

// cifar is the binary form of CIFAR-10
// (https://www.cs.toronto.edu/~kriz/cifar.html): records of one label byte
// and three planes, red, green, blue, of 32 x 32 bytes.
type cifar struct {
	files []string
	ends  []int // of each file: records in it and in those before
}

const (
	cifarSide   = 32
	cifarPlane  = cifarSide * cifarSide
	cifarRecord = 1 + 3*cifarPlane
)

func openCIFAR(files []string) (source, error) {
	s := &cifar{}
	n := 0
	for _, file := range files {
		info, err := os.Stat(file)
		if err != nil {
			return nil, err
		}
		size := info.Size()
		if size == 0 || size%cifarRecord != 0 || size > maxFile {
			return nil, fmt.Errorf("%s: %d bytes are no CIFAR-10 records of %d", file, size, cifarRecord)
		}
		n += int(size / cifarRecord)
		s.files, s.ends = append(s.files, file), append(s.ends, n)
	}
	return s, nil
}

func (s *cifar) count() int     { return s.ends[len(s.ends)-1] }
func (s *cifar) labelled() bool { return true }

func (s *cifar) at(i int) (Sample, error) {
	file, _ := slices.BinarySearch(s.ends, i+1)
	if file > 0 {
		i -= s.ends[file-1]
	}
	f, err := os.Open(s.files[file])
	if err != nil {
		return Sample{}, err
	}
	defer f.Close()
	r := make([]byte, cifarRecord)
	if _, err := f.ReadAt(r, int64(i)*cifarRecord); err != nil {
		return Sample{}, fmt.Errorf("%s: record %d: %w", s.files[file], i, err)
	}
	img := image.NewRGBA(image.Rect(0, 0, cifarSide, cifarSide))
	for p := range cifarPlane {
		img.Pix[4*p], img.Pix[4*p+1] = r[1+p], r[1+cifarPlane+p]
		img.Pix[4*p+2], img.Pix[4*p+3] = r[1+2*cifarPlane+p], 255
	}
	return Sample{Name: fmt.Sprintf("%s#%d", filepath.Base(s.files[file]), i), Picture: img, Class: int(r[0])}, nil
}
