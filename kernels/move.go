package kernels

// Concat copies parts side by side: out [outer, Σ widths], part i
// [outer, widths[i]], all in bytes.
func Concat(out []byte, parts [][]byte, widths []int, outer int) {
	at := 0
	for row := range outer {
		for i, w := range widths {
			copy(out[at:at+w], parts[i][row*w:])
			at += w
		}
	}
}

// Gather copies blocks: out [outer, len(index), block], in [outer, n, block],
// in bytes. An index below 0 counts from n. It reports the first index that
// is out of range, -1 where all are in it.
func Gather(out, in []byte, index []int64, outer, n, block int) int {
	at := 0
	for o := range outer {
		for i, k := range index {
			if k < 0 {
				k += int64(n)
			}
			if k < 0 || k >= int64(n) {
				return i
			}
			copy(out[at:at+block], in[(o*n+int(k))*block:])
			at += block
		}
	}
	return -1
}

// Slice copies a part of a tensor: for each axis length[i] elements from
// start[i], step[i] apart (which may be negative). Elements are size bytes;
// stride is the input's, in bytes. The caller checked that all lie inside.
func Slice(out, in []byte, start, step, length, stride []int, size int) {
	n := 1
	for _, l := range length {
		n *= l
	}
	for i := range n {
		from, k := 0, i
		for a := len(length) - 1; a >= 0; a-- {
			from += (start[a] + k%length[a]*step[a]) * stride[a]
			k /= length[a]
		}
		copy(out[i*size:(i+1)*size], in[from:from+size])
	}
}
