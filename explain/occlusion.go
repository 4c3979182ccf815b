package explain

import (
	"cmp"
	"context"
	"fmt"
	"math"
	"slices"
)

// Occlusion (Zeiler and Fergus 2014, arXiv:1311.2901, section 4.2): cover a
// square of the picture with its mean colour, and see by how much the odds of
// the class fall. Squares come in three sizes, each level at half the side of
// the one before and overlapping by half:
//
//	level 0   a quarter of the picture   7 x 7   =  49 runs
//	level 1   an eighth                 15 x 15  = 225
//	level 2   a sixteenth               31 x 31  = 961
//
// The first level begins with the 16 squares that lie side by side, the others
// where the level before found most, so that a small budget is spent where it
// tells something. Large squares find what only counts together, small ones
// say where it is; the map is the mean of the levels, each the mean of the
// squares over a cell.
const (
	firstCells = 8 // on a side: a square covers two by two of them
	levels     = 3
)

// square is a part of the picture to be covered, in cells of its level.
type square struct {
	x, y  int
	first float64 // the order of the runs: what the level before found there
}

// level is what the squares of one size found.
type level struct {
	cells int       // on a side
	sum   []float64 // of the odds lost, by cell
	count []int     // of squares over the cell
}

func newLevel(cells int) *level {
	return &level{cells, make([]float64, cells*cells), make([]int, cells*cells)}
}

// add notes that covering s cost the class so much.
func (l *level) add(s *square, lost float64) {
	for dy := range 2 {
		for dx := range 2 {
			i := (s.y+dy)*l.cells + s.x + dx
			l.sum[i] += lost
			l.count[i]++
		}
	}
}

// at returns what was found at a place from 0 to 1, and whether anything was.
func (l *level) at(x, y float64) (float64, bool) {
	i := int(y*float64(l.cells))*l.cells + int(x*float64(l.cells))
	if l.count[i] == 0 {
		return 0, false
	}
	return l.sum[i] / float64(l.count[i]), true
}

// covered reports whether every cell was covered once.
func (l *level) covered() bool { return !slices.Contains(l.count, 0) }

// squares returns the squares of a level in the order in which they are worth
// it.
func (l *level) squares(before *level) []*square {
	var all []*square
	for y := range l.cells - 1 {
		for x := range l.cells - 1 {
			s := &square{x: x, y: y, first: -float64(x%2 + y%2)}
			if before != nil {
				found, _ := before.at(float64(x+1)/float64(l.cells), float64(y+1)/float64(l.cells))
				s.first = math.Abs(found)
			}
			all = append(all, s)
		}
	}
	slices.SortStableFunc(all, func(a, b *square) int { return cmp.Compare(b.first, a.first) })
	return all
}

// occlusion covers squares until the budget ends. It fails with ErrBudget where
// that is before each part of the picture was covered once.
func (n *Network) occlusion(ctx context.Context, x []float32, class int, b Budget) (*Map, error) {
	whole, err := n.Ask(x)
	if err != nil {
		return nil, err
	}
	m := &Map{Method: Occlusion, Class: class, Score: whole.Scores[class], Runs: 1}
	r, p := n.batched(x), n.plane()
	fill := p.mean(x)
	batch := make([]float32, 0, r.batch*len(x))
	var done []*level
	side := min(p.width, p.height)
	for cells := firstCells; len(done) < levels && (cells <= side || done == nil); cells *= 2 {
		l := newLevel(min(cells, max(side, 2)))
		var before *level
		if len(done) > 0 {
			before = done[len(done)-1]
		}
		todo := l.squares(before)
		done = append(done, l)
		for len(todo) > 0 {
			if err := ctx.Err(); err != nil {
				return nil, err
			}
			next := todo[:min(len(todo), r.batch)]
			if b.Runs > 0 && m.Runs+len(next) > b.Runs || b.Stop != nil && b.Stop() {
				if !done[0].covered() {
					return nil, fmt.Errorf("occlusion: %w: %d runs, and the coarsest map takes 17", ErrBudget, m.Runs)
				}
				return m.merge(done), nil
			}
			batch = batch[:0]
			for _, s := range next {
				batch = append(batch, x...)
				p.cover(batch[len(batch)-len(x):], s, l.cells, fill)
			}
			if err := r.run(batch); err != nil {
				return nil, err
			}
			for i, s := range next {
				l.add(s, float64(whole.Odds[class]-n.answer(r, i).Odds[class]))
			}
			todo, m.Runs = todo[len(next):], m.Runs+len(next)
		}
	}
	m.Complete = true
	return m.merge(done), nil
}

// merge makes the map of the levels: at each cell of the finest, the mean of
// those that have something to say there.
func (m *Map) merge(all []*level) *Map {
	cells := all[len(all)-1].cells
	m.Width, m.Height, m.Values = cells, cells, make([]float32, cells*cells)
	for i := range m.Values {
		x, y := (float64(i%cells)+0.5)/float64(cells), (float64(i/cells)+0.5)/float64(cells)
		sum, count := 0.0, 0
		for _, l := range all {
			if v, ok := l.at(x, y); ok {
				sum, count = sum+v, count+1
			}
		}
		m.Values[i] = float32(sum / float64(max(1, count)))
	}
	return m
}

// plane is how a picture lies in an input.
type plane struct {
	width, height, channels int
	pixel, channel          int // distance of two neighbours, in elements
}

func (n *Network) plane() plane {
	p := plane{n.in.Width, n.in.Height, n.in.Channels(), 1, n.in.Width * n.in.Height}
	if n.in.Layout == "nhwc" {
		p.pixel, p.channel = p.channels, 1
	}
	return p
}

// mean returns the mean of each channel: what a covered part becomes. In a
// network's own units it needs no knowledge of how colours were normalised.
func (p plane) mean(x []float32) []float32 {
	out := make([]float32, p.channels)
	for c := range out {
		sum := 0.0
		for i := range p.width * p.height {
			sum += float64(x[c*p.channel+i*p.pixel])
		}
		out[c] = float32(sum / float64(p.width*p.height))
	}
	return out
}

// cover fills square s of a level of so many cells a side.
func (p plane) cover(x []float32, s *square, cells int, fill []float32) {
	x0, x1 := s.x*p.width/cells, (s.x+2)*p.width/cells
	y0, y1 := s.y*p.height/cells, (s.y+2)*p.height/cells
	for c, v := range fill {
		for y := y0; y < y1; y++ {
			for px := x0; px < x1; px++ {
				x[c*p.channel+(y*p.width+px)*p.pixel] = v
			}
		}
	}
}
