package outbox

import (
	"bytes"

	"dunlin/sync/wire"
)

// makeRoom drops the oldest results until size more bytes are within the
// quota, or no result is left. Results that stand in one value go together.
// Each run of dropped results becomes one Gap, or a part of the Gap before it:
//
//	1 result   2 result   3 report   4 result   5 result
//	[   gap 1, count 2  ] 3 report   [   gap 4, count 2  ]
func (t *transaction) makeRoom(size int64) error {
	for t.d.bytes+size > t.max {
		first, count, err := t.dropRun(t.d.bytes + size - t.max)
		if err != nil {
			return err
		}
		if count == 0 {
			return nil
		}
		t.d.dropped += count
		if err := t.gap(first, count); err != nil {
			return err
		}
	}
	return nil
}

// dropRun deletes the oldest result and those that follow it directly, until
// need bytes are free.
func (t *transaction) dropRun(need int64) (first, count int64, err error) {
	c := t.records.Cursor()
	var freed int64
	var run [][]byte // keys: the cursor may not be used over a change
	var end int64
	for k, v := c.Seek(keyOf(t.d.oldest)); k != nil && freed < need; {
		key, size, m := k, cost(len(v)), mark(v)
		k, v = c.Next()
		if m == markResult || m == markPacked {
			run, freed, end = append(run, bytes.Clone(key)), freed+size, endOf(k, t.d.next)
		} else if len(run) > 0 {
			break
		}
	}
	if len(run) == 0 {
		t.d.oldest = t.d.next
		return 0, 0, nil
	}
	for _, k := range run {
		if err := t.remove(seqOf(k), t.records.Get(k)); err != nil {
			return 0, 0, err
		}
	}
	first = seqOf(run[0])
	t.d.oldest = end
	return first, end - first, nil
}

// gap writes the gap, and joins it with one that ends where it begins.
func (t *transaction) gap(first, count int64) error {
	c := t.records.Cursor()
	before := c.Prev
	if k, _ := c.Seek(keyOf(first)); k == nil {
		before = c.Last
	}
	k, v := before()
	if k != nil && mark(v) == markGap {
		if g, err := decodeGap(seqOf(k), v); err == nil && g.First+g.Count == first && g.Why == wire.GapQuota {
			if err := t.remove(g.First, v); err != nil {
				return err
			}
			first, count = g.First, g.Count+count
		}
	}
	return t.putGap(wire.Gap{First: first, Count: count, Why: wire.GapQuota})
}

// deleteBelow deletes what was acknowledged; of a gap that reaches over upto
// the rest stays. So do all results of a value in which upto is: they would be
// written again to be fewer. After a crash they are sent again.
func (t *transaction) deleteBelow(upto int64) error {
	for upto > t.d.first {
		c := t.records.Cursor()
		k, v := c.First()
		if k == nil || seqOf(k) >= upto {
			break
		}
		seq := seqOf(k)
		k, _ = c.Next()
		next := endOf(k, t.d.next)
		if next > upto && mark(v) != markGap {
			break
		}
		rest := wire.Gap{First: upto, Count: next - upto}
		if next > upto {
			g, err := decodeGap(seq, v)
			if err != nil {
				return err
			}
			rest.Why = g.Why
		}
		if err := t.remove(seq, v); err != nil {
			return err
		}
		if next > upto {
			if err := t.putGap(rest); err != nil {
				return err
			}
		}
	}
	t.d.first = max(t.d.first, upto)
	t.d.oldest = max(t.d.oldest, t.d.first)
	return nil
}
