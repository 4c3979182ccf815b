package cache

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"hash/fnv"
	"io"
)

// pages reads a bbolt file without trusting it: bbolt itself maps a file and
// follows its offsets, so a wrong one ends the program. Every page is read
// with bounds, at most once, and only then looked at. It is the way a base
// from elsewhere is read (it never meets bbolt), and the check of our own
// file before bbolt opens it.
//
// The layout, all little-endian (bbolt v1, internal/common):
//
//	page   0 id u64   8 flags u16   10 count u16   12 overflow pages u32   16 elements
//	leaf element     flags u32 (1: bucket)  position u32  key size u32  value size u32
//	branch element   position u32  key size u32  page u64
//	meta (pages 0, 1; after the page header)
//	       0 magic u32  4 version u32  8 page size u32  12 flags u32  16 root page u64
//	       24 sequence u64  32 free list u64  40 page count u64  48 transaction u64  56 FNV-1a of 0..56
//	bucket  as a value: root page u64, sequence u64; root 0: a leaf page follows inline
type pages struct {
	r     io.ReaderAt
	count uint64 // pages in use
	root  uint64
	seen  []uint64 // bit set: pages read
}

const (
	boltMagic   = 0xED0CDAED
	boltVersion = 2
	noFreelist  = ^uint64(0)
	pageBranch  = 1
	pageLeaf    = 2
	maxDepth    = 32
)

// openPages reads the meta pages and picks the one bbolt would.
func openPages(r io.ReaderAt, size int64) (*pages, error) {
	p := &pages{r: r}
	var newest uint64
	found, odd := false, false
	for i := range int64(2) {
		var b [pageSize]byte
		if _, err := r.ReadAt(b[:], i*pageSize); err != nil {
			if err == io.EOF {
				break
			}
			return nil, err
		}
		m := b[16:]
		h := fnv.New64a()
		h.Write(m[:56])
		le := binary.LittleEndian
		if le.Uint32(m) != boltMagic || le.Uint32(m[4:]) != boltVersion || le.Uint64(m[56:]) != h.Sum64() {
			continue
		}
		if tx := le.Uint64(m[48:]); !found || tx > newest {
			found, newest = true, tx
			p.root, p.count = le.Uint64(m[16:]), le.Uint64(m[40:])
			odd = le.Uint32(m[8:]) != pageSize || le.Uint64(m[32:]) != noFreelist
		}
	}
	if !found {
		return nil, fmt.Errorf("%w: no valid meta page", ErrCorrupt)
	}
	if odd {
		return nil, fmt.Errorf("%w: bbolt file with another page size or with a free list", ErrCorrupt)
	}
	if p.count > uint64(size)/pageSize {
		return nil, fmt.Errorf("%w: the file has %d pages, its meta page says %d: it was cut short", ErrCorrupt, size/pageSize, p.count)
	}
	p.seen = make([]uint64, p.count/64+1)
	return p, nil
}

// load reads page id with its overflow.
func (p *pages) load(id uint64, buf []byte) ([]byte, error) {
	if id < 2 || id >= p.count {
		return nil, fmt.Errorf("%w: page %d of %d", ErrCorrupt, id, p.count)
	}
	var head [16]byte
	if _, err := p.r.ReadAt(head[:], int64(id)*pageSize); err != nil {
		return nil, err
	}
	over := uint64(binary.LittleEndian.Uint32(head[12:]))
	if binary.LittleEndian.Uint64(head[:]) != id || over >= p.count-id || (over+1)*pageSize > maxPageLoad {
		return nil, fmt.Errorf("%w: page %d: bad header", ErrCorrupt, id)
	}
	for i := id; i <= id+over; i++ {
		if p.seen[i/64]>>(i%64)&1 == 1 {
			return nil, fmt.Errorf("%w: page %d is used twice", ErrCorrupt, i)
		}
		p.seen[i/64] |= 1 << (i % 64)
	}
	n := int(over+1) * pageSize
	if cap(buf) < n {
		buf = make([]byte, n)
	}
	_, err := p.r.ReadAt(buf[:n], int64(id)*pageSize)
	return buf[:n], err
}

// pageElement is one entry of a page; val is nil on a branch.
type pageElement struct {
	key, val []byte
	bucket   bool
	page     uint64
}

// element returns entry i of page b, its bounds checked.
func element(b []byte, i int) (e pageElement, err error) {
	at := 16 + 16*i
	if at+16 > len(b) {
		return e, fmt.Errorf("%w: page with more entries than it can hold", ErrCorrupt)
	}
	le := binary.LittleEndian
	var pos, ksize, vsize uint64
	if le.Uint16(b[8:]) == pageBranch {
		pos, ksize = uint64(le.Uint32(b[at:])), uint64(le.Uint32(b[at+4:]))
		e.page = le.Uint64(b[at+8:])
	} else {
		flags := le.Uint32(b[at:])
		pos, ksize, vsize = uint64(le.Uint32(b[at+4:])), uint64(le.Uint32(b[at+8:])), uint64(le.Uint32(b[at+12:]))
		e.bucket = flags&1 == 1
	}
	from := uint64(at) + pos
	if ksize == 0 || from+ksize+vsize > uint64(len(b)) {
		return e, fmt.Errorf("%w: page entry reaches beyond its page", ErrCorrupt)
	}
	e.key = b[from : from+ksize]
	e.val = b[from+ksize : from+ksize+vsize]
	return e, nil
}

// walk calls fn with each entry of the tree at root, in order; keys must
// rise. inline is the leaf page of a bucket small enough to have no own.
func (p *pages) walk(root uint64, inline []byte, fn func(e pageElement) error) error {
	w := &walker{pages: p, fn: fn}
	if root != 0 {
		return w.page(root, 0)
	}
	return w.entries(inline, 0)
}

type walker struct {
	*pages
	fn   func(e pageElement) error
	bufs [maxDepth][]byte // one for each depth: a branch is read on after its child
	prev []byte
}

func (w *walker) page(id uint64, depth int) error {
	if depth == maxDepth {
		return fmt.Errorf("%w: tree deeper than %d", ErrCorrupt, maxDepth)
	}
	b, err := w.load(id, w.bufs[depth])
	if err != nil {
		return err
	}
	w.bufs[depth] = b
	return w.entries(b, depth)
}

func (w *walker) entries(b []byte, depth int) error {
	if len(b) < 16 {
		return fmt.Errorf("%w: bucket without a page", ErrCorrupt)
	}
	flags, count := binary.LittleEndian.Uint16(b[8:]), int(binary.LittleEndian.Uint16(b[10:]))
	if flags != pageLeaf && (flags != pageBranch || depth == 0 && len(w.bufs[0]) == 0) {
		return fmt.Errorf("%w: page of kind %d in a tree", ErrCorrupt, flags)
	}
	if flags == pageBranch && count == 0 {
		return fmt.Errorf("%w: branch page without entries", ErrCorrupt)
	}
	for i := range count {
		e, err := element(b, i)
		if err != nil {
			return err
		}
		if flags == pageBranch {
			if err := w.page(e.page, depth+1); err != nil {
				return err
			}
			continue
		}
		if bytes.Compare(w.prev, e.key) >= 0 {
			return fmt.Errorf("%w: keys out of order", ErrCorrupt)
		}
		w.prev = append(w.prev[:0], e.key...)
		if err := w.fn(e); err != nil {
			return err
		}
	}
	return nil
}

// bucketAt is where a bucket's entries are: a root page, or inline bytes.
type bucketAt struct {
	root   uint64
	inline []byte
}

// buckets returns the top level of the file, which must hold buckets only.
func (p *pages) buckets() (map[string]bucketAt, error) {
	all := map[string]bucketAt{}
	err := p.walk(p.root, nil, func(e pageElement) error {
		if !e.bucket || len(e.val) < 16 || len(all) == 64 {
			return fmt.Errorf("%w: top level of the file holds more than buckets", ErrCorrupt)
		}
		at := bucketAt{root: binary.LittleEndian.Uint64(e.val)}
		if at.root == 0 {
			at.inline = bytes.Clone(e.val[16:])
		}
		all[string(e.key)] = at
		return nil
	})
	return all, err
}

// checkPages reads every page of a bbolt file's trees once and says what is
// wrong with their structure; what the values mean is not looked at.
func checkPages(r io.ReaderAt, size int64) error {
	p, err := openPages(r, size)
	if err != nil {
		return err
	}
	all, err := p.buckets()
	if err != nil {
		return err
	}
	for name, at := range all {
		err := p.walk(at.root, at.inline, func(e pageElement) error {
			if e.bucket {
				return fmt.Errorf("%w: bucket in a bucket", ErrCorrupt)
			}
			return nil
		})
		if err != nil {
			return fmt.Errorf("bucket %q: %w", name, err)
		}
	}
	return nil
}
