package source

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// Done moves a frame's file to done/ (or removes it). Sync makes that last, and
// only then may its result leave the outbox: until then the outbox is what
// tells, after a crash, that the file was dealt with.
//
// A file that cannot be moved stays where it is and is handed out again when
// the agent starts the next time; it is logged and counted.
func (f *Folder) Done(frame Frame) {
	f.done.Add(1)
	f.settle(frame, DoneDir, "")
}

// Reject moves a frame's file to rejected/, with the reason in a file of the
// same name and ".txt" beside it.
func (f *Folder) Reject(frame Frame, reason string) {
	f.rejected.Add(1)
	f.settle(frame, RejectedDir, reason)
}

// Release gives a frame back that could not be dealt with now: it is handed
// out again after a while, with one more try counted.
func (f *Folder) Release(frame Frame) {
	name := filepath.Base(frame.path)
	f.leave(name, f.o.Poll)
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.busy, name)
}

// Wait gives a frame back as Release does, without counting a try: nothing
// was wrong with it (no model yet, the agent stops).
func (f *Folder) Wait(frame Frame) {
	name := filepath.Base(frame.path)
	f.mu.Lock()
	defer f.mu.Unlock()
	s := f.seen[name]
	s.after = time.Now().Add(f.o.Poll)
	f.seen[name] = s
	delete(f.busy, name)
}

// leave has a file left alone for a while.
func (f *Folder) leave(name string, wait time.Duration) {
	f.mu.Lock()
	defer f.mu.Unlock()
	s := f.seen[name]
	s.tries++
	s.after = time.Now().Add(wait)
	f.seen[name] = s
}

// settle takes a file out of the folder. One that cannot be taken out stays
// busy, so that it is not handed out again and again.
func (f *Folder) settle(frame Frame, to, reason string) {
	name := filepath.Base(frame.path)
	err := f.move(frame, to, reason)
	f.mu.Lock()
	defer f.mu.Unlock()
	if err != nil {
		f.failed.Add(1)
		f.log.Error("file cannot be moved; it stays, and is skipped until the next start", "file", name, "to", to, "error", err)
		f.busy[name] = true
		return
	}
	delete(f.busy, name)
	delete(f.seen, name)
}

func (f *Folder) move(frame Frame, to, reason string) error {
	now, err := os.Lstat(frame.path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil // somebody else took it; its result is kept
	}
	if err != nil {
		return err
	}
	if !os.SameFile(now, frame.info) || !now.ModTime().Equal(frame.info.ModTime()) {
		return nil // another file of that name came meanwhile: it is the next frame
	}
	if to == DoneDir && f.o.Delete {
		if err := os.Remove(frame.path); err != nil {
			return err
		}
		f.changed(f.dir)
		return nil
	}
	dir := filepath.Join(f.dir, to)
	target, err := free(filepath.Join(dir, filepath.Base(frame.path)))
	if err != nil {
		return err
	}
	if reason != "" {
		if err := os.WriteFile(target+".txt", []byte(reason+"\n"), 0o644); err != nil {
			return err
		}
	}
	if err := os.Rename(frame.path, target); err != nil {
		return err
	}
	f.changed(dir, f.dir)
	return nil
}

// changed notes folders for Sync.
func (f *Folder) changed(dirs ...string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, dir := range dirs {
		f.unsynced[dir] = true
	}
}

// Sync returns when every file that left the folder before the call has left
// it for good. A journal writes as much for one name that moved as for eight,
// so this is asked for when results are about to leave the outbox, and not
// for each file.
func (f *Folder) Sync() error {
	f.syncing.Lock()
	defer f.syncing.Unlock()
	f.mu.Lock()
	dirs := f.unsynced
	f.unsynced = map[string]bool{}
	f.mu.Unlock()
	var errs []error
	for dir := range dirs {
		if err := syncDir(dir); err != nil {
			errs = append(errs, err)
			f.changed(dir)
		}
	}
	return errors.Join(errs...)
}

// free returns path, or where a file of that name is there already one with a
// number: 7.png, 7-2.png, … A camera that always writes the same name fills
// done/ this way; Options.Delete is for those.
func free(path string) (string, error) {
	if _, err := os.Lstat(path); errors.Is(err, fs.ErrNotExist) {
		return path, nil
	}
	ext := filepath.Ext(path)
	stem := strings.TrimSuffix(path, ext)
	const most = 1 << 20
	// Doubling, then halving: names are taken without holes, so this looks at
	// 40 of them rather than at a million.
	taken := func(n int) bool {
		_, err := os.Lstat(fmt.Sprintf("%s-%d%s", stem, n, ext))
		return !errors.Is(err, fs.ErrNotExist)
	}
	low, high := 1, 2
	for taken(high) {
		if low, high = high, high*2; high > most {
			return "", fmt.Errorf("%s: more than %d files of this name", path, most)
		}
	}
	for high-low > 1 {
		if mid := (low + high) / 2; taken(mid) {
			low = mid
		} else {
			high = mid
		}
	}
	return fmt.Sprintf("%s-%d%s", stem, high, ext), nil
}

func syncDir(path string) error {
	d, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
