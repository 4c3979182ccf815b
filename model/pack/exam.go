package pack

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"math"
	"strconv"

	"github.com/x448/float16"

	"dunlin/model"
)

// Exam is what a machine must answer before it may use the model: inputs,
// and the outputs of the machine that made the pack.
type Exam struct {
	// Exact: every bit must be the same. So it is for graphs that are
	// quantised, whose arithmetic is defined to the last bit.
	Exact bool
	// Tolerance is how far an output may be off where the exam is not Exact,
	// as a fraction of its range (the greatest expected value less the
	// least), or of its largest magnitude where all are the same.
	Tolerance float64
	Cases     []Case
}

// Case is one question: the graph's inputs and outputs, in its order.
type Case struct {
	Inputs, Outputs []*model.Tensor
}

// ExamError says which answer was wrong.
type ExamError struct {
	Case   int    // index of the case
	Output int    // index of the output, -1 where the run as a whole failed
	Got    string // what this machine answered: a digest, a shape or a value
	Want   string // what the pack promises
	Err    error  // why the run failed, nil where it answered
}

func (e *ExamError) Error() string {
	if e.Err != nil {
		return fmt.Sprintf("exam case %d: %v", e.Case, e.Err)
	}
	return fmt.Sprintf("exam case %d, output %d: got %s, want %s", e.Case, e.Output, e.Got, e.Want)
}
func (e *ExamError) Unwrap() error { return e.Err }

// Hint says what a wrong answer means.
func (e *ExamError) Hint() string {
	if e.Err != nil {
		return ""
	}
	return "this machine does not compute what the pack's maker computed: do not use the model here"
}

// Digest returns the SHA-256 in hex of outputs, in order: for each the name
// of its type and its shape, as in "int8[1,10]", a zero byte, and the data.
func Digest(outputs []*model.Tensor) string {
	h := sha256.New()
	for _, t := range outputs {
		fmt.Fprintf(h, "%v%s\x00", t.Type, jsonInts(t.Shape))
		h.Write(t.Data)
	}
	return hex.EncodeToString(h.Sum(nil))
}

// Check runs every case and fails with an *ExamError at the first wrong
// answer. What run returns is looked at before run is called again. An exam
// without cases passes.
func (e *Exam) Check(run func(inputs []*model.Tensor) ([]*model.Tensor, error)) error {
	for i, c := range e.Cases {
		got, err := run(c.Inputs)
		if err != nil {
			return &ExamError{Case: i, Output: -1, Err: err}
		}
		if len(got) != len(c.Outputs) {
			return &ExamError{
				Case: i, Output: -1,
				Err: fmt.Errorf("%d outputs, want %d", len(got), len(c.Outputs)),
			}
		}
		for o, want := range c.Outputs {
			if g, w, ok := e.same(got[o], want); !ok {
				return &ExamError{Case: i, Output: o, Got: g, Want: w}
			}
		}
	}
	return nil
}

// same compares one output; what it returns besides is for a person.
func (e *Exam) same(got, want *model.Tensor) (g, w string, ok bool) {
	if got == nil || got.Type != want.Type || !got.Shape.Equal(want.Shape) || len(got.Data) != len(want.Data) {
		return describe(got), describe(want), false
	}
	if e.Exact {
		g, w := Digest([]*model.Tensor{got}), Digest([]*model.Tensor{want})
		return "sha256 " + g, "sha256 " + w, g == w
	}
	margin := e.Tolerance * spread(want)
	for i := range want.Elements() {
		a, b := at(got, i), at(want, i)
		if a == b || math.IsNaN(a) && math.IsNaN(b) {
			continue
		}
		// Written so that a NaN or an infinity on one side fails.
		if !(math.Abs(a-b) <= margin) {
			return fmt.Sprintf("%.7g at element %d", a, i), fmt.Sprintf("%.7g to within %.3g", b, margin), false
		}
	}
	return "", "", true
}

func describe(t *model.Tensor) string {
	if t == nil {
		return "nothing"
	}
	return t.Type.String() + jsonInts(t.Shape)
}

// spread returns greatest less least of the finite elements, or the largest
// magnitude where they are all the same.
func spread(t *model.Tensor) float64 {
	least, most := math.Inf(1), math.Inf(-1)
	for i := range t.Elements() {
		if v := at(t, i); !math.IsNaN(v) && !math.IsInf(v, 0) {
			least, most = min(least, v), max(most, v)
		}
	}
	switch {
	case least > most:
		return 0
	case least == most:
		return math.Abs(least)
	}
	return most - least
}

// at returns element i as a float64. Large 64-bit integers lose low bits,
// which a tolerance has no use for.
func at(t *model.Tensor, i int) float64 {
	b := t.Data[i*t.Type.Size():]
	switch t.Type {
	case model.F32:
		return float64(math.Float32frombits(binary.LittleEndian.Uint32(b)))
	case model.F64:
		return math.Float64frombits(binary.LittleEndian.Uint64(b))
	case model.F16:
		return float64(float16.Frombits(binary.LittleEndian.Uint16(b)).Float32())
	case model.BF16:
		return float64(math.Float32frombits(uint32(binary.LittleEndian.Uint16(b)) << 16))
	case model.I8:
		return float64(int8(b[0]))
	case model.I16:
		return float64(int16(binary.LittleEndian.Uint16(b)))
	case model.U16:
		return float64(binary.LittleEndian.Uint16(b))
	case model.I32:
		return float64(int32(binary.LittleEndian.Uint32(b)))
	case model.U32:
		return float64(binary.LittleEndian.Uint32(b))
	case model.I64:
		return float64(int64(binary.LittleEndian.Uint64(b)))
	case model.U64:
		return float64(binary.LittleEndian.Uint64(b))
	default: // U8, Bool
		return float64(b[0])
	}
}

// examFile is exam.json; the tensors are in exam.safetensors.
type examFile struct {
	Exact     bool       `json:"exact"`
	Tolerance float64    `json:"tolerance,omitempty"`
	Cases     []caseFile `json:"cases"`
}

type caseFile struct {
	Inputs  []string `json:"inputs"`
	Outputs []string `json:"outputs"`
	SHA256  string   `json:"sha256"` // Digest of the outputs
}

func encodeExam(e *Exam) (text []byte, tensors []named, err error) {
	f := examFile{Exact: e.Exact, Tolerance: e.Tolerance, Cases: []caseFile{}}
	if err := checkExam(f, len(e.Cases)); err != nil {
		return nil, nil, err
	}
	add := func(c int, what string, ts []*model.Tensor) []string {
		names := []string{}
		for i, t := range ts {
			if t == nil {
				err = invalid("case %d: %s %d is nil", c, what, i)
				t = &model.Tensor{}
			}
			name := strconv.Itoa(c) + "." + what + "." + strconv.Itoa(i)
			names = append(names, name)
			tensors = append(tensors, named{name, t})
		}
		return names
	}
	for i, c := range e.Cases {
		f.Cases = append(f.Cases, caseFile{
			Inputs: add(i, "input", c.Inputs), Outputs: add(i, "output", c.Outputs), SHA256: Digest(c.Outputs),
		})
	}
	if err != nil {
		return nil, nil, err
	}
	text, err = marshal(f)
	return text, tensors, err
}

func checkExam(f examFile, cases int) error {
	if cases > maxCases {
		return invalid("%d cases, at most %d", cases, maxCases)
	}
	if math.IsNaN(f.Tolerance) || math.IsInf(f.Tolerance, 0) || f.Tolerance < 0 || f.Exact && f.Tolerance != 0 {
		return invalid("tolerance %v (exact: %v)", f.Tolerance, f.Exact)
	}
	return nil
}

// decodeExam reads exam.json. The exam of a pack that was made by Write
// always has answers that fit their hash.
func decodeExam(data []byte, tensors map[string]*model.Tensor) (*Exam, error) {
	var f examFile
	if err := unmarshal(data, &f); err != nil {
		return nil, err
	}
	if err := checkExam(f, len(f.Cases)); err != nil {
		return nil, err
	}
	// Each tensor once: no more is hashed than the file holds.
	used := map[string]bool{}
	find := func(c int, names []string) ([]*model.Tensor, error) {
		ts := make([]*model.Tensor, len(names))
		for i, name := range names {
			if ts[i] = tensors[name]; ts[i] == nil || used[name] {
				return nil, invalid("case %d: tensor %q is not in %s, or used before", c, clip(name), fileExamData)
			}
			used[name] = true
		}
		return ts, nil
	}
	e := &Exam{Exact: f.Exact, Tolerance: f.Tolerance, Cases: make([]Case, len(f.Cases))}
	for i, c := range f.Cases {
		var err error
		if e.Cases[i].Inputs, err = find(i, c.Inputs); err != nil {
			return nil, err
		}
		if e.Cases[i].Outputs, err = find(i, c.Outputs); err != nil {
			return nil, err
		}
		if Digest(e.Cases[i].Outputs) != c.SHA256 {
			return nil, invalid("case %d: its outputs are not those of its hash", i)
		}
	}
	return e, nil
}
