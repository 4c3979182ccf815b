//go:build !purego

package kernels

//go:generate go run -C _gen .

// What amd64 adds to each operation's table.
var (
	gemmInt8Native = []variant[gemmInt8Tier]{
		{AVX512, true, tileInt8AVX512.gemm()},
		{AVXVNNI, true, tileInt8AVXVNNI.gemm()},
		{AVX2, true, tileInt8AVX2.gemm()},
	}
	convInt8Native = []variant[convInt8Tier]{
		{AVX512, true, tileInt8AVX512.conv()},
		{AVXVNNI, true, tileInt8AVXVNNI.conv()},
		{AVX2, true, tileInt8AVX2.conv()},
	}
	depthwiseInt8Native = []variant[depthwiseInt8Tier]{
		{AVX512, true, depthwiseAVX512.tier()},
		{AVXVNNI, true, depthwiseAVXVNNI.tier()},
		{AVX2, true, depthwiseAVX2.tier()},
	}

	addInt8Native = []variant[addInt8Func]{
		{AVX512, true, addInt8Tier(16)},
		{AVX2, true, addInt8Tier(8)},
	}
	quantizeInt8Native = []variant[quantizeTier[int8]]{
		{AVX512, true, quantizeWith[int8](16, true)},
		{AVX2, true, quantizeWith[int8](8, true)},
	}
	quantizeUint8Native = []variant[quantizeTier[uint8]]{
		{AVX512, true, quantizeWith[uint8](16, false)},
		{AVX2, true, quantizeWith[uint8](8, false)},
	}
	quantizePlanesNative = []variant[quantizePlanesFunc]{
		{AVX512, true, quantizePlanesTier(16)},
		{AVX2, true, quantizePlanesTier(8)},
	}
	dequantizeInt8Native = []variant[dequantizeTier[int8]]{
		{AVX512, true, dequantizeWith[int8](16, true)},
		{AVX2, true, dequantizeWith[int8](8, true)},
	}
	dequantizeUint8Native = []variant[dequantizeTier[uint8]]{
		{AVX512, true, dequantizeWith[uint8](16, false)},
		{AVX2, true, dequantizeWith[uint8](8, false)},
	}
	dequantizeInt32Native = []variant[dequantizeTier[int32]]{
		{AVX512, true, dequantizeInt32With(16)},
		{AVX2, true, dequantizeInt32With(8)},
	}
	maxPoolInt8Native = []variant[maxPoolInt8Func]{
		{AVX512, true, maxPoolInt8Tier(16)},
		{AVX2, true, maxPoolInt8Tier(8)},
	}
	averagePoolInt8Native = []variant[averagePoolInt8Func]{
		{AVX512, true, averagePoolInt8Tier(16)},
		{AVX2, true, averagePoolInt8Tier(8)},
	}

	maxPoolF32Native = []variant[maxPoolF32Func]{
		{AVX512, true, maxPoolF32Tier(16)},
		{AVX2, true, maxPoolF32Tier(8)},
	}
	averagePoolF32Native = []variant[averagePoolF32Func]{
		{AVX512, true, averagePoolF32Tier(16)},
		{AVX2, true, averagePoolF32Tier(8)},
	}
	transposeNative = []variant[transposeFunc]{
		{AVX512, true, transposeTiles(16)},
		{AVX2, true, transposeTiles(8)},
	}
	rowsF32Native = []variant[rowsF32Func]{
		{AVX512, true, rowsF32Tier(16)},
		{AVX2, true, rowsF32Tier(8)},
	}

	// Of a tier, the fast one first: pick takes the first that will do.
	gemmF32Native = []variant[gemmF32Tier]{
		{AVX512, false, tileF32AVX512.gemm()},
		{AVX512, true, tileExactF32AVX512.gemm()},
		{AVX2, false, tileF32AVX2.gemm()},
		{AVX2, true, tileExactF32AVX2.gemm()},
	}
	productF32Native = []variant[productF32Tier]{
		{AVX512, false, tileF32AVX512.productTier()},
		{AVX512, true, tileExactF32AVX512.productTier()},
		{AVX2, false, tileF32AVX2.productTier()},
		{AVX2, true, tileExactF32AVX2.productTier()},
	}
	gemmF16Native = []variant[gemmF32Tier]{
		{AVX512, false, tileF16AVX512.gemm()},
		{AVX2, false, tileF16AVX2.gemm()},
	}
	convF32Native = []variant[convF32Tier]{
		{AVX512, false, tileF32AVX512.conv()},
		{AVX512, true, tileExactF32AVX512.conv()},
		{AVX2, false, tileF32AVX2.conv()},
		{AVX2, true, tileExactF32AVX2.conv()},
	}
	depthwiseF32Native = []variant[depthwiseF32Tier]{
		{AVX512, false, depthwiseRealAVX512.tier()},
		{AVX512, true, depthwiseExactAVX512.tier()},
		{AVX2, false, depthwiseRealAVX2.tier()},
		{AVX2, true, depthwiseExactAVX2.tier()},
	}

	smoothNative  = []variant[smoothTier]{{AVX512, true, smoothAVX512}, {AVX2, true, smoothAVX2}}
	softmaxNative = []variant[softmaxFunc]{
		{AVX512, true, softmaxWith(softmaxAVX512)},
		{AVX2, true, softmaxWith(softmaxAVX2)},
	}
	standardizeNative = []variant[standardizeTier]{{AVX512, true, standardizeWithAVX512}, {AVX2, true, standardizeWithAVX2}}
	spanNative        = []variant[spanFunc]{
		{AVX512, true, func(x []float32) (lo, hi float32) { return spanAVX512(addressOf(x), len(x)) }},
		{AVX2, true, func(x []float32) (lo, hi float32) { return spanAVX2(addressOf(x), len(x)) }},
	}
)

// Loops that measure.
var (
	peakInt8Native = []variant[peakLoop]{
		{AVX512, true, peakLoop{peakInt8AVX512, peakInt8AVX512MACs}},
		{AVXVNNI, true, peakLoop{peakInt8AVXVNNI, peakInt8AVXVNNIMACs}},
		{AVX2, true, peakLoop{peakInt8AVX2, peakInt8AVX2MACs}},
	}
	peakF32Native = []variant[peakLoop]{
		{AVX512, false, peakLoop{peakF32AVX512, peakF32AVX512MACs}},
		{AVX2, false, peakLoop{peakF32AVX2, peakF32AVX2MACs}},
	}
)
