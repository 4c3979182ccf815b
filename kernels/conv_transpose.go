package kernels

import (
	"fmt"
	"slices"
)

// ConvTranspose is the transposed convolution: each input position adds its
// channels, times the weights, to the output positions under its window.
//
//	in   [N, In..., C]
//	w    [C, OC/Groups, taps]
//	bias [OC], 0 where nil
//	out  [N, Out..., OC] = clamp(bias[oc] + Σ in*w)
//
// In the Volume, the kernel's tap i of input position p lies at output
// position p*Stride + i*Dilation - Before; what falls outside is dropped. The
// exact order is: the bias, then input positions ascending and, for each, taps
// ascending, each adding its sum over channels, which is formed from 0 with
// products rounded.
type ConvTranspose struct {
	Volume
	bias   []float32
	clamp  Clamp
	packed []*GEMMF32 // of each group: [taps*OC/Groups, C/Groups]; nil where weights are computed
	lines  []*GEMMF32 // instead, where windows are apart: of each row of the kernel, [Kernel[2]*OC, C]
}

// NewConvTranspose checks v. Weights are then given to each Run.
func NewConvTranspose(v Volume, bias []float32, clamp Clamp) (*ConvTranspose, error) {
	if err := v.Check(); err != nil {
		return nil, err
	}
	if bias != nil && len(bias) != v.OC {
		return nil, fmt.Errorf("transposed convolution: %d biases for %d channels", len(bias), v.OC)
	}
	return &ConvTranspose{Volume: v, bias: bias, clamp: clamp}, nil
}

// Pack lays constant weights out for t; Run then does not look at those it is
// given.
func (c *ConvTranspose) Pack(t Target, w []float32) error {
	cg, og, taps := c.C/c.Groups, c.OC/c.Groups, c.Taps()
	if len(w) != c.C*og*taps {
		return fmt.Errorf("transposed convolution: %d weights for [%d, %d, %d]", len(w), c.C, og, taps)
	}
	if c.apart() {
		return c.packLines(t, c.rows(w, 0))
	}
	for g := range c.Groups {
		m, err := PackGEMMF32(t, taps*og, cg, WeightsF32{W: c.rows(w, g), Clamp: NoClamp})
		if err != nil {
			return err
		}
		c.packed = append(c.packed, m)
	}
	return nil
}

// apart reports whether windows lie side by side: no output position is under
// two of them, or under none.
func (c *ConvTranspose) apart() bool {
	for i := range 3 {
		if c.Kernel[i] != c.Stride[i] || (c.Kernel[i] > 1 && c.Dilation[i] != 1) || c.Before[i] != 0 || c.Out[i] != c.In[i]*c.Stride[i] {
			return false
		}
	}
	return c.Groups == 1
}

// packLines lays out rows, [taps, OC, C], by rows of the kernel.
func (c *ConvTranspose) packLines(t Target, rows []float32) error {
	n := c.Kernel[2] * c.OC
	for ; len(rows) > 0; rows = rows[n*c.C:] {
		m, err := PackGEMMF32(t, n, c.C, WeightsF32{W: rows[:n*c.C], Clamp: c.clamp})
		if err != nil {
			return err
		}
		c.lines = append(c.lines, m)
	}
	return nil
}

// runLines is Run where windows are apart: a row of the input times a row of
// the kernel is a row of the output, which holds the bias before.
func (c *ConvTranspose) runLines(out, in, bias []float32, scratch []byte) {
	line := c.Out[2] * c.OC
	for i := range c.N * c.In[0] * c.In[1] {
		a := in[i*c.In[2]*c.C:][:c.In[2]*c.C]
		plane, y := i/c.In[1], i%c.In[1]
		for k, g := range c.lines {
			row := (plane*c.Kernel[0]+k/c.Kernel[1])*c.Out[1] + y*c.Kernel[1] + k%c.Kernel[1]
			dst := out[row*line:][:line]
			if bias == nil {
				clear(dst)
			}
			for n := 0; bias != nil && n < line; n += c.OC {
				copy(dst[n:n+c.OC], bias)
			}
			g.RunAdd(dst, a, dst, c.In[2], scratch)
		}
	}
}

// rows returns the weights of group g as [taps, OC/Groups, C/Groups].
func (c *ConvTranspose) rows(w []float32, g int) []float32 {
	cg, og, taps := c.C/c.Groups, c.OC/c.Groups, c.Taps()
	rows := make([]float32, taps*og*cg)
	for i := range cg {
		for o := range og {
			for k := range taps {
				rows[(k*og+o)*cg+i] = w[((g*cg+i)*og+o)*taps+k]
			}
		}
	}
	return rows
}

// Tier returns the tier of the products.
func (c *ConvTranspose) Tier() Tier {
	for _, p := range slices.Concat(c.packed, c.lines) {
		return p.Tier()
	}
	return Generic
}

// Bytes returns the memory that the packed weights take.
func (c *ConvTranspose) Bytes() int {
	n := 0
	for _, p := range slices.Concat(c.packed, c.lines) {
		n += p.Bytes()
	}
	return n
}

// stripe is how many input positions are multiplied at once.
const stripe = 64

// Scratch returns the bytes of scratch that Run needs, aligned to 64.
func (c *ConvTranspose) Scratch() int {
	if c.lines != nil {
		return c.lines[0].Scratch()
	}
	n := 4 * stripe * (c.Taps()*(c.OC/c.Groups) + c.C/c.Groups)
	if c.packed != nil {
		return roundUp(n, 64) + c.packed[0].Scratch()
	}
	return n
}

// Run writes the result to out. w is looked at where no weights were packed;
// bias, where it is not nil, takes the place of the constant one.
func (c *ConvTranspose) Run(out, in, w, bias []float32, scratch []byte) {
	cg, og, taps := c.C/c.Groups, c.OC/c.Groups, c.Taps()
	if bias == nil {
		bias = c.bias
	}
	if c.lines != nil {
		c.runLines(out, in, bias, scratch)
		return
	}
	for at := 0; at < len(out); at += c.OC {
		row := out[at : at+c.OC]
		clear(row)
		copy(row, bias)
	}
	n := 4 * stripe * (taps*og + cg)
	floats, rest := view[float32](scratch[:n]), scratch[min(roundUp(n, 64), len(scratch)):]
	sums, x := floats[:stripe*taps*og], floats[stripe*taps*og:]
	for from := 0; from < c.N*c.InSize(); from += stripe {
		rows := min(stripe, c.N*c.InSize()-from)
		for g := range c.Groups {
			a := in[from*c.C:][:rows*c.C]
			if c.Groups > 1 {
				for r := range rows {
					copy(x[r*cg:(r+1)*cg], a[r*c.C+g*cg:])
				}
				a = x[:rows*cg]
			}
			if c.packed != nil {
				c.packed[g].Run(sums, a, rows, rest)
			} else {
				c.multiply(sums, a, w, g, rows)
			}
			for r := range rows {
				c.scatter(out, sums[r*taps*og:][:taps*og], from+r, g)
			}
		}
	}
	for i, v := range out {
		out[i] = c.clamp.of(v)
	}
}

// multiply is the product with computed weights, as packed ones give it.
func (c *ConvTranspose) multiply(sums, a, w []float32, g, rows int) {
	cg, og, taps := c.C/c.Groups, c.OC/c.Groups, c.Taps()
	for r := range rows {
		for o := range og {
			for k := range taps {
				sum := float32(0)
				for i, x := range a[r*cg : (r+1)*cg] {
					sum += float32(x * w[((g*cg+i)*og+o)*taps+k])
				}
				sums[(r*taps+k)*og+o] = sum
			}
		}
	}
}

// scatter adds the sums of one input position to the output.
func (c *ConvTranspose) scatter(out, sums []float32, i, g int) {
	og := c.OC / c.Groups
	p := position(i%c.InSize(), c.In)
	base := i / c.InSize() * c.OutSize()
	for k := range c.Taps() {
		tap, at, ok := position(k, c.Kernel), 0, true
		for axis := range 3 {
			q := p[axis]*c.Stride[axis] + tap[axis]*c.Dilation[axis] - c.Before[axis]
			ok = ok && q >= 0 && q < c.Out[axis]
			at = at*c.Out[axis] + q
		}
		if !ok {
			continue
		}
		dst := out[(base+at)*c.OC+g*og:][:og]
		for o, v := range sums[k*og : (k+1)*og] {
			dst[o] = float32(dst[o] + v)
		}
	}
}
