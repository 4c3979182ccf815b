package quant

import (
	"maps"
	"math"
	"slices"
)

// useless is the divergence, in nats, beyond which it does not matter how
// much worse a candidate is.
const useless = 0.2

// sizeCounts is how much the size counts for the distance between candidates
// beside what they lose.
const sizeCounts = 0.2

// choose returns after how many of the steps candidates are made: after none,
// after the first of them that leave only protected layers out of int8, after
// all, and in between so that each loses about as much more than the one
// before. Where nothing is lost few are made: each is a test that can fail by
// chance, and the walk ends there.
func (f *front) choose(all []step, must int) []int {
	size, at := f.path(all)
	chosen := map[int]bool{0: true, must: true, len(all): true}
	for left := f.steps() - len(chosen); left > 0; left-- {
		best, widest := -1, 0.0
		marks := slices.Sorted(maps.Keys(chosen))
		for i := 1; i < len(marks); i++ {
			a, b := marks[i-1], marks[i]
			if gap := at[b] - at[a]; b-a > 1 && gap > widest {
				best, widest = middle(at, a, b), gap
			}
		}
		if best < 0 {
			break
		}
		chosen[best] = true
	}
	var out []int
	for _, k := range slices.Backward(slices.Sorted(maps.Keys(chosen))) {
		if n := len(out); n == 0 || k == must || size[k] > size[out[n-1]] {
			out = append(out, k)
		}
	}
	slices.Reverse(out)
	return out
}

// path returns the size after so many steps, and how far along the way that
// is. The square root of the divergence is about in proportion to the share
// of answers that change (Pinsker's inequality bounds it by that).
func (f *front) path(all []step) (size, at []float64) {
	size, at = make([]float64, len(all)+1), make([]float64, len(all)+1)
	lost := make([]float64, len(all)+1)
	for k := range size {
		of := f.after(all[:k]...)
		for _, l := range f.layers {
			size[k] += float64(l.at(of(l)).Bytes)
		}
		if k > 0 {
			lost[k] = lost[k-1] + math.Max(0, all[k-1].kl)
		}
	}
	share := func(v, of float64) float64 {
		if of > 0 {
			return v / of
		}
		return 0
	}
	last := len(all)
	for k := range at {
		at[k] = share(math.Sqrt(math.Min(lost[k], useless)), math.Sqrt(math.Min(lost[last], useless))) +
			sizeCounts*share(math.Log(size[0]/size[k]), math.Log(size[0]/size[last]))
	}
	return size, at
}

// middle returns the step strictly between a and b that is nearest to half
// the way.
func middle(at []float64, a, b int) int {
	half, best := (at[a]+at[b])/2, a+1
	for k := a + 1; k < b; k++ {
		if math.Abs(at[k]-half) < math.Abs(at[best]-half) {
			best = k
		}
	}
	return best
}
