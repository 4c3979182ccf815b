package prep

// Place says which part of a picture lies where in an input, so that what a
// network finds there can be shown on the picture. Input.Place makes it;
// Picture uses the same one.
type Place struct {
	width, height int // of the picture
	inputW        int
	inputH        int
	from          box // of the picture
	to            box // of the input
}

// Place returns where a picture of w x h pixels, both from 1 to 32767, lies
// in the input.
func (in Input) Place(w, h int) Place {
	p := Place{w, h, in.Width, in.Height, box{0, 0, w, h}, box{0, 0, in.Width, in.Height}}
	switch in.Fit {
	case "crop":
		p.from = in.cut(w, h)
	case "letterbox":
		iw, ih := in.Width, in.Height
		if w*ih > h*iw { // the picture is wider than the input
			ih = max(1, (h*iw+w/2)/w)
		} else {
			iw = max(1, (w*ih+h/2)/h)
		}
		left, top := (in.Width-iw)/2, (in.Height-ih)/2
		p.to = box{left, top, left + iw, top + ih}
	}
	return p
}

// cut returns the largest centred part of w x h pixels that has the input's
// aspect, times in.Keep: with Keep = 224/256 that is "resize the short side
// to 256, cut the centre 224".
func (in Input) cut(w, h int) box {
	cw, ch := w, h
	if w*in.Height > h*in.Width {
		cw = max(1, h*in.Width/in.Height)
	} else {
		ch = max(1, w*in.Height/in.Width)
	}
	cw, ch = max(1, int(float64(cw)*in.Keep)), max(1, int(float64(ch)*in.Keep))
	left, top := (w-cw)/2, (h-ch)/2
	return box{left, top, left + cw, top + ch}
}

// point returns where x, y of the input lies on the picture, in pixels; 0, 0
// is the upper left corner of the first pixel of either.
func (p Place) point(x, y float64) (px, py float64) {
	along := func(v float64, to0, to1, from0, from1 int) float64 {
		return float64(from0) + float64((v-float64(to0))*float64(from1-from0)/float64(to1-to0))
	}
	return along(x, p.to.x0, p.to.x1, p.from.x0, p.from.x1), along(y, p.to.y0, p.to.y1, p.from.y0, p.from.y1)
}

// Input returns where x, y of the picture lies in the input, in pixels of
// either, 0, 0 being the upper left corner of the first one. What the input
// does not see of the picture lies outside of it.
func (p Place) Input(x, y float64) (ix, iy float64) {
	along := func(v float64, to0, to1, from0, from1 int) float64 {
		return float64(to0) + float64((v-float64(from0))*float64(to1-to0)/float64(from1-from0))
	}
	return along(x, p.to.x0, p.to.x1, p.from.x0, p.from.x1), along(y, p.to.y0, p.to.y1, p.from.y0, p.from.y1)
}
