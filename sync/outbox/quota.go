package outbox

import (
	"bytes"

	"dunlin/sync/wire"
)

// makeRoom drops the oldest results until size more bytes are within the
// quota, or no result is left. Each run of dropped results becomes one Gap,
// or a part of the Gap before it:
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
		if err := t.putGap(first, count); err != nil {
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
	for k, v := c.Seek(keyOf(t.d.oldest)); k != nil; k, v = c.Next() {
		if v[0] != markResult {
			if len(run) > 0 {
				break
			}
			continue
		}
		run = append(run, bytes.Clone(k))
		if freed += cost(len(v)); freed >= need {
			break
		}
	}
	if len(run) == 0 {
		t.d.oldest = t.d.next
		return 0, 0, nil
	}
	for _, k := range run {
		if err := t.records.Delete(k); err != nil {
			return 0, 0, err
		}
	}
	t.d.bytes -= freed
	first, count = seqOf(run[0]), int64(len(run))
	t.d.oldest = first + count
	return first, count, nil
}

// putGap writes the gap, and joins it with one that ends where it begins.
func (t *transaction) putGap(first, count int64) error {
	c := t.records.Cursor()
	before := c.Prev
	if k, _ := c.Seek(keyOf(first)); k == nil {
		before = c.Last
	}
	k, v := before()
	if k != nil && len(v) > 0 && v[0] == markGap {
		prev, ok := decodeValue(seqOf(k), v)
		if g, err := prev.Gap(); ok && err == nil && g.First+g.Count == first && g.Why == wire.GapQuota {
			if err := t.remove(g.First, v); err != nil {
				return err
			}
			first, count = g.First, g.Count+count
		}
	}
	return t.put(wire.GapRecord(wire.Gap{First: first, Count: count, Why: wire.GapQuota}))
}

// deleteBelow deletes what was acknowledged; of a gap that reaches over upto
// the rest stays.
func (t *transaction) deleteBelow(upto int64) error {
	for upto > t.d.first {
		k, v := t.records.Cursor().First()
		if k == nil || seqOf(k) >= upto {
			break
		}
		seq := seqOf(k)
		next, err := follower(seq, v)
		if err != nil {
			return err
		}
		r, _ := decodeValue(seq, v)
		var why string
		if next > upto {
			g, err := r.Gap()
			if err != nil {
				return err
			}
			why = g.Why
		}
		if err := t.remove(seq, v); err != nil {
			return err
		}
		if next > upto {
			if err := t.put(wire.GapRecord(wire.Gap{First: upto, Count: next - upto, Why: why})); err != nil {
				return err
			}
		}
	}
	t.d.first = max(t.d.first, upto)
	t.d.oldest = max(t.d.oldest, t.d.first)
	return nil
}
