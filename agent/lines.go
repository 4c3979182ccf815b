package agent

import (
	"errors"
	"strings"

	"dunlin/boards/pins"
)

// hostLines is the board's lines, as rules want them.
type hostLines struct{ *pins.Host }

// boardLines returns the lines of this machine; nil, and nothing of it is
// touched, where no rule needs one.
func boardLines(c Config) Lines {
	if len(c.Rules) == 0 {
		return nil
	}
	return hostLines{pins.Open()}
}

func (h hostLines) Check(name string) error {
	err := h.Host.Check(name)
	if e, ok := errors.AsType[*pins.LineError](err); ok && strings.HasPrefix(e.User, "dunlin-agent@") {
		return errOurs
	}
	return err
}

func (h hostLines) Output(name string, activeLow bool) (Line, error) {
	o, err := h.Host.Output(name, activeLow)
	if err != nil {
		return nil, err
	}
	return o, nil
}

// lineHint finds the advice that comes with an error about a line.
func lineHint(err error) string {
	if e, ok := errors.AsType[*pins.LineError](err); ok {
		return e.Hint
	}
	return ""
}
