package cache

// A cache is one bbolt file: a base that never changes, and a log of the
// patches applied since.
//
//	bucket  key                          value
//	meta    "base"                       what the base is: see baseMeta
//	d       block number, 4 bytes BE     16 nodes (subjects and objects), in order, front-coded
//	k       separator                    block number: the last separator <= a node's text names its block
//	p, q    the same two for predicates
//	0       first s p o of the block     the block's facts in the order s p o
//	1       first p o s of the block     ...                            p o s
//	2       first o s p of the block     ...                            o s p
//	log     sequence, 8, part, 4 BE      a piece of a patch's entry: see logEntry
//
// A node's id is its place among all nodes sorted by text, from 1; a
// predicate's its place among the predicates: a term that is both has two
// ids. (One id space with the predicates first would save nothing and would
// move every node when a fold brings a new predicate; so a fold only ever
// shifts ids, order stays, and it can stream.) A key is three ids of 4 bytes,
// big-endian, so that bbolt's order is the order of the ids.
//
// Index block: the key is the first fact; each further one is
//
//	varint(delta<<2 | 0)                third id grew by delta
//	varint(delta<<2 | 1) varint(c)      second id grew by delta, third is c
//	varint(delta<<2 | 2) varint(b) varint(c)
//
// with delta >= 1, so that a block cannot say anything but a rising
// sequence. 480 bytes let eight blocks share a page of 4096 with their keys.
//
// Dictionary block: for each of up to 16 terms, varint(bytes shared with the
// term before) varint(bytes that follow) bytes.
const (
	pageSize    = 4096
	blockMax    = 480
	dictBlock   = 16
	formatNow   = 1
	maxPageLoad = 1 << 20 // a page with its overflow: leaves of 16 terms of MaxTermBytes fit
)

var (
	bMeta     = []byte("meta")
	bNodes    = []byte("d")
	bNodeSeps = []byte("k")
	bPreds    = []byte("p")
	bPredSeps = []byte("q")
	bLog      = []byte("log")
	bOrder    = [3][]byte{[]byte("0"), []byte("1"), []byte("2")}
	kBase     = []byte("base")
)

// triple is a fact as ids: s p o, or rotated to the order of an index.
type triple [3]uint32

// rotate turns s p o into the order of index ix; unrotate turns it back.
func rotate(ix int, t triple) triple {
	return triple{t[ix], t[(ix+1)%3], t[(ix+2)%3]}
}

func unrotate(ix int, t triple) triple {
	return triple{t[(3-ix)%3], t[(4-ix)%3], t[(5-ix)%3]}
}

func compareTriples(a, b triple) int {
	for i := range a {
		if a[i] != b[i] {
			if a[i] < b[i] {
				return -1
			}
			return 1
		}
	}
	return 0
}

// plan picks the index for a pattern (0 is "any"): its number, the pattern
// in its order, and how many leading ids are given.
func plan(pat triple) (ix int, prefix triple, bound int) {
	s, p, o := pat[0] != 0, pat[1] != 0, pat[2] != 0
	switch {
	case s && p && o:
		ix, bound = 0, 3
	case s && p:
		ix, bound = 0, 2
	case p && o:
		ix, bound = 1, 2
	case o && s:
		ix, bound = 2, 2
	case s:
		ix, bound = 0, 1
	case p:
		ix, bound = 1, 1
	case o:
		ix, bound = 2, 1
	}
	return ix, rotate(ix, pat), bound
}

// hasPrefix reports whether the first n ids of t are those of prefix.
func hasPrefix(t, prefix triple, n int) bool {
	for i := range n {
		if t[i] != prefix[i] {
			return false
		}
	}
	return true
}
