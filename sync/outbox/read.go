package outbox

import (
	"bytes"
	"fmt"

	bolt "go.etcd.io/bbolt"

	"dunlin/sync/wire"
)

// Next returns the records from seq from on (or from the first that waits,
// where from is below it), contiguous and in order: at most maxRecords of
// them, and no more after their bodies have maxBytes, but at least one. None
// means that there is none yet; Changed tells when there is.
//
// Where from lies inside a Gap the first record is the rest of that Gap. A
// record that cannot be read back is a Gap too, and counted as dropped.
func (b *Outbox) Next(from int64, maxRecords, maxBytes int) ([]wire.Record, error) {
	b.mu.Lock()
	err := b.err
	from = max(from, b.first)
	none := from >= b.next
	b.mu.Unlock()
	if err != nil || none {
		return nil, err
	}
	var records []wire.Record
	err = guarded(func() error {
		return b.db.View(func(tx *bolt.Tx) (err error) {
			records, err = b.read(tx.Bucket(bucketRecords), from, maxRecords, maxBytes)
			return err
		})
	})
	if err != nil {
		return nil, fmt.Errorf("read outbox %s from %d on: %w", b.path, from, err)
	}
	return records, nil
}

func (b *Outbox) read(bucket *bolt.Bucket, from int64, maxRecords, maxBytes int) ([]wire.Record, error) {
	c := bucket.Cursor()
	k, v := c.Seek(keyOf(from))
	if k == nil { // inside a value, which begins before
		k, v = c.Last()
	} else if seqOf(k) != from {
		k, v = c.Prev()
	}
	var records []wire.Record
	for size := 0; k != nil; {
		seq, value := seqOf(k), v
		k, v = c.Next()
		some, err := b.decode(seq, endOf(k, int64(bucket.Sequence())+1), value)
		if err != nil {
			return nil, err
		}
		for _, r := range some {
			next, err := r.Next()
			if err != nil {
				return nil, err
			}
			if next <= from {
				continue
			}
			if r, err = cutBelow(r, next, from); err != nil {
				return nil, err
			}
			if size += len(r.Body); len(records) == maxRecords || size > maxBytes && len(records) > 0 {
				return records, nil
			}
			records = append(records, r)
			from = next
		}
	}
	return records, nil
}

// cutBelow returns what is at from and above of a record that ends at next.
func cutBelow(r wire.Record, next, from int64) (wire.Record, error) {
	if r.Seq == from {
		return r, nil
	}
	g, err := r.Gap()
	if err != nil || r.Seq > from {
		return r, fmt.Errorf("record %d is missing", from)
	}
	return wire.GapRecord(wire.Gap{First: from, Count: next - from, Why: g.Why}), nil
}

// decode copies the records of a value out of the file's map.
func (b *Outbox) decode(seq, end int64, v []byte) ([]wire.Record, error) {
	records, ok := decodeValue(seq, v)
	if ok && mark(v) != markPacked { // what was unpacked is no part of it
		records[0].Body = bytes.Clone(records[0].Body)
	}
	if ok {
		return records, nil
	}
	if mark(v) == markGap {
		return nil, fmt.Errorf("gap record %d is damaged", seq)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.damaged[seq] = end - seq
	return []wire.Record{wire.GapRecord(wire.Gap{First: seq, Count: end - seq, Why: wire.GapDamaged})}, nil
}

// Ack says that the hub has stored every record of the epoch below upto. They
// are deleted along with a later commit: after a crash before it they are
// there again, and the hub knows them. An older Ack changes nothing. Errors
// wrap ErrEpoch, ErrAhead, ErrNoSpace, ErrClosed or ErrBroken.
func (b *Outbox) Ack(epoch string, upto int64) error {
	if epoch != b.epoch {
		return fmt.Errorf("%w: %.40q, this one is %s", ErrEpoch, epoch, b.epoch)
	}
	b.mu.Lock()
	if b.err != nil {
		defer b.mu.Unlock()
		return b.err
	}
	if upto > b.next {
		defer b.mu.Unlock()
		return fmt.Errorf("%w: below %d, the next one is %d", ErrAhead, upto, b.next)
	}
	if upto > b.first {
		b.unswept += upto - b.first
		b.first = upto
	}
	sweep := b.unswept >= ackRecords
	if sweep {
		b.unswept = 0
	}
	b.mu.Unlock()
	if sweep {
		return b.commit(nil, acking)
	}
	return nil
}
