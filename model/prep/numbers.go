package prep

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"

	"dunlin/model"
)

// maxFields bounds the numbers of an input.
const maxFields = 4096

// Numbers writes the numbers of a line, as a sensor sends it, to dst.
//
//	dst  float32, in.Shape(); value = (x*in.Scale - mean) / std, in float64, then rounded
//
// The line has a number for each of in.Fields: in their order, with commas,
// semicolons or space between; as a JSON array; or as a JSON object with the
// fields as keys, where other keys are left alone. It fails on any other line
// and where a value is not finite.
func (in Input) Numbers(line []byte, dst *model.Tensor) error {
	if in.Kind != "values" {
		return fmt.Errorf("prep: input %q: takes a %s, no values", in.Name, in.Kind)
	}
	if dst.Type != model.F32 || !dst.Shape.Equal(in.Shape()) {
		return fmt.Errorf("prep: input %q: tensor is %v %v, want float32 %v", in.Name, dst.Type, dst.Shape, in.Shape())
	}
	numbers, err := in.parse(strings.TrimSpace(string(line)))
	if err == nil && len(numbers) != len(in.Fields) {
		err = fmt.Errorf("%d numbers, want %d", len(numbers), len(in.Fields))
	}
	if err != nil {
		return fmt.Errorf("prep: input %q: line %.60q: %w", in.Name, line, err)
	}
	for i, x := range numbers {
		mean, std := pick(in.Mean, i, 0), pick(in.Std, i, 1)
		// The conversion keeps the product from being fused with the difference.
		v := float32((float64(x*in.Scale) - mean) / std)
		if v != v || math.IsInf(float64(v), 0) {
			return fmt.Errorf("prep: input %q: %s is %v, which becomes %v", in.Name, in.Fields[i], x, v)
		}
		dst.F32()[i] = v
	}
	return nil
}

// parse returns the numbers of a line in the order of the fields.
func (in Input) parse(line string) (numbers []float64, err error) {
	switch {
	case strings.HasPrefix(line, "["):
		return numbers, json.Unmarshal([]byte(line), &numbers)
	case strings.HasPrefix(line, "{"):
		var all map[string]json.RawMessage
		if err := json.Unmarshal([]byte(line), &all); err != nil {
			return nil, err
		}
		for _, name := range in.Fields {
			text, ok := all[name]
			if !ok {
				return nil, fmt.Errorf("no field %q", name)
			}
			x, err := strconv.ParseFloat(string(text), 64)
			if err != nil {
				return nil, fmt.Errorf("field %q is %.20q: want a number", name, text)
			}
			numbers = append(numbers, x)
		}
		return numbers, nil
	}
	between := func(r rune) bool { return r == ',' || r == ';' || r == ' ' || r == '\t' }
	for field := range strings.FieldsFuncSeq(line, between) {
		x, err := strconv.ParseFloat(field, 64)
		if err != nil {
			return nil, fmt.Errorf("%.20q: want a number", field)
		}
		numbers = append(numbers, x)
	}
	return numbers, nil
}

// pick returns value i of a list that has one for all, one for each, or none.
func pick(list []float64, i int, otherwise float64) float64 {
	switch len(list) {
	case 0:
		return otherwise
	case 1:
		return list[0]
	}
	return list[i]
}

func (in Input) checkNumbers() error {
	if in.Rules != nil || in.Color != "" || in.Width != 0 || in.Height != 0 || in.Fit != "" || in.Keep != 0 || in.Pad != 0 || in.Resize != "" {
		return errors.New("values have no color, width, height, fit, keep, pad, resize or table sound")
	}
	n := len(in.Fields)
	if n < 1 || n > maxFields {
		return fmt.Errorf("%d fields: want 1 to %d", n, maxFields)
	}
	seen := map[string]bool{}
	for _, f := range in.Fields {
		if f == "" || seen[f] {
			return fmt.Errorf("field %q is empty, or there twice", f)
		}
		seen[f] = true
	}
	if err := oneOf("layout", in.Layout, "flat"); err != nil {
		return err
	}
	for _, list := range [][]float64{in.Mean, in.Std} {
		if len(list) > 1 && len(list) != n {
			return fmt.Errorf("%d means and %d stds for %d fields: want one, or one for each", len(in.Mean), len(in.Std), n)
		}
	}
	return nil
}
