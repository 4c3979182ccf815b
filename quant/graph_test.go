package quant

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"dunlin/engine"
	"dunlin/model"
)

// net builds small graphs.
type net struct {
	*model.Graph
	r *rand.Rand
}

func newNet(shape ...int) *net {
	n := &net{model.New("net"), rand.New(rand.NewPCG(7, 8))}
	n.Inputs = []string{"x"}
	n.Values["x"] = &model.Value{Type: model.F32, Shape: shape}
	return n
}

// random returns normal numbers times scale.
func (n *net) random(scale float64, shape ...int) *model.Tensor {
	count, _ := model.Shape(shape).Elements()
	v := make([]float32, count)
	for i := range v {
		v[i] = float32(scale * n.r.NormFloat64())
	}
	return model.Of(model.F32, v, shape...)
}

func (n *net) op(op, out string, attrs map[string]model.Attr, in ...string) string {
	n.Nodes = append(n.Nodes, &model.Node{Op: op, Name: out + "_" + op, In: in, Out: []string{out}, Attrs: attrs})
	return out
}

// conv adds a convolution with a bias.
func (n *net) conv(out, in string, from, to, size int) string {
	n.AddConst(out+"_w", n.random(1/math.Sqrt(float64(from*size*size)), to, from, size, size))
	n.AddConst(out+"_b", n.random(.1, to))
	p := int64(size / 2)
	return n.op("Conv", out, map[string]model.Attr{"pads": []int64{p, p, p, p}}, in, out+"_w", out+"_b")
}

// norm adds a batch normalisation.
func (n *net) norm(out, in string, channels int) string {
	names := []string{in}
	for _, p := range []string{"scale", "bias", "mean", "var"} {
		t := n.random(1, channels)
		if p == "var" {
			for i, v := range t.F32() {
				t.F32()[i] = v*v + .1
			}
		}
		n.AddConst(out+"_"+p, t)
		names = append(names, out+"_"+p)
	}
	return n.op("BatchNormalization", out, map[string]model.Attr{"epsilon": float32(.01)}, names...)
}

func (n *net) samples(i int) ([]*model.Tensor, error) {
	r := rand.New(rand.NewPCG(9, uint64(i)))
	count, _ := n.Values["x"].Shape.Elements()
	v := make([]float32, count)
	for i := range v {
		v[i] = float32(r.NormFloat64())
	}
	return []*model.Tensor{model.Of(model.F32, v, n.Values["x"].Shape...)}, nil
}

// run returns the outputs of g for one sample.
func run(t testing.TB, g *model.Graph, in []*model.Tensor) [][]float32 {
	t.Helper()
	p, err := engine.Compile(g, engine.Options{})
	if err != nil {
		t.Fatal(err)
	}
	s := p.NewSession()
	for i, x := range in {
		copy(s.Input(i).Data, x.Data)
	}
	if err := s.Run(); err != nil {
		t.Fatal(err)
	}
	var out [][]float32
	for i := range g.Outputs {
		out = append(out, slices.Clone(s.Output(i).F32()))
	}
	return out
}

// sqnr compares outputs, in dB.
func sqnr(want, got [][]float32) float64 {
	var signal, noise float64
	for i := range want {
		for j, v := range want[i] {
			d := float64(got[i][j]) - float64(v)
			signal, noise = signal+float64(v)*float64(v), noise+d*d
		}
	}
	return decibel(signal, noise)
}

func (n *net) quantise(t testing.TB, o Options) (*model.Graph, *Report) {
	t.Helper()
	if err := n.Check(); err != nil {
		t.Fatal(err)
	}
	r, err := Calibrate(n.Graph, n.samples, 20, o)
	if err != nil {
		t.Fatal(err)
	}
	q, rep, err := Apply(n.Graph, r, o)
	if err != nil {
		t.Fatal(err)
	}
	return q, rep
}

// shape writes the operators of a graph in order, weights' and biases'
// DequantizeLinear left out.
func ops(g *model.Graph) string {
	var list []string
	for _, n := range g.Nodes {
		if n.Op == "DequantizeLinear" && g.Const(n.In[0]) != nil {
			continue
		}
		op := n.Op
		switch op {
		case "QuantizeLinear":
			op = "Q"
		case "DequantizeLinear":
			op = "DQ"
		}
		list = append(list, op)
	}
	return strings.Join(list, " ")
}

// typical is what most small networks are made of.
func typical() *net {
	n := newNet(1, 3, 8, 8)
	n.op("Relu", "a", nil, n.norm("bn", n.conv("c1", "x", 3, 8, 3), 8))
	n.op("MaxPool", "p", map[string]model.Attr{"kernel_shape": []int64{2, 2}, "strides": []int64{2, 2}}, "a")
	n.op("Add", "s", nil, n.conv("c2", "p", 8, 8, 3), "p")
	n.AddConst("zero", model.Of(model.F32, []float32{0}))
	n.AddConst("six", model.Of(model.F32, []float32{6}))
	n.op("Clip", "r", nil, "s", "zero", "six")
	n.op("GlobalAveragePool", "m", nil, "r")
	n.op("Flatten", "f", map[string]model.Attr{"axis": int64(1)}, "m")
	n.AddConst("fc", n.random(.3, 5, 8))
	n.AddConst("fb", n.random(.3, 5))
	n.op("Gemm", "g", map[string]model.Attr{"transB": int64(1)}, "f", "fc", "fb")
	n.op("Softmax", "y", map[string]model.Attr{"axis": int64(-1)}, "g")
	n.Outputs = []string{"y", "g"}
	return n
}

// TestForm pins the QDQ form: one pair behind each activation, none between
// a convolution and its Relu, moves of data with the steps of their input,
// floats at the ends, scores among them.
func TestForm(t *testing.T) {
	n := typical()
	q, rep := n.quantise(t, Options{})
	want := "Q DQ Conv Relu Q DQ MaxPool Q DQ Conv Q DQ Add Clip Q DQ GlobalAveragePool Q DQ Flatten Q DQ Gemm Softmax"
	if got := ops(q); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	if !slices.Equal(q.Inputs, n.Inputs) || !slices.Equal(q.Outputs, n.Outputs) || q.Value("x").Type != model.F32 {
		t.Errorf("inputs %v, outputs %v", q.Inputs, q.Outputs)
	}
	made := q.Producers()
	if a, p := made["a"].In[1], made["p"].In[1]; a != p {
		t.Errorf("a pool has steps of its own: %s, %s", a, p)
	}
	if a := made["a"]; q.Const(a.In[2]).I8()[0] != -128 {
		t.Error("what comes out of a Relu does not begin at -128")
	}
	for _, l := range rep.Layers {
		if (l.Precision == "int8") != (l.Op != "Softmax") || (l.Why == "") != (l.Precision == "int8") {
			t.Errorf("%+v", l)
		}
	}
	checkLayers(t, q)
}

// checkLayers asks of each layer of q that its weights and its bias have the
// form of the contract.
func checkLayers(t *testing.T, q *model.Graph) {
	t.Helper()
	made := q.Producers()
	for _, n := range q.Nodes {
		if n.Op != "Conv" && n.Op != "Gemm" {
			continue
		}
		x, w, b := made[n.In[0]], made[n.In[1]], made[n.In[2]]
		scales := q.Const(w.In[1]).F32()
		if q.Const(w.In[0]).Type != model.I8 || slices.Min(q.Const(w.In[0]).I8()) < -127 || len(scales) != q.Const(w.In[0]).Shape[0] ||
			w.Int("axis", -1) != 0 || slices.Max(q.Const(w.In[2]).I8()) != 0 || slices.Min(q.Const(w.In[2]).I8()) != 0 {
			t.Errorf("%s: weights are not symmetric int8 a channel", n.Name)
		}
		in := q.Const(x.In[1]).F32()[0]
		for c, u := range q.Const(b.In[1]).F32() {
			if u != float32(float64(in)*float64(scales[c])) || q.Const(b.In[0]).Type != model.I32 {
				t.Errorf("%s: unit %d of the bias is %g, the scales are %g and %g", n.Name, c, u, in, scales[c])
			}
		}
	}
}

// TestSmallNet: int8 and fp16 compute what float computes, and the engine
// runs the int8 net in integers.
func TestSmallNet(t *testing.T) {
	n := typical()
	in, _ := n.samples(1000)
	want := run(t, n.Graph, in)
	for _, o := range []Options{{}, {Range: "minmax"}, {Range: "percentile"}} {
		q, _ := n.quantise(t, o)
		if got := sqnr(want, run(t, q, in)); got < 20 {
			t.Errorf("%q: %.1f dB", o.Range, got)
		}
		checkSteps(t, q)
	}
	h, _, err := Apply(n.Graph, nil, Options{To: "fp16"})
	if err != nil {
		t.Fatal(err)
	}
	if got := sqnr(want, run(t, h, in)); got < 60 {
		t.Errorf("fp16: %.1f dB", got)
	}
}

// checkSteps asks the engine that no layer is left in float.
func checkSteps(t testing.TB, q *model.Graph) {
	t.Helper()
	p, err := engine.Compile(q, engine.Options{Symbolic1: true})
	if err != nil {
		t.Fatal(err)
	}
	if !p.Exact() {
		t.Error("the program is not exact")
	}
	for _, s := range p.Steps() {
		if s.MACs > 0 && s.Precision != "int8" {
			t.Errorf("%s runs %s in %s: %s", s.Name, s.Kernel, s.Precision, s.Why)
		}
	}
}

// TestMeasure: the error of each layer is there, and about what it should be.
func TestMeasure(t *testing.T) {
	n := typical()
	q, rep := n.quantise(t, Options{})
	if err := rep.Measure(n.Graph, q, n.samples, 5, Options{}); err != nil {
		t.Fatal(err)
	}
	for _, l := range rep.Layers {
		if l.Precision == "int8" && (l.OutputError == nil || *l.OutputError < 20 || *l.OutputError > 60) {
			t.Errorf("%s: %s dB", l.Name, db(l.OutputError))
		}
		if l.WeightError != nil && (*l.WeightError < 35 || *l.WeightError > 60) {
			t.Errorf("%s: weights %s dB", l.Name, db(l.WeightError))
		}
	}
}

func TestFoldBatchNorm(t *testing.T) {
	n := typical()
	in, _ := n.samples(0)
	f := FoldBatchNorm(n.Graph)
	if slices.ContainsFunc(f.Nodes, func(n *model.Node) bool { return n.Op == "BatchNormalization" }) {
		t.Error("a batch normalisation is left")
	}
	if err := f.Check(); err != nil {
		t.Fatal(err)
	}
	if got := sqnr(run(t, n.Graph, in), run(t, f, in)); got < 100 {
		t.Errorf("%.1f dB", got)
	}
	// By the formula, for one weight and one bias.
	at := func(name string) float64 { return float64(n.Const(name).F32()[3]) }
	s := at("bn_scale") / math.Sqrt(at("bn_var")+float64(float32(.01)))
	w := float64(n.Const("c1_w").F32()[3*27+5]) * s
	b := (at("c1_b")-at("bn_mean"))*s + at("bn_bias")
	conv := f.Nodes[0]
	if got := float64(f.Const(conv.In[1]).F32()[3*27+5]); math.Abs(got-w) > 1e-6*math.Abs(w) {
		t.Errorf("weight %g, want %g", got, w)
	}
	if got := float64(f.Const(conv.In[2]).F32()[3]); math.Abs(got-b) > 1e-5*math.Abs(b) {
		t.Errorf("bias %g, want %g", got, b)
	}
}

// TestNotFolded: a batch normalisation stays where something else reads what
// comes before it.
func TestNotFolded(t *testing.T) {
	n := newNet(1, 2, 4, 4)
	n.norm("y", n.conv("c", "x", 2, 2, 1), 2)
	n.norm("z", "x", 2)
	n.Outputs = []string{"y", "c", "z"}
	if f := FoldBatchNorm(n.Graph); len(f.Nodes) != 3 {
		t.Errorf("%s", ops(f))
	}
}

// TestFoldBias: one constant a channel, added behind a convolution without a
// bias, becomes its bias; other constants do not.
func TestFoldBias(t *testing.T) {
	for _, c := range []struct {
		shape []int
		want  string
	}{
		{[]int{4, 1, 1}, "Conv"},
		{[]int{1, 4, 1, 1}, "Conv"},
		{[]int{4}, "Conv Add"},
		{[]int{1, 1, 4}, "Conv Add"},
		{[]int{}, "Conv Add"},
		{[]int{2, 4, 1, 1}, "Conv Add"},
		{[]int{4, 4, 4}, "Conv Add"},
	} {
		n := newNet(1, 2, 4, 4)
		n.conv("c", "x", 2, 4, 1)
		n.Nodes[0].In = n.Nodes[0].In[:2]
		n.AddConst("k", n.random(1, c.shape...))
		n.op("Add", "y", nil, "k", "c")
		n.Outputs = []string{"y"}
		f := foldBias(n.Graph)
		if got := ops(f); got != c.want {
			t.Errorf("%v: %s, want %s", c.shape, got, c.want)
		}
		if c.want == "Conv" {
			in, _ := n.samples(0)
			if got := sqnr(run(t, n.Graph, in), run(t, f, in)); got < 100 {
				t.Errorf("%v: %.1f dB", c.shape, got)
			}
		}
	}
}

// TestFoldMatMul: weights behind a Reshape, and a bias behind a MatMul, make
// one Gemm.
func TestFoldMatMul(t *testing.T) {
	n := newNet(1, 4, 2, 2)
	n.AddConst("flat", model.Of(model.I64, []int64{0, -1}, 2))
	n.AddConst("w", n.random(1, 4, 2, 2, 3))
	n.AddConst("as", model.Of(model.I64, []int64{16, -1}, 2))
	n.AddConst("b", n.random(1, 1, 3))
	n.op("Reshape", "f", nil, "x", "flat")
	n.op("Reshape", "m", nil, "w", "as")
	n.op("Add", "y", nil, n.op("MatMul", "p", nil, "f", "m"), "b")
	n.Outputs = []string{"y"}
	p, err := prepare(n.Graph)
	if err != nil {
		t.Fatal(err)
	}
	if got := ops(p); got != "Reshape Gemm" {
		t.Errorf("%s", got)
	}
	in, _ := n.samples(0)
	if got := sqnr(run(t, n.Graph, in), run(t, p, in)); got < 100 {
		t.Errorf("%.1f dB", got)
	}
	q, _ := n.quantise(t, Options{})
	checkSteps(t, q)
	if got := sqnr(run(t, n.Graph, in), run(t, q, in)); got < 25 {
		t.Errorf("%.1f dB", got)
	}
}

func TestReshaped(t *testing.T) {
	for _, c := range []struct {
		from model.Shape
		to   []int64
		want model.Shape
	}{
		{model.Shape{2, 6}, []int64{3, 4}, model.Shape{3, 4}},
		{model.Shape{2, 6}, []int64{0, -1, 2}, model.Shape{2, 3, 2}},
		{model.Shape{4}, []int64{-1}, model.Shape{4}},
		{model.Shape{1}, []int64{}, model.Shape{}},
		{model.Shape{2, 6}, []int64{5, -1}, nil},
		{model.Shape{2, 6}, []int64{-1, -1}, nil},
		{model.Shape{2, 6}, []int64{2, 3}, nil},
		{model.Shape{2, 6}, []int64{-2, 6}, nil},
		{model.Shape{2}, []int64{2, 0}, nil},
		{model.Shape{0}, []int64{0}, nil},
		{model.Shape{2, 6}, []int64{1 << 62, 4}, nil},
	} {
		if got := reshaped(c.from, c.to); !got.Equal(c.want) || (got == nil) != (c.want == nil) {
			t.Errorf("%v to %v: %v, want %v", c.from, c.to, got, c.want)
		}
	}
}

// TestConcat: values that a Concat joins share steps where their ranges are
// alike, and it stays float where they are not.
func TestConcat(t *testing.T) {
	for _, c := range []struct {
		times float32
		int8  bool
	}{{1.5, true}, {100, false}} {
		n := newNet(1, 2, 4, 4)
		n.conv("a", "x", 2, 3, 3)
		n.conv("b", "x", 2, 3, 3)
		for i := range n.Const("b_w").F32() {
			n.Const("b_w").F32()[i] *= c.times
		}
		n.op("Concat", "j", map[string]model.Attr{"axis": int64(1)}, "a", "b")
		n.conv("y", "j", 6, 2, 1)
		n.Outputs = []string{"y"}
		q, rep := n.quantise(t, Options{})
		made := q.Producers()
		same := made["a"].In[1] == made["b"].In[1] && made["b"].In[1] == made["j"].In[1]
		if same != c.int8 {
			t.Errorf("%g times: one scale is %v", c.times, same)
		}
		if l := rep.Layers[2]; l.Op != "Concat" || (l.Precision == "int8") != c.int8 || (l.Why == "") != c.int8 {
			t.Errorf("%g times: %+v", c.times, l)
		}
		in, _ := n.samples(0)
		if got := sqnr(run(t, n.Graph, in), run(t, q, in)); got < 20 {
			t.Errorf("%g times: %.1f dB", c.times, got)
		}
	}
}

// db shows an error of the report.
func db(v *float64) string {
	if v == nil {
		return "-"
	}
	return fmt.Sprintf("%.1f", *v)
}
