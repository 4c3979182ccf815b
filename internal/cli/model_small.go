package cli

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"reflect"
	"slices"

	"github.com/spf13/cobra"

	"dunlin/engine"
	"dunlin/model"
	"dunlin/model/pack"
	"dunlin/model/prep"
	"dunlin/model/samples"
)

// smallReport says in a pack's report what its small form is.
type smallReport struct {
	Name     string     `json:"name"`
	Version  int64      `json:"version"`
	Digest   string     `json:"digest"` // of the pack that it came from
	Bytes    int64      `json:"bytes"`  // of its weights
	Accuracy []accuracy `json:"accuracy,omitempty"`
}

// attachSmall makes the network of the pack in a folder the small form of p:
// one for the same samples, with the same labels. The folder's weights are
// mapped until close is called.
func attachSmall(p *pack.Pack, dir string) (close func() error, err error) {
	small, err := pack.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(fmt.Errorf("small form %s: %w", dir, err), small.Close())
		}
	}()
	if small.Exam == nil {
		return nil, withHint(errors.New("it has no exam"), "make it with dunlin model compress")
	}
	if err := sameQuestion(&small.Pack, p); err != nil {
		return nil, withHint(err, "both packs must be made with the same prep.toml, but for the names of inputs and outputs, and the same labels")
	}
	g, err := standIn(small.Graph, p.Graph)
	if err != nil {
		return nil, err
	}
	if a, b := weightBytes(g), weightBytes(p.Graph); a >= b {
		return nil, fmt.Errorf("its weights take %s, and those of the model %s: it is not smaller", bytesText(a), bytesText(b))
	}
	p.Small = &pack.Form{Graph: g, Exam: small.Exam}
	return small.Close, editReport(p, func(r *packReport) {
		r.Small = &smallReport{Name: small.Name, Version: small.Version, Digest: small.Digest, Bytes: weightBytes(g)}
	})
}

// sameQuestion fails where two packs read their samples in different ways, or
// mean other classes.
func sameQuestion(small, p *pack.Pack) error {
	var specs [2]prep.Spec
	for i, pipeline := range [][]byte{small.Pipeline, p.Pipeline} {
		var err error
		if specs[i], err = prep.ParseJSON(pipeline); err != nil {
			return err
		}
		for j := range specs[i].Inputs {
			specs[i].Inputs[j].Name = ""
		}
		for j := range specs[i].Outputs {
			o := &specs[i].Outputs[j]
			o.Name, o.Labels, o.Entities = "", "", "" // a pack holds these itself
		}
	}
	switch {
	case !reflect.DeepEqual(specs[0], specs[1]):
		return errors.New("its preprocessing is another one")
	case !slices.Equal(small.Labels, p.Labels):
		return fmt.Errorf("its %d labels are not the model's %d", len(small.Labels), len(p.Labels))
	}
	return nil
}

// standIn returns g with the names that the inputs and outputs of first have:
// networks of different makers call them differently.
func standIn(g, first *model.Graph) (*model.Graph, error) {
	if len(g.Inputs) != len(first.Inputs) || len(g.Outputs) != len(first.Outputs) {
		return nil, fmt.Errorf("it has %d inputs and %d outputs, the model %d and %d", len(g.Inputs), len(g.Outputs), len(first.Inputs), len(first.Outputs))
	}
	g = g.Clone()
	made := g.Producers()
	taken := func(name string) bool { return g.Values[name] != nil || made[name] != nil }
	var before []*model.Node
	for i, want := range first.Inputs {
		name := g.Inputs[i]
		if name == want {
			continue
		}
		if taken(want) {
			return nil, fmt.Errorf("its input %q cannot be called %q as the model's is: another value is", name, want)
		}
		v := *g.Value(name)
		g.Values[want], g.Inputs[i] = &v, want
		before = append(before, &model.Node{Op: "Identity", Name: "stand in for " + want, In: []string{want}, Out: []string{name}})
	}
	g.Nodes = append(before, g.Nodes...)
	for i, want := range first.Outputs {
		name := g.Outputs[i]
		if name == want {
			continue
		}
		if taken(want) {
			return nil, fmt.Errorf("its output %q cannot be called %q as the model's is: another value is", name, want)
		}
		v := *g.Value(name)
		v.Const = nil
		g.Values[want], g.Outputs[i] = &v, want
		g.Nodes = append(g.Nodes, &model.Node{Op: "Identity", Name: "stand in for " + want, In: []string{name}, Out: []string{want}})
	}
	return g, g.Check()
}

// measureSmall evaluates the small form on a labelled set, and keeps what it
// finds beside what measureLoss found of the first.
func measureSmall(ctx context.Context, p *pack.Pack, path string, start func(what string, n int) bar) error {
	spec, err := prep.ParseJSON(p.Pipeline)
	if err != nil {
		return err
	}
	set, err := samples.Open(path, samples.Options{})
	if err != nil {
		return err
	}
	b := start("measuring the small form", set.Len())
	found, err := evaluate(ctx, p.Small.Graph, spec, set, engine.Options{}, b.add)
	b.done()
	if err != nil {
		return err
	}
	return editReport(p, func(r *packReport) {
		a := accuracy{Data: filepath.Base(path), Samples: set.Len(), After: found.Top1}
		for _, first := range r.Accuracy {
			if first.Data == a.Data {
				a.Before = first.After
			}
		}
		r.Small.Accuracy = append(r.Small.Accuracy, a)
	})
}

// formFlag lets a person choose the form that a command looks at.
type formFlag struct{ name string }

func (f *formFlag) register(c *cobra.Command) {
	c.Flags().StringVar(&f.name, "form", "", "`small`: the pack's small form, in place of the first")
	_ = c.RegisterFlagCompletionFunc("form", cobra.FixedCompletions([]string{"small"}, cobra.ShellCompDirectiveNoFileComp))
}

// choose has m be the form that was asked for.
func (f *formFlag) choose(m *loaded) error {
	switch {
	case f.name == "":
		return nil
	case f.name != "small":
		return usagef("--form %q: want small", f.name)
	case m.pack == nil || m.pack.Small == nil:
		return withHint(fmt.Errorf("%s has no small form", m.path), "dunlin model compress --small makes a pack that has one")
	}
	m.graph = m.pack.Small.Graph
	return nil
}
