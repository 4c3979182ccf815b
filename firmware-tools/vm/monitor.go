package vm

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"path/filepath"
	"strings"
)

func (m *Machine) monitor() string { return filepath.Join(m.dir, "monitor") }

// prompt is what QEMU's monitor says when it waits for a command.
const prompt = "(qemu) "

// Monitor gives a command to QEMU itself and returns what it printed, empty
// where all is well. "system_powerdown" presses the power button, which is
// line 3 of the virt machine's GPIO chip; "stop" and "cont" hold the board.
func (v *VM) Monitor(ctx context.Context, command string) (string, error) {
	var d net.Dialer
	c, err := d.DialContext(ctx, "unix", v.monitor)
	if err != nil {
		return "", err
	}
	defer c.Close()
	defer context.AfterFunc(ctx, func() { c.Close() })()
	in := bufio.NewReader(c)
	if _, err := untilPrompt(in); err != nil {
		return "", fmt.Errorf("monitor: %w", err)
	}
	if _, err := c.Write([]byte(command + "\n")); err != nil {
		return "", fmt.Errorf("monitor: %s: %w", command, err)
	}
	text, err := untilPrompt(in)
	if err != nil {
		return "", fmt.Errorf("monitor: %s: %w", command, err)
	}
	_, text, _ = strings.Cut(text, "\n") // it echoes the command, as typed
	return strings.TrimSpace(text), nil
}

func untilPrompt(in *bufio.Reader) (string, error) {
	var b strings.Builder
	for !strings.HasSuffix(b.String(), prompt) {
		c, err := in.ReadByte()
		if err != nil {
			return b.String(), err
		}
		b.WriteByte(c)
		if b.Len() > 1<<20 {
			return b.String(), errors.New("more than a megabyte without a prompt")
		}
	}
	return strings.TrimSuffix(b.String(), prompt), nil
}
