package source

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// watch runs a folder until the test ends.
func watch(t *testing.T, o Options) (*Folder, string, <-chan Frame) {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "inbox")
	if o.Poll == 0 {
		o.Poll = 50 * time.Millisecond
	}
	if o.Settle == 0 {
		o.Settle = 20 * time.Millisecond
	}
	f, err := OpenFolder(dir, o)
	if err != nil {
		t.Fatal(err)
	}
	return f, dir, start(t, f)
}

func start(t *testing.T, f interface {
	Run(context.Context, chan<- Frame) error
},
) <-chan Frame {
	ctx, stop := context.WithCancel(context.Background())
	frames, done := make(chan Frame), make(chan error, 1)
	go func() { done <- f.Run(ctx, frames) }()
	t.Cleanup(func() {
		stop()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return frames
}

func next(t *testing.T, frames <-chan Frame) Frame {
	t.Helper()
	select {
	case f := <-frames:
		return f
	case <-time.After(60 * time.Second):
		t.Fatal("no frame came")
		return Frame{}
	}
}

// none fails where a frame comes within a few looks at the folder.
func none(t *testing.T, frames <-chan Frame) {
	t.Helper()
	select {
	case f := <-frames:
		t.Errorf("a frame too many: %s", f.Source)
	case <-time.After(250 * time.Millisecond):
	}
}

// put has a file appear whole: one that is written there is complete, and
// handed out, as soon as its writer pauses for Settle.
func put(t *testing.T, dir, name, text string) {
	t.Helper()
	tmp := filepath.Join(dir, ".put")
	if err := os.WriteFile(tmp, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(tmp, filepath.Join(dir, name)); err != nil {
		t.Fatal(err)
	}
}

func names(t *testing.T, dir string) []string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, e := range entries {
		if !e.IsDir() {
			out = append(out, e.Name())
		}
	}
	return out
}

func TestDoneAndRejected(t *testing.T) {
	f, dir, frames := watch(t, Options{})
	put(t, dir, "a.png", "A")
	a := next(t, frames)
	if a.Source != "folder:a.png" || string(a.Data) != "A" || !a.Alone || len(a.ID) != 26 || a.Input != digest([]byte("A")) {
		t.Errorf("frame %+v", a)
	}
	f.Done(a)
	put(t, dir, "b.JPG", "B")
	f.Reject(next(t, frames), "no picture")
	put(t, dir, "a.png", "another of that name")
	f.Done(next(t, frames))
	none(t, frames)
	if got := names(t, filepath.Join(dir, DoneDir)); !slices.Equal(got, []string{"a-2.png", "a.png"}) {
		t.Errorf("done: %v", got)
	}
	if got := names(t, filepath.Join(dir, RejectedDir)); !slices.Equal(got, []string{"b.JPG", "b.JPG.txt"}) {
		t.Errorf("rejected: %v", got)
	}
	if text, err := os.ReadFile(filepath.Join(dir, RejectedDir, "b.JPG.txt")); err != nil || string(text) != "no picture\n" {
		t.Errorf("reason: %q, %v", text, err)
	}
	if c := f.Counters(); c.Done != 2 || c.Rejected != 1 || c.Failed != 0 {
		t.Errorf("%+v", c)
	}
}

// What is not for us is left alone.
func TestIgnored(t *testing.T) {
	_, dir, frames := watch(t, Options{})
	secret := filepath.Join(t.TempDir(), "secret.png")
	put(t, filepath.Dir(secret), "secret.png", "secret")
	if err := os.Symlink(secret, filepath.Join(dir, "link.png")); err != nil {
		t.Fatal(err)
	}
	put(t, dir, ".hidden.png", "x")
	put(t, dir, "notes.txt", "x")
	put(t, dir, "half.png.part", "x")
	put(t, filepath.Join(dir, DoneDir), "old.png", "x")
	none(t, frames)
}

// A file that is being written is not handed out before its end.
func TestUnfinished(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "inbox")
	f, err := OpenFolder(dir, Options{Settle: time.Second})
	if err != nil {
		t.Fatal(err)
	}
	w, err := os.Create(filepath.Join(dir, "slow.png"))
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	for i := range 10 {
		if _, err := fmt.Fprintf(w, "%d", i); err != nil {
			t.Fatal(err)
		}
		info, err := w.Stat()
		if err != nil {
			t.Fatal(err)
		}
		ready, soon, err := f.list(info.ModTime().Add(900 * time.Millisecond)) // a moment before the next is written
		if err != nil || len(ready) != 0 || soon != 100*time.Millisecond {
			t.Fatalf("while it was written: %d files are complete, one more in %v, %v", len(ready), soon, err)
		}
	}
	frame := next(t, start(t, f))
	if string(frame.Data) != "0123456789" || !frame.Fresh {
		t.Errorf("%q, fresh %v", frame.Data, frame.Fresh)
	}
	f.Done(frame)
}

// What is replaced while it is looked at is another frame.
func TestReplacedMeanwhile(t *testing.T) {
	f, dir, frames := watch(t, Options{})
	put(t, dir, "a.png", "first")
	first := next(t, frames)
	put(t, dir, "a.png", "second, and longer")
	f.Done(first)
	second := next(t, frames)
	if string(second.Data) != "second, and longer" || second.ID == first.ID {
		t.Errorf("%q", second.Data)
	}
	f.Done(second)
	if got := names(t, dir); len(got) != 0 {
		t.Errorf("left: %v", got)
	}
}

func TestReleaseAndWait(t *testing.T) {
	f, dir, frames := watch(t, Options{})
	put(t, dir, "a.png", "A")
	first := next(t, frames)
	look := func() { // while it is being answered
		t.Helper()
		if _, _, err := f.list(time.Now()); err != nil {
			t.Error(err)
		}
	}
	look()
	f.Release(first)
	second := next(t, frames)
	if second.Tries != 1 || second.ID != first.ID {
		t.Errorf("after a release: %d tries", second.Tries)
	}
	look()
	f.Wait(second)
	third := next(t, frames)
	if third.Tries != 1 {
		t.Errorf("after a wait: %d tries", third.Tries)
	}
	f.Done(third)
}

// A start after a kill: the same file has the same ID, and where its result
// was kept it is moved without another look, at once by Resume.
func TestStoredBefore(t *testing.T) {
	t.Run("resume", func(t *testing.T) { storedBefore(t, true) })
	t.Run("look", func(t *testing.T) { storedBefore(t, false) }) // what Resume could not read
}

func storedBefore(t *testing.T, resume bool) {
	dir := t.TempDir()
	o := Options{Poll: 50 * time.Millisecond, Settle: 10 * time.Millisecond}
	before, err := OpenFolder(dir, o)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"good.png", "bad.png", "new.png"} {
		put(t, dir, name, name)
	}
	frames := start(t, before)
	ids := map[string]string{}
	for range 3 {
		f := next(t, frames)
		ids[f.Source] = f.ID
	}
	put(t, dir, "other.png", "of the name of one that was answered, and another file")
	o.Stored = func(name string) (string, bool) {
		return map[string]string{"good.png": ids["folder:good.png"], "bad.png": ids["folder:bad.png"], "other.png": ids["folder:good.png"]}[name], name == "bad.png"
	}
	after, err := OpenFolder(dir, o)
	if err != nil {
		t.Fatal(err)
	}
	if resume {
		if err := after.Resume(); err != nil {
			t.Fatal(err)
		}
		if got := names(t, dir); !slices.Equal(got, []string{"new.png", "other.png"}) {
			t.Errorf("left: %v", got)
		}
	}
	again := start(t, after)
	f := next(t, again)
	if f.Source != "folder:new.png" || f.ID != ids["folder:new.png"] {
		t.Errorf("frame %s %s, want new.png with the ID it had", f.Source, f.ID)
	}
	after.Done(f)
	after.Done(next(t, again))
	none(t, again)
	for _, name := range []string{"done/good.png", "rejected/bad.png", "done/new.png", "done/other.png"} {
		if _, err := os.Stat(filepath.Join(dir, name)); err != nil {
			t.Error(err)
		}
	}
}

func TestNewestOnly(t *testing.T) {
	dir := t.TempDir()
	f, err := OpenFolder(dir, Options{Newest: true, Poll: 50 * time.Millisecond, Settle: 10 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	for i := range 5 {
		name := fmt.Sprintf("%d.png", i)
		put(t, dir, name, name)
		when := time.Now().Add(time.Duration(i-10) * time.Second)
		if err := os.Chtimes(filepath.Join(dir, name), when, when); err != nil {
			t.Fatal(err)
		}
	}
	frame := next(t, start(t, f))
	if frame.Source != "folder:4.png" {
		t.Errorf("newest is %s", frame.Source)
	}
	f.Done(frame)
	if c := f.Counters(); c.Dropped != 4 || c.Done != 1 {
		t.Errorf("%+v", c)
	}
}

func TestDeleteAndTooLarge(t *testing.T) {
	f, dir, frames := watch(t, Options{Delete: true, MaxBytes: 10})
	put(t, dir, "a.png", "A")
	f.Done(next(t, frames))
	put(t, dir, "large.png", strings.Repeat("x", 11))
	frame := next(t, frames)
	if frame.Data != nil || frame.Input != "" {
		t.Error("a file that is too large was read")
	}
	f.Reject(frame, "too large")
	if got := append(names(t, dir), names(t, filepath.Join(dir, DoneDir))...); len(got) != 0 {
		t.Errorf("left: %v", got)
	}
}

func TestFreeName(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "7.png")
	seen := map[string]bool{}
	for range 40 {
		p, err := free(path)
		if err != nil || seen[p] {
			t.Fatalf("%s: taken, %v", p, err)
		}
		seen[p] = true
		put(t, dir, filepath.Base(p), "x")
	}
}

func TestFileID(t *testing.T) {
	at := time.Date(2026, 1, 2, 3, 4, 5, 6, time.UTC)
	id := fileID("a.png", "sha256:1", 7, at, 9)
	for what, other := range map[string]string{
		"name": fileID("b.png", "sha256:1", 7, at, 9), "content": fileID("a.png", "sha256:2", 7, at, 9),
		"size": fileID("a.png", "sha256:1", 8, at, 9), "time": fileID("a.png", "sha256:1", 7, at.Add(1), 9),
		"inode": fileID("a.png", "sha256:1", 7, at, 10),
	} {
		if other == id {
			t.Errorf("another %s, the same ID", what)
		}
	}
	if again := fileID("a.png", "sha256:1", 7, at, 9); again != id || len(id) != 26 {
		t.Errorf("%q, then %q", id, again)
	}
	if fileID("a", "", 0, time.Unix(-1e9, 0), 0) == "" || fileID("a", "", 0, time.Unix(1<<40, 0), 0) == "" {
		t.Error("a wild time has no ID")
	}
}

// TestSync: what left the folder is noted until it is synced, and a folder that
// cannot be synced stays noted.
func TestSync(t *testing.T) {
	f, dir, frames := watch(t, Options{})
	noted := func() []string {
		f.mu.Lock()
		defer f.mu.Unlock()
		return slices.Sorted(maps.Keys(f.unsynced))
	}
	done, rejected := filepath.Join(dir, DoneDir), filepath.Join(dir, RejectedDir)
	if got := noted(); !slices.Equal(got, []string{dir, done, rejected}) {
		t.Errorf("noted at the start, of which nobody knows what was before: %v", got)
	}
	if err := f.Sync(); err != nil || len(noted()) > 0 {
		t.Errorf("noted after a sync: %v, %v", noted(), err)
	}
	put(t, dir, "a.png", "A")
	f.Done(next(t, frames))
	put(t, dir, "b.png", "B")
	f.Reject(next(t, frames), "no picture")
	if got := noted(); !slices.Equal(got, []string{dir, done, rejected}) {
		t.Errorf("noted: %v", got)
	}
	if err := os.Rename(done, done+".away"); err != nil {
		t.Fatal(err)
	}
	if err := f.Sync(); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a sync of a folder that is gone: %v", err)
	}
	if got := noted(); !slices.Equal(got, []string{done}) {
		t.Errorf("noted after it: %v", got)
	}
	if err := os.Rename(done+".away", done); err != nil {
		t.Fatal(err)
	}
	if err := f.Sync(); err != nil {
		t.Error(err)
	}
	if got := noted(); len(got) > 0 {
		t.Errorf("noted in the end: %v", got)
	}
}
