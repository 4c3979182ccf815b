package kernels

// quantizePlanesFunc is Quantize of a picture's planes:
//
//	in   [channels, pixels]
//	out  [pixels, channels], as convolutions want it
//
// in is as long as pixels*channels, out at least as long.
type quantizePlanesFunc func(out []int8, in []float32, channels int, scale float32, zero int8)

// quantizePlanesVariants is the table of QuantizePlanes.
var quantizePlanesVariants = append(quantizePlanesNative, variant[quantizePlanesFunc]{Generic, true, quantizePlanesGeneric})

// MaxPlanes is how many channels the assembly for planes takes at most: those
// of pictures. With more, to quantise and to transpose is two steps.
const MaxPlanes = 4

// QuantizePlanes returns the function for t that writes Quantize of in,
// [channels, pixels], to out, [pixels, channels]; and its tier. It is meant
// for 2 to MaxPlanes channels.
func QuantizePlanes(t Target) (Tier, func(out []int8, in []float32, channels int, scale float32, zero int8)) {
	v := pick(t, quantizePlanesVariants)
	return v.tier, v.run
}

// quantizePlanesGeneric is the definition of QuantizePlanes.
func quantizePlanesGeneric(out []int8, in []float32, channels int, scale float32, zero int8) {
	var part [256]int8
	pixels := len(in) / channels
	for c := range channels {
		for at := 0; at < pixels; at += len(part) {
			n := min(len(part), pixels-at)
			Quantize(part[:n], in[c*pixels+at:][:n], scale, zero)
			for i, v := range part[:n] {
				out[(at+i)*channels+c] = v
			}
		}
	}
}
