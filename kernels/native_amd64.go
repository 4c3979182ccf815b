//go:build !purego

package kernels

//go:generate go run -C _gen .

// The integer tiers of amd64. AVX-512 and AVX-VNNI multiply uint8 by int8: rows
// get 128 added to each value, and biases less what that brings in. AVX2 has
// no exact product of bytes (VPMADDUBSW saturates), so that both become int16.
var (
	tileInt8AVX512  = &tileInt8{&tilesInt8AVX512, layoutInt8{64, 16, 4, cellBiased}, flipAVX512, 1, groupsInt8AVX512}
	tileInt8AVXVNNI = &tileInt8{&tilesInt8AVXVNNI, layoutInt8{16, 8, 4, cellBiased}, flipAVXVNNI, 1, groupsInt8AVXVNNI}
	tileInt8AVX2    = &tileInt8{&tilesInt8AVX2, layoutInt8{16, 8, 2, cellWide}, widenAVX2, 2, groupsInt8AVX2}

	groupsInt8AVX512  = &tileInt8{&tilesGroupsInt8AVX512, layoutInt8{16, 16, 4, cellBiased}, flipAVX512, 1, nil}
	groupsInt8AVXVNNI = &tileInt8{&tilesGroupsInt8AVXVNNI, layoutInt8{8, 8, 4, cellBiased}, flipAVXVNNI, 1, nil}
	groupsInt8AVX2    = &tileInt8{&tilesGroupsInt8AVX2, layoutInt8{8, 8, 2, cellWide}, widenAVX2, 2, nil}
)

var (
	depthwiseAVX512  = &depthwiseTier{16, 4, depthwiseInt8_AVX512, flipAVX512, 1, cellBiased, depthwiseColumnsAVX512}
	depthwiseAVXVNNI = &depthwiseTier{8, 4, depthwiseInt8_AVXVNNI, flipAVXVNNI, 1, cellBiased, nil}
	depthwiseAVX2    = &depthwiseTier{8, 2, depthwiseInt8_AVX2, widenAVX2, 2, cellWide, nil}
)

// depthwiseRows tells whether integer functions look at depthwiseArgs.rows;
// otherwise they compute one.
const depthwiseRows = true

// stagedBytes is how much of a large product's rows is staged at once: it
// stays in the second cache while all weights pass.
const stagedBytes = 64 << 10

// tilesAddFrom tells whether tiles look at tileArgs.from.
const tilesAddFrom = true

// stagedInt8 returns a value of size bytes as staging leaves it.
func stagedInt8(v int8, size int) [2]byte {
	if size == 1 {
		return [2]byte{byte(v) ^ 0x80}
	}
	return [2]byte{byte(v), byte(v >> 7)}
}

// The float tiers.
var (
	tileF32AVX512        = &tileF32{&tilesF32AVX512, layoutF32{width: 32, lanes: 16}}
	tileExactF32AVX512   = &tileF32{&tilesExactF32AVX512, layoutF32{width: 32, lanes: 16}}
	tileF16AVX512        = &tileF32{&tilesF16AVX512, layoutF32{width: 32, lanes: 16, half: true}}
	tileF16AVX2          = &tileF32{&tilesF16AVX2, layoutF32{width: 16, lanes: 8, half: true}}
	tileF32AVX2          = &tileF32{&tilesF32AVX2, layoutF32{width: 16, lanes: 8}}
	tileExactF32AVX2     = &tileF32{&tilesExactF32AVX2, layoutF32{width: 16, lanes: 8}}
	depthwiseRealAVX512  = &depthwiseReal{16, depthwiseF32_AVX512, depthwiseF32AVX512}
	depthwiseExactAVX512 = &depthwiseReal{16, depthwiseExactF32_AVX512, depthwiseExactF32AVX512}
	depthwiseRealAVX2    = &depthwiseReal{8, depthwiseF32_AVX2, depthwiseF32AVX2}
	depthwiseExactAVX2   = &depthwiseReal{8, depthwiseExactF32_AVX2, depthwiseExactF32AVX2}
)

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
		{AVX512, true, quantizeInt8Tier(16)},
		{AVX2, true, quantizeInt8Tier(8)},
	}
	quantizeUint8Native = []variant[quantizeTier[uint8]]{
		{AVX512, true, quantizeUint8Tier(16)},
		{AVX2, true, quantizeUint8Tier(8)},
	}
	quantizePlanesNative = []variant[quantizePlanesFunc]{
		{AVX512, true, quantizePlanesTier(16)},
		{AVX2, true, quantizePlanesTier(8)},
	}
	dequantizeInt8Native = []variant[dequantizeTier[int8]]{
		{AVX512, true, dequantizeWith[int8](loopDequantizeInt8, 16)},
		{AVX2, true, dequantizeWith[int8](loopDequantizeInt8, 8)},
	}
	dequantizeUint8Native = []variant[dequantizeTier[uint8]]{
		{AVX512, true, dequantizeWith[uint8](loopDequantizeUint8, 16)},
		{AVX2, true, dequantizeWith[uint8](loopDequantizeUint8, 8)},
	}
	dequantizeInt32Native = []variant[dequantizeTier[int32]]{
		{AVX512, true, dequantizeWith[int32](loopDequantizeInt32, 16)},
		{AVX2, true, dequantizeWith[int32](loopDequantizeInt32, 8)},
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
	stridedF32Native = []variant[stridedF32Func]{
		{AVX512, true, stridedF32Tier(16)},
		{AVX2, true, stridedF32Tier(8)},
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
	adamF32Native     = []variant[AdamFunc]{{AVX512, true, adamF32Tier(16)}, {AVX2, true, adamF32Tier(8)}}
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
