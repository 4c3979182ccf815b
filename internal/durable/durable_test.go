package durable

import (
	"bytes"
	"errors"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
)

const (
	oldText = "the old content"
	newText = "the new content, which is longer than the old one was"
)

// withOld returns a file system on which dir/file lasts with the old text.
func withOld(t *testing.T) *Forgetful {
	t.Helper()
	f := NewForgetful()
	if err := Mkdir(f, "dir", 0o755); err != nil {
		t.Fatal(err)
	}
	if err := Replace(f, "dir/file", []byte(oldText), 0o644); err != nil {
		t.Fatal(err)
	}
	f.Crash()
	if got := read(t, f, "dir/file"); got != oldText {
		t.Fatalf("before the test: %q", got)
	}
	return f
}

func read(t *testing.T, f FS, path string) string {
	t.Helper()
	b, err := f.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return "absent"
	}
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

type writer func(FS, string, []byte, fs.FileMode) error

// breaks runs write with a power cut at each of its operations and returns
// the promises of Replace that it broke, in words.
func breaks(t *testing.T, write writer) []string {
	t.Helper()
	whole := withOld(t)
	before := whole.Ops()
	if err := write(whole, "dir/file", []byte(newText), 0o644); err != nil {
		t.Fatal(err)
	}
	n := whole.Ops() - before
	var broken []string
	crashes := map[string]func(*Forgetful){"strict": (*Forgetful).Crash}
	for seed := range uint64(20) {
		crashes["some"+string(rune('a'+seed))] = func(f *Forgetful) { f.CrashSome(rand.New(rand.NewPCG(seed, 1))) }
	}
	for name, crash := range crashes {
		for cut := range n + 1 {
			f := withOld(t)
			f.CutAt(cut)
			err := write(f, "dir/file", []byte(newText), 0o644)
			if (err == nil) != (cut == n) {
				t.Fatalf("cut at %d of %d: error %v", cut, n, err)
			}
			if err != nil && !errors.Is(err, ErrPowerCut) {
				t.Fatalf("cut at %d: %v", cut, err)
			}
			crash(f)
			got := read(t, f, "dir/file")
			switch {
			case got != oldText && got != newText:
				broken = append(broken, name+": torn: "+got)
			case err == nil && got != newText:
				broken = append(broken, name+": forgotten")
			}
		}
	}
	return broken
}

func TestReplaceSurvivesEachCut(t *testing.T) {
	if b := breaks(t, Replace); b != nil {
		t.Error(b)
	}
}

// The controls: each leaves one step of Replace out, and the test above must
// notice.
func TestCutsFindWhatIsMissing(t *testing.T) {
	controls := map[string]struct {
		write writer
		want  string
	}{
		"without SyncDir": {func(f FS, path string, data []byte, perm fs.FileMode) error {
			if err := writeSynced(f, path+".new", data, perm); err != nil {
				return err
			}
			return f.Rename(path+".new", path)
		}, "forgotten"},
		"without Sync": {func(f FS, path string, data []byte, perm fs.FileMode) error {
			w, err := f.Create(path+".new", perm)
			if err != nil {
				return err
			}
			if _, err := w.Write(data); err != nil {
				return err
			}
			if err := f.Rename(path+".new", path); err != nil {
				return err
			}
			return f.SyncDir(filepath.Dir(path))
		}, "torn"},
		"without Rename": {writeSynced, "torn"},
	}
	for name, c := range controls {
		t.Run(name, func(t *testing.T) {
			b := breaks(t, c.write)
			if !slices.ContainsFunc(b, func(s string) bool { return strings.Contains(s, c.want) }) {
				t.Errorf("want a %q among %q", c.want, b)
			}
		})
	}
}

// An error, unlike a cut, must also leave no temporary file.
func TestReplaceFailsClean(t *testing.T) {
	whole := withOld(t)
	before := whole.Ops()
	if err := Replace(whole, "dir/file", []byte(newText), 0o644); err != nil {
		t.Fatal(err)
	}
	for _, cause := range []error{syscall.ENOSPC, syscall.EIO} {
		for n := range whole.Ops() - before {
			f := withOld(t)
			f.FailAt(n, cause)
			err := Replace(f, "dir/file", []byte(newText), 0o644)
			if !errors.Is(err, cause) {
				t.Fatalf("%v at %d: got %v", cause, n, err)
			}
			if got := read(t, f, "dir/file"); got != oldText && got != newText {
				t.Errorf("%v at %d: torn: %q", cause, n, got)
			}
			entries, err := f.ReadDir("dir")
			if err != nil || len(entries) != 1 {
				t.Errorf("%v at %d: left %v, %v", cause, n, entries, err)
			}
		}
	}
}

func TestMoveBetweenDirectoriesNeverLosesTheFile(t *testing.T) {
	setup := func() *Forgetful {
		f := withOld(t)
		if err := Mkdir(f, "to/deep", 0o755); err != nil {
			t.Fatal(err)
		}
		// Written, but not synced: Move must see to that.
		w, err := f.Append("dir/file", 0o644)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(w, "+"); err != nil {
			t.Fatal(err)
		}
		return f
	}
	whole := setup()
	before := whole.Ops()
	if err := Move(whole, "dir/file", "to/deep/moved"); err != nil {
		t.Fatal(err)
	}
	n := whole.Ops() - before
	for cut := range n + 1 {
		for seed := range uint64(10) {
			f := setup()
			f.CutAt(cut)
			err := Move(f, "dir/file", "to/deep/moved")
			if seed == 0 {
				f.Crash()
			} else {
				f.CrashSome(rand.New(rand.NewPCG(seed, 2)))
			}
			from, to := read(t, f, "dir/file"), read(t, f, "to/deep/moved")
			if from == "absent" && to == "absent" {
				t.Errorf("cut at %d: lost", cut)
			}
			if to != "absent" && to != oldText+"+" {
				t.Errorf("cut at %d: moved but torn: %q", cut, to)
			}
			if err == nil && (to != oldText+"+" || from != "absent") {
				t.Errorf("moved, then %q and %q", from, to)
			}
		}
	}
}

func TestMkdirAndRemoveLast(t *testing.T) {
	f := NewForgetful()
	if err := Mkdir(f, "a/b/c", 0o755); err != nil {
		t.Fatal(err)
	}
	if err := Replace(f, "a/b/c/x", []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	f.Crash()
	if got := read(t, f, "a/b/c/x"); got != "x" {
		t.Fatalf("after a crash: %q", got)
	}
	if err := Remove(f, "a/b/c/x"); err != nil {
		t.Fatal(err)
	}
	f.Crash()
	if got := read(t, f, "a/b/c/x"); got != "absent" {
		t.Fatalf("removed, but after a crash: %q", got)
	}
	if err := Remove(f, "a/b/c/x"); err != nil {
		t.Errorf("removing nothing: %v", err)
	}
}

func TestForgetfulClosesFilesAtCrash(t *testing.T) {
	f := withOld(t)
	h, err := f.Open("dir/file")
	if err != nil {
		t.Fatal(err)
	}
	f.Crash()
	if _, err := h.Read(make([]byte, 1)); !errors.Is(err, fs.ErrClosed) {
		t.Errorf("read in the next life: %v", err)
	}
}

// Both implementations of FS must behave alike as long as nothing crashes.
func TestFileSystems(t *testing.T) {
	systems := map[string]struct {
		fsys FS
		root string
	}{"disk": {OS, t.TempDir()}, "forgetful": {NewForgetful(), "/"}}
	for name, s := range systems {
		t.Run(name, func(t *testing.T) { testFS(t, s.fsys, s.root) })
	}
}

func testFS(t *testing.T, f FS, root string) {
	p := func(name string) string { return filepath.Join(root, name) }
	check := func(what string, err, want error) {
		t.Helper()
		if !errors.Is(err, want) {
			t.Errorf("%s: %v, want %v", what, err, want)
		}
	}
	_, err := f.Open(p("none"))
	check("open nothing", err, fs.ErrNotExist)
	_, err = f.Create(p("no/where"), 0o644)
	check("create nowhere", err, fs.ErrNotExist)
	check("rename nothing", f.Rename(p("none"), p("x")), fs.ErrNotExist)
	check("mkdir", f.MkdirAll(p("d/e"), 0o755), nil)
	check("mkdir again", f.MkdirAll(p("d/e"), 0o755), nil)
	check("write", Replace(f, p("d/e/one"), []byte("one"), 0o640), nil)
	check("mkdir below a file", f.MkdirAll(p("d/e/one/x"), 0o755), syscall.ENOTDIR)
	check("remove full", f.Remove(p("d/e")), syscall.ENOTEMPTY)
	_, err = f.Create(p("d"), 0o644)
	check("create over a directory", err, syscall.EISDIR)

	w, err := f.Append(p("d/e/one"), 0o640)
	check("append", err, nil)
	_, err = io.WriteString(w, " two")
	check("append", err, nil)
	_, err = w.Read(make([]byte, 1))
	check("read from an appender", err, syscall.EBADF)
	check("truncate", w.Truncate(6), nil)
	check("close", w.Close(), nil)
	check("close again", w.Close(), fs.ErrClosed)
	if got := read(t, f, p("d/e/one")); got != "one tw" {
		t.Errorf("appended: %q", got)
	}
	info, err := f.Stat(p("d/e/one"))
	if err != nil || info.Size() != 6 || info.Name() != "one" || info.Mode() != 0o640 {
		t.Errorf("stat: %v %v", info, err)
	}

	r, err := f.Open(p("d/e/one"))
	check("open", err, nil)
	b := make([]byte, 10)
	n, err := r.ReadAt(b, 4)
	if n != 2 || err != io.EOF {
		t.Errorf("read at 4: %d, %v", n, err)
	}
	_, err = r.Seek(-2, io.SeekEnd)
	check("seek", err, nil)
	rest, err := io.ReadAll(r)
	if string(rest) != "tw" || err != nil {
		t.Errorf("rest: %q, %v", rest, err)
	}
	check("close", r.Close(), nil)

	check("move", Move(f, p("d/e/one"), p("d/one")), nil)
	check("rename a directory", f.Rename(p("d/e"), p("d/f")), nil)
	entries, err := f.ReadDir(p("d"))
	check("list", err, nil)
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	if !slices.Equal(names, []string{"f", "one"}) {
		t.Errorf("names %q", names)
	}
	check("sync", f.SyncDir(p("d")), nil)
	check("remove", Remove(f, p("d/f")), nil)
}

func TestWriteFileOnDisk(t *testing.T) {
	path := filepath.Join(t.TempDir(), "key")
	for _, text := range []string{oldText, newText} {
		if err := WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		got, err := os.ReadFile(path)
		if err != nil || !bytes.Equal(got, []byte(text)) {
			t.Fatalf("%q, %v", got, err)
		}
	}
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
	if err := WriteFile(filepath.Join(path, "below a file"), nil, 0o600); err == nil {
		t.Error("wrote below a file")
	}
}

func TestTempNames(t *testing.T) {
	a, b := TempName("dir/file"), TempName("dir/file")
	if a == b || filepath.Dir(a) != "dir" || !IsTemp(filepath.Base(a)) || IsTemp("file") {
		t.Errorf("%q %q", a, b)
	}
}

func TestDropTemps(t *testing.T) {
	f := withOld(t)
	kept := []string{".tmp-1-1-other", ".tmp-1-2-not-file", ".tmp-", ".tmp-1", "file"}
	for _, name := range append(slices.Clone(kept), ".tmp-1-3-file", filepath.Base(TempName("dir/file"))) {
		if err := writeSynced(f, "dir/"+name, []byte(name), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if err := DropTemps(f, "dir/file"); err != nil {
		t.Fatal(err)
	}
	entries, err := f.ReadDir("dir")
	if err != nil {
		t.Fatal(err)
	}
	var left []string
	for _, e := range entries {
		left = append(left, e.Name())
	}
	slices.Sort(kept)
	if slices.Sort(left); !slices.Equal(left, kept) {
		t.Errorf("left %q, want %q", left, kept)
	}
	if err := DropTemps(f, "nowhere/file"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("of no directory: %v", err)
	}
}
