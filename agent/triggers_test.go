package agent

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"periph.io/x/conn/v3/gpio"

	"dunlin/boards/pins"
	"dunlin/sync/wire"
)

// button is a pin with a button at it.
type button struct {
	gpio.PinIO // for the methods that are not used here
	presses    chan struct{}
	pull       gpio.Pull
	edge       gpio.Edge

	mu    sync.Mutex
	fails error
}

func (b *button) In(p gpio.Pull, e gpio.Edge) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.pull, b.edge = p, e
	return b.fails
}

func (b *button) Read() gpio.Level { return gpio.High }

func (b *button) WaitForEdge(d time.Duration) bool {
	select {
	case <-b.presses:
		return true
	case <-time.After(d):
		return false
	}
}

// A button has a camera asked for a picture, once each time it is pressed,
// and never else.
func TestButton(t *testing.T) {
	dark := picture(t, 3, 1)
	var asked atomic.Int64
	camera := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked.Add(1)
		_, _ = w.Write(dark)
	}))
	t.Cleanup(camera.Close)
	h := newTestHub(t)
	c, _ := h.config(t)
	c.Folder.Dir = ""
	c.Sources = []SourceConfig{{Name: "door", Kind: kindSnapshot, URL: camera.URL}}
	c.Triggers = []TriggerConfig{{Sources: []string{"door"}, Line: "GPIO27", Edge: "falling", Pull: "up"}}
	if field, err := c.check(); err != nil {
		t.Fatalf("%s: %v", field, err)
	}
	b := &button{PinIO: gpio.INVALID, presses: make(chan struct{})}
	a, _ := run(t, c, func(a *Agent) {
		a.UseEdges(hostLines{pins.New(pins.Chip{Label: "test", Pins: []pins.Pin{{PinIO: b, Name: "GPIO27"}}})})
	})
	h.want(h.offer(1, false), nil)
	h.until("the model", func() bool { return h.ended(1) == wire.StateActive })
	for i := range 3 {
		if n := asked.Load(); n != int64(i) {
			t.Fatalf("the camera was asked %d times before press %d", n, i+1)
		}
		b.presses <- struct{}{}
		h.until("the result of the press", func() bool { return len(h.seen("snapshot:door")) == i+1 })
	}
	if b.pull != gpio.PullUp || b.edge != gpio.FallingEdge {
		t.Errorf("the line has %v, %v", b.pull, b.edge)
	}
	s := a.Status()
	if s.Triggers[0].Hits != 3 || s.Triggers[0].Error != "" || s.Sources[0].Error != "" || s.Sources[0].Missed != 0 {
		t.Errorf("%+v, %+v", s.Triggers, s.Sources)
	}
}

// A line that cannot be watched is tried again, and its trouble is known as
// long as it lasts.
func TestWatchedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := &button{PinIO: gpio.INVALID, presses: make(chan struct{}), fails: errors.New("line_request ioctl: device or resource busy")}
		c := defaults()
		c.Sources = []SourceConfig{{Name: "ear", Kind: kindLines, Device: "/no"}}
		c.Triggers = []TriggerConfig{{Sources: []string{"ear"}, Line: "test:0"}}
		a, log, stop := sensing(t, nil, c)
		defer stop()
		a.UseEdges(hostLines{pins.New(pins.Chip{Label: "test", Pins: []pins.Pin{{PinIO: b, Name: ""}}})})
		ctx, cancel := context.WithCancel(t.Context())
		var all sync.WaitGroup
		a.runTriggers(ctx, &all)
		synctest.Wait()
		if s := a.triggerStatus()[0]; !strings.Contains(s.Error, "line test:0: the line is in use") {
			t.Errorf("%+v", s)
		}
		<-time.After(25 * time.Second)
		b.mu.Lock()
		b.fails = nil
		b.mu.Unlock()
		<-time.After(20 * time.Second)
		synctest.Wait()
		if s := a.triggerStatus()[0]; s.Error != "" || strings.Count(log.String(), "WARN") != 1 {
			t.Errorf("%+v\n%s", s, log)
		}
		b.presses <- struct{}{}
		synctest.Wait()
		if s := a.triggerStatus()[0]; s.Hits != 1 {
			t.Errorf("%+v", s)
		}
		cancel()
		all.Wait()
	})
}
