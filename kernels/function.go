package kernels

import "math"

// Function is a function of one number, computed in float64. A float32 result
// is its rounding.
type Function func(float64) float64

// FunctionAttrs are the parameters that a Function may have.
type FunctionAttrs struct{ Alpha, Beta float64 }

// NewFunction returns the function of an ONNX operator, nil where there is
// none of that name (https://onnx.ai/onnx/operators has the formulas).
func NewFunction(op string, p FunctionAttrs) Function {
	if f := functions[op]; f != nil {
		return f
	}
	a, b := p.Alpha, p.Beta
	switch op {
	case "LeakyRelu":
		return func(x float64) float64 {
			if x < 0 {
				return float64(a * x)
			}
			return x
		}
	case "Elu":
		return func(x float64) float64 {
			if x < 0 {
				return float64(a * expm164(x))
			}
			return x
		}
	case "Selu":
		return func(x float64) float64 {
			if x <= 0 {
				return float64(b * float64(a*expm164(x)))
			}
			return float64(b * x)
		}
	case "Celu":
		return func(x float64) float64 {
			return max(0, x) + min(0, float64(a*expm164(x/a)))
		}
	case "HardSigmoid":
		return func(x float64) float64 { return max(0, min(1, float64(a*x)+b)) }
	case "ThresholdedRelu":
		return func(x float64) float64 {
			if x > a {
				return x
			}
			return 0
		}
	case "Shrink": // alpha is lambd, beta is bias
		return func(x float64) float64 {
			switch {
			case x < -a:
				return x + b
			case x > a:
				return x - b
			}
			return 0
		}
	}
	return nil
}

// functions are those without parameters.
var functions = map[string]Function{
	"Abs": math.Abs, "Neg": func(x float64) float64 { return -x },
	"Floor": math.Floor, "Ceil": math.Ceil, "Round": math.RoundToEven, "Sqrt": math.Sqrt,
	"Reciprocal": func(x float64) float64 { return 1 / x },
	"Sign": func(x float64) float64 {
		switch {
		case x > 0:
			return 1
		case x < 0:
			return -1
		}
		return 0
	},
	"Relu": func(x float64) float64 { return max(x, 0) },
	"Exp":  exp64, "Log": log64, "Erf": math.Erf,
	"Sigmoid":  sigmoid64,
	"Tanh":     tanh64,
	"Softplus": softplus64,
	"Softsign": func(x float64) float64 { return x / (1 + math.Abs(x)) },
	"HardSwish": func(x float64) float64 {
		return float64(x * max(0, min(1, x/6+0.5)))
	},
	"Mish": func(x float64) float64 { return float64(x * tanh64(softplus64(x))) },
	"Sin":  sin64, "Cos": cos64, "Tan": tan64, "Asin": asin64, "Acos": acos64, "Atan": atan64,
	"Sinh": sinh64, "Cosh": cosh64, "Asinh": asinh64, "Acosh": acosh64, "Atanh": atanh64,
}

func sigmoid64(x float64) float64 { return 1 / (1 + exp64(-x)) }

func softplus64(x float64) float64 { return max(x, 0) + log1p64(exp64(-math.Abs(x))) }

// Map writes f of each element. dst may be src.
func (f Function) Map(dst, src []float64) {
	for i, v := range src {
		dst[i] = f(v)
	}
}

// MapF32 writes f of each element, rounded. dst may be src.
func (f Function) MapF32(dst, src []float32) {
	for i, v := range src {
		dst[i] = float32(f(float64(v)))
	}
}
