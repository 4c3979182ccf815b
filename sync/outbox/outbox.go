// Package outbox keeps a device's results and reports on disk until the hub
// says that it has them.
//
// Start with Open, Put, Next and Ack. The promise: a record whose Put returned
// a seq is read back by Next, in order and after any crash, until an Ack covers
// it; or it was dropped to make room, and then it is counted (State) and a
// wire.Gap stands in its place. A seq is never given twice in an epoch, and
// an epoch is one life of the file.
//
// Power cut: what Put returned survives it, because Put returns after the sync
// of its group. What waits for its group at that moment was not accepted yet.
//
// The package sends nothing (sync/link does) and does not look into results.
//
// # How it stands on disk
//
// One bbolt file, with a bucket "records" (key: seq, 8 bytes, big-endian;
// value: see record.go, and pack.go for results that stand together) and a
// bucket "meta" (version, epoch, dropped). The bucket's sequence number is the
// last seq given. A commit costs 33 KB of disk writes whatever its size, so
// records are committed in groups, and what was acknowledged is deleted along
// with the next group.
//
// The version is "2" as long as results stand together, else "1": agents from
// before packing read that one alone. Going back to one of them takes a file
// without such results, which Close leaves where all was acknowledged.
package outbox

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"sync"
	"time"

	bolt "go.etcd.io/bbolt"

	"dunlin/sync/wire"
)

// Errors that callers ask for.
var (
	ErrNoSpace = errors.New("no space on the disk")
	ErrFull    = errors.New("outbox is full of what may not be dropped")
	ErrLocked  = errors.New("outbox is in use by another process")
	ErrClosed  = errors.New("outbox is closed")
	ErrBroken  = errors.New("outbox is broken, open it again")
	ErrEpoch   = errors.New("acknowledgement is for another epoch")
	ErrAhead   = errors.New("acknowledgement of records that do not exist")
	ErrVersion = errors.New("outbox was written by another version of dunlin")
	ErrRecord  = errors.New("not a record for the outbox")
)

// Options say how much may be kept, and how often the disk is written to. The
// zero value of each means its default.
type Options struct {
	// MaxBytes bounds the records kept; beyond it the oldest results are
	// dropped, up to seven more than needed, never a report. Results of a
	// group are compressed and count as what is left of them. The file may be
	// about twice as long.
	// Default 64 MiB.
	MaxBytes int64

	// A group is committed when it has FlushRecords records (default 100) or
	// FlushBytes bytes (128 KiB), or FlushDelay (250 ms) after its first
	// record. A longer delay spares an SD card, and is how long a lone Put
	// takes.
	FlushRecords int
	FlushBytes   int
	FlushDelay   time.Duration

	// Strict is for an agent that is itself on trial, or stands in for a newer
	// one. A file that cannot be read is an error, and left where it is: the agent
	// may be what cannot read it. And nothing is packed, so that the version before
	// can read the file. Both hold until the outbox is opened again, also where the
	// trial ends before: till then a card gets three times as much of results in
	// groups.
	Strict bool

	// Each commits without waiting for others: a lone Put is as fast as one
	// sync of the disk, and writes 33 KB to it.
	Each bool
}

func (o Options) withDefaults() Options {
	if o.MaxBytes <= 0 {
		o.MaxBytes = 64 << 20
	}
	if o.FlushRecords <= 0 {
		o.FlushRecords = 100
	}
	if o.FlushBytes <= 0 {
		o.FlushBytes = 128 << 10
	}
	if o.FlushDelay <= 0 {
		o.FlushDelay = 250 * time.Millisecond
	}
	return o
}

// ackRecords is how many acknowledged records may wait for a commit that
// deletes them. They are sent again after a crash, and the hub knows them. As
// long as results come, a group takes them along before there are so many: a
// commit of their own would be a third of what a card gets.
const ackRecords = 400

// Outbox is an open outbox. Its methods may be called from several goroutines.
type Outbox struct {
	path      string
	epoch     string
	recovered string
	o         Options
	db        *bolt.DB
	lock      *os.File

	// commitMu is held over a write transaction. mu may be taken with it,
	// not the other way round.
	commitMu sync.Mutex
	disk     disk // guarded by commitMu
	shut     bool // guarded by commitMu: the file is closed

	mu      sync.Mutex // guards what follows
	group   *group     // collects records, or nil
	first   int64      // below it all is acknowledged
	next    int64      // the seq that the next record gets
	dropped int64      // as the file has it
	bytes   int64
	unswept int64           // acknowledged, and not deleted by a commit that began
	damaged map[int64]int64 // first seq and number of records that could not be read back; the next commit counts them in dropped
	changed chan struct{}   // closed and made anew when records were added
	err     error           // not nil: closed or broken
}

// disk is what stands in the file, as of the last commit.
type disk struct {
	first   int64 // lowest seq in it, or next
	next    int64
	bytes   int64 // of all records, with cost
	dropped int64
	packed  int64 // values of several results
	oldest  int64 // the quota looks from here; below are no results but of a value acknowledged in its middle
}

var (
	bucketRecords = []byte("records")
	bucketMeta    = []byte("meta")
	keyVersion    = []byte("version")
	keyEpoch      = []byte("epoch")
	keyDropped    = []byte("dropped")
)

// The form of the file. Another one is an ErrVersion.
const (
	layoutPlain  = "1"
	layoutPacked = "2" // the same, and there are packed values
)

// Epoch returns the name of this life of the file: 16 hex digits.
func (b *Outbox) Epoch() string { return b.epoch }

// Recovered returns where the previous file was moved to because it could not
// be read, or "". Its records were not delivered, and the epoch is new.
func (b *Outbox) Recovered() string { return b.recovered }

// State returns the range of records that wait, and the number dropped since
// the epoch began.
func (b *Outbox) State() wire.OutboxState {
	b.mu.Lock()
	defer b.mu.Unlock()
	s := wire.OutboxState{First: b.first, Next: b.next, Dropped: b.dropped}
	for _, n := range b.damaged {
		s.Dropped += n
	}
	return s
}

// Bytes returns how much of MaxBytes is in use.
func (b *Outbox) Bytes() int64 {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.bytes
}

// Changed returns a channel that is closed when records are added after the
// call.
func (b *Outbox) Changed() <-chan struct{} {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.changed
}

// Close commits what waits and closes the file. Puts that come later get
// ErrClosed.
func (b *Outbox) Close() error {
	err := b.commit(nil, closing)
	b.commitMu.Lock()
	defer b.commitMu.Unlock()
	if b.shut {
		return nil
	}
	b.shut = true
	if errors.Is(err, ErrBroken) {
		err = nil // whoever was waiting has been told
	}
	err = errors.Join(err, b.db.Close(), b.lock.Close())
	if err != nil {
		return fmt.Errorf("close outbox %s: %w", b.path, err)
	}
	return nil
}

func keyOf(seq int64) []byte { return binary.BigEndian.AppendUint64(nil, uint64(seq)) }

func seqOf(key []byte) int64 {
	if len(key) != 8 {
		return 0
	}
	return int64(binary.BigEndian.Uint64(key))
}
