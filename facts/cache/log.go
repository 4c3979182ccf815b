package cache

import (
	"encoding/binary"
	"fmt"
	"math"
	"slices"

	bolt "go.etcd.io/bbolt"
)

// maxLogEntry bounds one log entry, and so one patch, in bytes.
const maxLogEntry = 16 << 20

// logPiece is what of an entry goes into one value. Four share a page: an
// appended entry then writes its own pages and the last one again. (As one
// value it would write the last few entries again, 100 KB a patch in place
// of 30: bbolt does not split a page of less than five keys.)
const logPiece = 960

// logKey is the key of a piece of entry n.
func logKey(n uint64, part uint32) []byte {
	return binary.BigEndian.AppendUint32(binary.BigEndian.AppendUint64(nil, n), part)
}

// readLog puts the entries together and calls fn with each, in order.
func readLog(log *bolt.Bucket, fn func(v []byte) error) error {
	var n uint64
	var entry []byte
	var part uint32
	err := log.ForEach(func(k, v []byte) error {
		if len(k) != 12 {
			return fmt.Errorf("%w: log key of %d bytes, want 12", ErrCorrupt, len(k))
		}
		if next := binary.BigEndian.Uint64(k); next != n {
			if len(entry) > 0 {
				if err := fn(entry); err != nil {
					return err
				}
			}
			n, part, entry = next, 0, entry[:0]
		}
		if binary.BigEndian.Uint32(k[8:]) != part || len(entry)+len(v) > maxLogEntry {
			return fmt.Errorf("%w: log entry %d: piece %d is missing", ErrCorrupt, n, part)
		}
		part++
		entry = append(entry, v...)
		return nil
	})
	if err == nil && len(entry) > 0 {
		err = fn(entry)
	}
	return err
}

// logEntry is one applied patch, reduced to what it changed. On disk:
//
//	from, to        varint each
//	graph           varint length, bytes
//	nodes, preds    varint count; each: varint length, bytes. Their ids follow the last in use
//	adds, dels      varint count; where not 0: first s p o (12 bytes), varint length, index block
type logEntry struct {
	graph        string
	from, to     int64
	nodes, preds []string
	adds, dels   []triple // sorted
}

func (e *logEntry) encode() []byte {
	v := binary.AppendUvarint(nil, uint64(e.from))
	v = binary.AppendUvarint(v, uint64(e.to))
	v = append(binary.AppendUvarint(v, uint64(len(e.graph))), e.graph...)
	for _, terms := range [][]string{e.nodes, e.preds} {
		v = binary.AppendUvarint(v, uint64(len(terms)))
		for _, t := range terms {
			v = append(binary.AppendUvarint(v, uint64(len(t))), t...)
		}
	}
	for _, ts := range [][]triple{e.adds, e.dels} {
		v = binary.AppendUvarint(v, uint64(len(ts)))
		if len(ts) == 0 {
			continue
		}
		slices.SortFunc(ts, compareTriples)
		var block []byte
		for i := 1; i < len(ts); i++ {
			block = appendDelta(block, ts[i-1], ts[i])
		}
		v = appendKey(v, ts[0])
		v = append(binary.AppendUvarint(v, uint64(len(block))), block...)
	}
	return v
}

// logDecoder takes an entry apart, with bounds; the first error sticks.
type logDecoder struct {
	b   []byte
	err error
}

func (d *logDecoder) number() uint64 {
	x, n := binary.Uvarint(d.b)
	if n <= 0 || x > math.MaxInt64 {
		d.fail("bad number")
		return 0
	}
	d.b = d.b[n:]
	return x
}

func (d *logDecoder) bytes(n uint64) []byte {
	if d.err != nil || n > uint64(len(d.b)) {
		d.fail("a length reaches beyond the end")
		return nil
	}
	v := d.b[:n]
	d.b = d.b[n:]
	return v
}

func (d *logDecoder) fail(why string) {
	if d.err == nil {
		d.err = fmt.Errorf("%w: log entry: %s", ErrCorrupt, why)
	}
	d.b = nil
}

func (d *logDecoder) terms() (all []string) {
	for n := d.number(); n > 0 && d.err == nil; n-- {
		text := d.bytes(d.number())
		if d.err == nil && (len(text) == 0 || len(text) > MaxTermBytes) {
			d.fail("bad term length")
			break
		}
		all = append(all, string(text))
	}
	return all
}

func (d *logDecoder) triples() (all []triple) {
	n := d.number()
	if n == 0 || d.err != nil {
		return nil
	}
	key := d.bytes(12)
	block := d.bytes(d.number())
	if d.err != nil {
		return nil
	}
	err := readBlock(key, block, func(t triple) bool {
		all = append(all, t)
		return true
	})
	if err != nil {
		d.err = err
	} else if uint64(len(all)) != n {
		d.fail("wrong count of changes")
	}
	return all
}

func decodeLogEntry(b []byte) (e logEntry, err error) {
	d := &logDecoder{b: b}
	e.from, e.to = int64(d.number()), int64(d.number())
	e.graph = string(d.bytes(d.number()))
	e.nodes, e.preds = d.terms(), d.terms()
	e.adds, e.dels = d.triples(), d.triples()
	if d.err == nil && len(d.b) > 0 {
		d.fail("bytes left over")
	}
	return e, d.err
}

// apply brings an entry into the overlay, after checking that all its ids
// are known.
func (o *overlay) apply(e *logEntry) error {
	nodes := uint64(o.nodes.last()) + uint64(len(e.nodes))
	preds := uint64(o.preds.last()) + uint64(len(e.preds))
	for _, ts := range [][]triple{e.adds, e.dels} {
		for _, t := range ts {
			if min(t[0], t[1], t[2]) == 0 || uint64(max(t[0], t[2])) > nodes || uint64(t[1]) > preds {
				return fmt.Errorf("%w: log entry: unknown term", ErrCorrupt)
			}
		}
	}
	for _, s := range e.nodes {
		o.nodes.add(s)
	}
	for _, s := range e.preds {
		o.preds.add(s)
	}
	for _, t := range e.adds {
		o.set(t, false)
	}
	for _, t := range e.dels {
		o.set(t, true)
	}
	return nil
}
