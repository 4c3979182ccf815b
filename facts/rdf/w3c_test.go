package rdf

import (
	"bytes"
	"os"
	"path/filepath"
	"regexp"
	"testing"

	"dunlin/internal/shared"
)

// The W3C's manifests are Turtle; the parts used here are regular enough for
// one expression: a test's name, its type, its input and, where it has one,
// its result.
var entry = regexp.MustCompile(`(?s)\n\s*(?:<#|:|trs:)([\w.-]+)>?\s+(?:rdf:type|a)\s+rdft:(TestNTriples\w+)(.*?)\n\s*\.`)

var (
	action = regexp.MustCompile(`mf:action\s+<([^>]+)>`)
	result = regexp.MustCompile(`mf:result\s+<([^>]+)>`)
	listed = regexp.MustCompile(`(?s)mf:entries\s*\((.*?)\n\s*\)`)
	member = regexp.MustCompile(`(?m)^\s*(?:<#|:|trs:)([\w.-]+)>?\s*$`)
)

func TestW3C(t *testing.T) {
	for _, suite := range []struct {
		dir  string
		want int // tests in the suite, so that a manifest misread cannot pass
	}{
		{"rdf11/rdf-n-triples", 70},
		{"rdf12/rdf-n-triples/syntax", 29},
		{"rdf12/rdf-n-triples/c14n", 41},
	} {
		dir := shared.Dir(t, "conformance", "rdf", "rdf", filepath.FromSlash(suite.dir))
		manifest := readFile(t, dir, "manifest.ttl")
		names := member.FindAllSubmatch(listed.FindSubmatch(manifest)[1], -1)
		run := 0
		for _, m := range entry.FindAllSubmatch(manifest, -1) {
			name, kind, body := string(m[1]), string(m[2]), m[3]
			input := action.FindSubmatch(body)
			if input == nil {
				t.Fatalf("%s: %s has no action", suite.dir, name)
			}
			run++
			t.Run(suite.dir+"/"+name, func(t *testing.T) {
				w3cCase(t, kind, readFile(t, dir, string(input[1])), func() []byte {
					return readFile(t, dir, string(result.FindSubmatch(body)[1]))
				})
			})
		}
		if run != len(names) || run != suite.want {
			t.Errorf("%s: ran %d tests, the manifest lists %d, want %d", suite.dir, run, len(names), suite.want)
		}
	}
}

func w3cCase(t *testing.T, kind string, input []byte, want func() []byte) {
	var out bytes.Buffer
	w := NewWriter(&out)
	var failed error
	for f, err := range NewReader(bytes.NewReader(input)).All() {
		if failed = err; err != nil {
			break
		}
		if err := w.Write(f); err != nil {
			t.Errorf("the reader returned what the writer refuses: %v", err)
		}
	}
	if err := w.Flush(); err != nil {
		t.Fatal(err)
	}
	switch kind {
	case "TestNTriplesPositiveSyntax":
		if failed != nil {
			t.Errorf("refused: %v", failed)
		}
	case "TestNTriplesNegativeSyntax":
		if failed == nil {
			t.Errorf("accepted, as\n%s", out.Bytes())
		}
	case "TestNTriplesPositiveC14N":
		if failed != nil {
			t.Fatalf("refused: %v", failed)
		}
		if want := want(); !bytes.Equal(out.Bytes(), want) {
			t.Errorf("got  %q\nwant %q", out.Bytes(), want)
		}
	default:
		t.Errorf("test of unknown type %s", kind)
	}
}

func readFile(t *testing.T, dir, name string) []byte {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(dir, name))
	if err != nil {
		t.Fatal(err)
	}
	return b
}
