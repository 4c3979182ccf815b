package engine

import (
	"slices"

	"dunlin/model"
)

// What chooseChannels follows: it moves numbers at compile time, and a graph
// may have any number of moves.
const (
	maxShuffle = 1 << 20 // elements of a value
	maxMoves   = 12      // nodes behind each other; exporters write 4 to 6
	maxMoved   = 1 << 28 // elements moved in all: less than a second
)

// chooseChannels makes one Gather along the channels of each chain of moves
// that comes to that: the channel shuffles of mobile networks are written as
// Reshape, Transpose, Reshape and a Gather or Slice for each half. The moves
// are done on the numbers of the elements, so that it does not matter how they
// are written.
func chooseChannels(_ *compiler, g *model.Graph) (*model.Graph, error) {
	e := &shuffles{edit: editing(g), left: maxMoved}
	for _, n := range e.Nodes {
		from, list := e.channelsOf(n)
		if list == nil {
			e.keep(n)
			continue
		}
		index := e.constant(n.Out[0], "channels", model.Of(model.I64, list, len(list)))
		e.made[n.Out[0]] = e.add("Gather", n, []string{from, index}, n.Out, map[string]model.Attr{"axis": int64(1)})
	}
	return e.done(), nil
}

type shuffles struct {
	*edit
	left int // elements that may still be moved
}

// channelsOf returns the value, farthest up the moves that n ends, of which
// n's output is a choice of whole channels, and their numbers. Without a
// Transpose among the moves there is nothing to win.
func (e *shuffles) channelsOf(n *model.Node) (from string, list []int64) {
	out := e.Value(n.Out[0])
	if count, err := out.Shape.Elements(); !picture(out) || len(n.Out) > 1 || err != nil || count > maxShuffle {
		return "", nil
	}
	var chain []*model.Node
	turned := false
	for m := n; m != nil && len(chain) < maxMoves && e.movesPlaces(m); m = e.made[m.In[0]] {
		chain = append(chain, m)
		turned = turned || m.Op == "Transpose"
		in := e.Value(m.In[0])
		if count, err := in.Shape.Elements(); err != nil || count > maxShuffle {
			break
		}
		if !turned || !picture(in) || !slices.Equal(in.Shape[2:], out.Shape[2:]) {
			continue
		}
		if numbers := e.followPlaces(chain, in.Shape); numbers != nil {
			if planes := wholePlanes(numbers, out.Shape); planes != nil {
				from, list = m.In[0], planes
			}
		}
	}
	return from, list
}

// picture reports whether v is one picture of channels.
func picture(v *model.Value) bool { return v != nil && len(v.Shape) == 4 && v.Shape[0] == 1 }

// movesPlaces reports whether n moves elements, and where to is constant.
func (e *edit) movesPlaces(n *model.Node) bool {
	switch n.Op {
	case "Reshape", "Flatten", "Squeeze", "Unsqueeze", "Transpose":
		return len(n.Out) == 1
	case "Gather":
		index := e.Const(n.In[1])
		return index != nil && index.Type == model.I64
	case "Slice":
		return len(n.In) > 2 && !slices.ContainsFunc(n.In[1:], func(name string) bool { return name != "" && e.Const(name) == nil })
	}
	return false
}

// followPlaces runs a chain of moves, the last first, on the numbers of the
// elements of its input; nil where a move cannot be done.
func (e *shuffles) followPlaces(chain []*model.Node, shape model.Shape) []int32 {
	count, _ := shape.Elements()
	numbers := make([]int32, count)
	for i := range numbers {
		numbers[i] = int32(i)
	}
	at := model.Of(model.I32, numbers, shape...)
	for _, n := range slices.Backward(chain) {
		v := e.Value(n.Out[0])
		count, _ := v.Shape.Elements()
		if e.left -= count; e.left < 0 {
			return nil
		}
		c := &call{node: n, in: []*model.Value{{Type: model.I32, Shape: at.Shape, Const: at}}, out: []*model.Value{{Type: model.I32, Shape: v.Shape}}}
		for _, name := range n.In[1:] {
			c.in = append(c.in, e.Values[name])
		}
		k, err := operators[n.Op].lower(c)
		if err != nil {
			return nil
		}
		to, err := model.NewTensor(model.I32, v.Shape...)
		if err != nil {
			return nil
		}
		if k.alias {
			to.Data = at.Data
		} else {
			in := []*model.Tensor{at}
			for i := range n.In[1:] {
				in = append(in, c.constant(i+1))
			}
			if k.bind(in, []*model.Tensor{to}, model.Aligned(k.scratch))() != nil {
				return nil
			}
		}
		at = to
	}
	return at.I32()
}

// wholePlanes returns which planes of its source a value of that shape is made
// of, nil where it is not made of whole ones.
func wholePlanes(numbers []int32, shape model.Shape) []int64 {
	plane := shape[2] * shape[3]
	if plane == 0 || len(numbers) == 0 {
		return nil
	}
	var list []int64
	for at := 0; at < len(numbers); at += plane {
		first := int(numbers[at])
		if first%plane != 0 {
			return nil
		}
		for i, k := range numbers[at : at+plane] {
			if int(k) != first+i {
				return nil
			}
		}
		list = append(list, int64(first/plane))
	}
	return list
}
