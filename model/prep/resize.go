package prep

// Resizing in integers, so that every CPU gives the same picture.
//
// Each output line is a weighted sum of input lines, first along x, then
// along y. With n input and m output pixels and half-pixel centres, output i
// has its centre at (i+1/2)*n/m of the input. In units of 1/(2m) of an input
// pixel every position is an integer, and so are the weights:
//
//	bilinear  a triangle of half width max(n, m): 2*max(n,m) - |(2j+1)m - (2i+1)n|
//	          where that is positive. Reducing, the triangle covers n/m pixels to
//	          each side, so nothing is skipped (what Pillow calls BILINEAR).
//	area      the length that input pixel [jm, (j+1)m) shares with output pixel
//	          [in, (i+1)n): an average.
//	nearest   1 for j = floor((2i+1)n / 2m).
//
// They are scaled to sum to exactly 1<<14, so a plain area stays plain.

const weightBits = 14

// maxPicture bounds a side of a picture, so that the products above stay
// below 1<<31 and an int of 32 bits holds them.
const maxPicture = 1<<15 - 1

// box is a part of a picture: [x0, x1) by [y0, y1).
type box struct{ x0, y0, x1, y1 int }

// taps are the inputs of one output pixel: weights of first, first+1, …
type taps struct {
	first   int
	weights []int32
}

// resize returns the part of src, in w x h pixels. Beside the result it needs
// one line and four bytes for each value of the result, however large src is.
func resize(src raster, part box, w, h int, how string) raster {
	cols := filter(part.x1-part.x0, w, how)
	rows := filter(part.y1-part.y0, h, how)
	n := w * src.c
	line, sums := make([]int32, n), make([]int32, n*h)
	for i := range sums {
		sums[i] = 1 << 19 // one half, in the unit of sums
	}
	low := 0 // the first output line to which input line y may add
	for y := range part.y1 - part.y0 {
		for low < h && rows[low].first+len(rows[low].weights) <= y {
			low++
		}
		if low == h || rows[low].first > y {
			continue // nearest, reducing: nobody reads this line
		}
		src.along(part, y, cols, line)
		for r := low; r < h && rows[r].first <= y; r++ {
			k := y - rows[r].first
			if k >= len(rows[r].weights) {
				continue
			}
			weight, sum := rows[r].weights[k], sums[r*n:(r+1)*n]
			for i, v := range line {
				sum[i] += weight * v
			}
		}
	}
	dst := newRaster(w, h, src.c)
	for i, v := range sums {
		dst.pix[i] = uint8(min(255, v>>20))
	}
	return dst
}

// along filters line y of part along x. Six more bits than a pixel has are
// kept for the sum along y.
func (r raster) along(part box, y int, cols []taps, out []int32) {
	at := (part.y0+y)*r.w + part.x0
	in := r.pix[at*r.c : (at+part.x1-part.x0)*r.c]
	for x, t := range cols {
		for ch := range r.c {
			sum := int32(1 << 7)
			for k, weight := range t.weights {
				sum += weight * int32(in[(t.first+k)*r.c+ch])
			}
			out[x*r.c+ch] = sum >> 8
		}
	}
}

// filter returns the taps of m outputs over n inputs.
func filter(n, m int, how string) []taps {
	all := make([]taps, m)
	for i := range all {
		var raw []int64
		first := 0
		switch how {
		case "nearest":
			first, raw = (2*i+1)*n/(2*m), []int64{1}
		case "area":
			first = i * n / m
			for j := first; j < n && j*m < (i+1)*n; j++ {
				raw = append(raw, int64(min((j+1)*m, (i+1)*n)-max(j*m, i*n)))
			}
		default:
			first, raw = triangle(i, n, m)
		}
		all[i] = taps{first, scaled(raw)}
	}
	return all
}

// triangle returns the weights of the bilinear filter for output i. Beyond
// the border nothing is read: the inner weights are scaled up instead.
func triangle(i, n, m int) (first int, raw []int64) {
	half, centre := 2*max(n, m), (2*i+1)*n
	first = -1
	for j := max(0, (centre-half)/(2*m)-1); j < n; j++ {
		d := (2*j+1)*m - centre
		if d >= half {
			break
		}
		if weight := half - max(d, -d); weight > 0 {
			if first < 0 {
				first = j
			}
			raw = append(raw, int64(weight))
		}
	}
	return first, raw
}

// scaled returns raw scaled to a sum of 1<<weightBits; what rounding leaves
// over goes to the largest.
func scaled(raw []int64) []int32 {
	total, largest := int64(0), 0
	for i, v := range raw {
		total += v
		if v > raw[largest] {
			largest = i
		}
	}
	out := make([]int32, len(raw))
	left := int32(1 << weightBits)
	for i, v := range raw {
		out[i] = int32((v<<weightBits + total/2) / total)
		left -= out[i]
	}
	out[largest] += left
	return out
}
