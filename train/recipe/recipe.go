// Package recipe is a training as a file: which data, which network, how it
// learns. Read or Parse makes a Recipe of TOML, Network.Graph a graph with
// fresh weights of its layers, Recipe.Run trains it and writes model, preprocessing,
// labels and loss curves to a folder. Example has recipes to start from.
//
// Its promises: a field that does not exist, or means nothing where it stands,
// is an error that names file, line and field; and the same recipe with the
// same data gives the same graph and the same weights, because every random
// choice comes from its seed.
//
// It holds no mathematics: train computes gradients and steps, prep makes
// tensors of pictures.
package recipe

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strconv"

	"github.com/BurntSushi/toml"
)

// Recipe is one training. The zero value of a field that has a default in
// brackets means that default.
type Recipe struct {
	Data      Data      `toml:"data"`
	Network   Network   `toml:"network"`
	Optimiser Optimiser `toml:"optimiser"`
	Schedule  Schedule  `toml:"schedule"`
	Train     Train     `toml:"train"`
	Distil    *Distil   `toml:"distil"`
	Prune     *Prune    `toml:"prune"`
	Quantise  *Quantise `toml:"quantise"`

	file string // for messages
	text string
}

// Data says what is learnt from: pictures with classes, or, with Synthetic,
// numbers made for the purpose.
type Data struct {
	Train     string     `toml:"train"`    // folder with labels.csv, IDX file or folder, CIFAR-10 file or folder: see package samples
	Test      string     `toml:"test"`     // of the same form [the test part of Train's folder, where it has one, or HoldOut]
	HoldOut   float64    `toml:"hold_out"` // share of Train to measure with, where there is no other test data [0.1]
	Limit     int        `toml:"limit"`    // use the first so many training samples [all]
	Width     int        `toml:"width"`    // pixels [as the network's input, or the first picture]
	Height    int        `toml:"height"`   // pixels [as Width]
	Color     string     `toml:"color"`    // "gray", "rgb" or "bgr" [gray for one channel, or where the first picture is gray; else rgb]
	Fit       string     `toml:"fit"`      // "stretch", "crop" or "letterbox", of a picture of another size ["stretch"]
	Mean      []float64  `toml:"mean"`     // of pixel/255, one for each channel [measured on the training pictures]
	Std       []float64  `toml:"std"`      // as Mean
	Mirror    bool       `toml:"mirror"`   // half of the training pictures are mirrored, left for right
	Shift     int        `toml:"shift"`    // training pictures are moved by up to so many pixels in each direction
	Labels    []string   `toml:"labels"`   // names of the classes ["0", "1", …]
	Synthetic *Synthetic `toml:"synthetic"`
}

// Synthetic is data of a fixed random network: targets are
// B·relu(A·x) + noise for inputs x of a normal distribution.
type Synthetic struct {
	Samples int     `toml:"samples"` // for training; a quarter as many more to measure with [4096]
	Inputs  int     `toml:"inputs"`  // numbers of an input [100]
	Outputs int     `toml:"outputs"` // numbers of a target [10]
	Noise   float64 `toml:"noise"`   // standard deviation of what cannot be learnt [0.05]
}

// Network is what is trained: Layers with fresh weights, or the network of an
// ONNX file.
type Network struct {
	Name    string   `toml:"name"` // of the graph ["network"]
	Layers  []Layer  `toml:"layers"`
	ONNX    string   `toml:"onnx"`    // file of a float network to go on with
	Freeze  []string `toml:"freeze"`  // weights that stay as they are: patterns as of path.Match over the names of constants
	Classes int      `toml:"classes"` // with ONNX: replace the last dense layer by a fresh one of so many outputs, where it has another number
}

// Optimiser says how a step follows from a gradient.
type Optimiser struct {
	Kind     string  `toml:"kind"`         // "sgd", "momentum", "adam" or "adamw" ["adam"]
	Rate     float64 `toml:"rate"`         // the highest learning rate [0.001]
	Momentum float64 `toml:"momentum"`     // of "momentum" [0.9]
	Nesterov bool    `toml:"nesterov"`     // of "momentum"
	Decay    float64 `toml:"weight_decay"` // of weights; biases and norms never decay
	Beta1    float64 `toml:"beta1"`        // of "adam" and "adamw" [0.9]
	Beta2    float64 `toml:"beta2"`        // of "adam" and "adamw" [0.999]
	Epsilon  float64 `toml:"epsilon"`      // of "adam" and "adamw" [1e-8]
}

// Schedule says how the learning rate goes on.
type Schedule struct {
	Kind   string  `toml:"kind"`    // "constant", "step", "cosine" or "linear" ["constant"]
	WarmUp float64 `toml:"warm_up"` // epochs over which the rate first rises
	Last   float64 `toml:"last"`    // rate at the end of "cosine" and "linear"
	Every  float64 `toml:"every"`   // epochs between two steps of "step"
	Factor float64 `toml:"factor"`  // what each of them multiplies the rate by [0.1]
}

// Train says how long, and towards what.
type Train struct {
	Epochs    int     `toml:"epochs"`          // times that every sample is seen [10]
	Batch     int     `toml:"batch"`           // samples of a step [64]
	Seed      uint64  `toml:"seed"`            // of every random choice [1]
	EarlyStop int     `toml:"early_stop"`      // stop after so many epochs without a better test loss, and keep the best weights [never]
	Loss      string  `toml:"loss"`            // "cross-entropy" or "mse" ["cross-entropy", or "mse" for synthetic data]
	Smoothing float64 `toml:"label_smoothing"` // of "cross-entropy": how much of the right answer is spread over all classes
}

// Distil adds a teacher: a larger network whose scores the trained one
// imitates (Hinton et al. 2015, arXiv:1503.02531).
type Distil struct {
	Teacher     string  `toml:"teacher"`     // ONNX file with the same input and classes
	Temperature float64 `toml:"temperature"` // how soft its answers are made [4]
	Weight      float64 `toml:"weight"`      // of the teacher's answer against the label's, 0 to 1 [0.7]
}

// Error says which field of which recipe is wrong.
type Error struct {
	File  string
	Line  int    // 0 where no line is to blame
	Field string // "network.layers[3].kernel", or ""
	Err   error
	hint  string
}

func (e *Error) Error() string {
	s := e.File
	if e.Line > 0 {
		s += fmt.Sprintf(":%d", e.Line)
	}
	if e.Field != "" {
		s += ": " + e.Field
	}
	return s + ": " + e.Err.Error()
}

func (e *Error) Unwrap() error { return e.Err }

// Hint returns one sentence that says what to do next, or "".
func (e *Error) Hint() string { return e.hint }

// maxRecipe bounds the file.
const maxRecipe = 256 << 10

// Read reads and checks a recipe. Relative paths in it are relative to its
// folder. Errors of its content are an *Error.
func Read(path string) (*Recipe, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxRecipe+1))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	r, err := Parse(path, text)
	if err != nil {
		return nil, err
	}
	paths := []*string{&r.Data.Train, &r.Data.Test, &r.Network.ONNX}
	if r.Distil != nil {
		paths = append(paths, &r.Distil.Teacher)
	}
	for _, p := range paths {
		if *p != "" && !filepath.IsAbs(*p) {
			*p = filepath.Join(filepath.Dir(path), *p)
		}
	}
	return r, nil
}

// Parse reads and checks the text of a recipe; name stands for it in messages.
// All errors are an *Error.
func Parse(name string, text []byte) (*Recipe, error) {
	r := &Recipe{file: name, text: string(text)}
	if len(text) > maxRecipe {
		return nil, &Error{File: name, Err: fmt.Errorf("more than %d bytes", maxRecipe)}
	}
	meta, err := toml.Decode(r.text, r)
	if err != nil {
		return nil, syntax(name, err)
	}
	if unknown := meta.Undecoded(); len(unknown) > 0 {
		key := unknown[0]
		return nil, &Error{
			File: name, Line: fieldLine(r.text, key.String()), Field: key.String(), Err: errors.New("there is no such field"),
			hint: "docs/TRAINING.md lists every field, and dunlin train --example garments prints a recipe to start from",
		}
	}
	r.defaults()
	if err := r.check(); err != nil {
		return nil, err
	}
	return r, nil
}

// ofType is how the TOML package tells a value of a wrong type, in text alone.
var ofType = regexp.MustCompile(`^toml: line (\d+) \(last key "(.*)"\): (?:incompatible types: )?(.*)$`)

// syntax makes an *Error of one of the TOML package.
func syntax(name string, err error) *Error {
	e := &Error{File: name, Err: err}
	if at, ok := errors.AsType[toml.ParseError](err); ok {
		e.Line, e.Field, e.Err = at.Position.Line, at.LastKey, errors.New(at.Message)
	} else if m := ofType.FindStringSubmatch(err.Error()); m != nil {
		e.Line, _ = strconv.Atoi(m[1])
		e.Field, e.Err = m[2], errors.New(m[3])
	}
	return e
}

func or[T comparable](field *T, value T) {
	var zero T
	if *field == zero {
		*field = value
	}
}

// defaults fills what was left out.
func (r *Recipe) defaults() {
	or(&r.Data.HoldOut, 0.1)
	or(&r.Data.Fit, "stretch")
	if s := r.Data.Synthetic; s != nil {
		or(&s.Samples, 4096)
		or(&s.Inputs, 100)
		or(&s.Outputs, 10)
		or(&s.Noise, 0.05)
		or(&r.Train.Loss, lossMSE)
	}
	or(&r.Network.Name, "network")
	for i := range r.Network.Layers {
		r.Network.Layers[i].defaults()
	}
	or(&r.Optimiser.Kind, "adam")
	or(&r.Optimiser.Rate, 1e-3)
	or(&r.Schedule.Kind, "constant")
	if r.Schedule.Kind == "step" {
		or(&r.Schedule.Factor, 0.1)
	}
	or(&r.Train.Epochs, 10)
	or(&r.Train.Batch, 64)
	or(&r.Train.Seed, 1)
	or(&r.Train.Loss, lossEntropy)
	if r.Quantise != nil {
		or(&r.Quantise.Samples, 256)
	}
	if r.Prune != nil && r.Prune.Multiple == 0 {
		r.Prune.Multiple = 4
	}
	if r.Distil != nil {
		or(&r.Distil.Temperature, 4)
		or(&r.Distil.Weight, 0.7)
	}
}
