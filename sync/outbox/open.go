package outbox

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	bolt "go.etcd.io/bbolt"
	"golang.org/x/sys/unix"

	"dunlin/internal/durable"
	"dunlin/sync/wire"
)

const (
	keepBad      = 3   // unreadable files kept for a person to look at
	compactPages = 256 // a file of fewer pages is not worth copying
)

// damage wraps what makes a file one to be moved aside, in contrast to a disk
// that cannot be read or a file that another process has.
type damage struct{ err error }

func (d damage) Error() string { return "damaged: " + d.err.Error() }
func (d damage) Unwrap() error { return d.err }

// Open opens the outbox at path, or makes a new one in its directory, which
// must exist. A file that is there but damaged is moved to path.bad-1 (-2, …)
// and a new one is made, with a new epoch: see Recovered. Errors wrap
// ErrLocked, ErrVersion or ErrNoSpace, or are the disk's.
func Open(path string, o Options) (*Outbox, error) {
	lock, err := lockFile(path + ".lock")
	if err != nil {
		return nil, fmt.Errorf("open outbox %s: %w", path, err)
	}
	b, err := open(path, o.withDefaults())
	if err != nil {
		if durable.IsNoSpace(err) {
			err = fmt.Errorf("%w: %w", ErrNoSpace, err)
		}
		return nil, errors.Join(fmt.Errorf("open outbox %s: %w", path, err), lock.Close())
	}
	b.lock = lock
	return b, nil
}

// lockFile guards all that Open does to files; bbolt's own lock is on a file
// that is about to be replaced.
func lockFile(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		if errors.Is(err, unix.EWOULDBLOCK) {
			err = ErrLocked
		}
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

func open(path string, o Options) (*Outbox, error) {
	if err := removeIfThere(path + ".tmp"); err != nil {
		return nil, err
	}
	b, err := load(path, o)
	var d damage
	switch {
	case errors.As(err, &d) && !o.Strict:
		moved, moveErr := moveAside(path)
		if moveErr != nil {
			return nil, errors.Join(err, moveErr)
		}
		if err := create(path); err != nil {
			return nil, err
		}
		b, err = load(path, o)
		if b != nil {
			b.recovered = moved
		}
	case errors.Is(err, fs.ErrNotExist):
		if err := create(path); err != nil {
			return nil, err
		}
		b, err = load(path, o)
	}
	return b, err
}

func removeIfThere(path string) error {
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

func openDB(path string) (db *bolt.DB, err error) {
	err = guarded(func() (err error) {
		db, err = bolt.Open(path, 0o600, &bolt.Options{
			Timeout:        5 * time.Second, // nobody has it: we hold the lock
			NoFreelistSync: true,            // found again at open, half the writes
			FreelistType:   bolt.FreelistMapType,
			PageSize:       4096, // both meta pages in one sector of a disk could be torn together
		})
		return err
	})
	return db, err
}

// create makes an empty outbox with a new epoch under another name and moves
// it into place, so that a power cut leaves none or a whole one.
func create(path string) error {
	tmp := path + ".tmp"
	db, err := openDB(tmp)
	if err != nil {
		return err
	}
	err = db.Update(func(tx *bolt.Tx) error {
		if _, err := tx.CreateBucket(bucketRecords); err != nil {
			return err
		}
		meta, err := tx.CreateBucket(bucketMeta)
		if err != nil {
			return err
		}
		return errors.Join(
			meta.Put(keyVersion, []byte(layoutPlain)),
			meta.Put(keyEpoch, []byte(wire.NewEpoch())),
			meta.Put(keyDropped, []byte("0")))
	})
	if err := errors.Join(err, db.Close()); err != nil {
		return errors.Join(err, removeIfThere(tmp))
	}
	return durable.Rename(tmp, path)
}

// moveAside gives the file the first free name, and removes the lowest one of
// those when there are keepBad already.
func moveAside(path string) (string, error) {
	names, err := os.ReadDir(filepath.Dir(path))
	if err != nil {
		return "", err
	}
	var taken []int
	for _, name := range names {
		digits, ok := strings.CutPrefix(name.Name(), filepath.Base(path)+".bad-")
		if n, err := strconv.Atoi(digits); ok && err == nil {
			taken = append(taken, n)
		}
	}
	slices.Sort(taken)
	n := 1
	if len(taken) > 0 {
		n = taken[len(taken)-1] + 1
	}
	if len(taken) >= keepBad {
		if err := os.Remove(badName(path, taken[0])); err != nil {
			return "", err
		}
	}
	if err := os.Rename(path, badName(path, n)); err != nil {
		return "", err
	}
	return badName(path, n), durable.OS.SyncDir(filepath.Dir(path))
}

func badName(path string, n int) string { return path + ".bad-" + strconv.Itoa(n) }

// load opens a file that is there, after its pages have been checked.
func load(path string, o Options) (*Outbox, error) {
	used, total, err := checkPages(path)
	if err != nil {
		return nil, err
	}
	if total > compactPages && used < total/2 {
		// Without room for the copy the file is as good as it was.
		if err := compact(path); err != nil && !durable.IsNoSpace(err) {
			return nil, err
		}
	}
	db, err := openDB(path)
	if err != nil {
		return nil, err
	}
	b := &Outbox{path: path, o: o, db: db, changed: make(chan struct{}), damaged: map[int64]int64{}}
	err = guarded(func() error { return db.View(b.scan) })
	if err == nil && len(b.damaged) > 0 {
		err = db.Update(func(tx *bolt.Tx) error {
			t := b.transaction(tx, b.disk)
			err := t.run(nil, b.disk.first, b.damaged)
			b.disk = t.d
			return err
		})
		clear(b.damaged)
	}
	if err != nil {
		return nil, errors.Join(err, db.Close())
	}
	b.first, b.next, b.bytes, b.dropped = b.disk.first, b.disk.next, b.disk.bytes, b.disk.dropped
	return b, nil
}

// scan reads the whole file once: that every record is there, which of them
// are damaged, and how many bytes they have.
func (b *Outbox) scan(tx *bolt.Tx) error {
	records, meta := tx.Bucket(bucketRecords), tx.Bucket(bucketMeta)
	if records == nil || meta == nil {
		return damage{errors.New("a bucket is missing")}
	}
	if v := string(meta.Get(keyVersion)); v != layoutPlain && v != layoutPacked {
		return fmt.Errorf("%w: layout %.20q, this one reads %s and %s", ErrVersion, v, layoutPlain, layoutPacked)
	}
	b.epoch = string(meta.Get(keyEpoch))
	if err := wire.CheckEpoch(b.epoch); err != nil {
		return damage{err}
	}
	dropped, err := strconv.ParseInt(string(meta.Get(keyDropped)), 10, 64)
	if err != nil || dropped < 0 {
		return damage{errors.New("count of dropped records")}
	}
	b.disk = disk{next: int64(records.Sequence()) + 1, dropped: dropped}
	b.disk.first = b.disk.next
	c := records.Cursor()
	for k, v := c.First(); k != nil; {
		seq, value := seqOf(k), v
		k, v = c.Next()
		if err := b.scanValue(seq, endOf(k, b.disk.next), value); err != nil {
			return damage{err}
		}
	}
	b.disk.oldest = b.disk.first
	return nil
}

// scanValue takes in a value that stands at seq and should reach to end.
func (b *Outbox) scanValue(seq, end int64, v []byte) error {
	if seq < 1 || seq >= end {
		return fmt.Errorf("record %d stands where the records end at %d", seq, end)
	}
	b.disk.first = min(b.disk.first, seq)
	b.disk.count(v, 1)
	records, ok := decodeValue(seq, v)
	if !ok {
		if mark(v) == markGap { // it may stand for records that are not lost
			return fmt.Errorf("gap record %d is damaged", seq)
		}
		b.damaged[seq] = end - seq
		return nil
	}
	next, err := records[len(records)-1].Next()
	if err == nil && next != end {
		err = fmt.Errorf("record %d stands where %d should", end, next)
	}
	return err
}

// compact copies the file without its free pages: bbolt never makes one
// shorter.
func compact(path string) (err error) {
	tmp := path + ".tmp"
	src, err := openDB(path)
	if err != nil {
		return err
	}
	dst, err := openDB(tmp)
	if err != nil {
		return errors.Join(err, src.Close())
	}
	err = guarded(func() error { return bolt.Compact(dst, src, 1<<20) })
	if err := errors.Join(err, dst.Close(), src.Close()); err != nil {
		return errors.Join(err, removeIfThere(tmp))
	}
	return durable.Rename(tmp, path)
}
