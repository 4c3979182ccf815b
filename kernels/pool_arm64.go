//go:build !purego

package kernels

// maskedLanes: no tier knows masks.
const maskedLanes = 0

func maxPoolBlocksF32(_ int, x *poolArgs)  { maxPoolF32_NEON(x) }
func sumPoolBlocksF32(_ int, x *poolArgs)  { sumPoolF32_NEON(x) }
func maxPoolBlocksInt8(_ int, x *poolArgs) { maxPoolInt8_NEON(x) }
func sumPoolBlocksInt8(_ int, x *poolArgs) { sumPoolInt8_NEON(x) }
