package engine

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"

	"dunlin/model"
)

//go:generate sh -c "go run ../cmd/dunlin model conformance --operators > ../docs/OPERATORS.md"

// WriteOperators writes the table of operators as Markdown: docs/OPERATORS.md.
func WriteOperators(w io.Writer) error {
	var b strings.Builder
	b.WriteString(`# Operators

Generated from the table in ` + "`engine/operators.go`" + ` by ` + "`go generate ./engine`" + `; do not edit.

The operators have the form of ONNX opset 13, or of the first opset that has them; ` + "`model/onnx`" + ` converts
opsets 6 to 21 to it. Types: what moves data takes every type; arithmetic, comparisons, reductions, MatMul and Einsum
take float32, float64 and integers; functions and normalisations take float32 and float64; convolutions, pools and
recurrent operators take float32, and int8 in quantised graphs. Float16 and bfloat16 are moved as they are, and
computed with as float32. Where a shape depends on a value that only a run tells, what follows is compiled during the
run, once for each such value. Training, strings, maps, optional values, and sequences as inputs or outputs of a graph
are not supported.

| operator | inputs at least | outputs at most | limits |
|---|---|---|---|
`)
	count := 0
	for _, op := range slices.Sorted(maps.Keys(operators)) {
		if strings.HasPrefix(op, ownDomain) {
			continue
		}
		o := operators[op]
		outs := fmt.Sprint(max(o.outs, 1))
		if o.outs >= 1<<16 {
			outs = "any"
		}
		fmt.Fprintf(&b, "| %s | %d | %s | %s |\n", op, o.minIn, outs, o.limits)
		count++
	}
	fmt.Fprintf(&b, "\n%d operators.\n", count)
	_, err := io.WriteString(w, b.String())
	return err
}

// Numbers returns the elements of t as float64, for comparisons and reports.
// Integers beyond 2^53 lose their last bits.
func Numbers(t *model.Tensor) []float64 {
	out := &model.Tensor{Type: model.F64, Shape: t.Shape, Data: model.Aligned(8 * t.Elements())}
	castTensor(out, t)
	return out.F64()
}
