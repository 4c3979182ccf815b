package probe

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"

	"dunlin/facts"
)

// maxFacts bounds the facts of one answer, and is the default limit's cap.
const maxFacts = 1000

// term is a node of the graph in JSON.
type term struct {
	Kind     string `json:"kind"` // "iri", "blank", "literal", "triple"
	Value    string `json:"value"`
	Datatype string `json:"datatype,omitempty"`
	Lang     string `json:"lang,omitempty"`
}

type triple struct {
	S term `json:"s"`
	P term `json:"p"`
	O term `json:"o"`
}

func termOf(t facts.Term) term {
	kinds := map[facts.TermKind]string{
		facts.IRI: "iri", facts.Blank: "blank", facts.Literal: "literal", facts.TripleTerm: "triple",
	}
	return term{Kind: kinds[t.Kind], Value: t.Value, Datatype: t.Datatype, Lang: t.Lang}
}

func triplesOf(found []facts.Fact) []triple {
	out := make([]triple, len(found))
	for i, f := range found {
		out[i] = triple{termOf(f.S), termOf(f.P), termOf(f.O)}
	}
	return out
}

// query answers one kind of question from the parameters of the URL.
type query func(f Facts, q url.Values, limit int) (any, error)

func (s *server) facts(ask query) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		f := s.node.Facts()
		if f == nil {
			fail(w, http.StatusServiceUnavailable, "there are no facts on this device")
			return
		}
		q := r.URL.Query()
		limit, err := number(q, "limit", 100, maxFacts)
		if err != nil {
			fail(w, http.StatusBadRequest, "%v", err)
			return
		}
		found, err := ask(f, q, limit)
		switch {
		case errors.Is(err, ErrInput):
			fail(w, http.StatusBadRequest, "%v", err)
		case err != nil:
			fail(w, http.StatusInternalServerError, "%v", err)
		default:
			answer(w, http.StatusOK, found)
		}
	}
}

func number(q url.Values, name string, or, most int) (int, error) {
	text := q.Get(name)
	if text == "" {
		return or, nil
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 1 || n > most {
		return 0, fmt.Errorf("%s %q: want 1 to %d: %w", name, text, most, ErrInput)
	}
	return n, nil
}

// match answers ?s=IRI&p=IRI&o=IRI, or &o_text=TEXT[&o_lang=en]; what is left
// out is any.
func match(f Facts, q url.Values, limit int) (any, error) {
	var pattern [3]facts.Term
	for i, name := range []string{"s", "p", "o"} {
		if iri := q.Get(name); iri != "" {
			pattern[i] = facts.Resource(iri)
		}
	}
	if q.Has("o_text") {
		if q.Has("o") {
			return nil, fmt.Errorf("o and o_text: give one: %w", ErrInput)
		}
		pattern[2] = facts.Text(q.Get("o_text"))
		if lang := q.Get("o_lang"); lang != "" {
			pattern[2] = facts.LangText(q.Get("o_text"), lang)
		}
	}
	found, err := f.Match(pattern[0], pattern[1], pattern[2], limit)
	return map[string]any{"facts": triplesOf(found)}, err
}

// describe answers ?iri=IRI[&depth=1].
func describe(f Facts, q url.Values, limit int) (any, error) {
	iri, err := required(q, "iri")
	if err != nil {
		return nil, err
	}
	depth, err := number(q, "depth", 1, 4)
	if err != nil {
		return nil, err
	}
	found, err := f.Describe(facts.Resource(iri), depth, limit)
	return map[string]any{"facts": triplesOf(found)}, err
}

// search answers ?label=TEXT.
func search(f Facts, q url.Values, limit int) (any, error) {
	label, err := required(q, "label")
	if err != nil {
		return nil, err
	}
	found, err := f.Search(label, limit)
	terms := make([]term, len(found))
	for i, t := range found {
		terms[i] = termOf(t)
	}
	return map[string]any{"entities": terms}, err
}

// enrich answers ?iri=IRI with what a result about it carries.
func enrich(f Facts, q url.Values, limit int) (any, error) {
	iri, err := required(q, "iri")
	if err != nil {
		return nil, err
	}
	found, err := f.Enrich(iri, limit)
	if found == nil {
		found = []facts.Answer{}
	}
	return map[string]any{"answers": found}, err
}

func required(q url.Values, name string) (string, error) {
	if v := q.Get(name); v != "" {
		return v, nil
	}
	return "", fmt.Errorf("parameter %s is missing: %w", name, ErrInput)
}
