// Package rdf reads and writes facts as text: N-Triples (RDF 1.1 and 1.2)
// and the part of RDF Patch that dunlin's deltas need. Start with NewReader,
// NewWriter and NewPatchReader.
//
// Its promise: it accepts what the W3C's N-Triples tests call good and
// refuses what they call bad, with line and column; memory is bounded by the
// longest line allowed, whatever the input; and what it writes is canonical
// N-Triples (one text for one fact), which it reads back to an equal value.
//
// It does not resolve relative IRIs, and it does not rename blank nodes:
// their labels mean something within one document only, and whoever merges
// documents keeps them apart (facts/graph does).
package rdf

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"iter"
	"unicode/utf8"

	"dunlin/facts"
)

// DefaultMaxLine bounds a line, in bytes, unless Reader.MaxLine says
// otherwise. A literal is on one line, so this also bounds a literal.
const DefaultMaxLine = 1 << 20

// SyntaxError says where a text is not what it should be.
type SyntaxError struct {
	Line   int // from 1
	Column int // from 1, in characters
	Msg    string
}

func (e *SyntaxError) Error() string {
	return fmt.Sprintf("line %d, column %d: %s", e.Line, e.Column, e.Msg)
}

// Reader reads N-Triples, one fact at a time.
type Reader struct {
	// MaxLine is the longest line accepted, in bytes; 0 means DefaultMaxLine.
	MaxLine int

	lines lines
	p     parser
	err   error
}

// NewReader returns a Reader of the N-Triples in r.
func NewReader(r io.Reader) *Reader {
	return &Reader{lines: lines{r: bufio.NewReaderSize(r, 64<<10)}}
}

// Read returns the next fact, io.EOF at the end, or a *SyntaxError (or the
// error of the reader below). After an error it returns the same one.
func (r *Reader) Read() (facts.Fact, error) {
	for r.err == nil {
		var line []byte
		if line, r.err = r.lines.next(r.MaxLine); r.err != nil {
			break
		}
		if r.err = r.p.start(line, r.lines.n); r.err != nil {
			break
		}
		if r.p.atEnd() {
			continue
		}
		if r.p.keyword("VERSION") {
			r.err = r.p.version()
			continue
		}
		var f facts.Fact
		if f, r.err = r.p.statement(); r.err == nil {
			return f, nil
		}
	}
	return facts.Fact{}, r.err
}

// Line returns the number of the line read last, from 1.
func (r *Reader) Line() int { return r.lines.n }

// All yields each fact; the first error is yielded with a zero fact and ends
// the sequence. It can be ranged over once.
func (r *Reader) All() iter.Seq2[facts.Fact, error] {
	return func(yield func(facts.Fact, error) bool) {
		for {
			f, err := r.Read()
			if err == io.EOF {
				return
			}
			if !yield(f, err) || err != nil {
				return
			}
		}
	}
}

// lines splits input at CR, LF or CR LF and bounds each line.
type lines struct {
	r      *bufio.Reader
	n      int    // number of the line returned last
	long   []byte // a line that spans several fillings of r
	skipLF bool
}

// next returns the next line without its end; it is valid until the next
// call. The last line may lack an end.
func (l *lines) next(limit int) ([]byte, error) {
	if limit <= 0 {
		limit = DefaultMaxLine
	}
	l.long = l.long[:0]
	for {
		if _, err := l.r.Peek(1); err != nil {
			if err != io.EOF {
				return nil, err
			}
			if len(l.long) == 0 {
				return nil, io.EOF
			}
			l.n++
			return l.long, nil
		}
		chunk, _ := l.r.Peek(l.r.Buffered())
		if l.skipLF {
			l.skipLF = false
			if chunk[0] == '\n' {
				l.r.Discard(1)
				continue
			}
		}
		end := bytes.IndexByte(chunk, '\n')
		seen := chunk
		if end >= 0 {
			seen = chunk[:end]
		}
		if cr := bytes.IndexByte(seen, '\r'); cr >= 0 {
			end = cr
			l.skipLF = true
		}
		size := end
		if end < 0 {
			size = len(chunk)
		}
		if len(l.long)+size > limit {
			return nil, &SyntaxError{Line: l.n + 1, Column: 1, Msg: fmt.Sprintf("line is longer than %d bytes", limit)}
		}
		if end < 0 {
			l.long = append(l.long, chunk...)
			l.r.Discard(len(chunk))
			continue
		}
		l.n++
		line := chunk[:end]
		if len(l.long) > 0 {
			l.long = append(l.long, line...)
			line = l.long
		}
		l.r.Discard(end + 1)
		return line, nil
	}
}

// ParseTerm reads one term as it is written in N-Triples, <http://…>,
// "text"@en, _:b0.
func ParseTerm(s string) (facts.Term, error) {
	var p parser
	if err := p.start([]byte(s), 1); err != nil {
		return facts.Term{}, err
	}
	p.space()
	t, err := p.term(0)
	if err != nil {
		return facts.Term{}, err
	}
	if !p.atEnd() {
		return facts.Term{}, p.fail("a single term ends here, but more text follows")
	}
	return t, nil
}

// Quote returns the triple term that speaks of f.
func Quote(f facts.Fact) facts.Term {
	return facts.Term{Kind: facts.TripleTerm, Value: string(appendTriple(nil, f))}
}

// Unquote returns the fact that the triple term t speaks of.
func Unquote(t facts.Term) (facts.Fact, error) {
	if t.Kind != facts.TripleTerm {
		return facts.Fact{}, fmt.Errorf("unquote %s: not a triple term", Format(t))
	}
	var p parser
	if err := p.start([]byte(t.Value), 1); err != nil {
		return facts.Fact{}, err
	}
	f, err := p.triple(1)
	if err != nil {
		return facts.Fact{}, err
	}
	if !p.atEnd() {
		return facts.Fact{}, p.fail("the quoted triple ends here, but more text follows")
	}
	return f, nil
}

// start makes p ready for a line, which must be UTF-8 as a whole.
func (p *parser) start(line []byte, n int) error {
	p.b, p.i, p.line = line, 0, n
	if utf8.Valid(line) {
		return nil
	}
	for p.i < len(line) {
		r, size := utf8.DecodeRune(line[p.i:])
		if r == utf8.RuneError && size == 1 {
			break
		}
		p.i += size
	}
	return p.fail("not UTF-8: byte 0x%02X", line[p.i])
}
