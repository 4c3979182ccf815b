package hub_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"dunlin/hub"
)

// do sends a request and returns its status and body.
func (s *site) do(method, path string, header map[string]string, body string) (int, string, http.Header) {
	s.t.Helper()
	req, err := http.NewRequest(method, s.url+path, strings.NewReader(body))
	if err != nil {
		s.t.Fatal(err)
	}
	for k, v := range header {
		if k == "Host" {
			req.Host = v
		}
		req.Header.Set(k, v)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		s.t.Fatal(err)
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	if err != nil {
		s.t.Fatal(err)
	}
	return resp.StatusCode, string(data), resp.Header
}

func TestWhoMayDoWhat(t *testing.T) {
	s := run(t, hub.Options{Dir: t.TempDir(), Page: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "page") })})
	token := s.enrol("left")
	l, manifest := packed(t, 1, true)
	s.upload(l, manifest)
	admin, device := map[string]string{"Authorization": "Bearer " + s.admin}, map[string]string{"Authorization": "Bearer " + token.Secret}
	stranger := map[string]string{"Authorization": "Bearer " + strings.Repeat("0", 64)}
	none := map[string]string{}
	for _, tc := range []struct {
		method, path                    string
		admin, device, stranger, nobody int
	}{
		{"GET", "/livez", 200, 200, 200, 200},
		{"GET", "/", 200, 200, 200, 200},
		{"GET", "/v1/blob/" + manifest, 200, 200, 401, 401},
		{"PUT", "/v1/blob/" + manifest, 400, 403, 401, 401},
		{"GET", "/v1/models", 200, 403, 401, 401},
		{"POST", "/v1/models", 400, 403, 401, 401},
		{"GET", "/v1/models/garments/1/front.svg", 404, 403, 401, 401},
		{"GET", "/v1/facts", 200, 403, 401, 401},
		{"POST", "/v1/facts", 400, 403, 401, 401},
		{"GET", "/v1/facts/describe?iri=x", 200, 403, 401, 401},
		{"GET", "/v1/facts/describe?iri=x&graph=none", 404, 403, 401, 401},
		{"GET", "/v1/devices", 200, 403, 401, 401},
		{"POST", "/v1/devices", 400, 403, 401, 401},
		{"GET", "/v1/devices/acme/left", 200, 403, 401, 401},
		{"POST", "/v1/devices/acme/left/commands", 400, 403, 401, 401},
		{"POST", "/v1/devices/acme/none/token", 404, 403, 401, 401},
		{"GET", "/v1/claims", 200, 403, 401, 401},
		{"POST", "/v1/claims", 400, 403, 401, 401},
		{"DELETE", "/v1/claims/x", 404, 403, 401, 401},
		{"POST", "/v1/claim", 400, 400, 400, 400},
		{"GET", "/v1/commands/x", 404, 403, 401, 401},
		{"GET", "/v1/rollouts", 200, 403, 401, 401},
		{"POST", "/v1/rollouts", 400, 403, 401, 401},
		{"GET", "/v1/rollouts/x", 404, 403, 401, 401},
		{"POST", "/v1/rollouts/x/abort", 404, 403, 401, 401},
		{"GET", "/v1/results", 200, 403, 401, 401},
		{"GET", "/v1/results/1/explanation", 404, 403, 401, 401},
		{"PUT", "/v1/results/1/explanation", 400, 403, 401, 401},
		{"GET", "/v1/summary", 200, 403, 401, 401},
		{"GET", "/metrics", 200, 403, 401, 401},
		{"GET", "/v1/nothing", 404, 404, 404, 404},
		{"GET", "/v1/blob/sha256:x", 404, 404, 401, 401},
		{"POST", "/v1/session", 400, 400, 400, 400},
		{"DELETE", "/v1/devices/acme/left", 200, 401, 401, 401}, // the device's token ends with it
	} {
		for i, header := range []map[string]string{admin, device, stranger, none} {
			want := []int{tc.admin, tc.device, tc.stranger, tc.nobody}[i]
			if status, body, _ := s.do(tc.method, tc.path, header, ""); status != want {
				t.Errorf("%s %s as %s: %d, want %d: %s", tc.method, tc.path, []string{"admin", "device", "stranger", "nobody"}[i], status, want, body)
			}
		}
	}
}

func TestBrowserRules(t *testing.T) {
	s := run(t, hub.Options{Dir: t.TempDir()})
	status, body, header := s.do("POST", "/v1/session", nil, `{"token":"`+s.admin+`"}`)
	cookie := header.Get("Set-Cookie")
	if status != 200 || !strings.Contains(cookie, "HttpOnly") || !strings.Contains(cookie, "SameSite=Strict") || strings.Contains(cookie, s.admin) {
		t.Fatalf("%d %s %s", status, body, cookie)
	}
	session, _, _ := strings.Cut(cookie, ";")
	own := s.url
	for _, tc := range []struct {
		name, method, path string
		header             map[string]string
		want               int
	}{
		{"session", "GET", "/v1/devices", map[string]string{"Cookie": session}, 200},
		{"forged session", "GET", "/v1/devices", map[string]string{"Cookie": session + "0"}, 401},
		{"own origin", "POST", "/v1/rollouts/x/abort", map[string]string{"Cookie": session, "Origin": own}, 404},
		{"another origin", "POST", "/v1/rollouts/x/abort", map[string]string{"Cookie": session, "Origin": "http://evil.example"}, 403},
		{"another site", "POST", "/v1/rollouts/x/abort", map[string]string{"Cookie": session, "Sec-Fetch-Site": "cross-site"}, 403},
		{"another host", "GET", "/v1/devices", map[string]string{"Cookie": session, "Host": "evil.example"}, 421},
		{"another host, no token", "GET", "/livez", map[string]string{"Host": "evil.example:80"}, 421},
		{"localhost", "GET", "/livez", map[string]string{"Host": "localhost:1"}, 200},
		{"IPv6 loopback", "GET", "/livez", map[string]string{"Host": "[::1]:1"}, 200},
		{"wrong token", "POST", "/v1/session", map[string]string{}, 400},
	} {
		if status, body, _ := s.do(tc.method, tc.path, tc.header, ""); status != tc.want {
			t.Errorf("%s: %d, want %d: %s", tc.name, status, tc.want, body)
		}
	}
	if status, _, _ := s.do("POST", "/v1/session", nil, `{"token":"guess"}`); status != 401 {
		t.Errorf("a session for a guess: %d", status)
	}
}

func TestErrorsAreJSON(t *testing.T) {
	s := run(t, hub.Options{Dir: t.TempDir()})
	admin := map[string]string{"Authorization": "Bearer " + s.admin}
	for _, tc := range []struct{ method, path, body, want string }{
		{"GET", "/v1/results?limit=0", "", `{"error":"invalid request: limit \"0\": want 1 to 1000"}`},
		{"GET", "/v1/results?since=monday", "", `invalid request: since`},
		{"GET", "/v1/results?device=x", "", `want TENANT/NAME`},
		{"GET", "/v1/results?order=up", "", `oldest or newest`},
		{"GET", "/v1/results?after=x", "", `after`},
		{"POST", "/v1/devices", `{"tenant":"acme","name":"x","color":"red"}`, `unknown field \"color\"`},
		{"POST", "/v1/devices", `{"tenant":"acme","name":"left"} {}`, `more than one value`},
		{"POST", "/v1/devices", strings.Repeat(" ", 5000), `{"error":`},
		{"GET", "/v1/devices/acme/left", "", `{"error":"device acme/left: not found"}`},
		{"GET", "/v1/commands/x?wait=-1", "", `want seconds`},
		{"GET", "/v1/devices", "", `{"devices":[]}`},
		{"GET", "/v1/models", "", `{"models":[]}`},
		{"GET", "/v1/rollouts", "", `{"rollouts":[]}`},
		{"GET", "/v1/facts", "", `{"graphs":[]}`},
		{"GET", "/v1/results", "", `{"rows":[]}`},
	} {
		_, body, header := s.do(tc.method, tc.path, admin, tc.body)
		if !strings.Contains(body, tc.want) || header.Get("Content-Type") != "application/json" {
			t.Errorf("%s %s: %s (%s), want %s", tc.method, tc.path, body, header.Get("Content-Type"), tc.want)
		}
	}
}

func TestBlobRanges(t *testing.T) {
	s := run(t, hub.Options{Dir: t.TempDir()})
	l, manifest := packed(t, 1, true)
	s.upload(l, manifest)
	header := map[string]string{"Authorization": "Bearer " + s.admin}
	_, whole, h := s.do("GET", "/v1/blob/"+manifest, header, "")
	if h.Get("ETag") != `"`+manifest+`"` || !strings.Contains(h.Get("Cache-Control"), "immutable") {
		t.Errorf("headers %v", h)
	}
	header["Range"] = "bytes=10-"
	if status, rest, _ := s.do("GET", "/v1/blob/"+manifest, header, ""); status != http.StatusPartialContent || rest != whole[10:] {
		t.Errorf("range: %d, %d bytes of %d", status, len(rest), len(whole))
	}
	if status, _, h := s.do("HEAD", "/v1/blob/"+manifest, header, ""); status != http.StatusPartialContent || h.Get("Content-Length") == "" {
		t.Errorf("HEAD: %d", status)
	}
}

func TestEvents(t *testing.T) {
	s := run(t, hub.Options{Dir: t.TempDir()})
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, "GET", s.url+"/v1/events", nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+s.admin)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	seen := make(chan string, 1000)
	go func() {
		lines := bufio.NewScanner(resp.Body)
		lines.Buffer(nil, 1<<20)
		for lines.Scan() {
			if name, ok := strings.CutPrefix(lines.Text(), "event: "); ok {
				seen <- name
			}
		}
		close(seen)
	}()
	want := map[string]bool{"summary": true, "device": true, "result": true, "facts": true, "command": true}
	b := start(t, s.enrol("left"), t.TempDir())
	b.put(1)
	s.must("POST", "/v1/facts", triples(0, 3), nil)
	s.command("acme/left", `{"name":"status"}`)
	deadline := time.After(time.Minute)
	for len(want) > 0 {
		select {
		case name := <-seen:
			delete(want, name)
		case <-deadline:
			t.Fatalf("no event of %v", want)
		}
	}
	s.stop()
	for range seen {
		// The stream ends with the hub.
	}
}

// TestSlowRequests opens connections that say nothing, or never finish their
// headers, and sees them closed.
func TestSlowRequests(t *testing.T) {
	t.Parallel() // it waits for a time-out of 10 s
	s := run(t, hub.Options{Dir: t.TempDir()})
	conn, err := net.Dial("tcp", s.hub.HTTPAddr())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := io.WriteString(conn, "GET /livez HTTP/1.1\r\nHost: 127.0.0.1\r\nX-Slow: "); err != nil {
		t.Fatal(err)
	}
	if err := conn.SetReadDeadline(time.Now().Add(time.Minute)); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadAll(conn); err != nil {
		t.Errorf("the connection is still open: %v", err)
	}
}

func TestMetrics(t *testing.T) {
	s := run(t, hub.Options{Dir: t.TempDir()})
	b := start(t, s.enrol("left"), t.TempDir())
	b.put(5)
	eventually(t, "the results are stored", b.drained)
	_, body, _ := s.do("GET", "/metrics", map[string]string{"Authorization": "Bearer " + s.admin}, "")
	for _, want := range []string{
		"dunlin_hub_results_stored_total 5\n", "dunlin_hub_devices_online 1\n", "dunlin_hub_results 5\n", "dunlin_hub_broker_up 1\n",
		`dunlin_hub_messages_dropped_total{why="malformed"} 0`,
	} {
		if !strings.Contains(body, want) {
			t.Errorf("no %q in\n%s", want, body)
		}
	}
}

// TestCountedBeforeTheAcknowledgement: what a device was told is stored is in
// the metrics by then.
func TestCountedBeforeTheAcknowledgement(t *testing.T) {
	before, committed, goOn := holdAcks()
	s := run(t, hub.Options{Dir: t.TempDir(), BeforeAck: before})
	defer goOn()
	start(t, s.enrol("left"), t.TempDir()).put(1)
	<-committed
	_, body, _ := s.do("GET", "/metrics", map[string]string{"Authorization": "Bearer " + s.admin}, "")
	if want := "dunlin_hub_results_stored_total 1\n"; !strings.Contains(body, want) {
		t.Errorf("no %q in\n%s", want, body)
	}
}
