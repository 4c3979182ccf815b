package rdf

import (
	"fmt"
	"strings"
	"unicode/utf8"

	"dunlin/facts"
)

// maxNesting bounds how deep triple terms may stand in each other, and so
// the parser's recursion.
const maxNesting = 32

// parser reads one line. The grammar is that of
// https://www.w3.org/TR/rdf12-n-triples/, section "Grammar".
type parser struct {
	b       []byte
	i       int
	line    int
	scratch []byte
	seen    map[string]string // IRIs met before: most repeat, and share one string
}

func (p *parser) fail(format string, args ...any) error {
	at := min(p.i, len(p.b))
	return &SyntaxError{Line: p.line, Column: utf8.RuneCount(p.b[:at]) + 1, Msg: fmt.Sprintf(format, args...)}
}

func (p *parser) space() {
	for p.i < len(p.b) && (p.b[p.i] == ' ' || p.b[p.i] == '\t') {
		p.i++
	}
}

// atEnd skips space and reports whether only a comment or nothing is left.
func (p *parser) atEnd() bool {
	p.space()
	return p.i == len(p.b) || p.b[p.i] == '#'
}

// here describes the next character for an error.
func (p *parser) here() string {
	if p.i >= len(p.b) {
		return "the end of the line"
	}
	r, _ := utf8.DecodeRune(p.b[p.i:])
	return fmt.Sprintf("%q", r)
}

func (p *parser) next(s string) bool {
	if len(p.b)-p.i >= len(s) && string(p.b[p.i:p.i+len(s)]) == s {
		p.i += len(s)
		return true
	}
	return false
}

// keyword accepts word where space, a quote or the end follows it.
func (p *parser) keyword(word string) bool {
	start := p.i
	if p.next(word) {
		if p.i == len(p.b) || strings.IndexByte(" \t\"<.#", p.b[p.i]) >= 0 {
			return true
		}
	}
	p.i = start
	return false
}

// version reads what follows VERSION: RDF 1.2's announcement of itself. Any
// version is accepted: what is not understood fails where it stands.
func (p *parser) version() error {
	p.space()
	if p.i == len(p.b) || p.b[p.i] != '"' {
		return p.fail("VERSION is followed by %s, want a quoted version", p.here())
	}
	if _, err := p.quoted(); err != nil {
		return err
	}
	if !p.atEnd() {
		return p.fail("VERSION line goes on with %s", p.here())
	}
	return nil
}

// statement reads "subject predicate object .", and the end of the line.
func (p *parser) statement() (facts.Fact, error) {
	f, err := p.triple(0)
	if err != nil {
		return f, err
	}
	return f, p.dot()
}

// dot reads the final dot and the end of the line.
func (p *parser) dot() error {
	p.space()
	if !p.next(".") {
		return p.fail("found %s, want the final dot", p.here())
	}
	if !p.atEnd() {
		return p.fail("found %s after the final dot, want the end of the line", p.here())
	}
	return nil
}

// triple reads subject, predicate and object; depth counts the triple terms
// around it.
func (p *parser) triple(depth int) (f facts.Fact, err error) {
	p.space()
	if f.S, err = p.node("subject"); err != nil {
		return f, err
	}
	p.space()
	if p.i == len(p.b) || p.b[p.i] != '<' {
		return f, p.fail("predicate starts with %s, want an IRI in <>", p.here())
	}
	if f.P, err = p.iriTerm(); err != nil {
		return f, err
	}
	p.space()
	f.O, err = p.term(depth)
	return f, err
}

// node reads an IRI or a blank node.
func (p *parser) node(role string) (facts.Term, error) {
	if p.i < len(p.b) {
		switch p.b[p.i] {
		case '<':
			return p.iriTerm()
		case '_':
			return p.blank()
		}
	}
	return facts.Term{}, p.fail("%s starts with %s, want an IRI in <> or a blank node", role, p.here())
}

// term reads what may stand as an object.
func (p *parser) term(depth int) (facts.Term, error) {
	if p.i < len(p.b) {
		switch {
		case p.b[p.i] == '"':
			return p.literal()
		case p.next("<<("):
			return p.tripleTerm(depth + 1)
		}
	}
	return p.node("object")
}

// tripleTerm reads what follows "<<(".
func (p *parser) tripleTerm(depth int) (facts.Term, error) {
	if depth > maxNesting {
		return facts.Term{}, p.fail("triple terms nested deeper than %d", maxNesting)
	}
	f, err := p.triple(depth)
	if err != nil {
		return facts.Term{}, err
	}
	p.space()
	if !p.next(")>>") {
		return facts.Term{}, p.fail("found %s, want )>>", p.here())
	}
	return Quote(f), nil
}

func (p *parser) iriTerm() (facts.Term, error) {
	s, err := p.iri()
	if err != nil {
		return facts.Term{}, err
	}
	return facts.Term{Kind: facts.IRI, Value: s}, nil
}

// maxSeen bounds the IRIs remembered, so that a long document of different
// subjects costs no more memory than a short one.
const maxSeen = 4096

// iri reads <…>, which must be absolute.
func (p *parser) iri() (string, error) {
	open := p.i
	p.i++
	text, escaped := p.i, false
	for ; ; p.i++ {
		if p.i >= len(p.b) {
			return "", p.fail("IRI has no closing >")
		}
		c := p.b[p.i]
		if c == '>' {
			break
		}
		if c == '\\' {
			if !escaped {
				p.scratch, escaped = append(p.scratch[:0], p.b[text:p.i]...), true
			}
			at := p.i
			r, err := p.uchar()
			if err != nil {
				return "", err
			}
			if r < utf8.RuneSelf && badInIRI[r] {
				p.i = at
				return "", p.fail("IRI has the character %q in disguise", r)
			}
			p.scratch = utf8.AppendRune(p.scratch, r)
			p.i--
			continue
		}
		if badInIRI[c] {
			return "", p.fail("IRI has the character %q", rune(c))
		}
		if escaped {
			p.scratch = append(p.scratch, c)
		}
	}
	value := p.b[text:p.i]
	if escaped {
		value = p.scratch
	}
	if !absolute(value) {
		p.i = open
		return "", p.fail("IRI <%.80s> is relative: it has no scheme", value)
	}
	p.i++
	return p.share(value), nil
}

func (p *parser) share(b []byte) string {
	if s, ok := p.seen[string(b)]; ok {
		return s
	}
	if p.seen == nil {
		p.seen = map[string]string{}
	} else if len(p.seen) >= maxSeen {
		clear(p.seen)
	}
	s := string(b)
	p.seen[s] = s
	return s
}

// badInIRI marks the bytes that IRIREF excludes.
var badInIRI = func() (t [256]bool) {
	for c := range 0x21 {
		t[c] = true
	}
	for _, c := range []byte("<>\"{}|^`\\") {
		t[c] = true
	}
	return t
}()

// absolute reports whether iri begins with a scheme (RFC 3986, section 3.1).
func absolute[T []byte | string](iri T) bool {
	for i := range len(iri) {
		switch c := iri[i]; {
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z':
		case i > 0 && (c >= '0' && c <= '9' || c == '+' || c == '-' || c == '.'):
		case i > 0 && c == ':':
			return true
		default:
			return false
		}
	}
	return false
}

// uchar reads \uXXXX or \UXXXXXXXX.
func (p *parser) uchar() (rune, error) {
	digits := 0
	if p.i+1 < len(p.b) {
		switch p.b[p.i+1] {
		case 'u':
			digits = 4
		case 'U':
			digits = 8
		}
	}
	if digits == 0 || p.i+2+digits > len(p.b) {
		return 0, p.fail(`bad escape, want \uXXXX or \UXXXXXXXX`)
	}
	var v uint32
	for _, c := range p.b[p.i+2 : p.i+2+digits] {
		var d byte
		switch {
		case c >= '0' && c <= '9':
			d = c - '0'
		case c >= 'a' && c <= 'f':
			d = c - 'a' + 10
		case c >= 'A' && c <= 'F':
			d = c - 'A' + 10
		default:
			return 0, p.fail("bad escape: %q is not a hexadecimal digit", rune(c))
		}
		v = v<<4 | uint32(d)
	}
	if v > utf8.MaxRune || !utf8.ValidRune(rune(v)) {
		return 0, p.fail("bad escape: U+%04X is not a character", v)
	}
	p.i += 2 + digits
	return rune(v), nil
}

// blank reads _:label.
func (p *parser) blank() (facts.Term, error) {
	if !p.next("_:") {
		return facts.Term{}, p.fail("found %s, want a blank node as _:label", p.here())
	}
	start, end := p.i, p.i
	for i := start; i < len(p.b); {
		r, size := utf8.DecodeRune(p.b[i:])
		if i == start && !labelStart(r) || i > start && !labelPart(r) {
			break
		}
		i += size
		if r != '.' { // a label does not end in a dot: it is the statement's
			end = i
		}
	}
	if end == start {
		return facts.Term{}, p.fail("blank node has no label: found %s", p.here())
	}
	p.i = end
	return facts.Term{Kind: facts.Blank, Value: string(p.b[start:end])}, nil
}

// labelStart is PN_CHARS_U or a digit.
func labelStart(r rune) bool {
	switch {
	case r < utf8.RuneSelf:
		return r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '_'
	case r == 0xD7 || r == 0xF7 || r == 0x37E:
		return false
	}
	return r >= 0xC0 && r <= 0x2FF || r >= 0x370 && r <= 0x1FFF || r == 0x200C || r == 0x200D ||
		r >= 0x2070 && r <= 0x218F || r >= 0x2C00 && r <= 0x2FEF || r >= 0x3001 && r <= 0xD7FF ||
		r >= 0xF900 && r <= 0xFDCF || r >= 0xFDF0 && r <= 0xFFFD || r >= 0x10000 && r <= 0xEFFFF
}

// labelPart is PN_CHARS or a dot.
func labelPart(r rune) bool {
	return labelStart(r) || r == '-' || r == '.' || r == 0xB7 || r >= 0x300 && r <= 0x36F || r == 0x203F || r == 0x2040
}

// quoted reads a string in double quotes and its escapes.
func (p *parser) quoted() (string, error) {
	open := p.i
	p.i++
	text, escaped := p.i, false
	for p.i < len(p.b) {
		c := p.b[p.i]
		switch {
		case c == '"':
			value := p.b[text:p.i]
			if escaped {
				value = p.scratch
			}
			p.i++
			return string(value), nil
		case c == '\\':
			if !escaped {
				p.scratch, escaped = append(p.scratch[:0], p.b[text:p.i]...), true
			}
			r, err := p.escape()
			if err != nil {
				return "", err
			}
			p.scratch = utf8.AppendRune(p.scratch, r)
			continue
		case escaped:
			p.scratch = append(p.scratch, c)
		}
		p.i++
	}
	p.i = open
	return "", p.fail("string has no closing quote on its line")
}

// escape reads \n and its like, \uXXXX or \UXXXXXXXX.
func (p *parser) escape() (rune, error) {
	if p.i+1 < len(p.b) {
		const names, values = `tbnrf"'\`, "\t\b\n\r\f\"'\\"
		if k := strings.IndexByte(names, p.b[p.i+1]); k >= 0 {
			p.i += 2
			return rune(values[k]), nil
		}
	}
	return p.uchar()
}

// literal reads "text", "text"@lang, "text"@lang--ltr or "text"^^<datatype>.
func (p *parser) literal() (facts.Term, error) {
	value, err := p.quoted()
	if err != nil {
		return facts.Term{}, err
	}
	t := facts.Text(value)
	after := p.i
	p.space()
	switch {
	case p.next("^^"):
		p.space()
		at := p.i
		if p.i == len(p.b) || p.b[p.i] != '<' {
			return t, p.fail("datatype starts with %s, want an IRI in <>", p.here())
		}
		if t.Datatype, err = p.iri(); err != nil {
			return t, err
		}
		if t.Datatype == facts.RDFLang || t.Datatype == facts.RDFDirLang {
			p.i = at
			return t, p.fail("datatype %s needs a language tag, not ^^", t.Datatype)
		}
	case p.next("@"):
		at := p.i
		for p.i < len(p.b) && (isAlphaNum(p.b[p.i]) || p.b[p.i] == '-') {
			p.i++
		}
		if t.Lang, t.Dir, err = language(string(p.b[at:p.i])); err != nil {
			p.i = at
			return t, p.fail("%v", err)
		}
		t.Datatype = facts.RDFLang
		if t.Dir != facts.NoDirection {
			t.Datatype = facts.RDFDirLang
		}
	default:
		p.i = after
	}
	return t, nil
}

func isAlphaNum(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9'
}

// language splits "en-GB--ltr" into its parts, the tag in lower case. The
// subtags are 1 to 8 long as in BCP 47.
func language(s string) (string, facts.Direction, error) {
	tag, dir, found := strings.Cut(s, "--")
	var d facts.Direction
	switch {
	case found && dir == "ltr":
		d = facts.LTR
	case found && dir == "rtl":
		d = facts.RTL
	case found:
		return "", 0, fmt.Errorf("base direction %.20q, want ltr or rtl", dir)
	}
	for i, sub := range strings.Split(tag, "-") {
		if len(sub) < 1 || len(sub) > 8 {
			return "", 0, fmt.Errorf("language tag %.40q has a part of %d characters, want 1 to 8", tag, len(sub))
		}
		if i > 0 {
			continue
		}
		for _, c := range []byte(sub) {
			if c >= '0' && c <= '9' {
				return "", 0, fmt.Errorf("language tag %.40q has a digit in its first part", tag)
			}
		}
	}
	return strings.ToLower(tag), d, nil
}
