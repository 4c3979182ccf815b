package wire

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"time"
)

// ClaimPrefix begins the line of a claim; another form takes another digit.
const ClaimPrefix = "dunlin-claim:1."

// MaxClaim bounds a claim's line, in bytes. Short enough for a QR code that a
// terminal of 80 columns can show.
const MaxClaim = 256

const claimSecret = 16 // bytes

// Claim is what a person gives to a device in place of a Token: one short
// line that is good once and for a short time. The device asks its hub for
// the token with it (ClaimRequest, ClaimAnswer).
//
//	dunlin-claim:1.BASE64URL@http://192.168.1.10:7070
//
// BASE64URL holds the secret (16 bytes), the times Made and NotAfter (seconds
// since 1970, 4 bytes each, big-endian) and the pin (32 bytes, or none).
type Claim struct {
	HTTP   string // of the hub, as in Token
	Secret [claimSecret]byte
	// Pin is the SHA-256 of a certificate's public key (its DER form,
	// SubjectPublicKeyInfo): of the hub's own certificate, or of the authority
	// that it was issued by. Zero: the authorities of the system are asked.
	Pin            [sha256.Size]byte
	Made, NotAfter time.Time // by the hub's clock, whole seconds
}

// ClaimRequest is the body of POST /v1/claim. The names are of use where the
// claim leaves it open how the device is called.
type ClaimRequest struct {
	Secret   string `json:"secret"`             // of the claim: its 16 bytes in hex
	Nonce    string `json:"nonce"`              // 32 random bytes in hex, the same ones until the device has its token
	Hostname string `json:"hostname,omitempty"` // of the device
	Serial   string `json:"serial,omitempty"`   // of its board
}

// ClaimAnswer is the answer: the token's line, and the hub's time, which a
// board without a clock of its own can count from.
type ClaimAnswer struct {
	Token   string    `json:"token"`
	HubTime time.Time `json:"hub_time"`
}

// NonceSize is how many bytes ClaimRequest.Nonce stands for.
const NonceSize = 32

const claimHint = "copy the whole line that dunlin fleet enrol printed, from dunlin-claim: to its end"

func claimError(format string, a ...any) error {
	return &TokenError{Part: "claim", Err: fmt.Errorf(format, a...), Hint: claimHint}
}

// NewClaim returns a claim with a new secret, good for ttl from now on.
func NewClaim(http string, pin [sha256.Size]byte, now time.Time, ttl time.Duration) Claim {
	c := Claim{HTTP: http, Pin: pin, Made: now.UTC().Truncate(time.Second)}
	c.NotAfter = c.Made.Add(ttl.Truncate(time.Second))
	_, _ = rand.Read(c.Secret[:]) // it never fails (crypto/rand)
	return c
}

// IsClaim reports whether a line is meant to be a claim, and no token.
func IsClaim(line string) bool { return strings.HasPrefix(strings.TrimSpace(line), "dunlin-claim:") }

// ID names a claim without giving its secret away.
func (c Claim) ID() string { return ClaimID(c.Secret[:]) }

// ClaimID returns the id of the claim that has this secret.
func ClaimID(secret []byte) string {
	sum := sha256.Sum256(append([]byte("dunlin claim id v1\n"), secret...))
	return hex.EncodeToString(sum[:8])
}

// Pinned reports whether the claim names a certificate.
func (c Claim) Pinned() bool { return c.Pin != [sha256.Size]byte{} }

// String names the claim without its secret, so that it can be logged.
func (c Claim) String() string { return "claim " + c.ID() + " at " + c.HTTP }

// GoString does as String: %#v prints no secret either.
func (c Claim) GoString() string { return c.String() }

// Encode returns the claim's line. All errors are *TokenError.
func (c Claim) Encode() (string, error) {
	if err := c.check(); err != nil {
		return "", err
	}
	data := append([]byte(nil), c.Secret[:]...)
	for _, t := range []time.Time{c.Made, c.NotAfter} {
		data = binary.BigEndian.AppendUint32(data, uint32(t.Unix()))
	}
	if c.Pinned() {
		data = append(data, c.Pin[:]...)
	}
	line := ClaimPrefix + base64.RawURLEncoding.EncodeToString(data) + "@" + c.HTTP
	if len(line) > MaxClaim {
		return "", &TokenError{Part: "claim", Err: tooLarge("claim", len(line), MaxClaim), Hint: "give the hub a shorter public address"}
	}
	return line, nil
}

// ParseClaim is the inverse of Encode; space around the line does not matter.
// All errors are *TokenError.
func ParseClaim(line string) (c Claim, err error) {
	line = strings.TrimSpace(line)
	if len(line) > MaxClaim {
		return c, claimError("%w", tooLarge("claim", len(line), MaxClaim))
	}
	rest, ok := strings.CutPrefix(line, ClaimPrefix)
	if !ok {
		return c, claimError("does not begin with %s", ClaimPrefix)
	}
	digits, http, ok := strings.Cut(rest, "@")
	if !ok {
		return c, claimError("has no address of a hub")
	}
	data, err := base64.RawURLEncoding.Strict().DecodeString(digits)
	if err != nil {
		return c, claimError("not base64url")
	}
	const head = claimSecret + 8
	if len(data) != head && len(data) != head+sha256.Size {
		return c, claimError("%d bytes, want %d or %d", len(data), head, head+sha256.Size)
	}
	c.HTTP = http
	copy(c.Secret[:], data)
	c.Made = time.Unix(int64(binary.BigEndian.Uint32(data[claimSecret:])), 0).UTC()
	c.NotAfter = time.Unix(int64(binary.BigEndian.Uint32(data[claimSecret+4:])), 0).UTC()
	copy(c.Pin[:], data[head:])
	if len(data) > head && !c.Pinned() {
		return Claim{}, claimError("an empty pin")
	}
	if err := c.check(); err != nil {
		return Claim{}, err
	}
	return c, nil
}

func (c Claim) check() error {
	if err := checkURL(c.HTTP, "http", "https"); err != nil {
		return claimError("%w", err)
	}
	for _, r := range []byte(c.HTTP) {
		if r <= ' ' || r > '~' {
			return claimError("address %.80q: a character that is not printable ASCII", c.HTTP)
		}
	}
	for _, t := range []time.Time{c.Made, c.NotAfter} {
		if s := t.Unix(); s < 0 || s > 1<<32-1 {
			return claimError("time %v is none of this century", t)
		}
	}
	if c.Pinned() && !strings.HasPrefix(c.HTTP, "https:") {
		return claimError("%w", errors.New("a pin for a hub without TLS"))
	}
	return nil
}
