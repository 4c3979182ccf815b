package prep

import (
	"bufio"
	"fmt"
	"io"
	"math"
	"strings"
	"unicode/utf8"

	"dunlin/model"
)

// Text is what a network reads.
type Text struct {
	String string
	Score  float32 // mean of the characters' scores; 0 where there are none
}

// Text returns the text of t: the best class of each step, those equal to the
// one before and the blank left out.
//
//	t     float32, [T, C] or [1, T, C]
//	keys  what ParseKeys read: C lines, but for the blank and the space
//
// Equal scores go to the lower class. It fails where C is not the number of
// the keys, or a score is not a number.
func (o Output) Text(t *model.Tensor, keys []string) (Text, error) {
	if o.Kind != "text" || o.CTC == nil {
		return Text{}, fmt.Errorf("prep: output %q: has %s, no text", o.Name, o.Kind)
	}
	if len(keys) == 0 {
		keys = o.Names
	}
	classes := len(keys) + 1
	if o.CTC.Space {
		classes++
	}
	if o.CTC.Blank >= classes {
		return Text{}, fmt.Errorf("prep: output %q: blank %d of %d classes", o.Name, o.CTC.Blank, classes)
	}
	scores, err := rows(t, -1, classes)
	if err != nil {
		return Text{}, fmt.Errorf("prep: output %q: %d keys: %w", o.Name, len(keys), err)
	}
	var text strings.Builder
	sum, count, before := 0.0, 0, -1
	for step := range len(scores) / classes {
		best, score, err := o.best(scores[step*classes : (step+1)*classes])
		if err != nil {
			return Text{}, fmt.Errorf("prep: output %q: step %d: %w", o.Name, step, err)
		}
		if best != o.CTC.Blank && best != before {
			text.WriteString(o.key(best, keys))
			sum, count = sum+score, count+1
		}
		before = best
	}
	return Text{text.String(), float32(sum / max(1, float64(count)))}, nil
}

// key returns the character of class i, which is not the blank.
func (o Output) key(i int, keys []string) string {
	if i > o.CTC.Blank {
		i--
	}
	if i == len(keys) {
		return " "
	}
	return keys[i]
}

// best returns the class with the highest score, and the score.
func (o Output) best(row []float32) (class int, score float64, err error) {
	for i, v := range row {
		if err := checkScore("score", i, v); err != nil {
			return 0, 0, err
		}
		if v > row[class] {
			class = i
		}
	}
	top := float64(row[class])
	if !o.Softmax {
		return class, top, nil
	}
	sum := 0.0
	for _, v := range row {
		sum += exp(float64(v) - top)
	}
	if math.IsNaN(sum) {
		return 0, 0, fmt.Errorf("logits are not finite")
	}
	return class, 1 / sum, nil
}

// ParseKeys reads a character a line, as recognisers of text have them. Other
// than ParseLabels it keeps every character of a line, for a line may well be
// a space.
func ParseKeys(r io.Reader) ([]string, error) {
	s := bufio.NewScanner(r)
	s.Buffer(nil, maxLabelSize)
	var keys []string
	for s.Scan() {
		if len(keys) == maxLabels {
			return nil, fmt.Errorf("keys: more than %d lines", maxLabels)
		}
		if !utf8.Valid(s.Bytes()) {
			return nil, fmt.Errorf("keys: line %d is not UTF-8", len(keys)+1)
		}
		keys = append(keys, s.Text())
	}
	if err := s.Err(); err != nil {
		return nil, fmt.Errorf("keys: line %d: %w", len(keys)+1, err)
	}
	return keys, nil
}
