package deb

import (
	"bytes"
	"compress/gzip"
	"fmt"
	"strings"
	"time"

	"dunlin/firmware-tools/files"
)

// Options is what Agent and Hub cannot know from a binary.
type Options struct {
	Version    string // as the program has it: 1.2.0, v1.2.0-rc1
	Maintainer string // NAME <ADDRESS>; "": Maintainer
	Time       time.Time
	// Config, where not nil, is /etc/dunlin/agent.toml, or hub.env, in place
	// of the one to start with.
	Config []byte
	// Completions are the hub's, by shell: bash, zsh, fish.
	Completions map[string][]byte
}

// Maintainer is that of a package for which nobody else is named.
const Maintainer = "dunlin maintainers <maintainers@dunlin.invalid>"

// Version turns a version as programs have it into one that Debian compares
// rightly: 1.2.0-rc1 comes before 1.2.0, so it is 1.2.0~rc1.
func Version(v string) string {
	return strings.ReplaceAll(strings.TrimPrefix(v, "v"), "-", "~")
}

// Agent makes the package of the agent: its service is running, and waits to
// be enrolled, when it is installed.
func Agent(b Binary, o Options) *Package {
	p := &Package{
		Name: "dunlin-agent", Depends: "passwd, systemd",
		Summary: "edge inference agent: answers pictures, sounds and numbers with a model",
		Text: `It takes frames from cameras, programs, a watched folder, HTTP or MQTT, answers
them with the model that its hub gave it, adds facts, and keeps every result
until the hub has it. It works on when the hub is away.

Enrol this board with the line that the hub printed:
dunlin-agent install LINE
`,
		Scripts: scripts("agent"),
		Files: []File{
			{Path: "/usr/bin/dunlin-agent", Mode: 0o755, Data: b.data},
			{Path: "/usr/libexec/dunlin-agent/setup", Mode: 0o755, Data: files.Read("agent/setup")},
			{Path: "/usr/lib/systemd/system/dunlin-agent.service", Mode: 0o644, Data: files.Read("agent/dunlin-agent.service")},
			{Path: "/etc/dunlin/agent.toml", Mode: 0o644, Data: o.config("agent/agent.toml"), Config: true},
		},
	}
	return p.finish(b, o, map[string][]byte{
		"bash": []byte(files.AgentBash), "zsh": []byte(files.AgentZsh), "fish": []byte(files.AgentFish),
	})
}

// Hub makes the package of everything a person runs, with the hub as a service
// that listens on the machine itself until hub.env says otherwise.
func Hub(b Binary, o Options) *Package {
	p := &Package{
		Name: "dunlin-hub", Depends: "passwd, systemd",
		Summary: "models and facts for a fleet of small boards: the hub and its tools",
		Text: `It compresses, signs and rolls out neural networks, with the facts that explain
their answers, and collects the answers. The hub is a broker, a registry, a
store of results and a page in one program.
`,
		Scripts: scripts("hub"),
		Files: []File{
			{Path: "/usr/bin/dunlin", Mode: 0o755, Data: b.data},
			{Path: "/usr/lib/systemd/system/dunlin-hub.service", Mode: 0o644, Data: files.Read("hub/dunlin-hub.service")},
			{Path: "/etc/dunlin/hub.env", Mode: 0o644, Data: o.config("hub/hub.env"), Config: true},
		},
	}
	return p.finish(b, o, o.Completions)
}

func (o *Options) config(name string) []byte {
	if o.Config != nil {
		return o.Config
	}
	return files.Read(name)
}

func scripts(folder string) map[string][]byte {
	out := map[string][]byte{}
	for _, name := range []string{"postinst", "prerm", "postrm"} {
		out[name] = files.Read(folder + "/" + name)
	}
	return out
}

// finish adds what every package has.
func (p *Package) finish(b Binary, o Options, completions map[string][]byte) *Package {
	p.Version, p.Arch, p.Time = Version(o.Version), b.Arch, o.Time
	p.Section = "science"
	if p.Maintainer = o.Maintainer; p.Maintainer == "" {
		p.Maintainer = Maintainer
	}
	changes := fmt.Sprintf("%s (%s) unstable; urgency=medium\n\n  * dunlin %s; its CHANGELOG.md says what changed.\n\n -- %s  %s\n",
		p.Name, p.Version, o.Version, p.Maintainer, o.Time.UTC().Format(time.RFC1123Z))
	manual, doc := "agent/dunlin-agent.1", "/usr/share/doc/"+p.Name+"/"
	if b.Program == "dunlin" {
		manual = "hub/dunlin.1"
	}
	p.Files = append(p.Files,
		File{Path: doc + "copyright", Mode: 0o644, Data: files.Read("copyright")},
		File{Path: doc + "changelog.gz", Mode: 0o644, Data: zipped([]byte(changes))},
		File{Path: "/usr/share/man/man1/" + b.Program + ".1.gz", Mode: 0o644, Data: zipped(files.Read(manual))},
		File{Path: "/usr/share/lintian/overrides/" + p.Name, Mode: 0o644, Data: overrides(p.Name, b.Program)},
	)
	for shell, path := range map[string]string{
		"bash": "/usr/share/bash-completion/completions/" + b.Program,
		"zsh":  "/usr/share/zsh/vendor-completions/_" + b.Program,
		"fish": "/usr/share/fish/vendor_completions.d/" + b.Program + ".fish",
	} {
		if text := completions[shell]; text != nil {
			p.Files = append(p.Files, File{Path: path, Mode: 0o644, Data: text})
		}
	}
	return p
}

// overrides says why a rule of lintian's is not followed. A program without
// cgo is one static file, on purpose.
func overrides(name, program string) []byte {
	return fmt.Appendf(nil, "# One file that needs nothing of the system, so that it runs on every board.\n%s: statically-linked-binary [usr/bin/%s]\n", name, program)
}

func zipped(data []byte) []byte {
	var b bytes.Buffer
	w, _ := gzip.NewWriterLevel(&b, gzip.BestCompression) // fails only for an unknown level
	_, _ = w.Write(data)                                  // a bytes.Buffer takes everything
	_ = w.Close()
	return b.Bytes()
}
