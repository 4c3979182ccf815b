package cache

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"iter"
	"os"
	"time"

	bolt "go.etcd.io/bbolt"
)

// boltOptions are the same wherever a cache's file is opened: the free list
// is not written (a base has none, and a patch writes one page less), and
// the page size does not depend on the machine that made the file.
func boltOptions() *bolt.Options {
	return &bolt.Options{
		Timeout: time.Second, NoFreelistSync: true, NoStatistics: true,
		FreelistType: bolt.FreelistArrayType, PageSize: pageSize,
	}
}

// txBytes is about how much a writer keeps in memory before it commits.
const txBytes = 1 << 20

// baseWriter writes a base to a new file, in order and in bounded memory:
// nodes, predicates, the three indexes, finish. Nothing is durable, and the
// file is not a base, before finish returns.
//
// A transaction touches one bucket only: bbolt gives pages to the buckets of
// one in the order of a Go map, and the same facts shall make the same file.
type baseWriter struct {
	db     *bolt.DB
	tx     *bolt.Tx
	bucket *bolt.Bucket
	name   []byte
	size   int
	key    []byte
}

func newBaseWriter(path string) (*baseWriter, error) {
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	opt := boltOptions()
	opt.NoSync = true // finish syncs once; until then nobody depends on it
	opt.NoGrowSync = true
	db, err := bolt.Open(path, 0o600, opt)
	if err != nil {
		return nil, err
	}
	db.AllocSize = 64 << 10
	w := &baseWriter{db: db}
	if w.tx, err = db.Begin(true); err != nil {
		return nil, errors.Join(err, db.Close())
	}
	return w, nil
}

// open makes a new bucket the one that put writes to.
func (w *baseWriter) open(name []byte) error {
	if err := w.next(); err != nil {
		return err
	}
	var err error
	w.name = name
	w.bucket, err = w.tx.CreateBucket(name)
	return err
}

// next commits and begins the next transaction.
func (w *baseWriter) next() error {
	if err := w.tx.Commit(); err != nil {
		return err
	}
	w.size = 0
	var err error
	w.tx, err = w.db.Begin(true)
	return err
}

// put adds a pair at the end of the bucket; it keeps val.
func (w *baseWriter) put(key, val []byte) error {
	if w.size > txBytes {
		if err := w.next(); err != nil {
			return err
		}
		w.bucket = w.tx.Bucket(w.name)
	}
	w.size += len(key) + len(val) + 100 // what bbolt keeps of a pair besides
	w.bucket.FillPercent = 1            // keys come in order, nothing is inserted later
	return w.bucket.Put(key, val)
}

// dict writes the terms of seq, which must rise, and returns how many.
func (w *baseWriter) dict(blocks, seps []byte, seq iter.Seq2[[]byte, error]) (uint32, error) {
	if err := w.open(blocks); err != nil {
		return 0, err
	}
	var n uint32
	var prev, block []byte
	var first []string // the separators, some 2 bytes for each term
	flush := func() error {
		w.key = binary.BigEndian.AppendUint32(w.key[:0], (n-1)/dictBlock)
		err := w.put(w.key, bytes.Clone(block))
		block = block[:0]
		return err
	}
	for term, err := range seq {
		if err != nil {
			return n, err
		}
		if len(term) == 0 || len(term) > MaxTermBytes {
			return n, &TermError{Bytes: len(term), Start: string(term[:min(len(term), 60)])}
		}
		if n > 0 && bytes.Compare(prev, term) >= 0 {
			return n, fmt.Errorf("%w: terms are not in order", ErrCorrupt)
		}
		front := prev
		if n%dictBlock == 0 {
			if n > 0 {
				if err := flush(); err != nil {
					return n, err
				}
			}
			// The shortest text that is above the block before and not above this one.
			first = append(first, string(term[:shared(prev, term)+1]))
			front = nil
		}
		block = appendFront(block, front, term)
		prev = append(prev[:0], term...)
		n++
	}
	if n > 0 {
		if err := flush(); err != nil {
			return n, err
		}
	}
	if err := w.open(seps); err != nil {
		return n, err
	}
	for i, sep := range first {
		if err := w.put([]byte(sep), binary.BigEndian.AppendUint32(nil, uint32(i))); err != nil {
			return n, err
		}
	}
	return n, nil
}

// index writes the triples of seq, rotated to the order of index ix and
// rising, and returns how many.
func (w *baseWriter) index(ix int, seq iter.Seq2[triple, error]) (uint32, error) {
	if err := w.open(bOrder[ix]); err != nil {
		return 0, err
	}
	var n uint32
	var first, prev triple
	var block, one []byte
	begun := false
	flush := func() error {
		w.key = appendKey(w.key[:0], first)
		err := w.put(w.key, bytes.Clone(block))
		block = block[:0]
		return err
	}
	for t, err := range seq {
		if err != nil {
			return n, err
		}
		if n > 0 && compareTriples(prev, t) >= 0 {
			return n, fmt.Errorf("%w: index %d is not in order", ErrCorrupt, ix)
		}
		if begun {
			one = appendDelta(one[:0], prev, t)
			if len(block)+len(one) > blockMax {
				if err := flush(); err != nil {
					return n, err
				}
				begun = false
			} else {
				block = append(block, one...)
			}
		}
		if !begun {
			first, begun = t, true
		}
		prev = t
		n++
	}
	if begun {
		return n, flush()
	}
	return n, nil
}

// finish writes the meta record, makes the file durable and closes it.
func (w *baseWriter) finish(m baseMeta) error {
	err := w.open(bMeta)
	if err == nil {
		err = w.put(kBase, m.append(nil))
	}
	if err != nil {
		return errors.Join(err, w.abort())
	}
	err = w.tx.Commit()
	if err == nil {
		err = w.db.Sync()
	}
	return errors.Join(err, w.db.Close())
}

// abort gives up and removes the file.
func (w *baseWriter) abort() error {
	path := w.db.Path()
	if w.tx != nil {
		w.tx.Rollback() // an error here means only that it ended already
	}
	return errors.Join(w.db.Close(), os.Remove(path))
}

// source is what a base is written from: terms and triples in order. The
// dictionaries are read before the indexes.
type source struct {
	nodes, preds iter.Seq2[[]byte, error]
	index        func(ix int) iter.Seq2[triple, error]
}

// writeBase writes a whole base to path: complete and durable, or absent.
func writeBase(path string, v Version, src source) (m baseMeta, err error) {
	w, err := newBaseWriter(path)
	if err != nil {
		return m, err
	}
	m.Version = v
	if m.nodes, err = w.dict(bNodes, bNodeSeps, src.nodes); err != nil {
		return m, errors.Join(err, w.abort())
	}
	if m.preds, err = w.dict(bPreds, bPredSeps, src.preds); err != nil {
		return m, errors.Join(err, w.abort())
	}
	for ix := range bOrder {
		n, err := w.index(ix, src.index(ix))
		if err != nil {
			return m, errors.Join(err, w.abort())
		}
		if ix > 0 && n != m.facts {
			err = fmt.Errorf("%w: index %d holds %d facts, index 0 holds %d", ErrCorrupt, ix, n, m.facts)
			return m, errors.Join(err, w.abort())
		}
		m.facts = n
	}
	return m, w.finish(m)
}
