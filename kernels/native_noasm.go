//go:build purego || !(amd64 || arm64)

package kernels

// No tier but Generic.
var (
	gemmInt8Native        []variant[gemmInt8Tier]
	convInt8Native        []variant[convInt8Tier]
	depthwiseInt8Native   []variant[depthwiseInt8Tier]
	gemmF32Native         []variant[gemmF32Tier]
	gemmF16Native         []variant[gemmF32Tier]
	productF32Native      []variant[productF32Tier]
	convF32Native         []variant[convF32Tier]
	depthwiseF32Native    []variant[depthwiseF32Tier]
	addInt8Native         []variant[addInt8Func]
	quantizeInt8Native    []variant[quantizeTier[int8]]
	quantizeUint8Native   []variant[quantizeTier[uint8]]
	quantizePlanesNative  []variant[quantizePlanesFunc]
	dequantizeInt8Native  []variant[dequantizeTier[int8]]
	dequantizeUint8Native []variant[dequantizeTier[uint8]]
	dequantizeInt32Native []variant[dequantizeTier[int32]]
	maxPoolInt8Native     []variant[maxPoolInt8Func]
	averagePoolInt8Native []variant[averagePoolInt8Func]
	smoothNative          []variant[smoothTier]
	softmaxNative         []variant[softmaxFunc]
	standardizeNative     []variant[standardizeTier]
	spanNative            []variant[spanFunc]
	adamF32Native         []variant[AdamFunc]
	rowsF32Native         []variant[rowsF32Func]
	stridedF32Native      []variant[stridedF32Func]
	maxPoolF32Native      []variant[maxPoolF32Func]
	averagePoolF32Native  []variant[averagePoolF32Func]
	transposeNative       []variant[transposeFunc]
	peakInt8Native        []variant[peakLoop]
	peakF32Native         []variant[peakLoop]
)
