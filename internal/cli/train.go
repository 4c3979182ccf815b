package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"dunlin/train"
	"dunlin/train/recipe"
)

// trainFlags are what a person says beside the recipe.
type trainFlags struct {
	example, out string
	resume, anew bool
	epochs       int
	seed         uint64
	limit        int
	asJSON       bool
}

func trainCommand() *cobra.Command {
	var f trainFlags
	c := &cobra.Command{
		Use:   "train RECIPE.toml",
		Short: "Train a network from a recipe: data, layers, optimiser",
		Long: `Train reads a recipe, which says what is learnt from, which network learns, and how,
and writes to a folder (-o, else named as the recipe):

  model.onnx     the network, float32, for dunlin model eval and compress
  prep.toml      how a picture becomes its input; labels.txt: its classes
  loss.svg       training and test loss of each epoch, and the share that is right
  training.json  the same as numbers

The same recipe, data and kind of CPU give the same file. Ctrl-C leaves a checkpoint
in the folder; the same command goes on from it, to the same bits. Begin with a
recipe of --example; docs/TRAINING.md explains every field.`,
		Example: `  dunlin train --example mlp -o mlp.toml && dunlin train mlp.toml
  dunlin train garments.toml -o garments && dunlin model eval garments/model.onnx --data /usr/share/datasets/fashion-mnist
  dunlin train garments.toml --epochs 1 --limit 2000`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			switch {
			case f.example != "" && len(args) > 0:
				return usagef("--example prints a recipe: give it without one")
			case f.example != "":
				return printExample(c.OutOrStdout(), f.example, f.out)
			case len(args) == 0:
				return usagef("say which recipe, or print one: dunlin train --example %s", strings.Join(recipe.Examples(), "|"))
			case f.resume && f.anew:
				return usagef("--resume and --anew are each other's opposite")
			}
			return runTrain(c, args[0], &f)
		},
	}
	fs := c.Flags()
	fs.StringVar(&f.example, "example", "", "print a recipe to start from: "+strings.Join(recipe.Examples(), ", "))
	fs.StringVarP(&f.out, "output", "o", "", "folder to write to (default: the recipe's name without .toml); with --example, the file")
	fs.BoolVar(&f.resume, "resume", false, "fail where there is no checkpoint to go on from")
	fs.BoolVar(&f.anew, "anew", false, "begin anew where there is a checkpoint")
	fs.IntVar(&f.epochs, "epochs", 0, "instead of the recipe's")
	fs.Uint64Var(&f.seed, "seed", 0, "instead of the recipe's")
	fs.IntVar(&f.limit, "limit", 0, "train with so many of the samples, evenly spread, for a quick try")
	jsonFlag(c, &f.asJSON)
	_ = c.RegisterFlagCompletionFunc("example", cobra.FixedCompletions(recipe.Examples(), cobra.ShellCompDirectiveNoFileComp))
	return c
}

// printExample prints a recipe, or writes it to a new file.
func printExample(w io.Writer, name, file string) error {
	text, err := recipe.Example(name)
	if err != nil {
		return usageError{err}
	}
	if file == "" {
		_, err = w.Write(text)
		return err
	}
	out, err := os.OpenFile(file, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o666)
	if err != nil {
		return err
	}
	if _, err = out.Write(text); err != nil {
		out.Close()
		return err
	}
	if err := out.Close(); err != nil {
		return err
	}
	_, err = fmt.Fprintf(w, "%s: change what you like, then dunlin train %s\n", file, file)
	return err
}

// override makes the recipe say what the flags do.
func (f *trainFlags) override(r *recipe.Recipe) error {
	if f.epochs < 0 || f.limit < 0 {
		return usagef("--epochs %d, --limit %d: want 1 or more", f.epochs, f.limit)
	}
	if f.epochs > 0 {
		r.Train.Epochs = f.epochs
		r.Schedule.WarmUp = min(r.Schedule.WarmUp, float64(f.epochs)/2)
	}
	if f.seed > 0 {
		r.Train.Seed = f.seed
	}
	if f.limit > 0 {
		r.Data.Limit = f.limit
	}
	return nil
}

func runTrain(c *cobra.Command, path string, f *trainFlags) error {
	r, err := recipe.Read(path)
	if err != nil {
		return err
	}
	if err := f.override(r); err != nil {
		return err
	}
	dir := f.out
	if dir == "" {
		if dir = strings.TrimSuffix(path, filepath.Ext(path)); dir == path {
			return usagef("%s has no .toml at its end: say where to write, -o FOLDER", path)
		}
	}
	checkpoint := filepath.Join(dir, recipe.CheckpointFile)
	if _, err := os.Stat(checkpoint); f.resume && err != nil {
		return withHint(fmt.Errorf("nothing to go on from: %w", err), "leave --resume out to begin")
	}
	w := &watcher{out: c.OutOrStdout(), errs: c.ErrOrStderr(), quiet: f.asJSON}
	report, err := r.Run(c.Context(), recipe.RunOptions{Dir: dir, Anew: f.anew, Loading: w.loading, Started: w.started, Fitting: w.fitting})
	w.end()
	switch {
	case errors.Is(err, context.Canceled):
		if _, e := os.Stat(checkpoint); e == nil {
			return withHint(err, "go on with: %s", again(path, f))
		}
		return err
	case errors.Is(err, train.ErrNotResumable):
		return withHint(err, "%s holds a training that was interrupted: go on with what it was, write elsewhere with -o, or give --anew to begin anew", dir)
	case err != nil:
		return err
	case f.asJSON:
		return printJSON(c.OutOrStdout(), report)
	}
	return printReport(c.OutOrStdout(), report)
}

// again is the command that goes on.
func again(path string, f *trainFlags) string {
	s := "dunlin train " + path
	if f.out != "" {
		s += " -o " + f.out
	}
	if f.epochs > 0 {
		s += fmt.Sprintf(" --epochs %d", f.epochs)
	}
	if f.seed > 0 {
		s += fmt.Sprintf(" --seed %d", f.seed)
	}
	if f.limit > 0 {
		s += fmt.Sprintf(" --limit %d", f.limit)
	}
	return s
}

// watcher shows a training: a bar with the time that is left, and a line for
// each epoch.
type watcher struct {
	out, errs io.Writer
	quiet     bool // no lines
	bar       *bar
}

func (w *watcher) show(what string, total int) *bar {
	if w.bar == nil {
		b := newBar(w.errs, what, total)
		w.bar = &b
	}
	return w.bar
}

func (w *watcher) end() {
	if w.bar != nil {
		w.bar.done()
		w.bar = nil
	}
}

func (w *watcher) loading(done, total int) { w.show("reading samples", total).set(done, total) }

func (w *watcher) started(s recipe.Start) {
	w.end()
	if w.quiet {
		return
	}
	fmt.Fprintf(w.out, "%s parameters, %s samples to learn from, %s to measure with\n", thousands(s.Parameters), thousands(s.Train), thousands(s.Test))
	if s.Resumed {
		fmt.Fprintln(w.out, "going on from the checkpoint")
	}
}

func (w *watcher) fitting(p train.Progress) {
	total := p.Epochs * p.Steps
	if p.Testing {
		if w.bar != nil {
			w.bar.say(fmt.Sprintf("epoch %d/%d, measuring", p.Epoch, p.Epochs))
		}
		return
	}
	b := w.show("training", total)
	b.say(fmt.Sprintf("epoch %d/%d, loss %.4f", p.Epoch, p.Epochs, p.Loss))
	b.set((p.Epoch-1)*p.Steps+p.Step, total)
	if p.Done == nil || w.quiet {
		return
	}
	b.clear()
	fmt.Fprintln(w.out, epochLine(*p.Done, p.Epochs))
}

// epochLine is what people see of an epoch.
func epochLine(e train.Epoch, epochs int) string {
	s := fmt.Sprintf("epoch %*d/%d  training loss %.4f", len(fmt.Sprint(epochs)), e.Epoch, epochs, e.TrainLoss)
	if e.TestLoss != nil {
		s += fmt.Sprintf("  test loss %.4f", *e.TestLoss)
	}
	if e.TestAccuracy != nil {
		s += fmt.Sprintf("  right %.2f %%", 100**e.TestAccuracy)
	}
	return s + fmt.Sprintf("  rate %.3g  %.1f s", e.Rate, e.Seconds)
}

// thousands writes 60,000.
func thousands(n int) string {
	s := fmt.Sprint(n)
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}

func printReport(w io.Writer, r *recipe.Report) error {
	if r.Stopped {
		fmt.Fprintf(w, "stopped for want of progress: the weights are those of epoch %d\n", r.Best)
	}
	last, rows := r.Last(), [][]string{{"class", "right", "samples"}}
	if q := r.Int8; q != nil {
		fmt.Fprintf(w, "int8: %.2f %% right in the engine, the same class as in training for %.2f %% of %s samples\n", 100*q.Accuracy, 100*q.Agree, thousands(q.Samples))
	}
	for _, c := range r.Classes {
		rows = append(rows, []string{c.Name, fmt.Sprintf("%.2f %%", 100*c.Accuracy), thousands(c.Samples)})
	}
	if len(rows) > 1 && len(rows) <= 101 {
		if last.TestAccuracy != nil {
			rows = append(rows, []string{"all", fmt.Sprintf("%.2f %%", 100**last.TestAccuracy), thousands(r.Test)})
		}
		table(w, rows)
	}
	info, err := os.Stat(r.Model)
	if err != nil {
		return err
	}
	fmt.Fprintf(w, "%s: %s; beside it how its input is made (%s), its losses (%s, %s)\n", r.Model, bytesText(info.Size()), recipe.PrepFile, recipe.CurvesFile, recipe.ReportFile)
	if r.Classes != nil {
		fmt.Fprintf(w, "next: dunlin model compress %s --calibrate PICTURES -o PACK\n", r.Model)
	}
	return nil
}
