package api

import (
	"cmp"
	"net/http"
)

// maxFacts bounds one import in bytes.
const maxFacts = 1 << 30

// defaultGraph is the name of a graph that is imported without one.
const defaultGraph = "facts"

func (s *Server) listFacts(http.ResponseWriter, *http.Request) (any, error) {
	all, err := s.o.Backend.Graphs()
	return value(map[string]any{"graphs": notNil(all)}, err)
}

// importFacts makes the next version of a graph: the body, N-Triples, is added
// to it, or with ?replace=1 is all that it then holds. ?document=NAME says
// what the body is: blank nodes are the same node in one document, and never
// in two. Without it the body's digest is the name.
func (s *Server) importFacts(w http.ResponseWriter, r *http.Request) (any, error) {
	q := r.URL.Query()
	body := http.MaxBytesReader(w, r.Body, maxFacts)
	return value(s.o.Backend.ImportFacts(r.Context(), cmp.Or(q.Get("graph"), defaultGraph), q.Get("document"), &upload{w, body}, q.Get("replace") == "1"))
}

func (s *Server) describe(_ http.ResponseWriter, r *http.Request) (any, error) {
	iri := r.FormValue("iri")
	if iri == "" {
		return nil, invalid("no iri")
	}
	all, err := s.o.Backend.Describe(r.FormValue("graph"), iri)
	return value(map[string]any{"facts": notNil(all)}, err)
}
