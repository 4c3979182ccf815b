package graph

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"encoding/binary"
	"fmt"

	bolt "go.etcd.io/bbolt"

	"dunlin/facts"
	"dunlin/facts/rdf"
)

// triple is a fact as ids, s p o or rotated to the order of an index.
type triple [3]uint32

func rotate(ix int, t triple) triple { return triple{t[ix], t[(ix+1)%3], t[(ix+2)%3]} }

func unrotate(ix int, t triple) triple { return rotate((3-ix)%3, t) }

func compareTriples(a, b triple) int {
	for i := range a {
		if c := cmp.Compare(a[i], b[i]); c != 0 {
			return c
		}
	}
	return 0
}

func appendKey(dst []byte, t triple) []byte {
	for _, id := range t {
		dst = binary.BigEndian.AppendUint32(dst, id)
	}
	return dst
}

func parseKey(k []byte) (t triple) {
	for i := range t {
		t[i] = binary.BigEndian.Uint32(k[4*i:])
	}
	return t
}

// termKey is a term's key in bucket terms: its text, or for a long one a NUL
// (no text begins with that) and the text's SHA-256.
func termKey(text string) []byte {
	if len(text) <= 1024 {
		return []byte(text)
	}
	sum := sha256.Sum256([]byte(text))
	return append([]byte{0}, sum[:]...)
}

func idOf(tx *bolt.Tx, text string) uint32 {
	v := tx.Bucket(bTerms).Get(termKey(text))
	if v == nil {
		return 0
	}
	return binary.BigEndian.Uint32(v)
}

// factChange is one change of a version.
type factChange struct {
	t   triple
	del bool
}

// encodeChanges writes 13 bytes for each: 0 added or 1 deleted, s p o.
func encodeChanges(all []factChange) []byte {
	v := make([]byte, 0, 13*len(all))
	for _, c := range all {
		op := byte(0)
		if c.del {
			op = 1
		}
		v = appendKey(append(v, op), c.t)
	}
	return v
}

func decodeChanges(v []byte) ([]factChange, error) {
	if len(v)%13 != 0 {
		return nil, fmt.Errorf("changes: %d bytes, want a multiple of 13", len(v))
	}
	all := make([]factChange, 0, len(v)/13)
	for ; len(v) > 0; v = v[13:] {
		all = append(all, factChange{parseKey(v[1:13]), v[0] == 1})
	}
	return all, nil
}

// aliveAt reads a fact's list of turns: it came with the first version
// named, went with the second, came back with the third.
func aliveAt(turns []byte, version int64) bool {
	alive := false
	for len(turns) > 0 {
		v, n := binary.Uvarint(turns)
		if n <= 0 || int64(v) > version {
			break
		}
		alive, turns = !alive, turns[n:]
	}
	return alive
}

func lastTurn(turns []byte) (last int64) {
	for len(turns) > 0 {
		v, n := binary.Uvarint(turns)
		if n <= 0 {
			break
		}
		last, turns = int64(v), turns[n:]
	}
	return last
}

// at is the graph at a version, within a transaction.
type at struct {
	tx      *bolt.Tx
	version int64
}

func (a *at) has(t triple) bool {
	return aliveAt(a.tx.Bucket(bOrder[0]).Get(appendKey(nil, t)), a.version)
}

// scan calls fn with each fact (s p o) that fits pat (0 is any), until fn
// returns false.
func (a *at) scan(pat triple, fn func(t triple) bool) error {
	ix, bound := 0, 0
	for i := range bOrder { // the order whose beginning holds most of what is given
		n := 0
		for r := rotate(i, pat); n < 3 && r[n] != 0; {
			n++
		}
		if n > bound {
			ix, bound = i, n
		}
	}
	prefix := appendKey(nil, rotate(ix, pat))[:4*bound]
	c := a.tx.Bucket(bOrder[ix]).Cursor()
	for k, v := c.Seek(prefix); k != nil && bytes.HasPrefix(k, prefix); k, v = c.Next() {
		if len(k) != 12 {
			return fmt.Errorf("index %d: key of %d bytes", ix, len(k))
		}
		if aliveAt(v, a.version) && !fn(unrotate(ix, parseKey(k))) {
			return nil
		}
	}
	return nil
}

// pattern turns terms into ids; ok is false where one is unknown.
func (a *at) pattern(s, p, o facts.Term) (pat triple, ok bool) {
	for i, t := range []facts.Term{s, p, o} {
		if t == (facts.Term{}) {
			continue
		}
		if pat[i] = idOf(a.tx, rdf.Format(t)); pat[i] == 0 {
			return pat, false
		}
	}
	return pat, true
}

func (a *at) term(id uint32) (facts.Term, error) {
	text := a.tx.Bucket(bIDs).Get(binary.BigEndian.AppendUint32(nil, id))
	t, err := rdf.ParseTerm(string(text))
	if err != nil {
		return t, fmt.Errorf("term %d: %w", id, err)
	}
	return t, nil
}

func (a *at) fact(t triple) (f facts.Fact, err error) {
	for i, term := range []*facts.Term{&f.S, &f.P, &f.O} {
		if *term, err = a.term(t[i]); err != nil {
			return f, err
		}
	}
	return f, nil
}

func (a *at) match(s, p, o facts.Term, limit int) (found []facts.Fact, err error) {
	pat, ok := a.pattern(s, p, o)
	if !ok {
		return nil, nil
	}
	var bad error
	err = a.scan(pat, func(t triple) bool {
		f, err := a.fact(t)
		if bad = err; err == nil {
			found = append(found, f)
		}
		return bad == nil && (limit <= 0 || len(found) < limit)
	})
	if err == nil {
		err = bad
	}
	return found, err
}
