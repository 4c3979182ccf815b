package cli

import (
	"context"
	"fmt"
	"io"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"github.com/spf13/cobra"

	why "dunlin/explain"
	"dunlin/model"
	"dunlin/model/samples"
)

// faithfulFlags are those of model explain --faithful.
type faithfulFlags struct {
	on      bool
	data    string
	limit   int
	methods []string
}

func (f *faithfulFlags) register(c *cobra.Command) {
	c.Flags().BoolVar(&f.on, "faithful", false, "measure the maps on the pictures of --data, against a random order")
	c.Flags().StringVar(&f.data, "data", "", "with --faithful: pictures, in any form that model eval reads")
	c.Flags().IntVar(&f.limit, "limit", 200, "with --faithful: so many pictures, spread over all; 0: all")
	c.Flags().StringSliceVar(&f.methods, "methods", nil, "with --faithful: which methods (default: all that suit the model)")
}

// faithfulRow is what one method reached. Pixels and Shuffled are the means of
// the paired differences to an order of single pixels by chance and to the same
// maps with their cells shuffled, with half the width of the interval of 95 %.
type faithfulRow struct {
	Method    string       `json:"method"` // "random": the order of single pixels
	Pictures  int          `json:"pictures"`
	Deletion  faithfulArea `json:"deletion"`
	Insertion faithfulArea `json:"insertion"`
	Runs      float64      `json:"runs"` // of the network for one map, mean
	Millis    float64      `json:"ms"`   // likewise, on one thread
}

type faithfulArea struct {
	Mean     float64     `json:"mean"`
	Pixels   *why.Paired `json:"against_pixels,omitempty"`
	Shuffled *why.Paired `json:"against_shuffled,omitempty"`
}

// faithfulSteps are those of the integral of gradients: more of them make the
// attributions sum up better, and hardly change their order.
const faithfulSteps = 32

// faithfulBudget lets occlusion end by itself: a map must not depend on how
// busy the machine is.
const faithfulBudget = time.Hour

// runFaithful measures each method.
func (f *explainFlags) runFaithful(c *cobra.Command, path string) error {
	s, err := f.load(path)
	if err != nil {
		return err
	}
	defer s.close()
	set, err := samples.Open(f.faithful.data, samples.Options{})
	if err != nil {
		return err
	}
	methods := f.faithful.methods
	if methods == nil {
		x, err := newExplainer(s, single)
		if err != nil {
			return err
		}
		methods = x.suitable()
	}
	at := samples.Spread(f.faithful.limit, set.Len())
	bar := newBar(c.ErrOrStderr(), "taking pictures apart", len(at))
	rows, err := f.measureFaithful(c.Context(), s, set, at, methods, bar.add)
	bar.done()
	if err != nil {
		return err
	}
	if f.asJSON {
		return printJSON(c.OutOrStdout(), rows)
	}
	printFaithful(c.OutOrStdout(), rows)
	return nil
}

// tally is what one method has measured, by picture.
type tally struct {
	deletion, insertion, runs, millis   []float64
	shuffledDeletion, shuffledInsertion []float64
}

func newTally(n int) *tally {
	t := &tally{}
	for _, list := range []*[]float64{&t.deletion, &t.insertion, &t.runs, &t.millis, &t.shuffledDeletion, &t.shuffledInsertion} {
		*list = make([]float64, n)
	}
	return t
}

// measureFaithful takes the pictures apart, on as many threads as there are;
// each picture has a seed of its own, so that the result does not depend on
// them. The class is the one that the model puts first.
func (f *explainFlags) measureFaithful(ctx context.Context, s *subject, set *samples.Set, at []int, methods []string, add func(int)) ([]faithfulRow, error) {
	names := append([]string{"random"}, methods...)
	tallies := make([]*tally, len(names))
	for i := range tallies {
		tallies[i] = newTally(len(at))
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var next atomic.Int64
	var workers sync.WaitGroup
	for range runtime.GOMAXPROCS(0) {
		workers.Go(func() {
			x, err := newExplainer(s, single)
			for err == nil && ctx.Err() == nil {
				i := int(next.Add(1)) - 1
				if i >= len(at) {
					return
				}
				x.steps = faithfulSteps
				err = f.takeApart(ctx, x, set, at[i], i, names, tallies)
				add(1)
			}
			if err != nil {
				cancel(err)
			}
		})
	}
	workers.Wait()
	if err := context.Cause(ctx); err != nil {
		return nil, err
	}
	var rows []faithfulRow
	for i, name := range names {
		row, err := tallies[i].row(name, tallies[0])
		if err != nil {
			return nil, fmt.Errorf("%d pictures: %w", len(at), err)
		}
		rows = append(rows, row)
	}
	return rows, nil
}

// takeApart measures all methods on one picture.
func (f *explainFlags) takeApart(ctx context.Context, x *explainer, set *samples.Set, at, i int, names []string, tallies []*tally) error {
	n := x.network
	sample, err := set.At(at)
	if err != nil {
		return err
	}
	t, err := model.NewTensor(model.F32, n.Input().Shape()...)
	if err != nil {
		return err
	}
	if err := sample.Fill(n.Input(), t); err != nil {
		return err
	}
	a, err := n.Ask(t.F32())
	if err != nil {
		return err
	}
	class := a.Best()
	for k, name := range names {
		var m *why.Map // nil: random
		if k > 0 {
			start := time.Now()
			if m, err = x.explain(ctx, name, t.F32(), class, a.Scores[class], faithfulBudget); err != nil {
				return fmt.Errorf("%s: %w", sample.Name, err)
			}
			tallies[k].runs[i], tallies[k].millis[i] = float64(m.Runs), millis(time.Since(start))
		}
		r, err := n.Measure(t.F32(), class, m, uint64(i))
		if err != nil {
			return err
		}
		tallies[k].deletion[i], tallies[k].insertion[i] = r.Deletion, r.Insertion
		if m == nil {
			continue
		}
		if r, err = n.Measure(t.F32(), class, m.Shuffled(uint64(i)), uint64(i)); err != nil {
			return err
		}
		tallies[k].shuffledDeletion[i], tallies[k].shuffledInsertion[i] = r.Deletion, r.Insertion
	}
	return nil
}

func (t *tally) row(name string, random *tally) (faithfulRow, error) {
	r := faithfulRow{
		Method: name, Pictures: len(t.deletion), Deletion: faithfulArea{Mean: mean(t.deletion)}, Insertion: faithfulArea{Mean: mean(t.insertion)},
		Runs: mean(t.runs), Millis: mean(t.millis),
	}
	if t == random {
		return r, nil
	}
	for _, pair := range []struct {
		to   **why.Paired
		a, b []float64
	}{
		{&r.Deletion.Pixels, t.deletion, random.deletion},
		{&r.Deletion.Shuffled, t.deletion, t.shuffledDeletion},
		{&r.Insertion.Pixels, t.insertion, random.insertion},
		{&r.Insertion.Shuffled, t.insertion, t.shuffledInsertion},
	} {
		p, err := why.Pairs(pair.a, pair.b)
		if err != nil {
			return r, err
		}
		*pair.to = &p
	}
	return r, nil
}

func mean(list []float64) float64 {
	sum := 0.0
	for _, v := range list {
		sum += v
	}
	return sum / float64(max(1, len(list)))
}

// suitable returns the methods that suit a model.
func (x *explainer) suitable() []string {
	var list []string
	if x.network.HasCAM() == nil {
		list = append(list, why.CAM)
	}
	list = append(list, why.Occlusion)
	if x.float != nil || !computesIntegers(x.graph) {
		list = append(list, why.Gradients)
	}
	return list
}

func printFaithful(w io.Writer, rows []faithfulRow) {
	against := func(p *why.Paired) string {
		if p == nil {
			return ""
		}
		return fmt.Sprintf("%+.3f ± %.3f", p.Mean, p.Half)
	}
	out := [][]string{{"METHOD", "DELETION", "- SHUFFLED", "- PIXELS", "INSERTION", "- SHUFFLED", "- PIXELS", "RUNS", "MS"}}
	for _, r := range rows {
		runs, ms := "", ""
		if r.Runs > 0 {
			runs, ms = fmt.Sprintf("%.0f", r.Runs), fmt.Sprintf("%.1f", r.Millis)
		}
		out = append(out, []string{
			r.Method, fmt.Sprintf("%.3f", r.Deletion.Mean), against(r.Deletion.Shuffled), against(r.Deletion.Pixels),
			fmt.Sprintf("%.3f", r.Insertion.Mean), against(r.Insertion.Shuffled), against(r.Insertion.Pixels), runs, ms,
		})
	}
	table(w, out)
	fmt.Fprintf(w, `%d pictures. Area under the score of the class; deletion: less is better, insertion: more is better.
"- SHUFFLED": less that of the same maps with their cells shuffled; "- PIXELS": less that of single pixels
by chance; each the mean of paired differences, and half its interval of 95 %%.
`, rows[0].Pictures)
}
