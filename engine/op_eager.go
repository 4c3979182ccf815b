package engine

import (
	"bytes"
	"cmp"
	"fmt"
	"slices"

	"dunlin/kernels"
	"dunlin/model"
)

// The operators of this file have as many results as the data say: they run
// between two stages (see stage.go). Their functions check their inputs,
// since no infer does.

// eagerRunner is the function that runs an eager operator.
type eagerRunner = func(in []*model.Tensor) ([]*model.Tensor, error)

// eagerly wraps the function of an operator that has no attributes to check.
func eagerly(f func(n *model.Node, in []*model.Tensor) ([]*model.Tensor, error)) func(*compiler, *model.Node) (eagerRunner, error) {
	return func(_ *compiler, n *model.Node) (eagerRunner, error) {
		return func(in []*model.Tensor) ([]*model.Tensor, error) {
			made, err := f(n, in)
			for len(made) < len(n.Out) {
				made = append(made, nil)
			}
			return made, err
		}, nil
	}
}

// nonZero returns the coordinates of all elements that are not 0: [rank, k].
func nonZero(_ *model.Node, in []*model.Tensor) ([]*model.Tensor, error) {
	x := in[0]
	size, rank := x.Type.Size(), len(x.Shape)
	zero := make([]byte, size)
	isZero := func(b []byte) bool { return bytes.Equal(b, zero) }
	if x.Type == model.F32 || x.Type == model.F64 || isHalf(x.Type) { // -0 is 0 too
		isZero = func(b []byte) bool {
			return bytes.Equal(b[:size-1], zero[:size-1]) && b[size-1]&0x7f == 0
		}
	}
	var found []int
	for i := range x.Elements() {
		if !isZero(x.Data[i*size : (i+1)*size]) {
			found = append(found, i)
		}
	}
	y, err := model.NewTensor(model.I64, rank, len(found))
	if err != nil {
		return nil, err
	}
	for j, i := range found {
		for a := rank - 1; a >= 0; a-- {
			y.I64()[a*len(found)+j] = int64(i % x.Shape[a])
			i /= x.Shape[a]
		}
	}
	return []*model.Tensor{y}, nil
}

// compress returns the slices along axis for which condition is true, those
// behind its end not.
func compress(n *model.Node, in []*model.Tensor) ([]*model.Tensor, error) {
	x, condition := in[0], in[1]
	if condition.Type != model.Bool || len(condition.Shape) != 1 {
		return nil, fmt.Errorf("condition %v %v is no row of bools", condition.Type, condition.Shape)
	}
	shape, axis := x.Shape, 0
	if n.Attrs["axis"] == nil {
		shape = model.Shape{x.Elements()}
	} else {
		var err error
		if axis, err = axisOf(n.Int("axis", 0), len(shape)); err != nil {
			return nil, err
		}
	}
	var index []int64
	for i, b := range condition.Bools() {
		if b != 0 && i < shape[axis] {
			index = append(index, int64(i))
		}
	}
	if extra := condition.Bools(); len(extra) > shape[axis] {
		return nil, fmt.Errorf("condition %v for axis %d of %v", condition.Shape, axis, shape)
	}
	outer, _ := shape[:axis].Elements()
	block, _ := shape[axis+1:].Elements()
	out := slices.Clone(shape)
	out[axis] = len(index)
	y, err := model.NewTensor(x.Type, out...)
	if err != nil {
		return nil, err
	}
	kernels.Gather(y.Data, x.Data, index, outer, shape[axis], block*x.Type.Size())
	return []*model.Tensor{y}, nil
}

// unique returns the different slices of x along an axis (its different
// elements, without one), where each was seen first, which of them each slice
// is, and how often each is there.
func unique(n *model.Node, in []*model.Tensor) ([]*model.Tensor, error) {
	x := in[0]
	shape, axis := model.Shape{x.Elements()}, 0
	if n.Attrs["axis"] != nil {
		shape = x.Shape
		var err error
		if axis, err = axisOf(n.Int("axis", 0), len(shape)); err != nil {
			return nil, err
		}
	}
	// Slices become rows.
	order := append([]int{axis}, slices.Delete(firstInts(len(shape)), axis, axis+1)...)
	move, err := kernels.NewTranspose(x.Type.Size(), shape, order)
	if err != nil {
		return nil, err
	}
	rows := &model.Tensor{Type: x.Type, Shape: model.Shape{shape[axis], x.Elements() / max(shape[axis], 1)}, Data: model.Aligned(len(x.Data))}
	move.Run(rows.Data, x.Data)
	values, width := Numbers(rows), rows.Shape[1]
	compare := func(a, b int) int { return slices.Compare(values[a*width:(a+1)*width], values[b*width:(b+1)*width]) }
	sorted := firstInts(shape[axis])
	slices.SortStableFunc(sorted, compare)
	var first []int // rows that are new, in sorted order
	group := make([]int, shape[axis])
	for i, r := range sorted {
		if i == 0 || compare(sorted[i-1], r) != 0 {
			first = append(first, r)
		}
		group[r] = len(first) - 1
	}
	rank := firstInts(len(first)) // position in the output of each group
	if n.Int("sorted", 1) == 0 {
		byPlace := firstInts(len(first))
		slices.SortFunc(byPlace, func(a, b int) int { return cmp.Compare(first[a], first[b]) })
		for place, g := range byPlace {
			rank[g] = place
		}
	}
	where, inverse, counts := make([]int64, len(first)), make([]int64, shape[axis]), make([]int64, len(first))
	for g, r := range first {
		where[rank[g]] = int64(r)
	}
	for r, g := range group {
		inverse[r] = int64(rank[g])
		counts[rank[g]]++
	}
	out := slices.Clone(shape)
	out[axis] = len(first)
	y, err := model.NewTensor(x.Type, out...)
	if err != nil {
		return nil, err
	}
	outer, _ := shape[:axis].Elements()
	block, _ := shape[axis+1:].Elements()
	kernels.Gather(y.Data, x.Data, where, outer, shape[axis], block*x.Type.Size())
	return []*model.Tensor{
		y, model.Of(model.I64, where, len(where)), model.Of(model.I64, inverse, len(inverse)), model.Of(model.I64, counts, len(counts)),
	}, nil
}

// firstInts returns 0, 1, ..., n-1.
func firstInts(n int) []int {
	list := make([]int, n)
	for i := range list {
		list[i] = i
	}
	return list
}

// nonMaxSuppression chooses boxes: for each batch and class those with the
// best scores that overlap none chosen before by more than a threshold.
// Each is a row [batch, class, box] of the result.
func nonMaxSuppression(n *model.Node, in []*model.Tensor) ([]*model.Tensor, error) {
	boxes, scores := in[0], in[1]
	if boxes.Type != model.F32 || scores.Type != model.F32 || len(boxes.Shape) != 3 || len(scores.Shape) != 3 ||
		boxes.Shape[2] != 4 || boxes.Shape[0] != scores.Shape[0] || boxes.Shape[1] != scores.Shape[2] {
		return nil, fmt.Errorf("boxes %v %v with scores %v %v", boxes.Type, boxes.Shape, scores.Type, scores.Shape)
	}
	scalar := func(i int, or float64) (float64, error) {
		if i >= len(in) || in[i] == nil {
			return or, nil
		}
		if in[i].Elements() != 1 {
			return 0, fmt.Errorf("input %d is %v, not a single number", i, in[i].Shape)
		}
		return Numbers(in[i])[0], nil
	}
	most, err := scalar(2, 0)
	if err != nil {
		return nil, err
	}
	overlap, err := scalar(3, 0)
	if err != nil {
		return nil, err
	}
	floor, err := scalar(4, 0)
	if err != nil {
		return nil, err
	}
	s := kernels.Suppression{
		Most: int(max(min(most, float64(boxes.Shape[1])), 0)), Overlap: float32(overlap), Floor: float32(floor),
		HasFloor: len(in) > 4 && in[4] != nil, Centres: n.Int("center_point_box", 0) == 1,
	}
	var rows []int64
	count, classes := boxes.Shape[1], scores.Shape[1]
	for b := range boxes.Shape[0] {
		for k := range classes {
			list := boxes.F32()[b*count*4 : (b+1)*count*4]
			for _, box := range s.Choose(list, scores.F32()[(b*classes+k)*count:][:count]) {
				rows = append(rows, int64(b), int64(k), int64(box))
			}
		}
	}
	return []*model.Tensor{model.Of(model.I64, rows, len(rows)/3, 3)}, nil
}
