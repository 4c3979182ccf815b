//go:build !purego

package kernels

// The float tiers of amd64.
var (
	tileF32AVX512      = &tileF32{&tilesF32AVX512, layoutF32{width: 32, lanes: 16}}
	tileExactF32AVX512 = &tileF32{&tilesExactF32AVX512, layoutF32{width: 32, lanes: 16}}
	tileF16AVX512      = &tileF32{&tilesF16AVX512, layoutF32{width: 32, lanes: 16, half: true}}
	tileF16AVX2        = &tileF32{&tilesF16AVX2, layoutF32{width: 16, lanes: 8, half: true}}
	tileF32AVX2        = &tileF32{&tilesF32AVX2, layoutF32{width: 16, lanes: 8}}
	tileExactF32AVX2   = &tileF32{&tilesExactF32AVX2, layoutF32{width: 16, lanes: 8}}
)
