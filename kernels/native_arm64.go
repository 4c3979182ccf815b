//go:build !purego

package kernels

// The integer tiers of arm64. All multiply int8 by int8 as they are, so that
// rows are read in place where their length fits.
var (
	tileInt8NEON    = &tileInt8{&tilesInt8NEON, layoutInt8{8, 8, 8, cellPaired}, copyBytes, 1, nil}
	tileInt8I8MM    = &tileInt8{&tilesInt8I8MM, layoutInt8{16, 8, 8, cellSigned}, copyBytes, 1, nil}
	tileInt8DotProd = &tileInt8{&tilesInt8DotProd, layoutInt8{16, 8, 4, cellSigned}, copyBytes, 1, nil}
)

var (
	depthwiseNEON    = &depthwiseTier{4, 1, depthwiseInt8_NEON, copyBytes, 1, cellPaired, nil}
	depthwiseDotProd = &depthwiseTier{4, 1, depthwiseInt8_NEON, copyBytes, 1, cellPaired, []depthwiseColumns{
		{3, 1, 1, depthwiseInt8_3x3s1_DOTPROD},
		{3, 2, 1, depthwiseInt8_3x3s2_DOTPROD},
		{5, 1, 1, depthwiseInt8_5x5s1_DOTPROD},
		{5, 2, 1, depthwiseInt8_5x5s2_DOTPROD},
	}}
)

// depthwiseRows tells whether integer functions look at depthwiseArgs.rows;
// otherwise they compute one.
const depthwiseRows = false

// stagedBytes is how much of a large product's rows is staged at once: it
// stays in the second cache while all weights pass.
const stagedBytes = 128 << 10

// tilesAddFrom tells whether tiles look at tileArgs.from.
const tilesAddFrom = false

// stagedInt8 returns a value as staging leaves it: as it is.
func stagedInt8(v int8, _ int) [2]byte { return [2]byte{byte(v)} }

// The float tiers.
var (
	tileF32NEON        = &tileF32{&tilesF32NEON, layoutF32{width: 16, lanes: 8}}
	tileF16NEON        = &tileF32{&tilesF16NEON, layoutF32{width: 16, lanes: 8, half: true}}
	tileF16FP16        = &tileHalf{&tilesF16FP16, layoutF32{width: 16, lanes: 16, half: true, turn: stepHalf}}
	tileExactF32NEON   = &tileF32{&tilesExactF32NEON, layoutF32{width: 16, lanes: 8}}
	depthwiseRealNEON  = &depthwiseReal{4, depthwiseF32_NEON, []depthwiseSquare{{3, 1, depthwiseF32_3x3s1_NEON}, {3, 2, depthwiseF32_3x3s2_NEON}}}
	depthwiseExactNEON = &depthwiseReal{4, depthwiseExactF32_NEON, []depthwiseSquare{{3, 1, depthwiseExactF32_3x3s1_NEON}, {3, 2, depthwiseExactF32_3x3s2_NEON}}}
)

// What arm64 adds to each operation's table.
var (
	gemmInt8Native = []variant[gemmInt8Tier]{
		{I8MM, true, tileInt8I8MM.gemm()},
		{DotProd, true, tileInt8DotProd.gemm()},
		{NEON, true, tileInt8NEON.gemm()},
	}
	convInt8Native = []variant[convInt8Tier]{
		{I8MM, true, tileInt8I8MM.conv()},
		{DotProd, true, tileInt8DotProd.conv()},
		{NEON, true, tileInt8NEON.conv()},
	}
	depthwiseInt8Native = []variant[depthwiseInt8Tier]{
		{DotProd, true, depthwiseDotProd.tier()},
		{NEON, true, depthwiseNEON.tier()},
	}
	// Of a tier, the fast one first: pick takes the first that will do.
	gemmF32Native = []variant[gemmF32Tier]{
		{NEON, false, tileF32NEON.gemm()},
		{NEON, true, tileExactF32NEON.gemm()},
	}
	productF32Native = []variant[productF32Tier]{
		{NEON, false, tileF32NEON.productTier()},
		{NEON, true, tileExactF32NEON.productTier()},
	}
	gemmF16Native = []variant[gemmF32Tier]{
		{FP16, false, tileF16FP16.gemm()},
		{NEON, false, tileF16NEON.gemm()},
	}
	convF32Native = []variant[convF32Tier]{
		{NEON, false, tileF32NEON.conv()},
		{NEON, true, tileExactF32NEON.conv()},
	}
	depthwiseF32Native = []variant[depthwiseF32Tier]{
		{NEON, false, depthwiseRealNEON.tier()},
		{NEON, true, depthwiseExactNEON.tier()},
	}
	addInt8Native         = []variant[addInt8Func]{{NEON, true, addInt8Tier(4)}}
	quantizeInt8Native    = []variant[quantizeTier[int8]]{{NEON, true, quantizeInt8Tier(4)}}
	quantizeUint8Native   = []variant[quantizeTier[uint8]]{{NEON, true, quantizeUint8Tier(4)}}
	quantizePlanesNative  = []variant[quantizePlanesFunc]{{NEON, true, quantizePlanesTier(loopBlock)}}
	dequantizeInt8Native  = []variant[dequantizeTier[int8]]{{NEON, true, dequantizeWith[int8](loopDequantizeInt8, 4)}}
	dequantizeUint8Native = []variant[dequantizeTier[uint8]]{{NEON, true, dequantizeWith[uint8](loopDequantizeUint8, 4)}}
	dequantizeInt32Native = []variant[dequantizeTier[int32]]{{NEON, true, dequantizeWith[int32](loopDequantizeInt32, 4)}}
	maxPoolInt8Native     = []variant[maxPoolInt8Func]{{NEON, true, maxPoolInt8Tier(4)}}
	rowsF32Native         = []variant[rowsF32Func]{{NEON, true, rowsF32NEON}}
	stridedF32Native      = []variant[stridedF32Func]{{NEON, true, stridedF32NEON}}
	maxPoolF32Native      = []variant[maxPoolF32Func]{{NEON, true, maxPoolF32Tier(4)}}
	averagePoolF32Native  = []variant[averagePoolF32Func]{{NEON, true, averagePoolF32Tier(4)}}
	transposeNative       = []variant[transposeFunc]{{NEON, true, transposeTiles(4)}}
	averagePoolInt8Native = []variant[averagePoolInt8Func]{{NEON, true, averagePoolInt8Tier(4)}}

	smoothNative      = []variant[smoothTier]{{NEON, true, smoothNEON}}
	softmaxNative     = []variant[softmaxFunc]{{NEON, true, softmaxNEON}}
	standardizeNative = []variant[standardizeTier]{{NEON, true, standardizeTier{sumNEON, deviationsNEON, scaleRowNEON, scalePlaneNEON}}}
	spanNative        = []variant[spanFunc]{{NEON, true, spanNEON}}
	adamF32Native     = []variant[AdamFunc]{{NEON, true, adamF32NEON}}
)

// Loops that measure.
var (
	peakInt8Native = []variant[peakLoop]{
		{I8MM, true, peakLoop{peakInt8_I8MM, peakInt8I8MMMACs}},
		{DotProd, true, peakLoop{peakInt8_DOTPROD, peakInt8DotProdMACs}},
		{NEON, true, peakLoop{peakInt8_NEON, peakInt8NEONMACs}},
	}
	peakF32Native = []variant[peakLoop]{
		{FP16, false, peakLoop{peakF16_FP16, peakF16FP16MACs}},
		{NEON, false, peakLoop{peakF32_NEON, peakF32NEONMACs}},
	}
)
