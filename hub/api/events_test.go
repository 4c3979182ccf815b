package api

import (
	"net/http"
	"net/http/httptest"
	"strings"
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

// TestPublicHost is a hub on loopback behind a proxy that hands the name on
// by which it was asked: devices were refused their models.
func TestPublicHost(t *testing.T) {
	for _, public := range []string{"", "hub.example:7070"} {
		s, err := New(Options{AdminToken: strings.Repeat("a", MinToken), Loopback: true, PublicHost: public})
		if err != nil {
			t.Fatal(err)
		}
		for host, want := range map[string]int{
			"127.0.0.1:7070": http.StatusOK, "evil.example:7070": http.StatusMisdirectedRequest, "": http.StatusMisdirectedRequest,
			"Hub.example:7070": map[string]int{"": http.StatusMisdirectedRequest, "hub.example:7070": http.StatusOK}[public],
		} {
			r, w := httptest.NewRequest("GET", "/livez", nil), httptest.NewRecorder()
			r.Host = host
			s.ServeHTTP(w, r)
			if w.Code != want {
				t.Errorf("public host %q: asked for %q: status %d, want %d", public, host, w.Code, want)
			}
		}
	}
}

var _ http.Handler = (*Server)(nil)
