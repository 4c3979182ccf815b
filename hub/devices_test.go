package hub_test

import (
	"net/http"
	"testing"
	"time"

	"dunlin/hub"
	"dunlin/sync/wire"
)

// TestRemovedDeviceTakesItsCommands: another device that gets its name gets
// none of its orders, and who waits for one is told.
func TestRemovedDeviceTakesItsCommands(t *testing.T) {
	dir := t.TempDir()
	s := run(t, hub.Options{Dir: dir, Retry: 20 * time.Millisecond})
	s.enrol("left")
	id := s.command("acme/left", `{"name":"rollback","ttl_s":3600}`)
	s.must("DELETE", "/v1/devices/acme/left", nil, nil)
	if c := s.answerTo(id); c.Phase != wire.CmdExpired || c.Error != "the device was removed" {
		t.Errorf("%+v", c)
	}
	s.stop()

	s = run(t, hub.Options{Dir: dir, Retry: 20 * time.Millisecond})
	if c := s.answerTo(id); c.Phase != wire.CmdExpired {
		t.Errorf("after a restart: %+v", c)
	}
	b := start(t, s.enrol("left"), t.TempDir())
	b.says(nil, func(c wire.Cmd) {
		if c.ID == id {
			t.Error("it got an order to the device that was removed")
		}
		send(b, wire.UpCmdAck, wire.CmdAck{ID: c.ID, Phase: wire.CmdDone}, wire.Encode[wire.CmdAck])
	})
	if c := s.answerTo(s.command("acme/left", `{"name":"status"}`)); c.Phase != wire.CmdDone {
		t.Errorf("its own command: %+v", c)
	}
}

// TestReplacedToken: the old token is void at once, for MQTT and HTTP, on the
// open connection too; the new one is good, also after a restart.
func TestReplacedToken(t *testing.T) {
	dir := t.TempDir()
	s := run(t, hub.Options{Dir: dir})
	l, manifest := packed(t, 1, true)
	s.upload(l, manifest)
	old := s.enrol("left")
	b := start(t, old, t.TempDir())
	eventually(t, "it is online", func() bool { return s.online() == 1 })
	var out struct{ Device, Token string }
	s.must("POST", "/v1/devices/acme/left/token", nil, &out)
	fresh, err := wire.ParseToken(out.Token)
	if err != nil {
		t.Fatal(err)
	}
	if out.Device != "acme/left" || fresh.ID() != old.ID() || fresh.Secret == old.Secret || fresh.HubKey.ID() != old.HubKey.ID() {
		t.Errorf("%s: %+v", out.Device, fresh)
	}
	blob := func(s *site, token wire.Token) int {
		status, _, _ := s.do("GET", "/v1/blob/"+manifest, map[string]string{"Authorization": "Bearer " + token.Secret}, "")
		return status
	}
	if is, was := blob(s, fresh), blob(s, old); is != http.StatusOK || was != http.StatusUnauthorized {
		t.Errorf("the new token gets %d, the old one %d", is, was)
	}
	eventually(t, "its connection is cut", func() bool { return s.online() == 0 })
	b.put(1)
	if b.drained() {
		t.Error("the old token still delivers")
	}
	b.stop()
	s.stop()

	s = run(t, hub.Options{Dir: dir})
	// The blob is not there any more: it never became a model.
	if is, was := blob(s, fresh), blob(s, old); is != http.StatusNotFound || was != http.StatusUnauthorized {
		t.Errorf("after a restart the new token gets %d, the old one %d", is, was)
	}
	fresh.MQTT, fresh.HTTP = s.hub.MQTTURL(), s.hub.HTTPURL()
	c := start(t, fresh, t.TempDir())
	c.put(3)
	eventually(t, "its results are stored", c.drained)
}
