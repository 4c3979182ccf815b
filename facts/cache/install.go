package cache

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/maphash"
	"io"
	"iter"
	"os"
)

// rewriteBase reads the base in f, trusting none of it, and writes what it
// says to a new base at path. Only bytes that this program wrote are ever
// mapped by bbolt; the work done is that of a check and a copy, which a base
// needs in any case.
func rewriteBase(f *os.File, path string, want Version) error {
	info, err := f.Stat()
	if err != nil {
		return err
	}
	b, err := readForeign(f, info.Size())
	if err != nil {
		return err
	}
	if b.meta.Version != want {
		return fmt.Errorf("the base calls itself %q, want %s", b.meta.Version, want)
	}
	m, err := writeBase(path, want, source{nodes: b.terms(bNodes), preds: b.terms(bPreds), index: b.index})
	if err != nil {
		return err
	}
	if m != b.meta {
		return errors.Join(os.Remove(path), fmt.Errorf("%w: base holds %d nodes, %d predicates, %d facts, its meta record says %d, %d, %d",
			ErrCorrupt, m.nodes, m.preds, m.facts, b.meta.nodes, b.meta.preds, b.meta.facts))
	}
	if b.sums[0] != b.sums[1] || b.sums[0] != b.sums[2] {
		return errors.Join(os.Remove(path), fmt.Errorf("%w: the three indexes hold different facts", ErrCorrupt))
	}
	return nil
}

// foreign is a base read through pages.
type foreign struct {
	pages   *pages
	buckets map[string]bucketAt
	meta    baseMeta
	seed    maphash.Seed
	sums    [3]uint64 // of each index: the sum of its facts' hashes, whatever their order
}

func readForeign(r io.ReaderAt, size int64) (*foreign, error) {
	p, err := openPages(r, size)
	if err != nil {
		return nil, err
	}
	b := &foreign{pages: p, seed: maphash.MakeSeed()}
	if b.buckets, err = p.buckets(); err != nil {
		return nil, err
	}
	if _, ok := b.buckets[string(bLog)]; ok {
		return nil, fmt.Errorf("%w: base with a log: it is a cache in use, not a base", ErrCorrupt)
	}
	var meta []byte
	err = b.each(bMeta, func(k, v []byte) error {
		if string(k) == string(kBase) {
			meta = append(meta, v...)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	b.meta, err = parseMeta(meta)
	return b, err
}

// each calls fn with a bucket's pairs, in order.
func (b *foreign) each(bucket []byte, fn func(k, v []byte) error) error {
	at, ok := b.buckets[string(bucket)]
	if !ok {
		return fmt.Errorf("%w: bucket %q is missing", ErrCorrupt, bucket)
	}
	err := b.pages.walk(at.root, at.inline, func(e pageElement) error {
		if e.bucket {
			return fmt.Errorf("%w: bucket in a bucket", ErrCorrupt)
		}
		return fn(e.key, e.val)
	})
	if err != nil {
		return fmt.Errorf("bucket %q: %w", bucket, err)
	}
	return nil
}

// errStop ends a walk early, at the wish of whoever ranges over it.
var errStop = errors.New("stopped")

// terms yields a dictionary; that terms rise is checked by the writer.
func (b *foreign) terms(bucket []byte) iter.Seq2[[]byte, error] {
	return func(yield func([]byte, error) bool) {
		var next uint32
		var buf []byte
		err := b.each(bucket, func(k, v []byte) error {
			if len(k) != 4 || binary.BigEndian.Uint32(k) != next {
				return fmt.Errorf("%w: dictionary block %x, want number %d", ErrCorrupt, k, next)
			}
			next++
			var inner error
			var err error
			buf, err = readDict(v, buf, func(_ int, term []byte) bool {
				if inner = checkTerm(term); inner == nil && !yield(term, nil) {
					inner = errStop
				}
				return inner == nil
			})
			return errors.Join(err, inner)
		})
		if err != nil && !errors.Is(err, errStop) {
			yield(nil, err)
		}
	}
}

// index yields an index; that facts rise is checked by the writer.
func (b *foreign) index(ix int) iter.Seq2[triple, error] {
	return func(yield func(triple, error) bool) {
		err := b.each(bOrder[ix], func(k, v []byte) error {
			if len(v) > blockMax {
				return fmt.Errorf("%w: index block of %d bytes, want at most %d", ErrCorrupt, len(v), blockMax)
			}
			var inner error
			err := readBlock(k, v, func(t triple) bool {
				spo := unrotate(ix, t)
				switch {
				case min(spo[0], spo[1], spo[2]) == 0 || max(spo[0], spo[2]) > b.meta.nodes || spo[1] > b.meta.preds:
					inner = fmt.Errorf("%w: index %d names an unknown term", ErrCorrupt, ix)
				default:
					b.sums[ix] += maphash.Comparable(b.seed, spo)
					if !yield(t, nil) {
						inner = errStop
					}
				}
				return inner == nil
			})
			return errors.Join(err, inner)
		})
		if err != nil && !errors.Is(err, errStop) {
			yield(triple{}, err)
		}
	}
}
