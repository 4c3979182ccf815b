package engine

import (
	"dunlin/kernels"
	"dunlin/model"
)

// Kernels that pack weights, and how each is cut: parts share the weights.

// inStrips cuts a kernel of one input and one output. strip returns the kernel
// of a part, and the elements of input and output before its own.
func inStrips(units, step int, strip func(from, to int) (k *kernel, in, out int)) cutter {
	return cutter{units, step, func(from, to int) (part, error) {
		k, in, out := strip(from, to)
		return part{kernel: k, in: []span{{from: in}}, out: []span{{from: out}}}, nil
	}}
}

// inColumns cuts the channels of each row of the output; every part reads all
// of the input.
func inColumns(units, step int, columns func(from, to int) *kernel) cutter {
	return cutter{units, step, func(from, to int) (part, error) {
		return part{kernel: columns(from, to), in: []span{{}}, out: []span{{from: from}}}, nil
	}}
}

// adding is c for a kernel that adds input 3, where add is set, to its output.
func (c cutter) adding(add bool) cutter {
	if !add {
		return c
	}
	alone := c.part
	c.part = func(from, to int) (part, error) {
		p, err := alone(from, to)
		p.in = []span{p.in[0], {}, {}, p.out[0]}
		return p, err
	}
	return c
}

// byWeights orders two cutters: rows read all weights in each part, columns
// read all of the input. Weights weigh more where they are several times as
// many, since each thread then keeps its own in its cache.
func byWeights(weights, inputs int, rows, columns cutter) []cutter {
	switch {
	case columns.step == 0:
		return []cutter{rows}
	case weights >= 4*inputs:
		return []cutter{columns, rows}
	}
	return []cutter{rows, columns}
}

// sumF32 names and binds a float kernel, which adds input 3 where add is set.
func sumF32(name string, add bool, run func(out, in []float32, scratch []byte), runAdd func(out, in, more []float32, scratch []byte)) (string, binder) {
	if add {
		return name + "-add-f32", addingFloats(runAdd)
	}
	return name + "-f32", floats(run)
}

func convF32Kernel(v *kernels.ConvF32, add bool) *kernel {
	g := &v.Geometry
	k := &kernel{tier: v.Tier(), macs: convMACs(*g), weights: v.Bytes(), scratch: v.Scratch()}
	k.name, k.bind = sumF32("conv", add, v.Run, v.RunAdd)
	k.cutters = byWeights(g.OC*g.KH*g.KW, g.N*g.H*g.W,
		inStrips(v.Strips(), v.Step(), func(from, to int) (*kernel, int, int) {
			p, in, out := v.Strip(from, to)
			return convF32Kernel(p, add), in, out
		}).adding(add),
		inColumns(g.OC, v.Panel(), func(from, to int) *kernel { return convF32Kernel(v.Columns(from, to), add) }).adding(add))
	return k
}

func convInt8Kernel(v *kernels.ConvInt8) *kernel {
	g := &v.Geometry
	k := &kernel{name: "conv-int8", tier: v.Tier(), macs: convMACs(*g), weights: v.Bytes(), scratch: v.Scratch(), bind: int8s(v.Run)}
	k.cutters = byWeights(g.OC*g.KH*g.KW, g.N*g.H*g.W,
		inStrips(v.Strips(), 1, func(from, to int) (*kernel, int, int) {
			p, in, out := v.Strip(from, to)
			return convInt8Kernel(p), in, out
		}),
		inColumns(g.OC, v.Panel(), func(from, to int) *kernel { return convInt8Kernel(v.Columns(from, to)) }))
	return k
}

func depthwiseF32Kernel(d *kernels.DepthwiseF32) *kernel {
	k := &kernel{
		name: "depthwise-f32", tier: d.Tier(), macs: convMACs(d.Geometry), weights: d.Bytes(), scratch: d.Scratch(), bind: floats(d.Run),
	}
	k.cutters = []cutter{inStrips(d.Strips(), 1, func(from, to int) (*kernel, int, int) {
		p, in, out := d.Strip(from, to)
		return depthwiseF32Kernel(p), in, out
	})}
	return k
}

func depthwiseInt8Kernel(d *kernels.DepthwiseInt8) *kernel {
	k := &kernel{
		name: "depthwise-int8", tier: d.Tier(), macs: convMACs(d.Geometry), weights: d.Bytes(), scratch: d.Scratch(), bind: int8s(d.Run),
	}
	k.cutters = []cutter{inStrips(d.Strips(), 1, func(from, to int) (*kernel, int, int) {
		p, in, out := d.Strip(from, to)
		return depthwiseInt8Kernel(p), in, out
	})}
	return k
}

func gemmF32Kernel(name string, g *kernels.GEMMF32, m int, add bool) *kernel {
	k := &kernel{tier: g.Tier(), macs: int64(m) * int64(g.N) * int64(g.K), weights: g.Bytes(), scratch: g.Scratch()}
	k.name, k.bind = sumF32(name, add,
		func(out, in []float32, scratch []byte) { g.Run(out, in, m, scratch) },
		func(out, in, more []float32, scratch []byte) { g.RunAdd(out, in, more, m, scratch) })
	k.cutters = byWeights(g.N, m,
		inStrips(m, g.Step(m), func(from, to int) (*kernel, int, int) {
			return gemmF32Kernel(name, g, to-from, add), from * g.K, from * g.N
		}).adding(add),
		inColumns(g.N, g.Panel(), func(from, to int) *kernel { return gemmF32Kernel(name, g.Columns(from, to), m, add) }).adding(add))
	return k
}

func gemmInt8Kernel(name string, g *kernels.GEMMInt8, m int) *kernel {
	k := gemmInt8(name, g, m, int8s(func(out, in []int8, scratch []byte) { g.Run(out, in, m, scratch) }))
	k.cutters = byWeights(g.N, m,
		inStrips(m, g.Step(), func(from, to int) (*kernel, int, int) {
			return gemmInt8Kernel(name, g, to-from), from * g.K, from * g.N
		}),
		inColumns(g.N, g.Panel(), func(from, to int) *kernel { return gemmInt8Kernel(name, g.Columns(from, to), m) }))
	return k
}

// gemmInt8Floats is gemmInt8Kernel with a float result: see GEMMInt8.RunF32.
func gemmInt8Floats(name string, g *kernels.GEMMInt8, m int, scale []float32) *kernel {
	k := gemmInt8(name, g, m, func(in, out []*model.Tensor, scratch []byte) func() error {
		x, y := in[0].I8(), out[0].F32()
		return func() error { g.RunF32(y, x, m, scale, scratch); return nil }
	})
	k.cutters = byWeights(g.N, m,
		inStrips(m, g.Step(), func(from, to int) (*kernel, int, int) {
			return gemmInt8Floats(name, g, to-from, scale), from * g.K, from * g.N
		}),
		inColumns(g.N, g.Panel(), func(from, to int) *kernel { return gemmInt8Floats(name, g.Columns(from, to), m, scale[from:]) }))
	return k
}

// gemmDynamicKernel is that of dunlin.DynamicGemm for the columns of g, which
// begin at column first of all.
func gemmDynamicKernel(g *kernels.GEMMInt8, m, first int) *kernel {
	own, columns := align(g.DynamicScratch()), (g.N+15)&^15
	k := gemmInt8("gemm-int8-dynamic", g, m, func(in, out []*model.Tensor, scratch []byte) func() error {
		x, zero, scale, y := in[0].I8(), in[2].I8(), in[3].F32(), out[0].F32()
		each := (&model.Tensor{Type: model.F32, Shape: model.Shape{columns}, Data: scratch[own : own+4*columns]}).F32()
		return func() error {
			for j := range each[:g.N] {
				each[j] = scale[(first+j)%len(scale)]
			}
			g.RunDynamic(y, x, m, zero[0], each, scratch)
			return nil
		}
	})
	k.scratch = own + 4*columns
	k.cutters = byWeights(g.N, m,
		inStrips(m, g.Step(), func(from, to int) (*kernel, int, int) {
			return gemmDynamicKernel(g, to-from, first), from * g.K, from * g.N
		}),
		inColumns(g.N, g.Panel(), func(from, to int) *kernel { return gemmDynamicKernel(g.Columns(from, to), m, first+from) }))
	return k
}

// productKernel is that of a product of computed tensors: it is cut between
// the matrices of the batch.
func productKernel(p *kernels.ProductF32, batch []kernels.Offsets) *kernel {
	k := &kernel{
		name: "matmul-f32", tier: p.Tier(), macs: int64(len(batch)) * int64(p.M) * int64(p.N) * int64(p.K), scratch: p.Scratch(),
		bind: func(in, out []*model.Tensor, scratch []byte) func() error {
			x, w, y := in[0].F32(), in[1].F32(), out[0].F32()
			return func() error { p.Run(y, x, w, batch, scratch); return nil }
		},
	}
	k.cutters = []cutter{{units: len(batch), step: 1, part: func(from, to int) (part, error) {
		return part{kernel: productKernel(p, batch[from:to])}, nil
	}}}
	return k
}

func gemmInt8(name string, g *kernels.GEMMInt8, m int, bind binder) *kernel {
	return &kernel{
		name: name, tier: g.Tier(), macs: int64(m) * int64(g.N) * int64(g.K), weights: g.Bytes(), scratch: g.Scratch(), bind: bind,
	}
}

// maxPoolKernel is that of a pool of int8 or float32.
func maxPoolKernel(p *kernels.MaxPool, t model.DType) *kernel {
	k := &kernel{name: "maxpool-f32", tier: p.Tier()}
	k.bind = floats(func(out, in []float32, _ []byte) { p.F32(out, in) })
	if t == model.I8 {
		k.name = "maxpool-int8"
		k.bind = int8s(func(out, in []int8, _ []byte) { p.Int8(out, in) })
	}
	k.cutters = []cutter{inStrips(p.Strips(), 1, func(from, to int) (*kernel, int, int) {
		s, in, out := p.Strip(from, to)
		return maxPoolKernel(s, t), in, out
	})}
	return k
}

// averagePoolKernel is that of a pool of int8 or float32.
func averagePoolKernel(p *kernels.AveragePool, t model.DType) *kernel {
	k := &kernel{name: "averagepool-f32", tier: p.Tier()}
	k.bind = floats(func(out, in []float32, _ []byte) { p.F32(out, in) })
	if t == model.I8 {
		k.name, k.scratch, k.bind = "averagepool-int8", p.Scratch(), int8s(p.Int8)
	}
	k.cutters = []cutter{inStrips(p.Strips(), 1, func(from, to int) (*kernel, int, int) {
		s, in, out := p.Strip(from, to)
		return averagePoolKernel(s, t), in, out
	})}
	return k
}

func transposeKernel(t *kernels.Transpose) *kernel {
	k := &kernel{name: "transpose", tier: t.Tier(), bind: moves(t.Run)}
	k.cutters = []cutter{inStrips(t.Strips(), 1, func(from, to int) (*kernel, int, int) {
		s, in, out := t.Strip(from, to)
		return transposeKernel(s), in, out
	})}
	return k
}
