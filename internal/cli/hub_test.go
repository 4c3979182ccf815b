package cli

import (
	"testing"

	"dunlin/hub"
)

// TestOnLAN is what --lan makes of the addresses that nobody gave.
func TestOnLAN(t *testing.T) {
	for _, c := range []struct {
		host, http, mqtt string // "": not given
		want             hub.Options
	}{
		{host: "192.168.1.10", want: hub.Options{
			HTTPAddr: ":7070", MQTTAddr: ":8883", PublicHTTP: "https://192.168.1.10:7070", PublicMQTT: "tls://192.168.1.10:8883",
		}},
		{host: "hub.local", http: "127.0.0.1:9000", want: hub.Options{
			HTTPAddr: "127.0.0.1:9000", MQTTAddr: ":8883", PublicHTTP: "https://hub.local:9000", PublicMQTT: "tls://hub.local:8883",
		}},
		{host: "fd00::7", mqtt: "[::]:1", want: hub.Options{
			HTTPAddr: ":7070", MQTTAddr: "[::]:1", PublicHTTP: "https://[fd00::7]:7070", PublicMQTT: "tls://[fd00::7]:1",
		}},
	} {
		o := hub.Options{HTTPAddr: c.http, MQTTAddr: c.mqtt}
		if err := onLAN(&o, c.host, func(flag string) bool { return map[string]string{"http": c.http, "mqtt": c.mqtt}[flag] != "" }); err != nil {
			t.Errorf("%s: %v", c.host, err)
		}
		if o.HTTPAddr != c.want.HTTPAddr || o.MQTTAddr != c.want.MQTTAddr || o.PublicHTTP != c.want.PublicHTTP || o.PublicMQTT != c.want.PublicMQTT || o.OwnHost != c.host {
			t.Errorf("%s: %+v", c.host, o)
		}
	}
	for _, host := range []string{"192.168.1.10:7070", "https://hub", "a b", "-x"} {
		if err := onLAN(new(hub.Options), host, func(string) bool { return false }); err == nil {
			t.Errorf("--lan %q was taken", host)
		}
	}
}
