package agent

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"github.com/BurntSushi/toml"

	"dunlin/agent/update"
	"dunlin/internal/durable"
	"dunlin/sync/wire"
)

// The binary of the package is the launcher of those that the hub sends: at
// each start it has the one run whose turn it is, in its own place and under
// its own process id, so that systemd's watchdog and sd_notify go on. What it
// starts knows by its environment that it is not to launch again, and comes
// back to the launcher where another binary is to run:
//
//	dunlin-agent run ──exec──► state_dir/agent/a/dunlin-agent run
//	      ▲                              │ goes back, or has a new one installed
//	      └────────────exec──────────────┘ (a crash: by way of systemd)

const (
	envSlot     = "DUNLIN_AGENT_SLOT"     // which slot a process was started from
	envLauncher = "DUNLIN_AGENT_LAUNCHER" // the binary that started it
)

// errRestart ends Run where another binary of the agent is to go on.
var errRestart = errors.New("another version of the agent is to run")

// launch has the binary run whose turn it is. It returns where that is this
// one: with nil, or with why another could not.
func launch(config string) error {
	dir := launchDir(config)
	if os.Getenv(envSlot) != "" || dir == "" {
		return nil
	}
	self, err := os.Executable()
	if err != nil {
		return err
	}
	return update.Launch(durable.OS, dir, Version, bootID(), func(file, mark string) error {
		notify("WATCHDOG=1") // what it starts has all of the time
		return syscall.Exec(file, os.Args, append(environ(), envSlot+"="+mark, envLauncher+"="+self))
	})
}

// launchDir finds the folder of the updates, "" where there is none to be used. Of the
// configuration it reads what it needs and no more: the rest may be meant for
// another version.
func launchDir(config string) string {
	text, err := readBounded(config, maxConfig)
	if err != nil {
		return ""
	}
	c := struct {
		StateDir string `toml:"state_dir"`
		Update   struct {
			Enabled bool `toml:"enabled"`
		} `toml:"update"`
	}{StateDir: defaults().StateDir}
	c.Update.Enabled = defaultUpdate.Enabled
	if _, err := toml.Decode(string(text), &c); err != nil || !c.Update.Enabled || c.StateDir == "" {
		return ""
	}
	return filepath.Join(resolve(filepath.Dir(config), c.StateDir), updateDir)
}

// updateDir is the folder of the updates, in state_dir.
const updateDir = "agent"

// environ is the environment without what launch added.
func environ() []string {
	return slices.DeleteFunc(os.Environ(), func(v string) bool {
		return strings.HasPrefix(v, envSlot+"=") || strings.HasPrefix(v, envLauncher+"=")
	})
}

// goBack ends a version on trial that did not even come to run; err is why.
// For any other it is the error of the command, and no crash.
func goBack(config string, err error) error {
	dir := launchDir(config)
	if os.Getenv(envSlot) == "" || dir == "" {
		return err
	}
	s, broken := update.Open(durable.OS, dir, os.Getenv(envSlot))
	if broken != nil {
		return errors.Join(err, broken)
	}
	if _, trial, _ := s.Running(); !trial {
		return errors.Join(err, s.Ended(true))
	}
	if _, kept := s.End(wire.ReasonExam, err, wire.ReadClock(wire.ClockNone)); kept != nil {
		return errors.Join(err, kept) // the tries end it
	}
	return relaunch(err)
}

// relaunch has the launcher decide again, in place of this process. It returns
// where that fails, with why it was to be: whoever supervises starts it then.
func relaunch(why error) error {
	file := os.Getenv(envLauncher)
	if file == "" {
		var err error
		if file, err = os.Executable(); err != nil {
			return errors.Join(why, err)
		}
	}
	notify("WATCHDOG=1")
	return fmt.Errorf("%w: start %s: %w", why, file, syscall.Exec(file, os.Args, environ()))
}
