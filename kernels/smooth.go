package kernels

// Smooth is a function of exp.go: one that is made of e^x or of a polynomial
// like it, and has the same bits on every tier.
type Smooth uint8

// The smooth functions; exp.go has the formulas.
const (
	SmoothExp Smooth = iota
	SmoothSigmoid
	SmoothTanh
	SmoothErf
	SmoothGelu
	SmoothGeluTanh
	SmoothSilu
	SmoothLog
	smooths
)

// Exp and its like are the generic functions, which define the others.
func Exp(dst, src []float32)      { each(dst, src, exp) }
func Sigmoid(dst, src []float32)  { each(dst, src, sigmoid) }
func Tanh(dst, src []float32)     { each(dst, src, tanh) }
func Erf(dst, src []float32)      { each(dst, src, erf) }
func Gelu(dst, src []float32)     { each(dst, src, gelu) }
func GeluTanh(dst, src []float32) { each(dst, src, geluTanh) }
func Silu(dst, src []float32)     { each(dst, src, silu) }
func Log(dst, src []float32)      { each(dst, src, log) }

// smoothTier is what a tier has: every function.
type smoothTier [smooths]Unary

// smoothVariants is the table of Smooth.
var smoothVariants = append(smoothNative, variant[smoothTier]{Generic, true, smoothTier{
	SmoothExp: Exp, SmoothSigmoid: Sigmoid, SmoothTanh: Tanh, SmoothErf: Erf, SmoothGelu: Gelu, SmoothGeluTanh: GeluTanh, SmoothSilu: Silu,
	SmoothLog: Log,
}})

// For returns the function as t computes it, and the tier that does.
func (s Smooth) For(t Target) (Tier, Unary) {
	v := pick(t, smoothVariants)
	return v.tier, v.run[s]
}
