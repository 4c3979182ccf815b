package engine

import (
	"fmt"

	"dunlin/kernels"
	"dunlin/model"
)

// inferLookUp: ids [..., 1] and a table [N, K] give [..., K].
func inferLookUp(c *call) error {
	if err := c.want(0, model.I32, model.I64); err != nil {
		return err
	}
	s := append(model.Shape{}, c.shape(0)...)
	if table := c.shape(1); len(s) == 0 || s[len(s)-1] != 1 || len(table) != 2 || table[0] == 0 {
		return fmt.Errorf("ids %v of a table %v", s, table)
	}
	s[len(s)-1] = c.shape(1)[1]
	return c.set(model.F32, s...)
}

func lowerLookUp(c *call) (*kernel, error) {
	k := named("lookup")
	k.bind = lookUpBy[int64]
	if c.in[0].Type == model.I32 {
		k.bind = lookUpBy[int32]
	}
	return k, nil
}

func lookUpBy[T int32 | int64](in, out []*model.Tensor, _ []byte) func() error {
	ids, table, y, width := elementsOf[T](in[0]), in[1].F32(), out[0].F32(), in[1].Shape[1]
	return func() error { kernels.LookUp(y, table, ids, width); return nil }
}
