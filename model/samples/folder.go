package samples

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"dunlin/model/prep"
)

// folder is samples in files of their own.
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
	s := Sample{Name: f.files[i], Class: Unlabelled}
	if f.classes != nil {
		s.Class = f.classes[i]
	}
	if strings.EqualFold(filepath.Ext(name), ".wav") {
		var sound prep.Sound
		sound, err = prep.DecodeSound(data, prep.SoundLimits{})
		s.Sound = &sound
	} else {
		s.Picture, err = prep.Decode(data, prep.Limits{})
	}
	if err != nil {
		return Sample{}, fmt.Errorf("%s: %w", name, err)
	}
	return s, nil
}

// readFolder lists the files of dir; where it has none, those of its
// subfolders, which are the classes.
func readFolder(dir string) (source, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	f := &folder{dir: dir}
	var classes []string
	for _, e := range entries {
		switch {
		case e.IsDir() && !strings.HasPrefix(e.Name(), "."):
			classes = append(classes, e.Name())
		case isSample(e.Name()):
			f.files = append(f.files, e.Name())
		}
	}
	if len(f.files) > 0 {
		return f, nil
	}
	for class, name := range classes {
		inside, err := os.ReadDir(filepath.Join(dir, name))
		if err != nil {
			return nil, err
		}
		for _, e := range inside {
			if isSample(e.Name()) {
				f.files, f.classes = append(f.files, filepath.Join(name, e.Name())), append(f.classes, class)
			}
		}
	}
	return f, nil
}

// isSample reports whether a file of this name is a picture or a sound.
func isSample(name string) bool {
	switch strings.ToLower(filepath.Ext(name)) {
	case ".png", ".jpg", ".jpeg", ".wav":
		return true
	}
	return false
}

func isFile(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.Mode().IsRegular()
}
