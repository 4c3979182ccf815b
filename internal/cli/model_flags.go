package cli

import (
	"errors"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"dunlin/engine"
)

// compileFlags are those that say how a model is compiled, the same for every
// command that runs one.
type compileFlags struct {
	threads   int
	kernels   string
	require   string
	maxMemory string
}

func (f *compileFlags) register(c *cobra.Command) {
	c.Flags().IntVar(&f.threads, "threads", 0, "threads to use, 0: as many as pay")
	c.Flags().StringVar(&f.kernels, "kernels", "", kernelsHelp)
	f.registerLimits(c)
}

// registerLimits adds the flags that only refuse.
func (f *compileFlags) registerLimits(c *cobra.Command) {
	c.Flags().StringVar(&f.require, "require", "", "`int8`: fail where a step computes in float though the model is quantised, or where it is not")
	c.Flags().StringVar(&f.maxMemory, "max-memory", "", "refuse a model that needs more than `SIZE` (64M, 2G, bytes) for weights and activations (default half of RAM)")
	_ = c.RegisterFlagCompletionFunc("require", cobra.FixedCompletions([]string{"int8"}, cobra.ShellCompDirectiveNoFileComp))
}

// kernelsHelp describes every flag that limits the tiers.
const kernelsHelp = "limit the kernels to a tier: generic (the definitions in plain Go), avx2, avxvnni, avx512, neon, dotprod, i8mm; \"\": the best for this CPU"

// options returns the flags as the engine takes them.
func (f *compileFlags) options() (engine.Options, error) {
	o := engine.Options{Threads: f.threads, Kernels: f.kernels}
	switch f.require {
	case "":
	case "int8":
		o.RequireInt8 = true
	default:
		return o, usagef("--require %q: want int8", f.require)
	}
	var err error
	o.MaxMemory, err = parseSize(f.maxMemory)
	return o, err
}

// parseSize reads a number of bytes with K, M or G behind it, or nothing, for
// 0.
func parseSize(text string) (int64, error) {
	if text == "" {
		return 0, nil
	}
	digits, unit := strings.TrimSuffix(strings.ToUpper(text), "B"), int64(1)
	digits = strings.TrimSuffix(digits, "I")
	for i, suffix := range []string{"K", "M", "G"} {
		if d, ok := strings.CutSuffix(digits, suffix); ok {
			digits, unit = d, 1<<(10*(i+1))
		}
	}
	n, err := strconv.ParseInt(digits, 10, 64)
	if err != nil || n <= 0 || n > (1<<62)/unit {
		return 0, usagef("%q is no size: want a number of bytes, or of K, M or G of them", text)
	}
	return n * unit, nil
}

// explain adds what helps to an error of Compile.
func explain(err error) error {
	var float *engine.FloatError
	switch {
	case errors.As(err, &float):
		return withHint(err, "dunlin model inspect --precision shows every step; dunlin model compress makes int8 of a float model")
	case errors.Is(err, engine.ErrMemory):
		return withHint(err, "--max-memory SIZE allows more, or less; the default is half of this machine's memory")
	}
	return err
}
