package cli

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"dunlin/firmware-tools/deb"
	"dunlin/internal/durable"
)

// madeDeb is what --json prints of a package.
type madeDeb struct {
	File    string `json:"file"`
	Package string `json:"package"`
	Version string `json:"version"`
	Arch    string `json:"arch"`
	Bytes   int    `json:"bytes"`
	SHA256  string `json:"sha256"`
}

func imageDebCommand() *cobra.Command {
	var (
		o           deb.Options
		out, config string
		asJSON      bool
	)
	c := &cobra.Command{
		Use:   "deb BINARY...",
		Short: "Make Debian packages of dunlin-agent and dunlin",
		Long: `Deb packs programs that were built already (make build, or a release) for Debian,
Ubuntu, Raspberry Pi OS and L4T: dunlin-agent of a dunlin-agent, dunlin-hub of a dunlin,
for the architecture that the binary has. It needs nothing else, and makes the same
bytes of the same binary: the time in a package is $SOURCE_DATE_EPOCH, or that of the
binary's file.

--config puts a configuration of yours into the agent's package, for a fleet whose
boards all begin with the same one. A token belongs in no package: enrol each board.`,
		Example: `  dunlin image deb dist/linux-arm64/dunlin-agent -o dist
  dunlin image deb dist/*/dunlin-agent --config agent.toml -o dist --version 1.2.0`,
		Args: cobra.MinimumNArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			o.Completions = completionScripts(c.Root())
			var all []*deb.Package
			seen := map[string]string{}
			for _, path := range args {
				p, err := debOf(path, config, o)
				if err != nil {
					return err
				}
				if other := seen[p.FileName()]; other != "" {
					return usagef("%s and %s are both %s: give one of them", other, path, p.FileName())
				}
				seen[p.FileName()] = path
				all = append(all, p)
			}
			if err := os.MkdirAll(out, 0o755); err != nil {
				return err
			}
			var made []madeDeb
			for _, p := range all {
				m, err := writeDeb(out, p)
				if err != nil {
					return err
				}
				made = append(made, m)
				if !asJSON {
					fmt.Fprintf(c.OutOrStdout(), "%s  %d bytes  sha256:%s\n", m.File, m.Bytes, m.SHA256)
				}
			}
			if asJSON {
				return printJSON(c.OutOrStdout(), made)
			}
			return nil
		},
	}
	f := c.Flags()
	f.StringVarP(&out, "output", "o", ".", "folder for the packages")
	f.StringVar(&o.Version, "version", buildVersion().Version, "version of the binaries")
	f.StringVar(&o.Maintainer, "maintainer", deb.Maintainer, "who answers for the packages")
	f.StringVar(&config, "config", "", "file to become /etc/dunlin/agent.toml")
	jsonFlag(c, &asJSON)
	return c
}

// debOf makes the package of a binary.
func debOf(path, config string, o deb.Options) (*deb.Package, error) {
	b, err := deb.Identify(path)
	if err != nil {
		return nil, err
	}
	if !b.HasVersion(o.Version) || strings.HasPrefix(o.Version, "(") { // "(devel)" is Go's word for none
		return nil, withHint(fmt.Errorf("%s is not of version %s", path, o.Version), "give --version as make build had it: %s version prints it", b.Program)
	}
	if o.Time, err = sourceDate(path); err != nil {
		return nil, err
	}
	if b.Program == "dunlin" {
		return deb.Hub(b, o), nil
	}
	if config != "" {
		if o.Config, err = os.ReadFile(config); err != nil {
			return nil, err
		}
	}
	return deb.Agent(b, o), nil
}

// sourceDate is the time that files of a package have:
// https://reproducible-builds.org/specs/source-date-epoch/
func sourceDate(path string) (time.Time, error) {
	if text := os.Getenv("SOURCE_DATE_EPOCH"); text != "" {
		sec, err := strconv.ParseUint(text, 10, 62)
		if err != nil {
			return time.Time{}, fmt.Errorf("SOURCE_DATE_EPOCH: %q is no number of seconds", text)
		}
		return time.Unix(int64(sec), 0), nil
	}
	info, err := os.Stat(path)
	if err != nil {
		return time.Time{}, err
	}
	return info.ModTime(), nil
}

func writeDeb(dir string, p *deb.Package) (madeDeb, error) {
	var b bytes.Buffer
	if err := p.Write(&b); err != nil {
		return madeDeb{}, err
	}
	file := filepath.Join(dir, p.FileName())
	if err := durable.WriteFile(file, b.Bytes(), 0o644); err != nil {
		return madeDeb{}, err
	}
	return madeDeb{file, p.Name, p.Version, p.Arch, b.Len(), fmt.Sprintf("%x", sha256.Sum256(b.Bytes()))}, nil
}

// completionScripts are those of this very program, by shell.
func completionScripts(root *cobra.Command) map[string][]byte {
	var bash, zsh, fish bytes.Buffer
	// A bytes.Buffer takes everything.
	_ = root.GenBashCompletionV2(&bash, true)
	_ = root.GenZshCompletion(&zsh)
	_ = root.GenFishCompletion(&fish, true)
	return map[string][]byte{"bash": bash.Bytes(), "zsh": zsh.Bytes(), "fish": fish.Bytes()}
}
