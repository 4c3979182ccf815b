package sign

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

func key(t testing.TB) PrivateKey {
	t.Helper()
	k, err := Generate()
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func TestVerify(t *testing.T) {
	k, other := key(t), key(t)
	msg := []byte("sha256:0123")
	good := k.Sign("dunlin.model", msg)
	flipped := Signature{Key: good.Key, Sig: bytes.Clone(good.Sig)}
	flipped.Sig[10] ^= 1
	cases := []struct {
		name    string
		trust   Trust
		purpose string
		msg     string
		sig     Signature
		want    error
	}{
		{"good", Trust{other.Public(), k.Public()}, "dunlin.model", "sha256:0123", good, nil},
		{"another message", Trust{k.Public()}, "dunlin.model", "sha256:0124", good, ErrBadSignature},
		{"another purpose", Trust{k.Public()}, "dunlin.facts", "sha256:0123", good, ErrBadSignature},
		{"purpose and message shifted", Trust{k.Public()}, "dunlin.mode", "l\nsha256:0123", good, ErrBadSignature},
		{"purpose with a line break", Trust{k.Public()}, "dunlin.model\nsha256", ":0123", good, ErrBadSignature},
		{"no purpose", Trust{k.Public()}, "", "dunlin.model\nsha256:0123", good, ErrBadSignature},
		{"flipped bit", Trust{k.Public()}, "dunlin.model", "sha256:0123", flipped, ErrBadSignature},
		{"short", Trust{k.Public()}, "dunlin.model", "sha256:0123", Signature{good.Key, good.Sig[:63]}, ErrBadSignature},
		{"empty", Trust{k.Public()}, "dunlin.model", "sha256:0123", Signature{}, ErrUnknownKey},
		{"unknown key", Trust{other.Public()}, "dunlin.model", "sha256:0123", good, ErrUnknownKey},
		{"nobody trusted", nil, "dunlin.model", "sha256:0123", good, ErrUnknownKey},
		{"another's ID", Trust{other.Public()}, "dunlin.model", "sha256:0123", Signature{other.Public().ID(), good.Sig}, ErrBadSignature},
		{"zero key", Trust{{}}, "dunlin.model", "sha256:0123", Signature{PublicKey{}.ID(), good.Sig}, ErrUnknownKey},
	}
	for _, c := range cases {
		if err := c.trust.Verify(c.purpose, []byte(c.msg), c.sig); !errors.Is(err, c.want) {
			t.Errorf("%s: got %v, want %v", c.name, err, c.want)
		}
	}
}

// The text that is signed is a contract: FORMAT.md and WIRE.md state it.
// The key is that of RFC 8032, section 7.1, TEST 1.
func TestKnownSignature(t *testing.T) {
	seed := "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60"
	der, err := hex.DecodeString("302e020100300506032b657004220420" + seed)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "key.pem")
	if err := os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: privateBlock, Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
	k, err := ReadPrivate(path)
	if err != nil {
		t.Fatal(err)
	}
	if got, want := k.Public().String(), "ed25519:11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo="; got != want {
		t.Errorf("public key %s, want %s", got, want)
	}
	if got, want := k.Public().ID(), "21fe31dfa154a261"; got != want {
		t.Errorf("ID %s, want %s", got, want)
	}
	if got := string(text("p", []byte("m"))); got != "dunlin signature v1\np\nm" {
		t.Errorf("signed text %q", got)
	}
}

func TestJSON(t *testing.T) {
	k := key(t)
	s := k.Sign("p", []byte("m"))
	data, err := json.Marshal(struct {
		Key PublicKey
		Sig Signature
	}{k.Public(), s})
	if err != nil {
		t.Fatal(err)
	}
	var back struct {
		Key PublicKey
		Sig Signature
	}
	if err := json.Unmarshal(data, &back); err != nil {
		t.Fatal(err)
	}
	if err := (Trust{back.Key}).Verify("p", []byte("m"), back.Sig); err != nil {
		t.Error(err)
	}
	for _, want := range []string{`"key":"` + k.Public().ID(), `"Key":"ed25519:`} {
		if !strings.Contains(string(data), want) {
			t.Errorf("%s: want %s in it", data, want)
		}
	}
	for _, bad := range []string{`"ed25519:AAAA"`, `"rsa:xx"`, `7`, `"ed25519:` + strings.Repeat("A", 43) + `="`} {
		if err := json.Unmarshal([]byte(bad), &back.Key); err == nil {
			t.Errorf("%s is no key, but was read as %v", bad, back.Key)
		}
	}
}

func TestPrivateKeysDoNotPrint(t *testing.T) {
	k := key(t)
	data, err := json.Marshal([]any{k})
	if err != nil {
		t.Fatal(err)
	}
	secret := string(k.key)
	for _, s := range []string{fmt.Sprint(k), fmt.Sprintf("%v %+v %#v %s %x", k, k, k, k, k), string(data)} {
		if strings.Contains(s, secret) || strings.Contains(s, hex.EncodeToString(k.key[:8])) || len(s) > 400 {
			t.Errorf("it printed %q", s)
		}
	}
}

func TestFiles(t *testing.T) {
	dir := t.TempDir()
	private, public := filepath.Join(dir, "key.pem"), filepath.Join(dir, "key.pub.pem")
	k := key(t)
	if err := errors.Join(k.WriteFile(private), k.Public().WriteFile(public)); err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(private); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
	k2, err := ReadPrivate(private)
	if err != nil {
		t.Fatal(err)
	}
	p2, err := ReadPublic(public)
	if err != nil {
		t.Fatal(err)
	}
	if !p2.Equal(k.Public()) || !k2.Public().Equal(k.Public()) {
		t.Error("the keys came back different")
	}
	if err := k.WriteFile(private); !errors.Is(err, fs.ErrExist) {
		t.Errorf("overwrote a key: %v", err)
	}
	if _, err := ReadPublic(private); err == nil || !strings.Contains(err.Error(), "private key") {
		t.Errorf("private read as public: %v", err)
	}
	if _, err := ReadPrivate(public); err == nil {
		t.Error("public read as private")
	}
}

func TestExposedKeysAreRefused(t *testing.T) {
	path := filepath.Join(t.TempDir(), "key.pem")
	if err := key(t).WriteFile(path); err != nil {
		t.Fatal(err)
	}
	for _, mode := range []fs.FileMode{0o604, 0o640, 0o620, 0o644, 0o777} {
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
		_, err := ReadPrivate(path)
		var fe *FileError
		if !errors.Is(err, ErrExposed) || !errors.As(err, &fe) || !strings.Contains(fe.Hint, "chmod 600") {
			t.Errorf("mode %04o: %v", mode, err)
		}
	}
	if err := os.Chmod(path, 0o400); err != nil {
		t.Fatal(err)
	}
	if _, err := ReadPrivate(path); err != nil {
		t.Error(err)
	}
}

func TestBadFiles(t *testing.T) {
	dir := t.TempDir()
	cases := map[string]string{
		"empty":     "",
		"no PEM":    "hello",
		"other PEM": "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
		"bad DER":   "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n",
		"large":     strings.Repeat("x", maxFile+1),
	}
	for name, content := range cases {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		var fe *FileError
		if _, err := ReadPrivate(path); !errors.As(err, &fe) || fe.Path != path {
			t.Errorf("%s: %v", name, err)
		}
		if _, err := ReadPublic(path); !errors.As(err, &fe) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := ReadPrivate(filepath.Join(dir, "none")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("absent: %v", err)
	}
	if _, err := ReadPrivate(dir); err == nil {
		t.Error("read a folder")
	}
}

// OpenSSL reads our keys and we read its.
func TestOpenSSL(t *testing.T) {
	openssl, err := exec.LookPath("openssl")
	if err != nil {
		if os.Getenv("CI") != "" {
			t.Fatal(err)
		}
		t.Skip("skipped: no openssl")
	}
	dir := t.TempDir()
	theirs, ours := filepath.Join(dir, "theirs.pem"), filepath.Join(dir, "ours.pem")
	run := func(args ...string) []byte {
		t.Helper()
		out, err := exec.Command(openssl, args...).Output()
		if err != nil {
			t.Fatalf("openssl %s: %v", strings.Join(args, " "), err)
		}
		return out
	}
	run("genpkey", "-algorithm", "ed25519", "-out", theirs)
	if err := os.Chmod(theirs, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := ReadPrivate(theirs); err != nil {
		t.Error(err)
	}
	k := key(t)
	if err := k.WriteFile(ours); err != nil {
		t.Fatal(err)
	}
	public := filepath.Join(dir, "public.pem")
	if err := os.WriteFile(public, run("pkey", "-in", ours, "-pubout"), 0o644); err != nil {
		t.Fatal(err)
	}
	if p, err := ReadPublic(public); err != nil || p != k.Public() {
		t.Errorf("%v, %v", p, err)
	}
}

func FuzzParsePublic(f *testing.F) {
	f.Add("ed25519:11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=")
	f.Add("ed25519:")
	f.Fuzz(func(t *testing.T, s string) {
		p, err := ParsePublic(s)
		if err == nil && p.String() != s {
			t.Fatalf("%q read as %q", s, p)
		}
	})
}
