// Package sign says who vouches for an artefact or a message: Ed25519 keys,
// their PEM files, and signatures that hold for one purpose only.
//
// Start with Generate, PrivateKey.Sign and Trust.Verify. What is signed is
//
//	"dunlin signature v1\n" + purpose + "\n" + message
//
// and a purpose has no line break, so a signature made for one purpose is
// never good for another. The promise: Verify returns nil only where a key of
// the Trust made exactly this signature for this purpose over these bytes.
//
// It does not know what is being signed, when a key expires, or who may sign
// what: callers give each purpose the Trust it deserves.
package sign

import (
	"crypto"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
)

// ErrUnknownKey is returned when no key of the Trust has the signature's ID.
var ErrUnknownKey = errors.New("signed by a key that is not trusted")

// ErrBadSignature is returned when a trusted key did not make this signature
// for this purpose over these bytes.
var ErrBadSignature = errors.New("signature does not fit")

// domain begins every text that is signed, so that no signature made for
// something else can be passed off as one of ours.
const domain = "dunlin signature v1\n"

// prefix begins the text form of a public key.
const prefix = "ed25519:"

// PublicKey is an Ed25519 public key. The zero value is no key: it verifies
// nothing. In JSON it is the text that String returns.
type PublicKey struct{ key [ed25519.PublicKeySize]byte }

// PrivateKey is an Ed25519 private key. The zero value cannot sign. It has no
// text or JSON form: the only way out is WriteFile.
type PrivateKey struct{ key ed25519.PrivateKey }

// Signature is a signature and the ID of the key that made it.
type Signature struct {
	Key string `json:"key"` // PublicKey.ID
	Sig []byte `json:"sig"` // 64 bytes, base64 in JSON
}

// Generate makes a key from the system's random source.
func Generate() (PrivateKey, error) {
	_, key, err := ed25519.GenerateKey(nil)
	if err != nil {
		return PrivateKey{}, fmt.Errorf("make a key: %w", err)
	}
	return PrivateKey{key}, nil
}

// Public returns the key's public half.
func (k PrivateKey) Public() PublicKey {
	var p PublicKey
	if k.key != nil {
		copy(p.key[:], k.key[ed25519.SeedSize:])
	}
	return p
}

// String returns a placeholder, so that a key never gets into a log.
func (k PrivateKey) String() string { return "private key of " + k.Public().ID() }

// GoString does as String: %#v prints no secret either.
func (k PrivateKey) GoString() string { return k.String() }

// Sign signs msg for a purpose. It panics on the zero key, and on a purpose
// with a line break, which only a programming error can bring about.
func (k PrivateKey) Sign(purpose string, msg []byte) Signature {
	if k.key == nil {
		panic("sign: no key")
	}
	if !validPurpose(purpose) {
		panic(fmt.Sprintf("sign: purpose %q", purpose))
	}
	return Signature{Key: k.Public().ID(), Sig: ed25519.Sign(k.key, text(purpose, msg))}
}

func validPurpose(purpose string) bool { return purpose != "" && !strings.ContainsAny(purpose, "\r\n") }

func text(purpose string, msg []byte) []byte {
	b := make([]byte, 0, len(domain)+len(purpose)+1+len(msg))
	b = append(b, domain...)
	b = append(b, purpose...)
	b = append(b, '\n')
	return append(b, msg...)
}

// ID returns the short name of the key: the first 16 hex digits of SHA-256
// of its 32 bytes. It finds a key in a Trust and proves nothing.
func (p PublicKey) ID() string {
	sum := sha256.Sum256(p.key[:])
	return hex.EncodeToString(sum[:8])
}

// IsZero reports whether p is no key.
func (p PublicKey) IsZero() bool { return p == PublicKey{} }

// Equal reports whether x is the same public key.
func (p PublicKey) Equal(x crypto.PublicKey) bool {
	o, ok := x.(PublicKey)
	return ok && o == p
}

// String returns the text form, "ed25519:" and 43 base64 digits with one "=",
// or "" for no key.
func (p PublicKey) String() string {
	if p.IsZero() {
		return ""
	}
	return prefix + base64.StdEncoding.EncodeToString(p.key[:])
}

// ParsePublic is the inverse of String. "" is an error, not the zero key.
func ParsePublic(s string) (PublicKey, error) {
	digits, ok := strings.CutPrefix(s, prefix)
	if !ok {
		return PublicKey{}, fmt.Errorf("public key %q: want %s and base64", clip(s), prefix)
	}
	b, err := base64.StdEncoding.Strict().DecodeString(digits)
	if err != nil || base64.StdEncoding.EncodeToString(b) != digits {
		return PublicKey{}, fmt.Errorf("public key %q: not base64", clip(s))
	}
	return publicKey(b)
}

func publicKey(b []byte) (PublicKey, error) {
	var p PublicKey
	if len(b) != len(p.key) {
		return p, fmt.Errorf("public key of %d bytes, want %d", len(b), len(p.key))
	}
	copy(p.key[:], b)
	if p.IsZero() {
		return p, errors.New("public key is all zeros")
	}
	return p, nil
}

// MarshalText returns the text form; the zero key is empty text.
func (p PublicKey) MarshalText() ([]byte, error) { return []byte(p.String()), nil }

// UnmarshalText is the inverse of MarshalText.
func (p *PublicKey) UnmarshalText(b []byte) error {
	if len(b) == 0 {
		*p = PublicKey{}
		return nil
	}
	k, err := ParsePublic(string(b))
	if err != nil {
		return err
	}
	*p = k
	return nil
}

// Trust is a set of keys that may sign.
type Trust []PublicKey

// Verify returns nil where a key of t made s for purpose over msg, and an
// error that wraps ErrUnknownKey or ErrBadSignature otherwise.
func (t Trust) Verify(purpose string, msg []byte, s Signature) error {
	if !validPurpose(purpose) {
		return fmt.Errorf("purpose %q: %w", clip(purpose), ErrBadSignature)
	}
	known := false
	for _, p := range t {
		if p.IsZero() || p.ID() != s.Key {
			continue
		}
		known = true
		if len(s.Sig) == ed25519.SignatureSize && ed25519.Verify(p.key[:], text(purpose, msg), s.Sig) {
			return nil
		}
	}
	if !known {
		return fmt.Errorf("key %q for %s: %w", clip(s.Key), purpose, ErrUnknownKey)
	}
	return fmt.Errorf("key %s for %s: %w", s.Key, purpose, ErrBadSignature)
}

// IDs returns the IDs of the keys, for messages.
func (t Trust) IDs() []string {
	ids := make([]string, len(t))
	for i, p := range t {
		ids[i] = p.ID()
	}
	return ids
}

// clip bounds what of a stranger's text gets into an error.
func clip(s string) string {
	if len(s) > 80 {
		return s[:80] + "…"
	}
	return s
}
