//go:build !purego

package kernels

// The float tiers of amd64.
var (
	depthwiseRealAVX512  = &depthwiseReal{16, depthwiseF32_AVX512, depthwiseF32AVX512}
	depthwiseExactAVX512 = &depthwiseReal{16, depthwiseExactF32_AVX512, depthwiseExactF32AVX512}
	depthwiseRealAVX2    = &depthwiseReal{8, depthwiseF32_AVX2, depthwiseF32AVX2}
	depthwiseExactAVX2   = &depthwiseReal{8, depthwiseExactF32_AVX2, depthwiseExactF32AVX2}
)
