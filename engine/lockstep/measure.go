package lockstep

import (
	"fmt"
	"math"

	"dunlin/engine"
	"dunlin/model"
)

// Row is one value that both sides have.
type Row struct {
	A       Place       `json:"a"`
	B       Place       `json:"b"`
	Matched string      `json:"matched"` // how it is known that they are one: name or order
	Shape   model.Shape `json:"shape"`   // as a's graph has it

	Range    float64 `json:"range"`           // largest magnitude of a, or the distance of its extremes where that is less
	MaxAbs   float64 `json:"max_abs"`         // largest difference
	Relative float64 `json:"relative"`        // that by the range
	SQNR     float64 `json:"sqnr_db"`         // a's energy by the energy of the difference; 0 where nothing differs
	Elements int     `json:"elements"`        // of the value
	Differ   int     `json:"differ"`          // elements that are not equal
	Steps    *int    `json:"steps,omitempty"` // for integers of one scale: by how many steps at most

	Bound  float64 `json:"bound"` // of Relative; at 0 no element may differ
	Beyond bool    `json:"beyond"`
}

func (r *Row) beyond() bool {
	if r.Bound == 0 {
		return r.Differ > 0
	}
	return !(r.Relative <= r.Bound)
}

// worst stands for a difference that is no number: NaN or infinity on one
// side only. JSON has no infinity.
const worst = math.MaxFloat64

// measure compares the two values of a pair.
func measure(p pair) (Row, error) {
	a, err := p.a.numbers()
	if err != nil {
		return Row{}, err
	}
	b, err := p.b.numbers()
	if err != nil {
		return Row{}, err
	}
	r := Row{A: p.a.place(), B: p.b.place(), Matched: p.by, Shape: p.a.shape(), Elements: len(a)}
	if p.a.Quantised && p.b.Quantised && p.a.sameGrid(p.b) {
		r.Steps = new(int)
	}
	var signal, noise float64
	least, most := math.Inf(1), math.Inf(-1)
	for i, x := range a {
		y := b[i]
		if !math.IsInf(x, 0) && x == x {
			least, most = min(least, x), max(most, x)
			signal += x * x
		}
		if x == y || x != x && y != y {
			continue
		}
		r.Differ++
		d := math.Abs(y - x)
		if d != d || math.IsInf(d, 0) {
			r.MaxAbs = worst
			continue
		}
		noise += d * d
		r.MaxAbs = max(r.MaxAbs, d)
		if r.Steps != nil {
			*r.Steps = max(*r.Steps, int(math.Round(d/float64(p.a.Scale))))
		}
	}
	if least <= most {
		r.Range = max(most-least, math.Abs(most), math.Abs(least))
	}
	switch {
	case r.MaxAbs == 0:
	case r.MaxAbs == worst || r.Range == 0:
		r.Relative = worst
	default:
		r.Relative = r.MaxAbs / r.Range
	}
	if noise > 0 && signal > 0 {
		r.SQNR = 10 * math.Log10(signal/noise)
	}
	return r, nil
}

// shape is v's in the order of the graph.
func (v *value) shape() model.Shape {
	s := v.Tensor.Shape
	if !v.ChannelsLast || len(s) < 3 {
		return s
	}
	turned := append(model.Shape{s[0], s[len(s)-1]}, s[1:len(s)-1]...)
	return turned
}

// numbers returns the real numbers that v stands for, in the order of the
// graph.
func (v *value) numbers() ([]float64, error) {
	t := v.Tensor
	switch t.Type {
	case model.F32, model.F64, model.F16, model.I8, model.U8, model.I16, model.I32, model.I64, model.Bool:
	default:
		return nil, fmt.Errorf("value %s is %v, which is not compared", v.Value, t.Type)
	}
	list := engine.Numbers(t)
	if v.Quantised {
		for i := range list {
			list[i] = float64(v.Scale) * (list[i] - float64(v.Zero))
		}
	}
	if v.ChannelsLast && len(t.Shape) >= 3 {
		list = channelsSecond(list, t.Shape)
	}
	return list, nil
}

// channelsSecond brings the last axis of s to the place behind the first.
func channelsSecond[T any](from []T, s model.Shape) []T {
	channels := s[len(s)-1]
	pixels := 1
	for _, d := range s[1 : len(s)-1] {
		pixels *= d
	}
	to := make([]T, len(from))
	for n := range s[0] {
		base := n * pixels * channels
		for c := range channels {
			for p := range pixels {
				to[base+c*pixels+p] = from[base+p*channels+c]
			}
		}
	}
	return to
}
