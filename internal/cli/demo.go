package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"dunlin/internal/sign"
)

func demoCommand() *cobra.Command {
	var dir string
	var exit bool
	c := &cobra.Command{
		Use:   "demo",
		Short: "Show the whole road on this machine, in a minute",
		Long: `Demo compresses a real model, signs it, starts a hub and two agents on loopback, rolls
the model out, loads facts, lets the agents answer, unplugs the hub in the middle of
it, offers four bad models, and proves at each step that it worked. It needs no root
and no network, asks nothing, and leaves the page open until you press Ctrl-C.`,
		Example: `  dunlin demo
  dunlin demo --exit          # end with a summary and status 0`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			d, err := newDemo(c.OutOrStdout(), c.ErrOrStderr(), dir)
			if err != nil {
				return err
			}
			defer d.close()
			if err := d.run(c.Context()); err != nil {
				err = fmt.Errorf("demo: %w", err)
				if d.hub == nil || c.Context().Err() != nil {
					return err
				}
				d.temp = false // somebody will want to look
				return withHint(err, "the logs of the hub and the agents are in %s", d.dir)
			}
			if exit {
				return nil
			}
			fmt.Fprintf(d.out, "\nThe page: %s\nDrop a picture into %s and watch it. Ctrl-C ends the demo.\n", d.pageAddress(), d.agents[0].inbox)
			<-c.Context().Done()
			return nil
		},
	}
	c.Flags().StringVar(&dir, "dir", "", "folder to work in, kept afterwards (default: a temporary one)")
	c.Flags().BoolVar(&exit, "exit", false, "end when the tour is over")
	return c
}

// demo is one run of the tour. Its steps are in the files demo_*.go, in the
// order in which run calls them; each leaves here what later ones need.
type demo struct {
	out, err io.Writer
	dir      string // everything lies below it
	temp     bool   // dir goes when the demo ends
	key      sign.PrivateKey
	model    *loaded
	small    demoPack // the form that was chosen
	fp16     demoPack
	hub      *demoHub
	agents   []*demoAgent
	pictures pictureBox
	before   map[string]evalResult // accuracy of the float model
	said     map[string]bool       // see once
	checks   []check
}

// check is a row of the summary: something that the demo proved.
type check struct{ what, found string }

// demoPack is a packed model on disk.
type demoPack struct {
	dir, digest string
	version     int64
}

func newDemo(out, errw io.Writer, dir string) (*demo, error) {
	d := &demo{out: out, err: errw, dir: dir, said: map[string]bool{}, before: map[string]evalResult{}}
	var err error
	if dir == "" {
		d.temp = true
		d.dir, err = os.MkdirTemp("", "dunlin-demo-")
	} else if err = os.MkdirAll(dir, 0o755); err == nil {
		var entries []os.DirEntry
		if entries, err = os.ReadDir(dir); err == nil && len(entries) > 0 {
			err = withHint(fmt.Errorf("demo: folder %s is not empty", dir), "give a new one")
		}
	}
	if err != nil {
		return nil, err
	}
	return d, nil
}

// close ends the processes and removes what was temporary.
func (d *demo) close() {
	for _, a := range d.agents {
		a.proc.stop()
	}
	if d.hub != nil {
		d.hub.proc.stop()
	}
	if d.model != nil {
		d.model.close()
	}
	if d.temp {
		os.RemoveAll(d.dir)
	}
}

// path returns a place below the demo's folder.
func (d *demo) path(elem ...string) string { return filepath.Join(append([]string{d.dir}, elem...)...) }

func (d *demo) run(ctx context.Context) error {
	begin := time.Now()
	steps := []struct {
		title string
		do    func(context.Context) error
	}{
		{"A model: a small network for pictures of garments, as an ONNX file", d.takeModel},
		{"Compress it: to fp16, and to the smallest form that may lose 1 % at most", d.compressModel},
		{"A hub and two agents, each its own process, on loopback", d.startFleet},
		{"Sign the small model, register it, roll it out: one agent first, then both", d.rollOut},
		{"Facts about garments, signed, synced into each agent's cache", d.syncFacts},
		{"Pictures into the agents' folders: labels, facts, and on to the hub", d.dropPictures},
		{"Unplug: the hub is killed, the agents go on, the hub comes back", d.unplug},
		{"Four bad models", d.offerBadModels},
	}
	for i, s := range steps {
		fmt.Fprintf(d.out, "\n%d. %s\n", i+1, s.title)
		at := time.Now()
		if err := s.do(ctx); err != nil {
			return fmt.Errorf("step %d (%s): %w", i+1, s.title, err)
		}
		d.say("(%.1f s)", time.Since(at).Seconds())
	}
	fmt.Fprintf(d.out, "\nSummary (%.0f s)\n", time.Since(begin).Seconds())
	rows := make([][]string, len(d.checks))
	for i, c := range d.checks {
		rows[i] = []string{"  " + c.what, c.found}
	}
	table(d.out, rows)
	return nil
}

// say prints one line of a step.
func (d *demo) say(format string, a ...any) { fmt.Fprintf(d.out, "   "+format+"\n", a...) }

// proved keeps a row for the summary.
func (d *demo) proved(what, format string, a ...any) {
	d.checks = append(d.checks, check{what, fmt.Sprintf(format, a...)})
}

// errNotYet says that a condition that waitFor asks about does not hold yet.
var errNotYet = errors.New("not yet")

// final is an error that waiting cannot mend.
type final struct{ error }

// waitFor asks ok until it returns nil or a final error, at most for limit;
// the last error says what was still missing.
func waitFor(ctx context.Context, limit time.Duration, what string, ok func() error) error {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		err := ok()
		if err == nil || errors.As(err, new(final)) {
			return err
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("waited %v for %s: %w", limit, what, err)
		case <-tick.C:
		}
	}
}
