package cache

import (
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"dunlin/facts"
	"dunlin/facts/rdf"
)

const garments = `
<http://ex/shirt> <http://www.w3.org/2000/01/rdf-schema#label> "Hemd"@de .
<http://ex/shirt> <http://www.w3.org/2000/01/rdf-schema#label> "Shirt"@en .
<http://ex/shirt> <http://www.w3.org/2000/01/rdf-schema#subClassOf> <http://ex/top> .
<http://ex/shirt> <http://ex/p#wash> <http://ex/wash30> .
<http://ex/shirt> <http://ex/p#weight> "120"^^<http://www.w3.org/2001/XMLSchema#integer> .
<http://ex/shirt> <http://purl.org/dc/terms/source> <http://ex/handbook> .
<http://ex/top> <http://www.w3.org/2000/01/rdf-schema#label> "Upper garment" .
<http://ex/top> <http://www.w3.org/2000/01/rdf-schema#subClassOf> <http://ex/garment> .
<http://ex/top> <http://ex/p#stream> "textile bank"@en .
<http://ex/garment> <http://ex/p#far> "two steps up: not inherited" .
<http://ex/wash30> <http://www.w3.org/2000/01/rdf-schema#label> "Schonwaschgang"@de .
<http://ex/wash30> <http://www.w3.org/2000/01/rdf-schema#label> "wash at 30 degrees"@en-gb .
<http://ex/p#wash> <http://www.w3.org/2000/01/rdf-schema#label> "washing" .
_:b <http://www.w3.org/2000/01/rdf-schema#label> "SHIRT"@fr--ltr .
`

func openGarments(t *testing.T) *Cache {
	t.Helper()
	base := filepath.Join(t.TempDir(), "base")
	if err := Build(base, "garments", 3, rdf.NewReader(strings.NewReader(garments)).All()); err != nil {
		t.Fatal(err)
	}
	c := open(t, filepath.Join(t.TempDir(), "facts.db"))
	if err := c.ApplyBase("garments", 3, base); err != nil {
		t.Fatal(err)
	}
	return c
}

func TestEnrich(t *testing.T) {
	c := openGarments(t)
	got, err := c.Enrich("http://ex/shirt", 0)
	if err != nil {
		t.Fatal(err)
	}
	own := func(p, label, o, iri string) facts.Answer {
		return facts.Answer{
			Subject: "http://ex/shirt", Predicate: p, Label: label, Object: o, ObjectIRI: iri,
			Source: "http://ex/handbook", Graph: "garments@3",
		}
	}
	want := []facts.Answer{
		own("http://ex/p#wash", "washing", "wash at 30 degrees", "http://ex/wash30"),
		own("http://ex/p#weight", "weight", "120", ""),
		own(facts.RDFSSubOf, "subClassOf", "Upper garment", "http://ex/top"),
		{
			Subject: "http://ex/top", Predicate: "http://ex/p#stream", Label: "stream", Object: "textile bank",
			Source: "garments", Graph: "garments@3",
		},
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got\n%+v\nwant\n%+v", got, want)
	}
	if some, err := c.Enrich("http://ex/shirt", 2); err != nil || !reflect.DeepEqual(some, want[:2]) {
		t.Errorf("limit 2: %+v (%v)", some, err)
	}
	if none, err := c.Enrich("http://ex/unknown", 0); err != nil || len(none) != 0 {
		t.Errorf("unknown entity: %+v (%v)", none, err)
	}
}

func TestSearch(t *testing.T) {
	c := openGarments(t)
	shirt, blank := facts.Resource("http://ex/shirt"), facts.Term{Kind: facts.Blank, Value: "b"}
	for text, want := range map[string][]facts.Term{
		"Hemd":          {shirt},
		"hemd":          {shirt},
		"Shirt":         {shirt},
		"SHIRT":         {blank}, // as written comes first
		"upper garment": {facts.Resource("http://ex/top")},
		"UPPER GARMENT": {facts.Resource("http://ex/top")},
		"textile bank":  nil, // an object, but of no label
		"nothing":       nil,
		"":              nil,
	} {
		if got, err := c.Search(text, 0); err != nil || !slices.Equal(got, want) {
			t.Errorf("%q: %v (%v), want %v", text, got, err, want)
		}
	}
	// A label in a language that only a patch brought.
	add := facts.Fact{S: facts.Resource("http://ex/hat"), P: facts.Resource(facts.RDFSLabel), O: facts.LangText("帽子", "zh")}
	if err := c.ApplyPatch("garments", 3, 4, strings.NewReader(string(patch(t, "garments", 3, 4, []facts.Fact{add}, nil)))); err != nil {
		t.Fatal(err)
	}
	if got, err := c.Search("帽子", 1); err != nil || !slices.Equal(got, []facts.Term{add.S}) {
		t.Errorf("after a patch: %v (%v)", got, err)
	}
}

func TestDescribe(t *testing.T) {
	c := openGarments(t)
	shirt := facts.Resource("http://ex/shirt")
	for _, q := range []struct{ depth, limit, want int }{
		{0, 0, 0}, {1, 0, 6}, {2, 0, 11}, {3, 0, 12}, {9, 0, 12}, {9, 8, 8}, {1, 6, 6},
	} {
		got, err := c.Describe(shirt, q.depth, q.limit)
		if err != nil || len(got) != q.want {
			t.Errorf("depth %d, limit %d: %d facts (%v), want %d", q.depth, q.limit, len(got), err, q.want)
		}
	}
	if got, _ := c.Describe(facts.Term{}, 1, 0); len(got) != 0 {
		t.Errorf("any entity at all: %d facts", len(got))
	}
}
