package engine

import (
	"errors"
	"strings"
	"testing"

	"dunlin/model"
)

// RequireInt8 refuses what computes in float without a word, and nothing that
// the graph has in float.
func TestRequireInt8(t *testing.T) {
	o := Options{RequireInt8: true}
	if _, err := Compile(integerNet(1, model.I8), o); err != nil { // ends in a Softmax, of floats
		t.Error(err)
	}
	var e *FloatError
	if _, err := Compile(floatNet(1), o); !errors.As(err, &e) || e.Steps != nil {
		t.Errorf("a graph without integers: %v", err)
	}
	odd := func(follow func(b *build, y string) string) *model.Graph {
		b := newBuild(1)
		x := b.quantised(b.input("x", 1, 3, 4, 4), model.I8, 1.0/64, 3)
		b.output(follow(b, x))
		return b.Graph
	}
	for name, c := range map[string]struct {
		g   *model.Graph
		why string
	}{
		"scales along the inputs": {odd(func(b *build, x string) string {
			return b.quantised(b.node("Conv", nil, x, b.weights(1, 4, 3, 1, 1)), model.I8, 0.25, 0)
		}), "Conv"},
		"float weights": {odd(func(b *build, x string) string {
			return b.node("Conv", nil, x, b.normal(4, 3, 1, 1))
		}), "Conv"},
		"between integers": {odd(func(b *build, x string) string {
			return b.quantised(b.node("Softmax", attrs{"axis": int64(1)}, x), model.I8, 0.25, 0)
		}), "Softmax"},
	} {
		e = nil
		_, err := Compile(c.g, o)
		if !errors.As(err, &e) || len(e.Steps) != 1 || e.Steps[0].Why == "" || !strings.Contains(err.Error(), c.why) {
			t.Errorf("%s: %v", name, err)
		}
		if _, err := Compile(c.g, Options{}); err != nil {
			t.Errorf("%s, not required: %v", name, err)
		}
	}
}

// Operators that run on rows are float, though int8 comes in and goes out, and
// say why; alone between integers they are a fallback.
func TestRowsAreFloat(t *testing.T) {
	b := newBuild(1)
	x := b.quantised(b.input("x", 4, 8), model.I8, 1.0/64, 3)
	b.output(b.quantised(b.node("Softmax", nil, x), model.I8, 1.0/256, -128))
	found := false
	for _, s := range compiled(t, b.Graph, Options{}).Steps() {
		if strings.Contains(s.Kernel, "Softmax") {
			found = true
			if s.Precision != "float32" || s.Why == "" || !s.Fallback {
				t.Errorf("%+v", s)
			}
		}
	}
	if !found {
		t.Error("there is no such step")
	}
}

// Each step that computes in float says why.
func TestEveryFloatStepSaysWhy(t *testing.T) {
	for name, g := range map[string]*model.Graph{"float": floatNet(1), "int8": integerNet(1, model.U8)} {
		for _, s := range compiled(t, g, Options{}).Steps() {
			if float := strings.HasPrefix(s.Precision, "float") && s.Kernel != "alias"; float != (s.Why != "") {
				t.Errorf("%s: %s (%s) computes in %s: %q", name, s.Name, s.Kernel, s.Precision, s.Why)
			}
		}
	}
}
