package results

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"go.etcd.io/bbolt"

	"dunlin/sync/wire"
)

// Explanation is a picture of what an answer rests on, kept beside the answer.
// It comes from whoever could ask the device, not from the device's outbox.
type Explanation struct {
	Method string    `json:"method"`          // "cam", "occlusion", …
	Label  string    `json:"label,omitempty"` // the class that it is about
	At     time.Time `json:"at"`              // when it was stored
	PNG    []byte    `json:"-"`
}

// MaxExplanation bounds the bytes of the picture, and MaxExplanations how many
// results have one: 64 MiB at most. Where there are more, that of the oldest
// result goes.
const (
	MaxExplanation  = 256 << 10
	MaxExplanations = 256
)

// ErrNoResult means that there is no result, or no explanation of it.
var ErrNoResult = errors.New("no such result")

// Explain stores an explanation of the result with that id, over one that was
// there, and returns the row. The caller checked that the picture is one.
func (s *Store) Explain(id uint64, e Explanation) (Row, error) {
	if len(e.PNG) > MaxExplanation {
		return Row{}, fmt.Errorf("explain result %d: a picture of %d bytes, at most %d are kept", id, len(e.PNG), MaxExplanation)
	}
	e.At = s.o.Now().UTC()
	about, err := json.Marshal(e)
	if err != nil {
		return Row{}, fmt.Errorf("explain result %d: %w", id, err)
	}
	var row Row
	err = s.db.Update(func(tx *bbolt.Tx) error {
		r, err := getRow(tx, id)
		if err != nil {
			return err
		}
		if r == nil || r.Kind != wire.RecordResult {
			return ErrNoResult
		}
		if err := tx.Bucket(bucketWhy).Put(idKey(id), about); err != nil {
			return err
		}
		if err := tx.Bucket(bucketHeat).Put(idKey(id), e.PNG); err != nil {
			return err
		}
		row, row.Explanation = *r, &e
		return dropExplanations(tx, id)
	})
	if err != nil {
		return Row{}, fmt.Errorf("explain result %d: %w", id, err)
	}
	return row, nil
}

// dropExplanations keeps MaxExplanations of them, and that of keep among them.
func dropExplanations(tx *bbolt.Tx, keep uint64) error {
	var ids []uint64 // the oldest first
	err := tx.Bucket(bucketWhy).ForEach(func(k, _ []byte) error {
		ids = append(ids, binary.BigEndian.Uint64(k))
		return nil
	})
	for _, id := range ids {
		if err != nil || len(ids) <= MaxExplanations {
			break
		}
		if id != keep {
			ids, err = ids[1:], deleteExplanation(tx, id)
		}
	}
	return err
}

func deleteExplanation(tx *bbolt.Tx, id uint64) error {
	return errors.Join(tx.Bucket(bucketWhy).Delete(idKey(id)), tx.Bucket(bucketHeat).Delete(idKey(id)))
}

// Explanation returns the explanation of a result with its picture, or
// ErrNoResult.
func (s *Store) Explanation(id uint64) (Explanation, error) {
	var e *Explanation
	err := s.db.View(func(tx *bbolt.Tx) (err error) {
		if e, err = getExplanation(tx, id); e != nil {
			e.PNG = append([]byte(nil), tx.Bucket(bucketHeat).Get(idKey(id))...)
		}
		return err
	})
	if err == nil && e == nil {
		err = ErrNoResult
	}
	if err != nil {
		return Explanation{}, fmt.Errorf("explanation of result %d: %w", id, err)
	}
	return *e, nil
}

// getExplanation returns what is known of an explanation but its picture, nil
// where there is none.
func getExplanation(tx *bbolt.Tx, id uint64) (*Explanation, error) {
	data := tx.Bucket(bucketWhy).Get(idKey(id))
	if data == nil {
		return nil, nil
	}
	e := new(Explanation)
	if err := json.Unmarshal(data, e); err != nil {
		return nil, fmt.Errorf("explanation of row %d: %w", id, err)
	}
	return e, nil
}
