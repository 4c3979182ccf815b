package source

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/fsnotify/fsnotify"
)

// The folders below a watched one to which files go.
const (
	DoneDir     = "done"
	RejectedDir = "rejected"
)

// Options of a watched folder. Zero values mean the defaults given.
type Options struct {
	Poll     time.Duration // how often to look where the kernel tells nothing (network file systems); 1 s
	Settle   time.Duration // a file unchanged this long is complete; 200 ms
	Patience time.Duration // an unreadable file unchanged this long is bad, not unfinished; 3 s
	MaxBytes int64         // a larger file is rejected unread; 32 MiB
	Newest   bool          // only the newest file is looked at: older ones go to done/ unseen, counted as dropped
	Delete   bool          // files that are done are removed instead of moved to done/
	// Stored returns the ID of the newest result that was kept of a file of this
	// name before the agent was killed, and whether it was an error. "": none;
	// nil: of no file.
	Stored func(name string) (id string, bad bool)
	Log    *slog.Logger
}

// Folder is a watched folder. Complete PNG and JPEG files in it (by name:
// .png, .jpg, .jpeg; not hidden, not in folders below) become frames, the
// oldest first. Links are not followed.
//
// A file is complete when it was not changed for Options.Settle: the name a
// writer renames it to, or the end of its writing, both end with that.
type Folder struct {
	dir string
	o   Options
	log *slog.Logger

	syncing sync.Mutex // held over a Sync; mu may be taken with it, not the other way round

	mu       sync.Mutex
	busy     map[string]bool  // handed out, not settled yet
	seen     map[string]sight // files looked at and left
	unsynced map[string]bool  // folders whose changes a power cut can undo

	dropped, rejected, done, failed atomic.Int64
}

// sight is how a file looked, and since when.
type sight struct {
	size  int64
	mtime time.Time
	since time.Time
	tries int       // how often it was released
	after time.Time // not to be handed out before
}

// Counters says what became of files.
type Counters struct {
	Done, Rejected int64
	Dropped        int64 // passed over for a newer one
	Failed         int64 // looks at the folder, or moves of files, that went wrong
}

// OpenFolder makes the folder and the two below it where they are absent. It
// starts nothing: Run does.
func OpenFolder(dir string, o Options) (*Folder, error) {
	if o.Poll == 0 {
		o.Poll = time.Second
	}
	if o.Settle == 0 {
		o.Settle = 200 * time.Millisecond
	}
	if o.Patience == 0 {
		o.Patience = 3 * time.Second
	}
	if o.MaxBytes == 0 {
		o.MaxBytes = 32 << 20
	}
	if o.Stored == nil {
		o.Stored = func(string) (string, bool) { return "", false }
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	f := &Folder{dir: dir, o: o, log: o.Log, busy: map[string]bool{}, seen: map[string]sight{}, unsynced: map[string]bool{}}
	for _, d := range []string{DoneDir, RejectedDir} {
		if err := os.MkdirAll(f.path(d), 0o755); err != nil {
			return nil, fmt.Errorf("watched folder: %w", err)
		}
	}
	// What moved just before the agent was killed may not be on the disk yet.
	f.changed(dir, f.path(DoneDir), f.path(RejectedDir))
	return f, nil
}

// Counters returns what became of files since the start.
func (f *Folder) Counters() Counters {
	return Counters{
		Done: f.done.Load(), Rejected: f.rejected.Load(), Dropped: f.dropped.Load(), Failed: f.failed.Load(),
	}
}

// Run sends the frames of complete files to out until ctx ends. Each must
// come back by exactly one of Done, Reject and Release.
func (f *Folder) Run(ctx context.Context, out chan<- Frame) error {
	events, stop := f.watch()
	defer stop()
	poll := time.NewTicker(f.o.Poll)
	defer poll.Stop()
	for {
		soon, err := f.look(ctx, out)
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			f.failed.Add(1)
			f.log.Warn("watched folder cannot be read", "dir", f.dir, "error", err)
		}
		var again <-chan time.Time
		if soon > 0 {
			again = time.After(soon)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-events:
		case <-again:
		case <-poll.C:
		}
	}
}

// watch returns a channel that is ready after a change in the folder. Where
// the kernel gives no watch, it never is, and polling is all there is.
func (f *Folder) watch() (<-chan struct{}, func()) {
	w, err := fsnotify.NewWatcher()
	if err == nil {
		if err = w.Add(f.dir); err != nil {
			err = errors.Join(err, w.Close())
		}
	}
	if err != nil {
		f.log.Warn("watched folder is polled only", "dir", f.dir, "error", err)
		return nil, func() {}
	}
	changed, ended := make(chan struct{}, 1), make(chan struct{})
	go func() {
		defer close(ended)
		for {
			select {
			case _, ok := <-w.Events:
				if !ok {
					return
				}
				select {
				case changed <- struct{}{}:
				default: // a look is due already
				}
			case err, ok := <-w.Errors:
				if !ok {
					return
				}
				f.log.Debug("watch of folder", "dir", f.dir, "error", err)
			}
		}
	}()
	return changed, func() {
		if err := w.Close(); err != nil {
			f.log.Debug("watch of folder", "dir", f.dir, "error", err)
		}
		<-ended
	}
}

// candidate is a file of the folder that could be handed out.
type candidate struct {
	name string
	info fs.FileInfo
}

// look hands out what is complete. soon is when the next unfinished file may
// be, 0 where there is none.
func (f *Folder) look(ctx context.Context, out chan<- Frame) (soon time.Duration, err error) {
	ready, soon, err := f.list(time.Now())
	if err != nil {
		return 0, err
	}
	if f.o.Newest && len(ready) > 1 {
		for _, c := range ready[:len(ready)-1] {
			f.dropped.Add(1)
			f.settle(Frame{path: f.path(c.name), info: c.info}, DoneDir, "")
		}
		ready = ready[len(ready)-1:]
	}
	for _, c := range ready {
		frame, err := f.read(c)
		switch {
		case errors.Is(err, errChanged) || errors.Is(err, fs.ErrNotExist):
			continue
		case err != nil:
			f.failed.Add(1)
			f.log.Warn("file cannot be read", "file", c.name, "error", err)
			f.leave(c.name, f.o.Patience)
			continue
		}
		if f.answered(frame) {
			// The hub's acknowledgement may have come before, and waits for nothing.
			if err := f.Sync(); err != nil {
				f.failed.Add(1)
				f.log.Error("a file that left may come back", "file", c.name, "error", err)
			}
			continue
		}
		f.mu.Lock()
		f.busy[c.name] = true
		f.mu.Unlock()
		select {
		case out <- frame:
		case <-ctx.Done():
			return 0, nil
		}
	}
	return soon, nil
}

// Resume takes out of the folder the files that were answered before the agent
// was killed, and returns when they have left it for good. It comes before Run,
// and before anything that takes results out of the outbox: it is they who tell
// which files those are.
func (f *Folder) Resume() error {
	entries, err := os.ReadDir(f.dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		id, _ := f.o.Stored(e.Name())
		info, err := e.Info()
		if id == "" || err != nil || !info.Mode().IsRegular() || !takenAt(id, info.ModTime()) {
			continue // a file is read only where it can be the one
		}
		frame, err := f.read(candidate{e.Name(), info})
		if err != nil {
			f.failed.Add(1)
			f.log.Warn("file cannot be read", "file", e.Name(), "error", err)
			continue
		}
		f.answered(frame)
	}
	return f.Sync()
}

// answered settles a file whose result was kept before the agent was killed.
func (f *Folder) answered(frame Frame) bool {
	name := filepath.Base(frame.path)
	id, bad := f.o.Stored(name)
	if id != frame.ID {
		return false
	}
	f.log.Info("result was kept before the restart", "file", name)
	if bad {
		f.settle(frame, RejectedDir, "the picture could not be used; see the result "+frame.ID)
	} else {
		f.settle(frame, DoneDir, "")
	}
	return true
}

// list returns the complete files, the oldest first.
func (f *Folder) list(now time.Time) (ready []candidate, soon time.Duration, err error) {
	entries, err := os.ReadDir(f.dir)
	if err != nil {
		return nil, 0, err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	seen := make(map[string]sight, len(f.seen))
	for _, e := range entries {
		name := e.Name()
		if !picture(name) || !e.Type().IsRegular() {
			continue
		}
		if f.busy[name] {
			seen[name] = f.seen[name] // its tries count when it is given back
			continue
		}
		info, err := e.Info()
		if err != nil {
			continue // gone since it was listed
		}
		s, known := f.seen[name]
		if !known || s.size != info.Size() || !s.mtime.Equal(info.ModTime()) {
			s = sight{size: info.Size(), mtime: info.ModTime(), since: now}
			// What was last changed long ago was complete when it came here. A
			// time ahead of ours means nothing: a Pi's clock starts in the past.
			if age := now.Sub(info.ModTime()); age > 0 {
				s.since = now.Add(-min(age, f.o.Patience))
			}
		}
		seen[name] = s
		wait := max(f.o.Settle-now.Sub(s.since), s.after.Sub(now))
		if wait > 0 {
			if soon == 0 || wait < soon {
				soon = wait
			}
			continue
		}
		ready = append(ready, candidate{name, info})
	}
	f.seen = seen
	slices.SortStableFunc(ready, func(a, b candidate) int { return a.info.ModTime().Compare(b.info.ModTime()) })
	return ready, soon, nil
}

// picture tells by a name whether a file is meant for us.
func picture(name string) bool {
	if strings.HasPrefix(name, ".") {
		return false
	}
	switch strings.ToLower(filepath.Ext(name)) {
	case ".png", ".jpg", ".jpeg":
		return true
	}
	return false
}

var errChanged = errors.New("changed while it was read")

// read returns the frame of a file. One that is too large has no Data.
func (f *Folder) read(c candidate) (Frame, error) {
	path := f.path(c.name)
	file, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NOFOLLOW|syscall.O_NONBLOCK, 0)
	if err != nil {
		return Frame{}, err
	}
	defer file.Close()
	data, err := io.ReadAll(io.LimitReader(file, f.o.MaxBytes+1))
	if err != nil {
		return Frame{}, err
	}
	info, err := file.Stat()
	if err != nil {
		return Frame{}, err
	}
	large := int64(len(data)) > f.o.MaxBytes
	if !os.SameFile(info, c.info) || info.Size() != c.info.Size() || !info.ModTime().Equal(c.info.ModTime()) ||
		!large && info.Size() != int64(len(data)) {
		return Frame{}, errChanged
	}
	frame := Frame{Source: "folder:" + c.name, Input: digest(data), Data: data, Alone: true, path: path, info: info}
	if large {
		frame.Input, frame.Data = "", nil
	}
	var inode uint64
	if st, ok := info.Sys().(*syscall.Stat_t); ok {
		inode = uint64(st.Ino)
	}
	frame.ID = fileID(c.name, frame.Input, info.Size(), info.ModTime(), inode)
	f.mu.Lock()
	s := f.seen[c.name]
	f.mu.Unlock()
	frame.Tries, frame.Fresh = s.tries, time.Since(s.since) < f.o.Patience
	return frame, nil
}

func (f *Folder) path(name string) string { return filepath.Join(f.dir, name) }
