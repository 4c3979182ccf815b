package prep

import (
	"slices"
	"strings"
	"testing"

	"dunlin/model"
)

const weather = `[[input]]
name = "x"
kind = "values"
fields = ["t", "h", "p"]
scale = 2.0
mean = [1.0, 2.0, 3.0]
std = [1.0, 0.5, 4.0]
[[output]]
name = "y"
`

func TestNumbers(t *testing.T) {
	spec, err := ParseTOML([]byte(weather))
	if err != nil {
		t.Fatal(err)
	}
	in := spec.Inputs[0]
	if s := in.Shape(); !slices.Equal(s, []int{1, 3}) {
		t.Fatalf("shape %v", s)
	}
	dst, err := model.NewTensor(model.F32, in.Shape()...)
	if err != nil {
		t.Fatal(err)
	}
	for _, line := range []string{"21.5,40,-7.25", " 21.5; 40\t-725e-2\r", "[21.5, 40, -7.25]", `{"p": -7.25, "more": {"a": [1]}, "t": 21.5, "h": 40}`} {
		clear(dst.F32())
		if err := in.Numbers([]byte(line), dst); err != nil || !slices.Equal(dst.F32(), []float32{42, 156, -4.375}) {
			t.Errorf("%q: %v, %v", line, dst.F32(), err)
		}
	}
	for line, want := range map[string]string{
		"":                                "0 numbers, want 3",
		"1,2":                             "2 numbers, want 3",
		"1,2,3,4":                         "4 numbers, want 3",
		"t,h,p":                           `"t": want a number`,
		"1,2,nan":                         "p is NaN",
		"1,1e300,2":                       "h is 1e+300, which becomes +Inf",
		"1,-inf,2":                        "h is -Inf",
		"[1,2":                            "unexpected end",
		`["a",1,2]`:                       "cannot unmarshal",
		`{"t":1,"h":2}`:                   `no field "p"`,
		`{"t":1,"h":"2","p":3}`:           `field "h"`,
		`{"t":1,"h":null,"p":3}`:          `field "h"`,
		strings.Repeat("1,", maxFields*2): "numbers, want 3",
	} {
		if err := in.Numbers([]byte(line), dst); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%.40q: %v, want %q", line, err, want)
		}
	}
	if err := in.Numbers([]byte("1,2,3"), model.Of(model.F32, make([]float32, 4), 1, 4)); err == nil {
		t.Error("a tensor of another shape was filled")
	}
	if err := in.Picture(nil, dst); err == nil {
		t.Error("a picture was taken")
	}
	// One mean and std for all, and what they are by default.
	plain := Input{Name: "x", Kind: "values", Layout: "flat", Fields: []string{"a", "b"}, Scale: 1, Std: []float64{2}}
	dst2 := model.Of(model.F32, make([]float32, 2), 1, 2)
	if err := plain.Numbers([]byte("3 -8"), dst2); err != nil || !slices.Equal(dst2.F32(), []float32{1.5, -4}) {
		t.Errorf("%v, %v", dst2.F32(), err)
	}
}

func TestNumbersRules(t *testing.T) {
	for change, want := range map[string]string{
		`fields = []`:                                       "0 fields: want 1 to 4096",
		`fields = ["t", "t"]`:                               `field "t" is empty, or there twice`,
		`fields = ["t", "h"]`:                               "3 means and 3 stds for 2 fields",
		"fields = [\"t\", \"h\", \"p\"]\nwidth = 3":         "values have no color",
		"fields = [\"t\", \"h\", \"p\"]\nlayout = \"nchw\"": `layout "nchw"`,
	} {
		text := strings.Replace(weather, `fields = ["t", "h", "p"]`, change, 1)
		if _, err := ParseTOML([]byte(text)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", change, err, want)
		}
	}
	if _, err := ParseTOML([]byte("[[input]]\nwidth = 1\nheight = 1\nfields = [\"a\"]\n")); err == nil {
		t.Error("a picture with fields was taken")
	}
}

func FuzzNumbers(f *testing.F) {
	f.Add("1,2,3")
	f.Add(`{"t":1,"h":2,"p":3}`)
	f.Add("[1,2,3]")
	spec, err := ParseTOML([]byte(weather))
	if err != nil {
		f.Fatal(err)
	}
	dst := model.Of(model.F32, make([]float32, 3), 1, 3)
	f.Fuzz(func(t *testing.T, line string) {
		if err := spec.Inputs[0].Numbers([]byte(line), dst); err == nil && slices.ContainsFunc(dst.F32(), func(x float32) bool { return x != x }) {
			t.Errorf("%q became NaN", line)
		}
	})
}
