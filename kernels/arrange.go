package kernels

// Split is the reverse of Concat: in [outer, Σ widths] to parts
// [outer, widths[i]], all in bytes. A nil part is left out.
func Split(rows RowCopy, parts [][]byte, in []byte, widths []int, outer int) {
	step, at := 0, 0
	for _, w := range widths {
		step += w
	}
	for i, w := range widths {
		if parts[i] != nil && outer > 0 && w > 0 {
			rows(parts[i], w, in[at:], step, outer, w)
		}
		at += w
	}
}

// PadMode is what stands around a padded tensor, in ONNX's words: "constant",
// "edge" (the last element again), "reflect" (mirrored at it), "wrap" (from
// the other end).
type PadMode string

// Pad is a padding ready to run: for each axis, which element of the input
// stands at each place of the output, -1 for the constant.
type Pad struct {
	from    [][]int
	strides []int
	total   int
	lo, hi  int // elements of a row that lie in the input as they do here
}

// NewPad returns the padding of in to out, with before[a] elements before the
// first of axis a; all lengths were checked by the caller.
func NewPad(mode PadMode, in, out, before []int) *Pad {
	p := &Pad{from: make([][]int, len(out)), strides: make([]int, len(out)), total: 1}
	for a := len(out) - 1; a >= 0; a-- {
		p.strides[a] = p.total
		p.total *= in[a]
		p.from[a] = make([]int, out[a])
		for i := range p.from[a] {
			p.from[a][i] = padSource(mode, i-before[a], in[a])
		}
	}
	p.total = 1
	for _, d := range out {
		p.total *= d
	}
	if n := len(out); n > 0 {
		p.lo = min(max(before[n-1], 0), out[n-1])
		p.hi = max(min(before[n-1]+in[n-1], out[n-1]), p.lo)
	}
	return p
}

// padSource returns which of n elements stands at place i.
func padSource(mode PadMode, i, n int) int {
	if i >= 0 && i < n {
		return i
	}
	switch mode {
	case "edge":
		return min(max(i, 0), n-1)
	case "wrap":
		return ((i % n) + n) % n
	case "reflect":
		if n == 1 {
			return 0
		}
		period := 2 * (n - 1)
		i = ((i % period) + period) % period
		return min(i, period-i)
	}
	return -1
}

// RunPad writes the padded tensor; value stands where the mode is constant.
func RunPad[T any](p *Pad, out, in []T, value T) {
	n := len(p.from)
	if n == 0 {
		copy(out, in)
		return
	}
	last := p.from[n-1]
	for at := 0; at < p.total; at += len(last) {
		from, k := 0, at/len(last)
		for a := n - 2; a >= 0 && from >= 0; a-- {
			i := p.from[a][k%len(p.from[a])]
			k /= len(p.from[a])
			from += i * p.strides[a]
			if i < 0 {
				from = -1
			}
		}
		row := out[at : at+len(last)]
		if from < 0 || p.lo == p.hi {
			padRow(row, last, in, from, value)
			continue
		}
		padRow(row[:p.lo], last, in, from, value)
		copy(row[p.lo:p.hi], in[from+last[p.lo]:])
		padRow(row[p.hi:], last[p.hi:], in, from, value)
	}
}

// padRow writes the elements at last of the row that begins at from, value
// where there is none.
func padRow[T any](row []T, last []int, in []T, from int, value T) {
	for i := range row {
		if f := last[i]; from < 0 || f < 0 {
			row[i] = value
		} else {
			row[i] = in[from+f]
		}
	}
}

// Triangle copies the upper (or lower) triangle of each matrix [rows, cols]
// of elements of size bytes, and clears the rest. The diagonal k belongs to
// both; 0 is the main one, positive ones are above it.
func Triangle(out, in []byte, rows, cols, size int, k int64, upper bool) {
	step := rows * cols * size
	for at := 0; step > 0 && at < len(in); at += step {
		for r := range rows {
			row := at + r*cols*size
			edge := int64(r) + max(min(k, int64(cols)), -int64(rows)) // first column of the upper triangle
			if !upper {
				edge++ // first column that is not of the lower one
			}
			cut := row + int(min(max(edge, 0), int64(cols)))*size
			end := row + cols*size
			copy(out[row:end], in[row:end])
			if upper {
				clear(out[row:cut])
			} else {
				clear(out[cut:end])
			}
		}
	}
}

// ReverseSequence reverses the first lengths[b] blocks of each sequence b of
// in [a, b, block], bytes; sequences run along the first axis where timeFirst
// is set, else along the second. It returns the first b whose length is out
// of range, -1 where none is.
func ReverseSequence(out, in []byte, lengths []int64, rows, cols, block int, timeFirst bool) int {
	steps, step, next := cols, block, cols*block
	if timeFirst {
		steps, step, next = rows, cols*block, block
	}
	for b, n := range lengths {
		if n < 0 || n > int64(steps) {
			return b
		}
		for i := range steps {
			from := i
			if i < int(n) {
				from = int(n) - 1 - i
			}
			copy(out[b*next+i*step:][:block], in[b*next+from*step:])
		}
	}
	return -1
}

// OneHot writes on at index[o, i] of each column of out [outer, depth,
// inner], off elsewhere. An index below 0 counts from depth; one out of range
// gives a column of off.
func OneHot(out []byte, index []int64, off, on []byte, outer, depth, inner int) {
	size := len(off)
	for at := 0; at < len(out); at += size {
		copy(out[at:], off)
	}
	for o := range outer {
		for i := range inner {
			k := index[o*inner+i]
			if k < 0 {
				k += int64(depth)
			}
			if k >= 0 && k < int64(depth) {
				copy(out[((o*depth+int(k))*inner+i)*size:][:size], on)
			}
		}
	}
}

// CumSum writes the running sums along the middle axis of in [outer, n,
// inner]: without the element itself where exclusive, from the end where
// reverse.
func CumSum[T Number](out, in []T, outer, n, inner int, exclusive, reverse bool) {
	for o := range outer {
		for i := range inner {
			var sum T
			for k := range n {
				if reverse {
					k = n - 1 - k
				}
				at := (o*n+k)*inner + i
				if exclusive {
					out[at] = sum
					sum += in[at]
				} else {
					sum += in[at]
					out[at] = sum
				}
			}
		}
	}
}
