package cli

import (
	"cmp"
	"fmt"
	"io"
	"math"
	"slices"

	"github.com/spf13/cobra"

	"dunlin/engine"
	"dunlin/engine/lockstep"
	why "dunlin/explain"
	"dunlin/model"
)

// whyInt8 is what --why-int8 prints as JSON.
type whyInt8 struct {
	Float   []scored    `json:"float"` // the first five classes
	Int8    []scored    `json:"int8"`
	Flipped bool        `json:"flipped"` // they do not put the same class first
	Layers  []layerLoss `json:"layers"`  // in the order of the run
	Verdict []string    `json:"verdict"`
}

// scored is a class with what both models say of it.
type scored struct {
	Class int     `json:"class"`
	Label string  `json:"label"`
	Float float32 `json:"float"`
	Int8  float32 `json:"int8"`
}

// layerLoss is what int8 does at one layer.
type layerLoss struct {
	Node   string  `json:"node"`
	Kernel string  `json:"kernel"`
	Before float64 `json:"before_db"` // ratio of signal to noise of the worst input; exact: noNoise
	After  float64 `json:"after_db"`  // and of the output
	Adds   float64 `json:"adds"`      // noise that comes in here, as a part of the output's energy
}

// noNoise stands for a ratio without noise: JSON has no infinity.
const noNoise = 200

// runWhyInt8 compares --float and MODEL on the picture.
func (f *explainFlags) runWhyInt8(c *cobra.Command, path string) error {
	small, err := f.load(path)
	if err != nil {
		return err
	}
	defer small.close()
	input, err := small.inputOf(f.picture.in)
	if err != nil {
		return err
	}
	r, err := compareInt8(small.float, small, input)
	if err != nil {
		return err
	}
	if f.asJSON {
		return printJSON(c.OutOrStdout(), r)
	}
	printWhyInt8(c.OutOrStdout(), r)
	return nil
}

// inputOf makes the picture of a file the network's input.
func (s *subject) inputOf(file string) (*model.Tensor, error) {
	t, err := model.NewTensor(model.F32, s.spec.Inputs[0].Shape()...)
	if err != nil {
		return nil, err
	}
	img, err := readPicture(file)
	if err != nil {
		return nil, err
	}
	return t, s.spec.Inputs[0].Picture(img, t)
}

func compareInt8(float *loaded, small *subject, input *model.Tensor) (r whyInt8, err error) {
	var scores [2][]float32
	for i, g := range []*model.Graph{float.graph, small.graph} {
		n, err := why.New(g, small.spec, why.Options{})
		if err != nil {
			return r, explain(err)
		}
		a, err := n.Ask(input.F32())
		if err != nil {
			return r, err
		}
		scores[i] = a.Scores
	}
	if len(scores[0]) != len(scores[1]) {
		return r, fmt.Errorf("%s has %d classes, %s has %d: they are not one network", float.path, len(scores[0]), small.path, len(scores[1]))
	}
	r.Float, r.Int8 = firstFive(scores[0], scores, small.labels), firstFive(scores[1], scores, small.labels)
	r.Flipped = r.Float[0].Class != r.Int8[0].Class
	shapes := func(g *model.Graph) engine.Options {
		return engine.Options{Shapes: map[string]model.Shape{g.Inputs[0]: input.Shape}}
	}
	report, err := lockstep.Compare(lockstep.Side{Graph: float.graph, Options: shapes(float.graph)},
		lockstep.Side{Graph: small.graph, Options: shapes(small.graph)}, []*model.Tensor{input}, -1)
	if err != nil {
		return r, explain(err)
	}
	r.Layers = losses(float.graph, report)
	r.Verdict = r.verdict()
	return r, nil
}

// firstFive returns the classes with the highest of by.
func firstFive(by []float32, scores [2][]float32, labels []string) []scored {
	order := make([]int, len(by))
	for i := range order {
		order[i] = i
	}
	slices.SortStableFunc(order, func(a, b int) int { return cmp.Compare(by[b], by[a]) })
	var list []scored
	for _, i := range order[:min(5, len(order))] {
		list = append(list, scored{i, why.ClassName(i, labels), scores[0][i], scores[1][i]})
	}
	return list
}

// losses says for each value that both models compute how much of its noise
// came in with the inputs of what makes it, and how much is new. Noise is as a
// part of the signal's energy, 10^(-SQNR/10); inputs that the other side does
// not have are looked through, to what they are made of.
func losses(g *model.Graph, report *lockstep.Report) []layerLoss {
	noise := map[string]float64{}
	for _, row := range report.Rows {
		noise[row.A.Value] = noiseOf(row)
	}
	made := g.Producers()
	var before func(value string, seen map[string]bool) float64
	before = func(value string, seen map[string]bool) float64 {
		worst := 0.0
		if n := made[value]; n != nil && !seen[value] {
			seen[value] = true
			for _, in := range n.In {
				if known, ok := noise[in]; ok {
					worst = max(worst, known)
				} else {
					worst = max(worst, before(in, seen))
				}
			}
		}
		return worst
	}
	var list []layerLoss
	for _, row := range report.Rows {
		if row.A.Node == "" {
			continue // an input
		}
		in, out := before(row.A.Value, map[string]bool{}), noise[row.A.Value]
		list = append(list, layerLoss{nodeOf(row.A), row.B.Kernel, decibels(in), decibels(out), max(0, out-in)})
	}
	return list
}

func noiseOf(row lockstep.Row) float64 {
	switch {
	case row.Differ == 0:
		return 0
	case row.SQNR == 0:
		return 1 // all of it
	}
	return math.Pow(10, -row.SQNR/10)
}

func decibels(noise float64) float64 {
	return min(noNoise, -10*math.Log10(max(noise, math.SmallestNonzeroFloat64)))
}

// unsure is by how little the first class may lead for the model in float
// itself to be called unsure.
const unsure = 0.2

// quiet is the ratio in decibels from which noise is a hundredth of the signal.
const quiet = 20

// verdict says in sentences what the tables mean.
func (r whyInt8) verdict() []string {
	first, second := r.Float[0], r.Float[min(1, len(r.Float)-1)]
	var say []string
	if r.Flipped {
		say = append(say, fmt.Sprintf("int8 flips the answer: %s (%.3f) in float, %s (%.3f) in int8", first.Label, first.Float, r.Int8[0].Label, r.Int8[0].Int8))
		if lead := first.Float - second.Float; lead < unsure {
			say = append(say, fmt.Sprintf("the model in float is unsure itself: %s leads %s by %.3f", first.Label, second.Label, lead))
		}
	} else {
		say = append(say, fmt.Sprintf("the same answer: %s, %.3f in float, %.3f in int8", first.Label, first.Float, first.Int8))
	}
	if len(r.Layers) == 0 {
		return append(say, "the two compute no value in common: are they one network?")
	}
	worst := slices.MaxFunc(r.Layers, func(a, b layerLoss) int { return cmp.Compare(a.Adds, b.Adds) })
	if worst.Adds == 0 {
		return append(say, "no layer loses anything")
	}
	behind := fmt.Sprintf("%.1f dB behind it", worst.After)
	if worst.Before < noNoise {
		behind += fmt.Sprintf(", %.1f dB before", worst.Before)
	}
	say = append(say, fmt.Sprintf("layer %s loses most: %s", worst.Node, behind))
	if worst.After > quiet {
		return append(say, fmt.Sprintf("that is little: above %d dB the noise is less than a hundredth of the signal", quiet))
	}
	return append(say, "if many pictures say so, keep it in float or fp16")
}

func printWhyInt8(w io.Writer, r whyInt8) {
	rows := [][]string{{"FLOAT", "", "INT8", ""}}
	for i, f := range r.Float {
		q := r.Int8[i]
		rows = append(rows, []string{f.Label, fmt.Sprintf("%.4f", f.Float), q.Label, fmt.Sprintf("%.4f", q.Int8)})
	}
	table(w, rows)
	fmt.Fprintln(w)
	rows = [][]string{{"LAYER", "INT8 KERNEL", "BEFORE", "BEHIND", "NEW NOISE"}}
	for _, l := range r.Layers {
		rows = append(rows, []string{l.Node, l.Kernel, dB(l.Before), dB(l.After), fmt.Sprintf("%.2f %%", 100*l.Adds)})
	}
	table(w, rows)
	fmt.Fprintln(w)
	for _, v := range r.Verdict {
		fmt.Fprintln(w, v)
	}
}

func dB(v float64) string {
	if v >= noNoise {
		return "exact"
	}
	return fmt.Sprintf("%.1f dB", v)
}
