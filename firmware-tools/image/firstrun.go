package image

import (
	"fmt"
	"strings"
)

// runWords are what starts firstrun.sh, as Raspberry Pi Imager writes it. With
// the path of Bookworm's mount point, raspberrypi-sys-mods has nothing to mend
// (its initramfs script imager_fixup).
const runWords = "systemd.run=/boot/firmware/firstrun.sh systemd.run_success_action=reboot systemd.unit=kernel-command-line.target"

func isRunWord(word string) bool {
	return strings.HasPrefix(word, "systemd.run=") || strings.HasPrefix(word, "systemd.run_") || word == "systemd.unit=kernel-command-line.target"
}

// firstRun returns the files of a Bookworm: firstrun.sh, and the kernel's
// command line that names it.
func (d *opened) firstRun(s Settings) ([]file, error) {
	kernel, err := d.read(nameKernel)
	if err != nil {
		return nil, err
	}
	if len(kernel) == 0 {
		return nil, refuse("", "boot partition of %s has no %s", d.path, nameKernel)
	}
	old, err := d.read(nameRun)
	if err != nil {
		return nil, err
	}
	other := theirs(old)
	if other == nil { // kept at an earlier time
		if old, err = d.read(nameTheirs); err != nil {
			return nil, err
		}
		other = theirs(old)
	}
	if len(other) > 0 && !s.none() {
		return nil, refuse("leave the settings to it, or write the image anew", "%s has a firstrun.sh of another program, which has settings of its own", d.path)
	}
	return []file{
		{nameTheirs, other},
		{nameRun, []byte(runScript(s, len(other) > 0))},
		{nameKernel, withKernel(kernel, isRunWord, runWords)},
	}, nil
}

// runScript writes firstrun.sh. The tools that it uses are those of the image,
// raspberrypi-sys-mods and userconf-pi, which Imager uses too.
func runScript(s Settings, other bool) string {
	var b strings.Builder
	p := func(format string, a ...any) { fmt.Fprintf(&b, format+"\n", a...) }
	p("#!/bin/sh\n%s", mark)
	p("# Runs once, before the system is up, and the board starts anew.\nset +e")
	p("root=${DUNLIN_ROOT:-}\nhere=$(cd \"$(dirname \"$0\")\" && pwd)")
	p("imager=$root/usr/lib/raspberrypi-sys-mods/imager_custom")
	p("# All of it is read before the first line runs: it removes itself.\n{")
	if other {
		p("sh \"$here/%s\"", nameTheirs)
	}
	if s.Hostname != "" {
		p("\"$imager\" set_hostname %s", quote(s.Hostname))
	}
	if len(s.SSHKeys) > 0 {
		keys := make([]string, len(s.SSHKeys))
		for i, k := range s.SSHKeys {
			keys[i] = quote(k)
		}
		p("\"$imager\" enable_ssh -k %s", strings.Join(keys, " "))
	}
	if s.User != "" {
		hash := s.PasswordHash
		if hash == "" {
			hash = "!" // no password is right
		}
		p("\"$root/usr/lib/userconf-pi/userconf\" %s %s", quote(s.User), quote(hash))
	}
	if w := s.WiFi; w.SSID != "" {
		hidden := ""
		if w.Hidden {
			hidden = "-h "
		}
		p("\"$imager\" set_wlan %s%s %s %s", hidden, quote(w.SSID), quote(w.key()), quote(w.Country))
	}
	p("sh \"$here/%s\"", nameScript)
	p("# The next boot is an ordinary one, whatever became of this one.")
	p(`sed -i 's| systemd\.run[^ ]*||g; s| systemd\.unit=kernel-command-line\.target||g' "$here/cmdline.txt"`)
	p("for f in %s %s; do", nameTheirs, nameRun)
	p("\t[ -s \"$here/$f\" ] && dd if=/dev/zero of=\"$here/$f\" bs=\"$(wc -c <\"$here/$f\")\" count=1 conv=notrunc,fsync 2>/dev/null")
	p("\trm -f \"$here/$f\"\ndone\nsync\nexit 0\n}")
	return b.String()
}

// quote makes one word of a shell of any text.
func quote(text string) string { return "'" + strings.ReplaceAll(text, "'", `'"'"'`) + "'" }
