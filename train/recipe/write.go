package recipe

import (
	"bytes"
	"fmt"
	"path/filepath"
	"strconv"
	"strings"

	"dunlin/internal/durable"
	"dunlin/model"
	"dunlin/train"
)

// prepFile returns the text of a prep.toml that makes the network's input as
// the training did.
func (t *training) prepFile(g *model.Graph) []byte {
	in := t.data.input
	var b bytes.Buffer
	fmt.Fprintf(&b, "# How a sample becomes the input of %s, and its output an answer: as in its training.\n\n[[input]]\n", ModelFile)
	row := func(key, value string) { fmt.Fprintf(&b, "%-6s = %s\n", key, value) }
	row("name", quoted(in.Name))
	row("kind", quoted(in.Kind))
	if in.Kind == "values" {
		row("fields", list(in.Fields, quoted))
	} else {
		row("color", quoted(in.Color))
		row("width", strconv.Itoa(in.Width))
		row("height", strconv.Itoa(in.Height))
		row("fit", quoted(in.Fit))
		row("resize", quoted(in.Resize))
		row("layout", quoted(in.Layout))
		row("scale", number(in.Scale))
		row("mean", list(in.Mean, number))
		row("std", list(in.Std, number))
	}
	b.WriteString("\n[[output]]\n")
	row("name", quoted(g.Outputs[0]))
	width := len(t.net.Output(0)) / t.net.Batch()
	if t.Train.Loss == lossMSE {
		row("kind", quoted("values"))
		row("top", strconv.Itoa(width))
		return b.Bytes()
	}
	made := g.Producers()[g.Outputs[0]]
	row("kind", quoted("classes"))
	row("softmax", strconv.FormatBool(made == nil || made.Op != "Softmax")) // of logits
	row("top", strconv.Itoa(min(3, width)))
	row("labels", quoted(LabelsFile))
	return b.Bytes()
}

// quoted writes a string of TOML.
func quoted(s string) string {
	var b strings.Builder
	b.WriteByte('"')
	for _, c := range s {
		switch {
		case c == '"' || c == '\\':
			b.WriteByte('\\')
			b.WriteRune(c)
		case c < ' ' || c == 0x7f:
			fmt.Fprintf(&b, `\u%04x`, c)
		default:
			b.WriteRune(c)
		}
	}
	b.WriteByte('"')
	return b.String()
}

// number writes a float of TOML, which has a point or an exponent.
func number(v float64) string {
	s := strconv.FormatFloat(v, 'g', -1, 64)
	if !strings.ContainsAny(s, ".e") {
		s += ".0"
	}
	return s
}

func list[T any](values []T, one func(T) string) string {
	parts := make([]string, len(values))
	for i, v := range values {
		parts[i] = one(v)
	}
	return "[" + strings.Join(parts, ", ") + "]"
}

func labelsFile(names []string) []byte { return []byte(strings.Join(names, "\n") + "\n") }

func writeCurves(dir, name string, record []train.Epoch) error {
	return durable.WriteFile(filepath.Join(dir, CurvesFile), Curves(name, record), 0o666)
}
