package kernels

import (
	"fmt"
	"testing"
)

func TestRotation(t *testing.T) {
	for _, neighbours := range []bool{false, true} {
		for _, cos := range [][]int{{3, 1, 4}, {2, 3, 5, 4}, {4}, {5, 1}} {
			t.Run(fmt.Sprint(neighbours, cos), func(t *testing.T) {
				r := seeded(1)
				pairs := []int{2, 3, 5, 4}
				n, m := 120, 1
				for _, d := range cos {
					m *= d
				}
				x, c, s := randomF32(t, r, 2*n, true), randomF32(t, r, m, true), randomF32(t, r, 1, true)
				rotation, err := NewRotation(pairs, cos, []int{1}, neighbours)
				if err != nil {
					t.Fatal(err)
				}
				angles, walk := make([]float32, n), rotation.walk
				expand, err := NewWalk(pairs, cos)
				if err != nil {
					t.Fatal(err)
				}
				Expand(expand, angles, c)
				got, want := make([]float32, 2*n), make([]float32, 2*n)
				rotation.Run(got, x, c, s)
				for i := range n {
					a, b := i/walk.length*2*walk.length+i%walk.length, i/walk.length*2*walk.length+i%walk.length+walk.length
					if neighbours {
						a, b = 2*i, 2*i+1
					}
					want[a] = float32(x[a]*angles[i]) - float32(x[b]*s[0])
					want[b] = float32(x[a]*s[0]) + float32(x[b]*angles[i])
				}
				same(t, "rotated", got, want)
			})
		}
	}
	if _, err := NewRotation([]int{3, 4}, []int{5}, []int{4}, true); err == nil {
		t.Error("angles that do not fit were accepted")
	}
}
