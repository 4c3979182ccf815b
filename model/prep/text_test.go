package prep

import (
	"math"
	"slices"
	"strings"
	"testing"

	"dunlin/model"
)

// steps returns one step a letter of path: classes "-ab " with blank first.
func steps(path string, score float32) *model.Tensor {
	v := make([]float32, 0, 4*len(path))
	for _, c := range path {
		row := []float32{0, 0, 0, 0}
		row[strings.IndexRune("-ab ", c)] = score
		v = append(v, row...)
	}
	return model.Of(model.F32, v, 1, len(path), 4)
}

func TestText(t *testing.T) {
	out := Output{Kind: "text", CTC: &TextRules{Space: true}}
	keys := []string{"a", "b"}
	for path, want := range map[string]string{
		"--":         "",
		"a":          "a",
		"aaa":        "a",
		"a-a":        "aa",
		"-aab- -bb-": "ab b",
		" a ":        " a ",
	} {
		got, err := out.Text(steps(path, 0.75), keys)
		score := float32(0.75)
		if want == "" {
			score = 0
		}
		if err != nil || got != (Text{want, score}) {
			t.Errorf("%q: %+v, %v, want %q", path, got, err, want)
		}
	}
	last := Output{Kind: "text", Names: []string{"x", "y", "z"}, CTC: &TextRules{Blank: 3}, Softmax: true}
	got, err := last.Text(steps("--a ", 1), nil) // class 0, 0, 1, 3: x, x, y, blank
	want := float32(math.E / (math.E + 3))
	if err != nil || got.String != "xy" || math.Abs(float64(got.Score-want)) > 1e-6 {
		t.Errorf("blank last, logits: %+v, %v", got, err)
	}
	if _, err := out.Text(steps("a", 1), keys[:1]); err == nil || !strings.Contains(err.Error(), "want float32 [1, N, 3]") {
		t.Errorf("a key too few: %v", err)
	}
	if _, err := out.Text(steps("a", float32(math.NaN())), keys); err == nil {
		t.Error("NaN has a letter")
	}
	if _, err := (Output{Kind: "text", CTC: &TextRules{Blank: 9}}).Text(steps("a", 1), keys); err == nil {
		t.Error("blank 9 of 3 classes")
	}
	if _, err := (Output{Kind: "classes"}).Text(steps("a", 1), keys); err == nil {
		t.Error("classes were read as text")
	}
}

func TestParseKeys(t *testing.T) {
	got, err := ParseKeys(strings.NewReader("a\n \n\u3000\r\n字"))
	if want := []string{"a", " ", "\u3000", "字"}; err != nil || !slices.Equal(got, want) {
		t.Errorf("%q, %v", got, err)
	}
	for _, bad := range []string{"a\n\xff\n", strings.Repeat("x", 5000), strings.Repeat("x\n", maxLabels+1)} {
		if _, err := ParseKeys(strings.NewReader(bad)); err == nil {
			t.Errorf("%.10q…: no error", bad)
		}
	}
}

func FuzzParseKeys(f *testing.F) {
	f.Add("a\nb\r\n\n \n")
	f.Fuzz(func(t *testing.T, text string) {
		keys, err := ParseKeys(strings.NewReader(text))
		if err == nil && len(keys) > strings.Count(text, "\n")+1 {
			t.Fatalf("%d keys", len(keys))
		}
	})
}

func TestValues(t *testing.T) {
	out := Output{Kind: "values", Top: 3, Names: []string{"angle", "force"}}
	want := []Value{{0, "angle", 1}, {1, "force", -2}, {2, "2", 3}}
	for _, x := range []*model.Tensor{
		model.Of(model.F32, []float32{1, -2, 3, 4}, 2, 2),
		model.Of(model.F64, []float64{1, -2, 3}, 3),
		model.Of(model.I8, []int8{1, -2, 3}, 3),
		model.Of(model.I16, []int16{1, -2, 3}, 3),
		model.Of(model.I32, []int32{1, -2, 3}, 3),
		model.Of(model.I64, []int64{1, -2, 3}, 3),
	} {
		if got, err := out.Values(x, nil, nil); err != nil || !slices.Equal(got, want) {
			t.Errorf("%v: %v, %v", x.Type, got, err)
		}
	}
	got, err := out.Values(model.Of(model.U8, []uint8{200}, 1), []string{"x"}, nil)
	if err != nil || got[0] != (Value{0, "x", 200}) {
		t.Errorf("%v, %v", got, err)
	}
	if _, err := out.Values(model.Of(model.F16, []uint16{0}, 1), nil, nil); err == nil {
		t.Error("float16 was read")
	}
	if _, err := (Output{Kind: "classes"}).Values(steps("a", 1), nil, nil); err == nil {
		t.Error("classes were read as values")
	}
}
