package cache

import (
	"slices"
	"sort"
)

// overlay is what the log's patches change in the base, kept in memory: for
// each fact that differs from the base, whether it is there now. Ids above
// the base's are terms that only patches brought, in the order they came.
type overlay struct {
	runs         [3]sortedRun // the same changes in the three orders
	nodes, preds newTerms
	adds, dels   int
}

func newOverlay(m baseMeta) *overlay {
	return &overlay{
		nodes: newTerms{first: m.nodes + 1, ids: map[string]uint32{}},
		preds: newTerms{first: m.preds + 1, ids: map[string]uint32{}},
	}
}

// change says that a fact (in an index's order) is added or deleted.
type change struct {
	key triple
	del bool
}

// set records that the base's fact t was deleted, or that t, which the base
// lacks, was added. A change that undoes an earlier one removes it.
func (o *overlay) set(t triple, del bool) {
	if old, ok := o.runs[0].find(t); ok {
		if old == del {
			return
		}
		o.count(old, -1)
		for ix := range o.runs {
			o.runs[ix].remove(rotate(ix, t))
		}
		return
	}
	o.count(del, +1)
	for ix := range o.runs {
		o.runs[ix].insert(change{rotate(ix, t), del})
	}
}

func (o *overlay) count(del bool, by int) {
	if del {
		o.dels += by
	} else {
		o.adds += by
	}
}

func (o *overlay) size() int { return o.adds + o.dels }

// chunkMax bounds a chunk of a sortedRun: 8 KiB to move at an insertion.
const chunkMax = 512

// sortedRun is a sorted list in chunks, so that one change costs two binary
// searches and a move of at most chunkMax entries, however long the list is.
type sortedRun struct{ chunks [][]change }

// place returns the chunk and the index in it where k is or belongs.
func (r *sortedRun) place(k triple) (c, i int, found bool) {
	c = sort.Search(len(r.chunks), func(i int) bool { return compareTriples(r.chunks[i][0].key, k) > 0 }) - 1
	if c < 0 {
		return 0, 0, false
	}
	i, found = slices.BinarySearchFunc(r.chunks[c], k, func(e change, k triple) int { return compareTriples(e.key, k) })
	return c, i, found
}

func (r *sortedRun) find(k triple) (del, ok bool) {
	c, i, ok := r.place(k)
	return ok && r.chunks[c][i].del, ok
}

func (r *sortedRun) insert(e change) {
	if len(r.chunks) == 0 {
		r.chunks = [][]change{{e}}
		return
	}
	c, i, _ := r.place(e.key)
	chunk := slices.Insert(r.chunks[c], i, e)
	r.chunks[c] = chunk
	if len(chunk) > chunkMax {
		right := slices.Clone(chunk[chunkMax/2:])
		r.chunks[c] = slices.Clip(chunk[:chunkMax/2])
		r.chunks = slices.Insert(r.chunks, c+1, right)
	}
}

func (r *sortedRun) remove(k triple) {
	c, i, ok := r.place(k)
	if !ok {
		return
	}
	if r.chunks[c] = slices.Delete(r.chunks[c], i, i+1); len(r.chunks[c]) == 0 {
		r.chunks = slices.Delete(r.chunks, c, c+1)
	}
}

// runCursor walks a sortedRun from a place on.
type runCursor struct {
	r    *sortedRun
	c, i int
}

func (r *sortedRun) from(k triple) runCursor {
	c, i, _ := r.place(k)
	return runCursor{r, c, i}
}

// peek returns the entry under the cursor.
func (c *runCursor) peek() (change, bool) {
	for c.c < len(c.r.chunks) {
		if chunk := c.r.chunks[c.c]; c.i < len(chunk) {
			return chunk[c.i], true
		}
		c.c, c.i = c.c+1, 0
	}
	return change{}, false
}

func (c *runCursor) next() { c.i++ }

// newTerms are terms that the base lacks, with their ids.
type newTerms struct {
	first uint32
	ids   map[string]uint32
	texts []string
	bytes int
}

func (n *newTerms) add(text string) uint32 {
	id := n.first + uint32(len(n.texts))
	n.ids[text] = id
	n.texts = append(n.texts, text)
	n.bytes += len(text)
	return id
}

func (n *newTerms) text(id uint32) (string, bool) {
	if i := int(id) - int(n.first); i >= 0 && i < len(n.texts) {
		return n.texts[i], true
	}
	return "", false
}

// last returns the highest id in use, the base's included.
func (n *newTerms) last() uint32 { return n.first + uint32(len(n.texts)) - 1 }
