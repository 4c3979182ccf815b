//go:build !purego

package kernels

// tileArgs is what a tile function reads. It lies in scratch and holds
// addresses as integers: the garbage collector does not look at them, so that
// one may point past an end, and the driver keeps what they point to alive.
type tileArgs struct {
	rows      uintptr // list of the addresses of rows: [segments][rowStep/8]
	rowStep   uintptr // bytes from one segment's list to the next
	segments  uintptr // how many
	from      uintptr // not looked at
	order     uintptr // likewise
	steps     uintptr // in a segment
	weights   uintptr // [segments][steps][columns][step]
	ahead     uintptr // not looked at
	aheadStep uintptr // likewise
	bias      uintptr // a value for each column
	less      uintptr // an int32 for each row, taken off its sums, or 0: none
	unscale   uintptr // a float32 for each row, which sums are times, for tiles of binary16 (FP16)
	scale     uintptr // float32 for each column, for modeF32 and modeInt8
	more      uintptr // first row of what is added to float sums, as far apart as out's, or 0: nothing
	out       uintptr // first row of the result
	ld        uintptr // bytes from one row of the result to the next
	tiles     uintptr // how many, at least 1
	mask      uint64  // not looked at: no tier of arm64 has masks
	mode      uint64  // modeInt32, modeF32, or else modeInt8
	lo        float32 // lower bound of a float result
	hi        float32 // upper bound, of a requantised value before zero is added
	zero      int32   // zero point of the result
	least     int32   // lower bound of a requantised value
	most      int32   // not looked at: it is hi with zero added
}

// depthwiseArgs is what a depthwise function reads. See tileArgs.
type depthwiseArgs struct {
	taps    uintptr // addresses of the taps of the first pixel, or of rows
	groups  uintptr // how many, or groups of four
	terms   uintptr // how many weights of a tap are added up to one
	weights uintptr // [blocks][groups][terms][16 channels][taps of a group]
	bias    uintptr // [blocks][16]
	scale   uintptr // [blocks][16], float32
	out     uintptr // first pixel of the result
	outStep uintptr // bytes from one pixel of the result to the next
	inStep  uintptr // bytes from a pixel's tap to that of the next
	pixels  uintptr // how many
	rows    uintptr // not looked at: one
	blocks  uintptr // of 16 channels of int8, 8 of float32
	mask    uint64  // not looked at: no tier of arm64 has masks
	lo      float32 // lower bound of a float result
	hi      float32 // upper bound, of a requantised value before zero is added
	zero    int32   // zero point of the result
	least   int32   // lower bound of a requantised value
}

// loopArgs is what the loops over neighbouring elements read: see tileArgs.
type loopArgs struct {
	out    uintptr // result
	a      uintptr // first input
	b      uintptr // second input
	plane  uintptr // bytes from one plane of the first input to the next
	blocks uintptr // of 16, at least 1
	scaleA float32 // of the first input
	scaleB float32 // of the second
	lo     float32 // not looked at: it is least before zero is added
	hi     float32 // likewise of most
	zeroA  int32   // zero point of the first input
	zeroB  int32   // of the second
	zero   int32   // zero point of the result
	least  int32   // lower bound of the result
	most   int32   // upper bound
}

// rowArgs is what the elementwise loops over rows of float32 read: see
// tileArgs. A row that repeats its first value has 0 for the bytes from one
// register, or value, to the next.
type rowArgs struct {
	out     uintptr // first row of the result
	a       uintptr // first row of the first input
	b       uintptr // first row of the second, where there is one
	rows    uintptr // how many, at least 1
	vectors uintptr // whole registers of a row
	rest    uintptr // values of a row behind them
	outStep uintptr // bytes from one row to the next
	aStep   uintptr // likewise of a
	bStep   uintptr // likewise of b
	aEach   uintptr // bytes of a value, or 0
	bEach   uintptr // likewise of b
	p       float32 // first parameter
	q       float32 // second parameter
}

// stridedArgs is what the loops of StridedF32 read: see tileArgs.
type stridedArgs struct {
	out     uintptr // first row of the result
	a       uintptr // first row of a
	b       uintptr // likewise of b
	c       uintptr // likewise of c
	rows    uintptr // how many, at least 1
	vectors uintptr // whole registers of a row
	rest    uintptr // values of a row behind them
	outStep uintptr // bytes from one row to the next
	aStep   uintptr // likewise of a
	bStep   uintptr // likewise of b
	cStep   uintptr // likewise of c
	p       float32 // first parameter
	q       float32 // second parameter
}

// transposeArgs is what the transposes of square tiles read: see tileArgs. A
// tile takes as many neighbouring values of as many lines and makes columns of
// them; the next tile takes what stands behind in the same lines.
type transposeArgs struct {
	in      uintptr // first value of the first line
	inStep  uintptr // bytes from line to line
	inStep3 uintptr // bytes from a line to the third behind it
	out     uintptr // first row of the result
	outStep uintptr // bytes from row to row
	tiles   uintptr // how many, at least 1
}

// poolArgs is what the pools read: see tileArgs.
type poolArgs struct {
	in      uintptr // where the window of the first pixel begins
	taps    uintptr // list of the distances of taps from there
	count   uintptr // how many taps
	out     uintptr // first pixel of the result
	outStep uintptr // bytes from one pixel of the result to the next
	inStep  uintptr // bytes from a pixel's tap to that of the next
	pixels  uintptr // how many
	mask    uint64  // not looked at: no tier of arm64 has masks
	blocks  uintptr // of 16 channels
	scale   float32 // of a sum
	hi      float32 // not looked at: it is most before zero is added
	start   int32   // what sums begin with
	zero    int32   // zero point of the result
	least   int32   // lower bound of the result
	most    int32   // upper bound
}

// The tiles of a tier, by columns and by the rows of tileRowsInt8.
var (
	tilesInt8NEON = tileSetInt8{lanes: 8, functions: []tileColumnInt8{
		{2: tileInt8_2x8_NEON, 3: tileInt8_1x8_NEON},
	}}
	tilesInt8DotProd = tileSetInt8{lanes: 8, functions: []tileColumnInt8{
		{1: tileInt8_4x8_DOTPROD, 2: tileInt8_2x8_DOTPROD, 3: tileInt8_1x8_DOTPROD},
		{1: tileInt8_4x16_DOTPROD, 2: tileInt8_2x16_DOTPROD, 3: tileInt8_1x16_DOTPROD},
	}}
	tilesInt8I8MM = tileSetInt8{lanes: 8, functions: []tileColumnInt8{
		{1: tileInt8_4x8_I8MM, 2: tileInt8_2x8_I8MM, 3: tileInt8_1x8_I8MM},
		{1: tileInt8_4x16_I8MM, 2: tileInt8_2x16_I8MM, 3: tileInt8_1x16_I8MM},
	}}
	tilesF32NEON = tileSetF32{lanes: 8, functions: [][]func(*tileArgs){
		{tileF32_1x8_NEON, tileF32_2x8_NEON, nil, tileF32_4x8_NEON},
		{tileF32_1x16_NEON, tileF32_2x16_NEON, nil, tileF32_4x16_NEON},
	}}
	tilesF16NEON = tileSetF32{lanes: 8, functions: [][]func(*tileArgs){
		{tileF16_1x8_NEON, tileF16_2x8_NEON, nil, tileF16_4x8_NEON},
		{tileF16_1x16_NEON, tileF16_2x16_NEON, nil, tileF16_4x16_NEON},
	}}
	tilesExactF32NEON = tileSetF32{lanes: 8, functions: [][]func(*tileArgs){
		{tileExactF32_1x8_NEON, tileExactF32_2x8_NEON, nil, tileExactF32_4x8_NEON},
		{tileExactF32_1x16_NEON, tileExactF32_2x16_NEON, nil, tileExactF32_4x16_NEON},
	}}
	// Panels are of 16 columns alone.
	tilesF16FP16 = tileSetF32{lanes: 8, functions: [][]func(*tileArgs){
		{tileF16_1x16_FP16, tileF16_2x16_FP16, nil, tileF16_4x16_FP16},
		{tileF16_1x16_FP16, tileF16_2x16_FP16, nil, tileF16_4x16_FP16},
	}}
)

//go:noescape
func tileInt8_2x8_NEON(args *tileArgs)

//go:noescape
func tileInt8_1x8_NEON(args *tileArgs)

//go:noescape
func tileInt8_4x16_DOTPROD(args *tileArgs)

//go:noescape
func tileInt8_2x16_DOTPROD(args *tileArgs)

//go:noescape
func tileInt8_1x16_DOTPROD(args *tileArgs)

//go:noescape
func tileInt8_4x8_DOTPROD(args *tileArgs)

//go:noescape
func tileInt8_2x8_DOTPROD(args *tileArgs)

//go:noescape
func tileInt8_1x8_DOTPROD(args *tileArgs)

//go:noescape
func depthwiseInt8_NEON(args *depthwiseArgs)

//go:noescape
func tileF32_4x16_NEON(args *tileArgs)

//go:noescape
func tileF32_2x16_NEON(args *tileArgs)

//go:noescape
func tileF32_1x16_NEON(args *tileArgs)

//go:noescape
func tileF32_4x8_NEON(args *tileArgs)

//go:noescape
func tileF32_2x8_NEON(args *tileArgs)

//go:noescape
func tileF32_1x8_NEON(args *tileArgs)

//go:noescape
func tileExactF32_4x16_NEON(args *tileArgs)

//go:noescape
func tileExactF32_2x16_NEON(args *tileArgs)

//go:noescape
func tileExactF32_1x16_NEON(args *tileArgs)

//go:noescape
func tileExactF32_4x8_NEON(args *tileArgs)

//go:noescape
func tileExactF32_2x8_NEON(args *tileArgs)

//go:noescape
func tileExactF32_1x8_NEON(args *tileArgs)

//go:noescape
func depthwiseF32_NEON(args *depthwiseArgs)

//go:noescape
func depthwiseExactF32_NEON(args *depthwiseArgs)

//go:noescape
func depthwiseF32_3x3s1_NEON(args *depthwiseArgs)

//go:noescape
func depthwiseF32_3x3s2_NEON(args *depthwiseArgs)

//go:noescape
func depthwiseExactF32_3x3s1_NEON(args *depthwiseArgs)

//go:noescape
func depthwiseExactF32_3x3s2_NEON(args *depthwiseArgs)

//go:noescape
func addInt8_NEON(args *loopArgs)

//go:noescape
func quantizeInt8_NEON(args *loopArgs)

//go:noescape
func quantizeUint8_NEON(args *loopArgs)

//go:noescape
func quantizePlanes2_NEON(args *loopArgs)

//go:noescape
func quantizePlanes3_NEON(args *loopArgs)

//go:noescape
func quantizePlanes4_NEON(args *loopArgs)

//go:noescape
func dequantizeInt8_NEON(args *loopArgs)

//go:noescape
func dequantizeUint8_NEON(args *loopArgs)

// dequantizeInt32_NEON turns integers into float32. Reference: Dequantize.
//
//go:noescape
func dequantizeInt32_NEON(args *loopArgs)

//go:noescape
func maxPoolInt8_NEON(args *poolArgs)

//go:noescape
func sumPoolInt8_NEON(args *poolArgs)

//go:noescape
func maxPoolF32_NEON(args *poolArgs)

//go:noescape
func sumPoolF32_NEON(args *poolArgs)

//go:noescape
func depthwiseInt8_3x3s1_DOTPROD(args *depthwiseArgs)

//go:noescape
func depthwiseInt8_3x3s2_DOTPROD(args *depthwiseArgs)

//go:noescape
func depthwiseInt8_5x5s1_DOTPROD(args *depthwiseArgs)

//go:noescape
func depthwiseInt8_5x5s2_DOTPROD(args *depthwiseArgs)

//go:noescape
func tileInt8_4x16_I8MM(args *tileArgs)

//go:noescape
func tileInt8_2x16_I8MM(args *tileArgs)

//go:noescape
func tileInt8_1x16_I8MM(args *tileArgs)

//go:noescape
func tileInt8_4x8_I8MM(args *tileArgs)

//go:noescape
func tileInt8_2x8_I8MM(args *tileArgs)

//go:noescape
func tileInt8_1x8_I8MM(args *tileArgs)

//go:noescape
func tileF16_4x16_NEON(args *tileArgs)

//go:noescape
func tileF16_2x16_NEON(args *tileArgs)

//go:noescape
func tileF16_1x16_NEON(args *tileArgs)

//go:noescape
func tileF16_4x8_NEON(args *tileArgs)

//go:noescape
func tileF16_2x8_NEON(args *tileArgs)

//go:noescape
func tileF16_1x8_NEON(args *tileArgs)

//go:noescape
func tileF16_4x16_FP16(args *tileArgs)

//go:noescape
func tileF16_2x16_FP16(args *tileArgs)

//go:noescape
func tileF16_1x16_FP16(args *tileArgs)

//go:noescape
func greatestF32_FP16(args *loopArgs)

//go:noescape
func halvesF32_FP16(args *loopArgs)

// The peak functions run n turns of nothing but products, and what one turn
// multiplies.
const (
	peakInt8NEONMACs    = 128
	peakInt8DotProdMACs = 256
	peakInt8I8MMMACs    = 512
	peakF32NEONMACs     = 64
	peakF16FP16MACs     = 128
)

func peakInt8_NEON(n int)

func peakInt8_DOTPROD(n int)

func peakInt8_I8MM(n int)

func peakF32_NEON(n int)

// exp_NEON computes Exp of blocks of 16 values, at least one. Reference: Exp.
//
//go:noescape
func exp_NEON(to, from *float32, blocks int)

// sigmoid_NEON computes Sigmoid of blocks of 16 values, at least one. Reference: Sigmoid.
//
//go:noescape
func sigmoid_NEON(to, from *float32, blocks int)

// tanh_NEON computes Tanh of blocks of 16 values, at least one. Reference: Tanh.
//
//go:noescape
func tanh_NEON(to, from *float32, blocks int)

// erf_NEON computes Erf of blocks of 16 values, at least one. Reference: Erf.
//
//go:noescape
func erf_NEON(to, from *float32, blocks int)

// gelu_NEON computes Gelu of blocks of 16 values, at least one. Reference: Gelu.
//
//go:noescape
func gelu_NEON(to, from *float32, blocks int)

// geluTanh_NEON computes GeluTanh of blocks of 16 values, at least one. Reference: GeluTanh.
//
//go:noescape
func geluTanh_NEON(to, from *float32, blocks int)

// silu_NEON computes Silu of blocks of 16 values, at least one. Reference: Silu.
//
//go:noescape
func silu_NEON(to, from *float32, blocks int)

// log_NEON computes Log of blocks of 16 values, at least one. Reference: Log.
//
//go:noescape
func log_NEON(to, from *float32, blocks int)

// expSum_NEON writes e^(x-top) of blocks of 16 values, at least one, and adds
// them to sums. Reference: Softmax.
//
//go:noescape
func expSum_NEON(sums *laneSums, to, from *float32, blocks int, top float32)

// sum_NEON adds blocks of 16 values, at least one, to sums. Reference: laneSums.add.
//
//go:noescape
func sum_NEON(sums *laneSums, x *float32, blocks int)

// deviations_NEON adds x-mean and its square of blocks of 16 values, at least
// one, to sums and squares. Reference: addDeviations.
//
//go:noescape
func deviations_NEON(sums, squares *laneSums, x *float32, blocks int, mean float32)

// standardize_NEON writes (x-mean)*inverse*scale + shift of blocks of 16
// values, at least one. Reference: scaleRow.
//
//go:noescape
func standardize_NEON(to, from, scale, shift *float32, blocks int, mean, inverse float32)

// standardizePlane_NEON writes (x-mean)*inverse*scale + shift of blocks of 16
// values, at least one. Reference: scalePlane.
//
//go:noescape
func standardizePlane_NEON(to, from *float32, blocks int, mean, inverse, scale, shift float32)

// span_NEON lowers least to the least of blocks of 16 values, at least one,
// and raises most to the largest, lane by lane. Reference: span.
//
//go:noescape
func span_NEON(least, most *laneSums, x *float32, blocks int)

// Elementwise loops over rows: see rows_f32.go.

//go:noescape
func addF32_NEON(args *rowArgs)

//go:noescape
func subF32_NEON(args *rowArgs)

//go:noescape
func mulF32_NEON(args *rowArgs)

//go:noescape
func divF32_NEON(args *rowArgs)

//go:noescape
func minF32_NEON(args *rowArgs)

//go:noescape
func maxF32_NEON(args *rowArgs)

//go:noescape
func preluF32_NEON(args *rowArgs)

//go:noescape
func copyF32_NEON(args *rowArgs)

//go:noescape
func clipF32_NEON(args *rowArgs)

//go:noescape
func hardSigmoidF32_NEON(args *rowArgs)

//go:noescape
func hardSwishF32_NEON(args *rowArgs)

//go:noescape
func absF32_NEON(args *rowArgs)

//go:noescape
func negF32_NEON(args *rowArgs)

//go:noescape
func sqrtF32_NEON(args *rowArgs)

//go:noescape
func reciprocalF32_NEON(args *rowArgs)

//go:noescape
func floorF32_NEON(args *rowArgs)

//go:noescape
func ceilF32_NEON(args *rowArgs)

//go:noescape
func roundF32_NEON(args *rowArgs)

//go:noescape
func stridedPassF32_NEON(args *stridedArgs)

//go:noescape
func stridedGiveF32_NEON(args *stridedArgs)

//go:noescape
func stridedAddF32_NEON(args *stridedArgs)

//go:noescape
func stridedAddProductF32_NEON(args *stridedArgs)

//go:noescape
func stridedLineF32_NEON(args *stridedArgs)

//go:noescape
func stridedAddSquareF32_NEON(args *stridedArgs)

//go:noescape
func stridedAddCentredF32_NEON(args *stridedArgs)

//go:noescape
func transpose4x4_NEON(args *transposeArgs)
func peakF16_FP16(n int)

// adamF32_NEON makes a step of Adam with blocks of 16 values, at least one.
// Reference: AdamF32Generic.
//
//go:noescape
func adamF32_NEON(p, m, v, gradient *float32, blocks int, a *Adam)
