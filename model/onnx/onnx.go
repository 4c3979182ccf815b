// Package onnx reads ONNX files into a model.Graph, and writes them. Start
// with Import and Export.
//
// The reader is our own: it walks the protobuf wire format of onnx.proto
// (https://github.com/onnx/onnx/blob/main/onnx/onnx.proto) and makes the
// graph directly, without generated code. Whatever the file's opset (6 to
// 21), the graph comes out in one canonical form; the table is in canon.go,
// and it is what engine, quant and pack may rely on; Export writes that form.
//
// It promises that a graph it returns passes Graph.Check, that its constants
// alias the file wherever they are aligned there, and that reading allocates
// at most 16 times the file plus 16 MB, whatever the file says. It does not
// ask whether an operator can be run: nodes it does not know pass through
// under their own name, and engine lists all of them at once. It does not
// infer shapes, reads no second file (external data is refused), and trusts
// no shape that an exporter stored beside a value for more than its rank.
package onnx

import (
	"errors"
	"fmt"

	"dunlin/model"
)

// The opsets of the default domain that Import converts from.
const (
	MinOpset = 6
	MaxOpset = 21
)

// Reasons for which a file is refused, to be asked with errors.Is. Import
// wraps them in an *Error.
var (
	ErrMalformed    = errors.New("the file is not ONNX, or is damaged")
	ErrOpset        = errors.New("the opset is out of range")
	ErrExternalData = errors.New("weights are in another file")
	ErrUnsupported  = errors.New("the file uses a part of ONNX that dunlin does not have")
	ErrTooLarge     = errors.New("the file would need too much memory")
)

// Error says which part of an ONNX file cannot be used.
type Error struct {
	Part string // "node Conv_3 (Conv)", "initializer w1", "the model"
	Err  error  // wraps one of the sentinels above
	Hint string // one sentence for a person, or ""
}

func (e *Error) Error() string { return "onnx: " + e.Part + ": " + e.Err.Error() }
func (e *Error) Unwrap() error { return e.Err }

// fail makes an *Error of one of the sentinels and the details.
func fail(sentinel error, part, format string, a ...any) *Error {
	return &Error{Part: part, Err: fmt.Errorf("%w: %s", sentinel, fmt.Sprintf(format, a...))}
}

// Import reads a model. Constants of the graph alias data where they are
// aligned in it, so data must not change as long as the graph is used. All
// errors are an *Error.
func Import(data []byte) (*model.Graph, error) {
	r := &reader{budget: newBudget(len(data))}
	file, err := r.file(data)
	if err != nil {
		return nil, err
	}
	if err := file.checkOpset(); err != nil {
		return nil, err
	}
	c := &canon{opset: int(file.opset), budget: r.budget, taken: r.names, fourBits: r.fourBits}
	if err := c.graph(file.graph, nil); err != nil {
		return nil, err
	}
	if err := file.graph.Check(); err != nil {
		return nil, &Error{Part: "the graph", Err: fmt.Errorf("%w: %w", ErrMalformed, err)}
	}
	return file.graph, nil
}

// sinceOne are the operators that have had one form since opset 1. A file of
// them alone can be of any opset up to MaxOpset.
var sinceOne = map[string]bool{
	"Conv": true, "ConvTranspose": true, "GlobalAveragePool": true, "GlobalMaxPool": true, "Identity": true,
	"MaxPool": true, "Not": true, "Shape": true, "Size": true, "Softplus": true, "Softsign": true, "Transpose": true,
}

// checkOpset fails unless the file's default opset is one that canon knows.
// A file that imports only other domains has none, and needs none as long as
// it has no node of the default domain.
func (f *file) checkOpset() error {
	low := int64(MinOpset)
	if f.ageless {
		low = 0
	}
	if f.opset < low || f.opset > MaxOpset {
		err := fail(ErrOpset, "the model", "it is for opset %d, dunlin reads %d to %d", f.opset, MinOpset, MaxOpset)
		err.Hint = fmt.Sprintf("export the model again with an opset from %d to %d", MinOpset, MaxOpset)
		return err
	}
	return nil
}

// budget counts the bytes that reading may still allocate. The counts are
// upper estimates of what the Go runtime takes, so that the promise holds
// for the real figure.
type budget struct{ left int64 }

const (
	budgetFactor = 16       // bytes for each byte of the file
	budgetBase   = 16 << 20 // bytes for any file
)

func newBudget(size int) *budget {
	return &budget{left: int64(size)*budgetFactor + budgetBase - budgetReserve}
}

// budgetReserve is for what is not counted: the error, the sort, the check.
const budgetReserve = 1 << 20

func (b *budget) take(n int64) error {
	if n < 0 || n > b.left {
		return fail(ErrTooLarge, "the model", "more than %d times its size", budgetFactor)
	}
	b.left -= n
	return nil
}
