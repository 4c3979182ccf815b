package agent

import (
	"errors"
	"slices"
	"strings"

	"dunlin/boards/pins"
	"dunlin/boards/sensors"
)

// hostLines is the board's lines, as rules want them.
type hostLines struct{ *pins.Host }

// Pins is what rules and triggers need.
type Pins interface {
	Lines
	Edges
}

// boardLines returns the lines of this machine; nil, and nothing of it is
// touched, where neither a rule nor a trigger needs one.
func boardLines(c Config) Pins {
	if len(c.Rules) == 0 && !slices.ContainsFunc(c.Triggers, func(t TriggerConfig) bool { return t.Line != "" }) {
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

// lineHint finds the advice that comes with an error about a line, a bus or a
// sensor.
func lineHint(err error) string {
	if e, ok := errors.AsType[*pins.LineError](err); ok {
		return e.Hint
	}
	if e, ok := errors.AsType[*pins.BusError](err); ok {
		return e.Hint
	}
	if e, ok := errors.AsType[*sensors.Error](err); ok {
		return e.Hint
	}
	return ""
}

// complaint is an error and its advice, as the log has them.
func complaint(err error) []any {
	if hint := lineHint(err); hint != "" {
		return []any{keyError, err, "hint", hint}
	}
	return []any{keyError, err}
}
