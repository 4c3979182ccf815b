package onnx

import "dunlin/model"

// ParseTensor reads a TensorProto that is a file of its own, as the folders
// of ONNX's backend tests hold them, and returns its name. The tensor aliases
// data where its values are aligned there. All errors are an *Error.
func ParseTensor(data []byte) (name string, t *model.Tensor, err error) {
	r := &reader{budget: newBudget(len(data))}
	return r.tensor("the tensor", data)
}
