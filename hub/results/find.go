package results

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"math"
	"slices"
	"time"

	"go.etcd.io/bbolt"

	"dunlin/sync/wire"
)

// Query says which results Find returns; zero fields say nothing. All that
// are set must hold.
type Query struct {
	Device wire.Device
	Label  string // the first label
	Input  string // "sha256:…" of the input's bytes
	Since  time.Time
	After  uint64 // the id at which the last page ended
	Limit  int    // 1 to MaxLimit; 0 means 100
	Newest bool   // the newest first
}

// MaxLimit bounds the rows of a page.
const MaxLimit = 1000

// maxScan bounds the rows that one call of Find looks at, so that a query
// with two conditions cannot hold up the file for long; the page then has
// fewer rows and a Next to go on from.
const maxScan = 20000

// Page is a part of an answer.
type Page struct {
	Rows []Row
	Next uint64 // After of the next page, 0 where there is none
}

// Find returns a page of results in the order of storing.
func (s *Store) Find(q Query) (Page, error) {
	if q.Limit <= 0 {
		q.Limit = 100
	}
	q.Limit = min(q.Limit, MaxLimit)
	var p Page
	err := s.db.View(func(tx *bbolt.Tx) error {
		w := newWalk(tx, q)
		for n := 0; w.ok(); n++ {
			if len(p.Rows) == q.Limit || n == maxScan {
				p.Next = w.last
				return nil
			}
			r, err := getRow(tx, w.id)
			if err != nil {
				return err
			}
			if r != nil && q.match(r) {
				if r.Explanation, err = getExplanation(tx, w.id); err != nil {
					return err
				}
				p.Rows = append(p.Rows, *r)
			}
			w.next()
		}
		return nil
	})
	if err != nil {
		return Page{}, fmt.Errorf("find results: %w", err)
	}
	return p, nil
}

// match checks what the walk's index did not.
func (q *Query) match(r *Row) bool {
	if r.Kind != wire.RecordResult || q.Device != (wire.Device{}) && r.Device != q.Device {
		return false
	}
	if q.Label == "" && q.Input == "" {
		return true
	}
	x := parseIndex(r.Body)
	return (q.Label == "" || x.label() == q.Label) && (q.Input == "" || x.Input == q.Input)
}

// getRow returns the row of an id, nil where it was deleted.
func getRow(tx *bbolt.Tx, id uint64) (*Row, error) {
	data := tx.Bucket(bucketRow).Get(idKey(id))
	if data == nil {
		return nil, nil
	}
	var r row
	if err := json.Unmarshal(data, &r); err != nil {
		return nil, fmt.Errorf("row %d: %w", id, err)
	}
	return &Row{ID: id, Device: wire.Device{Tenant: r.Tenant, Name: r.Device}, Epoch: r.Epoch, Seq: r.Seq, Kind: r.Kind, Body: r.Body}, nil
}

// walk goes through the ids of the narrowest index that a query allows.
type walk struct {
	c        *bbolt.Cursor
	prefix   []byte
	from, to uint64 // ids, both included
	newest   bool
	key      []byte
	id, last uint64 // at the cursor, and before it
}

func newWalk(tx *bbolt.Tx, q Query) *walk {
	w := &walk{newest: q.Newest, to: math.MaxUint64, last: q.After}
	switch {
	case indexable(q.Input):
		w.c, w.prefix = tx.Bucket(bucketInput).Cursor(), append([]byte(q.Input), 0)
	case q.Device != (wire.Device{}):
		w.c, w.prefix = tx.Bucket(bucketDevice).Cursor(), deviceKey(q.Device)
	case indexable(q.Label):
		w.c, w.prefix = tx.Bucket(bucketLabel).Cursor(), append([]byte(q.Label), 0)
	default:
		w.c = tx.Bucket(bucketRow).Cursor()
	}
	if !q.Since.IsZero() {
		w.from = uint64(max(0, q.Since.UnixNano()))
	}
	switch {
	case q.After == 0:
	case q.Newest:
		w.to = q.After - 1
	default:
		w.from = max(w.from, q.After+1)
	}
	w.start()
	return w
}

func (w *walk) start() {
	at := func(id uint64) []byte { return binary.BigEndian.AppendUint64(slices.Clone(w.prefix), id) }
	if !w.newest {
		w.key, _ = w.c.Seek(at(w.from))
	} else if w.key, _ = w.c.Seek(at(w.to)); w.key == nil {
		w.key, _ = w.c.Last()
	} else if !bytes.Equal(w.key, at(w.to)) {
		w.key, _ = w.c.Prev()
	}
	w.read()
}

func (w *walk) read() {
	if w.key != nil && hasPrefix(w.key, w.prefix) && len(w.key) == len(w.prefix)+8 {
		w.id = binary.BigEndian.Uint64(w.key[len(w.prefix):])
		return
	}
	w.key = nil
}

func (w *walk) ok() bool { return w.key != nil && w.id >= w.from && w.id <= w.to }

func (w *walk) next() {
	w.last = w.id
	if w.newest {
		w.key, _ = w.c.Prev()
	} else {
		w.key, _ = w.c.Next()
	}
	w.read()
}
