package quant

// Report says what Apply did, layer by layer. Sizes are bytes of constants
// as a pack stores them (model.Graph.StoredBytes).
type Report struct {
	Model   string  `json:"model"`
	To      string  `json:"to"`
	Samples int     `json:"samples,omitempty"` // that the ranges come from
	Before  int64   `json:"bytes_before"`
	After   int64   `json:"bytes_after"`
	Int8    int     `json:"int8"`  // nodes that compute in int8
	Float   int     `json:"float"` // nodes in float, with float16 weights or not
	Layers  []Layer `json:"layers"`
}

// Layer is one node of the float graph, after batch normalisation went into
// the weights before it.
type Layer struct {
	Name      string `json:"name"`
	Op        string `json:"op"`
	Precision string `json:"precision"`     // of the node: "int8"; of its weights: "int4", "fp16"; or "float32"
	Why       string `json:"why,omitempty"` // it stays in float

	// WeightError is the ratio of the weights' energy to that of their
	// rounding errors, in dB: 6 dB is a bit. 200 stands for no error.
	WeightError *float64 `json:"weight_error,omitempty"`

	// OutputError is the same ratio for Output over the samples that Measure
	// saw: the error of this layer and of all before it.
	OutputError *float64 `json:"output_error,omitempty"`

	Output string    `json:"output,omitempty"` // the value measured: behind the activation
	Range  []float32 `json:"range,omitempty"`  // that int8 covers there
	Before int64     `json:"bytes_before"`
	After  int64     `json:"bytes_after"`
}

func (r *Report) total(before, after int64) {
	r.Before, r.After = before, after
	for _, l := range r.Layers {
		if Level(l.Precision).integer() {
			r.Int8++
		} else {
			r.Float++
		}
	}
}
