package cli

import (
	"fmt"

	"github.com/spf13/cobra"

	"dunlin/model"
	"dunlin/model/prep"
	"dunlin/quant"
)

// rewriteOptions say how the float model is changed before it is quantised.
type rewriteOptions struct {
	Prune     float64 // share of the channels
	LowRank   float64 // share of the energy of large dense layers
	Equalise  bool
	PerTensor bool
	DataFree  bool // ranges without samples
}

// rewriteReport says what was changed.
type rewriteReport struct {
	Prune    *quant.PruneReport    `json:"prune,omitempty"`
	LowRank  *quant.LowRankReport  `json:"low_rank,omitempty"`
	Equalise *quant.EqualiseReport `json:"equalise,omitempty"`
	DataFree *quant.FreeReport     `json:"data_free,omitempty"`
}

func (o *rewriteOptions) register(c *cobra.Command) {
	f := c.Flags()
	f.Float64Var(&o.Prune, "prune", 0, "cut this share of all channels, the least important: train again after more than a little")
	f.Float64Var(&o.LowRank, "low-rank", 0, "make two thin layers of large dense ones, and keep this share of their energy: 0.95, say")
	f.BoolVar(&o.Equalise, "equalise", false, "make the ranges of consecutive layers alike, for --per-tensor and for channels far apart")
	f.BoolVar(&o.PerTensor, "per-tensor", false, "give the weights of a layer one scale, as some other runtimes need it")
	f.BoolVar(&o.DataFree, "data-free", false, "take ranges from batch normalisation and made-up pictures, without --calibrate")
}

func (o rewriteOptions) check(c certifyOptions, calibrate string) error {
	switch {
	case o.DataFree && (c.Data != "" || calibrate != ""):
		return usagef("--data-free: with --data or --calibrate there are samples, which are better")
	case !(o.Prune >= 0 && o.Prune < 1):
		return usagef("--prune %v: want a share from 0 to 1", o.Prune)
	case !(o.LowRank >= 0 && o.LowRank <= 1):
		return usagef("--low-rank %v: want a share from 0 to 1", o.LowRank)
	}
	return nil
}

// rewrite changes w.graph as o says. What it returns is nil where nothing is
// to be changed.
func (w *material) rewrite(o rewriteOptions, progress func(done, total int)) (*model.Graph, *rewriteReport, error) {
	g, rep := w.graph, &rewriteReport{}
	if o.Prune > 0 {
		r, err := w.ranges(g, o, rep, progress)
		if err != nil {
			return nil, nil, err
		}
		if g, rep.Prune, err = quant.PruneChannels(g, r, quant.PruneOptions{Share: o.Prune}); err != nil {
			return nil, nil, err
		}
	}
	if o.LowRank > 0 {
		r, err := w.ranges(g, o, rep, progress)
		if err != nil {
			return nil, nil, err
		}
		if g, rep.LowRank, err = quant.LowRank(g, quant.LowRankOptions{Energy: o.LowRank, Ranges: r}); err != nil {
			return nil, nil, err
		}
	}
	if o.Equalise {
		r, err := w.ranges(g, o, rep, progress)
		if err != nil {
			return nil, nil, err
		}
		if g, rep.Equalise, err = quant.Equalise(g, quant.EqualiseOptions{Ranges: r}); err != nil {
			return nil, nil, err
		}
	}
	if *rep == (rewriteReport{}) {
		rep = nil
	}
	return g, rep, nil
}

// ranges calibrates g with w's samples, or without.
func (w *material) ranges(g *model.Graph, o rewriteOptions, rep *rewriteReport, progress func(done, total int)) (*quant.Ranges, error) {
	qo := quant.Options{Progress: progress}
	if !o.DataFree {
		return quant.Calibrate(g, w.calib.next, len(w.calib.at), qo)
	}
	b, err := boundsOf(w.spec.Inputs[0])
	if err != nil {
		return nil, err
	}
	r, free, err := quant.DataFree(g, []quant.Bounds{b}, qo)
	if rep != nil {
		rep.DataFree = free
	}
	return r, err
}

// boundsOf returns what the preprocessing makes of black and of white.
func boundsOf(in prep.Input) (quant.Bounds, error) {
	if in.Kind != "picture" {
		return quant.Bounds{}, fmt.Errorf("without samples: the input is a %s, whose bounds are not known: give samples", in.Kind)
	}
	var b quant.Bounds
	for c := range in.Channels() {
		mean, std := 0., 1.
		if in.Mean != nil {
			mean = in.Mean[c]
		}
		if in.Std != nil {
			std = in.Std[c]
		}
		ends := []float64{(0 - mean) / std, (255*in.Scale - mean) / std}
		for i, v := range ends {
			if v := float32(v); c+i == 0 {
				b = quant.Bounds{Low: v, High: v}
			} else {
				b = quant.Bounds{Low: min(b.Low, v), High: max(b.High, v)}
			}
		}
	}
	return b, nil
}

// madeUp makes samples up for g, one at a time.
func madeUp(g *model.Graph, b quant.Bounds) func(i int) ([]*model.Tensor, error) {
	return func(i int) ([]*model.Tensor, error) { return quant.MakeUp(g, []quant.Bounds{b}, 1, i) }
}
