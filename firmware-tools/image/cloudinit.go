package image

import (
	"bytes"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"strings"
)

// markWhole marks a file that holds nothing but what is ours: the first boot
// removes it.
const markWhole = mark + ": whole"

// runLine starts the first boot's work. cloud-init runs it once for each
// instance.
const runLine = `  - [ sh, -c, "if [ -f /boot/firmware/` + nameScript + ` ]; then sh /boot/firmware/` + nameScript + `; fi" ]`

// markPart and markEnd hold our part of somebody else's user-data.
const (
	markPart = mark + ": from here"
	markEnd  = mark + ": to here"
)

// cloudInit returns the files of an image with cloud-init: user-data,
// network-config, meta-data with a new instance, and the kernel's command line
// that names it, so that everything is applied even where the image has
// booted before.
func (d *opened) cloudInit(s Settings) ([]file, error) {
	kernel, err := d.read(nameKernel)
	if err != nil {
		return nil, err
	}
	if len(kernel) == 0 {
		return nil, refuse("", "boot partition of %s has no %s", d.path, nameKernel)
	}
	old, err := d.read(nameUser)
	if err != nil {
		return nil, err
	}
	user, err := d.userData(old, s)
	if err != nil {
		return nil, err
	}
	var id [8]byte
	_, _ = rand.Read(id[:]) // it never fails (crypto/rand)
	instance := "dunlin-" + hex.EncodeToString(id[:])
	files := []file{{nameUser, user}}
	net, err := d.read(nameNet)
	if err != nil {
		return nil, err
	}
	switch {
	case s.WiFi.SSID != "" && !placeholder(net):
		return nil, refuse("add the Wi-Fi there, or write the image anew", "%s has a %s of somebody's own", d.path, nameNet)
	case s.WiFi.SSID != "":
		files = append(files, file{nameNet, []byte(networkConfig(s.WiFi))})
	case bytes.Contains(net, []byte(markWhole)): // of an earlier time
		files = append(files, file{nameNet, []byte("# " + nameNet + " of cloud-init: nothing is set\n")})
	}
	return append(files,
		file{nameMeta, []byte("instance-id: " + instance + "\n")},
		file{nameKernel, withKernel(kernel, func(w string) bool { return strings.HasPrefix(w, "ds=nocloud") }, "ds=nocloud;i="+instance)},
	), nil
}

// placeholder reports whether a file says nothing, as those in the image do,
// or is ours.
func placeholder(data []byte) bool {
	if bytes.Contains(data, []byte(markWhole)) {
		return true
	}
	for line := range bytes.Lines(data) {
		if line = bytes.TrimSpace(line); len(line) > 0 && line[0] != '#' {
			return false
		}
	}
	return true
}

// userData returns a whole user-data of ours, or somebody's with our part at
// its end.
func (d *opened) userData(old []byte, s Settings) ([]byte, error) {
	text := string(old)
	if a, b := strings.Index(text, markPart), strings.Index(text, markEnd); a >= 0 && b > a { // of an earlier time
		text = text[:a] + strings.TrimPrefix(text[b+len(markEnd):], "\n")
	}
	if placeholder([]byte(text)) {
		return []byte(cloudConfig(s)), nil
	}
	if !s.none() {
		return nil, refuse("add the settings there, or write the image anew", "%s has a %s of somebody's own", d.path, nameUser)
	}
	if !strings.HasPrefix(text, "#cloud-config") || strings.Contains("\n"+text, "\nruncmd:") || strings.Contains("\n"+text, "\n...") || strings.Contains("\n"+text, "\n---") {
		return nil, refuse("add this line to its runcmd, and write the image again: "+strings.TrimSpace(runLine),
			"%s of %s cannot be added to: it is no #cloud-config, or has a runcmd", nameUser, d.path)
	}
	return []byte(strings.TrimRight(text, "\n") + "\n" + markPart + "\nruncmd:\n" + runLine + "\n" + markEnd + "\n"), nil
}

// cloudConfig writes user-data as Raspberry Pi Imager 2 does: the singular
// user renames the image's own, which keeps its groups; SSH is off in the
// image, so that it is turned on here.
func cloudConfig(s Settings) string {
	var b strings.Builder
	p := func(format string, a ...any) { fmt.Fprintf(&b, format+"\n", a...) }
	p("#cloud-config\n%s", markWhole)
	if s.Hostname != "" {
		p("hostname: %s\nmanage_etc_hosts: true", yaml(s.Hostname))
	}
	if s.User != "" {
		p("user:\n  name: %s\n  shell: /bin/bash\n  sudo: null", yaml(s.User))
		if s.PasswordHash != "" {
			p("  lock_passwd: false\n  passwd: %s", yaml(s.PasswordHash))
		} else {
			p("  lock_passwd: true")
		}
		if len(s.SSHKeys) > 0 {
			p("  ssh_authorized_keys:")
			for _, k := range s.SSHKeys {
				p("    - %s", yaml(k))
			}
			p("ssh_pwauth: false")
		}
	}
	p("runcmd:")
	if len(s.SSHKeys) > 0 {
		p("  - [ systemctl, enable, --now, ssh ]")
	}
	p("%s", runLine)
	return b.String()
}

// networkConfig writes the network as netplan takes it. Naming one interface
// takes the image's own choice away, so the wired one is named too.
func networkConfig(w WiFi) string {
	var b strings.Builder
	p := func(format string, a ...any) { fmt.Fprintf(&b, format+"\n", a...) }
	p("%s\nnetwork:\n  version: 2\n  ethernets:\n    eth0:\n      dhcp4: true\n      dhcp6: true\n      optional: true", markWhole)
	p("  wifis:\n    wlan0:\n      dhcp4: true\n      optional: true\n      regulatory-domain: %s\n      access-points:\n        %s:", yaml(w.Country), yaml(w.SSID))
	if w.Hidden {
		p("          hidden: true")
	}
	if key := w.key(); key != "" {
		p("          password: %s", yaml(key))
	} else {
		p("          auth:\n            key-management: none")
	}
	return b.String()
}

// yaml quotes a text. What JSON escapes, YAML 1.2 reads (section 5.7).
func yaml(text string) string {
	data, err := json.Marshal(text)
	if err != nil {
		panic(err) // a string is always JSON
	}
	return string(data)
}
