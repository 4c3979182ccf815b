package head

import (
	"encoding/binary"
	"fmt"
	"math"

	"dunlin/kernels"
	"dunlin/model"
)

// Weights become int8 as quant makes them (kernels.WeightScale): the bias makes
// up for what rounding takes on average, and its units are those of the input
// times the weights. A test compares both, bit for bit.

// spread is what a layer was seen to do with the samples.
type spread struct {
	mean   []float64 // of each input
	lo, hi float64   // of its outputs
}

// frozen is a head as it stands in the graph: the constants, and the same as
// floats to try it with.
type frozen struct {
	net    *net
	delta  *Delta
	scales []float32
}

// freeze writes a trained head in the form that the graph has. The steps of a
// grid become wider where the samples go beyond it, never narrower.
func (h *Head) freeze(n *net, samples []Sample, rest func() error) (*frozen, error) {
	f := &frozen{net: &net{layers: h.layers}, delta: &Delta{}}
	in := h.Feature.scale
	for i, l := range h.layers {
		s, err := h.seen(n, f, i, samples, rest)
		if err != nil {
			return nil, err
		}
		w, b, err := f.weights(l, n.w[i], n.b[i], in, s.mean)
		if err != nil {
			return nil, err
		}
		f.net.w, f.net.b = append(f.net.w, w), append(f.net.b, b)
		grids := make([]grid, len(l.grids))
		for j, g := range l.grids {
			grids[j] = g
			if g.own {
				grids[j] = g.widened(s.lo, s.hi)
			}
			if grids[j] != g {
				f.put(g.scaleName, floats([]float32{grids[j].scale}))
				f.put(g.zeroName, []byte{byte(grids[j].zero)})
			}
			in = grids[j].scale
		}
		f.net.grids = append(f.net.grids, grids)
	}
	return f, nil
}

// put replaces a constant; two grids may share one.
func (f *frozen) put(name string, data []byte) {
	for _, c := range f.delta.Constants {
		if c.Name == name {
			return
		}
	}
	f.delta.Constants = append(f.delta.Constants, Constant{name, data})
}

// seen runs the samples through the layers that are frozen and through layer i
// as it was trained.
func (h *Head) seen(n *net, f *frozen, i int, samples []Sample, rest func() error) (spread, error) {
	mixed := &net{layers: h.layers[:i+1], grids: append(append([][]grid{}, f.net.grids...), nil)}
	mixed.w, mixed.b = append(append([][]float32{}, f.net.w...), n.w[i]), append(append([][]float32{}, f.net.b...), n.b[i])
	b := newBatch(mixed, 1, rest)
	l := h.layers[i]
	s := spread{mean: make([]float64, l.in)}
	for _, sample := range samples {
		h.Feature.values(b.x, sample.Feature)
		if err := mixed.forward(b, 1); err != nil {
			return s, err
		}
		in := b.x
		if i > 0 {
			in = b.z[i-1]
		}
		for c, v := range in[:l.in] {
			s.mean[c] += float64(v) / float64(len(samples))
		}
		for _, v := range b.z[i] {
			s.lo, s.hi = math.Min(s.lo, float64(v)), math.Max(s.hi, float64(v))
		}
	}
	return s, nil
}

// weights replaces the constants of one layer, and returns them as floats.
func (f *frozen) weights(l *dense, w, b []float32, in float32, mean []float64) (asFloat, bias []float32, err error) {
	for _, v := range [][]float32{w, b} {
		if err := finite(v); err != nil {
			return nil, nil, fmt.Errorf("training went astray: %w", err)
		}
	}
	asFloat, bias = make([]float32, len(w)), append([]float32(nil), b...)
	f.scales = f.scales[:0]
	if l.constant.scale == "" {
		copy(asFloat, w)
		f.put(l.constant.value, floats(l.turned(w)))
	} else {
		f.int8(l, w, b, in, asFloat)
		for c := range bias {
			for i, m := range mean {
				at := c*l.in + i
				bias[c] = float32(float64(bias[c]) + float64((float64(w[at])-float64(asFloat[at]))*m))
			}
		}
	}
	switch {
	case l.bias.value == "":
	case l.bias.scale == "":
		f.put(l.bias.value, floats(bias))
	default:
		f.int32(l, bias, in)
	}
	return asFloat, bias, nil
}

// int8 writes the weights of a layer and their scales, one a channel or one
// for all, as the graph has it.
func (f *frozen) int8(l *dense, w, b []float32, in float32, asFloat []float32) {
	each := l.in
	if l.perTensor {
		each = len(w)
	}
	q := make([]float32, len(w))
	for c := 0; c*each < len(w); c++ {
		v := w[c*each : (c+1)*each]
		bias := b[min(len(b), c*each/l.in):min(len(b), (c+1)*each/l.in)]
		s := kernels.WeightScale(v, bias, in)
		f.scales = append(f.scales, s)
		for i, x := range v {
			q[c*each+i] = float32(kernels.WeightStep(x, s, 127))
			asFloat[c*each+i] = float32(float64(q[c*each+i]) * float64(s))
		}
	}
	data := make([]byte, len(q))
	for i, v := range l.turned(q) {
		data[i] = byte(int8(v))
	}
	f.put(l.constant.value, data)
	f.put(l.constant.scale, floats(f.scales))
}

// int32 writes a bias in units of in times the scale of the weights' channel,
// where the graph has a unit for each, and makes it what these units can say.
func (f *frozen) int32(l *dense, bias []float32, in float32) {
	units := make([]float32, l.units)
	for c := range units {
		units[c] = float32(float64(in) * float64(f.scales[c%len(f.scales)]))
	}
	data := make([]byte, 0, 4*len(bias))
	for c, v := range bias {
		unit := float64(units[c%len(units)])
		q := kernels.WeightStep(v, units[c%len(units)], math.MaxInt32)
		data = binary.LittleEndian.AppendUint32(data, uint32(int32(q)))
		bias[c] = float32(q * unit)
	}
	f.put(l.bias.value, data)
	f.put(l.bias.scale, floats(units))
}

// turned returns weights [out, in] in the order that the graph has.
func (l *dense) turned(w []float32) []float32 {
	if l.rows {
		return w
	}
	t := make([]float32, len(w))
	for i, v := range w {
		t[i%l.in*l.out+i/l.in] = v
	}
	return t
}

func floats(v []float32) []byte {
	data := make([]byte, 0, 4*len(v))
	for _, x := range v {
		data = binary.LittleEndian.AppendUint32(data, math.Float32bits(x))
	}
	return data
}

// widened returns steps that reach from lo to hi, g where it does already.
func (g grid) widened(lo, hi float64) grid {
	from, to := float64(float64(g.scale)*float64(g.least-g.zero)), float64(float64(g.scale)*float64(g.most-g.zero))
	if lo >= from && hi <= to {
		return g
	}
	lo, hi = math.Min(lo, from), math.Max(hi, to)
	g.scale = float32((hi - lo) / 255)
	g.zero = int32(math.Max(float64(g.least), math.Min(float64(g.most), math.RoundToEven(float64(g.least)-lo/float64(g.scale)))))
	return g
}

// round moves v to the nearest step of g.
func (g grid) round(v float32) float32 {
	q := math.RoundToEven(float64(v)/float64(g.scale)) + float64(g.zero)
	q = math.Max(float64(g.least), math.Min(float64(g.most), q))
	return float32((q - float64(g.zero)) * float64(g.scale))
}

// Check fails where data is no feature: too short or long, or not finite.
func (f Feature) Check(data []byte) error {
	if len(data) != f.Bytes() {
		return fmt.Errorf("a feature of %d bytes, want %d", len(data), f.Bytes())
	}
	if f.Type != model.F32 {
		return nil
	}
	row := make([]float32, f.Size)
	f.values(row, data)
	return finite(row)
}

// values writes a stored feature to dst as floats.
func (f Feature) values(dst []float32, data []byte) {
	for i := range dst[:f.Size] {
		switch f.Type {
		case model.I8:
			dst[i] = float32(float32(int32(int8(data[i]))-f.zero) * f.scale)
		case model.U8:
			dst[i] = float32(float32(int32(data[i])-f.zero) * f.scale)
		default:
			dst[i] = math.Float32frombits(binary.LittleEndian.Uint32(data[4*i:]))
		}
	}
}
