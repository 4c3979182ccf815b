package image

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/BurntSushi/toml"

	"dunlin/firmware-tools/deb"
	"dunlin/sync/wire"
)

// System is what an image holds, as far as it can be seen.
type System struct {
	Name        string   `json:"name,omitempty"`     // "Debian GNU/Linux 12 (bookworm)"
	Codename    string   `json:"codename,omitempty"` // "bookworm"
	Arch        string   `json:"arch,omitempty"`     // Debian's word: arm64 or armhf
	RaspberryPi bool     `json:"raspberry_pi"`       // its kernel's command line is in cmdline.txt
	CloudInit   bool     `json:"cloud_init"`
	Boot        []string `json:"boot"`           // files of the boot partition's root
	Root        string   `json:"root,omitempty"` // why the root file system could not be read
	FirstRun    bool     `json:"first_run"`      // somebody's firstrun.sh is there
	Prepared    bool     `json:"prepared"`       // Provision was here before
}

// String says in one line what was seen.
func (s System) String() string {
	name := s.Name
	if name == "" {
		name = "a system without a name"
		if s.Root != "" {
			name = "a root file system that cannot be read (" + s.Root + ")"
		}
	}
	if s.Arch != "" {
		name += " for " + s.Arch
	}
	boot := strings.Join(s.Boot[:min(len(s.Boot), 12)], " ")
	if len(s.Boot) > 12 {
		boot += fmt.Sprintf(" and %d more", len(s.Boot)-12)
	}
	return fmt.Sprintf("%s; on its boot partition: %s", name, boot)
}

func (d *opened) system() System {
	s := System{
		Boot: slices.Clone(d.names), RaspberryPi: d.has(nameKernel) && d.has("config.txt"),
		CloudInit: d.has(nameUser) && d.has(nameMeta), Prepared: d.has(nameScript),
	}
	if run, err := d.read(nameRun); err == nil {
		s.FirstRun = theirs(run) != nil
	}
	if d.root == nil {
		s.Root = d.why.Error()
		return s
	}
	if err := guarded(func() error { return d.lookIntoRoot(&s) }); err != nil {
		s.Root = err.Error()
	}
	return s
}

// lookIntoRoot reads what the root file system says of itself. Its paths have
// no leading slash, and links are not followed.
func (d *opened) lookIntoRoot(s *System) error {
	release, err := d.root.ReadFile("usr/lib/os-release")
	if err != nil {
		return fmt.Errorf("usr/lib/os-release: %w", err)
	}
	if len(release) > maxRead {
		return errors.New("usr/lib/os-release is too long")
	}
	for line := range strings.Lines(string(release)) {
		key, value, _ := strings.Cut(strings.TrimSpace(line), "=")
		value = strings.Trim(value, `"'`)
		switch key {
		case "PRETTY_NAME":
			s.Name = value
		case "VERSION_CODENAME":
			s.Codename = value
		}
	}
	has := func(name string) bool {
		entries, err := d.root.ReadDir(path.Dir(name))
		if err != nil {
			return false
		}
		for _, e := range entries {
			if e.Name() == path.Base(name) {
				return true
			}
		}
		return false
	}
	s.CloudInit = s.CloudInit || has("usr/bin/cloud-init")
	switch {
	case has("usr/lib/ld-linux-aarch64.so.1"):
		s.Arch = "arm64"
	case has("usr/lib/ld-linux-armhf.so.3"):
		s.Arch = "armhf"
	}
	return nil
}

// check refuses options that make no sense for any image.
func (o *Options) check() error {
	if (o.Agent == "") == (o.Deb == "") {
		return refuse("", "program or package: give one of them")
	}
	if len(o.Config) > maxRead {
		return refuse("", "configuration of %d bytes, at most %d", len(o.Config), maxRead)
	}
	if o.Token != "" {
		if err := checkToken(o.Token); err != nil {
			return err
		}
	}
	if err := o.checkConfig(); err != nil {
		return err
	}
	return o.Settings.check()
}

// stateDir is where the first boot puts the token, and the agent's unit lets
// it write.
const stateDir = "/var/lib/dunlin"

// checkConfig holds that the agent will find its token. The rest of the file
// is the agent's to check: dunlin-agent check.
func (o *Options) checkConfig() error {
	c := struct {
		StateDir string `toml:"state_dir"`
		Hub      struct {
			Token     string `toml:"token"`
			TokenFile string `toml:"token_file"`
		} `toml:"hub"`
	}{StateDir: stateDir}
	if _, err := toml.Decode(string(o.Config), &c); err != nil {
		return refuse("try it: dunlin-agent check -config FILE", "configuration: %w", err)
	}
	switch {
	case path.Clean(c.StateDir) != stateDir:
		return refuse("leave state_dir out: the agent's service may write to "+stateDir+" alone", "configuration: state_dir is %.80q", c.StateDir)
	case o.Token != "" && (c.Hub.Token != "" || c.Hub.TokenFile != ""):
		return refuse("leave token and token_file out of [hub]: the claim is put where the agent looks for it", "configuration: it names a token, and there is a claim")
	}
	return nil
}

func checkToken(line string) error {
	var address string
	if wire.IsClaim(line) {
		c, err := wire.ParseClaim(line)
		if err != nil {
			return err
		}
		if time.Now().After(c.NotAfter) {
			return refuse("make a new one: dunlin fleet enrol --claim --ttl 720h", "claim %s ended at %s", c.ID(), c.NotAfter.Format(time.RFC3339))
		}
		address = c.HTTP
	} else {
		t, err := wire.ParseToken(line)
		if err != nil {
			return err
		}
		address = t.HTTP
	}
	if matches(loopback, address) {
		return refuse("start the hub for the network, dunlin hub --lan HOST, and make the claim anew",
			"the hub's address is %s: that is the board itself, seen from a board", address)
	}
	return nil
}

const loopback = `^https?://(127\.|localhost\b|\[::1\])`

// program reads the agent, and holds that it is the agent, for the image's
// architecture.
func (o *Options) program(s System) (f file, err error) {
	var arch, from string
	if o.Deb != "" {
		f.name, from = nameDeb, o.Deb
		f.data, arch, err = readDeb(from)
	} else {
		f.name, from = nameAgent, o.Agent
		f.data, arch, err = readAgent(from)
	}
	if err != nil {
		return file{}, err
	}
	if s.Arch != "" && arch != s.Arch {
		return file{}, refuse("take the one for "+s.Arch, "%s is for %s, the image for %s", from, arch, s.Arch)
	}
	if arch != "arm64" && arch != "armhf" {
		return file{}, refuse("give the agent for arm64 or armhf", "%s is for %s, which no Raspberry Pi runs", from, arch)
	}
	return f, nil
}

// agentName is what the agent and its package are called.
const agentName = "dunlin-agent"

// readAgent returns the agent's program, and Debian's word for its architecture.
func readAgent(from string) (data []byte, arch string, err error) {
	b, err := deb.Identify(from)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrPermission) {
		return nil, "", err
	}
	if err != nil {
		return nil, "", refuse("give the agent for Linux: make build, dist/linux-arm64/dunlin-agent", "%w", err)
	}
	if b.Program != agentName {
		return nil, "", refuse("give the one beside it: dunlin-agent", "%s is %s, not the agent", from, b.Program)
	}
	return b.Data(), b.Arch, nil
}

// maxDeb bounds a package, in bytes.
const maxDeb = 512 << 20

// readDeb returns the agent's package, and its architecture.
func readDeb(from string) (data []byte, arch string, err error) {
	info, err := os.Stat(from)
	if err != nil {
		return nil, "", err
	}
	if info.Size() > maxDeb {
		return nil, "", refuse("", "%s: %d bytes, more than %d", from, info.Size(), int64(maxDeb))
	}
	if data, err = os.ReadFile(from); err != nil {
		return nil, "", err
	}
	c, err := deb.ReadControl(data)
	if err != nil {
		return nil, "", refuse("make the agent's package: dunlin image deb dist/linux-arm64/dunlin-agent", "%s: %w", from, err)
	}
	if c.Package != agentName {
		return nil, "", refuse("give the package dunlin-agent", "%s is the package %s, not the agent's", from, c.Package)
	}
	return data, c.Arch, nil
}

// notes are what a person should know before the card is used.
func (o *Options) notes(s System, now time.Time) (notes []string) {
	switch {
	case o.Token == "":
		notes = append(notes, "no claim: the agent will work without a hub until it is given a line")
	case wire.IsClaim(o.Token):
		if c, err := wire.ParseClaim(o.Token); err == nil {
			notes = append(notes, fmt.Sprintf("the claim is good for %v, until %s: the board must have reached the hub by then",
				c.NotAfter.Sub(now).Round(time.Minute), c.NotAfter.Format(time.RFC3339)))
		}
	default:
		notes = append(notes, "the line is a token, which does not end: a claim is safer on a card")
	}
	if s.Root != "" {
		notes = append(notes, "the root file system could not be read, so the architecture is not checked: "+s.Root)
	}
	if s.FirstRun {
		notes = append(notes, "a firstrun.sh of another program is kept, and runs first")
	}
	return notes
}
