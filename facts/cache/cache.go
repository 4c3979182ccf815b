// Package cache keeps a device's part of the knowledge graph in one file and
// answers questions about it without the network. Start with Open, Enrich
// and ApplyPatch; Build makes the base that ApplyBase takes, OpenReadOnly
// asks a file that must stay as it is.
//
// Its promise: a base or a patch is applied wholly and durably before the
// call returns, or not at all, whatever kills the process; readers go on
// beside the one that applies; and no input, from the network or from a worn
// card, makes it read out of bounds or grow without limit.
//
// The file is a packed base (three sorted indexes and a front-coded
// dictionary, see format.go) that never changes, and a log of patches, kept
// small so that an SD card lives; when the log grows past a
// bound, both are merged into a new base (fold.go).
//
// It does not check signatures (the bytes' envelope does), does not infer
// beyond one step of rdfs:subClassOf in Enrich, and holds one version of one
// graph at a time.
package cache

import (
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"runtime/debug"
	"sync"
	"syscall"

	bolt "go.etcd.io/bbolt"
	bolterrors "go.etcd.io/bbolt/errors"

	"dunlin/facts"
	"dunlin/internal/durable"
)

// Media types of what a cache takes. GzipSuffix may follow either.
const (
	MediaTypeBase  = "application/vnd.dunlin.facts.base.v1+bbolt"
	MediaTypePatch = "application/vnd.dunlin.facts.patch.v1+rdfpatch"
	GzipSuffix     = "+gzip"
)

// Errors that callers tell apart.
var (
	// ErrWrongBase: the patch starts from another version than the cache
	// has; ask for a patch from Version(), or for a base.
	ErrWrongBase = errors.New("the patch starts from another version")
	// ErrCorrupt: bytes are not what they should be.
	ErrCorrupt = errors.New("corrupt")
	// ErrTooLarge: more than the bounds of this package allow.
	ErrTooLarge = errors.New("too large")
	// ErrInUse: another process has the file open.
	ErrInUse = errors.New("in use by another process")
	// ErrNotBase: OpenReadOnly found another kind of file, or a damaged one.
	ErrNotBase = errors.New("not a facts base")
	// ErrReadOnly: a cache of OpenReadOnly takes no base and no patch.
	ErrReadOnly = errors.New("opened for reading only")
)

// TermError is a term whose text is empty or longer than MaxTermBytes.
type TermError struct {
	Bytes int
	Start string
}

func (e *TermError) Error() string {
	return fmt.Sprintf("term of %d bytes, want 1 to %d: %q…", e.Bytes, MaxTermBytes, e.Start)
}

// Cache is an open facts cache. Its methods may be called at the same time.
type Cache struct {
	path      string
	recovered string
	readOnly  bool
	foldAt    int // changes in the overlay that bring a fold
	foldBytes int // bytes of log that do

	applying sync.Mutex   // held by the one that changes anything; taken before mu
	mu       sync.RWMutex // guards what follows; held for reading during a query
	db       *bolt.DB     // nil when closed
	base     baseMeta
	over     *overlay
	version  Version
	logBytes int
	foldErr  error
}

// Bounds that make a fold. 128k changes cost about 10 MB of memory; they can
// be four times that, for a card too full to fold, before patches are
// refused.
const (
	defaultFoldAt    = 128 << 10
	defaultFoldBytes = 16 << 20
)

// Open opens the cache at path, or creates an empty one. A file that is torn
// or is no cache is moved aside to path+".bad-N" (N from 1 to 3, the last is
// overwritten), an empty one is opened in its place and Recovered says why.
func Open(path string) (*Cache, error) {
	c := &Cache{path: path, foldAt: defaultFoldAt, foldBytes: defaultFoldBytes}
	for _, suffix := range []string{newSuffix, sourceSuffix} { // left by a process that died
		if err := os.Remove(path + suffix); err != nil && !errors.Is(err, os.ErrNotExist) {
			return nil, fmt.Errorf("open facts cache %s: %w", path, err)
		}
	}
	err := c.open()
	if errors.Is(err, ErrCorrupt) {
		why := err
		if err = moveAside(path); err == nil {
			c.recovered = why.Error()
			err = c.open()
		}
	}
	if err != nil {
		return nil, fmt.Errorf("open facts cache %s: %w", path, err)
	}
	return c, nil
}

// OpenReadOnly opens the cache or the base at path to ask it. It makes, moves
// and writes nothing: a file that is no facts base, or a damaged one, is left
// as it is, and the error wraps ErrNotBase. ApplyBase and ApplyPatch fail
// with ErrReadOnly. Several processes may have one file open so, but none
// beside one that writes it.
func OpenReadOnly(path string) (*Cache, error) {
	c := &Cache{path: path, readOnly: true}
	err := checkFile(path)
	if err == nil {
		opt := boltOptions()
		opt.ReadOnly = true
		var s state
		if s, err = openState(path, opt); err == nil {
			c.use(s)
			return c, nil
		}
	}
	if errors.Is(err, ErrCorrupt) || errors.Is(err, errNotRegular) {
		err = fmt.Errorf("%w: %w", ErrNotBase, err)
	}
	return nil, fmt.Errorf("open facts %s: %w", path, err)
}

const (
	newSuffix    = ".new"    // a base being written
	sourceSuffix = ".source" // a base being unpacked
)

// open opens c.path, creating an empty cache where nothing is.
func (c *Cache) open() error {
	switch err := checkFile(c.path); {
	case errors.Is(err, os.ErrNotExist):
		tmp := c.path + newSuffix
		empty, err := collect(func(func(facts.Fact, error) bool) {})
		if err != nil {
			return err
		}
		if _, err := writeBase(tmp, Version{}, empty); err != nil {
			return err
		}
		if err := durable.Rename(tmp, c.path); err != nil {
			return err
		}
	case err != nil:
		return err
	}
	s, err := openState(c.path, boltOptions())
	if err != nil {
		return err
	}
	c.use(s)
	return nil
}

var errNotRegular = errors.New("not a regular file")

// checkFile looks at a file before bbolt maps it.
func checkFile(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	// bbolt's own lock, so that a file being written is not taken for a torn one.
	err = syscall.Flock(int(f.Fd()), syscall.LOCK_SH|syscall.LOCK_NB)
	if errors.Is(err, syscall.EWOULDBLOCK) {
		return ErrInUse
	}
	if err != nil {
		return fmt.Errorf("lock: %w", err)
	}
	info, err := f.Stat()
	if err != nil {
		return err
	}
	if !info.Mode().IsRegular() {
		return errNotRegular
	}
	return checkPages(f, info.Size())
}

// moveAside renames a bad file to the first free of path.bad-1 to -3.
func moveAside(path string) error {
	for n := 1; ; n++ {
		aside := fmt.Sprintf("%s.bad-%d", path, n)
		if _, err := os.Lstat(aside); n == 3 || errors.Is(err, os.ErrNotExist) {
			return durable.Rename(path, aside)
		}
	}
}

// state is what an open file amounts to.
type state struct {
	db       *bolt.DB
	base     baseMeta
	over     *overlay
	version  Version
	logBytes int
}

// openState opens a file whose pages were checked, and replays its log.
func openState(path string, opt *bolt.Options) (s state, err error) {
	s.db, err = bolt.Open(path, 0o600, opt)
	if errors.Is(err, bolterrors.ErrTimeout) {
		return s, ErrInUse
	}
	if err != nil {
		return s, err
	}
	s.db.AllocSize = 64 << 10
	err = s.db.View(func(tx *bolt.Tx) (err error) {
		defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
		defer catchFault(&err)
		meta := tx.Bucket(bMeta)
		if meta == nil {
			return fmt.Errorf("%w: not a facts cache", ErrCorrupt)
		}
		if s.base, err = parseMeta(meta.Get(kBase)); err != nil {
			return err
		}
		s.over, s.version = newOverlay(s.base), s.base.Version
		if err := checkBuckets(tx); err != nil {
			return err
		}
		log := tx.Bucket(bLog)
		if log == nil {
			return nil
		}
		return readLog(log, s.replay)
	})
	if err != nil {
		return s, errors.Join(err, s.db.Close())
	}
	return s, nil
}

// replay brings one entry of the log back into memory.
func (s *state) replay(v []byte) error {
	e, err := decodeLogEntry(v)
	if err != nil {
		return err
	}
	from := Version{e.graph, e.from}
	if from != s.version && (s.version != (Version{}) || e.from != 0) {
		return fmt.Errorf("%w: log: a patch from %s follows version %s", ErrCorrupt, from, s.version)
	}
	if s.version = (Version{e.graph, e.to}); s.version.check() != nil {
		return fmt.Errorf("%w: log: patch to version %q", ErrCorrupt, s.version)
	}
	s.logBytes += len(v)
	return s.over.apply(&e)
}

// use makes s what c answers from. The caller holds mu, or c is not shared
// yet.
func (c *Cache) use(s state) {
	c.db, c.base, c.over, c.version, c.logBytes = s.db, s.base, s.over, s.version, s.logBytes
}

// Close closes the file, after the queries and the patch under way.
func (c *Cache) Close() error {
	c.applying.Lock()
	defer c.applying.Unlock()
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.db == nil {
		return nil
	}
	err := c.db.Close()
	c.db = nil
	return err
}

// Version returns the graph and version that answers come from; zero when
// the cache is empty.
func (c *Cache) Version() Version {
	c.mu.RLock()
	defer c.mu.RUnlock()
	return c.version
}

// Recovered says why the file found at Open was moved aside, or "".
func (c *Cache) Recovered() string { return c.recovered }

// Stats are a cache's sizes.
type Stats struct {
	Facts      int   // facts to be found
	Added      int   // of those, how many only the log brought
	Deleted    int   // facts of the base that the log deleted
	LogBytes   int   // bytes of patches in the log
	FileBytes  int64 // size of the file
	FoldFailed error // why the last fold failed; nil when it did not
}

// Stats returns the cache's sizes.
func (c *Cache) Stats() Stats {
	c.mu.RLock()
	defer c.mu.RUnlock()
	s := Stats{
		Facts: int(c.base.facts) + c.over.adds - c.over.dels,
		Added: c.over.adds, Deleted: c.over.dels, LogBytes: c.logBytes, FoldFailed: c.foldErr,
	}
	if info, err := os.Stat(c.path); err == nil {
		s.FileBytes = info.Size()
	}
	return s
}

// view runs fn on the facts as they are now.
func (c *Cache) view(fn func(r *reader) error) error {
	c.mu.RLock()
	defer c.mu.RUnlock()
	if c.db == nil {
		return os.ErrClosed
	}
	return c.db.View(func(tx *bolt.Tx) (err error) {
		defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
		defer catchFault(&err)
		r := newReader(tx, c.base, c.over)
		r.version = c.version
		return fn(r)
	})
}

// catchFault turns a fault on the mapped file (a card that cannot read a
// page it once wrote) into an error. It is deferred with the address of the
// result; other panics go on.
func catchFault(err *error) {
	if v := recover(); v != nil {
		fault, ok := v.(interface {
			runtime.Error
			Addr() uintptr
		})
		if !ok {
			panic(v)
		}
		*err = fmt.Errorf("%w: the file cannot be read: %v", ErrCorrupt, fault)
	}
}

// limited reads at most n bytes and then says ErrTooLarge, where
// io.LimitReader would feign an end.
type limited struct {
	r io.Reader
	n int64
}

func (l *limited) Read(b []byte) (int, error) {
	if l.n <= 0 {
		return 0, ErrTooLarge
	}
	n, err := l.r.Read(b[:min(int64(len(b)), l.n)])
	l.n -= int64(n)
	return n, err
}
