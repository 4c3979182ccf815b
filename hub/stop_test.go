package hub_test

import (
	"net"
	"testing"

	"dunlin/hub"
)

// TestLastAcknowledgementGoesOut: results that are committed while the hub
// stops are acknowledged before it is gone.
func TestLastAcknowledgementGoesOut(t *testing.T) {
	before, committed, goOn := holdAcks()
	s := run(t, hub.Options{Dir: t.TempDir(), BeforeAck: before})
	b := start(t, s.enrol("left"), t.TempDir())
	b.put(1) // of more, some could be sent only after the hub has stopped listening
	<-committed
	stopped := make(chan struct{})
	go func() {
		s.stop()
		close(stopped)
	}()
	eventually(t, "the hub has begun to stop", func() bool {
		c, err := net.Dial("tcp", s.hub.HTTPAddr())
		if err == nil {
			c.Close()
		}
		return err != nil
	})
	goOn()
	<-stopped
	eventually(t, "the results are acknowledged", b.drained)
}
