package wire

import (
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"

	"dunlin/internal/sign"
)

// tokenPrefix names the form of the token; another form takes another digit.
const tokenPrefix = "dunlin1."

// Token is all that a device needs to join a fleet, as one line of text
// (Encode, ParseToken). Whoever has it can be the device: it is a secret.
type Token struct {
	MQTT        string         `json:"mqtt"`   // "tcp://127.0.0.1:1883" or "tls://hub.example:8883"
	HTTP        string         `json:"http"`   // "http://127.0.0.1:8080" or "https://…", no path
	Tenant      string         `json:"tenant"` // with Device: who the token makes of its owner
	Device      string         `json:"device"`
	Secret      string         `json:"secret"`           // MQTT password and HTTP bearer token
	HubKey      sign.PublicKey `json:"hub_key"`          // signs what comes down
	ReleaseKeys sign.Trust     `json:"release_keys"`     // sign models; facts are signed by HubKey
	CAPEM       string         `json:"ca_pem,omitempty"` // certificate authority of the hub, where it has its own
}

// TokenError says which part of an enrolment token is wrong. It never holds
// the token's text.
type TokenError struct {
	Part string // "form", "mqtt", "secret", …
	Err  error
	Hint string
}

func (e *TokenError) Error() string { return "enrolment token: " + e.Part + ": " + e.Err.Error() }
func (e *TokenError) Unwrap() error { return e.Err }

const tokenHint = "copy the whole line that dunlin fleet enrol printed, from dunlin1. to its end"

// ID returns the device that the token is for.
func (t Token) ID() Device { return Device{t.Tenant, t.Device} }

// String names the token without its secret, so that it can be logged.
func (t Token) String() string { return "enrolment token of " + t.ID().String() }

// GoString does as String: %#v prints no secret either.
func (t Token) GoString() string { return t.String() }

// Encode returns the token's line. All errors are *TokenError.
func (t Token) Encode() (string, error) {
	if err := t.Check(); err != nil {
		return "", err
	}
	doc, err := marshal(t)
	if err != nil {
		return "", &TokenError{Part: "form", Err: err}
	}
	line := tokenPrefix + base64.RawURLEncoding.EncodeToString(doc)
	if len(line) > MaxToken {
		return "", &TokenError{Part: "form", Err: tooLarge("token", len(line), MaxToken)}
	}
	return line, nil
}

// ParseToken is the inverse of Encode; space around the line does not matter.
// All errors are *TokenError.
func ParseToken(line string) (Token, error) {
	var t Token
	if len(line) > MaxToken {
		return t, &TokenError{Part: "form", Err: tooLarge("token", len(line), MaxToken)}
	}
	line = strings.TrimSpace(line)
	digits, ok := strings.CutPrefix(line, tokenPrefix)
	if !ok {
		return t, &TokenError{Part: "form", Err: fmt.Errorf("does not begin with %s", tokenPrefix), Hint: tokenHint}
	}
	doc, err := base64.RawURLEncoding.Strict().DecodeString(digits)
	if err != nil {
		return t, &TokenError{Part: "form", Err: errors.New("not base64url"), Hint: tokenHint}
	}
	if err := json.Unmarshal(doc, &t); err != nil {
		part := "form"
		if wrong, ok := errors.AsType[*json.UnmarshalTypeError](err); ok && wrong.Field != "" {
			part = wrong.Field
		}
		return Token{}, &TokenError{Part: part, Err: err, Hint: tokenHint}
	}
	if err := t.Check(); err != nil {
		return Token{}, err
	}
	return t, nil
}

// Check fails with a *TokenError for the first part that cannot be used.
func (t Token) Check() error {
	checks := []struct {
		part string
		err  error
	}{
		{"mqtt", checkURL(t.MQTT, "tcp", "tls")},
		{"http", checkURL(t.HTTP, "http", "https")},
		{"tenant", CheckName("tenant", t.Tenant)},
		{"device", CheckName("device", t.Device)},
		{"secret", checkSecret(t.Secret)},
		{"hub_key", checkKeys(t.HubKey)},
		{"release_keys", checkKeys(t.ReleaseKeys...)},
		{"ca_pem", checkCA(t.CAPEM)},
	}
	for _, c := range checks {
		if c.err != nil {
			return &TokenError{Part: c.part, Err: c.err}
		}
	}
	return nil
}

func checkURL(s string, schemes ...string) error {
	u, err := url.Parse(s)
	if err != nil || u.Host == "" || !slices.Contains(schemes, u.Scheme) {
		return fmt.Errorf("%.80q: want %s://HOST:PORT", s, strings.Join(schemes, ":// or "))
	}
	if u.User != nil || strings.Trim(u.Path, "/") != "" || u.RawQuery != "" || u.Fragment != "" {
		return fmt.Errorf("%.80q: want a scheme, a host and a port alone", u.Redacted())
	}
	return nil
}

func checkSecret(s string) error {
	if len(s) < 16 || len(s) > 256 {
		return fmt.Errorf("%d characters, want 16 to 256", len(s))
	}
	for _, c := range []byte(s) {
		if c <= ' ' || c > '~' {
			return errors.New("a character that is not printable ASCII")
		}
	}
	return nil
}

func checkKeys(keys ...sign.PublicKey) error {
	if len(keys) == 0 {
		return errors.New("no key")
	}
	for _, k := range keys {
		if k.IsZero() {
			return errors.New("an empty key")
		}
	}
	return nil
}

func checkCA(text string) error {
	if text == "" {
		return nil
	}
	block, _ := pem.Decode([]byte(text))
	if block == nil || block.Type != "CERTIFICATE" {
		return errors.New("no PEM certificate")
	}
	if _, err := x509.ParseCertificate(block.Bytes); err != nil {
		return err
	}
	return nil
}
