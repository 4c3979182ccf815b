// Package graph is the hub's side of the knowledge graph: facts from many
// documents merged into one graph, every version of it kept, and what a
// device needs to get from the version it has to the newest. Start with
// Open, Import and Artefact.
//
// Its promise: an import is one version, wholly there or not at all, also
// after a crash; every version can still be asked (Match, Describe) and
// compared (Delta) as it was.
//
// A graph is a set: a fact imported twice is there once. Blank nodes of
// different documents are different nodes, and are renamed so. The package
// does not sign or send anything, and does not reason.
package graph

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"os"
	"path/filepath"
	"sync"
	"time"

	bolt "go.etcd.io/bbolt"

	"dunlin/facts"
	"dunlin/facts/cache"
	"dunlin/facts/rdf"
	"dunlin/internal/durable"
)

// ErrNoVersion: the graph has no such version.
var ErrNoVersion = errors.New("no such version")

// The file is flat and made for asking any version, not for size:
//
//	bucket  key                     value
//	terms   text (see termKey)      id, 4 bytes BE, from 1 in order of arrival
//	ids     id                      the term in canonical N-Triples
//	0 1 2   s p o, p o s, o s p     the versions in which the fact came and went: varints, in turn
//	changes version, part           the version's changes: see encodeChanges
//	vers    version, 8 bytes BE     Info as JSON
//	meta    "pending"               Info of an import that is on its way
var (
	bTerms   = []byte("terms")
	bIDs     = []byte("ids")
	bOrder   = [3][]byte{[]byte("0"), []byte("1"), []byte("2")}
	bChanges = []byte("changes")
	bVers    = []byte("vers")
	bMeta    = []byte("meta")
	kPending = []byte("pending")
)

// Info is what is known of a version.
type Info struct {
	Version    int64            `json:"version"`
	Time       time.Time        `json:"time"`
	Facts      int              `json:"facts"` // in the graph at this version
	Added      int              `json:"added"`
	Deleted    int              `json:"deleted"`
	Provenance facts.Provenance `json:"provenance"`
}

// Graph is an open graph. Its methods may be called at the same time;
// imports wait for each other, questions do not wait for imports.
type Graph struct {
	name string
	db   *bolt.DB

	importing sync.Mutex // held by the import under way; taken before mu
	mu        sync.RWMutex
	versions  []Info // versions[i] is version i+1
}

// Open opens the graph kept in dir, or creates an empty one. The graph's
// name is the last element of dir.
func Open(dir string) (*Graph, error) {
	abs, err := filepath.Abs(dir)
	if err != nil {
		return nil, fmt.Errorf("open graph: %w", err)
	}
	g := &Graph{name: filepath.Base(abs)}
	if err := cache.CheckName(g.name); err != nil {
		return nil, fmt.Errorf("open graph %s: %w", dir, err)
	}
	if err := durable.MkdirAll(abs, 0o700); err != nil {
		return nil, fmt.Errorf("open graph %s: %w", g.name, err)
	}
	file := filepath.Join(abs, "graph.db")
	if g.db, err = bolt.Open(file, 0o600, &bolt.Options{Timeout: time.Second, FreelistType: bolt.FreelistMapType, NoStatistics: true}); err != nil {
		return nil, fmt.Errorf("open graph %s: %s: %w", g.name, file, err)
	}
	left, err := filepath.Glob(filepath.Join(abs, basePrefix+"*")) // by a crash while a base was built
	for _, path := range left {
		err = errors.Join(err, os.RemoveAll(path))
	}
	if err == nil {
		err = g.load()
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("open graph %s: %w", g.name, err), g.db.Close())
	}
	return g, nil
}

// load makes the buckets, finishes an import that a crash cut short after it
// was complete, and reads the list of versions.
func (g *Graph) load() error {
	err := g.db.Update(func(tx *bolt.Tx) error {
		for _, name := range [][]byte{bTerms, bIDs, bOrder[0], bOrder[1], bOrder[2], bChanges, bVers, bMeta} {
			if _, err := tx.CreateBucketIfNotExists(name); err != nil {
				return err
			}
		}
		return tx.Bucket(bVers).ForEach(func(k, v []byte) error {
			var info Info
			if err := json.Unmarshal(v, &info); err != nil {
				return fmt.Errorf("version record %x: %w", k, err)
			}
			g.versions = append(g.versions, info)
			if info.Version != int64(len(g.versions)) {
				return fmt.Errorf("version record %x: holds version %d", k, info.Version)
			}
			return nil
		})
	})
	if err != nil {
		return err
	}
	return g.resume()
}

// Close closes the graph.
func (g *Graph) Close() error {
	g.importing.Lock()
	defer g.importing.Unlock()
	return g.db.Close()
}

// Name returns the graph's name.
func (g *Graph) Name() string { return g.name }

// Versions lists all versions, the oldest first.
func (g *Graph) Versions() []Info {
	g.mu.RLock()
	defer g.mu.RUnlock()
	return append([]Info(nil), g.versions...)
}

// Latest returns the number of the newest version, 0 for an empty graph.
func (g *Graph) Latest() int64 {
	g.mu.RLock()
	defer g.mu.RUnlock()
	return int64(len(g.versions))
}

// info returns a version's record; version 0 is the empty graph.
func (g *Graph) info(version int64) (Info, error) {
	g.mu.RLock()
	defer g.mu.RUnlock()
	switch {
	case version == 0:
		return Info{}, nil
	case version < 0 || version > int64(len(g.versions)):
		return Info{}, fmt.Errorf("graph %s: version %d of %d: %w", g.name, version, len(g.versions), ErrNoVersion)
	}
	return g.versions[version-1], nil
}

// Import adds facts to the graph and returns the version that has them: a
// new one, or the newest if all were there already. Blank nodes are renamed
// by from.Document: the same label in the same document is the same node in
// every import of it, and in no other document. (An empty Document counts as
// a new one each time.)
func (g *Graph) Import(ctx context.Context, all iter.Seq2[facts.Fact, error], from facts.Provenance) (int64, error) {
	return g.Apply(ctx, func(yield func(rdf.Change, error) bool) {
		for f, err := range all {
			if !yield(rdf.Change{Fact: f}, err) {
				return
			}
		}
	}, from)
}

// Replace makes the graph hold exactly the given facts, as Import does
// otherwise.
func (g *Graph) Replace(ctx context.Context, all iter.Seq2[facts.Fact, error], from facts.Provenance) (int64, error) {
	g.importing.Lock()
	defer g.importing.Unlock()
	w := g.newImporting(from)
	if w.err != nil {
		return 0, fmt.Errorf("replace graph %s: %w", g.name, w.err)
	}
	// What is there goes, unless it comes again.
	err := g.db.View(func(tx *bolt.Tx) error {
		return (&at{tx, w.info.Version - 1}).scan(triple{}, func(t triple) bool {
			w.now[t] = false
			return true
		})
	})
	if err != nil {
		return 0, fmt.Errorf("replace graph %s: %w", g.name, err)
	}
	for f, err := range all {
		if err == nil {
			err = w.take(ctx, rdf.Change{Fact: f})
		}
		if err != nil {
			return 0, fmt.Errorf("replace graph %s: %w", g.name, err)
		}
	}
	v, err := w.commit()
	if err != nil {
		return 0, fmt.Errorf("replace graph %s: %w", g.name, err)
	}
	return v, nil
}

// Apply adds and deletes facts, the last word on each fact deciding, and
// returns the version that has them, as Import does.
func (g *Graph) Apply(ctx context.Context, all iter.Seq2[rdf.Change, error], from facts.Provenance) (int64, error) {
	g.importing.Lock()
	defer g.importing.Unlock()
	w := g.newImporting(from)
	for c, err := range all {
		if err == nil {
			err = w.take(ctx, c)
		}
		if err != nil {
			return 0, fmt.Errorf("import into graph %s: %w", g.name, err)
		}
	}
	v, err := w.commit()
	if err != nil {
		return 0, fmt.Errorf("import into graph %s: %w", g.name, err)
	}
	return v, nil
}

// Match returns the facts of a version that fit a pattern, in which the zero
// Term stands for any term; at most limit of them, all where limit is 0 or
// less.
func (g *Graph) Match(version int64, s, p, o facts.Term, limit int) (found []facts.Fact, err error) {
	err = g.view(version, func(a *at) error {
		found, err = a.match(s, p, o, limit)
		return err
	})
	return found, err
}

// Describe returns the facts about an entity, and where depth is above 1 the
// facts about what those name, and so on; nearest first, at most limit of
// them (all where limit is 0 or less).
func (g *Graph) Describe(version int64, entity facts.Term, depth, limit int) (found []facts.Fact, err error) {
	if entity == (facts.Term{}) {
		return nil, nil
	}
	err = g.view(version, func(a *at) error {
		seen := map[facts.Term]bool{entity: true}
		for level := []facts.Term{entity}; depth >= 1 && len(level) > 0; depth-- {
			var next []facts.Term
			for _, s := range level {
				about, err := a.match(s, facts.Term{}, facts.Term{}, 0)
				if err != nil {
					return err
				}
				for _, f := range about {
					if limit > 0 && len(found) == limit {
						return nil
					}
					found = append(found, f)
					if f.O.Kind != facts.Literal && !seen[f.O] {
						seen[f.O] = true
						next = append(next, f.O)
					}
				}
			}
			level = next
		}
		return nil
	})
	return found, err
}

// view runs fn on the graph as it was at a version.
func (g *Graph) view(version int64, fn func(a *at) error) error {
	if _, err := g.info(version); err != nil {
		return err
	}
	return g.db.View(func(tx *bolt.Tx) error { return fn(&at{tx, version}) })
}

func versionKey(v int64) []byte { return binary.BigEndian.AppendUint64(nil, uint64(v)) }

// Size returns the bytes that the graph takes on disk.
func (g *Graph) Size() (int64, error) {
	info, err := os.Stat(g.db.Path())
	if err != nil {
		return 0, err
	}
	return info.Size(), nil
}
