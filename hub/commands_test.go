package hub_test

import (
	"encoding/json"
	"net/http"
	"sync/atomic"
	"testing"
	"time"

	"dunlin/hub"
	"dunlin/hub/api"
	"dunlin/sync/wire"
)

func (s *site) command(device, body string) string {
	s.t.Helper()
	var out struct{ ID string }
	s.must("POST", "/v1/devices/"+device+"/commands", body, &out)
	return out.ID
}

func (s *site) answerTo(id string) api.Command {
	s.t.Helper()
	var c api.Command
	s.must("GET", "/v1/commands/"+id+"?wait=20", nil, &c)
	return c
}

func TestCommandIsAnswered(t *testing.T) {
	s := run(t, hub.Options{Dir: t.TempDir()})
	b := start(t, s.enrol("left"), t.TempDir())
	ack := func(c wire.Cmd, p wire.CmdPhase, result string) {
		send(b, wire.UpCmdAck, wire.CmdAck{ID: c.ID, Phase: p, Result: json.RawMessage(result)}, wire.Encode[wire.CmdAck])
	}
	b.says(nil, func(c wire.Cmd) {
		ack(c, wire.CmdReceived, "null")
		ack(c, wire.CmdDone, `{"was":"info"}`)
		ack(c, wire.CmdRejected, "null") // too late: the first end stands
	})
	c := s.answerTo(s.command("acme/left", `{"name":"log-level","args":{"level":"debug"},"ttl_s":30}`))
	if c.Phase != wire.CmdDone || string(c.Result) != `{"was":"info"}` || c.Name != wire.CmdLogLevel {
		t.Errorf("%+v", c)
	}
	for path, body := range map[string]string{
		"acme/left":  `{"name":"reboot"}`,
		"acme/right": `{"name":"status"}`,
	} {
		if status := s.call("POST", "/v1/devices/"+path+"/commands", body, nil); status == http.StatusOK {
			t.Errorf("%s took %s", path, body)
		}
	}
}

func TestCommandIsSentUntilItIsAnswered(t *testing.T) {
	s := run(t, hub.Options{Dir: t.TempDir(), Retry: 50 * time.Millisecond})
	b := start(t, s.enrol("left"), t.TempDir())
	var times atomic.Int64
	b.says(nil, func(c wire.Cmd) {
		if times.Add(1) == 3 {
			send(b, wire.UpCmdAck, wire.CmdAck{ID: c.ID, Phase: wire.CmdDone}, wire.Encode[wire.CmdAck])
		}
	})
	if c := s.answerTo(s.command("acme/left", `{"name":"status"}`)); c.Phase != wire.CmdDone || c.Sent < 3 {
		t.Errorf("%+v", c)
	}
}

// TestAnswersAreFast has a device that may answer before the broker has told
// the hub that it took the command.
func TestAnswersAreFast(t *testing.T) {
	s := run(t, hub.Options{Dir: t.TempDir()})
	b := start(t, s.enrol("left"), t.TempDir())
	b.says(nil, func(c wire.Cmd) {
		send(b, wire.UpCmdAck, wire.CmdAck{ID: c.ID, Phase: wire.CmdDone}, wire.Encode[wire.CmdAck])
	})
	for range 100 {
		if c := s.answerTo(s.command("acme/left", `{"name":"status"}`)); c.Phase != wire.CmdDone || c.Sent == 0 {
			t.Fatalf("%+v", c)
		}
	}
}

func TestFractionsOfATTL(t *testing.T) {
	s := run(t, hub.Options{Dir: t.TempDir()})
	s.enrol("left")
	for text, want := range map[string]time.Duration{"90.25": 90250 * time.Millisecond, "1e-12": 1, "0": time.Minute} {
		c, _, err := s.hub.CommandState(s.command("acme/left", `{"name":"status","ttl_s":`+text+`}`))
		if err != nil || c.NotAfter.Sub(c.Created) != want {
			t.Errorf("ttl_s %s: %v, %v", text, c.NotAfter.Sub(c.Created), err)
		}
	}
	if status := s.call("POST", "/v1/devices/acme/left/commands", `{"name":"status","ttl_s":-0.5}`, nil); status != http.StatusBadRequest {
		t.Errorf("a negative ttl_s: %d", status)
	}
}

func TestCommandWaitsForItsDeviceAndExpires(t *testing.T) {
	dir := t.TempDir()
	s := run(t, hub.Options{Dir: dir, HTTPAddr: "127.0.0.1:0"})
	token := s.enrol("left")
	id := s.command("acme/left", `{"name":"status","ttl_s":60}`)
	late := s.command("acme/left", `{"name":"status","ttl_s":0.2}`)
	if c := s.answerTo(late); c.Phase != wire.CmdExpired {
		t.Errorf("%+v", c)
	}
	s.stop()

	s = run(t, hub.Options{Dir: dir})
	token.MQTT, token.HTTP = s.hub.MQTTURL(), s.hub.HTTPURL()
	b := start(t, token, t.TempDir())
	b.says(nil, func(c wire.Cmd) {
		if c.ID == late {
			t.Error("an expired command was sent")
		}
		send(b, wire.UpCmdAck, wire.CmdAck{ID: c.ID, Phase: wire.CmdDone}, wire.Encode[wire.CmdAck])
	})
	if c := s.answerTo(id); c.Phase != wire.CmdDone {
		t.Errorf("after a restart: %+v", c)
	}
}
