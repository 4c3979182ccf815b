package rdf

import (
	"bytes"
	"errors"
	"io"
	"strings"
	"testing"
	"testing/iotest"

	"dunlin/facts"
)

func TestErrorsSayWhere(t *testing.T) {
	for _, c := range []struct{ in, want string }{
		{"<a:s> <a:p> <a:o>\n", "line 1, column 18: found the end of the line, want the final dot"},
		{"# x\r\n\r\n<a:s> <a:p> é .", "line 3, column 13: object starts with 'é', want an IRI in <> or a blank node"},
		{"<a:s> <a:p> \"é\\q\" .", `line 1, column 15: bad escape, want \uXXXX or \UXXXXXXXX`},
		{"<a:s> <a:p> \"x\" . <a:s>", "line 1, column 19: found '<' after the final dot, want the end of the line"},
		{"<a:s> <a:p> \"\xff\" .", "line 1, column 14: not UTF-8: byte 0xFF"},
		{`<a:s> <a:p> "\uD800" .`, "line 1, column 14: bad escape: U+D800 is not a character"},
		{`<a:s> <a:\u003E> <a:o> .`, `line 1, column 10: IRI has the character '>' in disguise`},
		{"<s> <a:p> <a:o> .", "line 1, column 1: IRI <s> is relative: it has no scheme"},
		{"<a:s> _:b <a:o> .", "line 1, column 7: predicate starts with '_', want an IRI in <>"},
		{`<a:s> <a:p> "x"@en-123456789 .`, `line 1, column 17: language tag "en-123456789" has a part of 9 characters, want 1 to 8`},
		{"VERSION 1.2", "line 1, column 9: VERSION is followed by '1', want a quoted version"},
		{"<a:s> <a:p> " + strings.Repeat("<<(<a:s><a:p>", 40), "line 1, column 432: triple terms nested deeper than 32"},
	} {
		_, err := NewReader(strings.NewReader(c.in)).Read()
		var syntax *SyntaxError
		if !errors.As(err, &syntax) || err.Error() != c.want {
			t.Errorf("%.60q:\n got  %v\n want %s", c.in, err, c.want)
		}
	}
}

func TestLines(t *testing.T) {
	const fact = "<a:s> <a:p> <a:o> ."
	for _, in := range []string{
		fact + "\n" + fact, fact + "\r" + fact + "\r", "\r\n\r\n" + fact + "\r\n" + fact + "\r\n\n",
		"VERSION \"1.2\" # announced\n" + fact + "\n" + fact,
	} {
		for _, r := range []io.Reader{strings.NewReader(in), iotest.OneByteReader(strings.NewReader(in))} {
			n := 0
			for _, err := range NewReader(r).All() {
				if err != nil {
					t.Fatalf("%q: %v", in, err)
				}
				n++
			}
			if n != 2 {
				t.Errorf("%q: %d facts, want 2", in, n)
			}
		}
	}
	r := NewReader(strings.NewReader(fact + "\r\n" + fact + "\r" + fact))
	for want := 1; want <= 3; want++ {
		if _, err := r.Read(); err != nil || r.Line() != want {
			t.Errorf("line %d, want %d (%v)", r.Line(), want, err)
		}
	}
}

func TestLineIsBounded(t *testing.T) {
	// An endless line must end in an error, not in an endless buffer.
	endless := io.MultiReader(strings.NewReader(`<a:s> <a:p> "`), letters{})
	r := NewReader(endless)
	r.MaxLine = 100_000
	_, err := r.Read()
	if err == nil || !strings.Contains(err.Error(), "line is longer than 100000 bytes") {
		t.Errorf("got %v", err)
	}
	if cap(r.lines.long) > 300_000 {
		t.Errorf("kept %d bytes of a line that may have 100000", cap(r.lines.long))
	}
	if _, again := r.Read(); again != err {
		t.Errorf("second read: %v, want the same error", again)
	}
}

type letters struct{}

func (letters) Read(b []byte) (int, error) {
	for i := range b {
		b[i] = 'x'
	}
	return len(b), nil
}

func TestEqualTermsAreEqualValues(t *testing.T) {
	for _, pair := range [][2]string{
		{`"a"`, `"\u0061"^^<http://www.w3.org/2001/XMLSchema#string>`},
		{`"a"@en-GB`, `"a"@EN-gb`},
		{`<a:\u0062>`, `<a:b>`},
		{`<<( <a:s>  <a:p> "\u0061"@EN )>>`, `<<(<a:s><a:p>"a"@en)>>`},
	} {
		a, errA := ParseTerm(pair[0])
		b, errB := ParseTerm(pair[1])
		if errA != nil || errB != nil || a != b {
			t.Errorf("%s and %s: %+v, %+v (%v, %v)", pair[0], pair[1], a, b, errA, errB)
		}
	}
}

func TestQuote(t *testing.T) {
	inner := facts.Fact{S: facts.Resource("a:s"), P: facts.Resource("a:p"), O: facts.LangText("x\ny", "EN")}
	outer := facts.Fact{S: facts.Resource("a:r"), P: facts.Resource("a:says"), O: Quote(inner)}
	for range 2 { // a triple term of a triple term, too
		if err := Check(outer); err != nil {
			t.Fatal(err)
		}
		back, err := NewReader(bytes.NewReader(AppendFact(nil, outer))).Read()
		if err != nil || back != outer {
			t.Fatalf("read back %+v (%v), want %+v", back, err, outer)
		}
		got, err := Unquote(outer.O)
		if err != nil || got != inner {
			t.Fatalf("unquoted %+v (%v), want %+v", got, err, inner)
		}
		inner, outer = outer, facts.Fact{S: outer.S, P: outer.P, O: Quote(outer)}
	}
}

func TestCheckRefuses(t *testing.T) {
	s, p := facts.Resource("a:s"), facts.Resource("a:p")
	for name, f := range map[string]facts.Fact{
		"literal as subject":       {S: facts.Text("x"), P: p, O: s},
		"blank as predicate":       {S: s, P: facts.Term{Kind: facts.Blank, Value: "b"}, O: s},
		"nothing as object":        {S: s, P: p},
		"relative IRI":             {S: facts.Resource("s"), P: p, O: s},
		"IRI that ends early":      {S: facts.Resource("a:s> <a:x"), P: p, O: s},
		"literal not UTF-8":        {S: s, P: p, O: facts.Text("\xff")},
		"literal without datatype": {S: s, P: p, O: facts.Term{Kind: facts.Literal, Value: "x"}},
		"language in upper case":   {S: s, P: p, O: facts.Term{Kind: facts.Literal, Value: "x", Datatype: facts.RDFLang, Lang: "EN"}},
		"language without type":    {S: s, P: p, O: facts.Term{Kind: facts.Literal, Value: "x", Datatype: facts.XSDString, Lang: "en"}},
		"direction without type":   {S: s, P: p, O: facts.Term{Kind: facts.Literal, Value: "x", Datatype: facts.RDFLang, Lang: "en", Dir: facts.LTR}},
		"blank label with space":   {S: facts.Term{Kind: facts.Blank, Value: "a b"}, P: p, O: s},
		"blank label with end dot": {S: facts.Term{Kind: facts.Blank, Value: "a."}, P: p, O: s},
		"triple term of noise":     {S: s, P: p, O: facts.Term{Kind: facts.TripleTerm, Value: "noise"}},
		"triple term not canonical": {
			S: s, P: p,
			O: facts.Term{Kind: facts.TripleTerm, Value: "<a:s>  <a:p> <a:o>"},
		},
	} {
		if err := Check(f); err == nil {
			t.Errorf("%s: accepted", name)
		}
		if err := NewWriter(io.Discard).Write(f); err == nil {
			t.Errorf("%s: written", name)
		}
	}
}

func FuzzReader(f *testing.F) {
	f.Add([]byte("<a:s> <a:p> \"x\\u00e9\"@en-GB--ltr . # c\r\n_:b.c <a:p> <<(<a:s><a:p>\"1\"^^<a:t>)>> ."))
	f.Add([]byte("VERSION \"1.2\"\n\n<a:\\u0062> <a:p> _:x."))
	f.Fuzz(func(t *testing.T, in []byte) {
		r := NewReader(bytes.NewReader(in))
		r.MaxLine = 4096
		for got, err := range r.All() {
			if err != nil {
				return
			}
			text := AppendFact(nil, got)
			back, err := NewReader(bytes.NewReader(text)).Read()
			if err != nil || back != got {
				t.Fatalf("%q: read back %+v (%v), want %+v", text, back, err, got)
			}
			if err := Check(got); err != nil {
				t.Fatalf("the reader returned what Check refuses: %v", err)
			}
		}
	})
}
