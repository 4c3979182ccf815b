package cli

import (
	_ "embed"
	"fmt"
	"html"
	"strings"
)

// The page is written by hand: html/template makes the linker keep every
// method of the program, 3.5 MB of it, and 2 MB more are resident in each run
// of any command.

//go:embed report.css
var reportCSS string

// markup is HTML that is right as it is.
type markup string

// document is a page being written.
type document struct{ strings.Builder }

// f appends format, its arguments escaped but for markup and numbers: what has
// another type, such as a quant.Level, is text of the pack too.
func (d *document) f(format string, args ...any) {
	for i, a := range args {
		switch a := a.(type) {
		case markup, int, int64, uint64, float32, float64:
		default:
			args[i] = html.EscapeString(fmt.Sprint(a))
		}
	}
	fmt.Fprintf(d, format, args...)
}

// when returns text where it holds, else nothing.
func when(holds bool, text markup) markup {
	if holds {
		return text
	}
	return ""
}

func verdict(good bool) string {
	if good {
		return "good"
	}
	return "bad"
}

// html returns the whole page.
func (p *reportPage) html() string {
	d := &document{}
	d.f(`<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>%s: what compression cost</title>
<link rel="icon" href="data:,">
<style>
%s</style>
</head>
<body>
<h1>%s</h1>
`, p.Name, markup(reportCSS), p.Name)
	p.opening(d)
	if c := p.Report.Certificate; c != nil && p.Promise != "" {
		p.promise(d, c)
		p.front(d, c)
		refused(d, c)
	}
	if len(p.Layers) > 0 {
		p.layers(d)
	}
	p.sees(d)
	d.f("</body>\n</html>\n")
	return d.String()
}

// opening says what was made of what.
func (p *reportPage) opening(d *document) {
	d.f(`<p class="soft">Weights %d bytes`, p.Report.Bytes.Before)
	if after := p.Report.Bytes.After; after != 0 {
		d.f(" → %d bytes", after)
	}
	d.f(".")
	if c := p.Report.Certificate; c != nil {
		d.f(" %d samples of %s were compared, %d others calibrated; seed %d; times on %s.", c.Samples, c.Data, c.Calibration, c.Seed, c.Machine)
	}
	d.f("</p>\n")
}

func (p *reportPage) promise(d *document, c *certificate) {
	d.f(`<section>
<p class="promise %s">%s</p>
<p class="soft">`, verdict(c.Certified), p.Promise)
	if c.Measure == "accuracy" {
		d.f("Each sample counts as lost where the float model is right and the small one is not, and as won the other way round.")
	} else {
		d.f("The samples have no labels: each counts as lost where the two models do not give %s. The accuracy cannot fall by more than that.", c.Compared)
	}
	d.f(` The bound is %s, over candidates tested in a fixed order from the least compressed. It holds for data like these samples, and for no other.</p>
</section>
`, p.Bound)
}

func (p *reportPage) front(d *document, c *certificate) {
	d.f(`<section>
<h2>The front</h2>
<div class="charts">%s%s</div>
<p class="soft">The lower end of a bar is where the true value is at the lowest, with %s confidence. Blue: chosen. Green: certified. Red: not certified.</p>
<div class="wide"><table>
<tr><th>candidate</th><th class="n">weights</th><th class="n">times smaller</th>%s<th class="n">lost</th><th class="n">at most (Bernstein)</th><th class="n">at most (exact)</th><th class="n">worse / better</th><th class="n">median</th><th>verdict</th></tr>
`, p.Size, p.Time, percent(c.Confidence), when(c.FloatAccuracy != nil, `<th class="n">accuracy</th>`))
	for _, r := range p.Front {
		d.f(`<tr%s><td class="t">%s</td><td class="n">%s</td><td class="n">%s</td>`, when(r.Chosen, ` class="chosen"`), r.Name, r.Size, r.Smaller)
		if r.Accuracy != nil {
			d.f(`<td class="n">%s %%</td>`, points(*r.Accuracy))
		}
		d.f(`<td class="n">%s</td><td class="n">%s</td><td class="n">%s</td><td class="n">%d / %d</td><td class="n">%.3f ms</td><td class="%s">%s%s</td></tr>
`, points(r.Drop), points(r.Bernstein), points(r.Exact), r.Outcomes.Worse, r.Outcomes.Better, r.MedianMS, verdict(r.Certified), r.Verdict, when(r.Chosen, ", chosen"))
	}
	d.f("</table></div>\n")
	if c.Trained != nil {
		d.f(`<p class="soft">%s.</p>
`, c.Trained.String())
	}
	d.f("</section>\n")
}

func refused(d *document, c *certificate) {
	if len(c.Refused) == 0 {
		return
	}
	d.f("<section>\n<h2>Tried and refused</h2>\n<table><tr><th>what</th><th>why</th></tr>")
	for _, r := range c.Refused {
		d.f("<tr><td>%s</td><td>%s</td></tr>", r.What, r.Why)
	}
	d.f("</table>\n</section>\n")
}

func (p *reportPage) layers(d *document) {
	d.f(`<section>
<h2>Layer by layer</h2>
<p class="soft">Errors are signal over noise: 6 dB is a bit, a longer bar is a larger error. The output's error is that of the layer and of all before it.%s</p>
<div class="wide"><table>
<tr><th>layer</th><th>operator</th><th>precision</th><th class="n">bytes</th><th>weights</th><th>output</th><th>cost alone</th><th>why</th></tr>
`, when(p.Report.Certificate != nil, " Cost is how far the network's answers move (KL divergence) when this layer alone is lowered."))
	for _, r := range p.Layers {
		d.f(`<tr><td>%s</td><td>%s</td><td>%s</td><td class="n">%s</td>%s%s%s<td class="soft">%s%s</td></tr>
`, r.Name, r.Op, r.Precision, r.Size, barCell(noiseText(r.WeightError), r.WeightBar), barCell(noiseText(r.OutputError), r.ErrorBar), barCell(r.Costs, r.CostBar),
			when(r.Protected, `<span class="warn">protected: it costs more than the others together. </span>`), r.Why)
	}
	d.f("</table></div>\n</section>\n")
}

// barCell is a cell with a bar under its text, whose length is in percent.
func barCell(text string, bar float64) markup {
	d := &document{}
	if d.f(`<td class="t">%s`, text); text != "" {
		d.f(`<div class="bar" style="width:%.0f%%"></div>`, bar)
	}
	d.f("</td>")
	return markup(d.String())
}

func noiseText(v *float64) string {
	if v == nil {
		return ""
	}
	return fmt.Sprintf("%.1f dB", *v)
}

// sees shows the preprocessing and what it makes of samples.
func (p *reportPage) sees(d *document) {
	d.f("<section>\n<h2>What the network sees</h2>\n")
	for _, s := range p.Steps {
		d.f("<p>%s</p>", s)
	}
	if len(p.Seen) == 0 {
		d.f("\n<p class=\"soft\">The pack carries no samples; dunlin model report --data shows others.</p>\n</section>\n")
		return
	}
	d.f(`
<p class="soft">Wrong preprocessing looks like bad compression: these must look as in training. Blue faces are swapped channels; flat grey is a wrong scale or mean; squeezed shapes are a wrong fit. The numbers under each are the least, the mean and the largest value that goes in.</p>
<div class="pictures">
`)
	for _, s := range p.Seen {
		d.f("<figure%s>", when(p.Pixels, ` class="pixels"`))
		if s.Picture != "" {
			d.f(`<img src="%s" alt="%s as the network sees it">`, s.Picture, s.Name)
		}
		d.f("<figcaption>%s", s.Name)
		for _, n := range s.Numbers {
			d.f("<br>%s", n)
		}
		d.f(`<br><span class="soft">%.3g, %.3g, %.3g</span></figcaption></figure>
`, s.Least, s.Mean, s.Most)
	}
	d.f("</div>\n</section>\n")
}
