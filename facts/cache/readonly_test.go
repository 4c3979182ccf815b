package cache

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"dunlin/facts"
)

// TestReadOnlyLeavesEveryFileAsItIs: asking a file of another kind must not
// move it aside, and asking a path without a file must not make one.
func TestReadOnlyLeavesEveryFileAsItIs(t *testing.T) {
	set := factSet{{S: facts.Resource("http://x/s"), P: facts.Resource("http://x/p"), O: facts.Text("o")}: true}
	whole, err := os.ReadFile(buildBase(t, Version{"g", 1}, set))
	if err != nil {
		t.Fatal(err)
	}
	torn := bytes.Clone(whole)
	torn[len(torn)-pageSize] ^= 0xff
	for name, data := range map[string][]byte{
		"text": []byte("a list of things to buy\n"), "empty": {}, "torn": torn, "cut": whole[:len(whole)-pageSize],
		"long text": bytes.Repeat([]byte("one line of many\n"), 4096),
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			path := filepath.Join(dir, "file")
			if err := os.WriteFile(path, data, 0o600); err != nil {
				t.Fatal(err)
			}
			if c, err := OpenReadOnly(path); !errors.Is(err, ErrNotBase) {
				t.Errorf("got %v, %v, want ErrNotBase", c, err)
			}
			holdsOnly(t, dir, "file", data)
		})
	}
	dir := t.TempDir()
	if _, err := OpenReadOnly(filepath.Join(dir, "none")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("no file: %v", err)
	}
	if _, err := OpenReadOnly(dir); !errors.Is(err, ErrNotBase) {
		t.Errorf("a folder: %v", err)
	}
	holdsOnly(t, dir, "", nil)
}

func TestReadOnlyAnswersAndTakesNothing(t *testing.T) {
	fact := facts.Fact{S: facts.Resource("http://x/s"), P: facts.Resource("http://x/p"), O: facts.Text("o")}
	base := buildBase(t, Version{"g", 1}, factSet{fact: true})
	data, err := os.ReadFile(base)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(base, 0o400); err != nil {
		t.Fatal(err)
	}
	left := base + newSuffix // of a writer that died: not ours to remove
	if err := os.WriteFile(left, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	c, err := OpenReadOnly(base)
	if err != nil {
		t.Fatal(err)
	}
	second, err := OpenReadOnly(base)
	if err != nil {
		t.Fatalf("a second reader: %v", err)
	}
	if err := second.Close(); err != nil {
		t.Error(err)
	}
	if all, err := c.Match(facts.Term{}, facts.Term{}, facts.Term{}, 0); err != nil || len(all) != 1 || all[0] != fact {
		t.Errorf("%v, %v", all, err)
	}
	if err := c.ApplyBase("g", 1, base); !errors.Is(err, ErrReadOnly) {
		t.Errorf("a base: %v", err)
	}
	if err := c.ApplyPatch("g", 1, 2, bytes.NewReader(patch(t, "g", 1, 2, nil, []facts.Fact{fact}))); !errors.Is(err, ErrReadOnly) {
		t.Errorf("a patch: %v", err)
	}
	if err := c.Close(); err != nil {
		t.Error(err)
	}
	if err := os.Remove(left); err != nil {
		t.Error(err)
	}
	holdsOnly(t, filepath.Dir(base), filepath.Base(base), data)
}

// holdsOnly checks that dir has the one file name with these bytes, or
// nothing where name is "".
func holdsOnly(t *testing.T, dir, name string, want []byte) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if e.Name() != name {
			t.Errorf("%s was made", e.Name())
		}
	}
	if name == "" {
		return
	}
	if got, err := os.ReadFile(filepath.Join(dir, name)); err != nil || !bytes.Equal(got, want) {
		t.Errorf("the file has changed: %d bytes, %v", len(got), err)
	}
}
