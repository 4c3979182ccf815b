package cli

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"dunlin/firmware-tools/image"
	"dunlin/sync/wire"
)

// provisionFlags are those of image provision.
type provisionFlags struct {
	o                          image.Options
	format                     string
	claim, config, output      string
	keys                       []string
	wifiPassword, passwordHash string // files
	inPlace, json              bool
}

func imageProvisionCommand() *cobra.Command {
	var f provisionFlags
	c := &cobra.Command{
		Use:   "provision IMAGE",
		Short: "Put the agent and a claim into a Raspberry Pi OS image: it boots into the fleet",
		Long: `Provision takes the image of Raspberry Pi OS (Bookworm or Trixie, unpacked) and puts
onto its boot partition the agent, its configuration, and the claim with which the board
joins the fleet ("dunlin fleet enrol --claim"). The first boot installs them, and takes
the claim and every secret off the card again; what it did is then in
dunlin-first-boot.log there. It works on a copy; with --in-place on the image itself, or
on a card that was written already (IMAGE is its device, not mounted).

A claim on a card is good as long as its --ttl and for as many boards as its --count
says: whoever finds the card before its first boot has it, and nothing else. Overwriting
is no guarantee on flash: the claim's short life is.

Done twice, it replaces what it wrote. An image that it does not understand is refused
with what was seen, and not touched.`,
		Example: `  dunlin fleet enrol --claim --ttl 24h > claim.txt
  dunlin image provision raspios-trixie-arm64.img --deb dunlin-agent_arm64.deb --claim @claim.txt \
      --hostname door-1 --user ann --ssh-key ~/.ssh/id_ed25519.pub --wifi Barn --wifi-password-file wifi.txt --wifi-country DE
  sudo dunlin image provision /dev/sdX --in-place --agent dist/linux-arm64/dunlin-agent --claim @claim.txt`,
		Args: cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			f.o.Image = args[0]
			if err := f.read(); err != nil {
				return err
			}
			return f.run(c)
		},
	}
	l := c.Flags()
	l.StringVar(&f.o.Agent, "agent", "", "the agent's program for the board (make build)")
	l.StringVar(&f.o.Deb, "deb", "", "the agent's Debian package for the board (dunlin image deb)")
	l.StringVar(&f.claim, "claim", "", "the line of dunlin fleet enrol --claim, or @FILE that holds it")
	l.StringVar(&f.config, "config", "", "the agent's configuration, in place of the package's own")
	l.StringVar(&f.format, "format", "auto", "way of the first boot: auto, bookworm (firstrun.sh) or trixie (cloud-init)")
	l.StringVar(&f.o.Settings.Hostname, "hostname", "", "name of the host, and of the device where the claim names none")
	l.StringVar(&f.o.Settings.User, "user", "", "name of the account")
	l.StringArrayVar(&f.keys, "ssh-key", nil, "file with a public key that may log in; may be repeated")
	l.StringVar(&f.passwordHash, "password-hash-file", "", "file with the account's password, as openssl passwd -6 writes it")
	l.StringVar(&f.o.Settings.WiFi.SSID, "wifi", "", "name of the Wi-Fi")
	l.StringVar(&f.wifiPassword, "wifi-password-file", "", "file with its password; its derived key goes onto the card")
	l.StringVar(&f.o.Settings.WiFi.Country, "wifi-country", "", "where it is: DE, GB, US, …")
	l.BoolVar(&f.o.Settings.WiFi.Hidden, "wifi-hidden", false, "it does not say its name")
	l.StringVarP(&f.output, "output", "o", "", "the new image (default: IMAGE with -dunlin before its ending)")
	l.BoolVar(&f.inPlace, "in-place", false, "write to IMAGE itself")
	l.BoolVar(&f.o.DryRun, "dry-run", false, "check everything and say what would be written")
	jsonFlag(c, &f.json)
	return c
}

// read reads the files that the flags name.
func (f *provisionFlags) read() error {
	if (f.o.Agent == "") == (f.o.Deb == "") {
		return usagef("give the agent with --agent or --deb, one of them")
	}
	if f.inPlace && f.output != "" {
		return usagef("--in-place writes to no other file: leave --output out")
	}
	f.o.Format = image.Format(f.format)
	var err error
	if f.claim != "" {
		if f.o.Token, err = readClaim(f.claim); err != nil {
			return err
		}
	}
	if f.config != "" {
		if f.o.Config, err = os.ReadFile(f.config); err != nil {
			return err
		}
	}
	s := &f.o.Settings
	for _, file := range f.keys {
		text, err := os.ReadFile(file)
		if err != nil {
			return err
		}
		for line := range strings.Lines(string(text)) {
			if line = strings.TrimSpace(line); line != "" && line[0] != '#' {
				s.SSHKeys = append(s.SSHKeys, line)
			}
		}
	}
	for file, to := range map[string]*string{f.wifiPassword: &s.WiFi.Password, f.passwordHash: &s.PasswordHash} {
		if file == "" {
			continue
		}
		text, err := os.ReadFile(file)
		if err != nil {
			return err
		}
		*to = strings.TrimRight(string(text), "\r\n")
	}
	return nil
}

func (f *provisionFlags) run(c *cobra.Command) error {
	from := f.o.Image
	if !f.inPlace && !f.o.DryRun {
		if err := f.copy(c.Context(), c); err != nil {
			return err
		}
	}
	b := newBar(c.ErrOrStderr(), "write", 1)
	f.o.Progress = func(done, total int64) { b.set(int(done), int(total)) }
	r, err := image.Provision(f.o)
	b.done()
	if err != nil {
		if f.o.Image != from { // nobody asked for a copy without the agent
			err = errors.Join(err, os.Remove(f.o.Image))
		}
		return f.hinted(err)
	}
	if f.json {
		return printJSON(c.OutOrStdout(), struct {
			Image string `json:"image"`
			image.Report
		}{f.o.Image, r})
	}
	w := c.OutOrStdout()
	fmt.Fprintf(w, "%s: %s, first boot by %s\n", f.o.Image, r.System.Name, map[image.Format]string{image.Bookworm: "firstrun.sh", image.Trixie: "cloud-init"}[r.Format])
	for _, file := range r.Files {
		fmt.Fprintf(w, "  %-24s %s\n", file.Name, bytesText(file.Bytes))
	}
	for _, n := range r.Notes {
		fmt.Fprintf(c.ErrOrStderr(), "note: %s\n", n)
	}
	if f.o.DryRun {
		fmt.Fprintln(w, "nothing was written: --dry-run")
	}
	return nil
}

// copy makes the new image, once the old one was understood.
func (f *provisionFlags) copy(ctx context.Context, c *cobra.Command) error {
	dry := f.o
	dry.DryRun = true
	if _, err := image.Provision(dry); err != nil {
		return f.hinted(err)
	}
	to := f.output
	if to == "" {
		ext := filepath.Ext(f.o.Image)
		to = strings.TrimSuffix(f.o.Image, ext) + "-dunlin" + ext
	}
	b := newBar(c.ErrOrStderr(), "copy", 1)
	err := image.Copy(ctx, f.o.Image, to, func(done, total int64) { b.set(int(done>>20), int(total>>20)) })
	b.done()
	if err != nil {
		return f.hinted(err)
	}
	f.o.Image = to
	return nil
}

// hinted gives an image's error the hint that it carries.
func (f *provisionFlags) hinted(err error) error {
	if e, ok := errors.AsType[*image.Error](err); ok && e.Hint != "" {
		return withHint(err, "%s", e.Hint)
	}
	if info, statErr := os.Stat(f.o.Image); statErr == nil && info.Mode()&fs.ModeDevice != 0 && errors.Is(err, fs.ErrPermission) {
		return withHint(err, "a card's device needs root: sudo dunlin image provision …")
	}
	return err
}

// readClaim reads a claim or a token from an argument: the line itself, or
// @FILE.
func readClaim(arg string) (string, error) {
	text := arg
	if file, isFile := strings.CutPrefix(arg, "@"); isFile {
		data, err := os.ReadFile(file)
		if err != nil {
			return "", err
		}
		text = string(data)
	}
	line := strings.TrimSpace(text)
	var err error
	if wire.IsClaim(line) {
		_, err = wire.ParseClaim(line)
	} else {
		_, err = wire.ParseToken(line)
	}
	if bad, ok := errors.AsType[*wire.TokenError](err); ok {
		return "", withHint(err, "%s", bad.Hint)
	}
	return line, err
}
