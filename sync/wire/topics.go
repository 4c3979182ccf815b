package wire

import (
	"fmt"
	"regexp"
	"strings"
)

// Version is the second level of every topic. Unknown fields of a message are
// ignored; a change that an older peer would misread takes a new Version.
const Version = "v1"

// nameRule is safe as an MQTT level, a NATS token, a file name and a label.
var nameRule = regexp.MustCompile(`^[a-z0-9][a-z0-9_-]+$`)

// CheckName fails where s cannot name a tenant or a device: two to 63 of a-z,
// 0-9, "-" and "_", beginning with a letter or a digit.
func CheckName(what, s string) error {
	if len(s) > 63 || !nameRule.MatchString(s) {
		return fmt.Errorf("%s name %q: use 2 to 63 of a-z, 0-9, - and _, the first a letter or a digit", what, s)
	}
	return nil
}

// Device names one device of one tenant.
type Device struct{ Tenant, Name string }

// ClientID is the device's MQTT client id and user name.
func (d Device) ClientID() string { return d.Tenant + "_" + d.Name }

// String returns "tenant/name".
func (d Device) String() string { return d.Tenant + "/" + d.Name }

// ParseDevice is the inverse of String.
func ParseDevice(s string) (Device, error) {
	tenant, name, ok := strings.Cut(s, "/")
	if !ok {
		return Device{}, fmt.Errorf("device %q: want TENANT/NAME", s)
	}
	if err := CheckName("tenant", tenant); err != nil {
		return Device{}, err
	}
	return Device{tenant, name}, CheckName("device", name)
}

// Kind is the last two levels of a topic. Those that begin with "up/" are
// published by the device, those with "down/" by the hub.
type Kind string

// The kinds of messages; docs/WIRE.md shows an example of each.
const (
	UpHello    Kind = "up/hello"     // Hello, QoS 1, after each connect
	UpStatus   Kind = "up/status"    // Status, QoS 1, retained, and the last will
	UpReported Kind = "up/reported"  // Reported, QoS 1, retained
	UpResult   Kind = "up/result"    // Batch, QoS 1, resent until acknowledged
	UpMetric   Kind = "up/metric"    // Metric, QoS 0
	UpCmdAck   Kind = "up/cmdack"    // CmdAck, QoS 1
	DownWanted Kind = "down/desired" // Signed Desired, retained
	DownCmd    Kind = "down/cmd"     // Signed Cmd
	DownAck    Kind = "down/ack"     // Ack, QoS 0
)

// UpKinds and DownKinds list every kind in each direction.
var (
	UpKinds   = []Kind{UpHello, UpStatus, UpReported, UpResult, UpMetric, UpCmdAck}
	DownKinds = []Kind{DownWanted, DownCmd, DownAck}
)

const root = "dunlin/" + Version + "/"

// Topic returns the MQTT topic of one kind of message of one device.
func Topic(d Device, k Kind) string { return root + d.Tenant + "/" + d.Name + "/" + string(k) }

// AllTopics returns the filter with which the hub subscribes to one kind of
// message of every device.
func AllTopics(k Kind) string { return root + "+/+/" + string(k) }

// ParseTopic is the inverse of Topic.
func ParseTopic(topic string) (Device, Kind, error) {
	p := strings.SplitN(strings.TrimPrefix(topic, root), "/", 3)
	if !strings.HasPrefix(topic, root) || len(p) != 3 {
		return Device{}, "", fmt.Errorf("topic %q: want %sTENANT/DEVICE/KIND", topic, root)
	}
	d := Device{p[0], p[1]}
	if err := CheckName("tenant", d.Tenant); err != nil {
		return Device{}, "", err
	}
	return d, Kind(p[2]), CheckName("device", d.Name)
}
