package hub_test

import (
	"errors"
	"net/http"
	"os"
	"path/filepath"
	"testing"
	"time"

	"dunlin/hub"
	"dunlin/hub/api"
	"dunlin/hub/broker"
	"dunlin/internal/sign"
	"dunlin/sync/wire"
)

// TestUnknownDeviceStateGetsItsDesiredAgain has a device come back as if it
// were new, and one that has seen more than the hub remembers.
func TestUnknownDeviceStateGetsItsDesiredAgain(t *testing.T) {
	t.Parallel()
	key := newKey(t)
	dir := t.TempDir()
	s := run(t, hub.Options{Dir: dir, ReleaseKeys: sign.Trust{key.Public()}})
	one := s.push(1, key)
	token := s.enrol("left")
	b := start(t, token, t.TempDir())
	eventually(t, "it is online", func() bool { return s.online() == 1 })
	s.rollOut(api.RolloutRequest{})
	eventually(t, "it is told", func() bool { return b.newest().Gen == 1 })
	b.stop()
	s.stop()
	// The broker's memory goes: only the hub can tell again.
	if err := os.RemoveAll(filepath.Join(dir, "broker")); err != nil {
		t.Fatal(err)
	}

	s = run(t, hub.Options{Dir: dir, ReleaseKeys: sign.Trust{key.Public()}})
	token.MQTT, token.HTTP = s.hub.MQTTURL(), s.hub.HTTPURL()
	b = start(t, token, t.TempDir())
	eventually(t, "it is told again", func() bool { d := b.newest(); return d.Gen == 1 && d.Model.Manifest == one })
	send(b, wire.UpHello, wire.Hello{Epoch: b.box.Epoch(), Gen: 41}, wire.Encode[wire.Hello])
	eventually(t, "it is told something newer", func() bool { d := b.newest(); return d.Gen == 42 && d.Model.Manifest == one })
}

func TestDevicesComeAndGo(t *testing.T) {
	t.Parallel()
	s := run(t, hub.Options{Dir: t.TempDir(), Heartbeat: time.Second})
	token := s.enrol("left")
	for _, body := range []string{
		`{"tenant":"acme","name":"left"}`,
		`{"tenant":"acme_left","name":"x"}`,
		`{"tenant":"Acme","name":"left"}`,
		`{"tenant":"acme","name":"../x"}`,
	} {
		if status := s.call("POST", "/v1/devices", body, nil); status == http.StatusOK && body != `{"tenant":"acme_left","name":"x"}` {
			t.Errorf("%s was enrolled", body)
		}
	}
	s.must("POST", "/v1/devices", `{"tenant":"aa","name":"bb_cc"}`, nil)
	if status := s.call("POST", "/v1/devices", `{"tenant":"aa_bb","name":"cc"}`, nil); status != http.StatusConflict {
		t.Errorf("two devices with one client id: %d", status)
	}
	b := start(t, token, t.TempDir())
	// What it says holds for a second, in which a busy machine may not look.
	eventually(t, "it is online", func() bool {
		b.sayHello(t.Context())
		return s.online() == 1
	})
	eventually(t, "silence counts as offline", func() bool { return s.online() == 0 })
	eventually(t, "a result shows that it is there", func() bool {
		b.put(1)
		return s.online() == 1
	})

	s.must("DELETE", "/v1/devices/acme/left", nil, nil)
	eventually(t, "its connection ends", func() bool { return !b.link.Connected() })
	if status := s.call("GET", "/v1/devices/acme/left", nil, nil); status != http.StatusNotFound {
		t.Errorf("a removed device: %d", status)
	}
	if _, ok := s.hub.DeviceOf(token.Secret); ok {
		t.Error("a removed device's token is good")
	}
}

func TestOpenRefuses(t *testing.T) {
	dir := t.TempDir()
	for _, o := range []hub.Options{
		{Dir: dir, HTTPAddr: "0.0.0.0:8080"},
		{Dir: dir, MQTTAddr: "0.0.0.0:1883"},
	} {
		if h, err := hub.Open(o); !errors.Is(err, broker.ErrNeedsTLS) {
			t.Errorf("%+v: %v", o, err)
			_ = h.Close()
		}
	}
	if _, err := hub.Open(hub.Options{}); err == nil {
		t.Error("a hub without a folder")
	}
	h, err := hub.Open(hub.Options{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	defer h.Close()
	if _, err := hub.Open(hub.Options{Dir: dir}); !errors.Is(err, hub.ErrInUse) {
		t.Errorf("a second hub in one folder: %v", err)
	}
	for _, name := range []string{hub.AdminTokenFile, hub.HubKeyFile, hub.ReleaseKeyFile} {
		info, err := os.Stat(filepath.Join(dir, name))
		if err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v, %v", name, info.Mode(), err)
		}
	}
}
