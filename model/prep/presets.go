package prep

import (
	"slices"
	"strings"
)

// presets are the Specs of well-known networks, by the name that their files
// begin with.
//
//	name                              input                              output
//	blazeface-front-128               128x128 RGB, -1 to 1, NHWC         faces, 6 points
//	fastestdet-coco-352               352x352 BGR, 0 to 1                80 classes of COCO
//	mlperftiny-ic01-resnet8-cifar10   32x32 RGB, 0 to 255                10 classes of CIFAR-10
//	mlperftiny-kws01-dscnn            1 s of sound, 49x10 MFCC           10 words, silence, unknown
//	mlperftiny-vww01-mbv1-0.25        96x96 RGB, 0 to 1                  person or not
//	mobilenet-v1-0.25-128             128x128 RGB, -1 to 1               1001 classes of ImageNet, 0: background
//	mobilenet-v2-1.0-224              224x224 RGB, -1 to 1               as above
//	ppocrv4-rec-ch                    48x320 BGR, -1 to 1, a line of     6623 characters
//	                                  text, grey beside it
//	silero-vad                        576 samples, 36 ms at 16 kHz       whether somebody speaks
//	ultraface-rfb-320                 320x240 RGB, -127/128 to 1         faces
//	yunet-n-320                       320x320 BGR, 0 to 255              faces, 5 points
//
// Pictures are stretched as the networks' own examples do, but for text,
// whose shape matters. The detector of speech has a state and a rate beside
// its samples, of which this says nothing. The names of inputs and outputs are those of the ONNX
// files.
var presets = map[string]func() Spec{
	"blazeface-front-128": func() Spec {
		return pair(
			Input{Name: "input:0", Width: 128, Height: 128, Layout: "nhwc", Scale: 1 / 127.5, Mean: []float64{1, 1, 1}},
			faces(BoxRules{
				Decoder: "blazeface", Score: 0.5, Overlap: 0.3,
				Tensors: []string{"Identity:0", "Identity_1:0", "Identity_2:0", "Identity_3:0"},
			}),
		)
	},
	"fastestdet-coco-352": func() Spec {
		return pair(
			Input{Name: "input.1", Color: "bgr", Width: 352, Height: 352},
			Output{
				Name: "things", Kind: "boxes", Names: strings.Split(coco, ","),
				Box: &BoxRules{Decoder: "fastestdet", Tensors: []string{"758"}, Score: 0.65, Overlap: 0.45},
			},
		)
	},
	"mlperftiny-ic01-resnet8-cifar10": func() Spec {
		return pair(
			Input{Name: "input", Width: 32, Height: 32, Scale: 1},
			Output{Name: "output", Names: words("airplane automobile bird cat deer dog frog horse ship truck")},
		)
	},
	"mlperftiny-kws01-dscnn": func() Spec {
		return pair(
			Input{Name: "input", Kind: "sound", Rules: &SoundRules{
				Rate: 16000, Features: "mfcc", Frames: 49, Step: 25, Level: "peak",
				FrameMS: 30, HopMS: 20, Window: "hann", FFT: 512, Power: 1,
				Bins: 40, Low: 20, High: 4000, Mel: "htk", Log: "ln", Add: 1e-6, Coeffs: 10, DCT: "htk",
			}},
			Output{Name: "output", Names: words("down go left no off on right stop up yes silence unknown")},
		)
	},
	"mlperftiny-vww01-mbv1-0.25": func() Spec {
		return pair(
			Input{Name: "input", Width: 96, Height: 96},
			Output{Name: "output", Names: []string{"no person", "person"}},
		)
	},
	"mobilenet-v1-0.25-128": func() Spec { return imageNet(128) },
	"mobilenet-v2-1.0-224":  func() Spec { return imageNet(224) },
	"ppocrv4-rec-ch": func() Spec {
		return pair(
			Input{
				Name: "x", Color: "bgr", Width: 320, Height: 48, Fit: "letterbox", Pad: 128,
				Mean: []float64{0.5, 0.5, 0.5}, Std: []float64{0.5, 0.5, 0.5},
			},
			Output{Name: "softmax_11.tmp_0", Kind: "text", Labels: "ppocr_keys_v1.txt", CTC: &TextRules{Space: true}},
		)
	},
	"silero-vad": func() Spec {
		return pair(
			Input{Name: "input", Kind: "sound", Layout: "flat", Rules: &SoundRules{Rate: 16000, Features: "samples", Frames: 576, Step: 512}},
			Output{Name: "output", Kind: "values", Names: words("speech")},
		)
	},
	"ultraface-rfb-320": func() Spec {
		return pair(
			Input{Name: "input", Width: 320, Height: 240, Scale: 1, Mean: []float64{127, 127, 127}, Std: []float64{128, 128, 128}},
			faces(BoxRules{Decoder: "ultraface", Tensors: []string{"scores", "boxes"}, Score: 0.7, Overlap: 0.3}),
		)
	},
	"yunet-n-320": func() Spec {
		return pair(
			Input{Name: "input", Color: "bgr", Width: 320, Height: 320, Scale: 1},
			faces(BoxRules{
				Decoder: "yunet", Score: 0.6, Overlap: 0.3,
				Tensors: words("cls_8 cls_16 cls_32 obj_8 obj_16 obj_32 bbox_8 bbox_16 bbox_32 kps_8 kps_16 kps_32"),
			}),
		)
	},
}

// Preset returns the Spec of a well-known network: name is one of Presets, or
// begins with one and a "-" ("mobilenet-v2-1.0-224-qdq-uint8").
func Preset(name string) (Spec, bool) {
	for preset, spec := range presets {
		if name == preset || strings.HasPrefix(name, preset+"-") {
			return spec(), true
		}
	}
	return Spec{}, false
}

// Presets returns the names of all presets, in the order of the alphabet.
func Presets() []string {
	names := make([]string, 0, len(presets))
	for name := range presets {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

func pair(in Input, out Output) Spec {
	s := Spec{Inputs: []Input{in}, Outputs: []Output{out}}
	s.setDefaults()
	return s
}

func faces(rules BoxRules) Output {
	return Output{Name: "faces", Kind: "boxes", Names: []string{"face"}, Box: &rules}
}

func imageNet(side int) Spec {
	return pair(
		Input{Name: "input", Width: side, Height: side, Scale: 1 / 127.5, Mean: []float64{1, 1, 1}},
		Output{Name: "output", Top: 5, Offset: 1},
	)
}

func words(text string) []string { return strings.Fields(text) }

// coco are the 80 classes of COCO 2017, in the order of its numbers.
const coco = "person,bicycle,car,motorcycle,airplane,bus,train,truck,boat,traffic light," +
	"fire hydrant,stop sign,parking meter,bench,bird,cat,dog,horse,sheep,cow," +
	"elephant,bear,zebra,giraffe,backpack,umbrella,handbag,tie,suitcase,frisbee," +
	"skis,snowboard,sports ball,kite,baseball bat,baseball glove,skateboard,surfboard,tennis racket,bottle," +
	"wine glass,cup,fork,knife,spoon,bowl,banana,apple,sandwich,orange," +
	"broccoli,carrot,hot dog,pizza,donut,cake,chair,couch,potted plant,bed," +
	"dining table,toilet,tv,laptop,mouse,remote,keyboard,cell phone,microwave,oven," +
	"toaster,sink,refrigerator,book,clock,vase,scissors,teddy bear,hair drier,toothbrush"
