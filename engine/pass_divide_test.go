package engine

import (
	"math"
	"testing"
)

func TestDivideByConstants(t *testing.T) {
	for _, c := range []struct {
		by float32

		want, wantExact string
	}{
		{by: 8, want: "Mul", wantExact: "Mul"},
		{by: -0.25, want: "Mul", wantExact: "Mul"},
		{by: 6, want: "Mul", wantExact: "Div"},
		{by: 0, want: "Div", wantExact: "Div"},
		{by: float32(math.Inf(1)), want: "Div", wantExact: "Div"},
		{by: 0x1p-140, want: "Div", wantExact: "Div"},
	} {
		b := newBuild(1)
		b.output(b.node("Div", nil, b.input("x", 3), b.scalar(c.by)))
		wantOps(t, apply(t, b.Graph, divideByConstants), c.want)
		b.output(b.node("QuantizeLinear", nil, b.Outputs[0], b.scalar(1)))
		wantOps(t, apply(t, b.Graph, divideByConstants), c.wantExact, "QuantizeLinear")
	}
}
