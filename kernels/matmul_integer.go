package kernels

// MatMulInteger writes the sums Σ (a-za)*(b-zb) of a [m, k] and b [k, n], both
// computed, to out [m, n], in int32, wrapping. za has one element or one for
// each row, zb one or one for each column.
func MatMulInteger[A, B int8 | uint8](out []int32, a []A, b []B, za []A, zb []B, m, k, n int) {
	for i := range m {
		row := out[i*n : (i+1)*n]
		clear(row)
		zero := int32(za[i%len(za)])
		for j, v := range a[i*k : (i+1)*k] {
			x := int32(v) - zero
			if len(zb) == 1 {
				z := int32(zb[0])
				for c, w := range b[j*n : (j+1)*n] {
					row[c] += x * (int32(w) - z)
				}
				continue
			}
			for c, w := range b[j*n : (j+1)*n] {
				row[c] += x * (int32(w) - int32(zb[c]))
			}
		}
	}
}
