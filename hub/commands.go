package hub

import (
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"github.com/oklog/ulid/v2"

	"dunlin/hub/api"
	"dunlin/sync/link"
	"dunlin/sync/wire"
)

// Life of a command.
const (
	defaultTTL = time.Minute
	answerTime = time.Minute // after NotAfter, for one that a device began
	keepEnded  = 24 * time.Hour

	receivedRetry = 6 // times Options.Retry, for a command that was received
)

// command is a stored command and what is forgotten at the end of the process.
type command struct {
	api.Command
	due     time.Time     // when to send it again
	changed chan struct{} // closed at each change
}

func newCommand(c api.Command) *command { return &command{Command: c, changed: make(chan struct{})} }

// commandNames are those that a device knows.
var commandNames = []wire.CmdName{wire.CmdInfer, wire.CmdActivate, wire.CmdRollback, wire.CmdStatus, wire.CmdLogLevel}

// Command stores an order for a device and returns its id. It is sent now and
// again until the device answers or ttl is over; 0 means a minute.
func (h *Hub) Command(id wire.Device, name wire.CmdName, args json.RawMessage, ttl time.Duration) (string, error) {
	if !slices.Contains(commandNames, name) {
		return "", fmt.Errorf("command %.40q: %w: want one of %v", name, api.ErrInvalid, commandNames)
	}
	if ttl <= 0 {
		ttl = defaultTTL
	}
	now := time.Now().UTC()
	cmd := api.Command{
		ID: ulid.Make().String(), Device: id.String(), Name: name, Args: args, Created: now, NotAfter: now.Add(ttl),
	}
	if _, err := wire.Encode(commandMessage(cmd)); err != nil {
		return "", fmt.Errorf("command %s: %w: %w", name, api.ErrInvalid, err)
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.state.devices[id] == nil {
		return "", notFound("device", id.String())
	}
	if err := h.storeCommand(newCommand(cmd)); err != nil {
		return "", err
	}
	h.wakeSpeaker()
	return cmd.ID, nil
}

// CommandState returns a command, and a channel that is closed when it
// changes.
func (h *Hub) CommandState(id string) (api.Command, <-chan struct{}, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	cmd := h.state.commands[id]
	if cmd == nil {
		return api.Command{}, nil, notFound("command", id)
	}
	return cmd.Command, cmd.changed, nil
}

// storeCommand commits a command and tells who waits for it; h.mu is held.
func (h *Hub) storeCommand(cmd *command) error {
	c := &change{}
	c.put(bucketCommand, cmd.ID, cmd.Command)
	if err := h.commit(c); err != nil {
		return err
	}
	h.state.commands[cmd.ID] = cmd
	close(cmd.changed)
	cmd.changed = make(chan struct{})
	h.events.Publish(api.EventCommand, cmd.Command)
	return nil
}

// dueCommands returns the messages of commands that are to be sent; h.mu is
// held. One that a device has received is sent again too, but seldom: its
// second answer may be lost. Each command is safe to repeat.
func (h *Hub) dueCommands(now time.Time) []outgoing {
	var out []outgoing
	for _, cmd := range h.state.commands {
		if cmd.Done() || now.After(cmd.NotAfter) || now.Before(cmd.due) {
			continue
		}
		id, err := wire.ParseDevice(cmd.Device)
		if err != nil || h.state.devices[id] == nil {
			continue
		}
		payload, err := wire.Seal(h.key, id, wire.DownCmd, commandMessage(cmd.Command))
		if err != nil {
			h.log.Error("command cannot be sent", "command", cmd.ID, "error", err)
			continue
		}
		out = append(out, outgoing{
			Message: link.Message{Topic: wire.Topic(id, wire.DownCmd), Payload: payload, QoS: 1},
			begin:   func() { cmd.Sent++; cmd.due = time.Now().Add(h.o.Retry) },
		})
	}
	return out
}

func commandMessage(c api.Command) wire.Cmd {
	return wire.Cmd{ID: c.ID, Name: c.Name, Args: c.Args, NotAfter: c.NotAfter}
}

// cmdAck notes a device's answer; h.mu is held. The first that ends a command
// stands, but for one that the hub itself gave up.
func (h *Hub) cmdAck(d *device, v wire.CmdAck) {
	cmd := h.state.commands[v.ID]
	if cmd == nil || cmd.Device != d.id().String() {
		h.counts.unknown.Add(1)
		return
	}
	gaveUp := cmd.Phase == wire.CmdExpired
	if cmd.Done() && !gaveUp || v.Phase == wire.CmdReceived && cmd.Phase != "" {
		return
	}
	next := *cmd
	next.Phase, next.Error, next.Result = v.Phase, v.Error, v.Result
	if next.Done() {
		next.Ended = time.Now().UTC()
	} else {
		cmd.due = time.Now().Add(receivedRetry * h.o.Retry)
	}
	h.replaceCommand(cmd, next)
}

// replaceCommand commits next and makes cmd the same; h.mu is held.
func (h *Hub) replaceCommand(cmd *command, next command) {
	c := &change{}
	c.put(bucketCommand, cmd.ID, next.Command)
	if err := h.commit(c); err != nil {
		h.log.Error("command not stored", "command", cmd.ID, "error", err)
		return
	}
	h.setCommand(cmd, next.Command)
}

// setCommand makes cmd what was committed, and tells who waits for it; h.mu
// is held.
func (h *Hub) setCommand(cmd *command, next api.Command) {
	cmd.Command = next
	close(cmd.changed)
	cmd.changed = make(chan struct{})
	h.events.Publish(api.EventCommand, next)
}

// endCommands puts into c the end of every command of a device that is being
// removed, and returns what each will be; h.mu is held.
func (h *Hub) endCommands(c *change, id wire.Device) map[*command]api.Command {
	ended := map[*command]api.Command{}
	for _, cmd := range h.state.commands {
		if cmd.Device != id.String() || cmd.Done() {
			continue
		}
		next := cmd.Command
		next.Phase, next.Error, next.Ended = wire.CmdExpired, "the device was removed", time.Now().UTC()
		c.put(bucketCommand, next.ID, next)
		ended[cmd] = next
	}
	return ended
}

// expireCommands ends commands whose time is over and forgets those that
// ended long ago; h.mu is held.
func (h *Hub) expireCommands(now time.Time) {
	var forget change
	for id, cmd := range h.state.commands {
		switch {
		case cmd.Done():
			if now.Sub(cmd.Ended) > keepEnded {
				forget.put(bucketCommand, id, nil)
			}
		case cmd.Phase == "" && now.After(cmd.NotAfter):
			h.giveUp(cmd, now, "the device did not answer in time")
		case now.After(cmd.NotAfter.Add(answerTime)):
			h.giveUp(cmd, now, "the device began and did not say how it ended")
		}
	}
	if err := h.commit(&forget); err != nil {
		h.log.Error("old commands not deleted", "error", err)
		return
	}
	for _, p := range forget.puts {
		delete(h.state.commands, string(p.key))
	}
}

func (h *Hub) giveUp(cmd *command, now time.Time, why string) {
	next := *cmd
	next.Phase, next.Error, next.Ended = wire.CmdExpired, why, now.UTC()
	h.replaceCommand(cmd, next)
}
