package cache

import (
	"bufio"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"

	bolt "go.etcd.io/bbolt"

	"dunlin/facts"
	"dunlin/facts/rdf"
	"dunlin/internal/durable"
)

// Bounds on what arrives.
const (
	maxPatchBytes   = 64 << 20  // unpacked
	maxPatchChanges = 256 << 10 // facts named
	maxBaseBytes    = 4 << 30   // unpacked
)

// ApplyPatch brings the cache from version from of graph to version to, by
// the RDF Patch in r (which may be gzipped). An empty cache is at version 0
// of any graph. Adding a fact that is there, or deleting one that is not,
// changes nothing.
//
// It returns nil when the cache is at version to already, and ErrWrongBase
// when it is at any other version than from; on every error the cache is as
// it was.
func (c *Cache) ApplyPatch(graph string, from, to int64, r io.Reader) error {
	c.applying.Lock()
	defer c.applying.Unlock()
	target := Version{graph, to}
	fail := func(err error) error {
		return fmt.Errorf("apply patch to %s: %w", target, err)
	}
	if c.readOnly {
		return fail(ErrReadOnly)
	}
	if err := target.check(); err != nil {
		return fail(err)
	}
	switch now := c.version; { // only the one that holds applying changes it
	case now == target:
		return nil
	case now != (Version{graph, from}) && (now != Version{} || from != 0):
		return fail(fmt.Errorf("%w: it is for %s, the cache has %q", ErrWrongBase, Version{graph, from}, now))
	case to < from:
		return fail(fmt.Errorf("version goes back from %d", from))
	}
	if c.over.size() >= 4*c.foldAt {
		c.fold()
		if c.foldErr != nil {
			return fail(fmt.Errorf("the log is full and cannot be folded: %w", c.foldErr))
		}
	}
	e, err := c.readPatch(graph, from, to, r)
	if err != nil {
		return fail(err)
	}
	if err := c.commit(e); err != nil {
		return fail(err)
	}
	if c.over.size() > c.foldAt || c.logBytes > c.foldBytes {
		c.fold()
	}
	return nil
}

// readPatch reads a patch to its end and reduces it to what it changes here.
func (c *Cache) readPatch(graph string, from, to int64, r io.Reader) (*logEntry, error) {
	plain, err := unzip(&limited{r, maxPatchBytes}, maxPatchBytes)
	if err != nil {
		return nil, err
	}
	p := rdf.NewPatchReader(plain)
	h, err := p.Header()
	if err != nil {
		return nil, err
	}
	if want := facts.Text(Version{graph, to}.String()); h.ID != (facts.Term{}) && h.ID != want {
		return nil, fmt.Errorf("the patch calls itself %s, want %s", rdf.Format(h.ID), rdf.Format(want))
	}
	if want := facts.Text(Version{graph, from}.String()); h.Prev != (facts.Term{}) && h.Prev != want {
		return nil, fmt.Errorf("%w: the patch says it follows %s, want %s", ErrWrongBase, rdf.Format(h.Prev), rdf.Format(want))
	}
	e := &logEntry{graph: graph, from: from, to: to}
	err = c.view(func(r *reader) error {
		return newPatching(r).run(p, e)
	})
	return e, err
}

// unzip returns r unpacked, at most n bytes of it, if it is gzip, else r.
func unzip(r io.Reader, n int64) (io.Reader, error) {
	b := bufio.NewReader(r)
	head, err := b.Peek(2)
	if err != nil && err != io.EOF {
		return nil, err
	}
	if len(head) < 2 || head[0] != 0x1F || head[1] != 0x8B {
		return b, nil
	}
	z, err := gzip.NewReader(b)
	if err != nil {
		return nil, err
	}
	return &limited{z, n}, nil
}

// patching works out what a patch changes, without changing anything yet.
type patching struct {
	r            *reader
	nodes, preds newTerms // terms new with this patch
	now          map[triple]bool
	buf          []byte
}

func newPatching(r *reader) *patching {
	return &patching{
		r:     r,
		nodes: newTerms{first: r.nodes.added.last() + 1, ids: map[string]uint32{}},
		preds: newTerms{first: r.preds.added.last() + 1, ids: map[string]uint32{}},
		now:   map[triple]bool{},
	}
}

// run reads p to its end; what differs from before goes to e.
func (w *patching) run(p *rdf.PatchReader, e *logEntry) error {
	for c, err := range p.Changes() {
		if err != nil {
			return err
		}
		t, known, err := w.triple(c)
		if err != nil {
			return err
		}
		if !known {
			continue // deletes what was never there
		}
		if w.now[t] = !c.Delete; len(w.now) > maxPatchChanges {
			return fmt.Errorf("%w: patch of more than %d changes", ErrTooLarge, maxPatchChanges)
		}
	}
	// In order, so that the same patch makes the same entry.
	for _, t := range slices.SortedFunc(maps.Keys(w.now), compareTriples) {
		was, err := w.before(t)
		if err != nil {
			return err
		}
		switch is := w.now[t]; {
		case is && !was:
			e.adds = append(e.adds, t)
		case was && !is:
			e.dels = append(e.dels, t)
		}
	}
	e.nodes, e.preds = w.nodes.texts, w.preds.texts
	return nil
}

// triple gives a change's terms their ids; a deletion brings no new ones.
func (w *patching) triple(c rdf.Change) (t triple, known bool, err error) {
	for i, term := range []facts.Term{c.Fact.S, c.Fact.P, c.Fact.O} {
		d, fresh := &w.r.nodes, &w.nodes
		if i == 1 {
			d, fresh = &w.r.preds, &w.preds
		}
		if w.buf = appendTerm(w.buf[:0], term); len(w.buf) > MaxTermBytes {
			return t, false, &TermError{Bytes: len(w.buf), Start: string(w.buf[:60])}
		}
		if t[i], err = w.r.id(d, w.buf); err != nil {
			return t, false, err
		}
		if t[i] == 0 {
			t[i] = fresh.ids[string(w.buf)]
		}
		if t[i] == 0 {
			if c.Delete {
				return t, false, nil
			}
			t[i] = fresh.add(string(w.buf))
		}
	}
	return t, true, nil
}

// before reports whether t was a fact before the patch.
func (w *patching) before(t triple) (bool, error) {
	if del, ok := w.r.over.runs[0].find(t); ok {
		return !del, nil
	}
	return w.r.inBase(t)
}

// commit makes e durable, then visible.
func (c *Cache) commit(e *logEntry) error {
	v := e.encode()
	if len(v) > maxLogEntry {
		return fmt.Errorf("%w: patch changes %d bytes, the most is %d", ErrTooLarge, len(v), maxLogEntry)
	}
	if c.db == nil {
		return os.ErrClosed
	}
	err := c.db.Update(func(tx *bolt.Tx) error {
		log, err := tx.CreateBucketIfNotExists(bLog)
		if err != nil {
			return err
		}
		n, err := log.NextSequence()
		if err != nil {
			return err
		}
		log.FillPercent = 1 // only ever appended to
		var part uint32
		for piece := range slices.Chunk(v, logPiece) {
			if err := log.Put(logKey(n, part), piece); err != nil {
				return err
			}
			part++
		}
		return nil
	})
	if err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := c.over.apply(e); err != nil {
		return err // a fault of ours: what was encoded here must apply here
	}
	c.version = Version{e.graph, e.to}
	c.logBytes += len(v)
	return nil
}

// ApplyBase replaces all facts by the base in file, which Build made (it may
// be gzipped). Every byte of it is checked, and it must say of itself that
// it is that version of that graph; file is left as it is. On every error
// the cache is as it was.
func (c *Cache) ApplyBase(graph string, version int64, file string) error {
	c.applying.Lock()
	defer c.applying.Unlock()
	want := Version{graph, version}
	if err := c.applyBase(want, file); err != nil {
		return fmt.Errorf("apply facts base %s: %w", want, err)
	}
	return nil
}

func (c *Cache) applyBase(want Version, file string) (err error) {
	if c.readOnly {
		return ErrReadOnly
	}
	if err := want.check(); err != nil {
		return err
	}
	if c.db == nil {
		return os.ErrClosed
	}
	f, err := c.openSource(file)
	if err != nil {
		return err
	}
	defer func() {
		err = errors.Join(err, f.Close())
		if f.Name() != file {
			err = errors.Join(err, os.Remove(f.Name()))
		}
	}()
	tmp := c.path + newSuffix
	if err := rewriteBase(f, tmp, want); err != nil {
		return err
	}
	return c.replace(tmp)
}

// openSource opens a base, unpacking it beside the cache if need be.
func (c *Cache) openSource(file string) (*os.File, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	plain, err := unzip(f, maxBaseBytes)
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	if _, packed := plain.(*limited); !packed {
		return f, nil
	}
	defer f.Close()
	out, err := os.Create(c.path + sourceSuffix)
	if err != nil {
		return nil, err
	}
	if _, err := io.Copy(out, plain); err != nil {
		return nil, errors.Join(err, out.Close(), os.Remove(out.Name()))
	}
	return out, nil
}

// replace puts the complete file tmp in the place of the open one. Queries
// wait for a rename and no longer: tmp is durable before.
func (c *Cache) replace(tmp string) error {
	s, err := openState(tmp, boltOptions())
	if err != nil {
		return errors.Join(err, os.Remove(tmp))
	}
	c.mu.Lock()
	old := c.db
	if err := durable.Rename(tmp, c.path); err != nil {
		c.mu.Unlock()
		return errors.Join(err, s.db.Close(), removeIfThere(tmp))
	}
	c.use(s)
	c.mu.Unlock()
	return old.Close()
}

func removeIfThere(path string) error {
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return nil
}
