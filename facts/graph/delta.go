package graph

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"iter"
	"maps"
	"os"
	"path/filepath"
	"slices"

	"dunlin/facts"
	"dunlin/facts/cache"
	"dunlin/facts/rdf"
)

// Scope selects the part of a graph that a device gets. A nil *Scope is the
// whole graph.
//
// The facts of the Roots with one of the Predicates are in it, and those of
// the objects they name, Depth steps in all. With them come the label and
// the source of everything named, predicates included, so that the device
// can say what it found in words.
type Scope struct {
	Roots      []facts.Term // empty: every subject
	Predicates []facts.Term // empty: every predicate
	Depth      int          // less than 1 counts as 1
}

// selects returns the facts of a version that are in the scope, in order. s
// is not nil.
func (s *Scope) selects(a *at) ([]triple, error) {
	in := map[triple]bool{}
	take := func(pat triple) error {
		return a.scan(pat, func(t triple) bool {
			in[t] = true
			return true
		})
	}
	preds := []uint32{0}
	if len(s.Predicates) > 0 {
		preds = nil
		for _, p := range s.Predicates {
			if id := idOf(a.tx, rdf.Format(p)); id != 0 {
				preds = append(preds, id)
			}
		}
	}
	if err := s.follow(a, preds, take, in); err != nil {
		return nil, err
	}
	named := map[uint32]bool{}
	for t := range in {
		named[t[0]], named[t[1]], named[t[2]] = true, true, true
	}
	for _, iri := range []string{facts.RDFSLabel, facts.DCTermsSource} {
		p := idOf(a.tx, rdf.Format(facts.Resource(iri)))
		if p == 0 {
			continue
		}
		for id := range named {
			if err := take(triple{id, p, 0}); err != nil {
				return nil, err
			}
		}
	}
	return slices.SortedFunc(maps.Keys(in), compareTriples), nil
}

// follow walks from the roots along preds and takes what it meets.
func (s *Scope) follow(a *at, preds []uint32, take func(triple) error, in map[triple]bool) error {
	if len(s.Roots) == 0 {
		for _, p := range preds {
			if err := take(triple{0, p, 0}); err != nil {
				return err
			}
		}
		return nil
	}
	seen := map[uint32]bool{}
	var level []uint32
	for _, root := range s.Roots {
		if id := idOf(a.tx, rdf.Format(root)); id != 0 && !seen[id] {
			seen[id] = true
			level = append(level, id)
		}
	}
	for depth := max(s.Depth, 1); depth > 0 && len(level) > 0; depth-- {
		var next []uint32
		for _, id := range level {
			for _, p := range preds {
				err := a.scan(triple{id, p, 0}, func(t triple) bool {
					in[t] = true
					if !seen[t[2]] {
						seen[t[2]] = true
						next = append(next, t[2])
					}
					return true
				})
				if err != nil {
					return err
				}
			}
		}
		level = next
	}
	return nil
}

// Facts yields the facts of a version that are in the scope (nil: all). The
// graph must not be imported into while they are ranged over.
func (g *Graph) Facts(ctx context.Context, version int64, scope *Scope) iter.Seq2[facts.Fact, error] {
	return func(yield func(facts.Fact, error) bool) {
		stopped := false
		err := g.view(version, func(a *at) error {
			n := 0
			var bad error
			give := func(t triple) bool {
				if n++; n%1024 == 1 {
					if bad = ctx.Err(); bad != nil {
						return false
					}
				}
				var f facts.Fact
				if f, bad = a.fact(t); bad != nil {
					return false
				}
				stopped = !yield(f, nil)
				return !stopped
			}
			if scope == nil {
				return errors.Join(a.scan(triple{}, give), bad)
			}
			all, err := scope.selects(a)
			if err != nil {
				return err
			}
			for _, t := range all {
				if !give(t) {
					break
				}
			}
			return bad
		})
		if err != nil && !stopped {
			yield(facts.Fact{}, err)
		}
	}
}

// Delta is what leads from one version to another.
type Delta struct {
	Graph      string
	From, To   int64
	Adds, Dels []facts.Fact
}

// Delta compares two versions, of the scope's facts only (nil: all). From
// may be 0, the empty graph, and may be above to.
func (g *Graph) Delta(from, to int64, scope *Scope) (*Delta, error) {
	if _, err := g.info(from); err != nil {
		return nil, err
	}
	d := &Delta{Graph: g.name, From: from, To: to}
	err := g.view(to, func(now *at) error {
		old := &at{now.tx, from}
		var adds, dels []triple
		var err error
		if scope == nil {
			adds, dels, err = compareAll(old, now)
		} else {
			adds, dels, err = compareScope(old, now, scope)
		}
		if err != nil {
			return err
		}
		for _, part := range []struct {
			ts []triple
			to *[]facts.Fact
		}{{adds, &d.Adds}, {dels, &d.Dels}} {
			for _, t := range part.ts {
				f, err := now.fact(t)
				if err != nil {
					return err
				}
				*part.to = append(*part.to, f)
			}
		}
		return nil
	})
	return d, err
}

// compareAll reads the changes of the versions between; what turned an odd
// number of times is different.
func compareAll(old, now *at) (adds, dels []triple, err error) {
	turned := map[triple]bool{}
	lo, hi := min(old.version, now.version), max(old.version, now.version)
	c := now.tx.Bucket(bChanges).Cursor()
	for k, v := c.Seek(versionKey(lo + 1)); k != nil && int64(binary.BigEndian.Uint64(k)) <= hi; k, v = c.Next() {
		changes, err := decodeChanges(v)
		if err != nil {
			return nil, nil, err
		}
		for _, change := range changes {
			if turned[change.t] {
				delete(turned, change.t)
			} else {
				turned[change.t] = true
			}
		}
	}
	for _, t := range slices.SortedFunc(maps.Keys(turned), compareTriples) {
		if now.has(t) {
			adds = append(adds, t)
		} else {
			dels = append(dels, t)
		}
	}
	return adds, dels, nil
}

func compareScope(old, now *at, scope *Scope) (adds, dels []triple, err error) {
	before, err := scope.selects(old)
	if err != nil {
		return nil, nil, err
	}
	after, err := scope.selects(now)
	if err != nil {
		return nil, nil, err
	}
	for len(before) > 0 || len(after) > 0 {
		switch {
		case len(after) == 0 || len(before) > 0 && compareTriples(before[0], after[0]) < 0:
			dels, before = append(dels, before[0]), before[1:]
		case len(before) == 0 || compareTriples(before[0], after[0]) > 0:
			adds, after = append(adds, after[0]), after[1:]
		default:
			before, after = before[1:], after[1:]
		}
	}
	return adds, dels, nil
}

// WritePatch writes d as an RDF Patch that facts/cache applies.
func (d *Delta) WritePatch(w io.Writer) error {
	h := rdf.PatchHeader{ID: name(d.Graph, d.To)}
	if d.From > 0 {
		h.Prev = name(d.Graph, d.From)
	}
	p, err := rdf.NewPatchWriter(w, h)
	if err != nil {
		return err
	}
	for _, f := range d.Dels {
		if err := p.Write(rdf.Change{Delete: true, Fact: f}); err != nil {
			return err
		}
	}
	for _, f := range d.Adds {
		if err := p.Write(rdf.Change{Fact: f}); err != nil {
			return err
		}
	}
	return p.Close()
}

func name(graph string, version int64) facts.Term {
	return facts.Text(cache.Version{Graph: graph, Version: version}.String())
}

// Artefact is what a device needs, before it is signed and sent: a whole
// base, or the patch from the version it has.
type Artefact struct {
	Graph     string
	From, To  int64 // From is 0 for a base
	MediaType string
	Bytes     []byte
}

// Base reports whether a replaces everything a device has.
func (a Artefact) Base() bool { return a.From == 0 }

// Artefact makes what leads a device from version from (0: it has nothing,
// or is to start anew) to version to, with the scope's facts only (nil:
// all): a patch where it is the smaller, else a base. The scope must be the
// one that the device's version was made with. The same call gives the same
// bytes.
func (g *Graph) Artefact(ctx context.Context, from, to int64, scope *Scope) (Artefact, error) {
	a := Artefact{Graph: g.name, From: from, To: to, MediaType: cache.MediaTypePatch + cache.GzipSuffix}
	fail := func(err error) (Artefact, error) {
		return Artefact{}, fmt.Errorf("facts artefact of %s from %d to %d: %w", g.name, from, to, err)
	}
	if to < 1 || from < 0 || from > to {
		return fail(fmt.Errorf("want 0 <= from <= to and to >= 1: %w", ErrNoVersion))
	}
	info, err := g.info(to)
	if err != nil {
		return fail(err)
	}
	if from > 0 {
		d, err := g.Delta(from, to, scope)
		if err != nil {
			return fail(err)
		}
		if len(d.Adds)+len(d.Dels) <= maxPatch {
			if a.Bytes, err = zipped(d.WritePatch); err != nil {
				return fail(err)
			}
			// A base hardly packs below 2 bytes a fact: a patch smaller than
			// that is not worth building a base to compare it with.
			if scope == nil && len(a.Bytes) < 2*info.Facts || len(a.Bytes) < 1024 {
				return a, nil
			}
		}
	}
	base, err := g.base(ctx, to, scope)
	if err != nil {
		return fail(err)
	}
	if from > 0 && a.Bytes != nil && len(a.Bytes) <= len(base) {
		return a, nil
	}
	a.From, a.MediaType, a.Bytes = 0, cache.MediaTypeBase+cache.GzipSuffix, base
	return a, nil
}

// maxPatch bounds the changes of a patch, well within what a cache accepts.
const maxPatch = 100_000

// basePrefix names the folders in which bases are built.
const basePrefix = "base-"

// base returns a packed base.
func (g *Graph) base(ctx context.Context, version int64, scope *Scope) (b []byte, err error) {
	dir, err := os.MkdirTemp(filepath.Dir(g.db.Path()), basePrefix)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	file := filepath.Join(dir, "base")
	if err := cache.Build(file, g.name, version, g.Facts(ctx, version, scope)); err != nil {
		return nil, err
	}
	return zipped(func(w io.Writer) error {
		f, err := os.Open(file)
		if err != nil {
			return err
		}
		defer f.Close()
		_, err = io.Copy(w, f)
		return err
	})
}

func zipped(write func(io.Writer) error) ([]byte, error) {
	var out bytes.Buffer
	z, err := gzip.NewWriterLevel(&out, gzip.BestCompression)
	if err != nil {
		return nil, err
	}
	if err := write(z); err != nil {
		return nil, err
	}
	if err := z.Close(); err != nil {
		return nil, err
	}
	return out.Bytes(), nil
}
