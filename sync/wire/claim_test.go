package wire

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"
)

var claimTime = time.Date(2026, 11, 27, 1, 2, 3, 0, time.UTC)

func aClaim(http string, pin byte) Claim {
	c := Claim{HTTP: http, Made: claimTime, NotAfter: claimTime.Add(time.Hour)}
	for i := range c.Secret {
		c.Secret[i] = byte(i * 7)
	}
	if pin != 0 {
		c.Pin = sha256.Sum256([]byte{pin})
	}
	return c
}

func TestClaimLine(t *testing.T) {
	for _, c := range []Claim{
		aClaim("http://127.0.0.1:7070", 0), aClaim("https://hub.example", 1), aClaim("https://[2001:db8::1]:7070", 2),
		NewClaim("http://10.0.0.5:7070", [sha256.Size]byte{}, time.Now(), 90*time.Second),
	} {
		line, err := c.Encode()
		if err != nil {
			t.Fatal(err)
		}
		got, err := ParseClaim(" " + line + "\n")
		if err != nil || got != c {
			t.Errorf("%s: %+v, %v", line, got, err)
		}
		if !IsClaim(line) || len(line) > 200 {
			t.Errorf("%d characters: %s", len(line), line)
		}
		if text := fmt.Sprintf("%v %#v", c, c); strings.Contains(text, fmt.Sprintf("%x", c.Secret)) || strings.Contains(text, line) {
			t.Errorf("the secret is printed: %s", text)
		}
	}
	if a, b := NewClaim("http://h", [32]byte{}, claimTime, time.Hour), NewClaim("http://h", [32]byte{}, claimTime, time.Hour); a.ID() == b.ID() {
		t.Error("two claims with one secret")
	}
}

func TestBadClaims(t *testing.T) {
	good, err := aClaim("https://hub.example:7070", 1).Encode()
	if err != nil {
		t.Fatal(err)
	}
	digits, _, _ := strings.Cut(strings.TrimPrefix(good, ClaimPrefix), "@")
	for line, want := range map[string]string{
		"":                                        "does not begin with",
		"dunlin1.e30":                             "does not begin with",
		"dunlin-claim:2." + digits + "@http://h":  "does not begin with",
		good[:40]:                                 "no address",
		ClaimPrefix + "&&@http://h":               "not base64url",
		ClaimPrefix + digits[:20] + "@http://h":   "15 bytes, want 24 or 56",
		ClaimPrefix + digits + "@tcp://h:1":       "want http:// or https://HOST:PORT",
		ClaimPrefix + digits + "@https://h/path":  "a scheme, a host and a port alone",
		ClaimPrefix + digits + "@http://h:1":      "a pin for a hub without TLS",
		ClaimPrefix + digits + "@https://h\u00fc": "not printable ASCII",
		ClaimPrefix + digits[:32] + strings.Repeat("A", 43) + "@https://h": "", // bits left over, or an empty pin
		good + strings.Repeat("x", MaxClaim):                               "at most 256",
	} {
		_, err := ParseClaim(line)
		var bad *TokenError
		if !errors.As(err, &bad) || bad.Part != "claim" || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v", line, err)
		}
		if err != nil && strings.Contains(err.Error(), digits[:16]) {
			t.Errorf("the error shows the secret: %v", err)
		}
	}
}

func FuzzClaim(f *testing.F) {
	for _, c := range []Claim{aClaim("http://127.0.0.1:7070", 0), aClaim("https://hub.example", 1)} {
		line, err := c.Encode()
		if err != nil {
			f.Fatal(err)
		}
		f.Add(line)
		f.Add(line[:len(line)-3])
	}
	f.Fuzz(func(t *testing.T, s string) {
		c, err := ParseClaim(s)
		if err != nil {
			return
		}
		again, err := c.Encode()
		if err != nil {
			t.Fatal(err)
		}
		if again != strings.TrimSpace(s) {
			t.Fatalf("%q is written again as %q", s, again)
		}
	})
}
