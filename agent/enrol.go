package agent

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	mathrand "math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"time"

	"dunlin/internal/durable"
	"dunlin/sync/wire"
)

// How a device with a claim gets its token:
//
//	claim.json     the nonce, on the disk before anything is asked
//	POST /v1/claim until the hub answers
//	enrolled.json  the token, on the disk before anything else is done
//	the claim      its file is overwritten and removed
//
// The power may go at each step. The nonce makes the hub give the same token
// again, and a claim that is named in enrolled.json is used, whatever is left
// of its file.
const (
	nonceFile    = "claim.json"
	enrolledFile = "enrolled.json"
	tokenFile    = "token" // in state_dir: taken where the configuration names no other
)

// keptNonce is nonceFile.
type keptNonce struct {
	Claim string `json:"claim"` // id
	Nonce string `json:"nonce"`
}

// keptToken is enrolledFile.
type keptToken struct {
	Claim string    `json:"claim"` // id of the claim that it was given for
	Token string    `json:"token"`
	At    time.Time `json:"at"` // by the hub's clock: it is later now
}

// enrolment is what the device knows of its hub.
type enrolment struct {
	token *wire.Token // nil: none
	claim *wire.Claim // nil: there is none to be used
	since time.Time   // it is later than this, whatever the clock says; zero: nobody knows
	file  string      // that holds the claim, "": the configuration does
	spent bool        // the claim was used, and file is what is left of it
	used  string      // id of the claim that the kept token was given for
}

// enrolment reads the token, or the claim that is to be used for one. A claim
// that is new counts more than the token that an older one gave; until the
// hub has answered, that token is good.
func (c *Config) enrolment() (e enrolment, err error) {
	kept, err := readToken(c.StateDir)
	if err != nil {
		return e, err
	}
	line, err := c.tokenLine(&e, kept != nil)
	if err != nil {
		return e, err
	}
	if kept != nil {
		e.used = kept.Claim
	}
	if wire.IsClaim(line) {
		claim, err := wire.ParseClaim(line)
		if err != nil {
			return e, err
		}
		if kept != nil && kept.Claim == claim.ID() {
			e.spent = e.file != ""
		} else {
			e.claim, e.since = &claim, claim.Made
		}
		line = ""
	}
	if line == "" && kept != nil {
		line, e.since = kept.Token, kept.At
	}
	if line == "" {
		return e, nil
	}
	t, err := wire.ParseToken(line)
	if err != nil {
		return e, err
	}
	e.token = &t
	return e, nil
}

// tokenLine returns the line that the configuration gives, or names. A file
// that is gone, or was overwritten, is one whose claim was used.
func (c *Config) tokenLine(e *enrolment, enrolled bool) (string, error) {
	if c.Hub.Token != "" {
		return c.Hub.Token, nil
	}
	path := c.Hub.TokenFile
	if path == "" {
		path = filepath.Join(c.StateDir, tokenFile)
	}
	text, err := readBounded(path, wire.MaxToken)
	if errors.Is(err, fs.ErrNotExist) && (enrolled || c.Hub.TokenFile == "") {
		return "", nil
	}
	if err != nil {
		return "", fmt.Errorf("enrolment token: %w", err)
	}
	e.file = path
	e.spent = enrolled && overwritten(text)
	return strings.TrimSpace(string(bytes.Trim(text, "\x00"))), nil
}

func readToken(dir string) (*keptToken, error) {
	path := filepath.Join(dir, enrolledFile)
	text, err := readBounded(path, 2*wire.MaxToken)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	var k keptToken
	if err == nil {
		err = json.Unmarshal(text, &k)
	}
	if err != nil {
		return nil, fmt.Errorf("enrolment token: %s: %w; remove it, and enrol the device again", path, err)
	}
	return &k, nil
}

// errEnrolled ends a run: the agent begins anew, with its token.
var errEnrolled = errors.New("the device has a token now")

// claiming is the state of the conversation about a claim.
type claiming struct {
	text atomic.Pointer[string] // why there is no token yet
}

func (c *claiming) say(err error) {
	text := err.Error()
	c.text.Store(&text)
}

func (c *claiming) status() string {
	if text := c.text.Load(); text != nil {
		return "not enrolled yet: " + *text
	}
	return "not enrolled yet"
}

// enrol gets the token for the claim, and has the agent begin anew with it.
func (a *Agent) enrol(ctx context.Context) {
	if a.enrolment.spent {
		a.dispose(a.enrolment.used)
		return
	}
	claim := *a.enrolment.claim
	if u, err := url.Parse(claim.HTTP); err == nil && u.Scheme == "http" && !isLoopback(u.Hostname()) {
		a.log.Warn("the claim and the token go over the network unencrypted: whoever listens has them; give the hub a certificate", "hub", claim.HTTP)
	}
	if a.claimToken(ctx, claim) != nil {
		return
	}
	a.log.Info("enrolled", "claim", claim.ID(), "hub", claim.HTTP)
	a.dispose(claim.ID())
	a.fail(errEnrolled)
}

func isLoopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

// Bounds of how often the hub is asked, and how often one that refused is: it
// may have been another one in its place, or be set right.
const (
	minClaimDelay = time.Second
	maxClaimDelay = time.Minute
	refusedDelay  = time.Hour
)

// claimToken asks until the token is kept, or ctx ends: that is its one error.
func (a *Agent) claimToken(ctx context.Context, claim wire.Claim) error {
	client := claimClient(claim, a.clock.now)
	said := ""
	for delay := minClaimDelay; ; delay = min(2*delay, maxClaimDelay) {
		err := a.tryClaim(ctx, client, claim)
		if err == nil {
			return nil
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		a.claiming.say(err)
		wait, refused := delay, errors.As(err, new(claimRefused))
		if refused {
			wait = refusedDelay
		}
		if text := err.Error(); text != said { // not once a minute for months
			said = text
			if refused {
				a.log.Error("the claim is not taken, the device stays without this hub; make a new one: dunlin fleet enrol --claim", keyError, err)
			} else {
				a.log.Warn("no token yet, the hub is asked again", keyError, err)
			}
		}
		select {
		case <-time.After(wait/2 + mathrand.N(wait)): // a thousand boards get power at once
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// tryClaim asks once, and keeps the token.
func (a *Agent) tryClaim(ctx context.Context, client *http.Client, claim wire.Claim) error {
	nonce, err := a.claimNonce(claim)
	if err != nil {
		return err
	}
	answer, err := askForToken(ctx, client, claim, nonce)
	if err != nil {
		return err
	}
	return a.keepToken(claim, answer)
}

// claimNonce returns the nonce of a claim: the same in every run of the agent.
func (a *Agent) claimNonce(claim wire.Claim) (string, error) {
	path := a.path(nonceFile)
	var k keptNonce
	if text, err := readBounded(path, 4096); err == nil && json.Unmarshal(text, &k) == nil && k.Claim == claim.ID() && len(k.Nonce) == 2*wire.NonceSize {
		return k.Nonce, nil
	}
	var b [wire.NonceSize]byte
	_, _ = rand.Read(b[:]) // it never fails (crypto/rand)
	k = keptNonce{claim.ID(), hex.EncodeToString(b[:])}
	text, err := json.Marshal(k)
	if err != nil {
		return "", err
	}
	return k.Nonce, durable.WriteFile(path, text, 0o600)
}

func (a *Agent) keepToken(claim wire.Claim, answer wire.ClaimAnswer) error {
	if _, err := wire.ParseToken(answer.Token); err != nil {
		return fmt.Errorf("answer of the hub: %w", err)
	}
	at := answer.HubTime
	if at.Before(claim.Made) || at.After(claim.NotAfter) {
		at = claim.Made // no hub gives a token for the claim at such a time, unless its clock is wrong
	}
	text, err := json.Marshal(keptToken{claim.ID(), answer.Token, at})
	if err != nil {
		return err
	}
	return durable.WriteFile(a.path(enrolledFile), text, 0o600)
}

// claimRefused is an answer of the hub that asking again soon does not change.
type claimRefused struct{ error }

func askForToken(ctx context.Context, client *http.Client, claim wire.Claim, nonce string) (out wire.ClaimAnswer, err error) {
	host, _ := os.Hostname()
	body, err := json.Marshal(wire.ClaimRequest{
		Secret: hex.EncodeToString(claim.Secret[:]), Nonce: nonce, Hostname: host, Serial: boardSerial(),
	})
	if err != nil {
		return out, err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, strings.TrimRight(claim.HTTP, "/")+"/v1/claim", bytes.NewReader(body))
	if err != nil {
		return out, err
	}
	req.Header.Set("Content-Type", "application/json")
	res, err := client.Do(req)
	if err != nil {
		return out, err
	}
	defer res.Body.Close()
	text, err := io.ReadAll(io.LimitReader(res.Body, 2*wire.MaxToken))
	if err != nil {
		return out, err
	}
	if res.StatusCode != http.StatusOK {
		var said struct{ Error string }
		if json.Unmarshal(text, &said) != nil || said.Error == "" {
			return out, fmt.Errorf("hub: %s", res.Status) // a proxy before it
		}
		switch res.StatusCode {
		case http.StatusBadRequest, http.StatusForbidden, http.StatusNotFound, http.StatusConflict, http.StatusGone, http.StatusRequestEntityTooLarge:
			return out, claimRefused{fmt.Errorf("hub: %s", said.Error)}
		}
		return out, fmt.Errorf("hub: %s", said.Error)
	}
	return out, json.Unmarshal(text, &out)
}

// boardSerial returns the number that the firmware gives the board, "" where
// there is none.
func boardSerial() string {
	text, err := readBounded("/proc/device-tree/serial-number", 64)
	if err != nil {
		return ""
	}
	return strings.Trim(string(text), "\x00 \n")
}

// claimClient returns a client that talks to nobody but the hub of the claim.
func claimClient(claim wire.Claim, now func() (time.Time, bool)) *http.Client {
	config := &tls.Config{MinVersion: tls.VersionTLS12, Time: func() time.Time { return notBefore(now, claim.Made) }}
	if claim.Pinned() {
		config.InsecureSkipVerify = true // VerifyConnection does it
		host := hostOf(claim.HTTP)
		config.VerifyConnection = func(s tls.ConnectionState) error { return checkPin(claim.Pin, host, s, now) }
	}
	return &http.Client{
		Timeout: 30 * time.Second,
		Transport: &http.Transport{
			Proxy: http.ProxyFromEnvironment, TLSClientConfig: config, TLSHandshakeTimeout: 15 * time.Second,
			DisableKeepAlives: true, // it is a minute, or an hour, to the next question
		},
		CheckRedirect: func(*http.Request, []*http.Request) error {
			return errors.New("redirected: a claim is for its hub alone")
		},
	}
}

// notBefore returns the time, or, where nobody has set the clock and it is
// behind, a time that is known to be over. Boards without a clock of their own
// start in the past, when the hub's certificate was not yet valid.
func notBefore(now func() (time.Time, bool), floor time.Time) time.Time {
	t, known := now()
	if !known && t.Before(floor) {
		return floor
	}
	return t
}

// hostOf returns the name or the address that a hub's certificate is for. An
// address of one link is followed by the name of an interface, which is this
// machine's own affair.
func hostOf(hub string) string {
	u, err := url.Parse(hub)
	if err != nil {
		return "" // no certificate is for it; ParseClaim has seen that it is a URL
	}
	host, _, _ := strings.Cut(u.Hostname(), "%")
	return host
}

// checkPin holds that the hub's certificate is the one that the claim pins,
// or was issued by it for the hub's host. The connection itself does not know
// the host where that is an IP address: its ServerName is "" then. A clock that nobody has set is not
// asked whether it is still valid: who made the claim has said so.
func checkPin(pin [sha256.Size]byte, host string, s tls.ConnectionState, now func() (time.Time, bool)) error {
	is := func(c *x509.Certificate) bool { return sha256.Sum256(c.RawSubjectPublicKeyInfo) == pin }
	if len(s.PeerCertificates) == 0 {
		return errors.New("the hub shows no certificate")
	}
	leaf := s.PeerCertificates[0]
	if is(leaf) {
		return nil
	}
	roots, between := x509.NewCertPool(), x509.NewCertPool()
	at, known := now()
	found := false
	for _, c := range s.PeerCertificates {
		if is(c) {
			roots.AddCert(c)
			found = true
		} else {
			between.AddCert(c)
		}
		if !known && at.Before(c.NotBefore) {
			at = c.NotBefore
		}
	}
	if !found {
		return fmt.Errorf("the certificate of %s is not the one that the claim names: this is another hub, or somebody in between", host)
	}
	if err := leaf.VerifyHostname(host); err != nil { // Verify takes "" for any host
		return err
	}
	_, err := leaf.Verify(x509.VerifyOptions{Roots: roots, Intermediates: between, CurrentTime: at})
	return err
}

// overwritten reports whether erase was here, and did not come to its end.
func overwritten(text []byte) bool { return len(text) > 0 && len(bytes.Trim(text, "\x00")) == 0 }

// dispose overwrites and removes the file of the claim that was used. Flash may
// keep a copy that nobody can address: it is the claim's short life that
// makes it worthless.
func (a *Agent) dispose(used string) {
	path := a.enrolment.file
	if path == "" {
		a.log.Info("the claim in the configuration was used: the line can be removed", "field", "hub.token")
		return
	}
	err := erase(path, func(text []byte) bool {
		c, err := wire.ParseClaim(string(text))
		return err == nil && c.ID() == used || overwritten(text)
	})
	if err != nil {
		a.log.Warn("the file of the used claim cannot be removed", "file", path, keyError, err)
	}
}

// erase overwrites and removes a file whose content is what it is meant for:
// somebody may have put another line there meanwhile, which stays.
func erase(path string, meant func(text []byte) bool) error {
	info, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if !info.Mode().IsRegular() {
		return errors.New("it is no regular file")
	}
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, wire.MaxToken+1))
	if err != nil || !meant(text) {
		return err
	}
	_, err = f.WriteAt(make([]byte, len(text)), 0)
	if err := errors.Join(err, f.Sync()); err != nil {
		return err
	}
	mine, err1 := f.Stat()
	now, err2 := os.Lstat(path)
	if err := errors.Join(err1, err2); err != nil || !os.SameFile(mine, now) {
		return err // another file has its name by now
	}
	return durable.Remove(durable.OS, path)
}
