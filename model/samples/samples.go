// Package samples reads labelled pictures from disk, in the forms in which
// people have them: a folder of pictures with a labels.csv, IDX files (MNIST
// and its like), CIFAR-10 binary files. Start with Open and Set.At.
//
// Its promise: a Set of any length needs the memory of one picture, or of the
// file that holds them all; and At(i) is the same sample every time.
// It does not resize or normalise: model/prep does.
package samples

import (
	"cmp"
	"encoding/csv"
	"errors"
	"fmt"
	"image"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"dunlin/model/prep"
)

// Unlabelled is the Class of a sample that has none.
const Unlabelled = -1

// Sample is one picture and its class.
type Sample struct {
	Name    string // file, or file#index
	Picture image.Image
	Class   int // index in the network's output, or Unlabelled
}

// Options of Open.
type Options struct {
	LabelOffset int // added to each class: 1 where the network has a "background" class before them
	Limit       int // use the first so many, 0: all
}

// ErrNoSamples is returned, wrapped, by Open for a place that holds none.
var ErrNoSamples = errors.New("no samples found")

// Set is a list of samples.
type Set struct {
	source source
	offset int
	n      int
}

// source is one form of storage.
type source interface {
	count() int
	at(i int) (Sample, error)
	labelled() bool
}

// Open finds out which form path has:
//
//   - a folder with labels.csv: two columns, file and class index, with or
//     without a heading; files are named relative to the folder
//   - a folder with *-images-idx3-ubyte and *-labels-idx1-ubyte, or one of
//     these files, gzipped or not; in a folder with several pairs, t10k's
//   - a folder of CIFAR-10 *.bin files, or one of them
//   - a folder of PNG and JPEG files: samples without a class, in order of name
//
// It fails with ErrNoSamples where it finds none of them.
func Open(path string, o Options) (*Set, error) {
	src, err := open(path)
	if err != nil {
		return nil, fmt.Errorf("samples in %s: %w", path, err)
	}
	n := src.count()
	if n == 0 {
		return nil, fmt.Errorf("samples in %s: %w", path, ErrNoSamples)
	}
	if o.Limit > 0 {
		n = min(n, o.Limit)
	}
	return &Set{src, o.LabelOffset, n}, nil
}

func open(path string) (source, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if !info.IsDir() {
		if strings.HasSuffix(path, ".bin") {
			return openCIFAR([]string{path})
		}
		return openIDX(path)
	}
	if f, err := os.Open(filepath.Join(path, "labels.csv")); err == nil {
		defer f.Close()
		return readLabels(path, f)
	} else if !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	for _, pattern := range []string{"t10k-images*idx3*", "*images*idx3*"} {
		if found, _ := filepath.Glob(filepath.Join(path, pattern)); len(found) > 0 {
			return openIDX(found[0])
		}
	}
	if found, _ := filepath.Glob(filepath.Join(path, "*.bin")); len(found) > 0 {
		return openCIFAR(found)
	}
	return readFolder(path)
}

// Len returns the number of samples.
func (s *Set) Len() int { return s.n }

// Labelled reports whether every sample has a class.
func (s *Set) Labelled() bool { return s.source.labelled() }

// At returns sample i, 0 <= i < Len.
func (s *Set) At(i int) (Sample, error) {
	if i < 0 || i >= s.n {
		return Sample{}, fmt.Errorf("sample %d of %d", i, s.n)
	}
	x, err := s.source.at(i)
	if err != nil {
		return Sample{}, err
	}
	if x.Class != Unlabelled {
		x.Class += s.offset
	}
	return x, nil
}

// folder is pictures in files of their own.
type folder struct {
	dir     string
	files   []string
	classes []int // nil: unlabelled
}

func (f *folder) count() int     { return len(f.files) }
func (f *folder) labelled() bool { return f.classes != nil }

func (f *folder) at(i int) (Sample, error) {
	name := filepath.Join(f.dir, f.files[i])
	data, err := os.ReadFile(name)
	if err != nil {
		return Sample{}, err
	}
	img, err := prep.Decode(data, prep.Limits{})
	if err != nil {
		return Sample{}, fmt.Errorf("%s: %w", name, err)
	}
	class := Unlabelled
	if f.classes != nil {
		class = f.classes[i]
	}
	return Sample{f.files[i], img, class}, nil
}

func readFolder(dir string) (source, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	f := &folder{dir: dir}
	for _, e := range entries {
		switch strings.ToLower(filepath.Ext(e.Name())) {
		case ".png", ".jpg", ".jpeg":
			f.files = append(f.files, e.Name())
		}
	}
	return f, nil
}

// readLabels reads a labels.csv. Extra columns (a name for people) are
// allowed and ignored.
func readLabels(dir string, file *os.File) (source, error) {
	r := csv.NewReader(file)
	r.FieldsPerRecord = -1
	rows, err := r.ReadAll()
	if err != nil {
		return nil, fmt.Errorf("labels.csv: %w", err)
	}
	f := &folder{dir: dir, classes: []int{}}
	for i, row := range rows {
		if len(row) < 2 {
			return nil, fmt.Errorf("labels.csv: line %d: %d columns, want file,class", i+1, len(row))
		}
		class, err := strconv.Atoi(strings.TrimSpace(row[1]))
		if err != nil {
			if i == 0 {
				continue // the heading
			}
			return nil, fmt.Errorf("labels.csv: line %d: class %q is no number", i+1, row[1])
		}
		if class < 0 || !filepath.IsLocal(row[0]) {
			return nil, fmt.Errorf("labels.csv: line %d: file %q, class %d: want a file below the folder and a class from 0 on", i+1, row[0], class)
		}
		f.files, f.classes = append(f.files, row[0]), append(f.classes, class)
	}
	return f, nil
}

// Spread returns n indices spread evenly over a set of length total, so that
// a short calibration run sees every part of a file sorted by class.
func Spread(n, total int) []int {
	n = min(cmp.Or(n, total), total)
	out := make([]int, n)
	for i := range out {
		out[i] = i * total / n
	}
	return slices.Clip(out)
}
