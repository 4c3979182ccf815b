package hub_test

import (
	"bytes"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"

	"dunlin/hub"
	"dunlin/hub/api"
	"dunlin/sync/wire"
)

// claim makes a claim and returns what its line says.
func (s *site) claim(r api.ClaimRequest) wire.Claim {
	s.t.Helper()
	var out struct {
		Line string
		QR   []string
	}
	s.must("POST", "/v1/claims", r, &out)
	c, err := wire.ParseClaim(out.Line)
	if err != nil {
		s.t.Fatal(err)
	}
	if len(out.QR) < 21 || len(out.QR) != len(out.QR[0]) {
		s.t.Errorf("a code of %d rows", len(out.QR))
	}
	return c
}

func claimBody(c wire.Claim, nonce byte, host string) wire.ClaimRequest {
	return wire.ClaimRequest{
		Secret: hex.EncodeToString(c.Secret[:]), Nonce: hex.EncodeToString(bytes.Repeat([]byte{nonce}, wire.NonceSize)),
		Hostname: host, Serial: "10000000abcd1234",
	}
}

// take asks for the token of a claim, without any login.
func (s *site) take(r wire.ClaimRequest) (wire.Token, int, string) {
	s.t.Helper()
	data, err := json.Marshal(r)
	if err != nil {
		s.t.Fatal(err)
	}
	status, body, _ := s.do("POST", "/v1/claim", nil, string(data))
	if status != http.StatusOK {
		return wire.Token{}, status, body
	}
	var out wire.ClaimAnswer
	if err := json.Unmarshal([]byte(body), &out); err != nil {
		s.t.Fatal(err)
	}
	if out.HubTime.IsZero() {
		s.t.Error("the answer has no time")
	}
	token, err := wire.ParseToken(out.Token)
	if err != nil {
		s.t.Fatal(err)
	}
	return token, status, body
}

func (s *site) claims() []api.Claim {
	s.t.Helper()
	var out struct{ Claims []api.Claim }
	s.must("GET", "/v1/claims", nil, &out)
	return out.Claims
}

// TestClaim: one device gets a token that works, again if the answer was lost,
// after a restart too; another gets none, and the operator sees that it tried.
func TestClaim(t *testing.T) {
	dir := t.TempDir()
	s := run(t, hub.Options{Dir: dir})
	c := s.claim(api.ClaimRequest{Tenant: "acme", Name: "left"})
	if c.HTTP != s.url || c.Pinned() || c.NotAfter.Sub(c.Made).Hours() != 1 {
		t.Errorf("%+v", c)
	}
	first, status, body := s.take(claimBody(c, 1, ""))
	if status != 200 || first.ID().String() != "acme/left" {
		t.Fatalf("%d %s", status, body)
	}
	b := start(t, first, t.TempDir())
	b.put(3)
	eventually(t, "its results are stored", b.drained)
	b.stop()
	if again, status, body := s.take(claimBody(c, 1, "")); status != 200 || again.Secret != first.Secret {
		t.Errorf("a repeat: %d %s", status, body)
	}
	if _, status, body := s.take(claimBody(c, 2, "")); status != 403 || !strings.Contains(body, "used, by acme/left") {
		t.Errorf("another device: %d %s", status, body)
	}
	s.stop()

	s = run(t, hub.Options{Dir: dir})
	if again, status, body := s.take(claimBody(c, 1, "")); status != 200 || again.Secret != first.Secret {
		t.Errorf("a repeat after a restart: %d %s", status, body)
	}
	if _, status, _ := s.take(claimBody(c, 3, "")); status != 403 {
		t.Errorf("another device after a restart: %d", status)
	}
	all := s.claims()
	if len(all) != 1 || all[0].ID != c.ID() || len(all[0].Devices) != 1 || all[0].Refused != 2 || all[0].RefusedFrom != "127.0.0.1" || all[0].RefusedWhy == "" {
		t.Errorf("%+v", all)
	}
	// The claim gives no token that the operator has replaced meanwhile.
	s.must("POST", "/v1/devices/acme/left/token", nil, nil)
	if _, status, body := s.take(claimBody(c, 1, "")); status != 403 || !strings.Contains(body, "another token") {
		t.Errorf("after the token was replaced: %d %s", status, body)
	}
	s.must("DELETE", "/v1/claims/"+c.ID(), nil, nil)
	if _, status, _ := s.take(claimBody(c, 1, "")); status != 403 || len(s.claims()) != 0 {
		t.Errorf("after it was revoked: %d", status)
	}
}

// TestClaimEnds: a claim is good for its life only, and what is stored of it
// does not hold the secret.
func TestClaimEnds(t *testing.T) {
	dir := t.TempDir()
	s := run(t, hub.Options{Dir: dir})
	c := s.claim(api.ClaimRequest{Tenant: "acme", TTL: 1})
	eventually(t, "it ends", func() bool {
		_, err := s.hub.TakeClaim(claimBody(c, 1, "left"), "test")
		if err != nil && (!errors.Is(err, api.ErrRefused) || !strings.Contains(err.Error(), "it ended at")) {
			t.Fatal(err)
		}
		return err != nil
	})
	s.stop()
	db, err := os.ReadFile(filepath.Join(dir, "hub.db"))
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Contains(db, []byte(c.ID())) {
		t.Error("the claim is not in hub.db: this test looks in the wrong place")
	}
	for _, secret := range [][]byte{c.Secret[:], []byte(hex.EncodeToString(c.Secret[:]))} {
		if bytes.Contains(db, secret) {
			t.Error("hub.db holds the claim's secret")
		}
	}
}

// TestClaimNames: a device without a given name is called by what it says of
// itself, and no two of them alike.
func TestClaimNames(t *testing.T) {
	s := run(t, hub.Options{Dir: t.TempDir()})
	c := s.claim(api.ClaimRequest{Tenant: "acme", Count: 8})
	names := map[string]bool{}
	for i, tc := range []struct{ host, want string }{
		{"Barn-Door.local", "barn-door"},
		{"barn-door", "barn-door-"},
		{"raspberrypi", "board-abcd1234"},
		{"raspberrypi", "board-abcd1234-"},
		{"../../etc", "board-abcd1234-"},
		{strings.Repeat("long", 40), "longlong"},
		{"-_-", "board-abcd1234-"},
	} {
		token, status, body := s.take(claimBody(c, byte(i), tc.host))
		if status != 200 || token.Tenant != "acme" || !strings.HasPrefix(token.Device, tc.want) || names[token.Device] {
			t.Errorf("%q: %q, %d %s", tc.host, token.Device, status, body)
		}
		names[token.Device] = true
	}
	r := claimBody(c, 100, "")
	r.Serial = ""
	if token, _, body := s.take(r); !strings.HasPrefix(token.Device, "device-") {
		t.Errorf("without a name: %q %s", token.Device, body)
	}
	if _, status, _ := s.take(claimBody(c, 101, "x9")); status != 403 {
		t.Errorf("the ninth of eight: %d", status)
	}
}

func TestClaimRenews(t *testing.T) {
	s := run(t, hub.Options{Dir: t.TempDir()})
	old := s.enrol("left")
	if status := s.call("POST", "/v1/claims", api.ClaimRequest{Tenant: "acme", Name: "left"}, nil); status != 409 {
		t.Errorf("a claim of a name that is taken: %d", status)
	}
	c := s.claim(api.ClaimRequest{Tenant: "acme", Name: "left", Renew: true})
	if _, ok := s.hub.DeviceOf(old.Secret); !ok {
		t.Error("the old token ended before the claim was used")
	}
	fresh, status, body := s.take(claimBody(c, 1, ""))
	if status != 200 || fresh.ID() != old.ID() {
		t.Fatalf("%d %s", status, body)
	}
	if _, ok := s.hub.DeviceOf(old.Secret); ok {
		t.Error("the old token is still good")
	}
	if d, ok := s.hub.DeviceOf(fresh.Secret); !ok || d != old.ID() {
		t.Error("the new token is not good")
	}
}

func TestBadClaimRequests(t *testing.T) {
	s := run(t, hub.Options{Dir: t.TempDir()})
	for _, r := range []api.ClaimRequest{
		{Tenant: ""},
		{Tenant: "acme", Name: "NO"},
		{Tenant: "acme", TTL: -1},
		{Tenant: "acme", TTL: 1e9},
		{Tenant: "acme", Count: 1001},
		{Tenant: "acme", Name: "left", Count: 2},
		{Tenant: "acme", Renew: true},
	} {
		if status := s.call("POST", "/v1/claims", r, nil); status != 400 {
			t.Errorf("%+v: %d", r, status)
		}
	}
	for _, tc := range []struct {
		body string
		want int
	}{
		{`{}`, 400},
		{`{"secret":"00","nonce":"00"}`, 400},
		{`{"secret":"zz"}`, 400},
		{`{"what":1}`, 400},
		{`[]`, 400},
		{fmt.Sprintf(`{"secret":"%032d","nonce":"%064d"}`, 0, 0), 403},
		{`{"secret":"` + strings.Repeat("0", 4096) + `"}`, 413},
	} {
		if status, body, _ := s.do("POST", "/v1/claim", nil, tc.body); status != tc.want {
			t.Errorf("%.80s: %d %s", tc.body, status, body)
		}
	}
	limited := 0
	for range 60 {
		if status, _, header := s.do("POST", "/v1/claim", nil, `{}`); status == 429 && header.Get("Retry-After") != "" {
			limited++
		}
	}
	if limited == 0 {
		t.Error("sixty tries in a row, and none was too many")
	}
}

// TestClaimOfNewerAgent: an agent may say more than this hub knows of.
func TestClaimOfNewerAgent(t *testing.T) {
	s := run(t, hub.Options{Dir: t.TempDir()})
	c := s.claim(api.ClaimRequest{Tenant: "acme"})
	text, err := json.Marshal(claimBody(c, 1, "left"))
	if err != nil {
		t.Fatal(err)
	}
	body := strings.Replace(string(text), "{", `{"board":{"name":"of later"},`, 1)
	if status, answer, _ := s.do("POST", "/v1/claim", nil, body); status != 200 {
		t.Errorf("%d %s", status, answer)
	}
	if d := s.hub.Devices(); len(d) != 1 || d[0].Name != "left" {
		t.Errorf("%+v", d)
	}
}

// TestClaimWithoutClock: a hub whose clock was not set makes no claim; it
// would have ended when the clock is set.
func TestClaimWithoutClock(t *testing.T) {
	s := run(t, hub.Options{Dir: t.TempDir()})
	synctest.Test(t, func(t *testing.T) { // where it is the year 2000
		_, _, err := s.hub.MakeClaim(api.ClaimRequest{Tenant: "acme"})
		var hinted *api.HintError
		if !errors.Is(err, api.ErrConflict) || !errors.As(err, &hinted) || !strings.Contains(hinted.Hint, "clock") || !strings.Contains(err.Error(), "2000-01-01") {
			t.Errorf("%v", err)
		}
	})
	if all := s.claims(); len(all) != 0 {
		t.Errorf("%+v", all)
	}
}

// TestClaimOnce: of many devices that hold one claim at the same moment, one
// gets a token.
func TestClaimOnce(t *testing.T) {
	s := run(t, hub.Options{Dir: t.TempDir()})
	c := s.claim(api.ClaimRequest{Tenant: "acme"})
	var all sync.WaitGroup
	got := make(chan wire.Token, 16)
	for i := range 16 {
		all.Go(func() {
			if token, status, _ := s.take(claimBody(c, byte(i), "left")); status == 200 {
				got <- token
			}
		})
	}
	all.Wait()
	if len(got) != 1 || len(s.hub.Devices()) != 1 {
		t.Errorf("%d tokens, %d devices", len(got), len(s.hub.Devices()))
	}
}

// TestClaimPin: what a claim pins is what the hub shows: its certificate, or
// the authority that made it, which it then sends along.
func TestClaimPin(t *testing.T) {
	cert, key := certificate(t)
	s := run(t, hub.Options{Dir: t.TempDir(), CertFile: cert, KeyFile: key})
	line, _, err := s.hub.MakeClaim(api.ClaimRequest{Tenant: "acme"})
	if err != nil {
		t.Fatal(err)
	}
	c, err := wire.ParseClaim(line)
	if err != nil {
		t.Fatal(err)
	}
	if shown := presented(t, s.hub.HTTPAddr()); len(shown) != 1 || sha256.Sum256(shown[0].RawSubjectPublicKeyInfo) != c.Pin {
		t.Errorf("%d certificates, pin %x", len(shown), c.Pin)
	}

	other, _ := certificate(t)
	s = run(t, hub.Options{Dir: t.TempDir(), CertFile: cert, KeyFile: key, CAFile: other})
	if line, _, err = s.hub.MakeClaim(api.ClaimRequest{Tenant: "acme"}); err != nil {
		t.Fatal(err)
	}
	if c, err = wire.ParseClaim(line); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(other)
	if err != nil {
		t.Fatal(err)
	}
	block, _ := pem.Decode(text)
	if shown := presented(t, s.hub.HTTPAddr()); len(shown) != 2 || !bytes.Equal(shown[1].Raw, block.Bytes) || sha256.Sum256(shown[1].RawSubjectPublicKeyInfo) != c.Pin {
		t.Errorf("%d certificates, pin %x", len(shown), c.Pin)
	}
}

func presented(t *testing.T, addr string) []*x509.Certificate {
	t.Helper()
	conn, err := tls.Dial("tcp", addr, &tls.Config{InsecureSkipVerify: true})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	return conn.ConnectionState().PeerCertificates
}
