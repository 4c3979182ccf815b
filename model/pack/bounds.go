package pack

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
)

// The bounds on what is read. Reading a hostile JSON blob allocates at most
// 512 bytes for each of its values, of which there are MaxItems, and 8 times
// its own size.
const (
	MaxItems   = 1 << 20  // values in one JSON blob: objects, lists, and the parts of either
	maxNesting = 128      // objects and lists inside each other in JSON
	MaxNodes   = 1 << 17  // nodes of a graph, those of subgraphs among them
	MaxGraphs  = 256      // graphs: the outer one and all subgraphs
	MaxDepth   = 8        // subgraphs inside each other
	MaxRank    = 16       // axes of a tensor
	MaxTensors = 1 << 17  // tensors in a safetensors file
	MaxHeader  = 16 << 20 // bytes of a safetensors header
	maxCases   = 1 << 12  // cases of an exam
	maxInline  = 4096     // bytes of a tensor written into graph.json
)

// scan counts the values of a JSON text and how deep they nest, before a
// decoder allocates anything for them. It does not check the syntax.
func scan(data []byte) error {
	items, depth := 1, 0
	for i := 0; i < len(data); i++ {
		switch data[i] {
		case '"':
			i = stringEnd(data, i)
		case '{', '[':
			items++
			if depth++; depth > maxNesting {
				return invalid("more than %d levels of JSON", maxNesting)
			}
		case '}', ']':
			depth--
		case ',':
			items++
		}
		if items > MaxItems {
			return invalid("more than %d values of JSON", MaxItems)
		}
	}
	return nil
}

// stringEnd returns the index of the quote that ends the string beginning at
// i, or len(data).
func stringEnd(data []byte, i int) int {
	for i++; i < len(data); i++ {
		switch data[i] {
		case '\\':
			i++
		case '"':
			return i
		}
	}
	return len(data)
}

// unmarshal reads one JSON value into v, within the bounds; unknown fields
// and anything after the value are errors.
func unmarshal(data []byte, v any) error {
	if err := scan(data); err != nil {
		return err
	}
	d := json.NewDecoder(bytes.NewReader(data))
	d.DisallowUnknownFields()
	if err := d.Decode(v); err != nil {
		return invalid("%w", err)
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return invalid("more than one JSON value")
	}
	return nil
}
