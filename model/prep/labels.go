package prep

import (
	"bufio"
	"bytes"
	"cmp"
	"encoding/csv"
	"fmt"
	"io"
	"math"
	"slices"
	"strings"

	"dunlin/model"
)

// Label is one class of an answer.
type Label struct {
	Index  int
	Label  string  // "class 7" where there is no name for it
	Score  float32 // as the network gives it, or its softmax
	Entity string  // IRI of the entity in the graph of facts, or ""
}

// Classes appends to dst the o.Top classes of t with the highest scores, the
// best first, equal scores by the lower index, and returns it.
//
//	t  float32, [N] or [1, N]
//
// labels may be nil where the Spec has Names. Scores that are not numbers are
// an error: a network that answers NaN has no best class.
func (o Output) Classes(t *model.Tensor, labels []string, entities map[string]string, dst []Label) ([]Label, error) {
	if o.Kind != "" && o.Kind != "classes" {
		return dst, fmt.Errorf("prep: output %q: has %s, no classes", o.Name, o.Kind)
	}
	n := t.Elements()
	if t.Type != model.F32 || n == 0 || len(t.Shape) == 0 || t.Shape[len(t.Shape)-1] != n {
		return dst, fmt.Errorf("prep: output %q: tensor is %v %v, want float32 [1, N]", o.Name, t.Type, t.Shape)
	}
	scores := t.F32()
	for i, v := range scores {
		if v != v {
			return dst, fmt.Errorf("prep: output %q: score %d of %d is not a number", o.Name, i, n)
		}
	}
	if o.Softmax {
		scores = softmax(scores)
	}
	best := make([]int, 0, o.Top+1)
	for i := range scores {
		at, _ := slices.BinarySearchFunc(best, i, func(b, i int) int {
			return cmp.Or(cmp.Compare(scores[i], scores[b]), cmp.Compare(b, i))
		})
		if at == o.Top {
			continue
		}
		best = slices.Insert(best, at, i)
		best = best[:min(len(best), o.Top)]
	}
	for _, i := range best {
		l := Label{Index: i, Label: o.label(i, labels), Score: scores[i]}
		l.Entity = entities[l.Label]
		dst = append(dst, l)
	}
	return dst, nil
}

// label names class i.
func (o Output) label(i int, labels []string) string {
	if len(labels) == 0 {
		labels = o.Names
	}
	if i < len(labels) {
		return labels[i]
	}
	return fmt.Sprintf("class %d", i)
}

// softmax returns exp(x-max) / sum of it. A score is shown to a person and
// compared with a threshold; it is no part of a pack's exam, so the last bit
// of math.Exp, which CPUs differ in, does not matter here.
func softmax(x []float32) []float32 {
	top, sum := slices.Max(x), 0.0
	out := make([]float32, len(x))
	for _, v := range x {
		sum += math.Exp(float64(v - top))
	}
	for i, v := range x {
		out[i] = float32(math.Exp(float64(v-top)) / sum)
	}
	return out
}

// Limits of the files below.
const (
	maxLabels    = 1 << 16
	maxLabelSize = 1 << 10
)

// ParseLabels reads a label a line; the first is class 0.
func ParseLabels(r io.Reader) ([]string, error) {
	s := bufio.NewScanner(r)
	s.Buffer(nil, maxLabelSize)
	var labels []string
	for s.Scan() {
		if len(labels) == maxLabels {
			return nil, fmt.Errorf("labels: more than %d lines", maxLabels)
		}
		labels = append(labels, strings.TrimSpace(strings.TrimPrefix(s.Text(), "\ufeff")))
	}
	if err := s.Err(); err != nil {
		return nil, fmt.Errorf("labels: line %d: %w", len(labels)+1, err)
	}
	return labels, nil
}

// ParseEntities reads lines of "label,IRI" (RFC 4180); a first line
// "label,entity" is a heading.
func ParseEntities(r io.Reader) (map[string]string, error) {
	text, err := io.ReadAll(io.LimitReader(r, maxLabels*maxLabelSize))
	if err != nil {
		return nil, fmt.Errorf("entities: %w", err)
	}
	c := csv.NewReader(bytes.NewReader(text))
	c.FieldsPerRecord = 2
	rows, err := c.ReadAll()
	if err != nil {
		return nil, fmt.Errorf("entities: %w", err)
	}
	if len(rows) > 0 && strings.EqualFold(rows[0][0], "label") {
		rows = rows[1:]
	}
	m := make(map[string]string, len(rows))
	for _, row := range rows {
		if _, twice := m[row[0]]; twice {
			return nil, fmt.Errorf("entities: label %q stands twice", row[0])
		}
		m[row[0]] = strings.TrimSpace(row[1])
	}
	return m, nil
}
