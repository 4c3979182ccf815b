package pack

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math"
	"strconv"
	"strings"
)

// The JSON form of a model.Graph. docs/FORMAT.md explains it with an example;
// the names here are the names there.

// opset is the ONNX operator set in whose form graphs are (package model).
const opset = 13

type graphFile struct {
	Opset int        `json:"opset"`
	Graph *graphJSON `json:"graph"`
}

type graphJSON struct {
	Name    string                `json:"name"`
	Inputs  []string              `json:"inputs"`
	Outputs []string              `json:"outputs"`
	Values  map[string]*valueJSON `json:"values"`
	Nodes   []nodeJSON            `json:"nodes"`
}

// valueJSON says what is known of a value. A constant's type and shape stand
// in its tensor only.
type valueJSON struct {
	Type  string      `json:"type,omitempty"`
	Shape []int       `json:"shape,omitzero"` // absent: not even the rank is known; -1: an axis that is not known
	Dims  []string    `json:"dims,omitempty"`
	Const *tensorJSON `json:"const,omitempty"`
}

type nodeJSON struct {
	Op    string              `json:"op"`
	Name  string              `json:"name"`
	In    []string            `json:"in"`
	Out   []string            `json:"out"`
	Attrs map[string]attrJSON `json:"attrs,omitempty"`
}

// attrJSON has exactly one field.
type attrJSON struct {
	Int     *int64      `json:"int,omitempty"`
	Float   *floatJSON  `json:"float,omitempty"`
	String  *string     `json:"string,omitempty"`
	Ints    []int64     `json:"ints,omitzero"`
	Floats  []floatJSON `json:"floats,omitzero"`
	Strings []string    `json:"strings,omitzero"`
	Tensor  *tensorJSON `json:"tensor,omitempty"`
	Graph   *graphJSON  `json:"graph,omitempty"`
}

// tensorJSON is either the name of a tensor in weights.safetensors or a small
// tensor itself. Where Packing is set, the tensor that is named has fewer
// bytes than what is meant (package model, Forms); so it is in version 2 only.
type tensorJSON struct {
	Ref     string     `json:"ref,omitempty"`
	Type    string     `json:"type,omitempty"`
	Shape   []int      `json:"shape,omitzero"`
	Data    []byte     `json:"base64,omitzero"`
	Packing string     `json:"packing,omitempty"` // "int4", "bfloat16", "product"
	Axis    int        `json:"axis,omitempty"`    // of int4: the output channels
	Times   *floatJSON `json:"times,omitempty"`   // of product
}

// isPacked reports whether any field of version 2 is set.
func (j *tensorJSON) isPacked() bool { return j.Packing != "" || j.Axis != 0 || j.Times != nil }

// floatJSON is a float32 that JSON gives back bit by bit: the shortest decimal
// that rounds to it, or a string for what JSON has no number for: "inf",
// "-inf", and "nan:7fc00000" with the bits.
type floatJSON float32

const nanPrefix = "nan:"

func (f floatJSON) MarshalJSON() ([]byte, error) {
	v := float64(f)
	switch {
	case math.IsNaN(v):
		return fmt.Appendf(nil, `"%s%08x"`, nanPrefix, math.Float32bits(float32(f))), nil
	case math.IsInf(v, 1):
		return []byte(`"inf"`), nil
	case math.IsInf(v, -1):
		return []byte(`"-inf"`), nil
	}
	return strconv.AppendFloat(nil, v, 'g', -1, 32), nil
}

func (f *floatJSON) UnmarshalJSON(b []byte) error {
	if len(b) == 0 || b[0] != '"' {
		v, err := strconv.ParseFloat(string(b), 32)
		if err != nil {
			return fmt.Errorf("float32 %q: %w", clip(string(b)), err)
		}
		*f = floatJSON(v)
		return nil
	}
	var s string
	if err := json.Unmarshal(b, &s); err != nil {
		return err
	}
	switch {
	case s == "inf":
		*f = floatJSON(math.Inf(1))
	case s == "-inf":
		*f = floatJSON(math.Inf(-1))
	case strings.HasPrefix(s, nanPrefix):
		bits, err := strconv.ParseUint(s[len(nanPrefix):], 16, 32)
		if v := math.Float32frombits(uint32(bits)); err == nil && v != v {
			*f = floatJSON(v)
			return nil
		}
		fallthrough
	default:
		return fmt.Errorf("float32 %q", clip(s))
	}
	return nil
}

// kinds returns how many fields of the attribute are set.
func (a attrJSON) kinds() int {
	n := 0
	for _, set := range []bool{
		a.Int != nil, a.Float != nil, a.String != nil, a.Ints != nil, a.Floats != nil,
		a.Strings != nil, a.Tensor != nil, a.Graph != nil,
	} {
		if set {
			n++
		}
	}
	return n
}

// parseGraphFile reads the outer form of graph.json.
func parseGraphFile(data []byte) (*graphJSON, error) {
	var f graphFile
	if err := unmarshal(bytes.TrimSpace(data), &f); err != nil {
		return nil, err
	}
	if f.Opset != opset {
		return nil, invalid("opset %d, want %d", f.Opset, opset)
	}
	if f.Graph == nil {
		return nil, invalid("there is no graph")
	}
	return f.Graph, nil
}
