package results

import (
	"encoding/binary"
	"fmt"

	"go.etcd.io/bbolt"
)

// trimStep bounds the rows that one transaction deletes: a long one would
// hold up the devices.
const trimStep = 500

// Trim deletes the oldest rows by the rules of Options and returns how many.
// Call it now and then; it works in short transactions.
func (s *Store) Trim() (deleted int, err error) {
	if s.o.MaxAge <= 0 && s.o.MaxBytes <= 0 {
		return 0, nil
	}
	for {
		n := 0
		err := s.db.Update(func(tx *bbolt.Tx) error {
			var err error
			n, err = s.trim(tx)
			return err
		})
		deleted += n
		if err != nil {
			return deleted, fmt.Errorf("trim results: %w", err)
		}
		if n < trimStep {
			return deleted, nil
		}
	}
}

func (s *Store) trim(tx *bbolt.Tx) (n int, err error) {
	counters, err := loadCounters(tx)
	if err != nil {
		return 0, err
	}
	before := uint64(0)
	if s.o.MaxAge > 0 {
		before = uint64(max(0, s.o.Now().Add(-s.o.MaxAge).UnixNano()))
	}
	total := counters.total
	c := tx.Bucket(bucketRow).Cursor()
	for k, v := c.First(); k != nil && n < trimStep; k, v = c.First() {
		id := binary.BigEndian.Uint64(k)
		if id >= before && (s.o.MaxBytes <= 0 || total.Bytes <= s.o.MaxBytes) {
			break
		}
		total.Bytes -= int64(len(v))
		if err := deleteRow(tx, id); err != nil {
			return n, err
		}
		n++
	}
	if n == 0 {
		return 0, nil
	}
	return n, counters.store(tx)
}

// deleteRow removes a row and all that points to it.
func deleteRow(tx *bbolt.Tx, id uint64) error {
	r, err := getRow(tx, id)
	if err != nil {
		return err
	}
	x := parseIndex(r.Body)
	for _, d := range []struct{ bucket, key []byte }{
		{bucketRow, idKey(id)},
		{bucketRec, recordKey(r.Device, r.Epoch, r.Seq)},
		{bucketDevice, binary.BigEndian.AppendUint64(deviceKey(r.Device), id)},
		{bucketLabel, indexKey(x.label(), id)},
		{bucketInput, indexKey(x.Input, id)},
	} {
		if err := tx.Bucket(d.bucket).Delete(d.key); err != nil {
			return err
		}
	}
	return deleteExplanation(tx, id)
}
