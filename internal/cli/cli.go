// Package cli is the command dunlin: a file for each subcommand, which reads
// its flags, calls a library and prints. Start with Main.
//
// Its promise to scripts: the names of commands and flags, the JSON that
// --json prints and the exit status are kept from version to version. Status
// 0 is success, 1 a failure, 2 a wrong use of the command, 3 that model
// compress could not certify what was asked for; an error is one line "dunlin: error: …", then "dunlin: hint: …" where there is one.
//
// It computes nothing that a library of dunlin does not offer to others.
package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime"
	"runtime/debug"
	"strings"
	"syscall"

	"github.com/spf13/cobra"
)

// Exit statuses of the command.
const (
	statusOK          = 0
	statusFailed      = 1
	statusUsage       = 2
	statusUncertified = 3
)

// Main runs the command with args (without the program's name) and returns
// its exit status. SIGINT and SIGTERM end it in order.
func Main(args []string, stdout, stderr io.Writer) int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	return Run(ctx, args, stdout, stderr)
}

// Run is Main under a context of the caller's.
func Run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	root := newRoot()
	root.SetArgs(args)
	root.SetOut(stdout)
	root.SetErr(stderr)
	err := root.ExecuteContext(ctx)
	if err == nil {
		return statusOK
	}
	fmt.Fprintf(stderr, "dunlin: error: %v\n", err)
	if h := hintOf(err); h != "" {
		fmt.Fprintf(stderr, "dunlin: hint: %s\n", h)
	}
	var use usageError
	if errors.As(err, &use) || strings.HasPrefix(err.Error(), "unknown command") {
		return statusUsage
	}
	if errors.As(err, new(uncertifiedError)) {
		return statusUncertified
	}
	return statusFailed
}

func newRoot() *cobra.Command {
	root := &cobra.Command{
		Use:   "dunlin",
		Short: "Models and facts for small boards: compress, sign, roll out, watch",
		Long: `dunlin brings a neural network from a file to a fleet of small boards, with the
facts that explain its answers, and brings the answers back.

  dunlin demo      shows all of it on this machine, in a minute`,
		SilenceErrors: true,
		SilenceUsage:  true,
		Args:          cobra.NoArgs,
		RunE:          func(c *cobra.Command, _ []string) error { return c.Help() },
	}
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return usageError{err} })
	root.AddCommand(
		modelCommand(), trainCommand(), factsCommand(), fleetCommand(), agentCommand(), hubCommand(), imageCommand(), demoCommand(), initCommand(), versionCommand(),
	)
	wrapArgs(root)
	return root
}

// wrapArgs makes every complaint about positional arguments a usageError, and
// has a group without a subcommand show its help.
func wrapArgs(c *cobra.Command) {
	if check := c.Args; check != nil {
		c.Args = func(c *cobra.Command, args []string) error {
			if err := check(c, args); err != nil {
				return usageError{fmt.Errorf("%s: %w", c.CommandPath(), err)}
			}
			return nil
		}
	}
	for _, sub := range c.Commands() {
		wrapArgs(sub)
	}
}

// group makes a command that only holds others.
func group(use, short string, subs ...*cobra.Command) *cobra.Command {
	c := &cobra.Command{Use: use, Short: short, RunE: func(c *cobra.Command, args []string) error {
		if len(args) > 0 {
			return usageError{fmt.Errorf("%s has no command %q", c.CommandPath(), args[0])}
		}
		return c.Help()
	}}
	c.AddCommand(subs...)
	return c
}

// usageError is a wrong use of the command: exit status 2.
type usageError struct{ error }

func (e usageError) Unwrap() error { return e.error }

// Hint points to the help text.
func (e usageError) Hint() string { return "add --help to see how the command is used" }

// usagef makes a usageError.
func usagef(format string, a ...any) error { return usageError{fmt.Errorf(format, a...)} }

// hintError carries one sentence that says what to do next.
type hintError struct {
	error
	hint string
}

func (e hintError) Unwrap() error { return e.error }

// Hint returns the sentence.
func (e hintError) Hint() string { return e.hint }

// withHint adds a hint to err, nil stays nil.
func withHint(err error, format string, a ...any) error {
	if err == nil {
		return nil
	}
	return hintError{err, fmt.Sprintf(format, a...)}
}

func hintOf(err error) string {
	var h interface{ Hint() string }
	if errors.As(err, &h) {
		return h.Hint()
	}
	return ""
}

// printJSON writes v as indented JSON.
func printJSON(w io.Writer, v any) error {
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	e.SetEscapeHTML(false)
	return e.Encode(v)
}

func versionCommand() *cobra.Command {
	var asJSON bool
	c := &cobra.Command{
		Use:   "version",
		Short: "Print the version of this program",
		Args:  cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			v := buildVersion()
			if asJSON {
				return printJSON(c.OutOrStdout(), v)
			}
			_, err := fmt.Fprintf(c.OutOrStdout(), "dunlin %s (%s, %s)\n", v.Version, v.Go, v.OS)
			return err
		},
	}
	jsonFlag(c, &asJSON)
	return c
}

// Version is that of the program, set when it is built; "": what go build
// found out by itself.
var Version = ""

// versionInfo is what the version command prints.
type versionInfo struct {
	Version string `json:"version"`
	Commit  string `json:"commit,omitempty"`
	Go      string `json:"go"`
	OS      string `json:"os"`
}

func buildVersion() versionInfo {
	v := versionInfo{Version: "devel", Go: runtime.Version(), OS: runtime.GOOS + "/" + runtime.GOARCH}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return v
	}
	if info.Main.Version != "" {
		v.Version = info.Main.Version
	}
	if Version != "" {
		v.Version = Version
	}
	for _, s := range info.Settings {
		if s.Key == "vcs.revision" {
			v.Commit = s.Value
		}
	}
	return v
}

func jsonFlag(c *cobra.Command, to *bool) {
	c.Flags().BoolVar(to, "json", false, "print JSON, for scripts")
}
