package rdf

import (
	"bytes"
	"errors"
	"slices"
	"strings"
	"testing"

	"dunlin/facts"
)

const patchText = `H id "g@3" .
H prev "g@2" .
H comment "written by hand" .
# the transaction
TX .
D <a:s> <a:p> "cold"@en .
A <a:s> <a:p> "warm \" water" .
A _:b <a:p> <<( <a:s> <a:p> <a:o> )>> .
TC .
`

func readPatch(in []byte) (PatchHeader, []Change, error) {
	r := NewPatchReader(bytes.NewReader(in))
	h, err := r.Header()
	if err != nil {
		return h, nil, err
	}
	var all []Change
	for c, err := range r.Changes() {
		if err != nil {
			return h, nil, err
		}
		all = append(all, c)
	}
	return h, all, nil
}

func writePatch(t *testing.T, h PatchHeader, all []Change) []byte {
	t.Helper()
	var out bytes.Buffer
	w, err := NewPatchWriter(&out, h)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range all {
		if err := w.Write(c); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

func TestPatch(t *testing.T) {
	h, all, err := readPatch([]byte(patchText))
	if err != nil {
		t.Fatal(err)
	}
	if h.ID != facts.Text("g@3") || h.Prev != facts.Text("g@2") || len(all) != 3 || !all[0].Delete || all[1].Delete {
		t.Fatalf("read %+v %+v", h, all)
	}
	h2, all2, err := readPatch(writePatch(t, h, all))
	if err != nil || h2 != h || !slices.Equal(all2, all) {
		t.Errorf("read back %+v %+v (%v)", h2, all2, err)
	}
	if _, none, err := readPatch([]byte("TX .\nTC .")); err != nil || len(none) != 0 {
		t.Errorf("the empty patch: %v %v", none, err)
	}
}

func TestPatchRefuses(t *testing.T) {
	for name, in := range map[string]string{
		"nothing":               "",
		"cut short":             "TX .\nA <a:s> <a:p> <a:o> .\n",
		"change before TX":      "A <a:s> <a:p> <a:o> .\nTX .\nTC .",
		"second transaction":    "TX .\nTC .\nTX .\nTC .",
		"abort":                 "TX .\nTA .",
		"prefix":                "TX .\nPA \"x\" <a:b> .\nTC .",
		"quad":                  "TX .\nA <a:s> <a:p> <a:o> <a:g> .\nTC .",
		"header inside":         "TX .\nH id \"x\" .\nTC .",
		"header twice":          "H id \"x\" .\nH id \"y\" .\nTX .\nTC .",
		"operation without gap": "TX .\nAD <a:s> <a:p> <a:o> .\nTC .",
	} {
		var syntax *SyntaxError
		if _, _, err := readPatch([]byte(in)); !errors.As(err, &syntax) {
			t.Errorf("%s: got %v, want a SyntaxError", name, err)
		}
	}
}

func TestPatchWriterLeavesNoHalfPatch(t *testing.T) {
	var out bytes.Buffer
	w, err := NewPatchWriter(&out, PatchHeader{})
	if err != nil {
		t.Fatal(err)
	}
	if err := w.Write(Change{}); err == nil {
		t.Error("wrote a fact of nothing")
	}
	if err := w.Close(); err == nil || strings.Contains(out.String(), "TC") {
		t.Errorf("closed with %v and %q", err, out.String())
	}
}

func FuzzPatchReader(f *testing.F) {
	f.Add([]byte(patchText))
	f.Add([]byte("TX .\nTC ."))
	f.Fuzz(func(t *testing.T, in []byte) {
		h, all, err := readPatch(in)
		if err != nil {
			return
		}
		h2, all2, err := readPatch(writePatch(t, h, all))
		if err != nil || h2 != h || !slices.Equal(all, all2) {
			t.Fatalf("read back %+v %+v (%v), want %+v %+v", h2, all2, err, h, all)
		}
	})
}
