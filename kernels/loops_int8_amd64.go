//go:build !purego

package kernels

// wide is the number of lanes of AVX-512; what has fewer is AVX2.
const wide = 16

// run runs the loop over x.blocks blocks.
func (l loopInt8) run(lanes int, x *loopArgs) {
	if lanes == wide {
		l.runAVX512(x)
	} else {
		l.runAVX2(x)
	}
}

func (l loopInt8) runAVX512(x *loopArgs) {
	switch l {
	case loopAdd:
		addInt8AVX512(x)
	case loopQuantizeInt8:
		quantizeInt8AVX512(x)
	case loopQuantizeUint8:
		quantizeUint8AVX512(x)
	case loopDequantizeInt8:
		dequantizeInt8AVX512(x)
	case loopDequantizeUint8:
		dequantizeUint8AVX512(x)
	case loopDequantizeInt32:
		dequantizeInt32AVX512(x)
	}
}

func (l loopInt8) runAVX2(x *loopArgs) {
	switch l {
	case loopAdd:
		addInt8AVX2(x)
	case loopQuantizeInt8:
		quantizeInt8AVX2(x)
	case loopQuantizeUint8:
		quantizeUint8AVX2(x)
	case loopDequantizeInt8:
		dequantizeInt8AVX2(x)
	case loopDequantizeUint8:
		dequantizeUint8AVX2(x)
	case loopDequantizeInt32:
		dequantizeInt32AVX2(x)
	}
}
