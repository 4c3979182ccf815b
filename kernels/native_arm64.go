//go:build !purego

package kernels

// The integer tiers of arm64. All multiply int8 by int8 as they are, so that
// rows are read in place where their length fits.
var (
	tileInt8NEON    = &tileInt8{&tilesInt8NEON, layoutInt8{8, 8, 8, cellPaired}, copyBytes, 1}
	tileInt8I8MM    = &tileInt8{&tilesInt8I8MM, layoutInt8{16, 8, 8, cellSigned}, copyBytes, 1}
	tileInt8DotProd = &tileInt8{&tilesInt8DotProd, layoutInt8{16, 8, 4, cellSigned}, copyBytes, 1}
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

// stagedInt8 returns a value as staging leaves it: as it is.
func stagedInt8(v int8, _ int) [2]byte { return [2]byte{byte(v)} }

// The float tiers.
var (
	tileF32NEON        = &tileF32{&tilesF32NEON, layoutF32{width: 16, lanes: 8}}
	tileF16NEON        = &tileF32{&tilesF16NEON, layoutF32{width: 16, lanes: 8, half: true}}
	tileExactF32NEON   = &tileF32{&tilesExactF32NEON, layoutF32{width: 16, lanes: 8}}
	depthwiseRealNEON  = &depthwiseReal{lanes: 4, row: depthwiseF32_NEON}
	depthwiseExactNEON = &depthwiseReal{lanes: 4, row: depthwiseExactF32_NEON}
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
	gemmF16Native = []variant[gemmF32Tier]{{NEON, false, tileF16NEON.gemm()}}
	convF32Native = []variant[convF32Tier]{
		{NEON, false, tileF32NEON.conv()},
		{NEON, true, tileExactF32NEON.conv()},
	}
	depthwiseF32Native = []variant[depthwiseF32Tier]{
		{NEON, false, depthwiseRealNEON.tier()},
		{NEON, true, depthwiseExactNEON.tier()},
	}
	addInt8Native         = []variant[addInt8Func]{{NEON, true, addInt8NEON}}
	quantizeInt8Native    = []variant[quantizeTier[int8]]{{NEON, true, quantizeNEON[int8](true)}}
	quantizeUint8Native   = []variant[quantizeTier[uint8]]{{NEON, true, quantizeNEON[uint8](false)}}
	quantizePlanesNative  = []variant[quantizePlanesFunc]{{NEON, true, quantizePlanesNEON}}
	dequantizeInt8Native  = []variant[dequantizeTier[int8]]{{NEON, true, dequantizeNEON[int8](true)}}
	dequantizeUint8Native = []variant[dequantizeTier[uint8]]{{NEON, true, dequantizeNEON[uint8](false)}}
	dequantizeInt32Native = []variant[dequantizeTier[int32]]{{NEON, true, dequantizeInt32NEON}}
	maxPoolInt8Native     = []variant[maxPoolInt8Func]{{NEON, true, maxPoolInt8NEON}}
	rowsF32Native         = []variant[rowsF32Func]{{NEON, true, rowsF32NEON}}
	maxPoolF32Native      = []variant[maxPoolF32Func]{{NEON, true, maxPoolF32Tier(4)}}
	averagePoolF32Native  = []variant[averagePoolF32Func]{{NEON, true, averagePoolF32Tier(4)}}
	transposeNative       = []variant[transposeFunc]{{NEON, true, transposeTiles(4)}}
	averagePoolInt8Native = []variant[averagePoolInt8Func]{{NEON, true, averagePoolInt8NEON}}

	smoothNative      = []variant[smoothTier]{{NEON, true, smoothNEON}}
	softmaxNative     = []variant[softmaxFunc]{{NEON, true, softmaxNEON}}
	standardizeNative = []variant[standardizeTier]{{NEON, true, standardizeTier{sumNEON, deviationsNEON, scaleRowNEON, scalePlaneNEON}}}
	spanNative        = []variant[spanFunc]{{NEON, true, spanNEON}}
)

// Loops that measure.
var (
	peakInt8Native = []variant[peakLoop]{
		{I8MM, true, peakLoop{peakInt8_I8MM, peakInt8I8MMMACs}},
		{DotProd, true, peakLoop{peakInt8_DOTPROD, peakInt8DotProdMACs}},
		{NEON, true, peakLoop{peakInt8_NEON, peakInt8NEONMACs}},
	}
	peakF32Native = []variant[peakLoop]{{NEON, false, peakLoop{peakF32_NEON, peakF32NEONMACs}}}
)
