package hub

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"time"

	"dunlin/internal/durable"
)

// The certificate that the hub makes where it has none, and its key.
const (
	OwnCertFile = "tls.crt"
	OwnKeyFile  = "tls.key"
)

// ownSince and ownUntil are when the certificate is valid: also for a board whose
// clock stands at the day its system was made, and for as long as the fleet
// may live. What devices trust is its key, which their claim or token names.
var (
	ownSince = time.Date(2020, 1, 1, 0, 0, 0, 0, time.UTC)
	ownUntil = time.Date(2049, 1, 1, 0, 0, 0, 0, time.UTC)
)

// ownCertificate returns the certificate of the hub's own for a host, a name
// or an address, beside localhost. It is made at the first start. Under
// another host a new one is made with the same key and name: devices that know
// the old one take it as the new one's authority.
func ownCertificate(dir, host string) (certFile, keyFile string, err error) {
	certFile, keyFile = filepath.Join(dir, OwnCertFile), filepath.Join(dir, OwnKeyFile)
	if pair, err := os.ReadFile(certFile); err == nil {
		if block, _ := pem.Decode(pair); block != nil {
			if c, err := x509.ParseCertificate(block.Bytes); err == nil && c.VerifyHostname(host) == nil {
				return certFile, keyFile, nil
			}
		}
	}
	key, err := ownKey(keyFile)
	if err != nil {
		return "", "", err
	}
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127))
	if err != nil {
		return "", "", err
	}
	c := &x509.Certificate{
		SerialNumber: serial, Subject: pkix.Name{CommonName: "dunlin hub"}, NotBefore: ownSince, NotAfter: ownUntil,
		DNSNames: []string{"localhost"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1), net.IPv6loopback},
		KeyUsage:    x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}, IsCA: true, BasicConstraintsValid: true,
	}
	if ip := net.ParseIP(host); ip != nil {
		c.IPAddresses = append(c.IPAddresses, ip)
	} else {
		c.DNSNames = append(c.DNSNames, host)
	}
	der, err := x509.CreateCertificate(rand.Reader, c, c, &key.PublicKey, key)
	if err != nil {
		return "", "", fmt.Errorf("certificate for %q: %w", host, err)
	}
	return certFile, keyFile, durable.WriteFile(certFile, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o644)
}

// ownKey reads the key of the hub's certificate, or makes one where there is
// none.
func ownKey(path string) (*ecdsa.PrivateKey, error) {
	text, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			return nil, err
		}
		der, err := x509.MarshalPKCS8PrivateKey(key)
		if err != nil {
			return nil, err
		}
		return key, durable.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), 0o600)
	}
	if err != nil {
		return nil, err
	}
	if block, _ := pem.Decode(text); block != nil {
		if key, err := x509.ParsePKCS8PrivateKey(block.Bytes); err == nil {
			if key, ok := key.(*ecdsa.PrivateKey); ok {
				return key, nil
			}
		}
	}
	return nil, fmt.Errorf("%s: not a key that the hub made; remove it and %s for new ones: devices are then to be enrolled again", path, OwnCertFile)
}
