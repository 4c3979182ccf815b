package rdf

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"strings"
	"unicode/utf8"

	"dunlin/facts"
)

// Writer writes canonical N-Triples
// (https://www.w3.org/TR/rdf12-n-triples/, section "Canonical").
type Writer struct {
	w   *bufio.Writer
	buf []byte
}

// NewWriter returns a Writer to w. Call Flush at the end.
func NewWriter(w io.Writer) *Writer { return &Writer{w: bufio.NewWriterSize(w, 64<<10)} }

// Write writes one fact; a fact that N-Triples cannot say (see Check) is an
// error and nothing is written.
func (w *Writer) Write(f facts.Fact) error {
	if err := Check(f); err != nil {
		return err
	}
	w.buf = append(appendTriple(w.buf[:0], f), " .\n"...)
	_, err := w.w.Write(w.buf)
	return err
}

// Flush writes out what is buffered.
func (w *Writer) Flush() error { return w.w.Flush() }

// AppendFact appends f as a canonical line with its end.
func AppendFact(dst []byte, f facts.Fact) []byte {
	return append(appendTriple(dst, f), " .\n"...)
}

// Format returns t as it is written in canonical N-Triples.
func Format(t facts.Term) string { return string(AppendTerm(nil, t)) }

func appendTriple(dst []byte, f facts.Fact) []byte {
	dst = append(AppendTerm(dst, f.S), ' ')
	dst = append(AppendTerm(dst, f.P), ' ')
	return AppendTerm(dst, f.O)
}

// AppendTerm appends t as it is written in canonical N-Triples. A term that
// is not valid (see Check) is still written without harm to its neighbours,
// but cannot be read back.
func AppendTerm(dst []byte, t facts.Term) []byte {
	switch t.Kind {
	case facts.IRI:
		return appendIRI(dst, t.Value)
	case facts.Blank:
		return append(append(dst, "_:"...), t.Value...)
	case facts.TripleTerm:
		dst = append(append(dst, "<<( "...), t.Value...)
		return append(dst, " )>>"...)
	case facts.Literal:
		dst = appendQuoted(dst, t.Value)
		switch t.Datatype {
		case facts.XSDString:
		case facts.RDFLang, facts.RDFDirLang:
			dst = append(append(dst, '@'), t.Lang...)
			switch t.Dir {
			case facts.LTR:
				dst = append(dst, "--ltr"...)
			case facts.RTL:
				dst = append(dst, "--rtl"...)
			}
		default:
			dst = appendIRI(append(dst, "^^"...), t.Datatype)
		}
		return dst
	}
	return append(dst, '*')
}

func appendIRI(dst []byte, iri string) []byte {
	dst = append(dst, '<')
	for i := range len(iri) {
		if c := iri[i]; badInIRI[c] {
			dst = fmt.Appendf(dst, `\u%04X`, c)
		} else {
			dst = append(dst, c)
		}
	}
	return append(dst, '>')
}

func appendQuoted(dst []byte, s string) []byte {
	dst = append(dst, '"')
	for _, r := range s {
		switch r {
		case '\b':
			dst = append(dst, `\b`...)
		case '\t':
			dst = append(dst, `\t`...)
		case '\n':
			dst = append(dst, `\n`...)
		case '\f':
			dst = append(dst, `\f`...)
		case '\r':
			dst = append(dst, `\r`...)
		case '"':
			dst = append(dst, `\"`...)
		case '\\':
			dst = append(dst, `\\`...)
		default:
			if r < 0x20 || r == 0x7F || r == 0xFFFE || r == 0xFFFF {
				dst = fmt.Appendf(dst, `\u%04X`, r)
			} else {
				dst = utf8.AppendRune(dst, r)
			}
		}
	}
	return append(dst, '"')
}

// Check reports why f is not a fact: a literal as subject, a relative IRI, a
// character that cannot stand where it stands. What a Reader returns always
// passes; it is for facts made by a program.
func Check(f facts.Fact) error {
	if f.S.Kind != facts.IRI && f.S.Kind != facts.Blank {
		return fmt.Errorf("fact %s: the subject is neither an IRI nor a blank node", appendTriple(nil, f))
	}
	if f.P.Kind != facts.IRI {
		return fmt.Errorf("fact %s: the predicate is not an IRI", appendTriple(nil, f))
	}
	for _, t := range []facts.Term{f.S, f.P, f.O} {
		if err := CheckTerm(t); err != nil {
			return fmt.Errorf("fact %s: %w", appendTriple(nil, f), err)
		}
	}
	return nil
}

// CheckTerm reports why t is not a term that N-Triples can say.
func CheckTerm(t facts.Term) error {
	if t.Kind != facts.Literal && (t.Datatype != "" || t.Lang != "" || t.Dir != 0) {
		return fmt.Errorf("term %s: only a literal has a datatype, language or direction", Format(t))
	}
	switch t.Kind {
	case facts.IRI:
		return checkIRI(t.Value)
	case facts.Blank:
		for i, r := range t.Value {
			if i == 0 && !labelStart(r) || !labelPart(r) || r == utf8.RuneError {
				return fmt.Errorf("blank node label %q: character %q is not allowed there", t.Value, r)
			}
		}
		if t.Value == "" || strings.HasSuffix(t.Value, ".") {
			return fmt.Errorf("blank node label %q: want at least one character, the last not a dot", t.Value)
		}
		return nil
	case facts.TripleTerm:
		f, err := Unquote(t)
		if err != nil {
			return fmt.Errorf("triple term: %w", err)
		}
		if Quote(f) != t {
			return errors.New("triple term: its text is not canonical (make it with rdf.Quote)")
		}
		return nil
	case facts.Literal:
		return checkLiteral(t)
	}
	return fmt.Errorf("term of kind %d: want an IRI, a blank node, a literal or a triple term", t.Kind)
}

func checkIRI(iri string) error {
	if !absolute(iri) {
		return fmt.Errorf("IRI %q: it has no scheme", iri)
	}
	if !utf8.ValidString(iri) {
		return fmt.Errorf("IRI %q: not UTF-8", iri)
	}
	for i := range len(iri) {
		if badInIRI[iri[i]] {
			return fmt.Errorf("IRI %q: character %q is not allowed", iri, iri[i])
		}
	}
	return nil
}

func checkLiteral(t facts.Term) error {
	if !utf8.ValidString(t.Value) {
		return fmt.Errorf("literal %.80q: not UTF-8", t.Value)
	}
	tagged := t.Datatype == facts.RDFLang || t.Datatype == facts.RDFDirLang
	if !tagged {
		if t.Lang != "" || t.Dir != facts.NoDirection {
			return fmt.Errorf("literal %.80q: a language needs datatype %s", t.Value, facts.RDFLang)
		}
		return checkIRI(t.Datatype)
	}
	for _, c := range []byte(t.Lang) {
		if !isAlphaNum(c) && c != '-' {
			return fmt.Errorf("language tag %q: character %q", t.Lang, c)
		}
	}
	lang, dir, err := language(t.Lang)
	switch {
	case err != nil:
		return err
	case dir != facts.NoDirection || lang != t.Lang:
		return fmt.Errorf("language tag %q: want lower case, the direction kept in Dir", t.Lang)
	case t.Dir > facts.RTL || (t.Dir != facts.NoDirection) != (t.Datatype == facts.RDFDirLang):
		return fmt.Errorf("literal %.80q: datatype %s does not go with its direction", t.Value, t.Datatype)
	}
	return nil
}
