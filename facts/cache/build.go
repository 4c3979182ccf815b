package cache

import (
	"errors"
	"fmt"
	"iter"
	"os"
	"slices"

	"dunlin/facts"
	"dunlin/facts/rdf"
	"dunlin/internal/durable"
)

// MaxBuildFacts bounds what Build takes: it sorts in memory, with 12 bytes a
// fact and each term's text once, about 0.5 GB here.
const MaxBuildFacts = 16 << 20

// Build writes a base of the given version of a graph to path, replacing
// what is there only when it is complete and durable. Facts may come in any
// order and more than once. The same facts make the same bytes.
//
// It is for the hub; a device gets the file by ApplyBase.
func Build(path, graph string, version int64, all iter.Seq2[facts.Fact, error]) error {
	v := Version{graph, version}
	if err := v.check(); err != nil {
		return fmt.Errorf("build facts base: %w", err)
	}
	src, err := collect(all)
	if err != nil {
		return fmt.Errorf("build facts base %s: %w", v, err)
	}
	tmp := path + ".new"
	if _, err := writeBase(tmp, v, src); err != nil {
		return fmt.Errorf("build facts base %s: %w", v, err)
	}
	if err := durable.Rename(tmp, path); err != nil {
		return errors.Join(fmt.Errorf("build facts base %s: %w", v, err), os.Remove(tmp))
	}
	return nil
}

// collect reads all facts into memory and numbers their terms in order.
func collect(all iter.Seq2[facts.Fact, error]) (source, error) {
	nodes, preds := numbering{ids: map[string]uint32{}}, numbering{ids: map[string]uint32{}}
	var ts []triple
	var buf []byte
	for f, err := range all {
		if err != nil {
			return source{}, err
		}
		if err := rdf.Check(f); err != nil {
			return source{}, err
		}
		if len(ts) == MaxBuildFacts {
			return source{}, fmt.Errorf("%w: more than %d facts", ErrTooLarge, MaxBuildFacts)
		}
		var t triple
		for i, term := range []facts.Term{f.S, f.P, f.O} {
			if buf = appendTerm(buf[:0], term); len(buf) > MaxTermBytes {
				return source{}, &TermError{Bytes: len(buf), Start: string(buf[:60])}
			}
			to := &nodes
			if i == 1 {
				to = &preds
			}
			t[i] = to.add(buf)
		}
		ts = append(ts, t)
	}
	nodePlace, predPlace := nodes.sort(), preds.sort()
	for i, t := range ts {
		ts[i] = triple{nodePlace[t[0]], predPlace[t[1]], nodePlace[t[2]]}
	}
	slices.SortFunc(ts, compareTriples)
	ts = slices.Compact(ts)
	return source{
		nodes: nodes.seq(), preds: preds.seq(),
		index: func(ix int) iter.Seq2[triple, error] {
			// In place: the order before is not needed again.
			if ix > 0 {
				for i, t := range ts {
					ts[i] = rotate(1, t)
				}
				slices.SortFunc(ts, compareTriples)
			}
			return func(yield func(triple, error) bool) {
				for _, t := range ts {
					if !yield(t, nil) {
						return
					}
				}
			}
		},
	}, nil
}

// numbering gives each text a number in the order it comes, from 0.
type numbering struct {
	ids   map[string]uint32
	texts []string
}

func (n *numbering) add(text []byte) uint32 {
	if id, ok := n.ids[string(text)]; ok {
		return id
	}
	id := uint32(len(n.texts))
	s := string(text)
	n.ids[s] = id
	n.texts = append(n.texts, s)
	return id
}

// sort orders the texts and returns, by old number, each one's place from 1.
func (n *numbering) sort() []uint32 {
	slices.Sort(n.texts)
	place := make([]uint32, len(n.texts))
	for i, s := range n.texts {
		place[n.ids[s]] = uint32(i + 1)
	}
	n.ids = nil
	return place
}

func (n *numbering) seq() iter.Seq2[[]byte, error] {
	return func(yield func([]byte, error) bool) {
		var buf []byte
		for _, s := range n.texts {
			if buf = append(buf[:0], s...); !yield(buf, nil) {
				return
			}
		}
	}
}
