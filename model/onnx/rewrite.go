package onnx

import (
	"math"

	"dunlin/model"
)

// castTypes are the names that Cast had for types before opset 6.
var castTypes = map[string]int64{
	"FLOAT": 1, "UINT8": 2, "INT8": 3, "UINT16": 4, "INT16": 5, "INT32": 6, "INT64": 7,
	"BOOL": 9, "FLOAT16": 10, "DOUBLE": 11, "UINT32": 12, "UINT64": 13,
}

func castName(e *edit) error {
	name, ok := e.n.Attrs["to"].(string)
	if !ok {
		return nil
	}
	if castTypes[name] == 0 {
		return fail(ErrUnsupported, part(e.n), "a cast to %s", quote(name))
	}
	e.set("to", castTypes[name])
	return nil
}

func drop(attr string) func(*edit) error {
	return func(e *edit) error {
		delete(e.n.Attrs, attr)
		return nil
	}
}

func rename(op string) func(*edit) error {
	return func(e *edit) error {
		e.n.Op = op
		return nil
	}
}

func refuse(why string) func(*edit) error {
	return func(e *edit) error { return fail(ErrUnsupported, part(e.n), "%s", why) }
}

// intsInput turns a list of integers in attribute attr into input 1.
func intsInput(attr string) func(*edit) error {
	return func(e *edit) error {
		if v, ok := take[[]int64](e, attr); ok {
			e.setInput(1, e.ints(attr, v...))
		}
		return nil
	}
}

// splitOutputs drops num_outputs, which len(Out) says too.
func splitOutputs(e *edit) error {
	if n, ok := take[int64](e, "num_outputs"); ok && n != int64(len(e.n.Out)) {
		return fail(ErrMalformed, part(e.n), "num_outputs is %d, it has %d outputs", n, len(e.n.Out))
	}
	return nil
}

func slice(e *edit) error {
	starts, ok1 := take[[]int64](e, "starts")
	ends, ok2 := take[[]int64](e, "ends")
	if !ok1 || !ok2 || len(starts) != len(ends) {
		return fail(ErrMalformed, part(e.n), "%d starts and %d ends", len(starts), len(ends))
	}
	e.setInput(1, e.ints("starts", starts...))
	e.setInput(2, e.ints("ends", ends...))
	if axes, ok := take[[]int64](e, "axes"); ok {
		e.setInput(3, e.ints("axes", axes...))
	}
	return nil
}

func topK(e *edit) error {
	k, ok := take[int64](e, "k")
	if !ok {
		return fail(ErrMalformed, part(e.n), "it has no attribute k")
	}
	e.setInput(1, e.ints("k", k))
	return nil
}

// scalar makes a constant of the type that value has.
func (e *edit) scalar(suffix, value string, v float32) (string, error) {
	t, err := model.NewTensor(e.c.typeOf(value, model.F32))
	if err != nil {
		return "", err
	}
	switch t.Type {
	case model.F32:
		t.F32()[0] = v
	case model.F64:
		t.F64()[0] = float64(v)
	case model.F16:
		t.F16()[0] = halfBits(v)
	default:
		return "", fail(ErrUnsupported, part(e.n), "attribute %s for elements of %v", suffix, t.Type)
	}
	return e.constant(suffix, t), nil
}

// halfBits rounds v to the nearest binary16, ties to even.
func halfBits(v float32) uint16 {
	b := math.Float32bits(v)
	sign, exp, frac := uint16(b>>16)&0x8000, int(b>>23&0xff)-127, b&0x7fffff
	switch {
	case exp == 128 && frac != 0:
		return sign | 0x7e00
	case exp > 15:
		return sign | 0x7c00
	case exp < -25:
		return sign
	}
	full, shift := frac|0x800000, 13
	base := uint32(exp+15) << 10
	if exp < -14 { // subnormal: the leading one moves into the fraction
		shift, base = 13+(-14-exp), 0
	} else {
		full &= 0x7fffff
	}
	half := base + full>>shift
	rest, tie := full&(1<<shift-1), uint32(1)<<(shift-1)
	if rest > tie || (rest == tie && half&1 == 1) {
		half++ // may carry into the exponent, which is right
	}
	return sign | uint16(half)
}

func clip(e *edit) error {
	for i, key := range []string{"min", "max"} {
		v, ok := take[float32](e, key)
		if !ok {
			continue
		}
		name, err := e.scalar(key, e.n.Input(0), v)
		if err != nil {
			return err
		}
		e.setInput(i+1, name)
	}
	return nil
}

func pad(e *edit) error {
	pads, ok := take[[]int64](e, "pads")
	if !ok {
		return fail(ErrMalformed, part(e.n), "it has no pads")
	}
	e.setInput(1, e.ints("pads", pads...))
	if v, ok := take[float32](e, "value"); ok {
		name, err := e.scalar("value", e.n.Input(0), v)
		if err != nil {
			return err
		}
		e.setInput(2, name)
	}
	return nil
}

// upsample makes a Resize of an Upsample of opset 6 (height_scale and
// width_scale), 7 (scales) or 9 (scales as input 1).
func upsample(e *edit) error {
	scales := e.n.Input(1)
	if v, ok := take[[]float32](e, "scales"); ok {
		scales = e.constant("scales", model.Of(model.F32, v, len(v)))
	}
	h, okH := take[float32](e, "height_scale")
	w, okW := take[float32](e, "width_scale")
	if okH && okW {
		scales = e.constant("scales", model.Of(model.F32, []float32{1, 1, h, w}, 4))
	}
	if scales == "" {
		return fail(ErrMalformed, part(e.n), "it has no scales")
	}
	e.n.Op = "Resize"
	e.n.In = []string{e.n.Input(0), scales}
	return resize10(e)
}

// resize10 gives the Resize of opset 10, which has no modes yet, its meaning
// in those of opset 11.
func resize10(e *edit) error {
	if len(e.n.In) != 2 {
		return fail(ErrMalformed, part(e.n), "%d inputs, not 2", len(e.n.In))
	}
	scales := e.n.In[1]
	e.n.In = []string{e.n.In[0], "", scales}
	if mode := e.n.Str("mode", "nearest"); mode == "bilinear" || mode == "trilinear" {
		e.set("mode", "linear")
	}
	e.set("coordinate_transformation_mode", "asymmetric")
	if e.n.Str("mode", "nearest") == "nearest" {
		mode := "floor"
		if t := e.c.constOf(scales); t != nil && shrinks(t) {
			mode = "ceil"
		}
		e.set("nearest_mode", mode)
	}
	return nil
}

// shrinks reports whether no scale is above 1 and one is below it.
func shrinks(scales *model.Tensor) bool {
	if scales.Type != model.F32 {
		return false
	}
	below := false
	for _, s := range scales.F32() {
		if s > 1 {
			return false
		}
		below = below || s < 1
	}
	return below
}

// resizeEmpty leaves out inputs that are there only because the form of
// opset 11 demanded them: constants without elements.
func resizeEmpty(e *edit) error {
	for i := 1; i < len(e.n.In); i++ {
		if t := e.c.constOf(e.n.In[i]); t != nil && t.Elements() == 0 {
			e.n.In[i] = ""
		}
	}
	for len(e.n.In) > 1 && e.n.In[len(e.n.In)-1] == "" {
		e.n.In = e.n.In[:len(e.n.In)-1]
	}
	return nil
}

// softmax gives the operators that flatten their input to two axes before
// opset 13 the one axis they have since.
func softmax(e *edit) error {
	axis, ok := take[int64](e, "axis")
	if !ok {
		axis = 1
	}
	e.set("axis", int64(-1))
	if r := e.c.rankOf(e.n.Input(0)); axis == -1 || (r >= 0 && axis == int64(r-1)) {
		return nil
	}
	if len(e.n.In) != 1 || len(e.n.Out) != 1 {
		return fail(ErrMalformed, part(e.n), "%d inputs and %d outputs", len(e.n.In), len(e.n.Out))
	}
	in, out := e.n.In[0], e.n.Out[0]
	shape := e.node("Shape", "shape", nil, in)
	flat := e.node("Flatten", "flatten", map[string]model.Attr{"axis": axis}, in)
	e.n.In, e.n.Out = []string{flat.Out[0]}, []string{e.fresh("rows")}
	back := e.node("Reshape", "reshape", nil, e.n.Out[0], shape.Out[0])
	back.Out = []string{out}
	e.before(shape, flat)
	e.after(back)
	return nil
}

// dropout removes a Dropout that does nothing.
func dropout(e *edit) error {
	if len(e.n.In) == 0 || len(e.n.Out) == 0 {
		return fail(ErrMalformed, part(e.n), "%d inputs and %d outputs", len(e.n.In), len(e.n.Out))
	}
	delete(e.n.Attrs, "is_test")
	ratio, hasRatio := take[float32](e, "ratio")
	if hasRatio {
		e.setInput(1, e.constant("ratio", model.Of(model.F32, []float32{ratio})))
	}
	training := e.n.Input(2)
	t := e.c.constOf(training)
	off := training == "" || (t != nil && t.Type == model.Bool && t.Elements() == 1 && t.Bools()[0] == 0)
	mask := len(e.n.Out) > 1 && e.s.reads[e.n.Out[1]] && e.n.Out[1] != ""
	if off && !mask {
		e.n.Op, e.n.Attrs = "Identity", nil
		e.n.In, e.n.Out = e.n.In[:1], e.n.Out[:1]
	}
	return nil
}

// batchNorm drops what only training reads, and takes the form apart that
// has a mean for each element rather than for each channel.
func batchNorm(e *edit) error {
	spatial, ok := take[int64](e, "spatial")
	delete(e.n.Attrs, "is_test")
	delete(e.n.Attrs, "momentum")
	for i := len(e.n.Out) - 1; i > 0; i-- {
		if o := e.n.Out[i]; o != "" && e.s.reads[o] {
			return fail(ErrUnsupported, part(e.n), "output %d, which only training makes", i)
		}
	}
	if len(e.n.Out) == 0 || len(e.n.In) != 5 {
		return fail(ErrMalformed, part(e.n), "%d inputs and %d outputs", len(e.n.In), len(e.n.Out))
	}
	e.n.Out = e.n.Out[:1]
	if !ok || spatial != 0 {
		return nil
	}
	eps, err := e.scalar("epsilon", e.n.In[0], e.n.Float("epsilon", 1e-5))
	if err != nil {
		return err
	}
	x, scale, bias, mean, variance := e.n.In[0], e.n.In[1], e.n.In[2], e.n.In[3], e.n.In[4]
	centred := e.node("Sub", "centred", nil, x, mean)
	safe := e.node("Add", "safe", nil, variance, eps)
	deviation := e.node("Sqrt", "deviation", nil, safe.Out[0])
	normed := e.node("Div", "normed", nil, centred.Out[0], deviation.Out[0])
	scaled := e.node("Mul", "scaled", nil, normed.Out[0], scale)
	e.n.Op, e.n.In, e.n.Attrs = "Add", []string{scaled.Out[0], bias}, nil
	e.before(centred, safe, deviation, normed, scaled)
	return nil
}

// broadcast turns opset 6's broadcast with an axis, the position in the
// first input at which the second one's axes stand, into axes of length 1.
func broadcast(e *edit) error {
	on, _ := take[int64](e, "broadcast")
	axis, hasAxis := take[int64](e, "axis")
	if on == 0 || !hasAxis {
		return nil
	}
	return alignAt(e, axis)
}

// prelu: before opset 7 a slope of one axis stood for the channels, axis 1.
func prelu(e *edit) error {
	if t := e.c.constOf(e.n.Input(1)); t != nil && t.Elements() == 1 {
		return nil
	}
	if e.c.rankOf(e.n.Input(1)) != 1 {
		return nil
	}
	return alignAt(e, 1)
}

// alignAt appends axes of length 1 to input 1, so that its first axis stands
// at that axis of input 0.
func alignAt(e *edit, axis int64) error {
	a, b := e.c.rankOf(e.n.Input(0)), e.c.rankOf(e.n.Input(1))
	if a < 0 || b < 0 {
		return fail(ErrUnsupported, part(e.n), "a broadcast along axis %d of values of unknown rank", axis)
	}
	if axis < 0 {
		axis += int64(a)
	}
	missing := int64(a) - axis - int64(b)
	if axis < 0 || missing < 0 {
		return fail(ErrMalformed, part(e.n), "a broadcast of %d axes along axis %d of %d", b, axis, a)
	}
	if missing == 0 {
		return nil
	}
	axes := make([]int64, missing)
	for i := range axes {
		axes[i] = int64(b + i)
	}
	u := e.node("Unsqueeze", "aligned", nil, e.n.In[1], e.ints("axes", axes...))
	e.n.In[1] = u.Out[0]
	e.before(u)
	return nil
}

func dft(e *edit) error {
	axis, ok := take[int64](e, "axis")
	if !ok {
		axis = 1
	}
	e.setInput(2, e.constant("axis", model.Of(model.I64, []int64{axis})))
	return nil
}

func gridSample(e *edit) error {
	switch e.n.Str("mode", "bilinear") {
	case "bilinear":
		e.set("mode", "linear")
	case "bicubic":
		e.set("mode", "cubic")
	}
	return nil
}

func roiAlign(e *edit) error {
	if e.n.Str("coordinate_transformation_mode", "") == "" {
		e.set("coordinate_transformation_mode", "output_half_pixel")
	}
	return nil
}

// outputType: the zero point says what QuantizeLinear makes. Where there is
// none it is output_dtype that does, and uint8 where there is neither.
func outputType(e *edit) error {
	typ, _ := take[int64](e, "output_dtype")
	zero := e.n.Input(2)
	switch {
	case typ == protoInt4 || typ == protoUint4 || e.c.fourBits[e.c.constOf(zero)]:
		return fail(ErrUnsupported, part(e.n), "integers of 4 bits made in the run")
	case zero != "" || typ == 0 || DType(typ) == model.U8:
		return nil
	}
	scale := e.c.constOf(e.n.Input(1))
	if DType(typ) != model.I8 || scale == nil {
		return fail(ErrUnsupported, part(e.n), "output_dtype %d without a zero point and a constant scale", typ)
	}
	if err := e.c.budget.take(int64(scale.Elements()) + 2*model.Alignment); err != nil {
		return err
	}
	t, err := model.NewTensor(model.I8, scale.Shape...)
	if err != nil {
		return err
	}
	e.setInput(2, e.constant("zero", t))
	return nil
}
