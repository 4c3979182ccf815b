//go:build board

package e2e_test

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"log/slog"
	"math/big"
	mathrand "math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"dunlin/firmware-tools/vm"
	"dunlin/hub"
	"dunlin/hub/api"
)

// granted is told of each time that the hub gives a token for a claim.
type granted chan struct{}

func (g granted) Write(entry []byte) (int, error) {
	if bytes.Contains(entry, []byte("claim taken")) {
		select {
		case g <- struct{}{}:
		default:
		}
	}
	return len(entry), nil
}

// hubWithTLS runs a hub that boards reach by TLS alone. Its certificate has an
// authority of its own, and was made an hour ago.
func hubWithTLS(t *testing.T, log granted) *hub.Hub {
	t.Helper()
	dir := t.TempDir()
	issue := func(name string, parent *x509.Certificate, by *ecdsa.PrivateKey) (*x509.Certificate, *ecdsa.PrivateKey) {
		key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		c := &x509.Certificate{
			SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: name}, IsCA: parent == nil, BasicConstraintsValid: true,
			NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), IPAddresses: []net.IP{net.ParseIP(vm.HubHost)},
		}
		if parent == nil {
			parent, by = c, key
		}
		der, err := x509.CreateCertificate(rand.Reader, c, parent, &key.PublicKey, by)
		if err != nil {
			t.Fatal(err)
		}
		keyDER, err := x509.MarshalPKCS8PrivateKey(key)
		if err != nil {
			t.Fatal(err)
		}
		for ending, block := range map[string]*pem.Block{".crt": {Type: "CERTIFICATE", Bytes: der}, ".key": {Type: "PRIVATE KEY", Bytes: keyDER}} {
			if err := os.WriteFile(filepath.Join(dir, name+ending), pem.EncodeToMemory(block), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		made, err := x509.ParseCertificate(der)
		if err != nil {
			t.Fatal(err)
		}
		return made, key
	}
	ca, caKey := issue("ca", nil, nil)
	issue("hub", ca, caKey)
	h, err := hub.Open(hub.Options{
		Dir: filepath.Join(dir, "hub"), HTTPAddr: "127.0.0.1:0", MQTTAddr: "127.0.0.1:0",
		Log: slog.New(slog.NewTextHandler(log, nil)), CertFile: filepath.Join(dir, "hub.crt"), KeyFile: filepath.Join(dir, "hub.key"), CAFile: filepath.Join(dir, "ca.crt"),
		PublicHTTP: fmt.Sprintf("https://%s:%d", vm.HubHost, boardHTTP), PublicMQTT: fmt.Sprintf("tls://%s:%d", vm.HubHost, boardMQTT),
	})
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

// TestBoardEnrols: a board that takes it to be 1970 at every start, with a
// claim on its card, loses its power at moments of its enrolment. However
// often: it becomes one device, is online in the end, and the claim is gone
// from its card.
func TestBoardEnrols(t *testing.T) {
	kind, err := vm.Named("virt")
	if err != nil {
		t.Fatal(err)
	}
	given := make(granted, 1)
	h := hubWithTLS(t, given)
	line, _, err := h.MakeClaim(api.ClaimRequest{Tenant: "e2e", Name: "door"})
	if err != nil {
		t.Fatal(err)
	}
	files := vm.AgentFiles(agentFor(t, kind), "metrics_every_s = 1\n")
	files["var/lib/dunlin/token"] = vm.File{Data: []byte(line + "\n"), Mode: 0o600}
	b := &board{t: t, name: "door", disk: filepath.Join(t.TempDir(), "door.img")}
	if err := vm.MakeDisk(b.disk, 64, files); err != nil {
		cannot(t, err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute) // a kernel may have to be fetched
	defer cancel()
	b.machine, err = vm.New(ctx, kind, vm.Config{
		Disk: b.disk, Service: vm.Agent(), Hub: map[int]string{boardHTTP: h.HTTPAddr(), boardMQTT: h.MQTTAddr()}, Log: func(s string) { t.Log(s) },
	})
	if err != nil {
		cannot(t, err)
	}
	defer b.machine.Close()
	boot := vm.Boot{Clock: time.Date(1970, 1, 2, 0, 0, 0, 0, time.UTC)}
	cuts := 4
	if testing.Short() {
		cuts = 2
	}
	random := mathrand.New(mathrand.NewPCG(1970, 1))
	before, after := 0, 0 // the hub gave the token
	for i := range cuts {
		v, err := b.machine.Start(t.Context(), boot)
		if err != nil {
			t.Fatal(err)
		}
		b.vm = v
		up, cancel := context.WithTimeout(t.Context(), time.Minute)
		err = v.Up(up)
		if err != nil {
			t.Fatalf("%v\n%s", err, v.Tail(40))
		}
		if i == 0 { // while the agent starts
			time.Sleep(time.Duration(random.IntN(500)) * time.Millisecond)
			before++
		} else {
			// While the answer is on its way, is being kept, and the claim is
			// being removed. A board that has its token asks no more.
			for cut := false; !cut; {
				select {
				case <-given:
					time.Sleep(time.Duration(random.IntN(30)) * time.Millisecond)
					after++
					cut = true
				case <-time.After(5 * time.Millisecond):
					all := h.Devices()
					cut = len(all) == 1 && all[0].Online
				case <-up.Done():
					t.Fatalf("no claim was taken\n%s", v.Tail(40))
				}
			}
		}
		cancel()
		v.Kill()
		<-v.Done()
	}
	t.Logf("%d power cuts before the hub gave the token, %d within 30 ms after", before, after)
	for range 2 { // with the claim, or what is left of it; then with the token alone
		b.start(boot)
		wait(t, 60*time.Second, "the board to be online", func() error {
			all := h.Devices()
			if len(all) != 1 || !all[0].Online || all[0].Hello == nil || all[0].Hello.Clock.Wall.Year() > 1970 {
				return fmt.Errorf("the hub knows %+v", all)
			}
			return nil
		})
		wait(t, 20*time.Second, "the claim to be gone", func() error {
			names, err := b.vm.List(t.Context(), "/var/lib/dunlin")
			if err == nil && slices.Contains(names, "token") {
				err = errors.New("it is on the card")
			}
			return err
		})
		b.stop()
		wait(t, 30*time.Second, "the board to be offline", func() error {
			if h.Devices()[0].Online {
				return errors.New("it is online")
			}
			return nil
		})
	}
	if c := h.Claims()[0]; len(c.Devices) != 1 || c.Refused != 0 {
		t.Errorf("the claim: %+v", c)
	}
}
