package cache

import (
	"bytes"
	"encoding/binary"
	"fmt"

	"dunlin/facts"
	"dunlin/facts/rdf"
)

// MaxTermBytes bounds a term's text: bbolt's keys end at 32 KiB, and a
// longer literal is a document, not a fact.
const MaxTermBytes = 32000

// A term's text in the dictionary begins with a byte for its kind, and what
// many terms share comes first, so that neighbours share long beginnings.
// IRIs and language tags hold no NUL, so the first NUL ends them.
//
//	I iri    B label    S text    Q triple
//	L lang [> or < for ltr or rtl] NUL text    T datatype NUL text
func appendTerm(dst []byte, t facts.Term) []byte {
	switch {
	case t.Kind == facts.IRI:
		return append(append(dst, 'I'), t.Value...)
	case t.Kind == facts.Blank:
		return append(append(dst, 'B'), t.Value...)
	case t.Kind == facts.TripleTerm:
		return append(append(dst, 'Q'), t.Value...)
	case t.Datatype == facts.XSDString:
		return append(append(dst, 'S'), t.Value...)
	case t.Datatype == facts.RDFLang || t.Datatype == facts.RDFDirLang:
		dst = append(append(dst, 'L'), t.Lang...)
		switch t.Dir {
		case facts.LTR:
			dst = append(dst, '>')
		case facts.RTL:
			dst = append(dst, '<')
		}
		return append(append(dst, 0), t.Value...)
	}
	return append(append(append(append(dst, 'T'), t.Datatype...), 0), t.Value...)
}

// parseTerm is the inverse of appendTerm. It copies what it keeps.
func parseTerm(b []byte) (facts.Term, error) {
	if len(b) == 0 {
		return facts.Term{}, fmt.Errorf("%w: empty term", ErrCorrupt)
	}
	rest := b[1:]
	switch b[0] {
	case 'I':
		return facts.Term{Kind: facts.IRI, Value: string(rest)}, nil
	case 'B':
		return facts.Term{Kind: facts.Blank, Value: string(rest)}, nil
	case 'Q':
		return facts.Term{Kind: facts.TripleTerm, Value: string(rest)}, nil
	case 'S':
		return facts.Text(string(rest)), nil
	}
	head, text, ok := bytes.Cut(rest, []byte{0})
	if !ok || len(head) == 0 {
		return facts.Term{}, fmt.Errorf("%w: term of kind %q", ErrCorrupt, b[0])
	}
	t := facts.Term{Kind: facts.Literal, Value: string(text)}
	switch b[0] {
	case 'T':
		t.Datatype = string(head)
		return t, nil
	case 'L':
		t.Datatype = facts.RDFLang
		switch head[len(head)-1] {
		case '>':
			t.Dir = facts.LTR
		case '<':
			t.Dir = facts.RTL
		}
		if t.Dir != facts.NoDirection {
			t.Datatype, head = facts.RDFDirLang, head[:len(head)-1]
		}
		t.Lang = string(head)
		return t, nil
	}
	return facts.Term{}, fmt.Errorf("%w: term of kind %q", ErrCorrupt, b[0])
}

// checkTerm says whether b is the text of a valid term, as appendTerm writes
// it: a base from elsewhere could hold anything.
func checkTerm(b []byte) error {
	t, err := parseTerm(b)
	if err != nil {
		return err
	}
	if err := rdf.CheckTerm(t); err != nil {
		return fmt.Errorf("%w: %w", ErrCorrupt, err)
	}
	if !bytes.Equal(appendTerm(nil, t), b) {
		return fmt.Errorf("%w: term %.80q is not in its one form", ErrCorrupt, b)
	}
	return nil
}

// shared returns how many bytes a and b have in common at the start.
func shared(a, b []byte) int {
	n := min(len(a), len(b))
	for i := range n {
		if a[i] != b[i] {
			return i
		}
	}
	return n
}

// appendFront appends term to a dictionary block after prev; prev is nil for
// the block's first.
func appendFront(dst, prev, term []byte) []byte {
	n := shared(prev, term)
	dst = binary.AppendUvarint(dst, uint64(n))
	dst = binary.AppendUvarint(dst, uint64(len(term)-n))
	return append(dst, term[n:]...)
}

// readDict calls fn with each term of a dictionary block until fn returns
// false. The slice given to fn is valid for the call; buf is scratch space,
// returned for the next use.
func readDict(block, buf []byte, fn func(i int, term []byte) bool) ([]byte, error) {
	buf = buf[:0]
	for i := 0; len(block) > 0; i++ {
		keep, n := uvarint(block)
		if n == 0 || keep > uint64(len(buf)) {
			return buf, fmt.Errorf("%w: dictionary block: bad shared length", ErrCorrupt)
		}
		block = block[n:]
		more, n := uvarint(block)
		if n == 0 || more > uint64(len(block)-n) || keep+more > MaxTermBytes || i == dictBlock {
			return buf, fmt.Errorf("%w: dictionary block: bad length", ErrCorrupt)
		}
		block = block[n:]
		buf = append(buf[:keep], block[:more]...)
		block = block[more:]
		if !fn(i, buf) {
			return buf, nil
		}
	}
	return buf, nil
}
