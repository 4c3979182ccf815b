package prep

import (
	"cmp"
	"fmt"
	"math"
	"slices"

	"dunlin/model"
)

// Box is a thing that a network sees, in pixels of the original picture: 0, 0
// is its upper left corner.
type Box struct {
	Index          int    // of the class
	Label          string // "class 7" where there is no name for it
	Entity         string // IRI of the entity in the graph of facts, or ""
	Score          float32
	X0, Y0, X1, Y1 float32 // within the picture
	Points         []Point // eyes, nose, …, where the network gives them; they may lie outside
}

// Point is a place on the original picture, in pixels.
type Point struct{ X, Y float32 }

// Boxes appends to dst what the network sees, the highest score first, and
// returns it.
//
//	tensors  float32, the network's outputs in the order of o.Box.Tensors
//	at       Input.Place for the picture that was the input
//
// Boxes under o.Box.Score and those that overlap a better one by more than
// o.Box.Overlap are left out; at most o.Top remain. Of equal scores the one
// that stands first in the tensors is better. labels may be nil where the
// Spec has Names.
//
// It fails where a tensor has another type or shape than the decoder reads,
// or holds a score or a corner that is not a number.
func (o Output) Boxes(tensors []*model.Tensor, at Place, labels []string, entities map[string]string, dst []Box) ([]Box, error) {
	if o.Kind != "boxes" || o.Box == nil {
		return dst, fmt.Errorf("prep: output %q: has %s, no boxes", o.Name, o.Kind)
	}
	decode, known := decoders[o.Box.Decoder]
	if !known || len(tensors) != decode.tensors {
		return dst, fmt.Errorf("prep: output %q: decoder %q with %d tensors, want %d", o.Name, o.Box.Decoder, len(tensors), decode.tensors)
	}
	found, err := decode.boxes(tensors, at.inputW, at.inputH, o.Box.Score)
	if err != nil {
		return dst, fmt.Errorf("prep: output %q: %s: %w", o.Name, o.Box.Decoder, err)
	}
	for i := range found {
		if err := found[i].bound(); err != nil {
			return dst, fmt.Errorf("prep: output %q: %s: box %d: %w", o.Name, o.Box.Decoder, i, err)
		}
	}
	for _, f := range suppress(found, o.Box.Overlap, o.Box.Across, o.Top) {
		b := f.on(at)
		b.Label = o.label(f.class, labels)
		b.Entity = entities[b.Label]
		dst = append(dst, b)
	}
	return dst, nil
}

// found is a box in pixels of the input.
type found struct {
	class          int
	score          float64
	x0, y0, x1, y1 float64
	points         [][2]float64
}

// bound moves what lies absurdly far away to where float32 and the areas of
// suppress hold it.
func (f *found) bound() error {
	move := func(v *float64) bool {
		*v = min(max(*v, -1e9), 1e9)
		return *v == *v
	}
	ok := move(&f.x0) && move(&f.y0) && move(&f.x1) && move(&f.y1)
	for i := range f.points {
		ok = ok && move(&f.points[i][0]) && move(&f.points[i][1])
	}
	if !ok {
		return fmt.Errorf("a corner or a point is not a number")
	}
	return nil
}

// on returns f on the original picture.
func (f found) on(at Place) Box {
	b := Box{Index: f.class, Score: float32(f.score)}
	within := func(v float64, limit int) float32 { return float32(min(max(v, 0), float64(limit))) }
	x, y := at.point(f.x0, f.y0)
	b.X0, b.Y0 = within(x, at.width), within(y, at.height)
	x, y = at.point(f.x1, f.y1)
	b.X1, b.Y1 = within(x, at.width), within(y, at.height)
	for _, p := range f.points {
		x, y := at.point(p[0], p[1])
		b.Points = append(b.Points, Point{float32(x), float32(y)})
	}
	return b
}

// suppress returns at most top of the boxes, the best first: each box that is
// kept drops those after it that share with it more than overlap of what the
// two cover together (greedy non-maximum suppression). Boxes of another class
// are dropped only where across is set, boxes without an area always.
func suppress(boxes []found, overlap float64, across bool, top int) []found {
	boxes = slices.DeleteFunc(boxes, func(f found) bool { return f.area() <= 0 })
	slices.SortStableFunc(boxes, func(a, b found) int { return cmp.Compare(b.score, a.score) })
	var kept []found
	for _, f := range boxes {
		if len(kept) == top {
			break
		}
		hidden := slices.ContainsFunc(kept, func(k found) bool {
			return (across || k.class == f.class) && overlapping(k, f) > overlap
		})
		if !hidden {
			kept = append(kept, f)
		}
	}
	return kept
}

func (f found) area() float64 { return float64(max(0, f.x1-f.x0) * max(0, f.y1-f.y0)) }

// overlapping returns the intersection of a and b over their union.
func overlapping(a, b found) float64 {
	both := found{x0: max(a.x0, b.x0), y0: max(a.y0, b.y0), x1: min(a.x1, b.x1), y1: min(a.y1, b.y1)}.area()
	return both / (a.area() + b.area() - both)
}

// checkScore fails where a score is not a number.
func checkScore(name string, i int, v float32) error {
	if math.IsNaN(float64(v)) {
		return fmt.Errorf("%s %d is not a number", name, i)
	}
	return nil
}
