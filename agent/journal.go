package agent

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"maps"
	"os"
	"runtime/debug"
	"slices"
	"strings"
	"time"

	bolt "go.etcd.io/bbolt"
	bolterrors "go.etcd.io/bbolt/errors"

	"dunlin/internal/durable"
	"dunlin/sync/wire"
)

// journal is what the agent remembers of the hub's orders, in a bbolt file of
// its own: the newest Desired, what was done about it, and the outcome of the
// last commands. Losing it loses no result: the hub says again what it wants,
// and commands expire.
type journal struct{ db *bolt.DB }

var (
	bucketMemory   = []byte("memory")   // name -> JSON
	bucketCommands = []byte("commands") // command id -> outcome, JSON
	bucketOrder    = []byte("order")    // sequence -> command id
)

// maxCommands is how many outcomes are remembered.
const maxCommands = 1024

// torn wraps what says that the file is no journal any more, in contrast to a
// disk that is full or cannot be read.
type torn struct{ err error }

func (t torn) Error() string { return "torn: " + t.err.Error() }
func (t torn) Unwrap() error { return t.err }

func openJournal(path string, log *slog.Logger) (*journal, error) {
	db, err := openDB(path, log, bucketMemory, bucketCommands, bucketOrder)
	if err != nil {
		return nil, err
	}
	return &journal{db}, nil
}

// openDB opens a bbolt file with these buckets; one that is torn is moved
// aside.
func openDB(path string, log *slog.Logger, buckets ...[]byte) (*bolt.DB, error) {
	db, err := tryDB(path, buckets)
	if !errors.As(err, new(torn)) {
		return db, err
	}
	log.Error("file is torn, moved aside", "file", path, keyError, err)
	if err := durable.Rename(path, path+".bad"); err != nil {
		return nil, err
	}
	return tryDB(path, buckets)
}

func tryDB(path string, buckets [][]byte) (db *bolt.DB, err error) {
	defer func() {
		if r := recover(); r != nil { // bbolt panics on some broken pages
			err = fmt.Errorf("open %s: %w", path, torn{fmt.Errorf("%v", r)})
		}
	}()
	if err := walkDB(path); err != nil {
		return nil, err
	}
	db, err = boltOpen(path, &bolt.Options{Timeout: time.Second, NoFreelistSync: true, FreelistType: bolt.FreelistMapType})
	if err != nil {
		return nil, err
	}
	db.AllocSize = 64 << 10
	err = db.Update(func(tx *bolt.Tx) error {
		for _, name := range buckets {
			if _, err := tx.CreateBucketIfNotExists(name); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", path, errors.Join(err, db.Close()))
	}
	return db, nil
}

// walkDB looks at every key of a bbolt file. A bbolt that opens a file to write
// looks for the free pages, in a goroutine whose panic at a broken page nobody
// can recover: here the caller can.
func walkDB(path string) (err error) {
	if info, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) || err == nil && info.Size() == 0 {
		return nil
	}
	db, err := boltOpen(path, &bolt.Options{Timeout: time.Second, ReadOnly: true})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true)) // a page can point beyond the file
	err = db.View(func(tx *bolt.Tx) error {
		return tx.ForEach(func(name []byte, b *bolt.Bucket) error {
			search := b.Cursor()
			return b.ForEach(func(k, v []byte) error {
				if found, _ := search.Seek(k); v == nil || !bytes.Equal(found, k) {
					return fmt.Errorf("key %.80q of %.80q is in the wrong place", k, name)
				}
				return nil
			})
		})
	})
	if err != nil {
		return fmt.Errorf("open %s: %w", path, torn{err})
	}
	return nil
}

// boltOpen tells a torn file from one that cannot be opened.
func boltOpen(path string, o *bolt.Options) (*bolt.DB, error) {
	db, err := bolt.Open(path, 0o600, o)
	if err != nil {
		for _, bad := range []error{bolterrors.ErrInvalid, bolterrors.ErrChecksum, bolterrors.ErrVersionMismatch} {
			if errors.Is(err, bad) {
				return nil, fmt.Errorf("open %s: %w", path, torn{err})
			}
		}
		if strings.Contains(err.Error(), "file size too small") { // cut to one page; there is no value for that
			return nil, fmt.Errorf("open %s: %w", path, torn{err})
		}
		return nil, fmt.Errorf("open %s: %w", path, err)
	}
	return db, nil
}

func (j *journal) close() error { return j.db.Close() }

// put remembers v under a name; it is on the disk when put returns.
func (j *journal) put(name string, v any) error {
	data, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("journal: %s: %w", name, err)
	}
	err = j.db.Update(func(tx *bolt.Tx) error { return tx.Bucket(bucketMemory).Put([]byte(name), data) })
	if err != nil {
		return fmt.Errorf("journal: %s: %w", name, err)
	}
	return nil
}

// get reads what put remembered; v stays as it is where there is nothing.
func (j *journal) get(name string, v any) error {
	return j.db.View(func(tx *bolt.Tx) error {
		data := tx.Bucket(bucketMemory).Get([]byte(name))
		if data == nil {
			return nil
		}
		if err := json.Unmarshal(data, v); err != nil {
			return fmt.Errorf("journal: %s: %w", name, err)
		}
		return nil
	})
}

// outcome returns how a command ended, or nil where it is not known.
func (j *journal) outcome(id string) (ack *wire.CmdAck, err error) {
	err = j.db.View(func(tx *bolt.Tx) error {
		data := tx.Bucket(bucketCommands).Get([]byte(id))
		if data == nil {
			return nil
		}
		ack = new(wire.CmdAck)
		return json.Unmarshal(data, ack)
	})
	return ack, err
}

// keepOutcome remembers how a command ended, and forgets the oldest beyond
// maxCommands.
func (j *journal) keepOutcome(ack wire.CmdAck) error {
	data, err := json.Marshal(ack)
	if err != nil {
		return fmt.Errorf("journal: command %s: %w", ack.ID, err)
	}
	err = j.db.Update(func(tx *bolt.Tx) error {
		commands, order := tx.Bucket(bucketCommands), tx.Bucket(bucketOrder)
		known := commands.Get([]byte(ack.ID)) != nil
		if err := commands.Put([]byte(ack.ID), data); err != nil || known {
			return err
		}
		n, err := order.NextSequence()
		if err != nil {
			return err
		}
		if err := order.Put(binary.BigEndian.AppendUint64(nil, n), []byte(ack.ID)); err != nil {
			return err
		}
		return forget(commands, order, n)
	})
	if err != nil {
		return fmt.Errorf("journal: command %s: %w", ack.ID, err)
	}
	return nil
}

// keepResults remembers the outcomes of commands whose results were kept and
// which were not settled when the agent was killed: once the hub has acknowledged
// the results, nothing else tells that the commands were obeyed.
func (j *journal) keepResults(byCommand map[string]wire.Result) error {
	if len(byCommand) > maxCommands {
		return nil // outcomes that were forgotten would come back in place of newer ones
	}
	for _, id := range slices.Sorted(maps.Keys(byCommand)) {
		known, err := j.outcome(id)
		if known != nil {
			continue
		}
		var result []byte
		if err == nil {
			result, err = json.Marshal(byCommand[id])
		}
		if err == nil {
			err = j.keepOutcome(wire.CmdAck{ID: id, Phase: wire.CmdDone, Result: result})
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// forget drops outcomes that are maxCommands older than sequence n.
func forget(commands, order *bolt.Bucket, n uint64) error {
	c := order.Cursor()
	for k, id := c.First(); k != nil && binary.BigEndian.Uint64(k)+maxCommands <= n; k, id = c.First() {
		if err := commands.Delete(id); err != nil {
			return err
		}
		if err := c.Delete(); err != nil {
			return err
		}
	}
	return nil
}
