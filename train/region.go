package train

// region is a part of a tensor: places at even distances along each axis. The
// part itself lies densely.
type region struct {
	first int // where the part begins
	axes  []walk
	inner walk
	count int // of the rows along inner
}

// walk is an axis of a part: its length, and how far apart its neighbours lie
// in the whole.
type walk struct{ length, step int }

// newRegion is the part of a tensor of these axes from start on, each length
// long, each step apart. The caller has checked that it lies inside.
func newRegion(whole, start, length, step []int) *region {
	r := &region{inner: walk{1, 1}, count: 1}
	stride := 1
	var inside []walk // innermost first
	for i := len(whole) - 1; i >= 0; i-- {
		r.first += start[i] * stride
		w := walk{length[i], step[i] * stride}
		stride *= whole[i]
		if w.length == 1 {
			continue
		}
		if k := len(inside); k > 0 && w.step == inside[k-1].length*inside[k-1].step {
			inside[k-1].length *= w.length
			continue
		}
		inside = append(inside, w)
	}
	if len(inside) > 0 {
		r.inner, inside = inside[0], inside[1:]
	}
	for i := len(inside) - 1; i >= 0; i-- {
		r.axes = append(r.axes, inside[i])
		r.count *= inside[i].length
	}
	return r
}

// row returns where row n begins in the whole.
func (r *region) row(n int) int {
	at := r.first
	for i := len(r.axes) - 1; i >= 0; i-- {
		at += n % r.axes[i].length * r.axes[i].step
		n /= r.axes[i].length
	}
	return at
}

// take copies the part out of the whole.
func (r *region) take(part, whole []float32) {
	n := r.inner.length
	for i := range r.count {
		to, at := part[i*n:][:n], r.row(i)
		if r.inner.step == 1 {
			copy(to, whole[at:])
			continue
		}
		for k := range to {
			to[k] = whole[at+k*r.inner.step]
		}
	}
}

// put copies the part into the whole.
func (r *region) put(whole, part []float32) {
	n := r.inner.length
	for i := range r.count {
		from, at := part[i*n:][:n], r.row(i)
		if r.inner.step == 1 {
			copy(whole[at:], from)
			continue
		}
		for k, v := range from {
			whole[at+k*r.inner.step] = v
		}
	}
}

// add adds the part to the whole.
func (r *region) add(whole, part []float32) {
	n := r.inner.length
	for i := range r.count {
		from, at := part[i*n:][:n], r.row(i)
		for k, v := range from {
			whole[at+k*r.inner.step] += v
		}
	}
}
