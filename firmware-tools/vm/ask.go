package vm

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"dunlin/firmware-tools/vm/guest"
)

// Ask calls what the board answers (guest/serve.go): path begins with /agent/
// for the agent's own HTTP. The answer is read as JSON into out, which may be
// nil, or taken as it is by a *[]byte.
func (v *VM) Ask(ctx context.Context, method, path string, body io.Reader, out any) error {
	req, err := http.NewRequestWithContext(ctx, method, v.URL+path, body)
	if err != nil {
		return err
	}
	resp, err := v.client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		return fmt.Errorf("%s %s: %w", method, path, err)
	}
	if resp.StatusCode/100 != 2 {
		return fmt.Errorf("%s %s: %s: %s", method, path, resp.Status, bytes.TrimSpace(text))
	}
	switch out := out.(type) {
	case nil:
		return nil
	case *[]byte:
		*out = text
		return nil
	}
	return json.Unmarshal(text, out)
}

// State says how the board and its service are.
func (v *VM) State(ctx context.Context) (s guest.State, err error) {
	return s, v.Ask(ctx, "GET", "/vm", nil, &s)
}

// RunError is a command on the board that did not end well.
type RunError struct {
	Exec   []string
	Output guest.Output
}

func (e *RunError) Error() string {
	return fmt.Sprintf("on the board: %s: %s: %s", strings.Join(e.Exec, " "), e.Output.Error, bytes.TrimSpace(e.Output.Stderr))
}

// Run runs a program of the board in its root, and returns what it printed.
// One that does not end with 0 is a *RunError.
func (v *VM) Run(ctx context.Context, exec ...string) (string, error) {
	text, err := json.Marshal(guest.Command{Exec: exec})
	if err != nil {
		return "", err
	}
	var out guest.Output
	if err := v.Ask(ctx, "POST", "/run", bytes.NewReader(text), &out); err != nil {
		return "", err
	}
	if out.Exit != 0 {
		return string(out.Stdout), &RunError{Exec: exec, Output: out}
	}
	return string(out.Stdout), nil
}

func at(path, name, value string) string { return path + "?" + url.Values{name: {value}}.Encode() }

// Put writes a file below the board's root, whole or not at all.
func (v *VM) Put(ctx context.Context, path string, data []byte) error {
	return v.Ask(ctx, "PUT", at("/file", "path", path), bytes.NewReader(data), nil)
}

// Get reads a file below the board's root.
func (v *VM) Get(ctx context.Context, path string) (data []byte, err error) {
	return data, v.Ask(ctx, "GET", at("/file", "path", path), nil, &data)
}

// Remove removes a file or a folder below the board's root.
func (v *VM) Remove(ctx context.Context, path string) error {
	return v.Ask(ctx, "DELETE", at("/file", "path", path), nil, nil)
}

// List returns the names in a folder below the board's root.
func (v *VM) List(ctx context.Context, path string) (names []string, err error) {
	return names, v.Ask(ctx, "GET", at("/list", "path", path), nil, &names)
}

// Signal sends the service a signal.
func (v *VM) Signal(ctx context.Context, number int) error {
	return v.Ask(ctx, "POST", at("/signal", "number", fmt.Sprint(number)), nil, nil)
}

// Service turns the service on, or off in order.
func (v *VM) Service(ctx context.Context, on bool) error {
	return v.Ask(ctx, "POST", at("/service", "on", fmt.Sprint(on)), nil, nil)
}

// SetClock sets the board's clock, to the second.
func (v *VM) SetClock(ctx context.Context, t time.Time) error {
	return v.Ask(ctx, "POST", at("/clock", "unix", fmt.Sprint(t.Unix())), nil, nil)
}

// InferAll asks the board's agent about all pictures at once, and returns its
// answers in their order. Any that fails is an error.
func (v *VM) InferAll(ctx context.Context, pictures [][]byte) (answers []json.RawMessage, err error) {
	text, err := json.Marshal(pictures)
	if err != nil {
		return nil, err
	}
	return answers, v.Ask(ctx, "POST", "/infer", bytes.NewReader(text), &answers)
}

// Sync writes what waits in the board's memory to its disk, and returns when
// it is there.
func (v *VM) Sync(ctx context.Context) error { return v.Ask(ctx, "POST", "/sync", nil, nil) }

// PowerOff stops the service in order and turns the board off.
func (v *VM) PowerOff(ctx context.Context) error {
	if err := v.Ask(ctx, "POST", "/power", nil, nil); err != nil {
		return err
	}
	select {
	case <-v.done:
		if v.err != nil {
			return fmt.Errorf("%w: %w", ErrOff, v.err)
		}
		return nil
	case <-ctx.Done():
		return errors.Join(context.Cause(ctx), errors.New(v.Tail(20)))
	}
}
