package agent

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"

	"dunlin/firmware-tools/files"
	"dunlin/internal/durable"
	"dunlin/sync/wire"
)

// Where an installation without a package goes; the rest is as in the package.
const (
	installedBinary = "/usr/local/bin/dunlin-agent"
	installedUnit   = "/etc/systemd/system/" + unitName
	unitName        = "dunlin-agent.service"
	packagedUnit    = "/usr/lib/systemd/system/" + unitName
	packagedBinary  = "/usr/bin/dunlin-agent" // as the unit has it
)

// installation is the order of install: what to do, or only to say.
type installation struct {
	out      io.Writer
	dry      bool
	packaged bool // a package brought the binary and the unit
}

// InstallError says what a machine lacks, and what to do.
type InstallError struct {
	What, Hint string
}

func (e *InstallError) Error() string { return e.What }

func installCommand(args []string, stdout, stderr io.Writer) error {
	fs := flag.NewFlagSet("install", flag.ContinueOnError)
	dry, uninstall, purge := fs.Bool("dry-run", false, ""), fs.Bool("uninstall", false, ""), fs.Bool("purge", false, "")
	token := fs.String("token", "", "")
	var line string
	if n := len(args); n > 0 && !strings.HasPrefix(args[n-1], "-") && (n == 1 || args[n-2] != "-token" && args[n-2] != "--token") {
		line, args = args[n-1], args[:n-1]
	}
	if err := flags(fs, args, stderr); err != nil {
		return err
	}
	switch {
	case *token != "" && line != "":
		return usageError{errors.New("install: two lines, want one")}
	case *uninstall && (*token != "" || line != ""), *purge && !*uninstall:
		return usageError{errors.New("install: want LINE, or -uninstall with or without -purge")}
	case *token != "":
		line = *token
	}
	i := installation{out: stdout, dry: *dry}
	if err := i.look(); err != nil {
		return err
	}
	if *uninstall {
		return i.uninstall(*purge)
	}
	line, err := lineOfHub(line)
	if err != nil {
		return err
	}
	return i.install(line)
}

// lineOfHub checks a line that the hub printed; "-" is to be read from
// standard input, for other users of the machine see the arguments of programs.
func lineOfHub(line string) (string, error) {
	if line == "-" {
		text, err := io.ReadAll(io.LimitReader(os.Stdin, wire.MaxToken+1))
		if err != nil {
			return "", err
		}
		line = string(text)
	}
	if line = strings.TrimSpace(line); line == "" {
		return "", nil
	}
	var err error
	if wire.IsClaim(line) {
		_, err = wire.ParseClaim(line)
	} else {
		_, err = wire.ParseToken(line)
	}
	return line, err
}

// look refuses a machine on which nothing can be installed.
func (i *installation) look() error {
	if _, err := os.Stat("/run/systemd/system"); err != nil {
		return &InstallError{"this machine does not run systemd", "have whatever starts programs here run: dunlin-agent run -config FILE"}
	}
	if os.Geteuid() != 0 && !i.dry {
		return &InstallError{"only root can install a service", "put sudo before it, or add -dry-run to see what it would do"}
	}
	_, err := os.Stat(packagedUnit)
	i.packaged = err == nil
	return nil
}

// do says what is done, and does it.
func (i *installation) do(f func() error, format string, a ...any) error {
	what := fmt.Sprintf(format, a...)
	fmt.Fprintln(i.out, what)
	if i.dry {
		return nil
	}
	if err := f(); err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	return nil
}

// install makes the agent a service. Doing it again changes nothing but what
// a newer binary brings, and the line.
func (i *installation) install(line string) error {
	if !i.packaged {
		if err := i.binary(); err != nil {
			return err
		}
	}
	c, err := ReadConfig(DefaultConfig)
	if errors.Is(err, os.ErrNotExist) {
		c, err = parseConfig(DefaultConfig, files.AgentConfig)
		if err == nil {
			err = i.do(func() error { return writeNew(DefaultConfig, files.AgentConfig, 0o644) }, "write %s", DefaultConfig)
		}
	}
	if err != nil {
		return err
	}
	if line != "" && (c.Hub.Token != "" || c.Hub.TokenFile != "") {
		return &InstallError{DefaultConfig + " names a token", "remove token or token_file from [hub]: the line is kept in " + filepath.Join(c.StateDir, tokenFile)}
	}
	if err := i.do(setup, "make the user dunlin, %s, and the groups of this board", c.StateDir); err != nil {
		return err
	}
	if line != "" {
		if err := i.do(func() error { return putLine(c.StateDir, line) }, "keep the line of the hub in %s", filepath.Join(c.StateDir, tokenFile)); err != nil {
			return err
		}
	}
	if err := i.systemctl("enable", unitName); err != nil {
		return err
	}
	if err := i.systemctl("restart", unitName); err != nil {
		return &InstallError{err.Error(), "journalctl -u dunlin-agent says why it does not start"}
	}
	if !i.dry {
		fmt.Fprintln(i.out, "dunlin-agent is running; ask it with: sudo dunlin-agent status")
	}
	return nil
}

// binary copies this program to where the unit looks for it.
func (i *installation) binary() error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	if self != installedBinary {
		err := i.do(func() error {
			data, err := os.ReadFile(self)
			if err != nil {
				return err
			}
			return writeNew(installedBinary, string(data), 0o755)
		}, "copy %s to %s", self, installedBinary)
		if err != nil {
			return err
		}
	}
	unit := strings.ReplaceAll(files.AgentUnit, packagedBinary, installedBinary)
	return i.do(func() error { return writeNew(installedUnit, unit, 0o644) }, "write %s", installedUnit)
}

func writeNew(path, text string, mode os.FileMode) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	if err := durable.WriteFile(path, []byte(text), mode); err != nil {
		return err
	}
	return os.Chmod(path, mode) // whatever umask is
}

// setup runs what the package runs after it was unpacked.
func setup() error {
	cmd := exec.Command("sh", "-s")
	cmd.Stdin = strings.NewReader(files.AgentSetup)
	return say(cmd)
}

func (i *installation) systemctl(args ...string) error {
	return i.do(func() error { return say(exec.Command("systemctl", args...)) }, "systemctl %s", strings.Join(args, " "))
}

// unitUnknown reports whether systemd neither knows the unit nor runs what is
// left of one. Where it does not answer, nobody knows.
func unitUnknown() bool {
	out, err := exec.Command("systemctl", "show", "--property=LoadState", "--property=ActiveState", unitName).Output()
	text := string(out)
	idle := strings.Contains(text, "ActiveState=inactive\n") || strings.Contains(text, "ActiveState=failed\n")
	return err == nil && idle && strings.Contains(text, "LoadState=not-found\n")
}

// say runs a program; what it wrote is in the error.
func say(cmd *exec.Cmd) error {
	out, err := cmd.CombinedOutput()
	if err != nil {
		return fmt.Errorf("%w: %s", err, strings.TrimSpace(string(out)))
	}
	return nil
}

// putLine writes the line for the owner of dir, who alone may read it. Whoever
// owns dir may put links into it, so nothing is followed out of it.
func putLine(dir, line string) (err error) {
	info, err := os.Stat(dir)
	if err != nil {
		return err
	}
	owner, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return fmt.Errorf("%s: nobody knows whose it is", dir)
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer root.Close()
	const fresh = tokenFile + ".new"
	if err := root.Remove(fresh); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	f, err := root.OpenFile(fresh, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = f.WriteString(line + "\n")
	err = errors.Join(err, f.Chown(int(owner.Uid), int(owner.Gid)), f.Sync(), f.Close())
	if err != nil {
		return err
	}
	if err := root.Rename(fresh, tokenFile); err != nil {
		return err
	}
	names, err := root.Open(".")
	if err != nil {
		return err
	}
	return errors.Join(names.Sync(), names.Close()) // or a power cut takes the name, and the line with it
}

// uninstall takes away what install made; with purge also the configuration,
// everything that the agent keeps, and its user.
func (i *installation) uninstall(purge bool) error {
	if i.packaged {
		return &InstallError{"a package installed the agent", "apt remove dunlin-agent, or apt purge dunlin-agent"}
	}
	c, err := ReadConfig(DefaultConfig)
	if err != nil {
		c = defaults() // it may be what is wrong, or gone
	}
	if err := i.systemctl("disable", "--now", unitName); err != nil {
		if !unitUnknown() {
			return &InstallError{err.Error(), "nothing was removed, for the agent may be running: stop it, then run this again"}
		}
		fmt.Fprintln(i.out, err) // it was half installed
	}
	gone := []string{installedUnit, installedUnit + ".d", installedBinary}
	state := defaults().StateDir // no other: who knows what else is in it
	if purge {
		gone = append(gone, DefaultConfig, state)
	}
	for _, path := range gone {
		if err := i.do(func() error { return os.RemoveAll(path) }, "remove %s", path); err != nil {
			return err
		}
	}
	if purge {
		err := i.do(func() error { return say(exec.Command("userdel", "dunlin")) }, "remove the user dunlin")
		if err != nil {
			fmt.Fprintln(i.out, err)
		}
		_ = os.Remove(filepath.Dir(DefaultConfig)) // stays where something else is in it
		if c.StateDir != state {
			fmt.Fprintf(i.out, "%s stays: remove it by hand\n", c.StateDir)
		}
	} else {
		fmt.Fprintf(i.out, "%s and %s stay; -purge takes them too\n", DefaultConfig, c.StateDir)
	}
	return i.systemctl("daemon-reload")
}
