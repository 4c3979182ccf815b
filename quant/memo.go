package quant

// memo keeps what many graphs of one model have in common, for Front: the
// weights of a layer at a level, and the steps of an activation. They depend
// on nothing else than their keys.
type memo struct {
	weights map[weightsKey]int8Weights
	grids   map[string]Grid // by the values that share them
}

// weightsKey is all that a layer's quantised weights depend on.
type weightsKey struct {
	node    string
	level   Level
	inScale float32
}

func newMemo() *memo {
	return &memo{weights: map[weightsKey]int8Weights{}, grids: map[string]Grid{}}
}
