//go:build !purego

package kernels

// loopBlock is how many values a turn of a loop takes: 4 registers.
const loopBlock = 16

// run runs the loop over x.blocks blocks.
func (l loopInt8) run(_ int, x *loopArgs) {
	switch l {
	case loopAdd:
		addInt8_NEON(x)
	case loopQuantizeInt8:
		quantizeInt8_NEON(x)
	case loopQuantizeUint8:
		quantizeUint8_NEON(x)
	case loopDequantizeInt8:
		dequantizeInt8_NEON(x)
	case loopDequantizeUint8:
		dequantizeUint8_NEON(x)
	case loopDequantizeInt32:
		dequantizeInt32_NEON(x)
	}
}
