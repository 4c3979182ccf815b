package agent

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	server "dunlin/hub"
	"dunlin/hub/api"
	"dunlin/sync/wire"
)

// realHub runs the hub itself, and returns it.
func realHub(t *testing.T, o server.Options) *server.Hub {
	t.Helper()
	o.Dir, o.HTTPAddr, o.MQTTAddr = t.TempDir(), "127.0.0.1:0", "127.0.0.1:0"
	h, err := server.Open(o)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- h.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("hub: %v", err)
		}
	})
	select {
	case <-h.Ready():
	case err := <-done:
		done <- err
		t.Fatalf("hub: %v", err)
	}
	return h
}

func claimLine(t *testing.T, h *server.Hub, r api.ClaimRequest) string {
	t.Helper()
	r.Tenant = "shore"
	line, _, err := h.MakeClaim(r)
	if err != nil {
		t.Fatal(err)
	}
	return line
}

// cardWith writes what a new card has: a configuration and a claim, and no
// more. It returns the folder.
func cardWith(t *testing.T, line string) string {
	t.Helper()
	dir := t.TempDir()
	files := map[string]string{
		"agent.toml": "state_dir = \"state\"\n[hub]\ntoken_file = \"claim\"\n[http]\nlisten = \"\"\n[log]\nlevel = \"debug\"\n",
		"claim":      line + "\n",
	}
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// runCard runs the agent of a card as its command does.
func runCard(t *testing.T, dir string) (stop func()) {
	t.Helper()
	c, err := ReadConfig(filepath.Join(dir, "agent.toml"))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	log := slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelInfo}))
	go func() { done <- work(ctx, "", c, log, new(slog.LevelVar)) }()
	var once atomic.Bool
	stop = func() {
		if once.Swap(true) {
			return
		}
		cancel()
		if err := <-done; err != nil {
			t.Errorf("agent: %v", err)
		}
	}
	t.Cleanup(stop)
	return stop
}

func online(h *server.Hub) (names []string) {
	for _, d := range h.Devices() {
		if d.Online {
			names = append(names, d.Name)
		}
	}
	return names
}

func isOnline(h *server.Hub, name string) func() bool {
	return func() bool { return strings.Join(online(h), " ") == name }
}

func gone(t *testing.T, path string) bool {
	t.Helper()
	_, err := os.Lstat(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		t.Fatal(err)
	}
	return err != nil
}

// statusOf asks a running agent as "dunlin-agent status" does.
func statusOf(dir string) (s Status, err error) {
	text, err := askSocket(filepath.Join(dir, "state", "agent.sock"), "/v1/status")
	if err == nil {
		err = json.Unmarshal(text, &s)
	}
	return s, err
}

// TestEnrol: a card with a claim alone comes online; the claim is gone from it
// then, and good for nobody else; the token it got outlives restarts.
func TestEnrol(t *testing.T) {
	h := realHub(t, server.Options{})
	line := claimLine(t, h, api.ClaimRequest{Name: "door"})
	dir := cardWith(t, line)
	stop := runCard(t, dir)
	wait(t, "it is online", isOnline(h, "door"))
	if !gone(t, filepath.Join(dir, "claim")) {
		t.Error("the claim is still on the card")
	}
	info, err := os.Stat(filepath.Join(dir, "state", enrolledFile))
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info, err)
	}
	stop()
	wait(t, "it is offline", isOnline(h, ""))
	stop = runCard(t, dir)
	wait(t, "it is online after a restart", isOnline(h, "door"))

	other := cardWith(t, line)
	runCard(t, other)
	wait(t, "the second use is refused", func() bool {
		s, err := statusOf(other)
		return err == nil && strings.Contains(s.Hub.Error, "refused") && s.Hub.URL == h.HTTPURL()
	})
	if all := h.Claims(); all[0].Refused != 1 || len(all[0].Devices) != 1 {
		t.Errorf("the hub says %+v", all)
	}
	if gone(t, filepath.Join(other, "claim")) {
		t.Error("a claim that was refused was taken from the card")
	}

	// A new claim on the card counts, and what it gives replaces the token.
	stop()
	if err := os.WriteFile(filepath.Join(dir, "claim"), []byte(claimLine(t, h, api.ClaimRequest{Name: "gate"})), 0o600); err != nil {
		t.Fatal(err)
	}
	runCard(t, dir)
	wait(t, "it is online under its new name", isOnline(h, "gate"))
}

// lossy stands before a hub and loses answers while it is told to.
type lossy struct {
	*httptest.Server
	lose  atomic.Bool
	asked atomic.Int32
}

func newLossy(t *testing.T, to func() string) *lossy {
	l := &lossy{}
	l.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		u, err := url.Parse(to())
		if err != nil {
			t.Error(err)
			return
		}
		if r.URL.Path == "/v1/claim" {
			l.asked.Add(1)
			if l.lose.Load() {
				w = lost{w}
			}
		}
		httputil.NewSingleHostReverseProxy(u).ServeHTTP(w, r)
		if _, is := w.(lost); is {
			panic(http.ErrAbortHandler)
		}
	}))
	t.Cleanup(l.Close)
	return l
}

// lost takes an answer and sends nothing of it.
type lost struct{ http.ResponseWriter }

func (l lost) WriteHeader(int)             {}
func (l lost) Write(p []byte) (int, error) { return len(p), nil }

// TestEnrolAnswerLost: the hub gave the token and its answer is lost, and the
// power goes: the device asks again and is the same device.
func TestEnrolAnswerLost(t *testing.T) {
	var h *server.Hub
	l := newLossy(t, func() string { return "http://" + h.HTTPAddr() })
	h = realHub(t, server.Options{PublicHTTP: l.URL})
	dir := cardWith(t, claimLine(t, h, api.ClaimRequest{}))
	l.lose.Store(true)
	stop := runCard(t, dir)
	wait(t, "the hub gives the token", func() bool { return len(h.Devices()) == 1 })
	stop()
	if gone(t, filepath.Join(dir, "claim")) || !gone(t, filepath.Join(dir, "state", enrolledFile)) {
		t.Fatal("the card changed, though no answer came")
	}
	name, before := h.Devices()[0].Name, l.asked.Load()
	l.lose.Store(false)
	runCard(t, dir)
	wait(t, "it is online", isOnline(h, name))
	if c := h.Claims()[0]; len(h.Devices()) != 1 || c.Refused != 0 || l.asked.Load() == before {
		t.Errorf("%d devices, %+v", len(h.Devices()), c)
	}
}

// TestEnrolLeftovers: the power went between what is kept and what is removed.
func TestEnrolLeftovers(t *testing.T) {
	h := realHub(t, server.Options{})
	line := claimLine(t, h, api.ClaimRequest{Name: "door"})
	dir := cardWith(t, line)
	stop := runCard(t, dir)
	wait(t, "it is online", isOnline(h, "door"))
	stop()
	for what, left := range map[string]string{"whole": line, "overwritten": strings.Repeat("\x00", len(line))} {
		wait(t, "it is offline", isOnline(h, ""))
		file := filepath.Join(dir, "claim")
		if err := os.WriteFile(file, []byte(left), 0o600); err != nil {
			t.Fatal(err)
		}
		stop := runCard(t, dir)
		wait(t, what+": it is online", isOnline(h, "door"))
		wait(t, what+": the claim is removed", func() bool { return gone(t, file) })
		stop()
	}
	if c := h.Claims()[0]; c.Refused != 0 {
		t.Errorf("it claimed again: %+v", c)
	}
}

// TestDispose: only what was used goes, whatever was put in its place after
// the agent has looked.
func TestDispose(t *testing.T) {
	claim, other := newClaim(t), newClaim(t)
	parsed, err := wire.ParseClaim(claim)
	if err != nil {
		t.Fatal(err)
	}
	token := newTestHub(t).token()
	for _, spent := range []bool{false, true} {
		for _, tc := range []struct {
			name, text string
			goes       bool
		}{
			{"the claim", claim + "\n", true},
			{"overwritten", strings.Repeat("\x00", len(claim)), true},
			{"a newer claim", other, false},
			{"a token", token, false},
			{"what nobody knows", "dunlin-2.later", false},
			{"half overwritten", strings.Repeat("\x00", 40) + token, false},
			{"nothing yet", "", false},
		} {
			a := claimer(t)
			file := filepath.Join(a.c.StateDir, tokenFile)
			a.enrolment = enrolment{file: file, spent: spent, used: parsed.ID()}
			if !spent {
				a.enrolment.claim = &parsed
			}
			if err := os.WriteFile(file, []byte(tc.text), 0o600); err != nil {
				t.Fatal(err)
			}
			a.dispose(parsed.ID())
			if gone(t, file) != tc.goes {
				t.Errorf("%s, spent %v: gone is %v", tc.name, spent, !tc.goes)
			} else if text, err := os.ReadFile(file); !tc.goes && (err != nil || string(text) != tc.text) {
				t.Errorf("%s, spent %v: %q, %v", tc.name, spent, text, err)
			}
			a.dispose(parsed.ID()) // it may be gone
		}
	}
}

func newClaim(t *testing.T) string {
	t.Helper()
	line, err := wire.NewClaim("http://127.0.0.1:1", [32]byte{}, time.Now(), time.Hour).Encode()
	if err != nil {
		t.Fatal(err)
	}
	return line
}

// TestEnrolHubLater: a device gets power before its hub does, works meanwhile,
// and says what it waits for.
func TestEnrolHubLater(t *testing.T) {
	var h atomic.Pointer[server.Hub]
	l := newLossy(t, func() string {
		if h := h.Load(); h != nil {
			return "http://" + h.HTTPAddr()
		}
		return "http://127.0.0.1:1" // nobody is there: 502
	})
	real := realHub(t, server.Options{PublicHTTP: l.URL})
	dir := cardWith(t, claimLine(t, real, api.ClaimRequest{Name: "door"}))
	runCard(t, dir)
	wait(t, "it says so", func() bool {
		s, err := statusOf(dir)
		return err == nil && strings.HasPrefix(s.Hub.Error, "not enrolled yet: hub: 502")
	})
	h.Store(real)
	wait(t, "it is online", isOnline(real, "door"))
}

// claimer returns as much of an agent as a claim is taken by.
func claimer(t *testing.T) *Agent {
	return &Agent{c: Config{StateDir: t.TempDir()}, clock: &hubClock{}, log: slog.New(slog.NewTextHandler(t.Output(), nil))}
}

// TestEnrolRefused: an answer that is not the hub's own changes nothing. After
// one that is, the hub is asked about once an hour.
func TestEnrolRefused(t *testing.T) {
	var h *server.Hub
	var answer atomic.Pointer[string] // in place of the hub's; nil: none
	var status atomic.Int32
	l := newLossy(t, func() string { return "http://" + h.HTTPAddr() })
	proxy := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if text := answer.Load(); text != nil {
			l.asked.Add(1)
			w.WriteHeader(int(status.Load()))
			fmt.Fprint(w, *text)
			return
		}
		l.Config.Handler.ServeHTTP(w, r)
	}))
	t.Cleanup(proxy.Close)
	h = realHub(t, server.Options{PublicHTTP: proxy.URL})
	for _, tc := range []struct {
		name, answer string
		status       int32
		least, most  int32 // questions in four hours
	}{
		{"a proxy's 404", "<html>not here", 404, 100, 1000},
		{"a proxy's 403, in JSON", `{"message":"no"}`, 403, 100, 1000},
		{"a proxy's 413", "", 413, 100, 1000},
		{"the hub's 500", `{"error":"the hub could not do it"}`, 500, 100, 1000},
		{"the hub's 403", `{"error":"claim: refused: it was used"}`, 403, 2, 9},
		{"the hub's 400", `{"error":"invalid request: body"}`, 400, 2, 9},
	} {
		claim, err := wire.ParseClaim(claimLine(t, h, api.ClaimRequest{}))
		if err != nil {
			t.Fatal(err)
		}
		a := claimer(t)
		answer.Store(&tc.answer)
		status.Store(tc.status)
		l.asked.Store(0)
		synctest.Test(t, func(t *testing.T) {
			time.AfterFunc(4*time.Hour, func() { answer.Store(nil) })
			if err := a.claimToken(t.Context(), claim); err != nil {
				t.Errorf("%s: %v", tc.name, err)
			}
		})
		if n := l.asked.Load(); n < tc.least || n > tc.most {
			t.Errorf("%s: asked %d times, want %d to %d", tc.name, n, tc.least, tc.most)
		}
		if k, err := readToken(a.c.StateDir); err != nil || k == nil || k.Claim != claim.ID() {
			t.Errorf("%s: kept %+v, %v", tc.name, k, err)
		}
	}
}

// TestEnrolDiskFull: a nonce that cannot be written now is written later.
func TestEnrolDiskFull(t *testing.T) {
	h := realHub(t, server.Options{})
	claim, err := wire.ParseClaim(claimLine(t, h, api.ClaimRequest{}))
	if err != nil {
		t.Fatal(err)
	}
	a := claimer(t)
	dir := a.c.StateDir
	a.c.StateDir = filepath.Join(dir, "state")
	synctest.Test(t, func(t *testing.T) {
		time.AfterFunc(time.Hour, func() {
			if s := a.claiming.status(); !strings.Contains(s, nonceFile) {
				t.Errorf("status: %s", s)
			}
			if err := os.Mkdir(a.c.StateDir, 0o700); err != nil {
				t.Error(err)
			}
		})
		if err := a.claimToken(t.Context(), claim); err != nil {
			t.Error(err)
		}
	})
	if k, err := readToken(a.c.StateDir); err != nil || k == nil || k.Claim != claim.ID() {
		t.Errorf("kept %+v, %v", k, err)
	}
}

func TestWhichTokenCounts(t *testing.T) {
	h := newTestHub(t)
	token := h.token()
	claim := wire.NewClaim("http://127.0.0.1:1", [32]byte{}, time.Now(), time.Hour)
	line, err := claim.Encode()
	if err != nil {
		t.Fatal(err)
	}
	other := wire.NewClaim("http://127.0.0.1:1", [32]byte{}, time.Now(), time.Hour)
	for _, tc := range []struct {
		name, config, file, state string // [hub], the file that it names, the file in state_dir
		kept                      string // id of the claim that enrolled.json names
		claim, token, spent       bool
		fails                     string
	}{
		{name: "nothing"},
		{name: "a token", config: fmt.Sprintf("token = %q", token), token: true},
		{name: "a claim", config: fmt.Sprintf("token = %q", line), claim: true},
		{name: "a claim in a file", config: `token_file = "t"`, file: line, claim: true},
		{name: "a token in a file", config: `token_file = "t"`, file: token + "\n", token: true},
		{name: "a claim in state_dir", state: line, claim: true},
		{name: "a token in state_dir", state: token, token: true},
		{name: "the file is missing", config: `token_file = "t"`, fails: "no such file"},
		{name: "the file is gone", config: `token_file = "t"`, kept: claim.ID(), token: true},
		{name: "nothing but what is kept", kept: claim.ID(), token: true},
		{name: "used", config: `token_file = "t"`, file: line, kept: claim.ID(), token: true, spent: true},
		{name: "overwritten", config: `token_file = "t"`, file: "\x00\x00\x00", kept: claim.ID(), token: true, spent: true},
		{name: "empty", config: `token_file = "t"`, file: "\n", kept: claim.ID(), token: true},
		{name: "used, in the configuration", config: fmt.Sprintf("token = %q", line), kept: claim.ID(), token: true},
		{name: "a newer claim", config: `token_file = "t"`, file: line, kept: other.ID(), token: true, claim: true},
		{name: "a token by hand", config: fmt.Sprintf("token = %q", token), kept: claim.ID(), token: true},
		{name: "no claim", config: `token_file = "t"`, file: line[:30], fails: "claim: has no address"},
		{name: "kept is torn", kept: "torn", fails: "enrol the device again"},
	} {
		dir := t.TempDir()
		put := func(name, text string) {
			if text == "" {
				return
			}
			if err := os.MkdirAll(filepath.Join(dir, "state"), 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		put("agent.toml", "state_dir = \"state\"\n[hub]\n"+tc.config+"\n")
		put("t", tc.file)
		put("state/token", tc.state)
		if tc.kept == "torn" {
			put("state/"+enrolledFile, `{"claim":`)
		} else if tc.kept != "" {
			put("state/"+enrolledFile, fmt.Sprintf(`{"claim":%q,"token":%q,"at":"2026-11-27T00:00:00Z"}`, tc.kept, token))
		}
		c, err := ReadConfig(filepath.Join(dir, "agent.toml"))
		if err != nil {
			t.Fatalf("%s: %v", tc.name, err)
		}
		e, err := c.enrolment()
		if tc.fails != "" {
			if err == nil || !strings.Contains(err.Error(), tc.fails) {
				t.Errorf("%s: %v", tc.name, err)
			}
			continue
		}
		if err != nil || (e.claim != nil) != tc.claim || (e.token != nil) != tc.token || e.spent != tc.spent {
			t.Errorf("%s: %+v, %v", tc.name, e, err)
		}
		if tc.spent && e.used != tc.kept {
			t.Errorf("%s: used is %q, want %q", tc.name, e.used, tc.kept)
		}
		if tc.kept != "" && e.token != nil && tc.config != fmt.Sprintf("token = %q", token) && e.since.IsZero() {
			t.Errorf("%s: nothing known of the time", tc.name)
		}
	}
}

// issue makes a certificate for 127.0.0.1, or for the host that is given, that
// is valid from a day on, signed by an authority, nil: by itself.
func issue(t *testing.T, from time.Time, by *tls.Certificate, ca bool, host ...string) tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	c := &x509.Certificate{
		SerialNumber: big.NewInt(from.UnixNano()), Subject: pkix.Name{CommonName: fmt.Sprint("hub ", ca)}, NotBefore: from, NotAfter: from.Add(24 * time.Hour),
		IsCA: ca, BasicConstraintsValid: true, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
	}
	if len(host) > 0 {
		c.IPAddresses, c.DNSNames = nil, host
		if ip := net.ParseIP(host[0]); ip != nil {
			c.IPAddresses, c.DNSNames = []net.IP{ip}, nil
		}
	}
	parent, signer := c, any(key)
	if by != nil {
		parent, signer = by.Leaf, by.PrivateKey
	}
	der, err := x509.CreateCertificate(rand.Reader, c, parent, &key.PublicKey, signer)
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	made := tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: leaf}
	if by != nil {
		made.Certificate = append(made.Certificate, by.Certificate...)
	}
	return made
}

// TestPin asks servers with good and bad certificates for a token, with clocks
// that are right, unset, and unset in 1970.
func TestPin(t *testing.T) {
	today := time.Now().Add(-time.Hour)
	ca := issue(t, today, nil, true)
	leaf := issue(t, today, &ca, false)
	alone := issue(t, today, nil, false)
	self := issue(t, today, nil, false, "10.9.8.7")
	pinOf := func(c tls.Certificate) [32]byte { return sha256.Sum256(c.Leaf.RawSubjectPublicKeyInfo) }
	right := func() (time.Time, bool) { return time.Now(), true }
	boot := func() (time.Time, bool) { return time.Unix(12, 0), false }
	for _, tc := range []struct {
		name  string
		shows tls.Certificate
		pin   [32]byte
		now   func() (time.Time, bool)
		want  string // in the error; "": none
	}{
		{"its own", alone, pinOf(alone), right, ""},
		{"its own, in 1970", alone, pinOf(alone), boot, ""},
		{"its authority", leaf, pinOf(ca), right, ""},
		{"its authority, in 1970", leaf, pinOf(ca), boot, ""},
		{"another one", alone, pinOf(ca), right, "not the one that the claim names"},
		{"another one, in 1970", alone, pinOf(ca), boot, "not the one that the claim names"},
		{"expired, and the clock is right", issue(t, today.Add(-48*time.Hour), &ca, false), pinOf(ca), right, "expired"},
		{"the authority shown, and not used", tls.Certificate{Certificate: append(append([][]byte(nil), alone.Certificate...), ca.Certificate...), PrivateKey: alone.PrivateKey}, pinOf(ca), right, "unknown authority"},
		{"its authority, for another name", issue(t, today, &ca, false, "printer.example"), pinOf(ca), right, "doesn't contain any IP SANs"},
		{"its authority, for another address", issue(t, today, &ca, false, "10.9.8.7"), pinOf(ca), boot, "not 127.0.0.1"},
		{"its own, for another address", self, pinOf(self), right, ""},
		{"no pin, an authority of nobody", alone, [32]byte{}, right, "certificate"},
	} {
		s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, `{"token":"x"}`) }))
		s.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelInfo)
		s.TLS = &tls.Config{Certificates: []tls.Certificate{tc.shows}}
		s.StartTLS()
		claim := wire.NewClaim(s.URL, tc.pin, time.Now(), time.Hour)
		client := claimClient(claim, tc.now)
		_, err := askForToken(t.Context(), client, claim, "00")
		if (err == nil) != (tc.want == "") || err != nil && !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: %v", tc.name, err)
		}
		client.CloseIdleConnections()
		s.Close()
	}
}

func TestHostOf(t *testing.T) {
	for hub, want := range map[string]string{
		"https://hub.example:7070": "hub.example", "https://10.0.0.5": "10.0.0.5", "https://[2001:db8::1]:7070": "2001:db8::1",
		"https://[fe80::1%25eth0]:7070/hub": "fe80::1", "https://[": "",
	} {
		if got := hostOf(hub); got != want {
			t.Errorf("%s: %q, want %q", hub, got, want)
		}
	}
}

// TestEnrolTLS: the claim's pin is enough to reach a hub with a certificate of
// its own making.
func TestEnrolTLS(t *testing.T) {
	ca := issue(t, time.Now().Add(-time.Hour), nil, true)
	leaf := issue(t, time.Now().Add(-time.Hour), &ca, false)
	dir := t.TempDir()
	key, err := x509.MarshalPKCS8PrivateKey(leaf.PrivateKey)
	if err != nil {
		t.Fatal(err)
	}
	write := func(name, kind string, der []byte) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	h := realHub(t, server.Options{
		CertFile: write("hub.crt", "CERTIFICATE", leaf.Certificate[0]), KeyFile: write("hub.pem", "PRIVATE KEY", key),
		CAFile: write("ca.crt", "CERTIFICATE", ca.Certificate[0]),
	})
	line := claimLine(t, h, api.ClaimRequest{Name: "door"})
	if c, err := wire.ParseClaim(line); err != nil || !c.Pinned() {
		t.Fatalf("%v, %v", c, err)
	}
	runCard(t, cardWith(t, line))
	wait(t, "it is online", isOnline(h, "door"))
}

// TestHubWithoutClock: a hub whose clock was never set, or is years ahead, is
// not believed the time, in its answer to a claim or in an acknowledgement.
func TestHubWithoutClock(t *testing.T) {
	claim, err := wire.ParseClaim(newClaim(t))
	if err != nil {
		t.Fatal(err)
	}
	token := newTestHub(t).token()
	inside := claim.Made.Add(time.Minute)
	for _, tc := range []struct{ hub, want time.Time }{
		{time.Unix(60, 0), claim.Made}, {time.Time{}, claim.Made}, {claim.NotAfter.AddDate(30, 0, 0), claim.Made}, {inside, inside},
	} {
		a := claimer(t)
		if err := a.keepToken(claim, wire.ClaimAnswer{Token: token, HubTime: tc.hub}); err != nil {
			t.Fatal(err)
		}
		if e, err := a.c.enrolment(); err != nil || e.token == nil || !e.since.Equal(tc.want) {
			t.Errorf("a hub where it is %v: it is later than %v, want %v; %v", tc.hub, e.since, tc.want, err)
		}
	}
	var c hubClock
	for _, unset := range []time.Time{{}, time.Unix(60, 0), time.Date(2001, 1, 1, 0, 0, 0, 0, time.UTC)} {
		c.heard(unset)
		if at, _ := c.now(); time.Since(at) > time.Minute || !c.really.IsZero() {
			t.Errorf("a hub where it is %v: it is %v", unset, at)
		}
	}
	ahead := time.Now().Add(time.Hour)
	c.heard(ahead)
	c.heard(time.Unix(60, 0))
	if at, known := c.now(); !known || at.Sub(ahead).Abs() > time.Minute {
		t.Errorf("a hub that was set: it is %v, want %v", at, ahead)
	}
}
