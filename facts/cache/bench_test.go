package cache

import (
	"bufio"
	"bytes"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"dunlin/facts"
)

// The figures of this package come from WordNet as Debian ships it (package
// wordnet-base; DUNLIN_WORDNET names its folder elsewhere):
//
//	go test ./facts/cache -run '^$' -bench WordNet -benchtime 20000x -v
//
// B/fact is the file's size for each fact; point is IRI and predicate to
// object; describe is all facts of an entity; written/patch is what 200
// durable patches of 500 facts added and 500 deleted write to the disk each,
// folds included.

// wordNet returns WordNet's synsets and lemmas as facts.
func wordNet(b *testing.B) factSet {
	b.Helper()
	dir := os.Getenv("DUNLIN_WORDNET")
	if dir == "" {
		dir = "/usr/share/wordnet"
	}
	set := factSet{}
	for _, pos := range []string{"noun", "verb", "adj", "adv"} {
		f, err := os.Open(filepath.Join(dir, "data."+pos))
		if err != nil {
			b.Skipf("skipped: no WordNet in %s (Debian: wordnet-base)", dir)
		}
		in := bufio.NewScanner(f)
		in.Buffer(nil, 1<<20)
		for in.Scan() {
			if !strings.HasPrefix(in.Text(), "  ") { // the licence
				synset(set, pos, in.Text())
			}
		}
		f.Close()
	}
	return set
}

var escapes = strings.NewReplacer("`", "%60", "\"", "%22")

func wnIRI(format string, args ...any) facts.Term {
	return facts.Resource("http://wn.example/" + escapes.Replace(fmt.Sprintf(format, args...)))
}

// synset reads one line of a data file (wndb(5WN)): offset, lexicographer
// file, kind, words, pointers to other synsets, gloss.
func synset(set factSet, pos, line string) {
	head, gloss, _ := strings.Cut(line, " | ")
	w := strings.Fields(head)
	id := func(offset, kind string) facts.Term {
		if kind == "s" {
			kind = "a"
		}
		return wnIRI("synset/%s-%s", offset, kind)
	}
	label := facts.Resource(facts.RDFSLabel)
	add := func(s, p, o facts.Term) { set[facts.Fact{S: s, P: p, O: o}] = true }
	s := id(w[0], w[2])
	add(s, facts.Resource(facts.RDFType), wnIRI("class/%s", pos))
	add(s, wnIRI("p/lexfile"), wnIRI("lexfile/%s", w[1]))
	add(s, wnIRI("p/gloss"), facts.Text(strings.TrimSpace(gloss)))
	words, _ := strconv.ParseInt(w[3], 16, 32)
	w = w[4:]
	for i := range words {
		word, _, _ := strings.Cut(w[0], "(")
		lemma, text := wnIRI("lemma/%s", word), facts.Text(strings.ReplaceAll(word, "_", " "))
		if i == 0 {
			add(s, label, text)
		}
		add(lemma, label, text)
		add(lemma, facts.Resource(facts.RDFType), wnIRI("class/lemma"))
		add(lemma, wnIRI("p/sense"), s)
		w = w[2:]
	}
	pointers, _ := strconv.Atoi(w[0])
	w = w[1:]
	for range pointers {
		add(s, wnIRI("p/ptr%x", w[0]), id(w[1], w[2]))
		w = w[4:]
	}
}

func percentile(all []time.Duration, p float64) float64 {
	slices.Sort(all)
	return float64(all[int(p*float64(len(all)-1))].Nanoseconds()) / 1000
}

func BenchmarkWordNet(b *testing.B) {
	set := wordNet(b)
	path := filepath.Join(b.TempDir(), "base")
	begun := time.Now()
	if err := Build(path, "wordnet", 1, set.seq()); err != nil {
		b.Fatal(err)
	}
	built := time.Since(begun)
	c := open(b, filepath.Join(b.TempDir(), "facts.db"))
	begun = time.Now()
	if err := c.ApplyBase("wordnet", 1, path); err != nil {
		b.Fatal(err)
	}
	installed := time.Since(begun)
	total := len(set)
	var all []facts.Fact // a sample; the rest goes, so that its garbage collection is not measured
	for f := range set {
		if all = append(all, f); len(all) == 110_000 {
			break
		}
	}
	set = nil
	runtime.GC()
	b.Logf("%d facts, %d nodes; built at %.0fk facts/s, checked and installed in %v; %.1f B/fact",
		total, c.base.nodes, float64(total)/built.Seconds()/1000, installed.Round(time.Millisecond),
		float64(c.Stats().FileBytes)/float64(total))
	ask := func(name string, query func(f facts.Fact) (int, error)) {
		b.Run(name, func(b *testing.B) {
			r := rand.New(rand.NewPCG(1, 1))
			took := make([]time.Duration, 0, b.N)
			for range b.N {
				f := all[r.IntN(len(all))]
				begun := time.Now()
				n, err := query(f)
				took = append(took, time.Since(begun))
				if err != nil || n == 0 {
					b.Fatal(n, err)
				}
			}
			b.ReportMetric(percentile(took, 0.5), "p50-us")
			b.ReportMetric(percentile(took, 0.99), "p99-us")
			b.ReportMetric(float64(c.Stats().FileBytes)/float64(total), "B/fact")
		})
	}
	wild := facts.Term{}
	ask("point", func(f facts.Fact) (int, error) {
		got, err := c.Match(f.S, f.P, wild, 1)
		return len(got), err
	})
	ask("describe", func(f facts.Fact) (int, error) {
		got, err := c.Match(f.S, wild, wild, 0)
		return len(got), err
	})
	ask("enrich", func(f facts.Fact) (int, error) {
		got, err := c.Enrich(f.S.Value, 32)
		return len(got), err
	})
	patches(b, c, all)
}

// patches measures what durable patches cost the card.
func patches(b *testing.B, c *Cache, all []facts.Fact) {
	const count, each = 200, 500
	r := rand.New(rand.NewPCG(2, 2))
	r.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
	var bodies [][]byte
	for v := range int64(count) {
		var adds []facts.Fact
		for i := range each {
			adds = append(adds, facts.Fact{S: all[r.IntN(len(all))].S, P: wnIRI("p/note"), O: facts.Text(fmt.Sprintf("note %d of patch %d", i, v))})
		}
		bodies = append(bodies, patch(b, "wordnet", v+1, v+2, adds, all[v*each:(v+1)*each]))
	}
	before := diskWritten(b)
	var took []time.Duration
	for v, body := range bodies {
		begun := time.Now()
		if err := c.ApplyPatch("wordnet", int64(v+1), int64(v+2), bytes.NewReader(body)); err != nil {
			b.Fatal(err)
		}
		took = append(took, time.Since(begun))
	}
	written := float64(diskWritten(b)-before) / count
	b.Logf("%d patches of %d changes: %.0f KB written each, folds included; apply p50 %.1f ms, longest %.0f ms",
		count, 2*each, written/1000, percentile(took, 0.5)/1000, percentile(took, 1)/1000)
}

// diskWritten returns the bytes that this process caused to be written.
func diskWritten(b *testing.B) int64 {
	text, err := os.ReadFile("/proc/self/io")
	if err != nil {
		b.Skipf("skipped: %v", err)
	}
	_, rest, _ := strings.Cut(string(text), "\nwrite_bytes: ")
	n, _ := strconv.ParseInt(strings.Fields(rest)[0], 10, 64)
	return n
}
