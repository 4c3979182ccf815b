package engine

import (
	"errors"
	"fmt"
	"slices"
	"strconv"

	"dunlin/model"
)

// Sequences of tensors are lists of value names while a graph is settled:
// which tensor stands where is then known, and what remains are the operators
// on the tensors themselves. A position that only a run tells is waited for,
// as a shape is: see stage.go.

// sequences are the operators that make or read one.
var sequences = map[string]func(s *settling, n *model.Node) ([]*model.Node, error){
	"SequenceEmpty":      sequenceEmpty,
	"SequenceConstruct":  sequenceConstruct,
	"SequenceInsert":     sequenceInsert,
	"SequenceErase":      sequenceErase,
	"SequenceAt":         sequenceAt,
	"SequenceLength":     sequenceLength,
	"ConcatFromSequence": concatFromSequence,
	"SplitToSequence":    splitToSequence,
}

// sequence settles n with the function of its operator.
func (s *settling) sequence(f func(*settling, *model.Node) ([]*model.Node, error), n *model.Node) ([]*model.Node, error) {
	nodes, err := f(s, n)
	if errors.Is(err, later{}) {
		s.postpone(n)
		return nil, nil
	}
	w := waits{}
	if !errors.As(err, &w) {
		return nodes, err
	}
	if list, ok := s.lists[n.In[0]]; ok { // the stage to come has to make it again
		again := &model.Node{Op: "SequenceConstruct", Name: n.Name + internalMark, In: list, Out: []string{s.value(n.Name, "sequence")}}
		if len(list) == 0 {
			again.Op = "SequenceEmpty"
		}
		s.postpone(again)
		n.In[0] = again.Out[0]
	}
	s.postpone(n)
	s.waiting[n] = []int{w.input}
	return nil, nil
}

// later says that a sequence is not known yet.
type later struct{}

func (later) Error() string { return "a sequence that is not known yet" }

// list returns the sequence that is input 0 of n.
func (s *settling) list(n *model.Node) ([]string, error) {
	if list, ok := s.lists[n.In[0]]; ok {
		return list, nil
	}
	if s.open[n.In[0]] {
		return nil, later{}
	}
	return nil, fmt.Errorf("input %s is no sequence", n.In[0])
}

// position returns input i of n as a place in a list of n elements, or where
// it is left out.
func (s *settling) position(n *model.Node, i, length, or int) (int, error) {
	name := n.Input(i)
	if name == "" {
		return or, nil
	}
	t := s.Const(name)
	if t == nil {
		return 0, waits{i, name}
	}
	list, err := integers(t)
	if err != nil || len(list) != 1 {
		return 0, fmt.Errorf("position %v %v", t.Type, t.Shape)
	}
	at := list[0]
	if at < 0 {
		at += int64(length)
	}
	if at < 0 || at > int64(length) {
		return 0, fmt.Errorf("position %d of %d", list[0], length)
	}
	return int(at), nil
}

func sequenceEmpty(s *settling, n *model.Node) ([]*model.Node, error) {
	s.lists[n.Out[0]] = []string{}
	return nil, nil
}

func sequenceConstruct(s *settling, n *model.Node) ([]*model.Node, error) {
	if slices.Contains(n.In, "") {
		return nil, fmt.Errorf("an input is left out")
	}
	s.lists[n.Out[0]] = slices.Clone(n.In)
	return nil, nil
}

func sequenceInsert(s *settling, n *model.Node) ([]*model.Node, error) {
	list, err := s.list(n)
	if err != nil {
		return nil, err
	}
	at, err := s.position(n, 2, len(list), len(list))
	if err != nil {
		return nil, err
	}
	s.lists[n.Out[0]] = slices.Insert(slices.Clone(list), at, n.In[1])
	return nil, nil
}

func sequenceErase(s *settling, n *model.Node) ([]*model.Node, error) {
	list, err := s.list(n)
	if err != nil {
		return nil, err
	}
	at, err := s.position(n, 1, len(list), len(list)-1)
	if err != nil {
		return nil, err
	}
	if at < 0 || at >= len(list) {
		return nil, fmt.Errorf("position %d of %d", at, len(list))
	}
	s.lists[n.Out[0]] = slices.Delete(slices.Clone(list), at, at+1)
	return nil, nil
}

func sequenceAt(s *settling, n *model.Node) ([]*model.Node, error) {
	list, err := s.list(n)
	if err != nil {
		return nil, err
	}
	at, err := s.position(n, 1, len(list), 0)
	if err != nil {
		return nil, err
	}
	if at >= len(list) {
		return nil, fmt.Errorf("position %d of %d", at, len(list))
	}
	return []*model.Node{{Op: "Identity", Name: n.Name, In: []string{list[at]}, Out: n.Out}}, nil
}

func sequenceLength(s *settling, n *model.Node) ([]*model.Node, error) {
	list, err := s.list(n)
	if err != nil {
		return nil, err
	}
	s.AddConst(n.Out[0], model.Of(model.I64, []int64{int64(len(list))}))
	return nil, nil
}

func concatFromSequence(s *settling, n *model.Node) ([]*model.Node, error) {
	list, err := s.list(n)
	if err != nil {
		return nil, err
	}
	if len(list) == 0 {
		return nil, fmt.Errorf("the sequence is empty")
	}
	axis := n.Int("axis", 0)
	join := &model.Node{Op: "Concat", Name: n.Name, In: slices.Clone(list), Out: n.Out, Attrs: map[string]model.Attr{"axis": axis}}
	if n.Int("new_axis", 0) == 0 {
		return []*model.Node{join}, nil
	}
	var nodes []*model.Node
	axes := s.constant(n.Name, "axes", model.Of(model.I64, []int64{axis}, 1))
	for i, name := range list {
		wide := s.value(n.Name, "element")
		nodes = append(nodes, &model.Node{Op: "Unsqueeze", Name: n.Name + internalMark + strconv.Itoa(i), In: []string{name, axes}, Out: []string{wide}})
		join.In[i] = wide
	}
	return append(nodes, join), nil
}

// splitToSequence cuts into pieces of one element, of a given length, or of
// given lengths.
func splitToSequence(s *settling, n *model.Node) ([]*model.Node, error) {
	shape := s.Value(n.In[0]).Shape
	if s.open[n.In[0]] || shape == nil {
		return nil, later{}
	}
	axis, err := axisOf(n.Int("axis", 0), len(shape))
	if err != nil {
		return nil, err
	}
	var lengths []int64
	length, each := int64(shape[axis]), int64(1)
	if name := n.Input(1); name != "" {
		t := s.Const(name)
		if t == nil {
			return nil, waits{1, name}
		}
		list, err := integers(t)
		if err != nil {
			return nil, err
		}
		each = 0
		if len(t.Shape) == 0 && len(list) == 1 {
			each = list[0]
		} else {
			lengths = list
		}
	}
	if lengths == nil {
		if each < 1 || length/each > maxDecided {
			return nil, fmt.Errorf("parts of %d of an axis of %d", each, length)
		}
		for at := int64(0); at < length; at += each {
			lengths = append(lengths, min(each, length-at))
		}
	}
	var parts []string
	for range lengths {
		parts = append(parts, s.value(n.Name, "part"))
	}
	attrs := map[string]model.Attr{"axis": int64(axis)}
	split := s.constant(n.Name, "split", model.Of(model.I64, lengths, len(lengths)))
	nodes := []*model.Node{{Op: "Split", Name: n.Name, In: []string{n.In[0], split}, Out: parts, Attrs: attrs}}
	if len(parts) == 0 {
		nodes = nil
	}
	if n.Input(1) == "" && n.Int("keepdims", 1) == 0 {
		axes := s.constant(n.Name, "axes", model.Of(model.I64, []int64{int64(axis)}, 1))
		parts = slices.Clone(parts)
		for i, name := range parts {
			parts[i] = s.value(n.Name, "element")
			nodes = append(nodes, &model.Node{Op: "Squeeze", Name: n.Name + internalMark + strconv.Itoa(i), In: []string{name, axes}, Out: []string{parts[i]}})
		}
	}
	s.lists[n.Out[0]] = parts
	return nodes, nil
}
