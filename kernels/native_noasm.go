//go:build purego || !amd64

package kernels

// No tier but Generic.
var (
	gemmInt8Native      []variant[gemmInt8Tier]
	convInt8Native      []variant[convInt8Tier]
	depthwiseInt8Native []variant[depthwiseInt8Tier]
	peakInt8Native      []variant[peakLoop]
	peakF32Native       []variant[peakLoop]
)
