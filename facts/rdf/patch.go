package rdf

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"iter"

	"dunlin/facts"
)

// A patch is the difference between two versions of a graph, in the subset
// of RDF Patch (https://afs.github.io/rdf-delta/rdf-patch.html) that needs no
// undoing while it is read: header lines, one transaction, triples only.
//
//	H id "garments@3" .
//	H prev "garments@2" .
//	TX .
//	D <http://…> <http://…> "cold wash" .
//	A <http://…> <http://…> "30 degrees" .
//	TC .
//
// Prefixes (PA, PD), aborts (TA), quads and a second transaction are errors,
// and so is an end before TC: a patch cut short is not half a patch.

// PatchHeader names the version a patch makes and the one it starts from;
// the zero Term where the patch does not say.
type PatchHeader struct{ ID, Prev facts.Term }

// Change is one line of a patch: a fact added, or deleted.
type Change struct {
	Delete bool
	Fact   facts.Fact
}

// PatchReader reads a patch, one change at a time.
type PatchReader struct {
	// MaxLine is the longest line accepted, in bytes; 0 means DefaultMaxLine.
	MaxLine int

	lines  lines
	p      parser
	header PatchHeader
	state  patchState
	err    error
}

type patchState uint8

const (
	inHeader patchState = iota
	inTransaction
	afterCommit
)

// NewPatchReader returns a PatchReader of r.
func NewPatchReader(r io.Reader) *PatchReader {
	return &PatchReader{lines: lines{r: bufio.NewReaderSize(r, 64<<10)}}
}

// Header reads up to TX, if that was not done yet, and returns what stood
// before it.
func (r *PatchReader) Header() (PatchHeader, error) {
	for r.err == nil && r.state == inHeader {
		r.step()
	}
	return r.header, r.err
}

// Next returns the next change, io.EOF after a complete patch, or a
// *SyntaxError (or the error of the reader below).
func (r *PatchReader) Next() (Change, error) {
	for r.err == nil {
		if c, ok := r.step(); ok {
			return c, nil
		}
	}
	return Change{}, r.err
}

// Changes yields each change; the first error is yielded last.
func (r *PatchReader) Changes() iter.Seq2[Change, error] {
	return func(yield func(Change, error) bool) {
		for {
			c, err := r.Next()
			if err == io.EOF {
				return
			}
			if !yield(c, err) || err != nil {
				return
			}
		}
	}
}

// step reads one line; ok says that it was a change.
func (r *PatchReader) step() (c Change, ok bool) {
	var line []byte
	if line, r.err = r.lines.next(r.MaxLine); r.err != nil {
		if r.err == io.EOF && r.state != afterCommit {
			r.err = &SyntaxError{Line: r.lines.n + 1, Column: 1, Msg: "the patch ends before TC: it was cut short"}
		}
		return c, false
	}
	if r.err = r.p.start(line, r.lines.n); r.err != nil || r.p.atEnd() {
		return c, false
	}
	p := &r.p
	switch {
	case r.state == afterCommit:
		r.err = p.fail("found %s after TC, want the end", p.here())
	case r.state == inHeader && p.keyword("H"):
		r.err = r.headerLine()
	case r.state == inHeader && p.keyword("TX"):
		r.state, r.err = inTransaction, p.dot()
	case r.state == inTransaction && p.keyword("TC"):
		r.state, r.err = afterCommit, p.dot()
	case r.state == inTransaction && p.keyword("A"):
		c.Fact, r.err = p.statement()
		return c, r.err == nil
	case r.state == inTransaction && p.keyword("D"):
		c.Delete = true
		c.Fact, r.err = p.statement()
		return c, r.err == nil
	case r.state == inHeader:
		r.err = p.fail("found %s, want H or TX", p.here())
	default:
		r.err = p.fail("found %s, want A, D or TC", p.here())
	}
	return c, false
}

// headerLine reads what follows H; names other than id and prev are allowed
// and skipped.
func (r *PatchReader) headerLine() error {
	p := &r.p
	p.space()
	start := p.i
	for p.i < len(p.b) && (isAlphaNum(p.b[p.i]) || p.b[p.i] == '-' || p.b[p.i] == '_') {
		p.i++
	}
	name := string(p.b[start:p.i])
	if name == "" {
		return p.fail("header has no name: found %s", p.here())
	}
	p.space()
	t, err := p.term(0)
	if err != nil {
		return err
	}
	slot := map[string]*facts.Term{"id": &r.header.ID, "prev": &r.header.Prev}[name]
	if slot != nil {
		if *slot != (facts.Term{}) {
			return p.fail("header %s is given twice", name)
		}
		*slot = t
	}
	return p.dot()
}

// PatchWriter writes a patch. Close must be called for it to be complete.
type PatchWriter struct {
	w   *bufio.Writer
	buf []byte
	err error
}

// NewPatchWriter returns a PatchWriter to w that has begun with the header h.
func NewPatchWriter(w io.Writer, h PatchHeader) (*PatchWriter, error) {
	pw := &PatchWriter{w: bufio.NewWriterSize(w, 64<<10)}
	for _, line := range []struct {
		name string
		term facts.Term
	}{{"id", h.ID}, {"prev", h.Prev}} {
		if line.term == (facts.Term{}) {
			continue
		}
		if err := CheckTerm(line.term); err != nil {
			return nil, fmt.Errorf("patch header %s: %w", line.name, err)
		}
		fmt.Fprintf(pw.w, "H %s %s .\n", line.name, Format(line.term))
	}
	_, err := pw.w.WriteString("TX .\n")
	return pw, err
}

// Write writes one change; a fact that cannot be written (see Check) is an
// error, after which nothing more is accepted.
func (pw *PatchWriter) Write(c Change) error {
	if pw.err != nil {
		return pw.err
	}
	if pw.err = Check(c.Fact); pw.err != nil {
		return pw.err
	}
	op := "A "
	if c.Delete {
		op = "D "
	}
	pw.buf = AppendFact(append(pw.buf[:0], op...), c.Fact)
	_, pw.err = pw.w.Write(pw.buf)
	return pw.err
}

// Close commits the patch (TC) and writes out what is buffered. After an
// error it writes no TC, so that nobody takes the rest for a whole patch.
func (pw *PatchWriter) Close() error {
	if pw.err != nil {
		return pw.err
	}
	pw.err = errors.New("patch is closed")
	if _, err := pw.w.WriteString("TC .\n"); err != nil {
		return err
	}
	return pw.w.Flush()
}
