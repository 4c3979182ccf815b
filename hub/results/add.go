package results

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"strings"

	"go.etcd.io/bbolt"

	"dunlin/sync/wire"
)

// Row is a stored record.
type Row struct {
	ID     uint64 // time of storing in nanoseconds, and the place in every order
	Device wire.Device
	Epoch  string
	Seq    int64
	Kind   wire.RecordKind
	Body   json.RawMessage

	Explanation *Explanation // nil: there is none; without its picture
}

// Added is what a call of Add did.
type Added struct {
	Marks      []Mark // one for each (device, epoch) of the batches, to be acknowledged
	Rows       []Row  // what was new, in the order of storing
	Duplicates int    // records that were stored already
	Early      int    // records above the watermark, not stored; they will be sent again
}

// Add stores the records of several batches in one transaction and returns
// when they are on the disk, by the rule of wire.Unseen: records that are
// stored already change nothing, and a batch that begins above its epoch's
// watermark is left for later.
func (s *Store) Add(batches ...Batch) (Added, error) {
	for _, b := range batches {
		if err := wire.CheckEpoch(b.Epoch); err != nil {
			return Added{}, fmt.Errorf("results of %s: %w", b.Device, err)
		}
	}
	var out Added
	err := s.db.Update(func(tx *bbolt.Tx) error {
		a := adder{store: s, tx: tx, marks: map[string]*Mark{}}
		var err error
		if a.counters, err = loadCounters(tx); err != nil {
			return err
		}
		for _, b := range batches {
			if err := a.batch(b); err != nil {
				return fmt.Errorf("results of %s: %w", b.Device, err)
			}
		}
		out, err = a.finish()
		return err
	})
	if err != nil {
		return Added{}, fmt.Errorf("store results: %w", err)
	}
	return out, nil
}

// adder is the state of one Add transaction.
type adder struct {
	store    *Store
	tx       *bbolt.Tx
	counters *counters
	marks    map[string]*Mark
	order    []string // keys of marks as they were met
	out      Added
}

func (a *adder) batch(b Batch) error {
	key := string(markKey(b.Device, b.Epoch))
	m := a.marks[key]
	if m == nil {
		var err error
		if m, err = loadMark(a.tx, b.Device, b.Epoch); err != nil {
			return err
		}
		a.marks[key] = m
		a.order = append(a.order, key)
	}
	fresh, next, err := wire.Unseen(b.Records, m.Upto)
	if err != nil {
		return err
	}
	switch {
	case len(fresh) > 0:
		a.out.Duplicates += len(b.Records) - len(fresh)
	case len(b.Records) > 0 && b.Records[0].Seq > m.Upto:
		a.out.Early += len(b.Records)
	default:
		a.out.Duplicates += len(b.Records)
	}
	for _, r := range fresh {
		// The mark knows of rows that were deleted since; the record's own
		// key, of rows whose epoch is so old that its mark was dropped.
		if a.tx.Bucket(bucketRec).Get(recordKey(b.Device, b.Epoch, r.Seq)) != nil {
			a.out.Duplicates++
			continue
		}
		if err := a.record(b, m, r); err != nil {
			return err
		}
	}
	m.Upto = next
	return nil
}

func (a *adder) record(b Batch, m *Mark, r wire.Record) error {
	id := a.store.nextID(a.tx)
	m.At = id
	stored := row{b.Device.Tenant, b.Device.Name, b.Epoch, r.Seq, r.Kind, r.Body}
	value, err := json.Marshal(stored)
	if err != nil {
		return fmt.Errorf("record %d: %w", r.Seq, err)
	}
	if err := a.tx.Bucket(bucketRow).Put(idKey(id), value); err != nil {
		return err
	}
	if err := a.tx.Bucket(bucketRec).Put(recordKey(b.Device, b.Epoch, r.Seq), idKey(id)); err != nil {
		return err
	}
	total, dev := a.counters.total, a.counters.device(b.Device)
	total.Bytes += int64(len(value))
	total.Rows++
	dev.Rows++
	switch r.Kind {
	case wire.RecordResult:
		err = a.result(b.Device, id, r)
	case wire.RecordGap:
		a.gap(b.Device, r)
	}
	a.out.Rows = append(a.out.Rows, Row{ID: id, Device: b.Device, Epoch: b.Epoch, Seq: r.Seq, Kind: r.Kind, Body: r.Body})
	return err
}

// result counts a result and puts it into the indexes. One that cannot be
// read is kept and counted too: refusing it would stop its device for ever.
func (a *adder) result(d wire.Device, id uint64, r wire.Record) error {
	x := parseIndex(r.Body)
	a.counters.result(d, &x, id)
	if err := a.tx.Bucket(bucketDevice).Put(binary.BigEndian.AppendUint64(deviceKey(d), id), nil); err != nil {
		return err
	}
	if s := x.label(); indexable(s) {
		if err := a.tx.Bucket(bucketLabel).Put(indexKey(s, id), nil); err != nil {
			return err
		}
	}
	if indexable(x.Input) {
		return a.tx.Bucket(bucketInput).Put(indexKey(x.Input, id), nil)
	}
	return nil
}

// indexable reports whether s can be a key: the zero byte ends one.
func indexable(s string) bool {
	return s != "" && len(s) <= maxIndexed && !strings.Contains(s, "\x00")
}

func parseIndex(body []byte) index {
	var x index
	if err := json.Unmarshal(body, &x); err != nil {
		return index{Error: "unreadable result"}
	}
	return x
}

// gap counts records that their device dropped; wire.Unseen lets the
// watermark pass them.
func (a *adder) gap(d wire.Device, r wire.Record) {
	if g, err := r.Gap(); err == nil {
		a.counters.device(d).Dropped += g.Count
		a.counters.total.Dropped += g.Count
	}
}

func (a *adder) finish() (Added, error) {
	a.counters.total.Duplicates += int64(a.out.Duplicates)
	for _, key := range a.order {
		m := a.marks[key]
		if err := storeMark(a.tx, m); err != nil {
			return Added{}, err
		}
		a.out.Marks = append(a.out.Marks, *m)
	}
	return a.out, a.counters.store(a.tx)
}

// nextID returns the present time in nanoseconds, or one more than the newest
// id where the clock did not move on.
func (s *Store) nextID(tx *bbolt.Tx) uint64 {
	b := tx.Bucket(bucketRow)
	id := max(uint64(s.o.Now().UnixNano()), b.Sequence()+1)
	// SetSequence fails in a read-only transaction only.
	_ = b.SetSequence(id)
	return id
}
