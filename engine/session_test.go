package engine

import (
	"bytes"
	"testing"

	"dunlin/model"
)

// TestSessionsInOneArena: programs that take turns in one arena answer as each
// does in its own, whatever the one before left there.
func TestSessionsInOneArena(t *testing.T) {
	packed := 0
	a := compiled(t, floatNet(1), Options{Packed: func(*model.Tensor) { packed++ }})
	if packed == 0 {
		t.Error("no weights were packed")
	}
	b := compiled(t, integerNet(1, model.I8), Options{})
	arena := model.Aligned(max(a.Memory().Arena, b.Memory().Arena))
	for range 2 {
		for _, p := range []*Program{a, b} {
			own, shared := p.NewSession(), p.NewSessionIn(arena)
			for _, s := range []*Session{own, shared} {
				fillInputs(p, s, 1)
				if err := s.Run(); err != nil {
					t.Fatal(err)
				}
			}
			for o := range p.Outputs() {
				if !bytes.Equal(own.Output(o).Data, shared.Output(o).Data) {
					t.Errorf("output %d differs", o)
				}
			}
		}
	}
}
