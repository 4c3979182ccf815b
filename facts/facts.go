// Package facts is the vocabulary of the knowledge graph: Term, Fact and
// where a fact comes from. Start with Fact and Answer.
//
// Its promise: two terms are the same node of the graph exactly when their
// Go values are equal (==), so a Fact can be a map key. The package holds no
// storage and no syntax: facts/rdf reads and writes them, facts/cache keeps
// them on a device, facts/graph on the hub.
package facts

import (
	"strings"
	"time"
)

// TermKind says what a Term is.
type TermKind uint8

// The kinds of RDF 1.2 terms (https://www.w3.org/TR/rdf12-concepts/, section 3).
const (
	IRI TermKind = iota + 1
	Blank
	Literal
	TripleTerm
)

// Direction is the base direction of a literal's text, RDF 1.2's "--ltr" and
// "--rtl"; most literals have none.
type Direction uint8

// The base directions.
const (
	NoDirection Direction = iota
	LTR
	RTL
)

// Well-known IRIs.
const (
	XSDString     = "http://www.w3.org/2001/XMLSchema#string"
	RDFLang       = "http://www.w3.org/1999/02/22-rdf-syntax-ns#langString"
	RDFDirLang    = "http://www.w3.org/1999/02/22-rdf-syntax-ns#dirLangString"
	RDFType       = "http://www.w3.org/1999/02/22-rdf-syntax-ns#type"
	RDFSLabel     = "http://www.w3.org/2000/01/rdf-schema#label"
	RDFSSubOf     = "http://www.w3.org/2000/01/rdf-schema#subClassOf"
	DCTermsSource = "http://purl.org/dc/terms/source"
)

// Term is a node of the graph. The zero Term is "any" in a pattern.
//
// For a Literal, Datatype is never empty: it is XSDString for a plain one,
// RDFLang for one with a language tag and RDFDirLang for one that has a base
// direction too, so that equal terms are equal values. Language tags do not
// depend on case and are kept in lower case for the same reason.
//
// A TripleTerm (a triple spoken of, not stated) holds the canonical
// N-Triples text of its triple, without brackets and final dot, in Value:
// that keeps Term comparable. facts/rdf makes one (Quote) and takes it apart
// (Unquote).
type Term struct {
	Kind     TermKind
	Dir      Direction // literals with Datatype RDFDirLang only
	Value    string    // the IRI, the blank node's label, the lexical form, or the quoted triple
	Datatype string    // literals only
	Lang     string    // literals with Datatype RDFLang or RDFDirLang only
}

// Resource returns the term for an IRI.
func Resource(iri string) Term { return Term{Kind: IRI, Value: iri} }

// Text returns a plain string literal.
func Text(s string) Term { return Term{Kind: Literal, Value: s, Datatype: XSDString} }

// LangText returns a literal in a language, "en" or "zh-hans".
func LangText(s, lang string) Term {
	return Term{Kind: Literal, Value: s, Datatype: RDFLang, Lang: strings.ToLower(lang)}
}

// Fact is one triple: subject, predicate, object.
type Fact struct{ S, P, O Term }

// Answer is a fact as it is attached to a result: short enough for a person
// and complete enough to be traced back.
type Answer struct {
	Subject   string `json:"s"`                // IRI of the entity
	Predicate string `json:"p"`                // IRI
	Label     string `json:"label,omitempty"`  // the predicate's own label, or the end of its IRI
	Object    string `json:"o"`                // lexical form, or the object's label where it has one
	ObjectIRI string `json:"o_iri,omitempty"`  // set where the object is an IRI
	Source    string `json:"source,omitempty"` // where the fact comes from (dcterms:source of the entity, or the graph's name)
	Graph     string `json:"graph,omitempty"`  // graph name and version, "garments@3"

	Measured *Measured `json:"measured,omitempty"` // set where a device measured the object, and no graph has it
}

// Measured is the number behind an Object such as "21.43 °C".
type Measured struct {
	Value float64 `json:"value"`
	Unit  string  `json:"unit,omitempty"` // "°C"
	AgeMS int64   `json:"age_ms"`         // when the result was made
}

// Provenance says which piece of which document a fact was read from, and by
// what; a fact that a person wrote names its file only.
type Provenance struct {
	Document   string    `json:"document,omitempty"`
	Begin      int       `json:"begin,omitempty"` // byte offsets of the sentence in Document,
	End        int       `json:"end,omitempty"`   // 0 and 0 for the whole
	Extractor  string    `json:"extractor,omitempty"`
	Confidence float64   `json:"confidence"` // 0 to 1; 1 for a fact that was stated, not inferred
	At         time.Time `json:"at,omitzero"`
}
