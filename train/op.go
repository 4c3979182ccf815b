package train

// operator is what train knows of an operator of ONNX.
type operator struct {
	make    func(c *call) (step, error) // nil: it has no gradient
	weights []int                       // inputs that are trained where they are constants, and decay
	offsets []int                       // the same, but do not decay
	moves   bool                        // it moves input 0 about: a constant behind it is trained as what reads it says
	applies bool                        // it applies a constant to what is computed: see learnable
}

// operators is every operator that train has a gradient of. To add one: a row
// here, and its maker in the op_*.go of its kind.
var operators map[string]operator

// The table is filled at start, since makers refer to functions that look at
// it.
func init() {
	operators = map[string]operator{
		// Convolution and products.
		"Conv":   {make: makeConv, weights: []int{1}, offsets: []int{2}},
		"Gemm":   {make: makeGemm, weights: []int{1}, offsets: []int{2}},
		"MatMul": {make: makeMatMul, weights: []int{0, 1}},

		// Recurrent.
		"LSTM": {make: makeRecurrent, weights: []int{1, 2}, offsets: []int{3}},
		"GRU":  {make: makeRecurrent, weights: []int{1, 2}, offsets: []int{3}},

		// Pools and norms.
		"MaxPool":            {make: makeMaxPool},
		"GlobalMaxPool":      {make: makeMaxPool},
		"AveragePool":        {make: makeAveragePool},
		"GlobalAveragePool":  {make: makeAveragePool},
		"BatchNormalization": {make: makeBatchNorm, offsets: []int{1, 2}},
		"LayerNormalization": {make: makeLayerNorm, offsets: []int{1, 2}},
		"Softmax":            {make: makeSoftmax},
		"LogSoftmax":         {make: makeSoftmax},
		"Dropout":            {make: makeDropout},

		// One element at a time.
		"Abs":         {make: makeUnary},
		"Clip":        {make: makeUnary},
		"Elu":         {make: makeUnary},
		"Erf":         {make: makeUnary},
		"Exp":         {make: makeUnary},
		"Gelu":        {make: makeUnary},
		"HardSigmoid": {make: makeUnary},
		"HardSwish":   {make: makeUnary},
		"LeakyRelu":   {make: makeUnary},
		"Log":         {make: makeUnary},
		"Neg":         {make: makeUnary},
		"Pow":         {make: makeUnary},
		"Reciprocal":  {make: makeUnary},
		"Relu":        {make: makeUnary},
		"Sigmoid":     {make: makeUnary},
		"Softplus":    {make: makeUnary},
		"Sqrt":        {make: makeUnary},
		"Tanh":        {make: makeUnary},
		"Add":         {make: makeBinary, applies: true},
		"Sub":         {make: makeBinary},
		"Mul":         {make: makeBinary, applies: true},
		"Div":         {make: makeBinary},

		// Reductions.
		"ReduceMean": {make: makeReduce},
		"ReduceSum":  {make: makeReduce},

		// Steps of an int8 network: op_steps.go.
		opQuantize:        {make: makeQuantize},
		opQuantizeWeights: {make: makeQuantizeWeights, weights: []int{0}},
		opQuantizeBias:    {make: makeQuantizeWeights, offsets: []int{0}},
		opRequantize:      {make: makeRequantize},
		opDequantize:      {make: makeDequantize},
		opAddSteps:        {make: makeAddSteps},
		opAverageSteps:    {make: makeAverageSteps},

		// Moves.
		"Identity":  {make: makeAlias, moves: true},
		"Flatten":   {make: makeAlias, moves: true},
		"Reshape":   {make: makeAlias, moves: true},
		"Squeeze":   {make: makeAlias, moves: true},
		"Unsqueeze": {make: makeAlias, moves: true},
		"Transpose": {make: makeTranspose, moves: true},
		"Concat":    {make: makeConcat},
		"Split":     {make: makeSplit},
		"Slice":     {make: makeSlice},
		"Gather":    {make: makeGather},
		"Pad":       {make: makePad},
	}
}
