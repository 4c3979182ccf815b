// Package shared finds the models, data and conformance suites that tests
// use but that the project does not carry: they stand in a folder beside
// the checkout, named by the environment variable DUNLIN_SHARED (default
// ../shared, seen from the module's root).
//
// Start with Dir. Its promise: the absence of the folder is the only reason
// for which a test may skip, in one line; where CI is set, it is a failure.
// It is for tests only, and no shipped package imports it.
package shared

import (
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"testing"
)

// Dir returns the path of elem below the shared folder. It skips the test
// when the folder is absent, fails it when CI is set, and fails it when the
// folder is there but elem is not.
func Dir(t testing.TB, elem ...string) string {
	t.Helper()
	root := Root()
	if _, err := os.Stat(root); err != nil {
		if os.Getenv("CI") != "" {
			t.Fatalf("shared data: %s is absent, and CI must have it", root)
		}
		t.Skipf("skipped: no shared data at %s (set DUNLIN_SHARED)", root)
	}
	path := filepath.Join(append([]string{root}, elem...)...)
	if _, err := os.Stat(path); err != nil {
		t.Fatalf("shared data: %v", err)
	}
	return path
}

// Corpus adds to a fuzz target the files below elem whose names end in ext and
// that have at most the given number of bytes. Without the shared folder the
// target has its own seeds alone.
func Corpus(f *testing.F, ext string, most int64, elem ...string) {
	f.Helper()
	root := filepath.Join(append([]string{Root()}, elem...)...)
	if _, err := os.Stat(root); err != nil {
		return
	}
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || filepath.Ext(path) != ext {
			return err
		}
		if info, err := os.Stat(path); err != nil || info.Size() > most {
			return err
		}
		data, err := os.ReadFile(path)
		f.Add(data)
		return err
	})
	if err != nil {
		f.Fatal(err)
	}
}

// Root returns where the shared folder is looked for.
func Root() string {
	if dir := os.Getenv("DUNLIN_SHARED"); dir != "" {
		return dir
	}
	_, here, _, _ := runtime.Caller(0)
	return filepath.Join(filepath.Dir(here), "..", "..", "..", "shared")
}
