package engine

import (
	"fmt"

	"dunlin/kernels"
	"dunlin/model"
)

// Losses are for graphs that still carry the one they were trained with.

func checkLoss(n *model.Node) string {
	switch r := n.Str("reduction", "mean"); r {
	case "mean", "sum", "none":
		return ""
	default:
		return fmt.Sprintf("reduction %q", r)
	}
}

// inferLoss wants scores [N, C, ...], targets [N, ...] and weights [C].
func inferLoss(c *call) error {
	if err := c.want(0, model.F32); err != nil {
		return err
	}
	if err := c.want(1, model.I64, model.I32); err != nil {
		return err
	}
	if err := c.want(2, model.F32); err != nil {
		return err
	}
	x, target := c.shape(0), c.shape(1)
	if len(x) < 2 || len(target) != len(x)-1 || target[0] != x[0] || !target[1:].Equal(x[2:]) {
		return fmt.Errorf("targets %v for scores %v", target, x)
	}
	if c.has(2) && !c.shape(2).Equal(model.Shape{x[1]}) {
		return fmt.Errorf("weights %v for %d classes", c.shape(2), x[1])
	}
	if len(c.out) > 1 {
		c.out[1].Type, c.out[1].Shape = model.F32, x
	}
	if c.node.Str("reduction", "mean") == "none" {
		return c.set(model.F32, target...)
	}
	return c.set(model.F32)
}

func lowerLoss(c *call) (*kernel, error) {
	x, reduction := c.shape(0), c.node.Str("reduction", "mean")
	inner, _ := x[2:].Elements()
	ignore, has := c.node.Attrs["ignore_index"].(int64)
	l := kernels.Loss{N: x[0], Classes: x[1], Inner: inner, Ignore: ignore, HasIgnore: has}
	total, _ := x.Elements()
	entropy := c.node.Op == "SoftmaxCrossEntropyLoss"
	k := named("loss")
	index := align(indexScratch(c))
	k.scratch = index
	if entropy {
		k.scratch += align(4*total) + 4*x[1]
	}
	k.bind = func(in, out []*model.Tensor, scratch []byte) func() error {
		target, widen := indices(in[1], scratch)
		scores, logs := in[0].F32(), in[0].F32()
		var row []float32
		if entropy {
			f32 := func(b []byte) []float32 { return (&model.Tensor{Type: model.F32, Data: b}).F32() }
			logs, row = f32(scratch[index:][:4*total]), f32(scratch[index+align(4*total):][:4*x[1]])
			if len(out) > 1 && out[1] != nil {
				logs = out[1].F32()
			}
		}
		var weight, each []float32
		if len(in) > 2 && in[2] != nil {
			weight = in[2].F32()
		}
		y := out[0].F32()
		if reduction == "none" {
			each = y
		}
		return func() error {
			widen()
			if entropy {
				kernels.Columns(logs, scores, row, l.N, l.Classes, l.Inner, kernels.LogSoftmax[float32])
			}
			sum, weights, bad := l.Each(each, logs, target, weight)
			switch {
			case bad >= 0:
				return fmt.Errorf("target %d is none of %d classes", target[bad], l.Classes)
			case reduction == "sum":
				y[0] = float32(sum)
			case reduction == "mean":
				y[0] = float32(sum / weights)
			}
			return nil
		}
	}
	return k, nil
}
