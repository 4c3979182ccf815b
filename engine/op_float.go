package engine

import (
	"dunlin/model"
)

// inferSame is for operators whose output is like their first input.
func inferSame(c *call) error { return c.set(c.in[0].Type, c.shape(0)...) }

// inferFloat is inferSame for float32 alone.
func inferFloat(c *call) error {
	if err := c.want(0, model.F32); err != nil {
		return err
	}
	return inferSame(c)
}
