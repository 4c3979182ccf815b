package outbox

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/fnv"
	"io"
	"os"
)

// bbolt trusts its file: a torn page makes it panic, at open even in a
// goroutine of its own, where nothing can catch it, and a device would die at
// each start. So the tree is walked once before bbolt sees it. The form is
// that of bbolt 1.3 to 1.5 (internal/common: page.go, meta.go, bucket.go), in
// the byte order of the machine, which is little-endian on all of ours:
//
//	page     0 id u64   8 flags u16   10 count u16   12 overflow u32   16 elements
//	branch   0 pos u32  4 ksize u32   8 page u64              pos counts from the element
//	leaf     0 flags u32  4 pos u32   8 ksize u32   12 vsize u32
//	bucket   0 root page u64 (0: a leaf page follows, inline)  8 sequence u64
//	meta     16 magic u32  20 version u32  24 page size u32  28 flags u32
//	         32 root bucket  48 freelist u64  56 pages u64  64 txid u64  72 FNV-1a of 16..71
const (
	pageHead    = 16
	elemSize    = 16
	metaEnd     = 80
	boltMagic   = 0xED0CDAED
	boltVersion = 2

	flagBranch = 1
	flagLeaf   = 2
	flagMeta   = 4
	flagBucket = 1 // of a leaf's element

	noFreelist = ^uint64(0)

	maxDepth    = 64
	maxPageSize = 1 << 20 // with overflow; a record has at most 56 KiB
)

var le = binary.LittleEndian

// pageWalk follows the tree from a meta page.
type pageWalk struct {
	r    io.ReaderAt
	size uint64 // of a page
	seen []bool // by page
	used int
}

// checkPages reads the bbolt file at path and fails with a damage where it is
// not sound. used is how many of its total pages hold something.
func checkPages(path string) (used, total int, err error) {
	f, err := os.Open(path)
	if err != nil {
		return 0, 0, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return 0, 0, err
	}
	return walkPages(f, info.Size())
}

func walkPages(r io.ReaderAt, size int64) (used, total int, err error) {
	meta, err := newestMeta(r, size)
	if err != nil {
		return 0, 0, err
	}
	pageSize, pages := uint64(le.Uint32(meta[24:])), le.Uint64(meta[56:])
	if pages < 2 || pages > uint64(size)/pageSize {
		return 0, 0, damage{fmt.Errorf("%d pages of %d bytes in a file of %d", pages, pageSize, size)}
	}
	if le.Uint64(meta[48:]) != noFreelist {
		return 0, 0, damage{errors.New("it has a list of free pages, we write none")}
	}
	w := &pageWalk{r: r, size: pageSize, seen: make([]bool, pages), used: 2}
	w.seen[0], w.seen[1] = true, true
	if err := w.bucket(meta[32:48], 0); err != nil {
		return 0, 0, err
	}
	return w.used, int(pages), nil
}

// newestMeta returns the first page of the two that has the higher txid among
// those with a right checksum, as bbolt chooses it.
func newestMeta(r io.ReaderAt, size int64) ([]byte, error) {
	var best []byte
	try := func(offset int64) error {
		b := make([]byte, metaEnd)
		if offset+metaEnd > size {
			return nil
		}
		if _, err := r.ReadAt(b, offset); err != nil {
			return err
		}
		sum := fnv.New64a()
		_, _ = sum.Write(b[16:72])
		if le.Uint32(b[16:]) != boltMagic || le.Uint32(b[20:]) != boltVersion || le.Uint64(b[72:]) != sum.Sum64() {
			return nil
		}
		if n := le.Uint32(b[24:]); n != 4096 || offset != 0 && offset != int64(n) || le.Uint16(b[8:])&flagMeta == 0 {
			return nil
		}
		if best == nil || le.Uint64(b[64:]) > le.Uint64(best[64:]) {
			best = b
		}
		return nil
	}
	if err := errors.Join(try(0), try(4096)); err != nil {
		return nil, err
	}
	if best == nil {
		return nil, damage{errors.New("neither of its first two pages is whole")}
	}
	return best, nil
}

// bucket checks the pages of a bucket; b is its 16 bytes and, where it has no
// page of its own, the page that follows them.
func (w *pageWalk) bucket(b []byte, depth int) error {
	if len(b) < 16 {
		return damage{fmt.Errorf("bucket of %d bytes", len(b))}
	}
	if root := le.Uint64(b); root != 0 {
		return w.page(root, bounds{}, depth+1)
	}
	if len(b) < 16+pageHead {
		return damage{fmt.Errorf("inline bucket of %d bytes", len(b))}
	}
	if le.Uint16(b[24:]) != flagLeaf {
		return damage{errors.New("an inline bucket is no leaf")}
	}
	return w.leaf(b[16:], bounds{}, depth+1)
}

// bounds are what the parent says of a page's keys: none is below low, all are
// below high. nil: no bound.
type bounds struct{ low, high []byte }

// page checks the tree below page id.
func (w *pageWalk) page(id uint64, in bounds, depth int) error {
	if depth > maxDepth {
		return damage{fmt.Errorf("more than %d levels", maxDepth)}
	}
	b, err := w.read(id)
	if err != nil {
		return err
	}
	switch le.Uint16(b[8:]) {
	case flagLeaf:
		err = w.leaf(b, in, depth)
	case flagBranch:
		err = w.branch(b, in, depth)
	default:
		err = damage{fmt.Errorf("flags %#x", le.Uint16(b[8:]))}
	}
	if err != nil {
		return fmt.Errorf("page %d: %w", id, err)
	}
	return nil
}

func (w *pageWalk) read(id uint64) ([]byte, error) {
	if id >= uint64(len(w.seen)) {
		return nil, damage{fmt.Errorf("page %d of %d", id, len(w.seen))}
	}
	var head [pageHead]byte
	if _, err := w.r.ReadAt(head[:], int64(id*w.size)); err != nil {
		return nil, err
	}
	n := uint64(le.Uint32(head[12:])) + 1
	if le.Uint64(head[:]) != id || n*w.size > maxPageSize || id+n > uint64(len(w.seen)) {
		return nil, damage{fmt.Errorf("page %d says that it is page %d, of %d", id, le.Uint64(head[:]), n)}
	}
	for i := id; i < id+n; i++ {
		if w.seen[i] {
			return nil, damage{fmt.Errorf("page %d belongs to two", i)}
		}
		w.seen[i] = true
	}
	w.used += int(n)
	b := make([]byte, n*w.size)
	if _, err := w.r.ReadAt(b, int64(id*w.size)); err != nil {
		return nil, err
	}
	return b, nil
}

// part returns n bytes of page b at pos from the element at elem.
func part(b []byte, elem int, pos, n uint32) ([]byte, error) {
	from := uint64(elem) + uint64(pos)
	if to := from + uint64(n); to <= uint64(len(b)) {
		return b[from:to], nil
	}
	return nil, damage{fmt.Errorf("%d bytes at %d of %d", n, from, len(b))}
}

func (w *pageWalk) leaf(b []byte, in bounds, depth int) error {
	count := int(le.Uint16(b[10:]))
	if pageHead+count*elemSize > len(b) {
		return damage{fmt.Errorf("%d elements", count)}
	}
	var last []byte
	for i := range count {
		at := pageHead + i*elemSize
		e := b[at:]
		flags, pos, ksize, vsize := le.Uint32(e), le.Uint32(e[4:]), le.Uint32(e[8:]), le.Uint32(e[12:])
		key, err := part(b, at, pos, ksize)
		if err != nil {
			return err
		}
		value, err := part(b, at, pos, ksize+vsize)
		if err != nil || ksize+vsize < ksize {
			return damage{fmt.Errorf("element %d: %d+%d bytes", i, ksize, vsize)}
		}
		if err := in.ordered(last, key, i); err != nil {
			return err
		}
		last = key
		if flags&flagBucket != 0 {
			if err := w.bucket(value[ksize:], depth); err != nil {
				return err
			}
		}
	}
	return nil
}

func (w *pageWalk) branch(b []byte, in bounds, depth int) error {
	count := int(le.Uint16(b[10:]))
	if count == 0 || pageHead+count*elemSize > len(b) {
		return damage{fmt.Errorf("%d branches", count)}
	}
	keys := make([][]byte, count, count+1)
	for i := range count {
		at := pageHead + i*elemSize
		key, err := part(b, at, le.Uint32(b[at:]), le.Uint32(b[at+4:]))
		if err != nil {
			return err
		}
		if err := in.ordered(keys[max(i-1, 0)], key, i); err != nil {
			return err
		}
		keys[i] = key
	}
	keys = append(keys, in.high)
	for i := range count {
		if err := w.page(le.Uint64(b[pageHead+i*elemSize+8:]), bounds{keys[i], keys[i+1]}, depth+1); err != nil {
			return err
		}
	}
	return nil
}

// ordered checks key i of a page against the one before it, and against what
// the parent says.
func (in bounds) ordered(last, key []byte, i int) error {
	if len(key) == 0 || i > 0 && bytes.Compare(last, key) >= 0 || i == 0 && bytes.Compare(key, in.low) < 0 || in.high != nil && bytes.Compare(key, in.high) >= 0 {
		return damage{fmt.Errorf("key %d is out of order", i)}
	}
	return nil
}
