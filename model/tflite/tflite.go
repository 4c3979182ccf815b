// Package tflite reads TensorFlow Lite files into a model.Graph. Start with
// Import.
//
// The reader is our own: it walks the flatbuffer of schema.fbs
// (https://github.com/tensorflow/tensorflow/blob/master/tensorflow/compiler/mlir/lite/schema/schema.fbs)
// with every offset checked, and lowers the operators of the first subgraph
// to the canonical form of package model. Two things differ between the two
// worlds. TFLite's activations are NHWC: those of 4 axes get a Transpose
// where an operator needs NCHW and one back where it does not (value.go).
// TFLite's integer operators compute on tensors that carry a scale: here they
// become float operators between DequantizeLinear and QuantizeLinear, with
// the file's own scales and zero points (quant.go).
//
// The graph's inputs and outputs are those of the file: the same names,
// types, shapes and order of axes, so a quantised model has integer ports.
// Axes that the file leaves open have the length that TFLite gives them
// unasked, usually 1. Shapes are found again from the inputs forward; those
// that the file has for other tensors are not used.
//
// It promises that a graph it returns passes Graph.Check, that its constants
// alias the file wherever they are aligned there and in the right order, and
// that reading allocates at most 16 times the file plus 16 MB, whatever the
// file says. An operator that it does not have, or has not in that form, is
// an *UnsupportedError, which lists all of them. It reads the first subgraph
// alone, has no control flow, and keeps no state between runs: an LSTM begins
// each run at zero.
package tflite

import (
	"errors"
	"fmt"
	"strings"

	"dunlin/model"
)

// Reasons for which a file is refused, to be asked with errors.Is.
var (
	ErrMalformed    = errors.New("the file is not TFLite, or is damaged")
	ErrQuantisation = errors.New("its quantisation is not valid")
	ErrUnsupported  = errors.New("the file uses a part of TFLite that dunlin does not have")
	ErrTooLarge     = errors.New("the file would need too much memory")
)

// Error says which part of a TFLite file cannot be used.
type Error struct {
	Part string // "operator 3 (CONV_2D)", "tensor 12 (conv1/bias)", "the model"
	Err  error  // wraps one of the sentinels above
	Hint string // one sentence for a person, or ""
}

func (e *Error) Error() string { return "tflite: " + e.Part + ": " + e.Err.Error() }
func (e *Error) Unwrap() error { return e.Err }

// fail makes an *Error of one of the sentinels and the details.
func fail(sentinel error, part, format string, a ...any) *Error {
	return &Error{Part: part, Err: fmt.Errorf("%w: %s", sentinel, fmt.Sprintf(format, a...))}
}

// Operator is an operator of the file that dunlin cannot run, and why.
type Operator struct {
	Index int    // its place in the file's first subgraph
	Name  string // "SVDF", or the name of a custom operator
	Why   string
}

// UnsupportedError lists every operator of a file that dunlin cannot run.
// errors.Is finds ErrUnsupported in it.
type UnsupportedError struct{ Operators []Operator }

func (e *UnsupportedError) Error() string {
	var b strings.Builder
	plural := "s"
	if len(e.Operators) == 1 {
		plural = ""
	}
	fmt.Fprintf(&b, "tflite: %d unsupported operator%s", len(e.Operators), plural)
	for i, o := range e.Operators {
		sep := "; "
		if i == 0 {
			sep = ": "
		}
		fmt.Fprintf(&b, "%soperator %d (%s): %s", sep, o.Index, o.Name, o.Why)
	}
	return b.String()
}

// Unwrap returns ErrUnsupported.
func (e *UnsupportedError) Unwrap() error { return ErrUnsupported }

// Import reads a model. Constants of the graph alias data where they are
// aligned in it, so data must not change as long as the graph is used. All
// errors are an *Error or an *UnsupportedError.
func Import(data []byte) (*model.Graph, error) {
	r := &reader{b: data, budget: newBudget(len(data))}
	f := r.file()
	if r.err != nil {
		return nil, r.err
	}
	l, err := newLowering(f, r)
	if err != nil {
		return nil, err
	}
	if err := l.run(); err != nil {
		return nil, err
	}
	l.g.Prune()
	if err := l.g.Check(); err != nil {
		return nil, &Error{Part: "the graph", Err: fmt.Errorf("%w: %w", ErrMalformed, err)}
	}
	return l.g, nil
}

// budget counts the bytes that reading may still allocate. The counts are
// upper estimates of what the Go runtime takes, so that the promise holds
// for the real figure.
type budget struct{ left int64 }

const (
	budgetFactor = 16       // bytes for each byte of the file
	budgetBase   = 16 << 20 // bytes for any file
	// budgetReserve is for what is not counted: the error, the check.
	budgetReserve = 1 << 20
)

func newBudget(size int) *budget {
	return &budget{left: int64(size)*budgetFactor + budgetBase - budgetReserve}
}

func (b *budget) take(n int64) error {
	if n < 0 || n > b.left {
		b.left = 0
		return fail(ErrTooLarge, "the model", "more than %d times its size", budgetFactor)
	}
	b.left -= n
	return nil
}
