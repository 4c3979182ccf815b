package kernels

import (
	"cmp"
	"slices"
)

// Suppression is non-maximum suppression, as ONNX's NonMaxSuppression has it.
type Suppression struct {
	Most     int     // boxes of a class at most
	Overlap  float32 // intersection over union above which the lower score loses
	Floor    float32 // boxes with scores not above it are never chosen,
	HasFloor bool    // where this is set
	Centres  bool    // boxes are centre x, y, width, height; else two corners y, x
}

// Choose returns the numbers of the boxes [n, 4] that stay, best first; of
// equal scores the lower number is better.
func (s Suppression) Choose(boxes, scores []float32) []int {
	var order []int
	for i, v := range scores {
		if v == v && (!s.HasFloor || v > s.Floor) {
			order = append(order, i)
		}
	}
	slices.SortFunc(order, func(a, b int) int { return cmp.Or(cmp.Compare(scores[b], scores[a]), cmp.Compare(a, b)) })
	var kept []int
	for _, i := range order {
		if len(kept) >= s.Most {
			break
		}
		if !slices.ContainsFunc(kept, func(k int) bool { return s.overlaps(boxes[4*i:4*i+4], boxes[4*k:4*k+4]) }) {
			kept = append(kept, i)
		}
	}
	return kept
}

// corners returns the low and high corner of a box.
func (s Suppression) corners(b []float32) (y0, x0, y1, x1 float32) {
	if s.Centres {
		w, h := b[2]/2, b[3]/2
		return b[1] - h, b[0] - w, b[1] + h, b[0] + w
	}
	return min(b[0], b[2]), min(b[1], b[3]), max(b[0], b[2]), max(b[1], b[3])
}

// overlaps reports whether intersection over union of two boxes is above the
// limit.
func (s Suppression) overlaps(a, b []float32) bool {
	ay0, ax0, ay1, ax1 := s.corners(a)
	by0, bx0, by1, bx1 := s.corners(b)
	h, w := min(ay1, by1)-max(ay0, by0), min(ax1, bx1)-max(ax0, bx0)
	if !(h > 0) || !(w > 0) {
		return false
	}
	common := float32(h * w)
	union := float32((ay1-ay0)*(ax1-ax0)) + float32((by1-by0)*(bx1-bx0)) - common
	return union > 0 && common/union > s.Overlap
}
