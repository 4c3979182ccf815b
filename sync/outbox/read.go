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
			records, err = b.read(tx.Bucket(bucketRecords).Cursor(), from, maxRecords, maxBytes)
			return err
		})
	})
	if err != nil {
		return nil, fmt.Errorf("read outbox %s from %d on: %w", b.path, from, err)
	}
	return records, nil
}

func (b *Outbox) read(c *bolt.Cursor, from int64, maxRecords, maxBytes int) ([]wire.Record, error) {
	k, v := c.Seek(keyOf(from))
	if k == nil || seqOf(k) != from { // inside a gap, which begins before
		if k == nil {
			k, v = c.Last()
		} else {
			k, v = c.Prev()
		}
	}
	var records []wire.Record
	for size := 0; k != nil && len(records) < maxRecords; k, v = c.Next() {
		r, err := b.decode(seqOf(k), v)
		if err != nil {
			return nil, err
		}
		next, err := r.Next()
		if err != nil {
			return nil, err
		}
		if r.Seq < from {
			g, err := r.Gap()
			if err != nil || next <= from {
				return nil, fmt.Errorf("record %d is missing", from)
			}
			r = wire.GapRecord(wire.Gap{First: from, Count: next - from, Why: g.Why})
		} else if r.Seq > from {
			return nil, fmt.Errorf("record %d is missing", from)
		}
		if size += len(r.Body); size > maxBytes && len(records) > 0 {
			break
		}
		records = append(records, r)
		from = next
	}
	return records, nil
}

// decode copies the record out of the file's map.
func (b *Outbox) decode(seq int64, v []byte) (wire.Record, error) {
	r, ok := decodeValue(seq, v)
	if ok {
		r.Body = bytes.Clone(r.Body)
		return r, nil
	}
	if len(v) > 0 && v[0] == markGap {
		return r, fmt.Errorf("gap record %d is damaged", seq)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if !b.damaged[seq] {
		b.damaged[seq] = true
		b.dropped++
	}
	return wire.GapRecord(wire.Gap{First: seq, Count: 1, Why: wire.GapDamaged}), nil
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
