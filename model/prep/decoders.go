package prep

import (
	"fmt"
	"math"

	"dunlin/model"
)

// decoder reads the outputs of one family of detectors. boxes returns what
// scores at least score, in pixels of an input of w x h.
type decoder struct {
	tensors int
	boxes   func(t []*model.Tensor, w, h int, score float64) ([]found, error)
}

var decoders = map[string]decoder{
	"fastestdet": {1, fastestDet},
	"ultraface":  {2, ultraFace},
	"blazeface":  {4, blazeFace},
	"yunet":      {12, yuNet},
}

// rows returns the values of t as a float32 tensor [1, n, width], or [n,
// width]; n < 0: any number.
func rows(t *model.Tensor, n, width int) ([]float32, error) {
	shape := t.Shape
	if len(shape) == 3 && shape[0] == 1 {
		shape = shape[1:]
	}
	if t.Type != model.F32 || len(shape) != 2 || shape[1] != width || n >= 0 && shape[0] != n {
		if n < 0 {
			return nil, fmt.Errorf("tensor is %v %v, want float32 [1, N, %d]", t.Type, t.Shape, width)
		}
		return nil, fmt.Errorf("tensor is %v %v, want float32 [1, %d, %d]", t.Type, t.Shape, n, width)
	}
	return t.F32(), nil
}

// around returns a box by its centre and its size.
func around(class int, score, cx, cy, w, h float64) found {
	return found{class: class, score: score, x0: cx - w/2, y0: cy - h/2, x1: cx + w/2, y1: cy + h/2}
}

// fastestDet reads one map: objectness, x, y, w, h and C classes for each of
// its cells.
//
//	score = objectness^0.6 * class^0.4; centre = cell + tanh(x, y);
//	size = sigmoid(w, h) of the whole input
//
// After example/ncnn/FastestDet.cpp of github.com/dog-qiuqiu/FastestDet.
func fastestDet(t []*model.Tensor, w, h int, score float64) ([]found, error) {
	s := t[0].Shape
	if t[0].Type != model.F32 || len(s) != 4 || s[0] != 1 || s[1] < 6 {
		return nil, fmt.Errorf("tensor is %v %v, want float32 [1, 5+C, H, W]", t[0].Type, s)
	}
	v, classes, lines, cols := t[0].F32(), s[1]-5, s[2], s[3]
	area := lines * cols
	var out []found
	for cell := range area {
		best := 0
		for c := range classes {
			if err := checkScore("score of cell", cell, v[(5+c)*area+cell]); err != nil {
				return nil, err
			}
			if v[(5+c)*area+cell] > v[(5+best)*area+cell] {
				best = c
			}
		}
		if err := checkScore("score of cell", cell, v[cell]); err != nil {
			return nil, err
		}
		object, class := unit(v[cell]), unit(v[(5+best)*area+cell])
		p := exp(float64(0.6*ln(object)) + float64(0.4*ln(class)))
		if p < score {
			continue
		}
		at := func(k int) float64 { return float64(v[k*area+cell]) }
		cx := (float64(cell%cols) + tanh(at(1))) / float64(cols)
		cy := (float64(cell/cols) + tanh(at(2))) / float64(lines)
		fw, fh := float64(w), float64(h)
		out = append(out, around(best, p, float64(cx*fw), float64(cy*fh), float64(sigmoid(at(3))*fw), float64(sigmoid(at(4))*fh)))
	}
	return out, nil
}

// unit returns v within 0 and 1.
func unit(v float32) float64 { return float64(min(max(v, 0), 1)) }

// ultraFace reads scores, of which class 0 is the background, and corners x0,
// y0, x1, y1 as parts of the input: the network decodes its anchors itself.
func ultraFace(t []*model.Tensor, w, h int, score float64) ([]found, error) {
	last := 0
	if n := len(t[0].Shape); n > 0 {
		last = t[0].Shape[n-1]
	}
	if last < 2 {
		return nil, fmt.Errorf("tensor is %v %v, want float32 [1, N, C], C at least 2", t[0].Type, t[0].Shape)
	}
	scores, err := rows(t[0], -1, last)
	if err != nil {
		return nil, err
	}
	n := len(scores) / last
	corners, err := rows(t[1], n, 4)
	if err != nil {
		return nil, err
	}
	var out []found
	fw, fh := float64(w), float64(h)
	for i := range n {
		row, best := scores[i*last:(i+1)*last], 1
		for c, v := range row {
			if err := checkScore("score of box", i, v); err != nil {
				return nil, err
			}
			if c > 0 && v > row[best] {
				best = c
			}
		}
		if float64(row[best]) < score {
			continue
		}
		c := corners[i*4 : i*4+4]
		out = append(out, found{
			class: best - 1, score: float64(row[best]),
			x0: float64(float64(c[0]) * fw), y0: float64(float64(c[1]) * fh),
			x1: float64(float64(c[2]) * fw), y1: float64(float64(c[3]) * fh),
		})
	}
	return out, nil
}

// blazeLayers are BlazeFace's anchors: so many to each cell of a grid of such
// a stride, all of size 1 and in the middle of the cell.
var blazeLayers = []struct{ stride, anchors int }{{8, 2}, {16, 6}}

// blazeFace reads a logit, a box and six points for each anchor, in pixels
// from the anchor: x and y of the centre, w, h, then x and y of the right
// eye, left eye, nose, mouth, right ear and left ear.
//
// Source: MediaPipe, face_detection_short_range (SsdAnchorsCalculator with
// fixed_anchor_size, TensorsToDetectionsCalculator).
func blazeFace(t []*model.Tensor, w, h int, score float64) ([]found, error) {
	const width = 16
	var out []found
	for layer, l := range blazeLayers {
		if w%l.stride != 0 || h%l.stride != 0 {
			return nil, fmt.Errorf("input of %d x %d: want multiples of %d", w, h, l.stride)
		}
		cols := w / l.stride
		n := cols * (h / l.stride) * l.anchors
		logits, err := rows(t[layer], n, 1)
		if err != nil {
			return nil, err
		}
		values, err := rows(t[len(blazeLayers)+layer], n, width)
		if err != nil {
			return nil, err
		}
		for i, logit := range logits {
			if err := checkScore("score of anchor", i, logit); err != nil {
				return nil, err
			}
			p := sigmoid(float64(min(max(logit, -100), 100)))
			if p < score {
				continue
			}
			cell, v := i/l.anchors, values[i*width:(i+1)*width]
			ax, ay := (float64(cell%cols)+0.5)*float64(l.stride), (float64(cell/cols)+0.5)*float64(l.stride)
			f := around(0, p, ax+float64(v[0]), ay+float64(v[1]), float64(v[2]), float64(v[3]))
			for k := 4; k < width; k += 2 {
				f.points = append(f.points, [2]float64{ax + float64(v[k]), ay + float64(v[k+1])})
			}
			out = append(out, f)
		}
	}
	return out, nil
}

var yuStrides = []int{8, 16, 32}

// yuNet reads, for each cell of three grids, two scores, a box and five
// points: right eye, left eye, nose, right and left corner of the mouth.
//
//	score = sqrt(cls * obj); centre = (cell + (x, y)) * stride;
//	size = exp(w, h) * stride; point = (cell + (x, y)) * stride
//
// After modules/objdetect/src/face_detect.cpp of OpenCV 4.
func yuNet(t []*model.Tensor, w, h int, score float64) ([]found, error) {
	const points = 5
	var out []found
	for k, stride := range yuStrides {
		if w%stride != 0 || h%stride != 0 {
			return nil, fmt.Errorf("input of %d x %d: want multiples of %d", w, h, stride)
		}
		cols, s := w/stride, float64(stride)
		n := cols * (h / stride)
		var parts [4][]float32
		for i, width := range []int{1, 1, 4, 2 * points} {
			var err error
			if parts[i], err = rows(t[i*len(yuStrides)+k], n, width); err != nil {
				return nil, err
			}
		}
		for i := range n {
			cls, obj := parts[0][i], parts[1][i]
			if err := checkScore("score of cell", i, cls+obj); err != nil {
				return nil, err
			}
			p := math.Sqrt(unit(cls) * unit(obj))
			if p < score {
				continue
			}
			col, row := float64(i%cols), float64(i/cols)
			b, kps := parts[2][i*4:i*4+4], parts[3][i*2*points:(i+1)*2*points]
			at := func(cell float64, v float32) float64 { return float64((cell + float64(v)) * s) }
			f := around(0, p, at(col, b[0]), at(row, b[1]), float64(exp(float64(b[2]))*s), float64(exp(float64(b[3]))*s))
			for j := range points {
				f.points = append(f.points, [2]float64{at(col, kps[2*j]), at(row, kps[2*j+1])})
			}
			out = append(out, f)
		}
	}
	return out, nil
}
