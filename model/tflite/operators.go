package tflite

import "fmt"

// lowerFunc lowers one operator: it defines each of its outputs.
type lowerFunc func(l *lowering, o *op) error

// form is what the importer knows of an operator.
type form struct {
	union int8 // the table of BuiltinOptions that it has, 0 where none is read
	minIn int  // inputs that must be there
	lower lowerFunc
}

// forms is every operator that the importer lowers, by its name in the enum
// BuiltinOperator. To add one: a row here, and its function in the op_*.go of
// its kind. It is filled at start, since some functions look at it.
var forms map[string]form

func init() {
	forms = map[string]form{
		// Convolutions, products and pools.
		"CONV_2D":                      {1, 2, lowerConv},
		"DEPTHWISE_CONV_2D":            {2, 2, lowerDepthwiseConv},
		"TRANSPOSE_CONV":               {49, 3, lowerTransposeConv},
		"FULLY_CONNECTED":              {8, 2, lowerFullyConnected},
		"BATCH_MATMUL":                 {101, 2, lowerBatchMatMul},
		"AVERAGE_POOL_2D":              {5, 1, pool("AveragePool")},
		"MAX_POOL_2D":                  {5, 1, pool("MaxPool")},
		"UNIDIRECTIONAL_SEQUENCE_LSTM": {71, 1, lowerLSTM},

		// One element at a time.
		"ADD":                {11, 2, pair("Add", true)},
		"SUB":                {28, 2, pair("Sub", true)},
		"MUL":                {21, 2, pair("Mul", true)},
		"DIV":                {29, 2, pair("Div", true)},
		"FLOOR_DIV":          {0, 2, lowerFloorDiv},
		"FLOOR_MOD":          {0, 2, double(floorMod, false)},
		"MAXIMUM":            {0, 2, pair("Max", false)},
		"MINIMUM":            {0, 2, pair("Min", false)},
		"POW":                {0, 2, pair("Pow", false)},
		"SQUARED_DIFFERENCE": {0, 2, double(squaredDifference, false)},
		"LESS":               {0, 2, pair("Less", false)},
		"LESS_EQUAL":         {0, 2, pair("LessOrEqual", false)},
		"GREATER":            {0, 2, pair("Greater", false)},
		"GREATER_EQUAL":      {0, 2, pair("GreaterOrEqual", false)},
		"EQUAL":              {0, 2, pair("Equal", false)},
		"NOT_EQUAL":          {0, 2, flipped("Equal")},
		"LOGICAL_OR":         {0, 2, pair("Or", false)},
		"LOGICAL_AND":        {0, 2, pair("And", false)},
		"LOGICAL_NOT":        {0, 1, same("Not")},
		"SELECT":             {0, 3, lowerSelect},
		"SELECT_V2":          {0, 3, lowerSelect},
		"RELU":               {0, 1, same("Relu")},
		"RELU_N1_TO_1":       {0, 1, clipped(-1, 1)},
		"RELU6":              {0, 1, clipped(0, 6)},
		"RELU_0_TO_1":        {0, 1, clipped(0, 1)},
		"LOGISTIC":           {0, 1, same("Sigmoid")},
		"TANH":               {0, 1, same("Tanh")},
		"HARD_SWISH":         {0, 1, same("HardSwish")},
		"ELU":                {0, 1, same("Elu")},
		"PRELU":              {0, 2, lowerPRelu},
		"LEAKY_RELU": {75, 1, single(func(l *lowering, o *op, x string) string {
			return l.emit("LeakyRelu", attrs{"alpha": o.options.float32(0, 0)}, x)
		})},
		"GELU": {116, 1, single(func(l *lowering, o *op, x string) string {
			approximate := "none"
			if o.options.bool(0) {
				approximate = "tanh"
			}
			return l.emit("Gelu", attrs{"approximate": approximate}, x)
		})},
		"ABS":  {0, 1, same("Abs")},
		"NEG":  {0, 1, same("Neg")},
		"EXP":  {0, 1, same("Exp")},
		"LOG":  {0, 1, same("Log")},
		"SIN":  {0, 1, same("Sin")},
		"COS":  {0, 1, same("Cos")},
		"SQRT": {0, 1, same("Sqrt")},
		"RSQRT": {0, 1, single(func(l *lowering, _ *op, x string) string {
			return l.emit("Reciprocal", nil, l.emit("Sqrt", nil, x))
		})},
		"SQUARE": {0, 1, single(func(l *lowering, _ *op, x string) string { return l.emit("Mul", nil, x, x) })},
		"FLOOR":  {0, 1, same("Floor")},
		"CEIL":   {0, 1, same("Ceil")},
		"ROUND":  {0, 1, same("Round")},
		"SIGN":   {0, 1, same("Sign")},

		// Between types.
		"CAST":       {0, 1, lowerCast},
		"QUANTIZE":   {0, 1, lowerQuantize},
		"DEQUANTIZE": {0, 1, lowerDequantize},

		// Along axes.
		"SOFTMAX":          {9, 1, lowerSoftmax},
		"LOG_SOFTMAX":      {0, 1, lastAxis("LogSoftmax", nil)},
		"L2_NORMALIZATION": {0, 1, lastAxis("LpNormalization", attrs{"p": int64(2)})},
		"MEAN":             {27, 2, reduce("ReduceMean")},
		"SUM":              {27, 2, reduce("ReduceSum")},
		"REDUCE_PROD":      {27, 2, reduce("ReduceProd")},
		"REDUCE_MAX":       {27, 2, reduce("ReduceMax")},
		"REDUCE_MIN":       {27, 2, reduce("ReduceMin")},
		"ARG_MAX":          {0, 2, argument("ArgMax")},
		"ARG_MIN":          {0, 2, argument("ArgMin")},
		"TOPK_V2":          {0, 2, lowerTopK},

		// Shapes, and moves of data.
		"RESHAPE":                 {17, 1, lowerReshape},
		"SQUEEZE":                 {30, 1, lowerSqueeze},
		"EXPAND_DIMS":             {0, 2, lowerExpandDims},
		"SHAPE":                   {0, 1, lowerShape},
		"TRANSPOSE":               {0, 2, lowerTranspose},
		"CONCATENATION":           {10, 1, lowerConcat},
		"PACK":                    {59, 1, lowerPack},
		"UNPACK":                  {64, 1, lowerUnpack},
		"SPLIT":                   {35, 2, lowerSplit},
		"SPLIT_V":                 {0, 3, lowerSplit},
		"STRIDED_SLICE":           {32, 4, lowerStridedSlice},
		"SLICE":                   {0, 3, lowerSlice},
		"GATHER":                  {23, 2, lowerGather},
		"GATHER_ND":               {0, 2, lowerGatherND},
		"EMBEDDING_LOOKUP":        {0, 2, lowerEmbedding},
		"TILE":                    {0, 2, lowerTile},
		"BROADCAST_TO":            {0, 2, lowerBroadcastTo},
		"PAD":                     {0, 2, lowerPad},
		"PADV2":                   {0, 3, lowerPad},
		"MIRROR_PAD":              {77, 2, lowerPad},
		"SPACE_TO_BATCH_ND":       {0, 3, lowerSpaceToBatch},
		"BATCH_TO_SPACE_ND":       {0, 3, lowerBatchToSpace},
		"DEPTH_TO_SPACE":          {94, 1, depthSpace("DepthToSpace", false)},
		"SPACE_TO_DEPTH":          {19, 1, depthSpace("SpaceToDepth", true)},
		"RESIZE_BILINEAR":         {15, 2, lowerResize},
		"RESIZE_NEAREST_NEIGHBOR": {74, 2, lowerResize},
	}
}

// operatorName returns the name of an operator code for messages and nodes.
func operatorName(c code) string {
	switch {
	case c.builtin == builtinCustom:
		return quote(c.custom)
	case c.builtin >= 0 && c.builtin < len(builtinNames):
		return builtinNames[c.builtin]
	}
	return fmt.Sprintf("operator code %d", c.builtin)
}
