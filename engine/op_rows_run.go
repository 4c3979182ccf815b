package engine

import (
	"strings"

	"dunlin/model"
)

func lowerRows(c *call) (*kernel, error) {
	r, err := rowsOf(c)
	if err != nil {
		return nil, err
	}
	if err := r.measure(); err != nil {
		return nil, err
	}
	full, err := r.steps(r.block)
	if err != nil {
		return nil, err
	}
	p := &rowPlan{full: full}
	if n := r.segment % r.block; n > 0 {
		if p.rest, err = r.steps(n); err != nil {
			return nil, err
		}
	}
	k := &kernel{name: namesOf(full), tier: full[0].kernel.tier}
	p.blocks, k.scratch = r.memory(full)
	for _, s := range full {
		k.tier = min(k.tier, s.kernel.tier)
	}
	for _, v := range r.body.Values {
		if v.Const != nil {
			k.weights += len(v.Const.Data)
		}
	}
	all, err := r.shape[:len(r.shape)-1].Elements()
	if err != nil {
		return nil, err
	}
	r.over(k, p, 0, all/r.segment*r.perSegment())
	return k, nil
}

// rowPlan is what each block runs, and where its values are in scratch.
type rowPlan struct {
	full, rest []rowStep // rest is for the last block of a segment
	blocks     map[string]*buffer
}

// over makes k the kernel of blocks from to to-1. Parts of it are fewer of
// them.
func (r *rows) over(k *kernel, p *rowPlan, from, to int) {
	k.bind = func(in, out []*model.Tensor, scratch []byte) func() error {
		b := &rowRun{rows: r, outside: r.outside(in, out), blocks: map[string][]byte{}, from: from, to: to}
		for name, x := range p.blocks {
			b.blocks[name] = scratch[x.offset : x.offset+x.bytes]
		}
		b.full, b.rest = b.bind(p.full, scratch), b.bind(p.rest, scratch)
		b.copies(p.full)
		return b.run
	}
	k.cutters = []cutter{{units: to - from, step: 1, part: func(first, end int) (part, error) {
		some := *k
		r.over(&some, p, from+first, from+end)
		return part{kernel: &some}, nil
	}}}
}

// namesOf returns what a plan shows: Dequantize+Add+Softmax.
func namesOf(steps []rowStep) string {
	var ops []string
	for _, s := range steps {
		ops = append(ops, strings.TrimSuffix(s.node.Op, "Linear"))
	}
	return strings.Join(ops, "+")
}

// outside returns the tensors that are not made block by block: constants,
// inputs and outputs.
func (r *rows) outside(in, out []*model.Tensor) map[string]*model.Tensor {
	list := map[string]*model.Tensor{}
	for name, v := range r.body.Values {
		if v.Const != nil {
			list[name] = v.Const
		}
	}
	for i, name := range r.body.Inputs {
		list[name] = in[i]
	}
	for i, name := range r.body.Outputs {
		list[name] = out[i]
	}
	return list
}

// memory places the blocks of values in scratch, and returns the bytes of all
// of it. The scratch of the operators themselves comes first.
func (r *rows) memory(steps []rowStep) (blocks map[string]*buffer, need int) {
	blocks = map[string]*buffer{}
	var list []*buffer
	block := func(name string, w window, born int) {
		b := blocks[name]
		if b == nil {
			b = &buffer{bytes: w.elements() * r.body.Value(name).Type.Size(), born: born}
			blocks[name], list = b, append(list, b)
		}
	}
	for i, s := range steps {
		need = max(need, align(s.kernel.scratch))
		for j, w := range s.windows {
			if w.moves() || blocks[s.in[j]] != nil {
				block(s.in[j], w, -1)
				blocks[s.in[j]].dies = i
			}
		}
		block(s.out, s.result, i)
		blocks[s.out].dies = i
	}
	for _, name := range r.body.Outputs {
		blocks[name].dies = len(steps)
	}
	total := place(list)
	for _, b := range list {
		b.offset += need
	}
	return blocks, need + total
}

// rowRun is a dunlin.Rows bound to memory.
type rowRun struct {
	*rows
	outside    map[string]*model.Tensor // inputs, outputs and constants
	blocks     map[string][]byte        // of values, in scratch
	full, rest []func() error
	in, out    []blockCopy
	from, to   int // the blocks that it runs
}

// blockCopy moves a block between scratch and the tensor that it is of.
type blockCopy struct {
	block, whole []byte
	window       window
	row, size    int // bytes that a row of the block adds, 0 where it repeats, and of an element
}

// bytes returns how long a block of n rows is.
func (c *blockCopy) bytes(n int) int {
	if c.row == 0 {
		return len(c.block)
	}
	return n * c.row
}

func (b *rowRun) bind(steps []rowStep, scratch []byte) []func() error {
	var list []func() error
	for _, s := range steps {
		in := make([]*model.Tensor, len(s.in))
		for i, name := range s.in {
			if in[i] = b.outside[name]; i < len(s.windows) {
				in[i] = b.seen(name, s.windows[i])
			}
		}
		list = append(list, s.kernel.bind(in, []*model.Tensor{b.seen(s.out, s.result)}, scratch))
	}
	return list
}

// seen returns the tensor that a step has for a value: its block, or, where
// all blocks see the same, the value itself.
func (b *rowRun) seen(name string, w window) *model.Tensor {
	data, t := b.blocks[name], b.body.Value(name).Type
	if data == nil {
		data = b.outside[name].Data
	}
	return &model.Tensor{Type: t, Shape: w.shape, Data: data[:w.elements()*t.Size()]}
}

// copies lists what is copied for each block.
func (b *rowRun) copies(steps []rowStep) {
	windows := map[string]window{}
	for _, s := range steps {
		for i, w := range s.windows {
			windows[s.in[i]] = w
		}
		windows[s.out] = s.result
	}
	made := b.body.Producers()
	for name, block := range b.blocks {
		t := b.outside[name]
		if t == nil {
			continue
		}
		w := windows[name]
		c := blockCopy{block: block, whole: t.Data, window: w, size: t.Type.Size()}
		if w.shape[0] > 1 {
			c.row = len(block) / w.shape[0]
		}
		if made[name] == nil {
			b.in = append(b.in, c)
		} else {
			b.out = append(b.out, c)
		}
	}
}

// run runs the blocks, none of which goes beyond a segment.
func (b *rowRun) run() error {
	each := b.perSegment()
	for i := b.from; i < b.to; i++ {
		row, n, list := i%each*b.block, b.block, b.full
		if row+n > b.segment {
			n, list = b.segment-row, b.rest
		}
		if err := b.runBlock(list, i/each*b.segment+row, n); err != nil {
			return err
		}
	}
	return nil
}

func (b *rowRun) runBlock(list []func() error, row, n int) error {
	for i := range b.in {
		c := &b.in[i]
		at := c.window.from(b.shape, row) * c.size
		copy(c.block, c.whole[at:at+c.bytes(n)])
	}
	for _, f := range list {
		if err := f(); err != nil {
			return err
		}
	}
	for i := range b.out {
		c := &b.out[i]
		copy(c.whole[c.window.from(b.shape, row)*c.size:], c.block[:c.bytes(n)])
	}
	return nil
}
