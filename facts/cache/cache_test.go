package cache

import (
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"iter"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"dunlin/facts"
	"dunlin/facts/rdf"
)

type factSet map[facts.Fact]bool

func (s factSet) seq() iter.Seq2[facts.Fact, error] {
	return func(yield func(facts.Fact, error) bool) {
		for f := range s {
			if !yield(f, nil) {
				return
			}
		}
	}
}

// lines is a set of facts in one comparable form.
func lines(all []facts.Fact) []string {
	out := make([]string, 0, len(all))
	for _, f := range all {
		out = append(out, string(rdf.AppendFact(nil, f)))
	}
	slices.Sort(out)
	return out
}

func (s factSet) match(p, o, q facts.Term) []facts.Fact {
	var all []facts.Fact
	for f := range s {
		if (p == facts.Term{} || p == f.S) && (o == facts.Term{} || o == f.P) && (q == facts.Term{} || q == f.O) {
			all = append(all, f)
		}
	}
	return all
}

func patch(t testing.TB, graph string, from, to int64, adds, dels []facts.Fact) []byte {
	t.Helper()
	var out bytes.Buffer
	w, err := rdf.NewPatchWriter(&out, rdf.PatchHeader{
		ID: facts.Text(Version{graph, to}.String()), Prev: facts.Text(Version{graph, from}.String()),
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range dels {
		if err := w.Write(rdf.Change{Delete: true, Fact: f}); err != nil {
			t.Fatal(err)
		}
	}
	for _, f := range adds {
		if err := w.Write(rdf.Change{Fact: f}); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

func open(t testing.TB, path string) *Cache {
	t.Helper()
	c, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

func buildBase(t testing.TB, v Version, set factSet) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "base")
	if err := Build(path, v.Graph, v.Version, set.seq()); err != nil {
		t.Fatal(err)
	}
	return path
}

// randomTerms draws from few values of every kind of term, so that patterns
// meet and terms are new, forgotten and known again.
type randomTerms struct{ *rand.Rand }

func (r randomTerms) predicate() facts.Term {
	return facts.Resource(fmt.Sprintf("http://example/p%d", r.IntN(5)))
}

func (r randomTerms) subject() facts.Term {
	if r.IntN(6) == 0 {
		return facts.Term{Kind: facts.Blank, Value: fmt.Sprintf("b%d", r.IntN(9))}
	}
	if r.IntN(8) == 0 {
		return r.predicate() // one term in both dictionaries
	}
	return facts.Resource(fmt.Sprintf("http://example/s%d", r.IntN(60)))
}

func (r randomTerms) object() facts.Term {
	text := fmt.Sprintf("text %d", r.IntN(30))
	switch r.IntN(8) {
	case 0:
		return facts.Text(text)
	case 1:
		return facts.LangText(text, "en")
	case 2:
		t := facts.LangText(text, "ar-eg")
		t.Datatype, t.Dir = facts.RDFDirLang, facts.RTL
		return t
	case 3:
		return facts.Term{Kind: facts.Literal, Value: text, Datatype: "http://example/type"}
	case 4:
		return rdf.Quote(facts.Fact{S: r.subject(), P: r.predicate(), O: facts.Text("\x00" + text)})
	case 5:
		return facts.Text(text + "\x00\n" + strings.Repeat("long ", r.IntN(400)))
	}
	return r.subject()
}

func (r randomTerms) fact() facts.Fact {
	return facts.Fact{S: r.subject(), P: r.predicate(), O: r.object()}
}

// compare asks the cache and a plain set the same questions, all eight kinds
// of pattern.
func compare(t *testing.T, c *Cache, set factSet, r randomTerms) {
	t.Helper()
	if got := c.Stats().Facts; got != len(set) {
		t.Fatalf("%d facts, want %d", got, len(set))
	}
	known := slices.Collect(maps.Keys(set))
	for q := range 48 {
		f := r.fact()
		if len(known) > 0 && r.IntN(3) > 0 {
			f = known[r.IntN(len(known))]
		}
		pat := [3]facts.Term{f.S, f.P, f.O}
		for i := range pat {
			if q>>i&1 == 0 {
				pat[i] = facts.Term{}
			}
		}
		got, err := c.Match(pat[0], pat[1], pat[2], 0)
		if err != nil {
			t.Fatal(err)
		}
		want := set.match(pat[0], pat[1], pat[2])
		if g, w := lines(got), lines(want); !slices.Equal(g, w) {
			t.Fatalf("pattern %v: %d facts, want %d\n got %q\nwant %q", pat, len(g), len(w), g, w)
		}
		if limit := 1 + r.IntN(5); len(want) > 0 {
			if some, err := c.Match(pat[0], pat[1], pat[2], limit); err != nil || len(some) != min(limit, len(want)) {
				t.Fatalf("limit %d of %d: %d facts (%v)", limit, len(want), len(some), err)
			}
		}
	}
}

func TestSameAsASet(t *testing.T) {
	for seed := range uint64(3) {
		r := randomTerms{rand.New(rand.NewPCG(seed, 1))}
		path := filepath.Join(t.TempDir(), "facts.db")
		c := open(t, path)
		set := factSet{}
		version := int64(0)
		if seed > 0 { // seed 0 grows from the empty cache, by patches only
			for range 1500 {
				set[r.fact()] = true
			}
			version = 1
			if err := c.ApplyBase("g", version, buildBase(t, Version{"g", version}, set)); err != nil {
				t.Fatal(err)
			}
		}
		c.foldAt = 400
		folds := 0
		for round := range 18 {
			compare(t, c, set, r)
			var adds, dels []facts.Fact
			known := slices.Collect(maps.Keys(set))
			for range r.IntN(80) {
				if len(known) > 0 && r.IntN(2) == 0 {
					dels = append(dels, known[r.IntN(len(known))])
				}
				adds = append(adds, r.fact())
			}
			dels = append(dels, r.fact()) // perhaps not there
			for _, f := range dels {
				delete(set, f)
			}
			for _, f := range adds {
				set[f] = true
			}
			before := c.Stats()
			if err := c.ApplyPatch("g", version, version+1, bytes.NewReader(patch(t, "g", version, version+1, adds, dels))); err != nil {
				t.Fatal(err)
			}
			version++
			after := c.Stats()
			if after.FoldFailed != nil {
				t.Fatal(after.FoldFailed)
			}
			if after.LogBytes < before.LogBytes {
				folds++
				if after.Added+after.Deleted != 0 {
					t.Errorf("after a fold: %+v", after)
				}
			}
			if round%4 == 3 {
				if err := c.Close(); err != nil {
					t.Fatal(err)
				}
				c = open(t, path)
				c.foldAt = 400
				if c.Version() != (Version{"g", version}) || c.Recovered() != "" {
					t.Fatalf("re-opened at %s, want g@%d; recovered %q", c.Version(), version, c.Recovered())
				}
			}
		}
		compare(t, c, set, r)
		if folds == 0 {
			t.Error("no fold took place")
		}
		// A fold leaves what a fresh build would: forgotten terms are gone.
		c.foldAt = 0
		if err := c.ApplyPatch("g", version, version+1, bytes.NewReader(patch(t, "g", version, version+1, nil, slices.Collect(maps.Keys(set))[:1]))); err != nil {
			t.Fatal(err)
		}
		left, err := c.Match(facts.Term{}, facts.Term{}, facts.Term{}, 0)
		if err != nil {
			t.Fatal(err)
		}
		now := factSet{}
		for _, f := range left {
			now[f] = true
		}
		if err := c.Close(); err != nil {
			t.Fatal(err)
		}
		sameBytes(t, path, buildBase(t, Version{"g", version + 1}, now))
	}
}

func sameBytes(t *testing.T, a, b string) {
	t.Helper()
	x, errX := os.ReadFile(a)
	y, errY := os.ReadFile(b)
	if err := errors.Join(errX, errY); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(x, y) {
		t.Errorf("%s and %s differ (%d and %d bytes)", a, b, len(x), len(y))
	}
}

func TestBuildIsDeterministic(t *testing.T) {
	r := randomTerms{rand.New(rand.NewPCG(7, 7))}
	set := factSet{}
	for range 5000 {
		set[r.fact()] = true
	}
	v := Version{"g", 3}
	sameBytes(t, buildBase(t, v, set), buildBase(t, v, set)) // a map's order differs each time
}

func TestVersions(t *testing.T) {
	a := facts.Fact{S: facts.Resource("a:s"), P: facts.Resource("a:p"), O: facts.Text("1")}
	b := facts.Fact{S: facts.Resource("a:s"), P: facts.Resource("a:p"), O: facts.Text("2")}
	path := filepath.Join(t.TempDir(), "facts.db")
	c := open(t, path)
	if c.Version() != (Version{}) || c.Version().String() != "" {
		t.Fatalf("new cache is at %q", c.Version())
	}
	apply := func(graph string, from, to int64, body []byte) error {
		return c.ApplyPatch(graph, from, to, bytes.NewReader(body))
	}
	first := patch(t, "g", 0, 1, []facts.Fact{a}, nil)
	if err := apply("g", 0, 1, first); err != nil {
		t.Fatal(err)
	}
	if err := apply("g", 0, 1, first); err != nil {
		t.Errorf("the same again: %v", err)
	}
	second := patch(t, "g", 1, 2, []facts.Fact{b}, []facts.Fact{a})
	for name, err := range map[string]error{
		"from another version":  apply("g", 2, 3, second),
		"of another graph":      apply("h", 1, 2, second),
		"from nothing, again":   apply("g", 0, 2, second),
		"that says another":     apply("g", 1, 3, patch(t, "g", 2, 3, nil, nil)),
		"of the empty name":     apply("", 1, 2, second),
		"of a name with an @":   apply("g@1", 1, 2, second),
		"that goes back":        apply("g", 1, 0, second),
		"that is cut short":     apply("g", 1, 2, second[:len(second)-5]),
		"with a wrong last bit": apply("g", 1, 2, bytes.Replace(second, []byte("TC"), []byte("TA"), 1)),
		"with another id":       apply("g", 1, 2, patch(t, "g", 1, 7, nil, nil)),
	} {
		if err == nil {
			t.Errorf("patch %s: applied", name)
		}
		switch name {
		case "from another version", "of another graph", "from nothing, again", "that says another":
			if !errors.Is(err, ErrWrongBase) {
				t.Errorf("patch %s: %v, want ErrWrongBase", name, err)
			}
		}
	}
	if got, _ := c.Match(facts.Term{}, facts.Term{}, facts.Term{}, 0); c.Version() != (Version{"g", 1}) || !slices.Equal(got, []facts.Fact{a}) {
		t.Errorf("after refused patches: %s %v", c.Version(), got)
	}
	var zipped bytes.Buffer
	z := gzip.NewWriter(&zipped)
	z.Write(second)
	z.Close()
	if err := apply("g", 1, 2, zipped.Bytes()[:zipped.Len()-3]); err == nil {
		t.Error("a gzip cut short was applied")
	}
	if err := apply("g", 1, 2, zipped.Bytes()); err != nil {
		t.Fatal(err)
	}
	if got, _ := c.Match(facts.Term{}, facts.Term{}, facts.Term{}, 0); c.Version() != (Version{"g", 2}) || !slices.Equal(got, []facts.Fact{b}) {
		t.Errorf("%s %v", c.Version(), got)
	}
	if _, err := Open(path); !errors.Is(err, ErrInUse) {
		t.Errorf("opened twice: %v", err)
	}
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	if err := apply("g", 2, 3, second); err == nil {
		t.Error("applied to a closed cache")
	}
	if _, err := c.Match(facts.Term{}, facts.Term{}, facts.Term{}, 0); !errors.Is(err, os.ErrClosed) {
		t.Errorf("read from a closed cache: %v", err)
	}
}

func TestApplyBase(t *testing.T) {
	r := randomTerms{rand.New(rand.NewPCG(3, 3))}
	set := factSet{}
	for range 800 {
		set[r.fact()] = true
	}
	base := buildBase(t, Version{"g", 5}, set)
	raw, err := os.ReadFile(base)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	c := open(t, filepath.Join(dir, "facts.db"))
	if err := c.ApplyBase("g", 6, base); err == nil {
		t.Error("a base was taken for another version")
	}
	if err := c.ApplyBase("h", 5, base); err == nil {
		t.Error("a base was taken for another graph")
	}
	if err := c.ApplyBase("g", 5, base); err != nil {
		t.Fatal(err)
	}
	compare(t, c, set, r)
	zipped := filepath.Join(dir, "base.gz")
	f, err := os.Create(zipped)
	if err != nil {
		t.Fatal(err)
	}
	z := gzip.NewWriter(f)
	z.Write(raw)
	if err := errors.Join(z.Close(), f.Close()); err != nil {
		t.Fatal(err)
	}
	if err := c.ApplyBase("g", 5, zipped); err != nil {
		t.Fatal(err)
	}
	compare(t, c, set, r)
	if err := c.ApplyPatch("g", 5, 6, bytes.NewReader(patch(t, "g", 5, 6, []facts.Fact{r.fact()}, nil))); err != nil {
		t.Fatal(err)
	}
	c.Close()
	inUse := filepath.Join(dir, "facts.db")
	d := open(t, filepath.Join(dir, "other.db"))
	if err := d.ApplyBase("g", 5, inUse); !errors.Is(err, ErrCorrupt) {
		t.Errorf("a cache with a log was taken for a base: %v", err)
	}
	left, err := filepath.Glob(filepath.Join(dir, "*.new"))
	more, _ := filepath.Glob(filepath.Join(dir, "*.source"))
	if err != nil || len(left)+len(more) > 0 {
		t.Errorf("left behind: %v %v", left, more)
	}
}

// One byte changed anywhere in a base, or its end cut off: it is refused, or
// all of it can be read and is valid facts. (That a letter of a text is
// another one only the signature can tell.)
func TestDamagedBase(t *testing.T) {
	r := randomTerms{rand.New(rand.NewPCG(9, 9))}
	set := factSet{}
	for range 300 {
		set[r.fact()] = true
	}
	raw, err := os.ReadFile(buildBase(t, Version{"g", 5}, set))
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	bad := filepath.Join(dir, "bad")
	c := open(t, filepath.Join(dir, "facts.db"))
	refused := 0
	for range 600 {
		b := bytes.Clone(raw)
		if r.IntN(10) == 0 {
			b = b[:r.IntN(len(b))]
		} else {
			b[r.IntN(len(b))] ^= byte(1 + r.IntN(255))
		}
		if err := os.WriteFile(bad, b, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := c.ApplyBase("g", 5, bad); err != nil {
			refused++
			continue
		}
		got, err := c.Match(facts.Term{}, facts.Term{}, facts.Term{}, 0)
		if err != nil {
			t.Fatalf("a base that was taken cannot be read: %v", err)
		}
		for _, f := range got {
			if err := rdf.Check(f); err != nil {
				t.Fatal(err)
			}
		}
	}
	if refused < 60 {
		t.Errorf("only %d of 600 damaged bases were refused", refused)
	}
}

func TestTornFileIsMovedAside(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "facts.db")
	f := facts.Fact{S: facts.Resource("a:s"), P: facts.Resource("a:p"), O: facts.Text("1")}
	for n := 1; n <= 5; n++ {
		c := open(t, path)
		if err := c.ApplyPatch("g", 0, 1, bytes.NewReader(patch(t, "g", 0, 1, []facts.Fact{f}, nil))); err != nil {
			t.Fatal(err)
		}
		c.Close()
		raw, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		switch n {
		case 1:
			raw = raw[:len(raw)/2]
		case 2:
			raw = []byte("not a cache at all")
		case 3:
			raw = nil
		case 4:
			clear(raw[2*pageSize:])
		case 5:
			copy(raw[:2*pageSize], raw[2*pageSize:])
		}
		if err := os.WriteFile(path, raw, 0o600); err != nil {
			t.Fatal(err)
		}
		c = open(t, path)
		if c.Recovered() == "" || c.Version() != (Version{}) {
			t.Errorf("damage %d: recovered %q, version %q", n, c.Recovered(), c.Version())
		}
		c.Close()
		aside, _ := filepath.Glob(path + ".bad-*")
		if len(aside) != min(n, 3) {
			t.Errorf("damage %d: moved aside: %v", n, aside)
		}
		if c = open(t, path); c.Recovered() != "" {
			t.Errorf("damage %d: still %q", n, c.Recovered())
		}
		c.Close()
	}
}

func TestReadersBesideAnApplier(t *testing.T) {
	// Version v holds exactly the facts s<v>, p, 0…9 and the fact g, p, v: a
	// reader that sees two versions at once would find another count.
	c := open(t, filepath.Join(t.TempDir(), "facts.db"))
	c.foldAt = 60
	p := facts.Resource("a:p")
	content := func(v int64) (all []facts.Fact) {
		for i := range 10 {
			all = append(all, facts.Fact{S: facts.Resource(fmt.Sprintf("a:s%d", v)), P: p, O: facts.Text(fmt.Sprint(i))})
		}
		return all
	}
	stop := make(chan struct{})
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				got, err := c.Match(facts.Term{}, p, facts.Term{}, 0)
				if err != nil || len(got) != 0 && len(got) != 10 {
					t.Errorf("%d facts at once (%v)", len(got), err)
					return
				}
				for _, f := range got {
					if f.S != got[0].S {
						t.Errorf("two versions at once: %v and %v", f.S, got[0].S)
						return
					}
				}
				if _, err := c.Enrich("a:s1", 5); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	for v := int64(0); v < 60; v++ {
		var dels []facts.Fact
		if v > 0 {
			dels = content(v)
		}
		if err := c.ApplyPatch("g", v, v+1, bytes.NewReader(patch(t, "g", v, v+1, content(v+1), dels))); err != nil {
			t.Error(err)
			break
		}
	}
	close(stop)
	wg.Wait()
	if err := c.Stats().FoldFailed; err != nil {
		t.Error(err)
	}
}

func TestBounds(t *testing.T) {
	s, p := facts.Resource("a:s"), facts.Resource("a:p")
	long := facts.Fact{S: s, P: p, O: facts.Text(strings.Repeat("x", MaxTermBytes))}
	fits := facts.Fact{S: s, P: p, O: facts.Text(strings.Repeat("x", MaxTermBytes-1))}
	near := facts.Fact{S: s, P: p, O: facts.Text(strings.Repeat("x", MaxTermBytes-2) + "y")}
	path := filepath.Join(t.TempDir(), "base")
	var termErr *TermError
	if err := Build(path, "g", 1, factSet{long: true}.seq()); !errors.As(err, &termErr) {
		t.Errorf("built with a term too long: %v", err)
	}
	if _, err := os.Stat(path); err == nil {
		t.Error("a failed build left a file")
	}
	set := factSet{fits: true, near: true}
	for i := range 40 { // separators as long as terms may be
		set[facts.Fact{S: s, P: p, O: facts.Text(near.O.Value[:MaxTermBytes-20] + fmt.Sprint(i))}] = true
	}
	c := open(t, filepath.Join(t.TempDir(), "facts.db"))
	if err := c.ApplyBase("g", 1, buildBase(t, Version{"g", 1}, set)); err != nil {
		t.Fatal(err)
	}
	compare(t, c, set, randomTerms{rand.New(rand.NewPCG(1, 1))})
	if err := c.ApplyPatch("g", 1, 2, bytes.NewReader(patch(t, "g", 1, 2, []facts.Fact{long}, nil))); !errors.As(err, &termErr) {
		t.Errorf("applied a term too long: %v", err)
	}
	var bomb bytes.Buffer
	z := gzip.NewWriter(&bomb)
	z.Write([]byte("TX .\n"))
	comment := []byte("#" + strings.Repeat(" ", 1<<16) + "\n")
	for range maxPatchBytes/len(comment) + 2 {
		z.Write(comment)
	}
	z.Write([]byte("TC .\n"))
	z.Close()
	if err := c.ApplyPatch("g", 1, 2, &bomb); !errors.Is(err, ErrTooLarge) {
		t.Errorf("a gzip bomb: %v", err)
	}
}
