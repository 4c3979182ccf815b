package cli

import (
	"fmt"
	"math"
	"slices"
	"strconv"

	"dunlin/engine"
	"dunlin/model"
	"dunlin/model/prep"
)

// answer is what a network says of a sample, as far as two networks are
// compared by it: one of the fields, by the kind of the output.
type answer struct {
	class  int
	boxes  []prep.Box
	text   string
	values []float32
}

// reader reads answers from the outputs of a program.
type reader struct {
	spec      prep.Output
	place     prep.Place
	outputs   []int    // of the program: the one that spec names, or the tensors of boxes
	keys      []string // stand-ins for the characters of a text
	tolerance float64  // of values
}

// sameOverlap is how much of the union of two boxes they must share to be one
// answer.
const sameOverlap = 0.9

// maxValues is how many numbers of an output are compared at most.
const maxValues = 64

// newReader finds the outputs of p that spec reads: those of its first output,
// or the classes of the only one where spec has none.
func newReader(g *model.Graph, p *engine.Program, spec prep.Spec, tolerance float64) (*reader, error) {
	r := &reader{spec: prep.Output{Kind: "classes"}, tolerance: tolerance}
	in := spec.Inputs[0]
	r.place = in.Place(max(1, in.Width), max(1, in.Height))
	if len(spec.Outputs) > 0 {
		r.spec = spec.Outputs[0]
	}
	names := []string{r.spec.Name}
	if r.spec.Kind == "boxes" {
		names = r.spec.Box.Tensors
	}
	for _, name := range names {
		i := slices.Index(g.Outputs, name)
		if name == "" {
			i = 0
		}
		if i < 0 {
			return nil, fmt.Errorf("preprocessing describes an output %q, the model has %q", name, g.Outputs)
		}
		if t := p.Outputs()[i].Type; t != model.F32 {
			return nil, fmt.Errorf("output %q is %v: want float32", g.Outputs[i], t)
		}
		r.outputs = append(r.outputs, i)
	}
	return r, nil
}

// what says in words what is compared.
func (r *reader) what() string {
	switch r.spec.Kind {
	case "boxes":
		return fmt.Sprintf("the same boxes, each sharing %.0f %% of the union at least", 100*sameOverlap)
	case "text":
		return "the same text"
	case "values":
		return fmt.Sprintf("each value within %g", r.tolerance)
	}
	return "the same class"
}

// read returns the answer that s holds after a run.
func (r *reader) read(s *engine.Session) (a answer, err error) {
	t := s.Output(r.outputs[0])
	switch r.spec.Kind {
	case "boxes":
		var tensors []*model.Tensor
		for _, o := range r.outputs {
			tensors = append(tensors, s.Output(o))
		}
		a.boxes, err = r.spec.Boxes(tensors, r.place, nil, nil, nil)
	case "text":
		if r.keys == nil {
			r.keys = standIns(t, r.spec.CTC.Space)
		}
		var text prep.Text
		text, err = r.spec.Text(t, r.keys)
		a.text = text.String
	case "values":
		a.values = slices.Clone(t.F32()[:min(t.Elements(), maxValues)])
		for i, v := range a.values {
			if v-v != 0 {
				err = fmt.Errorf("value %d is %v", i, v)
			}
		}
	default:
		a.class, err = best(t.F32())
	}
	return a, err
}

// standIns returns a name for each character of a text output, so that texts
// can be compared without knowing them.
func standIns(t *model.Tensor, space bool) []string {
	n := t.Shape[len(t.Shape)-1] - 1
	if space {
		n--
	}
	keys := make([]string, max(0, n))
	for i := range keys {
		keys[i] = strconv.Itoa(i) + " "
	}
	return keys
}

// best returns the class of the highest score, the lowest of equal ones.
func best(scores []float32) (int, error) {
	at := 0
	for i, v := range scores {
		if v != v {
			return 0, fmt.Errorf("score %d of %d is not a number", i, len(scores))
		}
		if v > scores[at] {
			at = i
		}
	}
	if len(scores) == 0 {
		return 0, fmt.Errorf("an output without scores")
	}
	return at, nil
}

// same reports whether two answers count as one.
func (r *reader) same(a, b answer) bool {
	switch r.spec.Kind {
	case "boxes":
		return sameBoxes(a.boxes, b.boxes)
	case "text":
		return a.text == b.text
	case "values":
		return slices.EqualFunc(a.values, b.values, func(x, y float32) bool {
			return math.Abs(float64(x)-float64(y)) <= r.tolerance
		})
	}
	return a.class == b.class
}

// sameBoxes reports whether each box of a has a box of b of its own class that
// lies on it, and the other way round.
func sameBoxes(a, b []prep.Box) bool {
	if len(a) != len(b) {
		return false
	}
	taken := make([]bool, len(b))
	for _, x := range a {
		found := -1
		for i, y := range b {
			if !taken[i] && x.Index == y.Index && overlap(x, y) >= sameOverlap && (found < 0 || overlap(x, y) > overlap(x, b[found])) {
				found = i
			}
		}
		if found < 0 {
			return false
		}
		taken[found] = true
	}
	return true
}

// overlap returns the intersection of two boxes over their union.
func overlap(a, b prep.Box) float64 {
	area := func(x0, y0, x1, y1 float32) float64 { return float64(max(0, x1-x0)) * float64(max(0, y1-y0)) }
	both := area(max(a.X0, b.X0), max(a.Y0, b.Y0), min(a.X1, b.X1), min(a.Y1, b.Y1))
	union := area(a.X0, a.Y0, a.X1, a.Y1) + area(b.X0, b.Y0, b.X1, b.Y1) - both
	if union <= 0 {
		return 0
	}
	return both / union
}
