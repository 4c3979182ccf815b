package vm

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"dunlin/firmware-tools/files"
	"dunlin/firmware-tools/vm/guest"
)

// serviceUser is the number that a unit's user has on a virtual board: there
// is one.
const serviceUser = 990

// Agent is the service of the agent's package, by its systemd unit: the
// program, its user and folder, the watchdog and the limits of time. What else
// the unit shuts off it has; systemd is not on the board.
func Agent() guest.Service {
	s, err := Unit(files.AgentUnit)
	if err != nil {
		panic("the agent's unit: " + err.Error()) // a mistake in the program: it is part of it
	}
	return s
}

// Unit reads of a systemd unit's [Service] what the board's first program
// follows; everything else is passed over. An ExecStart with quotes or
// specifiers is an error.
func Unit(text string) (s guest.Service, err error) {
	s = guest.Service{RestartMS: 100, StartMS: 90_000, StopMS: 90_000} // systemd's own
	in := false
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		if strings.HasPrefix(line, "[") {
			in = line == "[Service]"
			continue
		}
		key, value, ok := strings.Cut(line, "=")
		if !in || !ok || strings.HasPrefix(line, "#") {
			continue
		}
		switch key {
		case "ExecStart":
			if strings.ContainsAny(value, `"'\%$`) {
				return s, fmt.Errorf("ExecStart=%s: quotes and specifiers are not read", value)
			}
			s.Exec = strings.Fields(value)
		case "User":
			s.User = serviceUser
		case "StateDirectory":
			s.State = "/var/lib/" + value
		case "WatchdogSec":
			s.WatchdogMS, err = milliseconds(value)
		case "RestartSec":
			s.RestartMS, err = milliseconds(value)
		case "TimeoutStartSec":
			s.StartMS, err = milliseconds(value)
		case "TimeoutStopSec":
			s.StopMS, err = milliseconds(value)
		}
		if err != nil {
			return s, fmt.Errorf("%s: %w", line, err)
		}
	}
	if len(s.Exec) == 0 {
		return s, fmt.Errorf("no ExecStart")
	}
	return s, nil
}

// milliseconds reads a time span of systemd's, systemd.time(7): "30", "500ms",
// "3min".
func milliseconds(text string) (int, error) {
	digits := strings.TrimRight(text, "abcdefghijklmnopqrstuvwxyz")
	n, err := strconv.Atoi(strings.TrimSpace(digits))
	unit, ok := map[string]time.Duration{
		"": time.Second, "s": time.Second, "sec": time.Second, "ms": time.Millisecond, "msec": time.Millisecond, "min": time.Minute, "h": time.Hour,
	}[text[len(digits):]]
	if err != nil || !ok || n < 0 || n > 1<<20 {
		return 0, fmt.Errorf("%q: want a number with ms, s, min or h", text)
	}
	return int((time.Duration(n) * unit).Milliseconds()), nil
}
