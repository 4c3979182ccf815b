package results

import (
	"encoding/json"
	"fmt"
	"slices"

	"go.etcd.io/bbolt"

	"dunlin/sync/wire"
)

// FirstSeq is the number of an epoch's first record.
const FirstSeq = 1

// maxEpochs bounds the epochs of one device whose marks are kept. A device
// makes a new epoch when its outbox was lost; the mark that was not touched
// for longest goes first.
const maxEpochs = 64

// Mark is the watermark of one epoch: every record below Upto is stored, or
// known to be lost.
type Mark struct {
	Device wire.Device `json:"-"`
	Epoch  string      `json:"-"`
	Upto   int64       `json:"upto"`
	At     uint64      `json:"at"` // id of the newest change
}

func markKey(d wire.Device, epoch string) []byte { return append(deviceKey(d), epoch...) }

func loadMark(tx *bbolt.Tx, d wire.Device, epoch string) (*Mark, error) {
	m := &Mark{Device: d, Epoch: epoch, Upto: FirstSeq}
	data := tx.Bucket(bucketMark).Get(markKey(d, epoch))
	if data == nil {
		return m, nil
	}
	if err := json.Unmarshal(data, m); err != nil {
		return nil, fmt.Errorf("mark of %s in epoch %s: %w", d, epoch, err)
	}
	return m, nil
}

func storeMark(tx *bbolt.Tx, m *Mark) error {
	data, err := json.Marshal(m)
	if err != nil {
		return err
	}
	b, key := tx.Bucket(bucketMark), markKey(m.Device, m.Epoch)
	isNew := b.Get(key) == nil
	if err := b.Put(key, data); err != nil || !isNew {
		return err
	}
	return dropOldMarks(b, m.Device, key)
}

// dropOldMarks keeps the newest maxEpochs marks of a device.
func dropOldMarks(b *bbolt.Bucket, d wire.Device, keep []byte) error {
	var oldest []byte
	n, at := 0, uint64(0)
	prefix := deviceKey(d)
	c := b.Cursor()
	for k, v := c.Seek(prefix); k != nil && hasPrefix(k, prefix); k, v = c.Next() {
		n++
		var m Mark
		if string(k) == string(keep) || json.Unmarshal(v, &m) != nil {
			continue
		}
		if oldest == nil || m.At < at {
			oldest, at = slices.Clone(k), m.At
		}
	}
	if n <= maxEpochs || oldest == nil {
		return nil
	}
	return b.Delete(oldest)
}

func hasPrefix(k, prefix []byte) bool {
	return len(k) >= len(prefix) && string(k[:len(prefix)]) == string(prefix)
}

// Upto returns the watermark of a device's epoch: every record below it is
// accounted for.
func (s *Store) Upto(d wire.Device, epoch string) (upto int64, err error) {
	err = s.db.View(func(tx *bbolt.Tx) error {
		m, err := loadMark(tx, d, epoch)
		if err == nil {
			upto = m.Upto
		}
		return err
	})
	return upto, err
}

// SkipTo accounts for the records of an epoch below first: the device says
// that it no longer has them, so nobody will ever send them. They were
// acknowledged by a hub whose results were lost since, or dropped before
// this hub knew the device. It returns the watermark and how many records
// were passed over.
func (s *Store) SkipTo(d wire.Device, epoch string, first int64) (upto, skipped int64, err error) {
	if upto, err = s.Upto(d, epoch); err != nil || upto >= first {
		return upto, 0, err
	}
	if err := wire.CheckEpoch(epoch); err != nil {
		return 0, 0, err
	}
	err = s.db.Update(func(tx *bbolt.Tx) error {
		m, err := loadMark(tx, d, epoch)
		if err != nil {
			return err
		}
		skipped = max(0, first-m.Upto)
		m.Upto += skipped
		upto, m.At = m.Upto, s.nextID(tx)
		c, err := loadCounters(tx)
		if err != nil {
			return err
		}
		c.device(d).Skipped += skipped
		c.total.Skipped += skipped
		if err := c.store(tx); err != nil {
			return err
		}
		return storeMark(tx, m)
	})
	return upto, skipped, err
}
