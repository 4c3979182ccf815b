package api

import (
	"net/http"
	"testing"
)

func TestSlowClientLosesEventsAndIsTold(t *testing.T) {
	var e Events
	if e.Watched() {
		t.Error("somebody watches")
	}
	slow, quick := e.join(), e.join()
	for i := range clientQueue + 10 {
		e.Publish(EventResult, i)
		<-quick.queue
	}
	if n := e.missed(slow); n != 10 || len(slow.queue) != clientQueue {
		t.Errorf("missed %d, %d wait", n, len(slow.queue))
	}
	if n := e.missed(quick) + e.missed(slow); n != 0 {
		t.Errorf("missed %d", n)
	}
	if m := <-slow.queue; m.data != "0" {
		t.Errorf("the first event is %s", m.data)
	}
	e.leave(quick)
	e.Publish(EventResult, 1)
	e.Close()
	if e.join() != nil {
		t.Error("a closed stream was joined")
	}
}

func TestClientsAreBounded(t *testing.T) {
	var e Events
	for range maxClients {
		if e.join() == nil {
			t.Fatal("refused too early")
		}
	}
	if e.join() != nil {
		t.Error("one too many")
	}
}

func TestShortAdminToken(t *testing.T) {
	if _, err := New(Options{AdminToken: "short"}); err == nil {
		t.Error("a short token was taken")
	}
}

func TestLoopbackHost(t *testing.T) {
	for host, want := range map[string]bool{
		"127.0.0.1": true, "127.0.0.1:80": true, "localhost": true, "LOCALHOST:8080": true, "[::1]:80": true, "[::1]": true,
		"": false, "evil.example": false, "127.0.0.1.evil.example": false, "localhost.evil.example:80": false, "10.0.0.1": false,
	} {
		if got := loopbackHost(host); got != want {
			t.Errorf("%q: %v", host, got)
		}
	}
}

var _ http.Handler = (*Server)(nil)
