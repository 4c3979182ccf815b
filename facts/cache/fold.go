package cache

import (
	"cmp"
	"iter"
	"slices"
)

// fold merges base and overlay into a new base and an empty log. It streams:
// ids only shift (see format.go), so each index of the new base is the old
// one renumbered, merged with the sorted additions. In memory are 4 bytes
// for each term, one bit for each term that is used, and the overlay.
//
// A fold that fails leaves the cache as it was, with the patch that caused
// it applied; Stats tells the reason, and the next patch tries again.
func (c *Cache) fold() {
	tmp := c.path + newSuffix
	err := c.view(func(r *reader) error {
		f, err := newFolding(r)
		if err != nil {
			return err
		}
		_, err = writeBase(tmp, c.version, source{nodes: f.terms(&r.nodes, &f.nodes), preds: f.terms(&r.preds, &f.preds), index: f.index})
		return err
	})
	if err == nil {
		err = c.replace(tmp)
	}
	c.mu.Lock()
	c.foldErr = err
	c.mu.Unlock()
}

// folding is the state of one fold.
type folding struct {
	r            *reader
	nodes, preds renumbering
}

// renumbering maps old ids to new ones; 0 where the term is used no more.
// Before the dictionary is written, 1 marks a term that is used.
type renumbering []uint32

// newFolding finds out which terms are still used.
func newFolding(r *reader) (*folding, error) {
	f := &folding{
		r:     r,
		nodes: make(renumbering, r.nodes.added.last()+1),
		preds: make(renumbering, r.preds.added.last()+1),
	}
	bad := false
	err := r.scan(triple{}, func(t triple) bool {
		if int(max(t[0], t[2])) >= len(f.nodes) || int(t[1]) >= len(f.preds) {
			bad = true
			return false
		}
		f.nodes[t[0]], f.preds[t[1]], f.nodes[t[2]] = 1, 1, 1
		return true
	})
	if err == nil && bad {
		err = ErrCorrupt
	}
	return f, err
}

// terms yields the terms used, the base's and the new ones merged, and
// numbers them on the way.
func (f *folding) terms(d *dict, ids *renumbering) iter.Seq2[[]byte, error] {
	return func(yield func([]byte, error) bool) {
		fresh := make([]int, len(d.added.texts))
		for i := range fresh {
			fresh[i] = i
		}
		slices.SortFunc(fresh, func(a, b int) int { return cmp.Compare(d.added.texts[a], d.added.texts[b]) })
		var next, old uint32
		give := func(id uint32, text []byte) bool {
			if (*ids)[id] == 0 {
				return true
			}
			next++
			(*ids)[id] = next
			return yield(text, nil)
		}
		giveFresh := func(below []byte) bool {
			for len(fresh) > 0 && (below == nil || d.added.texts[fresh[0]] < string(below)) {
				i := fresh[0]
				fresh = fresh[1:]
				if !give(d.added.first+uint32(i), []byte(d.added.texts[i])) {
					return false
				}
			}
			return true
		}
		for text, err := range d.baseTerms(f.r.tx) {
			if err != nil {
				yield(nil, err)
				return
			}
			if old++; old > d.n {
				yield(nil, ErrCorrupt)
				return
			}
			if !giveFresh(text) || !give(old, text) {
				return
			}
		}
		giveFresh(nil)
	}
}

// index yields the facts in the order of ix by their new ids.
func (f *folding) index(ix int) iter.Seq2[triple, error] {
	renumber := func(t triple) triple { // t in the order of ix
		spo := unrotate(ix, t)
		return rotate(ix, triple{f.nodes[spo[0]], f.preds[spo[1]], f.nodes[spo[2]]})
	}
	return func(yield func(triple, error) bool) {
		adds := make([]triple, 0, f.r.over.adds)
		for cur := f.r.over.runs[ix].from(triple{}); ; cur.next() {
			e, ok := cur.peek()
			if !ok {
				break
			}
			if !e.del {
				adds = append(adds, renumber(e.key))
			}
		}
		slices.SortFunc(adds, compareTriples)
		dels := f.r.over.runs[ix].from(triple{})
		more := true
		err := f.r.baseFrom(ix, triple{}, func(t triple) bool {
			for { // both in old ids and in order
				e, ok := dels.peek()
				if !ok || compareTriples(e.key, t) > 0 {
					break
				}
				dels.next()
				if e.del && e.key == t {
					return true
				}
			}
			n := renumber(t)
			for more && len(adds) > 0 && compareTriples(adds[0], n) < 0 {
				more = yield(adds[0], nil)
				adds = adds[1:]
			}
			more = more && yield(n, nil)
			return more
		})
		if err != nil {
			yield(triple{}, err)
			return
		}
		for ; more && len(adds) > 0; adds = adds[1:] {
			more = yield(adds[0], nil)
		}
	}
}
