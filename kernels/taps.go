package kernels

// tapLists are the taps that lie inside the picture, for each place where a
// window can stick out of it: distances in elements from where the window
// begins. Pixels of one class in rows and in columns share a list.
type tapLists struct {
	rows, cols []int // class of each output row, of each output column
	classes    int   // of columns
	lists      [][]int
}

// maxTapLists bounds the entries of all lists.
const maxTapLists = 1 << 16

// newTapLists returns the lists of g, nil where they would be too large.
func newTapLists(g *Geometry) *tapLists {
	rows, rowRanges := classes(g.OH, g.KH, g.StrideH, g.DilationH, g.PadTop, g.H)
	cols, colRanges := classes(g.OW, g.KW, g.StrideW, g.DilationW, g.PadLeft, g.W)
	if int64(len(rowRanges))*int64(len(colRanges))*int64(g.taps()) > maxTapLists {
		return nil
	}
	t := &tapLists{rows: rows, cols: cols, classes: len(colRanges)}
	for _, r := range rowRanges {
		for _, c := range colRanges {
			list := []int{}
			for ky := r[0]; ky < r[1]; ky++ {
				for kx := c[0]; kx < c[1]; kx++ {
					list = append(list, (ky*g.DilationH*g.W+kx*g.DilationW)*g.C)
				}
			}
			t.lists = append(t.lists, list)
		}
	}
	return t
}

// classes tells output positions apart by which taps of theirs are inside.
func classes(out, kernel, stride, dilation, pad, length int) (class []int, ranges [][2]int) {
	known := map[[2]int]int{}
	for i := range out {
		first, end := 0, 0
		for k := range kernel {
			at := i*stride + k*dilation - pad
			if at < 0 {
				first = k + 1
			}
			if at < length {
				end = k + 1
			}
		}
		r := [2]int{first, max(first, end)}
		n, ok := known[r]
		if !ok {
			n = len(ranges)
			known[r] = n
			ranges = append(ranges, r)
		}
		class = append(class, n)
	}
	return class, ranges
}

// list returns the taps of output pixel (oy, ox).
func (t *tapLists) list(oy, ox int) []int { return t.lists[t.rows[oy]*t.classes+t.cols[ox]] }

// alike returns how many pixels of a row from ox on have the taps of ox.
func (t *tapLists) alike(ox int) int {
	n := 1
	for ox+n < len(t.cols) && t.cols[ox+n] == t.cols[ox] {
		n++
	}
	return n
}
