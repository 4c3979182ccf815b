package cli

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"dunlin/internal/chart"
	"dunlin/internal/durable"
	"dunlin/model"
	"dunlin/model/pack"
	"dunlin/model/prep"
	"dunlin/model/samples"
	"dunlin/quant"
)

func modelReportCommand() *cobra.Command {
	var (
		out, pictures string
		asJSON        bool
	)
	c := &cobra.Command{
		Use:   "report PACK -o FILE.html",
		Short: "Show what was measured when a model was compressed",
		Long: `Report makes a page of the report that a pack carries: the front of accuracy against
bytes and against time, with what each candidate can have lost at most, the error of
each layer and why it has its precision, what was tried and refused, the preprocessing in
words, and samples as the network sees them: those of the exam, or ten of --data.

The page needs no network, no script and no other file.`,
		Example: `  dunlin model report garments-small -o report.html
  dunlin model report garments-small --data pics -o report.html`,
		Args: cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			if out == "" && !asJSON {
				return usagef("say where the page goes: -o FILE.html, or --json for the report as it is")
			}
			p, err := pack.ReadDir(args[0])
			if err != nil {
				return err
			}
			defer p.Close()
			var r packReport
			if err := json.Unmarshal(p.Report, &r); err != nil {
				return withHint(fmt.Errorf("report of %s: %w", args[0], err), "the pack carries no report; dunlin model compress writes one")
			}
			if asJSON {
				return printJSON(c.OutOrStdout(), r)
			}
			w := &material{graph: p.Graph}
			if w.spec, err = prep.ParseJSON(p.Pipeline); err != nil {
				return err
			}
			var in showing = examSamples(p.Exam)
			if pictures != "" {
				set, err := samples.Open(pictures, samples.Options{})
				if err != nil {
					return err
				}
				in = someOf(&feeder{ctx: c.Context(), set: set, in: w.spec.Inputs[0], at: samples.Spread(seenPictures, set.Len())})
			}
			page, err := newReportPage(p.Name, r, w.spec, in)
			if err != nil {
				return err
			}
			return page.write(out)
		},
	}
	c.Flags().StringVarP(&out, "output", "o", "", "file of the page")
	c.Flags().StringVar(&pictures, "data", "", "show ten of these samples instead of those of the exam")
	jsonFlag(c, &asJSON)
	return c
}

// showing gives the samples to be shown, with their names.
type showing func(yield func(name string, t *model.Tensor) error) error

// examSamples gives the inputs of an exam's cases. The pack may be anybody's:
// one without an exam, or a case without inputs, shows nothing.
func examSamples(e *pack.Exam) showing {
	return func(yield func(string, *model.Tensor) error) error {
		if e == nil {
			return nil
		}
		for i, c := range e.Cases[:min(len(e.Cases), seenPictures)] {
			if len(c.Inputs) == 0 {
				continue
			}
			if err := yield(fmt.Sprintf("case %d of the exam", i+1), c.Inputs[0]); err != nil {
				return withHint(err, "--data shows other samples than those of the exam")
			}
		}
		return nil
	}
}

// someOf gives calibration samples, evenly spread.
func someOf(f *feeder) showing {
	return func(yield func(string, *model.Tensor) error) error {
		for _, i := range samples.Spread(seenPictures, len(f.at)) {
			name := "made up"
			if f.set != nil {
				s, err := f.set.At(f.at[i])
				if err != nil {
					return err
				}
				name = s.Name
			}
			in, err := f.next(i)
			if err != nil {
				return err
			}
			if err := yield(name, in[0]); err != nil {
				return err
			}
		}
		return nil
	}
}

// reportPage is what the page shows.
type reportPage struct {
	Name    string
	Report  packReport
	Promise string
	Bound   string
	Steps   []string // of the preprocessing
	Seen    []seenInput
	Pixels  bool // small pictures, to be shown with sharp pixels
	Size    markup
	Time    markup
	Front   []frontRow
	Layers  []layerRow
}

// frontRow is a line of the front's table.
type frontRow struct {
	frontPoint
	Chosen        bool
	Size, Smaller string
	Verdict       string
}

// layerRow is a line of the layers' table. Bars are percents of their widest.
type layerRow struct {
	quant.Layer
	Size                string
	WeightBar, ErrorBar float64 // of the error: less dB is more
	Costs               string
	CostBar             float64
	Protected           bool
}

// newReportPage lays the report out.
func newReportPage(name string, r packReport, spec prep.Spec, seen showing) (*reportPage, error) {
	p := &reportPage{Name: name, Report: r, Steps: prepWords(spec.Inputs[0])}
	p.Pixels = spec.Inputs[0].Width > 0 && spec.Inputs[0].Width < 100
	err := seen(func(name string, t *model.Tensor) error {
		s, err := seeInput(spec.Inputs[0], name, t)
		p.Seen = append(p.Seen, s)
		return err
	})
	if err != nil {
		return nil, err
	}
	if c := r.Certificate; c != nil && len(c.Front) > 0 {
		if c.Chosen >= len(c.Front) {
			return nil, fmt.Errorf("report of %s: candidate %d is chosen of a front of %d", name, c.Chosen, len(c.Front))
		}
		p.Bound = boundText(c.Bound)
		if p.Promise = "Refused: of no smaller model can that be promised."; c.Chosen >= 0 {
			p.Promise = promise(c)
		}
		size, time, err := frontCharts(r)
		if err != nil {
			return nil, err
		}
		p.Size, p.Time = markup(size), markup(time) // chart escapes what it is given
		p.Front = frontRows(c)
	}
	p.Layers = layerRows(r)
	return p, nil
}

// frontCharts draws the front: accuracy, or agreement, against the bytes of
// the weights and against the time of one run. It goes through the JSON of the
// report, as the hub does, so that both draw the same.
func frontCharts(r packReport) (size, time string, err error) {
	text, err := json.Marshal(r)
	if err != nil {
		return "", "", err
	}
	f, err := chart.ReadFront(text)
	if err != nil {
		return "", "", err
	}
	return f.Size().SVG(), f.Time().SVG(), nil
}

func frontRows(c *certificate) (rows []frontRow) {
	for i, p := range c.Front {
		r := frontRow{frontPoint: p, Chosen: i == c.Chosen, Size: bytesText(p.Bytes), Smaller: fmt.Sprintf("%.2f", float64(c.Front[0].Bytes)/float64(p.Bytes)), Verdict: p.Why}
		if p.Certified {
			r.Verdict = "certified"
		}
		rows = append(rows, r)
	}
	return rows
}

// layerRows joins what Apply did with what each layer costs.
func layerRows(r packReport) (rows []layerRow) {
	costs := map[string]quant.LayerCost{}
	most := 0.0
	if r.Certificate != nil && r.Certificate.Layers != nil {
		for _, l := range r.Certificate.Layers.Layers {
			costs[l.Name] = l
			for _, s := range l.Costs {
				most = max(most, s.KL)
			}
		}
	}
	layers := []quant.Layer{}
	if r.Quant != nil {
		layers = r.Quant.Layers
	} else { // nothing was made: what each would have cost is all there is
		for _, name := range slices.Sorted(maps.Keys(costs)) {
			layers = append(layers, quant.Layer{Name: name, Op: costs[name].Op})
		}
	}
	for _, l := range layers {
		if _, known := costs[l.Name]; !known && l.Before == 0 && l.Precision != "float32" {
			continue // nothing of its own to tell
		}
		row := layerRow{Layer: l, Protected: costs[l.Name].Protected, WeightBar: noiseBar(l.WeightError), ErrorBar: noiseBar(l.OutputError)}
		if l.Before > 0 {
			row.Size = bytesText(l.Before) + " → " + bytesText(l.After)
		}
		var words []string
		for _, s := range costs[l.Name].Costs {
			if s.KL == 0 {
				continue
			}
			words = append(words, fmt.Sprintf("%s %.2g", s.Level, s.KL))
			if most > 0 {
				row.CostBar = max(row.CostBar, 100*max(0, s.KL)/most)
			}
		}
		row.Costs = strings.Join(words, ", ")
		rows = append(rows, row)
	}
	return rows
}

// noiseBar is how long the bar of an error is: 60 dB of signal over noise and
// more is nothing, 0 dB is all of it.
func noiseBar(db *float64) float64 {
	if db == nil {
		return 0
	}
	return 100 * min(max((60-*db)/60, 0), 1)
}

// write writes the page, whole or not at all; but through a name that is no
// file of its own, as /dev/stdout, which must not be replaced.
func (p *reportPage) write(file string) error {
	page := []byte(p.html())
	if info, err := os.Lstat(file); err == nil && !info.Mode().IsRegular() {
		return os.WriteFile(file, page, 0o644)
	}
	return durable.WriteFile(file, page, 0o644)
}
