package engine

import "dunlin/kernels"

// operators is every operator that engine runs. To add one: a row here, and
// its infer and lower in the op_*.go of its kind.
var operators map[string]operator

// The table is filled at start, since some rows refer to functions that look
// at the table.
func init() {
	operators = map[string]operator{
		// Convolution and products.
		"Conv":         {minIn: 2, check: checkConv, infer: inferConv, lower: lowerConv},
		"dunlin.Conv":  {minIn: 2, infer: inferConv, lower: lowerConv},
		"dunlin.QConv": {minIn: 2, infer: inferConv, lower: lowerQConv},
		"Gemm":         {minIn: 2, infer: inferGemm, lower: lowerGemm},
		"dunlin.Gemm":  {minIn: 2, infer: inferGemm, lower: lowerGemm},
		"dunlin.QGemm": {minIn: 2, infer: inferQGemm, lower: lowerQGemm},
		"MatMul":       {minIn: 2, infer: inferMatMul, lower: lowerMatMul},

		// Pools and normalisation.
		"MaxPool":                   {minIn: 1, check: checkPool, infer: inferPool, lower: lowerMaxPool},
		"AveragePool":               {minIn: 1, check: checkPool, infer: inferPool, lower: lowerAveragePool},
		"dunlin.QAveragePool":       {minIn: 1, infer: inferPool, lower: lowerAveragePool},
		"GlobalMaxPool":             {minIn: 1, infer: inferPool, lower: lowerMaxPool},
		"GlobalAveragePool":         {minIn: 1, infer: inferPool, lower: lowerAveragePool},
		"dunlin.QGlobalAveragePool": {minIn: 1, infer: inferPool, lower: lowerAveragePool},
		"BatchNormalization":        {minIn: 5, infer: inferBatchNorm, lower: lowerBatchNorm},
		"Softmax":                   {minIn: 1, infer: inferFloat, lower: lowerSoftmax},

		// One element at a time.
		"Relu":        {minIn: 1, infer: inferFloat, lower: lowerUnary},
		"Clip":        {minIn: 1, infer: inferFloat, lower: lowerUnary},
		"LeakyRelu":   {minIn: 1, infer: inferFloat, lower: lowerUnary},
		"Sigmoid":     {minIn: 1, infer: inferFloat, lower: lowerUnary},
		"HardSigmoid": {minIn: 1, infer: inferFloat, lower: lowerUnary},
		"HardSwish":   {minIn: 1, infer: inferFloat, lower: lowerUnary},
		"Tanh":        {minIn: 1, infer: inferFloat, lower: lowerUnary},
		"Exp":         {minIn: 1, infer: inferFloat, lower: lowerUnary},
		"Sqrt":        {minIn: 1, infer: inferFloat, lower: lowerUnary},
		"Neg":         {minIn: 1, infer: inferFloat, lower: lowerUnary},
		"Abs":         {minIn: 1, infer: inferFloat, lower: lowerUnary},
		"Add":         {minIn: 2, infer: inferBinary, lower: lowerBinary},
		"Sub":         {minIn: 2, infer: inferBinary, lower: lowerBinary},
		"Mul":         {minIn: 2, infer: inferBinary, lower: lowerBinary},
		"Div":         {minIn: 2, infer: inferBinary, lower: lowerBinary},
		"dunlin.QAdd": {minIn: 2, infer: inferQAdd, lower: lowerQAdd},

		// Between types.
		"Cast":             {minIn: 1, check: checkCast, infer: inferCast, lower: lowerCast},
		"QuantizeLinear":   {minIn: 2, infer: inferQuantize, lower: lowerQuantize},
		"DequantizeLinear": {minIn: 2, infer: inferDequantize, lower: lowerDequantize},
		"dunlin.Requant":   {minIn: 1, infer: inferSame, lower: lowerRequant},
		"dunlin.FlipSign":  {minIn: 1, infer: inferFlipSign, lower: lowerFlipSign},

		// Shapes, and moves of data.
		"Identity":  {minIn: 1, infer: inferSame, lower: lowerAlias},
		"Dropout":   {minIn: 1, infer: inferSame, lower: lowerAlias},
		"Reshape":   {minIn: 2, infer: inferReshape, lower: lowerAlias},
		"Flatten":   {minIn: 1, infer: inferFlatten, lower: lowerAlias},
		"Squeeze":   {minIn: 1, infer: inferSqueeze, lower: lowerAlias},
		"Unsqueeze": {minIn: 2, infer: inferUnsqueeze, lower: lowerAlias},
		"Transpose": {minIn: 1, infer: inferTranspose, lower: lowerTranspose},
		"Concat":    {minIn: 1, infer: inferConcat, lower: lowerConcat},
		"Gather":    {minIn: 2, infer: inferGather, lower: lowerGather},
		"Slice":     {minIn: 3, infer: inferSlice, lower: lowerSlice},
		"Shape":     {minIn: 1, infer: inferShape, lower: lowerShape},
	}
}

// named returns a kernel that takes no packed weights.
func named(name string) *kernel { return &kernel{name: name, tier: kernels.Generic} }
