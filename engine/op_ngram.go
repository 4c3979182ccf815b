package engine

import (
	"fmt"

	"dunlin/model"
)

// gram is a node of the tree of n-grams: what may follow, and the number of
// the n-gram that ends here, -1 where none does.
type gram struct {
	next   map[int64]*gram
	number int
}

// grams is a TfIdfVectorizer: how often each n-gram of a pool stands in a row
// of integers, its elements up to skip places apart.
type grams struct {
	root       *gram
	low, high  int // lengths of n-grams that are counted
	skip       int
	column     []int // of the result, by number of the n-gram
	width      int   // of the result
	weight     []float32
	count, idf bool // the result is the count, times the weight
}

func gramsOf(n *model.Node) (*grams, error) {
	if n.Attrs["pool_strings"] != nil {
		return nil, notYet("n-grams of strings")
	}
	pool, starts, columns := n.Ints("pool_int64s"), n.Ints("ngram_counts"), n.Ints("ngram_indexes")
	g := &grams{root: &gram{number: -1}, low: int(n.Int("min_gram_length", 1)), high: int(n.Int("max_gram_length", 1)), skip: int(n.Int("max_skip_count", 0))}
	if g.low < 1 || g.high < g.low || g.high > len(starts) || g.skip < 0 || g.skip > 1<<20 {
		return nil, fmt.Errorf("n-grams of %d to %d with %d left out", g.low, g.high, g.skip)
	}
	switch mode := n.Str("mode", ""); mode {
	case "TF", "IDF", "TFIDF":
		g.count, g.idf = mode != "IDF", mode != "TF"
	default:
		return nil, fmt.Errorf("mode %q", mode)
	}
	for _, c := range columns {
		if c < 0 || c >= 1<<24 {
			return nil, fmt.Errorf("n-gram index %d", c)
		}
		g.column, g.width = append(g.column, int(c)), max(g.width, int(c)+1)
	}
	g.weight, _ = n.Attrs["weights"].([]float32)
	if g.weight != nil && len(g.weight) != len(columns) {
		return nil, fmt.Errorf("%d weights for %d n-grams", len(g.weight), len(columns))
	}
	number := 0
	for i, from := range starts {
		to := int64(len(pool))
		if i+1 < len(starts) {
			to = starts[i+1]
		}
		size := int64(i + 1)
		if from < 0 || to < from || to > int64(len(pool)) || (to-from)%size != 0 {
			return nil, fmt.Errorf("n-gram counts %v for a pool of %d", starts, len(pool))
		}
		for at := from; at < to; at += size {
			g.root.add(pool[at:at+size], number)
			number++
		}
	}
	if number != len(columns) {
		return nil, fmt.Errorf("%d n-grams, %d indexes", number, len(columns))
	}
	return g, nil
}

func (t *gram) add(list []int64, number int) {
	for _, v := range list {
		if t.next[v] == nil {
			if t.next == nil {
				t.next = map[int64]*gram{}
			}
			t.next[v] = &gram{number: -1}
		}
		t = t.next[v]
	}
	t.number = number
}

// run counts the n-grams of one row.
func (g *grams) run(out []float32, row []int64) {
	clear(out)
	for step := 1; step <= g.skip+1 && (step == 1 || step < len(row)); step++ {
		for start := range row {
			t := g.root
			for n, at := 1, start; n <= g.high && at < len(row); n, at = n+1, at+step {
				if t = t.next[row[at]]; t == nil {
					break
				}
				if t.number < 0 || n < g.low || (n == 1 && step > 1) { // one element is the same with any step
					continue
				}
				y, w := &out[g.column[t.number]], float32(1)
				if g.idf && g.weight != nil {
					w = g.weight[t.number]
				}
				if g.count {
					*y += w
				} else {
					*y = w
				}
			}
		}
	}
}

func inferNGrams(c *call) error {
	if err := c.want(0, model.I64, model.I32); err != nil {
		return err
	}
	g, err := gramsOf(c.node)
	if err != nil {
		return err
	}
	switch s := c.shape(0); len(s) {
	case 1:
		return c.set(model.F32, g.width)
	case 2:
		return c.set(model.F32, s[0], g.width)
	default:
		return fmt.Errorf("n-grams of %v", s)
	}
}

func lowerNGrams(c *call) (*kernel, error) {
	g, err := gramsOf(c.node)
	if err != nil {
		return nil, err
	}
	s := c.shape(0)
	rows, length := 1, s[len(s)-1]
	if len(s) == 2 {
		rows = s[0]
	}
	k := named("n-grams")
	k.scratch = 8 * rows * length
	k.bind = func(in, out []*model.Tensor, scratch []byte) func() error {
		list, widen := indices(in[0], scratch)
		y := out[0].F32()
		return func() error {
			widen()
			for r := range rows {
				g.run(y[r*g.width:(r+1)*g.width], list[r*length:(r+1)*length])
			}
			return nil
		}
	}
	return k, nil
}
