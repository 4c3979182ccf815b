package graph

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	bolt "go.etcd.io/bbolt"

	"dunlin/facts"
	"dunlin/facts/cache"
	"dunlin/facts/rdf"
)

type factSet map[facts.Fact]bool

func seqOf(all []facts.Fact) iter.Seq2[facts.Fact, error] {
	return func(yield func(facts.Fact, error) bool) {
		for _, f := range all {
			if !yield(f, nil) {
				return
			}
		}
	}
}

func (s factSet) list() []facts.Fact { return slices.Collect(maps.Keys(s)) }

func lines(all []facts.Fact) []string {
	var out []string
	for _, f := range all {
		out = append(out, string(rdf.AppendFact(nil, f)))
	}
	slices.Sort(out)
	return out
}

func openGraph(t *testing.T, dir string) *Graph {
	t.Helper()
	g, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { g.Close() })
	return g
}

func doc(name string) facts.Provenance { return facts.Provenance{Document: name, Confidence: 1} }

func iri(format string, args ...any) facts.Term {
	return facts.Resource("http://ex/" + fmt.Sprintf(format, args...))
}

func randomFact(r *rand.Rand) facts.Fact {
	f := facts.Fact{S: iri("s%d", r.IntN(40)), P: iri("p%d", r.IntN(4)), O: iri("s%d", r.IntN(40))}
	switch r.IntN(4) {
	case 0:
		f.O = facts.Text(fmt.Sprintf("text %d\n%s", r.IntN(20), strings.Repeat("long ", r.IntN(300))))
	case 1:
		f.O = facts.LangText(fmt.Sprint(r.IntN(20)), "zh-hans")
	}
	return f
}

// history makes a graph of n random versions and returns what each holds.
func history(t *testing.T, g *Graph, r *rand.Rand, n int) []factSet {
	t.Helper()
	all := []factSet{{}}
	for v := 1; v <= n; v++ {
		set := maps.Clone(all[v-1])
		var changes []rdf.Change
		for _, f := range set.list() {
			if r.IntN(12) == 0 {
				changes = append(changes, rdf.Change{Delete: true, Fact: f})
				delete(set, f)
			}
		}
		for range 60 {
			f := randomFact(r)
			changes = append(changes, rdf.Change{Fact: f})
			set[f] = true
		}
		changes = append(changes, rdf.Change{Delete: true, Fact: facts.Fact{S: iri("never"), P: iri("p0"), O: iri("there")}})
		got, err := g.Apply(t.Context(), func(yield func(rdf.Change, error) bool) {
			for _, c := range changes {
				if !yield(c, nil) {
					return
				}
			}
		}, doc("d"))
		if err != nil || got != int64(v) {
			t.Fatalf("version %d (%v), want %d", got, err, v)
		}
		all = append(all, set)
	}
	return all
}

func TestEveryVersionStays(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	dir := filepath.Join(t.TempDir(), "garments")
	g := openGraph(t, dir)
	versions := history(t, g, r, 12)
	for round := range 2 {
		for v, set := range versions {
			for mask := range 8 {
				f := randomFact(r)
				if list := set.list(); len(list) > 0 && r.IntN(3) > 0 {
					f = list[r.IntN(len(list))]
				}
				pat := [3]facts.Term{f.S, f.P, f.O}
				for i := range pat {
					if mask>>i&1 == 0 {
						pat[i] = facts.Term{}
					}
				}
				var want []facts.Fact
				for f := range set {
					if (pat[0] == facts.Term{} || pat[0] == f.S) && (pat[1] == facts.Term{} || pat[1] == f.P) && (pat[2] == facts.Term{} || pat[2] == f.O) {
						want = append(want, f)
					}
				}
				got, err := g.Match(int64(v), pat[0], pat[1], pat[2], 0)
				if err != nil || !slices.Equal(lines(got), lines(want)) {
					t.Fatalf("version %d, pattern %v: %d facts (%v), want %d", v, pat, len(got), err, len(want))
				}
			}
			if v > 0 {
				if info := g.Versions()[v-1]; info.Facts != len(set) || info.Version != int64(v) || info.Time.IsZero() {
					t.Errorf("version %d: %+v, want %d facts", v, info, len(set))
				}
			}
		}
		if round == 0 {
			if err := g.Close(); err != nil {
				t.Fatal(err)
			}
			g = openGraph(t, dir)
		}
	}
	if _, err := g.Match(13, facts.Term{}, facts.Term{}, facts.Term{}, 0); !errors.Is(err, ErrNoVersion) {
		t.Errorf("version 13 of 12: %v", err)
	}
	for from, old := range versions {
		for to, now := range versions {
			d, err := g.Delta(int64(from), int64(to), nil)
			if err != nil {
				t.Fatal(err)
			}
			set := maps.Clone(old)
			for _, f := range d.Dels {
				if !set[f] {
					t.Fatalf("delta %d to %d deletes what is not there", from, to)
				}
				delete(set, f)
			}
			for _, f := range d.Adds {
				if set[f] {
					t.Fatalf("delta %d to %d adds what is there", from, to)
				}
				set[f] = true
			}
			if !maps.Equal(set, now) {
				t.Fatalf("delta %d to %d leads elsewhere", from, to)
			}
		}
	}
}

func TestImportIsASet(t *testing.T) {
	g := openGraph(t, filepath.Join(t.TempDir(), "g"))
	a := facts.Fact{S: iri("a"), P: iri("p"), O: facts.Term{Kind: facts.Blank, Value: "x"}}
	b := facts.Fact{S: iri("b"), P: iri("p"), O: rdf.Quote(facts.Fact{S: a.O, P: iri("p"), O: iri("c")})}
	imports := func(want int64, from facts.Provenance, all ...facts.Fact) {
		t.Helper()
		if v, err := g.Import(t.Context(), seqOf(all), from); err != nil || v != want {
			t.Fatalf("version %d (%v), want %d", v, err, want)
		}
	}
	imports(1, doc("one.nt"), a, b, a)
	imports(1, doc("one.nt"), b, a) // the same again is no new version
	imports(2, doc("two.nt"), a)    // another document's _:x is another node
	got, err := g.Match(2, iri("a"), iri("p"), facts.Term{}, 0)
	if err != nil || len(got) != 2 || got[0].O == got[1].O {
		t.Errorf("blank nodes: %v (%v)", got, err)
	}
	// The blank node within the triple term is the one outside it.
	of, err := g.Match(1, iri("b"), facts.Term{}, facts.Term{}, 0)
	if err != nil || len(of) != 1 {
		t.Fatal(of, err)
	}
	inner, err := rdf.Unquote(of[0].O)
	if one, _ := g.Match(1, iri("a"), facts.Term{}, facts.Term{}, 0); err != nil || inner.S != one[0].O {
		t.Errorf("quoted %v, want %v (%v)", inner.S, one[0].O, err)
	}
	if v, err := g.Replace(t.Context(), seqOf([]facts.Fact{b}), doc("one.nt")); err != nil || v != 3 {
		t.Fatal(v, err)
	}
	left, err := g.Match(3, facts.Term{}, facts.Term{}, facts.Term{}, 0)
	if info := g.Versions()[2]; err != nil || len(left) != 1 || left[0] != of[0] || info.Deleted != 2 || info.Added != 0 || info.Facts != 1 {
		t.Errorf("after Replace: %v %+v (%v)", left, info, err)
	}
}

func TestFailedImportLeavesNothing(t *testing.T) {
	g := openGraph(t, filepath.Join(t.TempDir(), "g"))
	good := facts.Fact{S: iri("a"), P: iri("p"), O: facts.Text("x")}
	boom := errors.New("boom")
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := g.Import(ctx, seqOf([]facts.Fact{good}), doc("d")); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
	_, err := g.Import(t.Context(), func(yield func(facts.Fact, error) bool) {
		_ = yield(good, nil) && yield(facts.Fact{}, boom)
	}, doc("d"))
	if !errors.Is(err, boom) {
		t.Errorf("broken source: %v", err)
	}
	var long *cache.TermError
	if _, err := g.Import(t.Context(), seqOf([]facts.Fact{good, {S: iri("a"), P: iri("p"), O: facts.Text(strings.Repeat("x", 40000))}}), doc("d")); !errors.As(err, &long) {
		t.Errorf("a term too long: %v", err)
	}
	if _, err := g.Import(t.Context(), seqOf([]facts.Fact{good, {}}), doc("d")); err == nil {
		t.Error("a fact of nothing was imported")
	}
	if g.Latest() != 0 {
		t.Errorf("%d versions", g.Latest())
	}
}

// A crash between the pending record and the end: the import is complete,
// and the next Open finishes it, however far the indexes had come.
func TestCrashInAnImport(t *testing.T) {
	for indexed := range 4 {
		dir := filepath.Join(t.TempDir(), "g")
		g := openGraph(t, dir)
		versions := history(t, g, rand.New(rand.NewPCG(4, 4)), 3)
		// Put the file into the state before the third version was published.
		err := g.db.Update(func(tx *bolt.Tx) error {
			record := bytes.Clone(tx.Bucket(bVers).Get(versionKey(3)))
			for ix := indexed; ix < 3; ix++ {
				b := tx.Bucket(bOrder[ix])
				undo := map[string][]byte{}
				b.ForEach(func(k, v []byte) error {
					if lastTurn(v) == 3 {
						undo[string(k)] = bytes.Clone(v[:len(v)-1])
					}
					return nil
				})
				for k, v := range undo {
					if err := b.Put([]byte(k), v); err != nil {
						return err
					}
				}
			}
			return errors.Join(tx.Bucket(bMeta).Put(kPending, record), tx.Bucket(bVers).Delete(versionKey(3)))
		})
		if err != nil {
			t.Fatal(err)
		}
		g.Close()
		g = openGraph(t, dir)
		for v, set := range versions {
			got, err := g.Match(int64(v), facts.Term{}, facts.Term{}, facts.Term{}, 0)
			if err != nil || !slices.Equal(lines(got), lines(set.list())) {
				t.Fatalf("%d indexes done: version %d: %d facts (%v), want %d", indexed, v, len(got), err, len(set))
			}
		}
		more := history(t, openGraph(t, filepath.Join(t.TempDir(), "h")), rand.New(rand.NewPCG(5, 5)), 1)
		if v, err := g.Import(t.Context(), seqOf(more[1].list()), doc("d")); err != nil || v != 4 {
			t.Errorf("after the crash: version %d (%v)", v, err)
		}
	}
}

// Artefacts lead a real cache through all versions, by whatever road.
func TestArtefactsOnADevice(t *testing.T) {
	r := rand.New(rand.NewPCG(6, 6))
	g := openGraph(t, filepath.Join(t.TempDir(), "garments"))
	versions := history(t, g, r, 10)
	for _, scope := range []*Scope{
		nil,
		{Roots: []facts.Term{iri("s1"), iri("s2"), iri("never")}, Depth: 2},
		{Predicates: []facts.Term{iri("p1"), iri("p3")}},
	} {
		dir := t.TempDir()
		device, err := cache.Open(filepath.Join(dir, "facts.db"))
		if err != nil {
			t.Fatal(err)
		}
		defer device.Close()
		bases, patches := 0, 0
		for now := int64(0); now < 10; {
			to := min(now+1+int64(r.IntN(3)), 10)
			a, err := g.Artefact(t.Context(), now, to, scope)
			if err != nil {
				t.Fatal(err)
			}
			if again, err := g.Artefact(t.Context(), now, to, scope); err != nil || !bytes.Equal(again.Bytes, a.Bytes) {
				t.Errorf("the same call gave other bytes (%v)", err)
			}
			if a.Base() {
				bases++
				file := filepath.Join(dir, "base")
				if a.MediaType != cache.MediaTypeBase+cache.GzipSuffix {
					t.Errorf("a base of media type %s", a.MediaType)
				}
				if err := os.WriteFile(file, a.Bytes, 0o600); err != nil {
					t.Fatal(err)
				}
				err = device.ApplyBase(a.Graph, a.To, file)
			} else {
				patches++
				if a.MediaType != cache.MediaTypePatch+cache.GzipSuffix || a.From != now {
					t.Errorf("a patch of media type %s from %d, want from %d", a.MediaType, a.From, now)
				}
				err = device.ApplyPatch(a.Graph, a.From, a.To, bytes.NewReader(a.Bytes))
			}
			if err != nil {
				t.Fatal(err)
			}
			now = to
			if got := device.Version(); got != (cache.Version{Graph: "garments", Version: now}) {
				t.Fatalf("device at %s, want %d", got, now)
			}
			var want []facts.Fact
			for f, err := range g.Facts(t.Context(), now, scope) {
				if err != nil {
					t.Fatal(err)
				}
				want = append(want, f)
			}
			if scope == nil && len(want) != len(versions[now]) {
				t.Fatalf("version %d: %d facts, want %d", now, len(want), len(versions[now]))
			}
			got, err := device.Match(facts.Term{}, facts.Term{}, facts.Term{}, 0)
			if err != nil || !slices.Equal(lines(got), lines(want)) {
				t.Fatalf("device at %d: %d facts (%v), want %d", now, len(got), err, len(want))
			}
		}
		if bases == 0 || patches == 0 {
			t.Errorf("%d bases and %d patches: want both roads taken", bases, patches)
		}
	}
	if _, err := g.Artefact(t.Context(), 3, 2, nil); !errors.Is(err, ErrNoVersion) {
		t.Errorf("backwards: %v", err)
	}
	if _, err := g.Artefact(t.Context(), 0, 99, nil); !errors.Is(err, ErrNoVersion) {
		t.Errorf("beyond the last: %v", err)
	}
}

func TestScope(t *testing.T) {
	g := openGraph(t, filepath.Join(t.TempDir(), "g"))
	const text = `
<a:shirt> <a:wash> <a:w30> .
<a:shirt> <a:bin> <a:green> .
<a:w30> <a:wash> <a:machine> .
<a:machine> <a:wash> <a:far> .
<a:hat> <a:wash> <a:w30> .
<a:shirt> <http://www.w3.org/2000/01/rdf-schema#label> "Shirt" .
<a:w30> <http://www.w3.org/2000/01/rdf-schema#label> "30 degrees" .
<a:wash> <http://www.w3.org/2000/01/rdf-schema#label> "washing" .
<a:far> <http://www.w3.org/2000/01/rdf-schema#label> "far" .
<a:shirt> <http://purl.org/dc/terms/source> <a:book> .
`
	if _, err := g.Import(t.Context(), rdf.NewReader(strings.NewReader(text)).All(), doc("d")); err != nil {
		t.Fatal(err)
	}
	shirt, wash := facts.Resource("a:shirt"), facts.Resource("a:wash")
	for _, c := range []struct {
		name  string
		scope *Scope
		want  int
	}{
		{"all", nil, 10},
		{"all by an empty scope", &Scope{}, 10},
		{"one step by one predicate", &Scope{Roots: []facts.Term{shirt}, Predicates: []facts.Term{wash}}, 5},
		{"two steps", &Scope{Roots: []facts.Term{shirt}, Predicates: []facts.Term{wash}, Depth: 2}, 6},
		{"one predicate of all", &Scope{Predicates: []facts.Term{wash}}, 9},
		{"unknown root", &Scope{Roots: []facts.Term{facts.Resource("a:no")}}, 0},
		{"unknown predicate", &Scope{Predicates: []facts.Term{facts.Resource("a:no")}}, 0},
	} {
		n := 0
		for _, err := range g.Facts(t.Context(), 1, c.scope) {
			if err != nil {
				t.Fatal(err)
			}
			n++
		}
		if n != c.want {
			t.Errorf("%s: %d facts, want %d", c.name, n, c.want)
		}
	}
	if got, err := g.Describe(1, shirt, 2, 0); err != nil || len(got) != 6 {
		t.Errorf("describe: %d facts (%v), want 6", len(got), err)
	}
}

func TestProvenanceIsKept(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "g")
	g := openGraph(t, dir)
	from := facts.Provenance{Document: "manual.txt", Begin: 3, End: 90, Extractor: "crf@2", Confidence: 0.75, At: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)}
	if _, err := g.Import(t.Context(), seqOf([]facts.Fact{{S: iri("a"), P: iri("p"), O: facts.Text("x")}}), from); err != nil {
		t.Fatal(err)
	}
	g.Close()
	info := openGraph(t, dir).Versions()[0]
	if info.Provenance != from || info.Added != 1 || info.Facts != 1 {
		b, _ := json.Marshal(info)
		t.Errorf("%s", b)
	}
}
