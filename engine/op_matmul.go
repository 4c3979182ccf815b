package engine

import (
	"fmt"
	"slices"
	"strings"

	"dunlin/kernels"
	"dunlin/model"
)

// products are the types that MatMul and Einsum multiply.
var products = []model.DType{model.F32, model.F64, model.I32, model.U32, model.I64, model.U64}

// matrices returns the shapes of MatMul's operands, seen as matrices: a row
// and a column gain an axis. Those of dunlin.MatMul are repeated and transposed first.
func matrices(c *call) (a, b model.Shape) {
	a = permuted(repeated(c.shape(0), c.node.Ints(timesA)), c.node.Ints(turnA))
	b = permuted(repeated(c.shape(1), c.node.Ints(timesB)), c.node.Ints(turnB))
	if len(a) == 1 {
		a = model.Shape{1, a[0]}
	}
	if len(b) == 1 {
		b = model.Shape{b[0], 1}
	}
	return a, b
}

// inferMatMul follows numpy.matmul.
func inferMatMul(c *call) error {
	if err := c.want(0, products...); err != nil {
		return err
	}
	if err := c.want(1, c.in[0].Type); err != nil {
		return err
	}
	if len(c.shape(0)) == 0 || len(c.shape(1)) == 0 {
		return fmt.Errorf("product of %v and %v", c.shape(0), c.shape(1))
	}
	a, b := matrices(c)
	m, k, n := a[len(a)-2], a[len(a)-1], b[len(b)-1]
	if b[len(b)-2] != k {
		return fmt.Errorf("product of %v and %v: %d is not %d", a, b, k, b[len(b)-2])
	}
	w, err := kernels.NewBroadcast(a[:len(a)-2], b[:len(b)-2])
	if err != nil {
		return err
	}
	shape := w.Shape
	if len(c.shape(0)) > 1 {
		shape = append(shape, m)
	}
	if len(c.shape(1)) > 1 {
		shape = append(shape, n)
	}
	return c.set(c.in[0].Type, permuted(shape, c.node.Ints(turnOut))...)
}

func lowerMatMul(c *call) (*kernel, error) {
	a, b := matrices(c)
	m, k, n := a[len(a)-2], a[len(a)-1], b[len(b)-1]
	if w := c.constant(1); w != nil && len(b) == 2 && w.Type == model.F32 {
		rows, _ := a[:len(a)-1].Elements()
		g, err := c.packGEMMF32(rows, n, k, kernels.WeightsF32{W: transposed(w.F32(), k, n), Clamp: kernels.NoClamp})
		if err != nil {
			return nil, err
		}
		return gemmF32Kernel("gemm", g, rows, false), nil
	}
	if c.in[0].Type == model.F32 && c.elements() > 0 && k > 0 {
		return lowerProductF32(c, a, b)
	}
	batches, err := kernels.NewBroadcast(a[:len(a)-2], b[:len(b)-2])
	if err != nil {
		return nil, err
	}
	count, err := model.Shape(batches.Shape).Elements()
	if err != nil {
		return nil, err
	}
	var pairs [][2]int
	if c.elements() > 0 {
		pairs = batches.Pairs()
	}
	out := named("matmul-" + c.in[0].Type.String())
	out.macs = int64(count) * int64(m) * int64(n) * int64(k)
	switch c.in[0].Type {
	case model.F32:
		out.bind = matMul(pairs, m, k, n, kernels.MatMulF32)
	case model.F64:
		out.bind = matMul(pairs, m, k, n, kernels.MatMul[float64])
	case model.I32:
		out.bind = matMul(pairs, m, k, n, kernels.MatMul[int32])
	case model.U32:
		out.bind = matMul(pairs, m, k, n, kernels.MatMul[uint32])
	case model.I64:
		out.bind = matMul(pairs, m, k, n, kernels.MatMul[int64])
	default:
		out.bind = matMul(pairs, m, k, n, kernels.MatMul[uint64])
	}
	return out, nil
}

// matMul multiplies the matrices that each pair names.
func matMul[T real](pairs [][2]int, m, k, n int, f func(out, a, b []T, m, k, n int)) binder {
	return func(in, out []*model.Tensor, _ []byte) func() error {
		x, w, y := elementsOf[T](in[0]), elementsOf[T](in[1]), elementsOf[T](out[0])
		return func() error {
			for i, p := range pairs {
				f(y[i*m*n:(i+1)*m*n], x[p[0]*m*k:(p[0]+1)*m*k], w[p[1]*k*n:(p[1]+1)*k*n], m, k, n)
			}
			return nil
		}
	}
}

// equation is an Einsum's: the axes of each operand and of the result, in
// letters; the axes of an ellipsis are the runes from firstDots on.
type equation struct {
	operands [][]rune
	result   []rune
	length   map[rune]int
}

// firstDots stands for the last axis of an ellipsis, firstDots+1 for the one
// before it.
const firstDots = rune(0x100)

// equationOf reads the attribute and checks it against the shapes.
func equationOf(c *call) (*equation, error) {
	text := strings.ReplaceAll(c.node.Str("equation", ""), " ", "")
	left, right, explicit := strings.Cut(text, "->")
	terms := strings.Split(left, ",")
	if len(terms) != len(c.in) {
		return nil, fmt.Errorf("equation %q for %d operands", text, len(c.in))
	}
	e := &equation{length: map[rune]int{}}
	dots := 0
	for i, term := range terms {
		if c.in[i] == nil {
			return nil, fmt.Errorf("operand %d is left out", i)
		}
		s := c.shape(i)
		axes, width, err := axesOf(term, len(s))
		if err != nil {
			return nil, fmt.Errorf("equation %q: %w", text, err)
		}
		dots = max(dots, width)
		for a, r := range axes {
			if old, ok := e.length[r]; ok && old != s[a] && (r < firstDots || (old != 1 && s[a] != 1)) {
				return nil, fmt.Errorf("equation %q: an axis is %d and %d long", text, old, s[a])
			}
			e.length[r] = max(e.length[r], s[a])
			if s[a] == 0 {
				e.length[r] = 0
			}
		}
		e.operands = append(e.operands, axes)
	}
	if !explicit { // letters that stand once, in order of the alphabet
		right = "..."
		count := map[rune]int{}
		for _, r := range left {
			count[r]++
		}
		var once []rune
		for r, n := range count {
			if n == 1 && r != ',' && r != '.' {
				once = append(once, r)
			}
		}
		slices.Sort(once)
		right += string(once)
	}
	if !strings.Contains(right, "...") {
		dots = 0
	}
	var err error
	if e.result, _, err = axesOf(right, len(strings.ReplaceAll(right, "...", ""))+dots); err != nil {
		return nil, fmt.Errorf("equation %q: %w", text, err)
	}
	for i, r := range e.result {
		if _, ok := e.length[r]; !ok || slices.Contains(e.result[:i], r) {
			return nil, fmt.Errorf("equation %q: an axis of the result is in no operand, or there twice", text)
		}
	}
	return e, nil
}

// axesOf names the axes of an operand of that rank, and says how many its
// ellipsis stands for.
func axesOf(term string, rank int) (axes []rune, dots int, err error) {
	before, behind, ellipsis := strings.Cut(term, "...")
	for _, r := range before + behind {
		if (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') {
			return nil, 0, fmt.Errorf("%q", term)
		}
	}
	dots = rank - len(before) - len(behind)
	if dots < 0 || dots > 1000 || (dots > 0 && !ellipsis) {
		return nil, 0, fmt.Errorf("%q for %d axes", term, rank)
	}
	axes = []rune(before)
	for i := range dots {
		axes = append(axes, firstDots+rune(dots-1-i))
	}
	return append(axes, []rune(behind)...), dots, nil
}

func checkEinsum(n *model.Node) string {
	if len(n.In) > 2 {
		return fmt.Sprintf("%d operands; one and two are supported", len(n.In))
	}
	return ""
}

func inferEinsum(c *call) error {
	if err := c.want(0, products...); err != nil {
		return err
	}
	if err := c.want(1, c.in[0].Type); err != nil {
		return err
	}
	e, err := equationOf(c)
	if err != nil {
		return err
	}
	var shape model.Shape
	for _, r := range e.result {
		shape = append(shape, e.length[r])
	}
	return c.set(c.in[0].Type, shape...)
}

func lowerEinsum(c *call) (*kernel, error) {
	e, err := equationOf(c)
	if err != nil {
		return nil, err
	}
	all := slices.Clone(e.result)
	for _, axes := range e.operands {
		for _, r := range axes {
			if !slices.Contains(all, r) {
				all = append(all, r)
			}
		}
	}
	lengths, strides := make([]int, len(all)), make([][2]int, len(all))
	for i, r := range all {
		lengths[i] = e.length[r]
		for o, axes := range e.operands {
			step := 1
			for a := len(axes) - 1; a >= 0; a-- {
				if axes[a] == r && c.shape(o)[a] != 1 { // twice in one operand: the diagonal
					strides[i][o] += step
				}
				step *= c.shape(o)[a]
			}
		}
	}
	x := kernels.NewContraction(lengths, strides, len(e.result))
	k := named("einsum-" + c.in[0].Type.String())
	switch c.in[0].Type {
	case model.F32:
		k.bind = contract[float32](x)
	case model.F64:
		k.bind = contract[float64](x)
	case model.I32, model.U32: // sums of two's complement agree
		k.bind = contract[uint32](x)
	default:
		k.bind = contract[uint64](x)
	}
	return k, nil
}

func contract[T real](x *kernels.Contraction) binder {
	return func(in, out []*model.Tensor, _ []byte) func() error {
		a, y := elementsOf[T](in[0]), elementsOf[T](out[0])
		var b []T
		if len(in) > 1 {
			b = elementsOf[T](in[1])
		}
		return func() error { kernels.Contract(x, y, a, b); return nil }
	}
}
