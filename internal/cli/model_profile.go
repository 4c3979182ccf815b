package cli

import (
	"cmp"
	"fmt"
	"io"
	"slices"
	"time"

	"dunlin/engine"
	"dunlin/kernels"
)

// profileRow is a step of a plan with the time it takes, or all steps of one
// kernel together.
type profileRow struct {
	Step   string  `json:"step,omitempty"`
	Kernel string  `json:"kernel"`
	Out    []int   `json:"shape,omitempty"`
	Count  int     `json:"steps"`
	Micros float64 `json:"us"` // mean of the runs
	Share  float64 `json:"share"`
	GMACs  float64 `json:"gmacs_per_s,omitempty"`
	Peak   float64 `json:"of_peak,omitempty"` // share of what this CPU can do at most, in the row's type
	macs   int64
	most   float64
}

// profile runs s for d and returns a row a step.
func profile(p *engine.Program, s *engine.Session, d time.Duration) ([]profileRow, error) {
	var times []time.Duration
	var err error
	if times, err = s.RunProfiled(times); err != nil { // the first run is not counted
		return nil, err
	}
	clear(times)
	runs := 0
	for begin := time.Now(); time.Since(begin) < d || runs < 5; runs++ {
		if times, err = s.RunProfiled(times); err != nil {
			return nil, err
		}
	}
	peak := peaks{}
	var rows []profileRow
	for i, step := range p.Steps() {
		if step.Kernel == "alias" || i >= len(times) {
			continue
		}
		rows = append(rows, profileRow{
			Step: step.Name, Kernel: step.Kernel, Out: step.Out, Count: 1, macs: step.MACs, most: peak.of(step),
			Micros: float64(times[i].Nanoseconds()) / 1e3 / float64(runs),
		})
	}
	return rated(rows), nil
}

// rated fills in shares and rates.
func rated(rows []profileRow) []profileRow {
	total := 0.0
	for _, r := range rows {
		total += r.Micros
	}
	for i := range rows {
		r := &rows[i]
		r.Share = r.Micros / max(total, 1e-9)
		if r.macs > 0 && r.Micros > 0 {
			r.GMACs = float64(r.macs) / r.Micros / 1e3
		}
		if r.most > 0 {
			r.Peak = r.GMACs * 1e9 / r.most
		}
	}
	return rows
}

// byKernel adds up the rows of each kernel, the longest first.
func byKernel(rows []profileRow) []profileRow {
	var sums []profileRow
	for _, r := range rows {
		i := slices.IndexFunc(sums, func(s profileRow) bool { return s.Kernel == r.Kernel })
		if i < 0 {
			i = len(sums)
			sums = append(sums, profileRow{Kernel: r.Kernel, most: r.most})
		}
		sums[i].Count++
		sums[i].Micros += r.Micros
		sums[i].macs += r.macs
	}
	slices.SortStableFunc(sums, func(a, b profileRow) int { return cmp.Compare(b.Micros, a.Micros) })
	return rated(sums)
}

// peaks measures once what this CPU can do at most, by precision and tier.
type peaks map[string]float64

// of returns the products a second that bound a step, 0 where nothing was
// measured for its tier.
func (p peaks) of(s engine.Step) float64 {
	key := s.Precision + " " + s.Tier
	if _, ok := p[key]; !ok && s.MACs > 0 {
		p[key] = 0
		if t, err := kernels.Host(s.Tier); err == nil {
			switch s.Precision {
			case "int8", "uint8":
				p[key] = kernels.PeakInt8(t.Tier)
			case "float32", "float16":
				p[key] = kernels.PeakF32(t.Tier)
			}
		}
	}
	return p[key]
}

func printProfile(w io.Writer, rows []profileRow) {
	text := [][]string{{"STEP", "KERNEL", "SHAPE", "TIME", "SHARE", "GMAC/S", "OF PEAK"}}
	for _, r := range rows {
		text = append(text, append([]string{r.Step, r.Kernel, fmt.Sprint(r.Out)}, r.cells()...))
	}
	table(w, text)
	fmt.Fprintln(w)
	text = [][]string{{"KERNEL", "STEPS", "TIME", "SHARE", "GMAC/S", "OF PEAK"}}
	for _, r := range byKernel(rows) {
		text = append(text, append([]string{r.Kernel, fmt.Sprint(r.Count)}, r.cells()...))
	}
	table(w, text)
}

func (r *profileRow) cells() []string {
	cells := []string{fmt.Sprintf("%.1f us", r.Micros), fmt.Sprintf("%.1f %%", 100*r.Share), "", ""}
	if r.GMACs > 0 {
		cells[2] = fmt.Sprintf("%.1f", r.GMACs)
	}
	if r.Peak > 0 {
		cells[3] = fmt.Sprintf("%.0f %%", 100*r.Peak)
	}
	return cells
}
