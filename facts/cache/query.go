package cache

import (
	"bytes"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"dunlin/facts"
)

// Match returns the facts that fit a pattern, in which the zero Term stands
// for any term; at most limit of them, all where limit is 0 or less. Their
// order is that of an index: the same for the same cache, otherwise without
// meaning.
func (c *Cache) Match(s, p, o facts.Term, limit int) (found []facts.Fact, err error) {
	err = c.view(func(r *reader) error {
		found, err = r.match(s, p, o, limit)
		return err
	})
	return found, err
}

// Describe returns the facts about an entity, and where depth is above 1 the
// facts about what those name, and so on; nearest first, each once, at most
// limit of them (all where limit is 0 or less).
func (c *Cache) Describe(entity facts.Term, depth, limit int) (found []facts.Fact, err error) {
	if entity == (facts.Term{}) {
		return nil, nil
	}
	err = c.view(func(r *reader) error {
		seen := map[facts.Term]bool{entity: true}
		level := []facts.Term{entity}
		for ; depth >= 1 && len(level) > 0; depth-- {
			var next []facts.Term
			for _, s := range level {
				left := 0
				if limit > 0 {
					if left = limit - len(found); left == 0 {
						return nil
					}
				}
				about, err := r.match(s, facts.Term{}, facts.Term{}, left)
				if err != nil {
					return err
				}
				found = append(found, about...)
				for _, f := range about {
					if f.O.Kind != facts.Literal && !seen[f.O] {
						seen[f.O] = true
						next = append(next, f.O)
					}
				}
			}
			level = next
		}
		return nil
	})
	return found, err
}

// maxAbout bounds the facts of one entity that Enrich looks at.
const maxAbout = 4096

// Enrich returns what the cache knows of an entity, ready to be attached to
// a result: its own facts, then those of the classes it is a subclass of,
// one step up (without the class's own superclass). What an answer says
// already is left out: the source, and the labels that name the thing.
// Predicates and objects carry their labels: one without a
// language first, then an English one, then the first by language. Each
// part is in the order of predicate and object; at most limit answers, all
// where limit is 0 or less.
func (c *Cache) Enrich(entityIRI string, limit int) (all []facts.Answer, err error) {
	err = c.view(func(r *reader) error {
		e := enriching{r: r, graph: r.version.String(), name: r.version.Graph, limit: limit, labels: map[facts.Term]string{}}
		own, err := e.about(facts.Resource(entityIRI))
		if err != nil {
			return err
		}
		if err := e.add(own); err != nil {
			return err
		}
		e.inherited = true
		for _, f := range own {
			if e.full() {
				break
			}
			if f.P.Value != facts.RDFSSubOf || f.O.Kind != facts.IRI || f.O.Value == entityIRI {
				continue
			}
			of, err := e.about(f.O)
			if err != nil {
				return err
			}
			if err := e.add(of); err != nil {
				return err
			}
		}
		all = e.answers
		return nil
	})
	return all, err
}

// enriching gathers the answers of one Enrich.
type enriching struct {
	r           *reader
	graph, name string
	limit       int
	labels      map[facts.Term]string
	answers     []facts.Answer
	inherited   bool
}

// full reports whether there are answers enough.
func (e *enriching) full() bool { return e.limit > 0 && len(e.answers) >= e.limit }

// about returns the facts of a subject, in the order of predicate and object.
// Pointers are sorted: a sort of structs is 10 KB more in the agent for each.
func (e *enriching) about(subject facts.Term) ([]*facts.Fact, error) {
	found, err := e.r.match(subject, facts.Term{}, facts.Term{}, maxAbout)
	if err != nil {
		return nil, err
	}
	all := make([]*facts.Fact, len(found))
	for i := range found {
		all[i] = &found[i]
	}
	slices.SortFunc(all, func(a, b *facts.Fact) int {
		if c := compareTerms(a.P, b.P); c != 0 {
			return c
		}
		return compareTerms(a.O, b.O)
	})
	return all, nil
}

// add turns the facts of one subject into answers.
func (e *enriching) add(about []*facts.Fact) error {
	source := e.name
	for _, f := range about {
		if f.P.Value == facts.DCTermsSource {
			source = f.O.Value
			break
		}
	}
	for _, f := range about {
		if e.full() {
			break
		}
		if f.P.Value == facts.RDFSLabel || f.P.Value == facts.DCTermsSource || e.inherited && f.P.Value == facts.RDFSSubOf {
			continue
		}
		a := facts.Answer{
			Subject: f.S.Value, Predicate: f.P.Value, Object: f.O.Value, Source: source, Graph: e.graph,
		}
		var err error
		if a.Label, err = e.label(f.P); err != nil {
			return err
		}
		if f.O.Kind == facts.IRI {
			a.ObjectIRI = f.O.Value
			if a.Object, err = e.label(f.O); err != nil {
				return err
			}
		}
		e.answers = append(e.answers, a)
	}
	return nil
}

// label returns the best label of t, or the end of its IRI.
func (e *enriching) label(t facts.Term) (string, error) {
	if s, ok := e.labels[t]; ok {
		return s, nil
	}
	found, err := e.r.match(t, facts.Resource(facts.RDFSLabel), facts.Term{}, maxAbout)
	if err != nil {
		return "", err
	}
	best := facts.Term{}
	for _, f := range found {
		if f.O.Kind == facts.Literal && (best.Kind == 0 || labelRank(f.O) < labelRank(best) ||
			labelRank(f.O) == labelRank(best) && compareTerms(f.O, best) < 0) {
			best = f.O
		}
	}
	s := best.Value
	if best.Kind == 0 {
		s = t.Value[strings.LastIndexAny(t.Value, "/#:")+1:]
		if s == "" {
			s = t.Value
		}
	}
	e.labels[t] = s
	return s, nil
}

func labelRank(t facts.Term) int {
	switch {
	case t.Lang == "":
		return 0
	case t.Lang == "en":
		return 1
	case strings.HasPrefix(t.Lang, "en-"):
		return 2
	}
	return 3
}

func compareTerms(a, b facts.Term) int {
	return bytes.Compare(appendTerm(nil, a), appendTerm(nil, b))
}

// Search returns the entities whose rdfs:label is the given text, in any
// language: as written, and where that finds nothing also in lower case, in
// upper case, and with the first letter or each word's first letter in upper
// case. At most limit of them, all where limit is 0 or less.
func (c *Cache) Search(label string, limit int) (found []facts.Term, err error) {
	if label == "" {
		return nil, nil
	}
	err = c.view(func(r *reader) error {
		pred, err := r.id(&r.preds, appendTerm(nil, facts.Resource(facts.RDFSLabel)))
		if err != nil || pred == 0 {
			return err
		}
		langs, err := r.languages()
		if err != nil {
			return err
		}
		for _, text := range spellings(label) {
			for _, kind := range append([]string{"S"}, langs...) {
				left := 0
				if limit > 0 {
					left = limit - len(found)
				}
				some, err := r.labelled(pred, []byte(kind+text), left)
				if err != nil {
					return err
				}
				for _, t := range some {
					if !slices.Contains(found, t) {
						found = append(found, t)
					}
				}
				if limit > 0 && len(found) >= limit {
					return nil
				}
			}
			if len(found) > 0 {
				return nil
			}
		}
		return nil
	})
	return found, err
}

// spellings returns label and its usual changes of case, each once.
func spellings(label string) []string {
	lower := strings.ToLower(label)
	first, size := utf8.DecodeRuneInString(lower)
	sentence := string(unicode.ToUpper(first)) + lower[size:]
	words := []rune(lower)
	for i, r := range words {
		if i == 0 || unicode.IsSpace(words[i-1]) {
			words[i] = unicode.ToUpper(r)
		}
	}
	var all []string
	for _, s := range []string{label, lower, sentence, string(words), strings.ToUpper(label)} {
		if !slices.Contains(all, s) {
			all = append(all, s)
		}
	}
	return all
}

// maxLanguages bounds how many languages Search looks through.
const maxLanguages = 64

// languages returns the beginnings ("L", tag, NUL) of the tagged literals in
// the dictionary, by skipping from one to the next.
func (r *reader) languages() (all []string, err error) {
	for next := []byte("L"); len(all) < maxLanguages; {
		text, err := r.firstNode(next)
		if err != nil || len(text) == 0 || text[0] != 'L' {
			return r.newLanguages(all), err
		}
		head, _, ok := bytes.Cut(text, []byte{0})
		if !ok {
			return all, ErrCorrupt
		}
		all = append(all, string(head)+"\x00")
		next = append(bytes.Clone(head), 1) // above every literal of this language
	}
	return r.newLanguages(all), nil
}

// newLanguages adds the languages that only patches brought.
func (r *reader) newLanguages(all []string) []string {
	for _, text := range r.nodes.added.texts {
		if text[0] != 'L' {
			continue
		}
		if head, _, ok := strings.Cut(text, "\x00"); ok && !slices.Contains(all, head+"\x00") && len(all) < maxLanguages {
			all = append(all, head+"\x00")
		}
	}
	return all
}

// firstNode returns the first node of the base at or above text.
func (r *reader) firstNode(text []byte) (found []byte, err error) {
	c := r.nodes.seps(r.tx).Cursor()
	k, v := c.Seek(text)
	if k == nil || !bytes.Equal(k, text) {
		if k == nil {
			k, v = c.Last()
		} else if pk, pv := c.Prev(); pk != nil {
			k, v = pk, pv
		} else {
			k, v = c.First()
		}
	}
	for ; k != nil && found == nil; k, v = c.Next() {
		r.buf, err = readDict(r.nodes.blocks(r.tx).Get(v), r.buf, func(_ int, term []byte) bool {
			if bytes.Compare(term, text) >= 0 {
				found = bytes.Clone(term)
			}
			return found == nil
		})
		if err != nil {
			return nil, err
		}
	}
	return found, nil
}

// labelled returns the subjects of predicate pred with the object text.
func (r *reader) labelled(pred uint32, text []byte, limit int) (found []facts.Term, err error) {
	o, err := r.id(&r.nodes, text)
	if err != nil || o == 0 {
		return nil, err
	}
	var ids []uint32
	err = r.scan(triple{0, pred, o}, func(t triple) bool {
		ids = append(ids, t[0])
		return limit <= 0 || len(ids) < limit
	})
	for _, id := range ids {
		if err != nil {
			return nil, err
		}
		var t facts.Term
		t, err = r.term(&r.nodes, id)
		found = append(found, t)
	}
	return found, err
}

// match is Match within a transaction.
func (r *reader) match(s, p, o facts.Term, limit int) (found []facts.Fact, err error) {
	pat, ok, err := r.pattern(s, p, o)
	if err != nil || !ok {
		return nil, err
	}
	var bad error
	err = r.scan(pat, func(t triple) bool {
		f, err := r.fill(pat, t, s, p, o)
		if bad = err; bad == nil {
			found = append(found, f)
		}
		return bad == nil && (limit <= 0 || len(found) < limit)
	})
	if err == nil {
		err = bad
	}
	return found, err
}

// fill makes a fact of ids; what the pattern gave is not looked up again.
func (r *reader) fill(pat, t triple, s, p, o facts.Term) (f facts.Fact, err error) {
	f = facts.Fact{S: s, P: p, O: o}
	if pat[0] == 0 {
		f.S, err = r.term(&r.nodes, t[0])
	}
	if pat[1] == 0 && err == nil {
		f.P, err = r.term(&r.preds, t[1])
	}
	if pat[2] == 0 && err == nil {
		f.O, err = r.term(&r.nodes, t[2])
	}
	return f, err
}
