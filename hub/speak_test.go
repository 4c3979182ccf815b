package hub

import (
	"strings"
	"testing"

	"dunlin/sync/wire"
)

// TestWhatIsNotSentStaysDue: without a broker nothing that is to be said is
// forgotten, and what was sent is not said again.
func TestWhatIsNotSentStaysDue(t *testing.T) {
	h := closedHub(t, "left", "gone")
	says(t, h, "left", wire.UpHello, wire.Hello{Epoch: "0123456789abcdef", Boot: "b"}, wire.Encode[wire.Hello])
	if err := h.RemoveDevice(wire.Device{Tenant: "acme", Name: "gone"}); err != nil {
		t.Fatal(err)
	}
	due := func() map[string]int {
		kinds := map[string]int{}
		for _, m := range h.due() {
			kinds[m.Topic[strings.LastIndex(m.Topic, "acme/"):]]++
		}
		return kinds
	}
	want := map[string]int{"acme/left/down/ack": 1, "acme/gone/down/desired": 1, "acme/gone/up/status": 1, "acme/gone/up/reported": 1}
	for range 2 {
		h.speak(t.Context()) // there is no link
		got := due()
		for topic := range want {
			if got[topic] != 1 {
				t.Fatalf("due: %v, want %v", got, want)
			}
		}
	}
	old := h.due()
	says(t, h, "left", wire.UpHello, wire.Hello{Epoch: "fedcba9876543210", Boot: "b"}, wire.Encode[wire.Hello])
	for _, m := range old {
		if m.sent != nil {
			m.sent()
		}
	}
	if got := due(); len(got) != 1 || got["acme/left/down/ack"] != 1 {
		t.Errorf("due after all was sent: %v, want the newer acknowledgement only", got)
	}
}
