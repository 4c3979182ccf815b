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
		"Conv":                   {minIn: 2, check: checkConv, infer: inferConv, lower: lowerConv, limits: "1 to 3 spatial axes, float32"},
		"dunlin.Conv":            {minIn: 2, infer: inferConv, lower: lowerConv},
		"dunlin.QConv":           {minIn: 2, infer: inferConv, lower: lowerQConv},
		"Gemm":                   {minIn: 2, infer: inferGemm, lower: lowerGemm, limits: "float32"},
		"dunlin.Gemm":            {minIn: 2, infer: inferGemm, lower: lowerGemm},
		"dunlin.QGemm":           {minIn: 2, infer: inferQGemm, lower: lowerQGemm},
		"MatMul":                 {minIn: 2, infer: inferMatMul, lower: lowerMatMul},
		"dunlin.DynamicQuantize": {minIn: 1, outs: 3, infer: inferDynamicQuantize, lower: lowerDynamicQuantize, anyOut: true},
		"dunlin.DynamicGemm":     {minIn: 4, infer: inferDynamicGemm, lower: lowerDynamicGemm},
		"dunlin.Rows":            {minIn: 1, infer: inferRows, lower: lowerRows},
		"dunlin.MatMul":          {minIn: 2, infer: inferMatMul, lower: lowerMatMul},
		"Einsum":                 {minIn: 1, check: checkEinsum, infer: inferEinsum, lower: lowerEinsum, limits: "up to 2 operands"},

		"ConvTranspose": {minIn: 2, check: checkPads, infer: inferConvTranspose, lower: lowerConvTranspose},

		// Pools and normalisation.
		"LpPool":                    {minIn: 1, check: checkLpPool, infer: inferPool, lower: lowerLpPool},
		"GlobalLpPool":              {minIn: 1, check: checkLpPool, infer: inferPool, lower: lowerLpPool},
		"MaxUnpool":                 {minIn: 2, check: checkPool, infer: inferMaxUnpool, lower: lowerMaxUnpool},
		"MaxPool":                   {minIn: 1, outs: 2, check: checkPool, infer: inferPool, lower: lowerMaxPool},
		"AveragePool":               {minIn: 1, check: checkPool, infer: inferPool, lower: lowerAveragePool},
		"dunlin.QAveragePool":       {minIn: 1, infer: inferPool, lower: lowerAveragePool},
		"GlobalMaxPool":             {minIn: 1, infer: inferPool, lower: lowerMaxPool},
		"GlobalAveragePool":         {minIn: 1, infer: inferPool, lower: lowerAveragePool},
		"dunlin.QGlobalAveragePool": {minIn: 1, infer: inferPool, lower: lowerAveragePool},
		"BatchNormalization":        {minIn: 5, outs: 3, infer: inferBatchNorm, lower: lowerBatchNorm, limits: "float32"},
		"Softmax":                   {minIn: 1, infer: inferAxis, lower: lowerSoftmax},
		"LogSoftmax":                {minIn: 1, infer: inferAxis, lower: lowerSoftmax},
		"Hardmax":                   {minIn: 1, infer: inferAxis, lower: lowerSoftmax},
		"LpNormalization":           {minIn: 1, check: checkLpNorm, infer: inferAxis, lower: lowerLpNorm},
		"LayerNormalization":        {minIn: 2, outs: 3, infer: inferLayerNorm, lower: lowerLayerNorm, limits: "scale and bias as long as what is normalised"},
		"InstanceNormalization":     {minIn: 3, infer: inferInstanceNorm, lower: lowerInstanceNorm},
		"GroupNormalization":        {minIn: 3, infer: inferGroupNorm, lower: lowerGroupNorm},
		"MeanVarianceNormalization": {minIn: 1, infer: inferMeanVariance, lower: lowerMeanVariance, limits: "float32"},
		"LRN":                       {minIn: 1, check: checkLRN, infer: inferLRN, lower: lowerLRN, limits: "float32"},

		"NegativeLogLikelihoodLoss": {minIn: 2, check: checkLoss, infer: inferLoss, lower: lowerLoss, limits: "float32"},
		"SoftmaxCrossEntropyLoss":   {minIn: 2, outs: 2, check: checkLoss, infer: inferLoss, lower: lowerLoss, limits: "float32"},

		// Reductions.
		"ReduceSum":       {minIn: 1, infer: inferReduce, lower: lowerReduce},
		"ReduceMean":      {minIn: 1, infer: inferReduce, lower: lowerReduce},
		"ReduceMax":       {minIn: 1, infer: inferReduce, lower: lowerReduce},
		"ReduceMin":       {minIn: 1, infer: inferReduce, lower: lowerReduce},
		"ReduceProd":      {minIn: 1, infer: inferReduce, lower: lowerReduce},
		"ReduceL1":        {minIn: 1, infer: inferReduce, lower: lowerReduce},
		"ReduceL2":        {minIn: 1, infer: inferReduce, lower: lowerReduce},
		"ReduceSumSquare": {minIn: 1, infer: inferReduce, lower: lowerReduce},
		"ReduceLogSum":    {minIn: 1, infer: inferReduce, lower: lowerReduce},
		"ReduceLogSumExp": {minIn: 1, infer: inferReduce, lower: lowerReduce},

		// One element at a time.
		"Relu":            {minIn: 1, infer: inferNumbers, lower: lowerUnary},
		"Abs":             {minIn: 1, infer: inferNumbers, lower: lowerUnary},
		"Neg":             {minIn: 1, infer: inferNumbers, lower: lowerUnary},
		"Sign":            {minIn: 1, infer: inferNumbers, lower: lowerUnary},
		"LeakyRelu":       {minIn: 1, infer: inferFloats, lower: lowerUnary},
		"Sigmoid":         {minIn: 1, infer: inferFloats, lower: lowerUnary},
		"HardSigmoid":     {minIn: 1, infer: inferFloats, lower: lowerUnary},
		"HardSwish":       {minIn: 1, infer: inferFloats, lower: lowerUnary},
		"Tanh":            {minIn: 1, infer: inferFloats, lower: lowerUnary},
		"Exp":             {minIn: 1, infer: inferFloats, lower: lowerUnary},
		"Log":             {minIn: 1, infer: inferFloats, lower: lowerUnary},
		"Sqrt":            {minIn: 1, infer: inferFloats, lower: lowerUnary},
		"Reciprocal":      {minIn: 1, infer: inferFloats, lower: lowerUnary},
		"Erf":             {minIn: 1, infer: inferFloats, lower: lowerUnary},
		"Elu":             {minIn: 1, infer: inferFloats, lower: lowerUnary},
		"Selu":            {minIn: 1, infer: inferFloats, lower: lowerUnary},
		"Celu":            {minIn: 1, infer: inferFloats, lower: lowerUnary},
		"Softplus":        {minIn: 1, infer: inferFloats, lower: lowerUnary},
		"Softsign":        {minIn: 1, infer: inferFloats, lower: lowerUnary},
		"ThresholdedRelu": {minIn: 1, infer: inferFloats, lower: lowerUnary},
		"Mish":            {minIn: 1, infer: inferFloats, lower: lowerUnary},
		"Shrink":          {minIn: 1, infer: inferFloats, lower: lowerUnary},
		"Floor":           {minIn: 1, infer: inferFloats, lower: lowerUnary},
		"Ceil":            {minIn: 1, infer: inferFloats, lower: lowerUnary},
		"Round":           {minIn: 1, infer: inferFloats, lower: lowerUnary},
		"Sin":             {minIn: 1, infer: inferFloats, lower: lowerUnary},
		"Cos":             {minIn: 1, infer: inferFloats, lower: lowerUnary},
		"Tan":             {minIn: 1, infer: inferFloats, lower: lowerUnary},
		"Asin":            {minIn: 1, infer: inferFloats, lower: lowerUnary},
		"Acos":            {minIn: 1, infer: inferFloats, lower: lowerUnary},
		"Atan":            {minIn: 1, infer: inferFloats, lower: lowerUnary},
		"Sinh":            {minIn: 1, infer: inferFloats, lower: lowerUnary},
		"Cosh":            {minIn: 1, infer: inferFloats, lower: lowerUnary},
		"Asinh":           {minIn: 1, infer: inferFloats, lower: lowerUnary},
		"Acosh":           {minIn: 1, infer: inferFloats, lower: lowerUnary},
		"Atanh":           {minIn: 1, infer: inferFloats, lower: lowerUnary},
		"Gelu":            {minIn: 1, infer: inferFloat, lower: lowerUnary, limits: "float32"},
		"Clip":            {minIn: 1, infer: inferClip, lower: lowerClip},
		"IsNaN":           {minIn: 1, infer: inferTest, lower: lowerTest},
		"IsInf":           {minIn: 1, infer: inferTest, lower: lowerTest},
		"Not":             {minIn: 1, infer: inferNot, lower: lowerNot},
		"Add":             {minIn: 2, infer: inferBinary, lower: lowerBinary},
		"Sub":             {minIn: 2, infer: inferBinary, lower: lowerBinary},
		"Mul":             {minIn: 2, infer: inferBinary, lower: lowerBinary},
		"Div":             {minIn: 2, infer: inferBinary, lower: lowerBinary},
		"Mod":             {minIn: 2, infer: inferBinary, lower: lowerBinary},
		"PRelu":           {minIn: 2, infer: inferPRelu, lower: lowerBinary},
		"Pow":             {minIn: 2, infer: inferPow, lower: lowerPow},
		"Max":             {minIn: 1, infer: inferVariadic, lower: lowerBinary},
		"Min":             {minIn: 1, infer: inferVariadic, lower: lowerBinary},
		"Sum":             {minIn: 1, infer: inferVariadic, lower: lowerBinary},
		"Mean":            {minIn: 1, infer: inferVariadic, lower: lowerBinary},
		"Equal":           {minIn: 2, infer: inferCompare, lower: lowerBinary},
		"Greater":         {minIn: 2, infer: inferCompare, lower: lowerBinary},
		"GreaterOrEqual":  {minIn: 2, infer: inferCompare, lower: lowerBinary},
		"Less":            {minIn: 2, infer: inferCompare, lower: lowerBinary},
		"LessOrEqual":     {minIn: 2, infer: inferCompare, lower: lowerBinary},
		"And":             {minIn: 2, infer: inferLogic, lower: lowerBinary},
		"Or":              {minIn: 2, infer: inferLogic, lower: lowerBinary},
		"Xor":             {minIn: 2, infer: inferLogic, lower: lowerBinary},
		"BitShift":        {minIn: 2, check: checkBitShift, infer: inferBits, lower: lowerBinary},
		"BitwiseAnd":      {minIn: 2, infer: inferBits, lower: lowerBinary},
		"BitwiseOr":       {minIn: 2, infer: inferBits, lower: lowerBinary},
		"BitwiseXor":      {minIn: 2, infer: inferBits, lower: lowerBinary},
		"Where":           {minIn: 3, infer: inferWhere, lower: lowerWhere},
		"dunlin.QAdd":     {minIn: 2, infer: inferQAdd, lower: lowerQAdd},

		"dunlin.QMul":    {minIn: 2, infer: inferQMul, lower: lowerQMul},
		"dunlin.QMatMul": {minIn: 2, infer: inferQMatMul, lower: lowerQMatMul},
		"dunlin.LookUp":  {minIn: 2, infer: inferLookUp, lower: lowerLookUp},
		"dunlin.Table":   {minIn: 2, infer: inferTable, lower: lowerTable},

		// Recurrent.
		"RNN":  {minIn: 3, outs: 2, anyOut: true, check: checkRecurrent, infer: inferRecurrent, lower: lowerRecurrent},
		"GRU":  {minIn: 3, outs: 2, anyOut: true, check: checkRecurrent, infer: inferRecurrent, lower: lowerRecurrent},
		"LSTM": {minIn: 3, outs: 3, anyOut: true, check: checkRecurrent, infer: inferRecurrent, lower: lowerRecurrent},

		// Integers, and forms that carry scales: see op_qoperator.go.
		"DynamicQuantizeLinear": {minIn: 1, outs: 3, infer: inferDynamicQuantize, lower: lowerDynamicQuantize},
		"MatMulInteger":         {minIn: 2, infer: inferMatMulInteger, lower: lowerMatMulInteger},
		"ConvInteger":           {minIn: 2, check: checkConv, infer: inferConvInteger, lower: lowerConvInteger},
		"QLinearConv":           {minIn: 8, check: checkConv, expand: expandQLinearConv},
		"QLinearMatMul":         {minIn: 8, expand: expandQLinearMatMul},

		"com.microsoft.QLinearAdd":               {minIn: 7, expand: expandQLinearBinary("Add")},
		"com.microsoft.QLinearMul":               {minIn: 7, expand: expandQLinearBinary("Mul")},
		"com.microsoft.QLinearSigmoid":           {minIn: 4, expand: expandQLinearUnary("Sigmoid")},
		"com.microsoft.QLinearLeakyRelu":         {minIn: 4, expand: expandQLinearUnary("LeakyRelu")},
		"com.microsoft.QLinearSoftmax":           {minIn: 4, expand: expandQLinearUnary("Softmax")},
		"com.microsoft.QLinearReduceMean":        {minIn: 4, expand: expandQLinearUnary("ReduceMean")},
		"com.microsoft.QLinearAveragePool":       {minIn: 4, check: checkPool, expand: expandQLinearUnary("AveragePool")},
		"com.microsoft.QLinearGlobalAveragePool": {minIn: 4, expand: expandQLinearUnary("GlobalAveragePool")},
		"com.microsoft.QLinearConcat":            {minIn: 5, expand: expandQLinearConcat},
		"com.microsoft.QGemm":                    {minIn: 6, expand: expandQGemm},
		"com.microsoft.DynamicQuantizeMatMul":    {minIn: 3, expand: expandDynamicMatMul},
		"com.microsoft.MatMulIntegerToFloat":     {minIn: 4, expand: expandMatMulIntegerToFloat},

		// Control flow: see stage.go and branch.go.
		"If":   {minIn: 1, outs: 1 << 16, anyOut: true, check: checkIf, infer: inferIf, lower: lowerNever},
		"Loop": {outs: 1 << 16, anyOut: true, check: checkLoop, eager: eagerLoop},
		"Scan": {minIn: 1, outs: 1 << 16, anyOut: true, check: checkScan, eager: eagerScan},

		// Between types.
		"Cast":             {minIn: 1, check: checkCast, infer: inferCast, lower: lowerCast},
		"CastLike":         {minIn: 2, infer: inferCastLike, lower: lowerCast},
		"QuantizeLinear":   {minIn: 2, infer: inferQuantize, lower: lowerQuantize},
		"DequantizeLinear": {minIn: 2, infer: inferDequantize, lower: lowerDequantize},
		"dunlin.Requant":   {minIn: 1, infer: inferSame, lower: lowerRequant},
		"dunlin.FlipSign":  {minIn: 1, infer: inferFlipSign, lower: lowerFlipSign},

		"dunlin.QuantizePlanes": {minIn: 2, infer: inferQuantizePlanes, lower: lowerQuantizePlanes},

		// Shapes, and moves of data.
		"Identity":  {minIn: 1, infer: inferSame, lower: lowerAlias},
		"Dropout":   {minIn: 1, outs: 2, infer: inferDropout, lower: lowerDropout, limits: "does not drop"},
		"Reshape":   {minIn: 2, infer: inferReshape, lower: lowerAlias},
		"Flatten":   {minIn: 1, infer: inferFlatten, lower: lowerAlias},
		"Squeeze":   {minIn: 1, infer: inferSqueeze, lower: lowerAlias},
		"Unsqueeze": {minIn: 2, infer: inferUnsqueeze, lower: lowerAlias},
		"Transpose": {minIn: 1, infer: inferTranspose, lower: lowerTranspose},
		"Concat":    {minIn: 1, infer: inferConcat, lower: lowerConcat},
		"Gather":    {minIn: 2, infer: inferGather, lower: lowerGather},
		"Slice":     {minIn: 3, infer: inferSlice, lower: lowerSlice},
		"Shape":     {minIn: 1, infer: inferShape, lower: lowerShape},

		"Expand":          {minIn: 2, infer: inferExpand, lower: lowerExpand},
		"Resize":          {minIn: 1, check: checkResize, infer: inferResize, lower: lowerResize, limits: "linear and cubic in float32"},
		"Tile":            {minIn: 2, infer: inferTile, lower: lowerTile},
		"Pad":             {minIn: 2, check: checkPad, infer: inferPad, lower: lowerPad},
		"Split":           {minIn: 1, outs: 1 << 16, anyOut: true, infer: inferSplit, lower: lowerSplit},
		"DepthToSpace":    {minIn: 1, infer: inferDepthToSpace, lower: lowerDepthToSpace},
		"SpaceToDepth":    {minIn: 1, infer: inferDepthToSpace, lower: lowerDepthToSpace},
		"Trilu":           {minIn: 1, infer: inferTrilu, lower: lowerTrilu},
		"ReverseSequence": {minIn: 2, infer: inferReverseSequence, lower: lowerReverseSequence},
		"Size":            {minIn: 1, infer: inferSize, lower: lowerSize},
		"ConstantOfShape": {minIn: 1, infer: inferConstantOfShape, lower: lowerConstantOfShape},
		"Range":           {minIn: 3, infer: inferRange, lower: lowerRange},
		"EyeLike":         {minIn: 1, infer: inferEyeLike, lower: lowerEyeLike},
		"OneHot":          {minIn: 3, infer: inferOneHot, lower: lowerOneHot},
		"CumSum":          {minIn: 2, infer: inferCumSum, lower: lowerCumSum},

		// Indices.
		"GatherElements":  {minIn: 2, infer: inferGatherElements, lower: lowerGatherElements},
		"GatherND":        {minIn: 2, infer: inferGatherND, lower: lowerGatherND},
		"ScatterElements": {minIn: 3, check: checkScatter, infer: inferScatterElements, lower: lowerScatter},
		"ScatterND":       {minIn: 3, check: checkScatter, infer: inferScatterND, lower: lowerScatter},
		"ArgMax":          {minIn: 1, infer: inferArgBest, lower: lowerArgBest},
		"ArgMin":          {minIn: 1, infer: inferArgBest, lower: lowerArgBest},
		"TopK":            {minIn: 2, outs: 2, anyOut: true, infer: inferTopK, lower: lowerTopK},

		// Signals, and places between pixels.
		"DFT":             {minIn: 1, infer: inferDFT, lower: lowerDFT, limits: "float32; no inverse of one side"},
		"STFT":            {minIn: 2, infer: inferSTFT, lower: lowerSTFT},
		"HannWindow":      {minIn: 1, infer: inferWindow, lower: lowerWindow},
		"HammingWindow":   {minIn: 1, infer: inferWindow, lower: lowerWindow},
		"BlackmanWindow":  {minIn: 1, infer: inferWindow, lower: lowerWindow},
		"MelWeightMatrix": {minIn: 5, infer: inferMelWeights, lower: lowerMelWeights},
		"GridSample":      {minIn: 2, check: checkGridSample, infer: inferGridSample, lower: lowerGridSample, limits: "2 spatial axes, float32"},
		"RoiAlign":        {minIn: 3, check: checkRoiAlign, infer: inferRoiAlign, lower: lowerRoiAlign, limits: "float32"},
		"Det":             {minIn: 1, infer: inferDet, lower: lowerDet},

		"TfIdfVectorizer": {minIn: 1, infer: inferNGrams, lower: lowerNGrams, limits: "integers only"},

		// Sequences: see sequence.go.
		"SequenceEmpty":      {},
		"SequenceConstruct":  {minIn: 1},
		"SequenceInsert":     {minIn: 2},
		"SequenceErase":      {minIn: 1},
		"SequenceAt":         {minIn: 2},
		"SequenceLength":     {minIn: 1},
		"ConcatFromSequence": {minIn: 1},
		"SplitToSequence":    {minIn: 1},

		// As many results as the data say.
		"NonZero":           {minIn: 1, eager: eagerly(nonZero)},
		"Compress":          {minIn: 2, eager: eagerly(compress)},
		"Unique":            {minIn: 1, outs: 4, anyOut: true, eager: eagerly(unique)},
		"NonMaxSuppression": {minIn: 2, eager: eagerly(nonMaxSuppression)},
	}
}

// named returns a kernel that takes no packed weights.
func named(name string) *kernel { return &kernel{name: name, tier: kernels.Generic} }
