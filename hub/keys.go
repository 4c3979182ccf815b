package hub

import (
	"bytes"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"dunlin/hub/api"
	"dunlin/internal/durable"
	"dunlin/internal/sign"
)

// Files of the hub's folder that a person may want.
const (
	AdminTokenFile = "admin.token" // the HTTP API's token, one line, mode 0600
	HubKeyFile     = "hub.key"     // signs what the hub says, mode 0600
	ReleaseKeyFile = "release.key" // signs models, where no other key was given
	ReleasePubFile = "release.pub" // its public half
)

func (h *Hub) loadKeys() error {
	var err error
	if h.key, err = privateKey(filepath.Join(h.o.Dir, HubKeyFile)); err != nil {
		return err
	}
	if h.admin, err = adminToken(filepath.Join(h.o.Dir, AdminTokenFile)); err != nil {
		return err
	}
	h.trust = h.o.ReleaseKeys
	if len(h.trust) > 0 {
		return nil
	}
	path := filepath.Join(h.o.Dir, ReleasePubFile)
	pub, err := sign.ReadPublic(path)
	if errors.Is(err, fs.ErrNotExist) {
		pub, err = h.makeReleaseKey(path)
	}
	if err != nil {
		return fmt.Errorf("release key: %w", err)
	}
	h.trust = sign.Trust{pub}
	return nil
}

// makeReleaseKey makes the pair of a first start. The private half is written
// first, so that a crash between the two leaves a key to begin again with.
func (h *Hub) makeReleaseKey(path string) (sign.PublicKey, error) {
	key, err := privateKey(filepath.Join(h.o.Dir, ReleaseKeyFile))
	if err != nil {
		return sign.PublicKey{}, err
	}
	h.log.Info("release key made: move it to the machine that signs models", "file", filepath.Join(h.o.Dir, ReleaseKeyFile))
	return key.Public(), key.Public().WriteFile(path)
}

// privateKey reads a key, or makes one where there is none.
func privateKey(path string) (sign.PrivateKey, error) {
	key, err := sign.ReadPrivate(path)
	if !errors.Is(err, fs.ErrNotExist) {
		return key, err
	}
	if key, err = sign.Generate(); err != nil {
		return key, err
	}
	return key, key.WriteFile(path)
}

// newSecret returns 32 random bytes as text.
func newSecret() string {
	var b [32]byte
	_, _ = rand.Read(b[:]) // it never fails (crypto/rand)
	return hex.EncodeToString(b[:])
}

func adminToken(path string) (string, error) {
	data, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		token := newSecret()
		return token, durable.WriteFile(path, []byte(token+"\n"), 0o600)
	}
	if err != nil {
		return "", fmt.Errorf("admin token: %w", err)
	}
	token := string(bytes.TrimSpace(data))
	if len(token) < api.MinToken {
		return "", fmt.Errorf("admin token: %s holds fewer than %d characters; remove the file for a new one", path, api.MinToken)
	}
	return token, nil
}

// pinOf returns what claims pin of the hub's certificate: the key of its
// authority where that is given, so that a new certificate spoils no claim,
// and else its own. The authority is then sent with the certificate, because
// a device with a claim knows no more of it than the pin.
func pinOf(cert *tls.Certificate, caPEM string) ([sha256.Size]byte, error) {
	if caPEM == "" {
		return sha256.Sum256(cert.Leaf.RawSubjectPublicKeyInfo), nil
	}
	block, _ := pem.Decode([]byte(caPEM))
	if block == nil {
		return [sha256.Size]byte{}, errors.New("no PEM certificate")
	}
	ca, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		return [sha256.Size]byte{}, err
	}
	if !slices.ContainsFunc(cert.Certificate, func(der []byte) bool { return bytes.Equal(der, ca.Raw) }) {
		cert.Certificate = append(cert.Certificate, ca.Raw)
	}
	return sha256.Sum256(ca.RawSubjectPublicKeyInfo), nil
}
