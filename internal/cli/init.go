package cli

import (
	"embed"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"
)

// scaffold is what dunlin init writes.
//
//go:embed scaffold
var scaffold embed.FS

func initCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "init DIR",
		Short: "Write the files to start from with a model of your own",
		Long: `Init writes DIR with a prep.toml (how a picture becomes the network's input, every
field explained), labels.txt, entities.csv (which entity a label means), facts.nt, and
a README.md with the commands from there to a running fleet. It overwrites nothing.`,
		Example: `  dunlin init mine`,
		Args:    cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			files, err := fs.Sub(scaffold, "scaffold")
			if err != nil {
				return err
			}
			if err := os.CopyFS(args[0], files); err != nil {
				return withHint(fmt.Errorf("init %s: %w", args[0], err), "init overwrites nothing: give a folder that has none of its files")
			}
			_, err = fmt.Fprintf(c.OutOrStdout(), "%s: prep.toml, labels.txt, entities.csv, facts.nt\nread %s for what comes next\n",
				args[0], filepath.Join(args[0], "README.md"))
			return err
		},
	}
}
