package graph

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	bolt "go.etcd.io/bbolt"

	"dunlin/facts"
	"dunlin/facts/cache"
	"dunlin/facts/rdf"
)

// MaxImport bounds the facts of one import: they are sorted in memory, about
// 150 bytes each with their terms.
const MaxImport = 8 << 20

// importing gathers one import in memory; nothing is written before commit.
// What went wrong at its start is err, and take and commit return it.
type importing struct {
	g     *Graph
	info  Info
	blank string // what the document's blank nodes are called
	ids   map[string]uint32
	fresh []string // texts of new terms, from id first on
	first uint32
	now   map[triple]bool // what the import says of a fact: there, or not
	n     int
	err   error
}

func (g *Graph) newImporting(from facts.Provenance) *importing {
	w := &importing{g: g, ids: map[string]uint32{}, now: map[triple]bool{}}
	if w.err = g.resume(); w.err != nil {
		return w
	}
	w.info = Info{Version: g.Latest() + 1, Provenance: from}
	document := from.Document
	if document == "" {
		document = fmt.Sprintf("import %d", w.info.Version)
	}
	sum := sha256.Sum256([]byte(document))
	w.blank = "d" + hex.EncodeToString(sum[:6]) + "-"
	w.err = g.db.View(func(tx *bolt.Tx) error {
		w.first = 1
		if k, _ := tx.Bucket(bIDs).Cursor().Last(); k != nil {
			w.first = binary.BigEndian.Uint32(k) + 1
		}
		return nil
	})
	return w
}

// take notes one change.
func (w *importing) take(ctx context.Context, c rdf.Change) error {
	if w.err != nil {
		return w.err
	}
	if w.n++; w.n%1024 == 1 {
		if err := ctx.Err(); err != nil {
			return err
		}
	}
	f, err := renameBlanks(c.Fact, w.blank)
	if err != nil {
		return err
	}
	if err := rdf.Check(f); err != nil {
		return err
	}
	var t triple
	for i, term := range []facts.Term{f.S, f.P, f.O} {
		if size := len(term.Value) + len(term.Datatype) + len(term.Lang) + 3; size > cache.MaxTermBytes {
			return &cache.TermError{Bytes: size, Start: term.Value[:min(60, len(term.Value))]}
		}
		if t[i], err = w.id(rdf.Format(term), !c.Delete); err != nil {
			return err
		}
		if t[i] == 0 {
			return nil // deletes what was never there
		}
	}
	if w.now[t] = !c.Delete; len(w.now) > MaxImport {
		return fmt.Errorf("more than %d facts in one import: %w", MaxImport, cache.ErrTooLarge)
	}
	return nil
}

// id returns the id of a term's text, a new one if it has none and may get
// one, else 0.
func (w *importing) id(text string, may bool) (id uint32, err error) {
	if id, ok := w.ids[text]; ok {
		return id, nil
	}
	err = w.g.db.View(func(tx *bolt.Tx) error {
		id = idOf(tx, text)
		return nil
	})
	if err != nil || id == 0 && !may {
		return 0, err
	}
	if id == 0 {
		id = w.first + uint32(len(w.fresh))
		w.fresh = append(w.fresh, text)
	}
	w.ids[text] = id
	return id, nil
}

// renameBlanks puts prefix before each blank node's label, in triple terms
// too.
func renameBlanks(f facts.Fact, prefix string) (facts.Fact, error) {
	for _, t := range []*facts.Term{&f.S, &f.O} {
		switch t.Kind {
		case facts.Blank:
			t.Value = prefix + t.Value
		case facts.TripleTerm:
			inner, err := rdf.Unquote(*t)
			if err != nil {
				return f, err
			}
			if inner, err = renameBlanks(inner, prefix); err != nil {
				return f, err
			}
			*t = rdf.Quote(inner)
		}
	}
	return f, nil
}

// commit makes what was taken a version, in steps that a crash may cut
// anywhere: new terms (useless but harmless alone), the list of changes, the
// pending record. From there on the import is complete and finish, now or at
// the next Open, brings it into the indexes.
func (w *importing) commit() (int64, error) {
	if w.err != nil {
		return 0, w.err
	}
	g, last := w.g, w.info.Version-1
	changes, err := w.changes(last)
	if err != nil || len(changes) == 0 {
		return last, err
	}
	before, err := g.info(last)
	if err != nil {
		return 0, err
	}
	w.info.Facts = before.Facts + w.info.Added - w.info.Deleted
	w.info.Time = time.Now().UTC()
	record, err := json.Marshal(w.info)
	if err != nil {
		return 0, err
	}
	for part := range slices.Chunk(slices.Collect(seqTo(len(w.fresh))), chunk) {
		err := g.db.Update(func(tx *bolt.Tx) error {
			for _, i := range part {
				id := binary.BigEndian.AppendUint32(nil, w.first+uint32(i))
				if err := tx.Bucket(bTerms).Put(termKey(w.fresh[i]), id); err != nil {
					return err
				}
				if err := tx.Bucket(bIDs).Put(id, []byte(w.fresh[i])); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			return 0, err
		}
	}
	err = g.db.Update(func(tx *bolt.Tx) error {
		var part uint32
		for some := range slices.Chunk(changes, chunk) {
			key := binary.BigEndian.AppendUint32(versionKey(w.info.Version), part)
			if err := tx.Bucket(bChanges).Put(key, encodeChanges(some)); err != nil {
				return err
			}
			part++
		}
		return tx.Bucket(bMeta).Put(kPending, record)
	})
	if err != nil {
		return 0, err
	}
	return w.info.Version, g.finish(w.info)
}

// chunk is how many changes or terms go into one transaction or one part.
const chunk = 50_000

func seqTo(n int) func(func(int) bool) {
	return func(yield func(int) bool) {
		for i := range n {
			if !yield(i) {
				return
			}
		}
	}
}

// changes returns what differs from the version before, sorted, and counts
// it.
func (w *importing) changes(last int64) (all []factChange, err error) {
	err = w.g.db.View(func(tx *bolt.Tx) error {
		a := &at{tx, last}
		for _, t := range slices.SortedFunc(maps.Keys(w.now), compareTriples) {
			is, was := w.now[t], a.has(t)
			switch {
			case is && !was:
				w.info.Added++
			case was && !is:
				w.info.Deleted++
			default:
				continue
			}
			all = append(all, factChange{t, !is})
		}
		return nil
	})
	return all, err
}

// resume finishes an import whose changes are complete but not yet in the
// indexes: a crash or a full disk stopped it.
func (g *Graph) resume() error {
	var pending []byte
	err := g.db.View(func(tx *bolt.Tx) error {
		pending = append(pending, tx.Bucket(bMeta).Get(kPending)...)
		return nil
	})
	if err != nil || len(pending) == 0 {
		return err
	}
	var info Info
	if err := json.Unmarshal(pending, &info); err != nil {
		return fmt.Errorf("pending version: %w", err)
	}
	return g.finish(info)
}

// finish brings the changes of a pending version into the indexes, which
// may be done twice, and publishes it. Until then the indexes name a version
// that nobody can ask for.
func (g *Graph) finish(info Info) error {
	parts := 0
	for more := true; more; parts++ {
		var changes []factChange
		err := g.db.View(func(tx *bolt.Tx) (err error) {
			v := tx.Bucket(bChanges).Get(binary.BigEndian.AppendUint32(versionKey(info.Version), uint32(parts)))
			more = v != nil
			changes, err = decodeChanges(v)
			return err
		})
		if err != nil {
			return err
		}
		for ix := range bOrder {
			if err := g.index(ix, changes, info.Version); err != nil {
				return err
			}
		}
	}
	record, err := json.Marshal(info)
	if err != nil {
		return err
	}
	err = g.db.Update(func(tx *bolt.Tx) error {
		return errors.Join(tx.Bucket(bVers).Put(versionKey(info.Version), record), tx.Bucket(bMeta).Delete(kPending))
	})
	if err != nil {
		return err
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.versions = append(g.versions, info)
	return nil
}

// index notes in one index that facts came or went with a version. Keys go
// in sorted: bbolt then touches each page once.
func (g *Graph) index(ix int, changes []factChange, version int64) error {
	if len(changes) == 0 {
		return nil
	}
	keys := make([]triple, len(changes))
	for i, c := range changes {
		keys[i] = rotate(ix, c.t)
	}
	slices.SortFunc(keys, compareTriples)
	return g.db.Update(func(tx *bolt.Tx) error {
		b := tx.Bucket(bOrder[ix])
		for _, k := range keys {
			key := appendKey(nil, k)
			old := b.Get(key)
			if lastTurn(old) == version {
				continue // done before a crash
			}
			if err := b.Put(key, binary.AppendUvarint(slices.Clip(slices.Clone(old)), uint64(version))); err != nil {
				return err
			}
		}
		return nil
	})
}
