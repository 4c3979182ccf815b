package cli

import (
	"bytes"
	"os"
	"runtime"
	"testing"

	"dunlin/model"
)

// TestShelf: what is on the shelf is read as it was, before and after it has
// rested, and leaves no file; what is small, or failed to go there, stays.
func TestShelf(t *testing.T) {
	g := model.New("g")
	values := make([]float32, shelved/4+3)
	for i := range values {
		values[i] = float32(i)
	}
	g.AddConst("large", model.Of(model.F32, values, len(values)))
	g.AddConst("small", model.Of(model.F32, values[:3], 3))
	want, small := g.Const("large").Clone(), g.Const("small")
	dir := t.TempDir()
	s := newShelf(dir)
	s.put(g)
	if files, err := os.ReadDir(dir); err != nil || len(files) > 0 {
		t.Errorf("files are left: %v %v", files, err)
	}
	if g.Const("small") != small || s.place(small) != nil {
		t.Error("a small constant was moved")
	}
	if on := s.place(g.Const("large")) != nil; on != (runtime.GOOS == "linux") {
		t.Errorf("on the shelf: %v", on)
	}
	for range 2 {
		if have := g.Const("large"); !have.Shape.Equal(want.Shape) || !bytes.Equal(have.Data, want.Data) {
			t.Fatal("it is another")
		}
		s.rest(g.Const("large"))
		s.rest(small)
	}
	had := g.Const("large")
	s.put(g)
	if g.Const("large") != had {
		t.Error("it was moved again")
	}
	if err := s.close(); err != nil {
		t.Error(err)
	}

	g = model.New("g")
	g.AddConst("large", want)
	closed := newShelf(dir)
	_ = closed.file.Close()
	for _, s := range []*shelf{nil, closed} {
		s.put(g)
		s.rest(want)
		if g.Const("large") != want {
			t.Error("what cannot be written was moved")
		}
	}
}
