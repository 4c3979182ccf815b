package cli

import (
	"bytes"
	"debug/buildinfo"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"dunlin/firmware-tools/deb"
	"dunlin/internal/oci"
	"dunlin/internal/release"
	"dunlin/internal/sign"
	"dunlin/model/pack"
	"dunlin/sync/wire"
)

func agentCommand() *cobra.Command {
	return group("agent", "Pack, sign and register releases of the agent, for rollouts",
		agentPackCommand(), agentSignCommand(), agentPushCommand())
}

func agentPackCommand() *cobra.Command {
	var c release.Config
	var out string
	cmd := &cobra.Command{
		Use:   "pack FILE|DIR... --version V -o RELEASE",
		Short: "Pack the agent's binaries of all platforms as one release",
		Long: `Pack makes an OCI layout with one binary of dunlin-agent for each platform; of a folder
it takes every file of that name. A binary says itself what it was built for. The version
must be the one that the binaries were built with: a device refuses one that says another.`,
		Example: `  dunlin agent pack dist --version 0.2.0 -o agent-0.2.0
  dunlin agent pack dist --version 0.2.0 --from 0.1.0 -o agent-0.2.0`,
		Args: cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if c.Version == "" || out == "" {
				return usagef("say which version, and where to: --version V -o RELEASE")
			}
			if _, err := c.Check(); err != nil {
				return usageError{err}
			}
			files, err := agentFiles(args)
			if err != nil {
				return err
			}
			binaries, err := readBinaries(files, c.Version)
			if err != nil {
				return err
			}
			l, err := oci.Create(out)
			if err != nil {
				return err
			}
			d, err := release.Write(l, c, binaries)
			if err != nil {
				return err
			}
			for _, b := range binaries {
				fmt.Fprintf(cmd.OutOrStdout(), "%s\n", b.Platform)
			}
			_, err = fmt.Fprintf(cmd.OutOrStdout(), "%s: dunlin-agent %s, %s\nnext: dunlin agent sign %s --key FILE\n", out, c.Version, d.Digest, out)
			return err
		},
	}
	f := cmd.Flags()
	f.StringVar(&c.Version, "version", "", "version of the release, MAJOR.MINOR.PATCH")
	f.StringVarP(&out, "output", "o", "", "folder of the release")
	f.StringVar(&c.From, "from", "", "lowest version that this one may follow (default: any)")
	f.BoolVar(&c.AllowDowngrade, "allow-downgrade", false, "let devices that had a newer version take it")
	return cmd
}

// agentFiles returns the files that were named, and in folders those of the
// agent's name.
func agentFiles(args []string) (files []string, err error) {
	for _, arg := range args {
		info, err := os.Stat(arg)
		if err != nil {
			return nil, err
		}
		if !info.IsDir() {
			files = append(files, arg)
			continue
		}
		found := 0
		err = filepath.WalkDir(arg, func(path string, d fs.DirEntry, err error) error {
			if err == nil && d.Type().IsRegular() && d.Name() == release.Name {
				files, found = append(files, path), found+1
			}
			return err
		})
		if err != nil {
			return nil, err
		}
		if found == 0 {
			return nil, withHint(fmt.Errorf("%s: no file %s in it", arg, release.Name), "make build writes one for each platform to dist/")
		}
	}
	return files, nil
}

// readBinaries reads the agent's binaries, by platform.
func readBinaries(files []string, version string) ([]release.Binary, error) {
	var all []release.Binary
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			return nil, err
		}
		platform, err := agentPlatform(data)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", file, err)
		}
		if slices.ContainsFunc(all, func(b release.Binary) bool { return b.Platform == platform }) {
			return nil, fmt.Errorf("%s: another file is for %s too", file, platform)
		}
		if err := checkVersion(file, data, platform, version); err != nil {
			return nil, withHint(fmt.Errorf("%s, for %s: %w", file, platform, err), "build it so: make build VERSION=%s, or with -ldflags \"-X dunlin/agent.Version=%[1]s\"", version)
		}
		all = append(all, release.Binary{Platform: platform, Content: bytes.NewReader(data)})
	}
	slices.SortFunc(all, func(a, b release.Binary) int { return strings.Compare(a.Platform, b.Platform) })
	return all, nil
}

// checkVersion holds that a binary was built with that version. The one for
// this machine can be asked.
func checkVersion(file string, data []byte, platform, version string) error {
	if !deb.SetTo(data, version) {
		return fmt.Errorf("it was not built with version %s", version)
	}
	if platform != release.Platform() {
		return nil
	}
	path, err := filepath.Abs(file) // a bare name would be looked for on the PATH
	if err != nil {
		return err
	}
	said, err := exec.Command(path, "version").Output()
	if err != nil {
		return fmt.Errorf("its command version: %w", err)
	}
	if !strings.HasPrefix(string(said), release.Name+" "+version+" ") {
		return fmt.Errorf("it says %q, not version %s", bytes.TrimSpace(said), version)
	}
	return nil
}

// agentPlatform reads from a binary what it was built for.
func agentPlatform(data []byte) (string, error) {
	info, err := buildinfo.Read(bytes.NewReader(data))
	if err != nil {
		return "", err
	}
	platform := release.PlatformOf(info)
	if platform == "" || filepath.Base(info.Path) != release.Name {
		return "", fmt.Errorf("it was built from %q for %q, which is not the agent", info.Path, platform)
	}
	return platform, nil
}

func agentSignCommand() *cobra.Command {
	var keyFile string
	c := &cobra.Command{
		Use:   "sign RELEASE --key FILE",
		Short: "Sign a release of the agent",
		Long: `Sign writes an Ed25519 signature over the manifest's digest beside the manifest. The
key is one of those that sign models (dunlin model sign --make-key); the signature is for
another purpose, so neither can be passed off as the other.`,
		Example: `  dunlin agent sign agent-0.2.0 --key release.pem`,
		Args:    cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			if keyFile == "" {
				return usagef("say which key: --key FILE")
			}
			key, err := sign.ReadPrivate(keyFile)
			if errors.Is(err, os.ErrNotExist) {
				return withHint(err, "make a key pair with: dunlin model sign --make-key --key %s", keyFile)
			}
			if err != nil {
				return err
			}
			l, d, r, err := openRelease(args[0])
			if err != nil {
				return err
			}
			if err := l.Verify(d); err != nil {
				return err
			}
			if err := pack.AddSignature(l, string(d), key.Sign(wire.OfferAgent.Purpose(), []byte(d))); err != nil {
				return err
			}
			_, err = fmt.Fprintf(c.OutOrStdout(), "%s: dunlin-agent %s, %s signed with key %s\n", args[0], r.Version, d, key.Public().ID())
			return err
		},
	}
	c.Flags().StringVar(&keyFile, "key", "", "private key file (PEM, PKCS #8, readable by its owner only)")
	return c
}

// openRelease opens the layout in dir and the release that was put into it
// last.
func openRelease(dir string) (l *oci.Layout, d oci.Digest, r release.Release, err error) {
	if l, err = oci.Open(dir); err != nil {
		return l, d, r, err
	}
	x, err := l.Index()
	if err != nil {
		return l, d, r, err
	}
	for _, e := range slices.Backward(x.Manifests) {
		if e.ArtifactType == release.ArtifactType {
			r, err = release.Read(l, e.Digest)
			return l, e.Digest, r, err
		}
	}
	return l, d, r, withHint(fmt.Errorf("%s: %w", dir, release.ErrRelease), "make one with: dunlin agent pack DIR --version V -o %s", dir)
}

func agentPushCommand() *cobra.Command {
	var hub hubFlags
	var asJSON bool
	c := &cobra.Command{
		Use:   "push RELEASE",
		Short: "Send a signed release of the agent to the hub's registry",
		Long: `Push sends the binaries of RELEASE that the hub has not, then registers the release. No
device gets it before a rollout: dunlin fleet rollout dunlin-agent VERSION.`,
		Example: `  dunlin agent push agent-0.2.0 --token-file hub/admin.token
  dunlin fleet rollout dunlin-agent 0.2.0 --canary 1`,
		Args: cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			api, err := hub.client()
			if err != nil {
				return err
			}
			l, d, r, err := openRelease(args[0])
			if err != nil {
				return err
			}
			sig, ok := pack.Signature(l, string(d))
			if !ok {
				return withHint(fmt.Errorf("push %s: the release is not signed", args[0]), "dunlin agent sign %s --key FILE", args[0])
			}
			b := newBar(c.ErrOrStderr(), "sending", 1)
			sent, err := pushPack(c.Context(), api, l, string(d), sig, b.set)
			b.done()
			if err != nil {
				return err
			}
			if asJSON {
				return printJSON(c.OutOrStdout(), map[string]any{"name": release.Name, "version": r.Version, "digest": d, "bytes_sent": sent})
			}
			_, err = io.WriteString(c.OutOrStdout(), fmt.Sprintf("%s %s registered (%s, %s sent)\n", release.Name, r.Version, d, bytesText(sent)))
			return err
		},
	}
	hub.register(c)
	jsonFlag(c, &asJSON)
	return c
}
