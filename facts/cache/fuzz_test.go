package cache

import (
	"bytes"
	"encoding/binary"
	"hash/fnv"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"testing"
)

// maxExpand is how many facts a block of n bytes can say at most: one a
// byte, and the key's.
func maxExpand(n int) int { return n + 1 }

func FuzzIndexBlock(f *testing.F) {
	f.Add(appendKey(nil, triple{1, 2, 3}), appendDelta(appendDelta(nil, triple{1, 2, 3}, triple{1, 2, 9}), triple{1, 2, 9}, triple{4, 1, 1}))
	f.Add([]byte{}, []byte{})
	f.Fuzz(func(t *testing.T, key, val []byte) {
		var all []triple
		if err := readBlock(key, val, func(x triple) bool { all = append(all, x); return true }); err != nil {
			return
		}
		if len(all) > maxExpand(len(val)) || !slices.IsSortedFunc(all, compareTriples) || len(slices.Compact(slices.Clone(all))) != len(all) {
			t.Fatalf("not a rising sequence: %v", all)
		}
		again := []byte{}
		for i := 1; i < len(all); i++ {
			again = appendDelta(again, all[i-1], all[i])
		}
		var back []triple
		if err := readBlock(key, again, func(x triple) bool { back = append(back, x); return true }); err != nil || !slices.Equal(all, back) {
			t.Fatalf("written again: %v (%v), want %v", back, err, all)
		}
	})
}

func FuzzDictBlock(f *testing.F) {
	f.Add(appendFront(appendFront(nil, nil, []byte("Iabc")), []byte("Iabc"), []byte("Iabd")))
	f.Fuzz(func(t *testing.T, block []byte) {
		n := 0
		_, err := readDict(block, nil, func(i int, term []byte) bool {
			if i != n || len(term) > MaxTermBytes {
				t.Fatalf("term %d of %d bytes, want number %d", i, len(term), n)
			}
			n++
			if checkTerm(term) == nil {
				back, err := parseTerm(term)
				if err != nil || !bytes.Equal(appendTerm(nil, back), term) {
					t.Fatalf("%q: %v", term, err)
				}
			}
			return true
		})
		if err == nil && n > dictBlock {
			t.Fatalf("%d terms in a block", n)
		}
	})
}

func FuzzLogEntry(f *testing.F) {
	e := logEntry{graph: "g", from: 1, to: 2, nodes: []string{"Ia:b"}, adds: []triple{{1, 1, 1}, {2, 1, 5}}, dels: []triple{{1, 1, 2}}}
	f.Add(e.encode())
	f.Fuzz(func(t *testing.T, b []byte) {
		e, err := decodeLogEntry(b)
		if err != nil {
			return
		}
		if len(e.adds)+len(e.dels) > 2*maxExpand(len(b)) {
			t.Fatalf("%d changes of %d bytes", len(e.adds)+len(e.dels), len(b))
		}
		back, err := decodeLogEntry(e.encode())
		if err != nil || !slices.Equal(back.adds, e.adds) || !slices.Equal(back.nodes, e.nodes) {
			t.Fatalf("written again: %+v (%v), want %+v", back, err, e)
		}
		o := newOverlay(baseMeta{nodes: 3, preds: 1})
		if o.apply(&e) == nil && o.size() > len(e.adds)+len(e.dels) {
			t.Fatalf("overlay of %d changes from %d", o.size(), len(e.adds)+len(e.dels))
		}
	})
}

// FuzzBase writes hostile bytes somewhere into a good base, makes the
// checksums right again (anyone can) and reads it as a base and as our file.
func FuzzBase(f *testing.F) {
	seed := filepath.Join(f.TempDir(), "base")
	r := randomTerms{rand.New(rand.NewPCG(5, 5))}
	set := factSet{}
	for range 400 {
		set[r.fact()] = true
	}
	if err := Build(seed, "g", 1, set.seq()); err != nil {
		f.Fatal(err)
	}
	good, err := os.ReadFile(seed)
	if err != nil {
		f.Fatal(err)
	}
	for page := range len(good) / pageSize {
		f.Add(uint32(page*pageSize+8), []byte{pageBranch, 0, 1, 0, 0, 0, 0, 0, 0, 1})
		f.Add(uint32(page*pageSize+16), bytes.Repeat([]byte{0xFF}, 16))
	}
	f.Fuzz(func(t *testing.T, at uint32, change []byte) {
		b := bytes.Clone(good)
		copy(b[int(at)%len(b):], change)
		for page := range 2 {
			m := b[page*pageSize+16:]
			h := fnv.New64a()
			h.Write(m[:56])
			binary.LittleEndian.PutUint64(m[56:], h.Sum64())
		}
		_ = checkPages(bytes.NewReader(b), int64(len(b)))
		src, err := readForeign(bytes.NewReader(b), int64(len(b)))
		if err != nil {
			return
		}
		n := 0
		for range src.terms(bNodes) {
			if n++; n > dictBlock*len(b) {
				t.Fatal("more terms than the bytes can say")
			}
		}
		for ix := range bOrder {
			n = 0
			for range src.index(ix) {
				if n++; n > maxExpand(len(b)) {
					t.Fatal("more facts than the bytes can say")
				}
			}
		}
	})
}
