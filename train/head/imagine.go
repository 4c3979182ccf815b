package head

import (
	"encoding/binary"
	"math"

	"dunlin/model"
)

// A head that is taught some of its classes forgets the others: what was
// learned of a few answers everything. The samples that made the network are
// not here to prevent it, so features of the other classes are imagined
// (pseudorehearsal: Robins 1995, Connection Science 7(2)). Each begins as an
// anchor, the feature of an input of the kind that the network was made for,
// and moves the shortest way, by the signed head, to where that answers the
// class with as much certainty as it has about the anchors (the steps are
// those of DeepFool: Moosavi-Dezfooli et al. 2016, arXiv:1511.04599).

const (
	// mostImagined bounds the features; where there are more classes, some of
	// them are left to the pull.
	mostImagined = 1024
	moves        = 30 // until a feature counts as not to be had
)

// imagine returns samples of the classes that are not taught.
func (h *Head) imagine(anchors [][]byte, taught []bool, all []Sample, rest func() error) (out []Sample, err error) {
	if len(anchors) == 0 {
		return nil, nil
	}
	n := h.signed(false)
	b := newBatch(n, 1, rest)
	lo, hi := h.bounds(b.x, anchors, all)
	sure := 0.0
	for _, a := range anchors {
		h.Feature.values(b.x, a)
		if err := n.forward(b, 1); err != nil {
			return nil, err
		}
		first, second := twoBest(b.z[len(b.z)-1])
		sure += float64(b.z[len(b.z)-1][first]-b.z[len(b.z)-1][second]) / float64(len(anchors))
	}
	classes := make([]int, 0, h.Classes)
	for c := range h.Classes {
		if !taught[c] {
			classes = append(classes, c)
		}
	}
	each := max(1, min(len(anchors), mostImagined/max(1, len(classes))))
	for i, c := range classes {
		for j := range each {
			if len(out) == mostImagined {
				return out, nil
			}
			h.Feature.values(b.x, anchors[(i+j)%len(anchors)])
			ok, err := n.move(b, c, float32(sure), lo, hi)
			if err != nil {
				return nil, err
			}
			if ok {
				out = append(out, Sample{Class: c, Feature: h.Feature.bytes(b.x), kept: true})
			}
		}
	}
	return out, nil
}

// bounds returns the least and the greatest element of what features there are.
func (h *Head) bounds(row []float32, anchors [][]byte, all []Sample) (lo, hi float32) {
	lo, hi = float32(math.Inf(1)), float32(math.Inf(-1))
	see := func(feature []byte) {
		h.Feature.values(row, feature)
		for _, v := range row {
			lo, hi = min(lo, v), max(hi, v)
		}
	}
	for _, a := range anchors {
		see(a)
	}
	for _, s := range all {
		see(s.Feature)
	}
	return lo, hi
}

// twoBest returns the indexes of the greatest and the second element.
func twoBest(z []float32) (first, second int) {
	second = 1
	if z[1] > z[0] {
		first, second = 1, 0
	}
	for i := 2; i < len(z); i++ {
		switch {
		case z[i] > z[first]:
			first, second = i, first
		case z[i] > z[second]:
			second = i
		}
	}
	return first, second
}

// move changes the feature in b until class c is ahead of all others by that
// much, within lo and hi; ok is false where it does not come to be ahead.
//
//	x += d * (gap / |d|^2)      d the gradient of z[c] - z[best other]
func (n *net) move(b *batch, c int, ahead, lo, hi float32) (ok bool, err error) {
	last := len(n.layers) - 1
	for range moves {
		if err := n.forward(b, 1); err != nil {
			return false, err
		}
		z := b.z[last]
		other, second := twoBest(z)
		if other == c {
			other = second
		}
		gap := ahead - (z[c] - z[other])
		ok = gap < ahead
		if gap <= 0 {
			break
		}
		d := n.toFeature(b, c, other)
		square := float32(0)
		for _, v := range d {
			square += float32(v * v)
		}
		if square == 0 {
			break
		}
		by := float32(gap / square)
		for i, v := range d {
			b.x[i] = min(max(b.x[i]+float32(v*by), lo), hi)
		}
	}
	return ok, nil
}

// toFeature returns the gradient of z[c] - z[other] by the feature. It runs
// after forward.
func (n *net) toFeature(b *batch, c, other int) []float32 {
	last := len(n.layers) - 1
	up := make([]float32, n.layers[last].out)
	up[c], up[other] = 1, -1
	for i := last; i >= 0; i-- {
		l := n.layers[i]
		down := make([]float32, l.in)
		for o, v := range up {
			if v == 0 || l.relu && b.z[i][o] <= 0 {
				continue
			}
			for j, w := range n.w[i][o*l.in : (o+1)*l.in] {
				down[j] += float32(v * w)
			}
		}
		up = down
	}
	return up
}

// bytes is the inverse of values: the nearest feature that can be stored.
func (f Feature) bytes(row []float32) (data []byte) {
	for _, v := range row {
		switch f.Type {
		case model.I8:
			data = append(data, byte(int8(f.step(v, -128, 127))))
		case model.U8:
			data = append(data, byte(f.step(v, 0, 255)))
		default:
			data = binary.LittleEndian.AppendUint32(data, math.Float32bits(v))
		}
	}
	return data
}

func (f Feature) step(v float32, least, most float64) int32 {
	q := math.RoundToEven(float64(v)/float64(f.scale)) + float64(f.zero)
	return int32(math.Max(least, math.Min(most, q)))
}
