package hub_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"dunlin/hub"
	"dunlin/hub/broker"
	"dunlin/sync/wire"
)

// certificate makes a self-signed certificate for 127.0.0.1.
func certificate(t *testing.T) (cert, key string) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	c := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "hub"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, c, c, &private.PublicKey, private)
	if err != nil {
		t.Fatal(err)
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	cert, key = filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	for path, block := range map[string]*pem.Block{cert: {Type: "CERTIFICATE", Bytes: der}, key: {Type: "PRIVATE KEY", Bytes: keyDER}} {
		if err := os.WriteFile(path, pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return cert, key
}

// TestTLS enrols a device with a hub that speaks TLS only, and has it send a
// result with nothing but what its token says.
func TestTLS(t *testing.T) {
	cert, key := certificate(t)
	s := run(t, hub.Options{Dir: t.TempDir(), CertFile: cert, KeyFile: key, CAFile: cert})
	line, err := s.hub.Enrol(wire.Device{Tenant: "acme", Name: "left"})
	if err != nil {
		t.Fatal(err)
	}
	token, err := wire.ParseToken(line)
	if err != nil {
		t.Fatal(err)
	}
	if token.MQTT != "tls://"+s.hub.MQTTAddr() || token.HTTP != "https://"+s.hub.HTTPAddr() {
		t.Fatalf("token for %s, %s", token.MQTT, token.HTTP)
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM([]byte(token.CAPEM)) {
		t.Fatal("no certificate authority in the token")
	}
	config := &tls.Config{RootCAs: roots}
	b := startTLS(t, token, t.TempDir(), config)
	b.put(3)
	eventually(t, "the results are stored", b.drained)
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: config}}
	resp, err := client.Get(token.HTTP + "/livez")
	if err != nil || resp.StatusCode != http.StatusOK {
		t.Fatalf("%v, %v", resp, err)
	}
	resp.Body.Close()
	client.CloseIdleConnections()
	everywhere := hub.Options{Dir: t.TempDir(), CertFile: cert, KeyFile: key, HTTPAddr: "0.0.0.0:0", MQTTAddr: ":0"}
	if _, err := hub.Open(everywhere); !errors.Is(err, hub.ErrNeedsPublic) {
		t.Errorf("on every address: %v", err)
	}
}

// TestOwnCertificate enrols a device with a hub that made its certificate. The
// hub then gets another address: what the device was told of it still holds.
func TestOwnCertificate(t *testing.T) {
	dir, state := t.TempDir(), t.TempDir()
	s := run(t, hub.Options{Dir: dir, OwnHost: "127.0.0.1"})
	line, err := s.hub.Enrol(wire.Device{Tenant: "acme", Name: "left"})
	if err != nil {
		t.Fatal(err)
	}
	token, err := wire.ParseToken(line)
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM([]byte(token.CAPEM)) {
		t.Fatal("no certificate authority in the token")
	}
	b := startTLS(t, token, state, &tls.Config{RootCAs: roots})
	b.put(3)
	eventually(t, "the results are stored", b.drained)
	b.stop()
	s.stop()
	before := read(t, filepath.Join(dir, hub.OwnCertFile))

	again := run(t, hub.Options{Dir: dir, OwnHost: "127.0.0.1"})
	again.stop()
	if read(t, filepath.Join(dir, hub.OwnCertFile)) != before {
		t.Error("the certificate was made anew for the same host")
	}
	moved := run(t, hub.Options{Dir: dir, OwnHost: "hub.example"})
	if read(t, filepath.Join(dir, hub.OwnCertFile)) == before {
		t.Error("the certificate is not for the new host")
	}
	for _, name := range []string{"localhost", "hub.example"} {
		c, err := tls.Dial("tcp", moved.hub.HTTPAddr(), &tls.Config{RootCAs: roots, ServerName: name})
		if err != nil {
			t.Errorf("as %s: %v", name, err)
			continue
		}
		c.Close()
	}
	if err := os.WriteFile(filepath.Join(dir, hub.OwnKeyFile), []byte("torn"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := hub.Open(hub.Options{Dir: dir, OwnHost: "other.example"}); err == nil || !strings.Contains(err.Error(), "remove it") {
		t.Errorf("a torn key: %v", err)
	}
}

func read(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// TestExternalBroker runs a hub on a broker that another process would have.
func TestExternalBroker(t *testing.T) {
	var h *hub.Hub
	other, err := broker.New(broker.Options{Dir: t.TempDir(), Addr: "127.0.0.1:0", Auth: func(user, password, _ string) (broker.Permissions, error) {
		d, ok := h.DeviceOf(password)
		if !ok || d.ClientID() != user {
			return broker.Permissions{}, errors.New("wrong password")
		}
		return broker.Permissions{Publish: []string{wire.Topic(d, "up/+")}, Subscribe: []string{wire.Topic(d, "down/+")}}, nil
	}})
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	if err := other.Start(); err != nil {
		t.Fatal(err)
	}
	_, user, password := other.Credentials()
	s := run(t, hub.Options{Dir: t.TempDir(), BrokerURL: other.URL(), BrokerUser: user, BrokerPassword: password})
	h = s.hub
	b := start(t, s.enrol("left"), t.TempDir())
	b.put(3)
	eventually(t, "the results are stored", b.drained)
	b.stop()
	s.stop()
}
