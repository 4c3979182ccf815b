package pack

import (
	"errors"
	"math"
	"strings"
	"testing"

	"dunlin/model"
)

func f32(v ...float32) *model.Tensor { return model.Of(model.F32, v, 1, len(v)) }

func answers(ts ...*model.Tensor) func([]*model.Tensor) ([]*model.Tensor, error) {
	return func([]*model.Tensor) ([]*model.Tensor, error) { return ts, nil }
}

func TestExam(t *testing.T) {
	nan, inf := float32(math.NaN()), float32(math.Inf(1))
	half := func(bits ...uint16) *model.Tensor { return model.Of(model.F16, bits, len(bits)) }
	exact, loose := Exam{Exact: true}, Exam{Tolerance: 0.01}
	cases := []struct {
		name      string
		exam      Exam
		got, want *model.Tensor
		wrong     string // "" where the answer is right
	}{
		{"same bits", exact, f32(1, 2), f32(1, 2), ""},
		{"one bit off", exact, f32(1, math.Nextafter32(2, 3)), f32(1, 2), "sha256"},
		{"zeros of both signs", exact, f32(float32(math.Copysign(0, -1))), f32(0), "sha256"},
		{"other shape", exact, model.Of(model.F32, []float32{1, 2}, 2, 1), f32(1, 2), "float32[2,1]"},
		{"other type", exact, model.Of(model.I32, []int32{1, 2}, 1, 2), f32(1, 2), "int32[1,2]"},
		{"nothing", exact, nil, f32(1), "nothing"},
		{"within 1 % of the range", loose, f32(0.9, 99.1), f32(0, 100), ""},
		{"beyond 1 % of the range", loose, f32(0, 101.1), f32(0, 100), "101.1"},
		{"single value within", loose, f32(100.9), f32(100), ""},
		{"single value beyond", loose, f32(101.1), f32(100), "element 0"},
		{"zeros", loose, f32(1e-30), f32(0), "element 0"},
		{"NaN where NaN is", loose, f32(nan, 1), f32(nan, 1), ""},
		{"NaN for a number", loose, f32(nan, 100), f32(0, 100), "NaN"},
		{"number for a NaN", loose, f32(0, 100), f32(nan, 100), "element 0"},
		{"infinity where infinity is", loose, f32(inf, 0, 1), f32(inf, 0, 1), ""},
		{"infinity for a number", loose, f32(inf, 100), f32(0, 100), "+Inf"},
		{"number for an infinity", loose, f32(5, 0, 1), f32(inf, 0, 1), "element 0"},
		{"half within", loose, half(0x3c01, 0x4000), half(0x3c00, 0x4000), ""},
		{"half beyond", loose, half(0x3d00, 0x4000), half(0x3c00, 0x4000), "1.25"},
		{"bytes beyond", loose, model.Of(model.I8, []int8{-128, 124}, 2), model.Of(model.I8, []int8{-128, 127}, 2), "124"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			c.exam.Cases = []Case{{Outputs: []*model.Tensor{f32(1)}}, {Outputs: []*model.Tensor{c.want}}}
			first := true
			err := c.exam.Check(func([]*model.Tensor) ([]*model.Tensor, error) {
				if first {
					first = false
					return []*model.Tensor{f32(1)}, nil
				}
				return []*model.Tensor{c.got}, nil
			})
			if c.wrong == "" {
				if err != nil {
					t.Error(err)
				}
				return
			}
			var ee *ExamError
			if !errors.As(err, &ee) || ee.Case != 1 || ee.Output != 0 || !strings.Contains(err.Error(), c.wrong) || ee.Hint() == "" {
				t.Errorf("got %v, want %q", err, c.wrong)
			}
		})
	}
}

func TestExamThatCannotRun(t *testing.T) {
	e := Exam{Exact: true, Cases: []Case{{Inputs: []*model.Tensor{f32(3)}, Outputs: []*model.Tensor{f32(1)}}}}
	var ee *ExamError
	if err := e.Check(answers()); !errors.As(err, &ee) || ee.Output != -1 {
		t.Errorf("no outputs: %v", err)
	}
	cause := errors.New("no such operator")
	err := e.Check(func(in []*model.Tensor) ([]*model.Tensor, error) {
		if in[0].F32()[0] != 3 {
			t.Error("other inputs")
		}
		return nil, cause
	})
	if !errors.Is(err, cause) {
		t.Error(err)
	}
}

// Float64, and every other type, are compared by value.
func TestEveryTypeHasValues(t *testing.T) {
	for d := model.F32; d <= model.Bool; d++ {
		v, err := model.NewTensor(d, 2)
		if err != nil {
			t.Fatal(err)
		}
		last := v.Data[len(v.Data)-d.Size():]
		last[len(last)-1] = 1
		if at(v, 0) != 0 || at(v, 1) <= 0 {
			t.Errorf("%v: %v and %v", d, at(v, 0), at(v, 1))
		}
	}
}

func TestDigestSeesEverything(t *testing.T) {
	base := Digest([]*model.Tensor{f32(1, 2)})
	for name, other := range map[string][]*model.Tensor{
		"data":  {f32(1, 3)},
		"shape": {model.Of(model.F32, []float32{1, 2}, 2, 1)},
		"type":  {model.Of(model.I32, f32bits(1, 2), 1, 2)},
		"count": {f32(1, 2), f32()},
		"split": {f32(1), f32(2)},
	} {
		if Digest(other) == base {
			t.Errorf("another %s, the same digest", name)
		}
	}
}

func f32bits(v ...float32) []int32 {
	out := make([]int32, len(v))
	for i, f := range v {
		out[i] = int32(math.Float32bits(f))
	}
	return out
}

func TestBadExams(t *testing.T) {
	e := &Exam{Exact: true, Cases: []Case{{Inputs: []*model.Tensor{f32(1)}, Outputs: []*model.Tensor{f32(2)}}}}
	text, tensors, err := encodeExam(e)
	if err != nil {
		t.Fatal(err)
	}
	refs, err := decodeTensors(encodeAll(t, tensors))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := decodeExam(text, refs); err != nil {
		t.Fatal(err)
	}
	cases := []struct{ name, old, new, want string }{
		{"tensor that is not there", "0.input.0", "0.input.1", "is not in"},
		{"tensor used twice", "0.input.0", "0.output.0", "used before"},
		{"false hash", Digest(e.Cases[0].Outputs)[:8], "00000000", "hash"},
		{"tolerance of an exact exam", `"exact":true`, `"exact":true,"tolerance":0.5`, "tolerance"},
		{"negative tolerance", `"exact":true`, `"exact":false,"tolerance":-0.5`, "tolerance"},
		{"unknown field", `"exact":true`, `"exact":true,"x":1`, "unknown field"},
	}
	for _, c := range cases {
		bad := strings.Replace(string(text), c.old, c.new, 1)
		if _, err := decodeExam([]byte(bad), refs); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: got %v, want %q", c.name, err, c.want)
		}
	}
	many := `{"exact":true,"cases":[{}` + strings.Repeat(",{}", maxCases) + `]}`
	if _, err := decodeExam([]byte(many), refs); err == nil || !strings.Contains(err.Error(), "cases") {
		t.Errorf("many cases: %v", err)
	}
}

func FuzzExam(f *testing.F) {
	e := &Exam{Tolerance: 1e-4, Cases: []Case{{Inputs: []*model.Tensor{f32(1)}, Outputs: []*model.Tensor{f32(2), f32(3)}}}}
	text, tensors, err := encodeExam(e)
	if err != nil {
		f.Fatal(err)
	}
	refs, err := decodeTensors(encodeAll(f, tensors))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(text)
	f.Add([]byte(`{"exact":true,"cases":[]}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		e, err := decodeExam(data, refs)
		if err != nil {
			return
		}
		// Whoever repeats the answers passes.
		i := -1
		err = e.Check(func([]*model.Tensor) ([]*model.Tensor, error) {
			i++
			return e.Cases[i].Outputs, nil
		})
		if err != nil {
			t.Fatal(err)
		}
	})
}
