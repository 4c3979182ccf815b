package cache

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"iter"

	bolt "go.etcd.io/bbolt"

	"dunlin/facts"
)

// reader sees base and overlay as one set of facts, during one transaction.
type reader struct {
	tx           *bolt.Tx
	meta         baseMeta
	version      Version // of base and overlay together
	over         *overlay
	nodes, preds dict
	buf          []byte
}

// dict is one of the two dictionaries: the base's part and the new terms.
type dict struct {
	blockName, sepName []byte
	n                  uint32 // terms in the base
	added              *newTerms
}

// Buckets are opened where they are needed: most queries need four of the
// seven, and opening one costs as much as reading a block of it.
func (d *dict) blocks(tx *bolt.Tx) *bolt.Bucket { return tx.Bucket(d.blockName) }
func (d *dict) seps(tx *bolt.Tx) *bolt.Bucket   { return tx.Bucket(d.sepName) }

func newReader(tx *bolt.Tx, m baseMeta, over *overlay) *reader {
	return &reader{
		tx: tx, meta: m, over: over,
		nodes: dict{bNodes, bNodeSeps, m.nodes, &over.nodes},
		preds: dict{bPreds, bPredSeps, m.preds, &over.preds},
	}
}

// checkBuckets says which bucket of a base is missing; a reader takes all
// for granted.
func checkBuckets(tx *bolt.Tx) error {
	for _, name := range [][]byte{bNodes, bNodeSeps, bPreds, bPredSeps, bOrder[0], bOrder[1], bOrder[2]} {
		if tx.Bucket(name) == nil {
			return fmt.Errorf("%w: bucket %q is missing", ErrCorrupt, name)
		}
	}
	return nil
}

// id returns the id of a term's text in d, 0 where there is none.
func (r *reader) id(d *dict, text []byte) (uint32, error) {
	if id, ok := d.added.ids[string(text)]; ok {
		return id, nil
	}
	if len(text) > MaxTermBytes {
		return 0, nil
	}
	c := d.seps(r.tx).Cursor()
	k, v := c.Seek(text)
	if k == nil {
		k, v = c.Last()
	} else if !bytes.Equal(k, text) {
		k, v = c.Prev()
	}
	if k == nil {
		return 0, nil
	}
	if len(v) != 4 {
		return 0, fmt.Errorf("%w: separator without a block", ErrCorrupt)
	}
	first := binary.BigEndian.Uint32(v)*dictBlock + 1
	var id uint32
	var err error
	r.buf, err = readDict(d.blocks(r.tx).Get(v), r.buf, func(i int, term []byte) bool {
		if bytes.Equal(term, text) {
			id = first + uint32(i)
		}
		return id == 0
	})
	if id > d.n {
		return 0, fmt.Errorf("%w: term %d of %d", ErrCorrupt, id, d.n)
	}
	return id, err
}

// term returns the term with an id of d.
func (r *reader) term(d *dict, id uint32) (t facts.Term, err error) {
	if text, ok := d.added.text(id); ok {
		return parseTerm([]byte(text))
	}
	if id == 0 || id > d.n {
		return t, fmt.Errorf("%w: term %d of %d", ErrCorrupt, id, d.n)
	}
	var key [4]byte
	binary.BigEndian.PutUint32(key[:], (id-1)/dictBlock)
	want, found := int(id-1)%dictBlock, false
	var bad error
	r.buf, err = readDict(d.blocks(r.tx).Get(key[:]), r.buf, func(i int, text []byte) bool {
		if i == want {
			t, bad = parseTerm(text)
			found = true
		}
		return i < want
	})
	if err == nil && !found {
		err = fmt.Errorf("%w: term %d is not in its block", ErrCorrupt, id)
	}
	if err == nil {
		err = bad
	}
	return t, err
}

// pattern turns terms into ids; ok is false where a term is unknown, so that
// nothing can match. The zero Term stays "any".
func (r *reader) pattern(s, p, o facts.Term) (pat triple, ok bool, err error) {
	var text []byte
	for i, t := range []facts.Term{s, p, o} {
		if t == (facts.Term{}) {
			continue
		}
		d := &r.nodes
		if i == 1 {
			d = &r.preds
		}
		text = appendTerm(text[:0], t)
		if pat[i], err = r.id(d, text); err != nil || pat[i] == 0 {
			return pat, false, err
		}
	}
	return pat, true, nil
}

// baseFrom calls fn with the base's facts in the order of index ix, from the
// block on in which prefix belongs, until fn returns false.
func (r *reader) baseFrom(ix int, prefix triple, fn func(t triple) bool) error {
	var kb [12]byte
	key := appendKey(kb[:0], prefix)
	c := r.tx.Bucket(bOrder[ix]).Cursor()
	k, v := c.Seek(key)
	if k == nil {
		k, v = c.Last()
	} else if !bytes.Equal(k, key) {
		if k, v = c.Prev(); k == nil {
			k, v = c.First()
		}
	}
	more := true
	for k != nil && more {
		err := readBlock(k, v, func(t triple) bool {
			more = fn(t)
			return more
		})
		if err != nil {
			return err
		}
		k, v = c.Next()
	}
	return nil
}

// inBase reports whether the base alone holds t (s p o).
func (r *reader) inBase(t triple) (bool, error) {
	if t[0] > r.meta.nodes || t[1] > r.meta.preds || t[2] > r.meta.nodes {
		return false, nil
	}
	found := false
	err := r.baseFrom(0, t, func(x triple) bool {
		c := compareTriples(x, t)
		found = c == 0
		return c < 0
	})
	return found, err
}

// scan calls fn with each fact that matches pat (s p o, 0 is any), base and
// overlay merged, in the order of the index used, until fn returns false.
func (r *reader) scan(pat triple, fn func(t triple) bool) error {
	ix, prefix, bound := plan(pat)
	over := r.over.runs[ix].from(prefix)
	going := true
	// upTo gives out the overlay's additions below limit and reports whether
	// the overlay has an entry for limit itself.
	upTo := func(limit triple, all bool) (hit, del bool) {
		for going {
			e, ok := over.peek()
			if !ok || !hasPrefix(e.key, prefix, bound) && compareTriples(e.key, prefix) > 0 {
				return false, false
			}
			c := -1
			if !all {
				c = compareTriples(e.key, limit)
			}
			if c > 0 {
				return false, false
			}
			over.next()
			if c == 0 {
				return true, e.del
			}
			if !e.del && hasPrefix(e.key, prefix, bound) {
				going = fn(unrotate(ix, e.key))
			}
		}
		return false, false
	}
	err := r.baseFrom(ix, prefix, func(t triple) bool {
		if !hasPrefix(t, prefix, bound) {
			return compareTriples(t, prefix) < 0
		}
		hit, del := upTo(t, false)
		if going && !(hit && del) {
			going = fn(unrotate(ix, t))
		}
		return going
	})
	if err == nil && going {
		upTo(triple{}, true)
	}
	return err
}

// baseTerms yields the base's part of a dictionary, in order.
func (d *dict) baseTerms(tx *bolt.Tx) iter.Seq2[[]byte, error] {
	return func(yield func([]byte, error) bool) {
		c := d.blocks(tx).Cursor()
		var buf []byte
		var n uint32
		more := true
		for k, v := c.First(); k != nil && more; k, v = c.Next() {
			var err error
			buf, err = readDict(v, buf, func(_ int, term []byte) bool {
				n++
				more = yield(term, nil)
				return more
			})
			if err != nil {
				yield(nil, err)
				return
			}
		}
		if more && n != d.n {
			yield(nil, fmt.Errorf("%w: dictionary of %d terms, meta says %d", ErrCorrupt, n, d.n))
		}
	}
}
