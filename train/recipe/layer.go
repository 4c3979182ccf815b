package recipe

import (
	"fmt"
	"slices"
	"strings"
)

// Layer is one layer of a network, or a block of several.
//
//	type         fields                              what it is
//	conv         out, kernel, stride, pad, bias      convolution with out channels
//	depthwise    kernel, stride, pad, bias           a convolution for each channel
//	dense        out, bias                           matrix product, out numbers
//	norm                                             batch normalisation
//	relu, relu6, sigmoid, tanh, hardswish            activation
//	maxpool      kernel [2], stride [kernel], pad    largest value under the kernel
//	averagepool  kernel [2], stride [kernel], pad    their mean
//	globalpool                                       mean over the picture
//	flatten                                          one row of numbers for each sample
//	dropout      rate [0.5]                          in training, drops that share of the values
//	inverted     wide, out, kernel, stride,          MobileNetV2's block: 1x1 to wide channels, depthwise, 1x1 to
//	             activation ["relu6"]                out; plus its input where shapes agree (arXiv:1801.04381)
//	residual     out, kernel, stride,                ResNet's basic block: two convolutions, plus the input, which a
//	             activation ["relu"]                 1x1 convolution fits where shapes differ (arXiv:1512.03385)
//
// Kernels and strides are square. Convolutions have kernel 3 and stride 1
// unless told, pad kernel/2, and a bias unless a norm follows. Every
// convolution of a block is followed by a norm.
type Layer struct {
	Type       string  `toml:"type"`
	Name       string  `toml:"name"`   // of its weights and values [type and number: "conv2"]
	Out        int     `toml:"out"`    // channels, or numbers of a dense layer
	Wide       int     `toml:"wide"`   // channels inside an inverted block
	Kernel     int     `toml:"kernel"` // pixels
	Stride     int     `toml:"stride"` // pixels
	Pad        *int    `toml:"pad"`    // pixels of zeros around the picture
	Bias       *bool   `toml:"bias"`
	Rate       float64 `toml:"rate"`
	Activation string  `toml:"activation"` // of a block
}

// layerFields are the fields that each type of layer has beside type and
// name; a field of fieldsNeeded is needed where it is one of them.
var layerFields = map[string]string{
	"conv":      "out kernel stride pad bias",
	"depthwise": "kernel stride pad bias",
	"dense":     "out bias",
	"norm":      "", "relu": "", "relu6": "", "sigmoid": "", "tanh": "", "hardswish": "",
	"maxpool": "kernel stride pad", "averagepool": "kernel stride pad", "globalpool": "",
	"flatten": "", "dropout": "rate",
	"inverted": "wide out kernel stride activation",
	"residual": "out kernel stride activation",
}

const fieldsNeeded = "out wide"

// activations are the types of layer that change one value at a time.
var activations = []string{"relu", "relu6", "sigmoid", "tanh", "hardswish"}

func (l *Layer) has(field string) bool {
	return slices.Contains(strings.Fields(layerFields[l.Type]), field)
}

func (l *Layer) defaults() {
	switch l.Type {
	case "maxpool", "averagepool":
		or(&l.Kernel, 2)
		or(&l.Stride, l.Kernel)
	case "dropout":
		or(&l.Rate, 0.5)
	case "inverted":
		or(&l.Activation, "relu6")
	case "residual":
		or(&l.Activation, "relu")
	}
	if l.has("kernel") {
		or(&l.Kernel, 3)
		or(&l.Stride, 1)
	}
}

// padding returns the pixels of zeros around the picture.
func (l *Layer) padding() int {
	switch {
	case l.Pad != nil:
		return *l.Pad
	case l.Type == "maxpool" || l.Type == "averagepool":
		return 0
	}
	return l.Kernel / 2
}

func (l *Layer) check() *fault {
	if _, known := layerFields[l.Type]; !known {
		return badf("type", "%q: want conv, depthwise, dense, norm, maxpool, averagepool, globalpool, flatten, dropout, inverted, residual, %s",
			l.Type, strings.Join(activations, ", "))
	}
	given := []struct {
		field string
		is    bool
	}{
		{"out", l.Out != 0},
		{"wide", l.Wide != 0},
		{"kernel", l.Kernel != 0},
		{"stride", l.Stride != 0},
		{"pad", l.Pad != nil},
		{"bias", l.Bias != nil},
		{"rate", l.Rate != 0},
		{"activation", l.Activation != ""},
	}
	for _, g := range given {
		switch {
		case g.is && !l.has(g.field):
			return badf(g.field, "a layer of type %s has no such field", l.Type)
		case !g.is && l.has(g.field) && strings.Contains(fieldsNeeded, g.field):
			return badf(g.field, "a layer of type %s needs it", l.Type)
		}
	}
	if strings.ContainsAny(l.Name, "\r\n") {
		return badf("name", "%q: want one line of text", l.Name)
	}
	f := first(
		between("out", float64(l.Out), 0, maxWidth),
		between("wide", float64(l.Wide), 0, maxWidth),
		between("rate", l.Rate, 0, 0.99))
	if l.has("kernel") && f == nil {
		f = first(
			between("kernel", float64(l.Kernel), 1, maxSide),
			between("stride", float64(l.Stride), 1, maxSide),
			between("pad", float64(l.padding()), 0, float64(l.Kernel-1)))
	}
	if l.has("activation") && f == nil {
		f = oneOf("activation", l.Activation, activations...)
	}
	return f
}

// layerField names layer i in messages.
func layerField(i int) string { return fmt.Sprintf("network.layers[%d]", i+1) }
