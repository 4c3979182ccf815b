package engine_test

import (
	"bytes"
	"os"
	"runtime"
	"testing"

	"dunlin/engine"
	"dunlin/internal/shared"
)

// Every real model gives the same bits in one piece and in parts, floats that
// depend on the CPU too.
func TestEveryGoldenInParts(t *testing.T) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(3)) // workers, however few CPUs there are
	list, err := os.ReadDir(shared.Dir(t, "goldens", "onnx"))
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range list {
		t.Run(d.Name(), func(t *testing.T) {
			g := readGolden(t, d.Name())
			_, one := g.session(t, engine.Options{Threads: 1})
			if err := one.Run(); err != nil {
				t.Fatal(err)
			}
			for name, o := range map[string]engine.Options{
				"as many as pay": {}, "2 threads": {Threads: 2}, "2 parts": engine.Options{}.InParts(2), "3 parts": engine.Options{}.InParts(3),
			} {
				_, s := g.session(t, o)
				for range 2 { // the second run finds what the first left in the arena
					if err := s.Run(); err != nil {
						t.Fatal(err)
					}
				}
				for i, out := range g.Outputs {
					if !bytes.Equal(s.Output(i).Data, one.Output(i).Data) {
						t.Errorf("%s: output %s differs", name, out.Name)
					}
				}
			}
		})
	}
}
