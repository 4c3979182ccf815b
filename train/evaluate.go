package train

import (
	"context"
	"fmt"
)

// Measured is what Evaluate found.
type Measured struct {
	Loss     float64 // mean over samples
	Accuracy float64 // share of samples whose largest output is at their class; 0 without classes
	Right    int     // how many these are
	Samples  int
}

// Evaluate runs a net, not in training, over all of data. It fails where they
// do not fit, and with ctx's error when ctx ends.
func Evaluate(ctx context.Context, n *Net, data *Data, l Loss) (Measured, error) {
	if l.Logits() && n.givesProbabilities() {
		return Measured{}, fmt.Errorf("evaluate: loss %v wants logits, and output %s is a softmax: make the net with Options.Logits", l, n.graph.Outputs[0])
	}
	if err := fits(n, data, l, false); err != nil {
		return Measured{}, fmt.Errorf("evaluate: %w", err)
	}
	f := &fit{net: n, sizes: map[int]*Net{n.Batch(): n}}
	return f.evaluate(ctx, newBatcher(data, n.Batch(), f.width(), nil, nil), l, func(_, _ int, _ float64) {})
}

// evaluate is Evaluate; tell hears of each batch.
func (f *fit) evaluate(ctx context.Context, b *batcher, l Loss, tell func(step, steps int, loss float64)) (Measured, error) {
	m, batch, total := Measured{}, f.net.Batch(), b.data.Len()
	index := make([]int, 0, batch)
	for from := 0; from < total; from += batch {
		if err := ctx.Err(); err != nil {
			return m, err
		}
		index = index[:0]
		for i := from; i < min(from+batch, total); i++ {
			index = append(index, i)
		}
		n, err := f.sized(len(index))
		if err != nil {
			return m, err
		}
		t, err := b.fill(n, index, nil)
		if err != nil {
			return m, err
		}
		n.Forward(false)
		m.Loss += float64(l.Of(len(index), n.Output(0), t, nil) * float64(len(index)))
		m.Samples += len(index)
		if t.Classes != nil {
			m.Right += Right(len(index), n.Output(0), t.Classes)
		}
		tell(from/batch+1, (total+batch-1)/batch, m.Loss/float64(m.Samples))
	}
	m.Loss /= float64(m.Samples)
	m.Accuracy = float64(m.Right) / float64(m.Samples)
	return m, nil
}

// TeacherOf returns a net as a Teacher, not in training. Its output 0 is what
// the student learns: make it with Options.Logits where it ends in a softmax.
func TeacherOf(n *Net) Teacher {
	f := &fit{net: n, sizes: map[int]*Net{n.Batch(): n}}
	return func(samples int, inputs [][]float32, logits []float32) error {
		sized, err := f.sized(samples)
		if err != nil {
			return err
		}
		if len(inputs) != sized.Inputs() {
			return fmt.Errorf("teacher %s has %d inputs, the student %d", n.graph.Name, sized.Inputs(), len(inputs))
		}
		for i, x := range inputs {
			if len(x) != len(sized.Input(i)) {
				return fmt.Errorf("teacher %s: input %d takes %d values a sample, the student's has %d", n.graph.Name, i, len(sized.Input(i))/samples, len(x)/samples)
			}
			copy(sized.Input(i), x)
		}
		sized.Forward(false)
		if out := sized.Output(0); len(out) != len(logits) {
			return fmt.Errorf("teacher %s gives %d outputs, the student %d", n.graph.Name, len(out)/samples, len(logits)/samples)
		}
		copy(logits, sized.Output(0))
		return nil
	}
}
