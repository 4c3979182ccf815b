package recipe

import (
	"context"
	"fmt"
	"image"
	"math"
	"strconv"

	"dunlin/model"
	"dunlin/model/prep"
	"dunlin/model/samples"
	"dunlin/train"
)

// maxBytes bounds the samples that a training holds in memory.
const maxBytes = 8 << 30

// dataset is what a recipe learns from and measures with.
type dataset struct {
	shape       Shape       // of one sample
	train, test *train.Data // test is nil where there is none
	classes     int         // of the samples seen, 0 for numbers
	input       prep.Input  // how a picture, or a line of numbers, becomes the input
}

// load reads the data. shape is that of the network's input where an ONNX file
// says it, nil where the data decide.
func (r *Recipe) load(ctx context.Context, shape Shape, progress func(done, total int)) (*dataset, error) {
	if s := r.Data.Synthetic; s != nil {
		return r.synthesise(s, shape)
	}
	set, err := samples.Open(r.Data.Train, samples.Options{Train: true})
	if err != nil {
		return nil, r.at(&fault{"data.train", err})
	}
	learn, held := samples.Spread(r.Data.Limit, set.Len()), []int(nil)
	test, err := r.openTest()
	if err != nil {
		return nil, r.at(&fault{"data.test", err})
	}
	if test == nil {
		test = set
		learn, held = split(learn, r.Data.HoldOut)
	} else {
		held = samples.Spread(0, test.Len())
	}
	d := &dataset{}
	if d.input, d.shape, err = r.picture(set, shape); err != nil {
		return nil, err
	}
	total := len(learn) + len(held)
	if d.train, err = d.read(ctx, set, learn, func(n int) { progress(n, total) }); err != nil {
		return nil, r.at(&fault{"data.train", err})
	}
	if len(held) > 0 {
		if d.test, err = d.read(ctx, test, held, func(n int) { progress(len(learn)+n, total) }); err != nil {
			return nil, r.at(&fault{"data.test", err})
		}
	}
	if r.Data.Mean == nil {
		d.measure()
	}
	if n := len(r.Data.Labels); n > 0 && d.classes > n {
		return nil, r.at(badf("data.labels", "%d labels, the samples have classes up to %d", n, d.classes-1))
	}
	return d, nil
}

// openTest returns the samples to measure with, nil where some of the training
// data are to be held out.
func (r *Recipe) openTest() (*samples.Set, error) {
	switch {
	case r.Data.Test != "":
		return samples.Open(r.Data.Test, samples.Options{})
	case samples.HasParts(r.Data.Train):
		return samples.Open(r.Data.Train, samples.Options{})
	}
	return nil, nil
}

// split takes a share of list out, evenly spread.
func split(list []int, share float64) (rest, out []int) {
	n := int(math.Round(share * float64(len(list))))
	if n == 0 {
		return list, nil
	}
	taken := make([]bool, len(list))
	for _, i := range samples.Spread(n, len(list)) {
		taken[i] = true
	}
	for i, v := range list {
		if taken[i] {
			out = append(out, v)
		} else {
			rest = append(rest, v)
		}
	}
	return rest, out
}

// picture says how a picture becomes the input, from the recipe, the shape
// that an ONNX file wants, and the first picture.
func (r *Recipe) picture(set *samples.Set, shape Shape) (prep.Input, Shape, error) {
	d := &r.Data
	first, err := set.At(0)
	if err == nil && first.Picture == nil {
		err = fmt.Errorf("%s is no picture: recipes learn from pictures, and from synthetic numbers", first.Name)
	}
	if err != nil {
		return prep.Input{}, nil, r.at(&fault{"data.train", err})
	}
	in := prep.Input{
		Name: "image", Kind: "picture", Color: d.Color, Width: d.Width, Height: d.Height, Fit: d.Fit, Keep: 1,
		Resize: "bilinear", Layout: "nchw", Scale: 1.0 / 255, Mean: d.Mean, Std: d.Std,
	}
	size := first.Picture.Bounds()
	if len(shape) == 3 {
		or(&in.Height, shape[1])
		or(&in.Width, shape[2])
		if shape[0] == 1 {
			or(&in.Color, "gray")
		}
	}
	or(&in.Height, d.Width)
	or(&in.Width, size.Dx())
	or(&in.Height, size.Dy())
	if _, gray := first.Picture.(*image.Gray); gray && len(shape) == 0 {
		or(&in.Color, "gray")
	}
	or(&in.Color, "rgb")
	made := Shape{in.Channels(), in.Height, in.Width}
	if max(in.Width, in.Height) > maxSide {
		return in, nil, r.at(badf("data.width", "pictures of %d x %d: want at most %d a side; give width and height to have them made smaller", in.Width, in.Height, maxSide))
	}
	if n := len(d.Mean); n > 1 && n != made[0] {
		return in, nil, r.at(badf("data.mean", "%d means for pictures of %d channels", n, made[0]))
	}
	return in, made, nil
}

// read makes samples of pictures: a byte for each pixel of each channel.
func (d *dataset) read(ctx context.Context, set *samples.Set, list []int, progress func(n int)) (*train.Data, error) {
	size, err := model.Shape(d.shape).Elements()
	if err != nil {
		return nil, err
	}
	if n := int64(size) * int64(len(list)); n > maxBytes || len(list) > maxSamples {
		return nil, fmt.Errorf("%d pictures of %v need %d bytes, at most %d are held in memory: use limit, width and height", len(list), d.shape, n, int64(maxBytes))
	}
	plain := d.input
	plain.Scale, plain.Mean, plain.Std = 1, nil, nil
	c := train.Column{
		Shape: model.Shape(d.shape), Bytes: make([]uint8, size*len(list)), Scale: d.input.Scale, Mean: d.input.Mean, Std: d.input.Std,
	}
	out := &train.Data{Classes: make([]int32, len(list))}
	t, err := model.NewTensor(model.F32, plain.Shape()...)
	if err != nil {
		return nil, err
	}
	for k, i := range list {
		if k%1024 == 0 {
			if err := ctx.Err(); err != nil {
				return nil, err
			}
			progress(k)
		}
		s, err := set.At(i)
		if err == nil && s.Class == samples.Unlabelled {
			err = fmt.Errorf("%s has no class: put a labels.csv with the columns file,class beside the pictures", s.Name)
		}
		if err == nil && s.Class >= maxWidth {
			err = fmt.Errorf("%s has class %d: at most %d are supported", s.Name, s.Class, maxWidth-1)
		}
		if err == nil {
			err = s.Fill(plain, t)
		}
		if err != nil {
			return nil, err
		}
		to := c.Bytes[k*size:][:size]
		for j, v := range t.F32() {
			to[j] = uint8(v)
		}
		out.Classes[k] = int32(s.Class)
		d.classes = max(d.classes, s.Class+1)
	}
	progress(len(list))
	out.Inputs = []train.Column{c}
	return out, nil
}

// measure sets mean and deviation of each channel to those of the training
// pictures, to four decimals, so that prep.toml says the same numbers.
func (d *dataset) measure() {
	c := &d.train.Inputs[0]
	channels, area := d.shape[0], d.shape[1]*d.shape[2]
	mean, std := make([]float64, channels), make([]float64, channels)
	for ch := range channels {
		var sum, squares, n uint64
		for at := ch * area; at < len(c.Bytes); at += channels * area {
			for _, v := range c.Bytes[at : at+area] {
				sum += uint64(v)
				squares += uint64(v) * uint64(v)
			}
			n += uint64(area)
		}
		m := float64(sum) / float64(n)
		mean[ch] = decimals(m / 255)
		std[ch] = decimals(math.Sqrt(max(float64(squares)/float64(n)-float64(m*m), 0)) / 255)
		if std[ch] == 0 { // every pixel is the same
			std[ch] = 1
		}
	}
	d.input.Mean, d.input.Std = mean, std
	for _, data := range []*train.Data{d.train, d.test} {
		if data != nil {
			data.Inputs[0].Mean, data.Inputs[0].Std = mean, std
		}
	}
}

func decimals(v float64) float64 { return math.Round(v*1e4) / 1e4 }

// labels returns the names of the classes.
func (r *Recipe) labels(classes int) []string {
	names := append([]string{}, r.Data.Labels...)
	for i := len(names); i < classes; i++ {
		names = append(names, strconv.Itoa(i))
	}
	return names
}
