// Package samples reads labelled pictures, sounds and lines of numbers from
// disk, in the forms in which people have them: a folder of files with a
// labels.csv or a subfolder for each class, IDX files (MNIST and its like),
// CIFAR-10 binary files, a table in CSV. Start with Open, Set.At and
// Sample.Fill.
//
// Its promise: a Set of any length needs the memory of one sample and eight
// bytes for each, or of the IDX file that holds them all; and At(i) is the same
// sample every time. It does not resize or normalise: model/prep does.
package samples

import (
	"cmp"
	"encoding/csv"
	"errors"
	"fmt"
	"image"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"dunlin/model"
	"dunlin/model/prep"
)

// Unlabelled is the Class of a sample that has none.
const Unlabelled = -1

// Sample is one picture, sound or line, and its class.
type Sample struct {
	Name    string      // file, or file#index
	Picture image.Image // nil where it is none
	Sound   *prep.Sound // nil where it is none
	Line    []byte      // nil where it is none: a JSON object of numbers by their columns
	Class   int         // index in the network's output, or Unlabelled
}

// Fill writes the sample to dst as in says: of a sound the first window. It
// fails where in takes another kind of thing, and with what prep fails with.
func (s Sample) Fill(in prep.Input, dst *model.Tensor) error {
	var err error
	switch {
	case in.Kind == "sound" && s.Sound != nil:
		err = in.Sound(*s.Sound, dst)
	case in.Kind == "values" && s.Line != nil:
		err = in.Numbers(s.Line, dst)
	case in.Kind == "picture" && s.Picture != nil:
		err = in.Picture(s.Picture, dst)
	default:
		return fmt.Errorf("%s is a %s, the input %q takes a %s", s.Name, s.kind(), in.Name, in.Kind)
	}
	if err != nil {
		return fmt.Errorf("%s: %w", s.Name, err)
	}
	return nil
}

func (s Sample) kind() string {
	switch {
	case s.Sound != nil:
		return "sound"
	case s.Line != nil:
		return "line of numbers"
	}
	return "picture"
}

// Options of Open.
type Options struct {
	LabelOffset int  // added to each class: 1 where the network has a "background" class before them
	Limit       int  // use the first so many, 0: all
	Train       bool // of a folder that holds both (HasParts), the training samples, not those to test with
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
//     without a heading; files are named relative to the folder and are PNG,
//     JPEG or WAV
//   - a folder with *-images-idx3-ubyte and *-labels-idx1-ubyte, or one of
//     these files, gzipped or not; in a folder with several pairs, t10k's, or
//     with Options.Train the one called train
//   - a folder of CIFAR-10 *.bin files, or one of them; in a folder with
//     data_batch_*.bin and test_batch.bin, the latter, or with Options.Train
//     the former
//   - a table of numbers, *.csv with a heading, or a folder with a values.csv:
//     a sample a row; the column "class", where there is one, is its class
//   - a folder of PNG, JPEG or WAV files: samples without a class, in order of
//     name
//   - a folder of such folders, one for each class, numbered in order of name
//
// It fails with ErrNoSamples where it finds none of them.
func Open(path string, o Options) (*Set, error) {
	src, err := open(path, o.Train)
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

// The two parts of the known sets, by their files.
var parts = []struct{ train, test string }{
	{"train-images*idx3*", "t10k-images*idx3*"},
	{"data_batch_*.bin", "test_batch.bin"},
}

// part returns the files in dir of the training or the test part, where it has
// both.
func part(dir string, train bool) []string {
	for _, p := range parts {
		forTrain, _ := filepath.Glob(filepath.Join(dir, p.train))
		forTest, _ := filepath.Glob(filepath.Join(dir, p.test))
		switch {
		case len(forTrain) == 0 || len(forTest) == 0:
		case train:
			return forTrain
		default:
			return forTest
		}
	}
	return nil
}

// HasParts reports whether path is a folder with samples to train with and
// others to test with.
func HasParts(path string) bool { return part(path, false) != nil }

func open(path string, train bool) (source, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if !info.IsDir() {
		switch {
		case strings.HasSuffix(path, ".bin"):
			return openCIFAR([]string{path})
		case strings.HasSuffix(path, ".csv"):
			return openTable(path)
		}
		return openIDX(path)
	}
	if f, err := os.Open(filepath.Join(path, "labels.csv")); err == nil {
		defer f.Close()
		return readLabels(path, f)
	} else if !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	if table := filepath.Join(path, "values.csv"); isFile(table) {
		return openTable(table)
	}
	if files := part(path, train); len(files) > 0 {
		if strings.HasSuffix(files[0], ".bin") {
			return openCIFAR(files)
		}
		return openIDX(files[0])
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

// Spread returns n indices spread over a set of length total: one of each nth
// part of it, so that a short run sees every part of a file sorted by class,
// and which one by a fixed draw, so that it sees every class of a file in which
// they take turns.
func Spread(n, total int) []int {
	n = min(cmp.Or(n, total), total)
	out, r := make([]int, n), rand.New(rand.NewPCG(uint64(n), uint64(total)))
	for i := range out {
		first, end := i*total/n, (i+1)*total/n
		out[i] = first + r.IntN(end-first)
	}
	return out
}
