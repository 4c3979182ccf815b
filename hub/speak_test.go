package hub

import (
	"strings"
	"testing"

	"dunlin/sync/wire"
)

// dueTopics returns how often each message is due, by what follows the version in
// its topic.
func (h *Hub) dueTopics() map[string]int {
	topics := map[string]int{}
	for _, m := range h.due() {
		topics[m.Topic[strings.LastIndex(m.Topic, "acme/"):]]++
	}
	return topics
}

// send does what follows when messages were handed to the broker.
func (h *Hub) send(all []outgoing) {
	for _, m := range all {
		h.note(m.begin)
		h.note(m.sent)
	}
}

// TestWhatIsNotSentStaysDue: without a broker nothing that is to be said is
// forgotten, and what was sent is not said again.
func TestWhatIsNotSentStaysDue(t *testing.T) {
	h := closedHub(t, "left", "gone")
	says(t, h, "left", wire.UpHello, wire.Hello{Epoch: "0123456789abcdef", Boot: "b"}, wire.Encode[wire.Hello])
	if err := h.RemoveDevice(wire.Device{Tenant: "acme", Name: "gone"}); err != nil {
		t.Fatal(err)
	}
	want := map[string]int{"acme/left/down/ack": 1, "acme/gone/down/desired": 1, "acme/gone/up/status": 1, "acme/gone/up/reported": 1}
	for range 2 {
		h.speak(t.Context()) // there is no link
		got := h.dueTopics()
		for topic := range want {
			if got[topic] != 1 {
				t.Fatalf("due: %v, want %v", got, want)
			}
		}
	}
	old := h.due()
	says(t, h, "left", wire.UpHello, wire.Hello{Epoch: "fedcba9876543210", Boot: "b"}, wire.Encode[wire.Hello])
	h.send(old)
	if got := h.dueTopics(); len(got) != 1 || got["acme/left/down/ack"] != 1 {
		t.Errorf("due after all was sent: %v, want the newer acknowledgement only", got)
	}
}

// TestHelloWhileADocumentIsSent: a device that comes back while its document
// is on the way to the broker may have subscribed too late for it, and had the
// one before among the retained ones. It gets it again.
func TestHelloWhileADocumentIsSent(t *testing.T) {
	h := closedHub(t, "left")
	importText(t, h, "", "<http://x/s> <http://x/p> \"o\" .\n")
	hello := func() {
		says(t, h, "left", wire.UpHello, wire.Hello{Epoch: "0123456789abcdef", Boot: "b"}, wire.Encode[wire.Hello])
	}
	hello()
	for _, back := range []bool{true, false} {
		on := h.due()
		if back {
			hello()
		}
		h.send(on)
		want := 0
		if back {
			want = 1
		}
		if got := h.dueTopics(); got["acme/left/down/desired"] != want {
			t.Errorf("it comes back: %v; due: %v", back, got)
		}
	}
}
