package sign

import (
	"crypto/ed25519"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"runtime"

	"dunlin/internal/durable"
)

// maxFile bounds a key file; ours have about 120 bytes.
const maxFile = 64 << 10

const (
	privateBlock = "PRIVATE KEY" // PKCS #8, RFC 5958
	publicBlock  = "PUBLIC KEY"  // SubjectPublicKeyInfo, RFC 8410
)

// FileError says which key file cannot be used.
type FileError struct {
	Path string
	Err  error
	Hint string // one sentence for a person, or ""
}

func (e *FileError) Error() string { return fmt.Sprintf("key file %s: %v", e.Path, e.Err) }
func (e *FileError) Unwrap() error { return e.Err }

// ErrExposed is returned when others than its owner may read or write a
// private key's file.
var ErrExposed = errors.New("others may read or write this private key")

// ReadPrivate reads a private key from a PEM file (PKCS #8), as WriteFile
// and "openssl genpkey -algorithm ed25519" make it. All errors are
// *FileError; a file that others may read is refused with ErrExposed.
func ReadPrivate(path string) (PrivateKey, error) {
	der, err := readPEM(path, privateBlock, true)
	if err != nil {
		return PrivateKey{}, err
	}
	key, err := x509.ParsePKCS8PrivateKey(der)
	if err != nil {
		return PrivateKey{}, &FileError{Path: path, Err: err}
	}
	ed, ok := key.(ed25519.PrivateKey)
	if !ok {
		return PrivateKey{}, &FileError{Path: path, Err: fmt.Errorf("a %T, want Ed25519", key)}
	}
	return PrivateKey{ed}, nil
}

// ReadPublic reads a public key from a PEM file (PKIX). All errors are
// *FileError.
func ReadPublic(path string) (PublicKey, error) {
	der, err := readPEM(path, publicBlock, false)
	if err != nil {
		return PublicKey{}, err
	}
	key, err := x509.ParsePKIXPublicKey(der)
	if err != nil {
		return PublicKey{}, &FileError{Path: path, Err: err}
	}
	ed, ok := key.(ed25519.PublicKey)
	if !ok {
		return PublicKey{}, &FileError{Path: path, Err: fmt.Errorf("a %T, want Ed25519", key)}
	}
	p, err := publicKey(ed)
	if err != nil {
		return PublicKey{}, &FileError{Path: path, Err: err}
	}
	return p, nil
}

func readPEM(path, want string, secret bool) ([]byte, error) {
	data, err := readKeyFile(path, secret)
	if err != nil {
		return nil, err
	}
	block, _ := pem.Decode(data)
	switch {
	case block == nil:
		return nil, &FileError{Path: path, Err: errors.New("no PEM block in it")}
	case block.Type == privateBlock && want == publicBlock:
		return nil, &FileError{
			Path: path, Err: errors.New("it holds a private key, want a public one"),
			Hint: "give the public key's file, and keep this one to yourself",
		}
	case block.Type != want:
		return nil, &FileError{Path: path, Err: fmt.Errorf("it holds a %q, want a %q", clip(block.Type), want)}
	}
	return block.Bytes, nil
}

// readKeyFile checks the mode of the file it has open, not of the path: the
// file cannot be exchanged between check and read.
func readKeyFile(path string, secret bool) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		var pe *fs.PathError
		if errors.As(err, &pe) {
			err = pe.Err
		}
		return nil, &FileError{Path: path, Err: err}
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, &FileError{Path: path, Err: err}
	}
	if !info.Mode().IsRegular() {
		return nil, &FileError{Path: path, Err: errors.New("not a file")}
	}
	// Windows has no such bits: Go makes them up there.
	if mode := info.Mode().Perm(); secret && mode&0o077 != 0 && runtime.GOOS != "windows" {
		return nil, &FileError{
			Path: path, Err: fmt.Errorf("mode %04o: %w", mode, ErrExposed), Hint: "chmod 600 " + path,
		}
	}
	data, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err != nil {
		return nil, &FileError{Path: path, Err: err}
	}
	if len(data) > maxFile {
		return nil, &FileError{Path: path, Err: fmt.Errorf("more than %d bytes", maxFile)}
	}
	return data, nil
}

// WriteFile writes the key as PEM (PKCS #8) for its owner alone, all or
// nothing. An existing file is never overwritten: a lost key cannot be had
// again, so that is an error that wraps fs.ErrExist.
func (k PrivateKey) WriteFile(path string) error {
	if k.key == nil {
		return &FileError{Path: path, Err: errors.New("no key to write")}
	}
	if _, err := os.Lstat(path); err == nil {
		return &FileError{Path: path, Err: fs.ErrExist, Hint: "move the old key away first, or give another name"}
	}
	der, err := x509.MarshalPKCS8PrivateKey(k.key)
	if err != nil {
		return &FileError{Path: path, Err: err}
	}
	return writePEM(path, privateBlock, der, 0o600)
}

// WriteFile writes the key as PEM (PKIX), all or nothing.
func (p PublicKey) WriteFile(path string) error {
	if p.IsZero() {
		return &FileError{Path: path, Err: errors.New("no key to write")}
	}
	der, err := x509.MarshalPKIXPublicKey(ed25519.PublicKey(p.key[:]))
	if err != nil {
		return &FileError{Path: path, Err: err}
	}
	return writePEM(path, publicBlock, der, 0o644)
}

func writePEM(path, block string, der []byte, perm fs.FileMode) error {
	data := pem.EncodeToMemory(&pem.Block{Type: block, Bytes: der})
	if err := durable.WriteFile(path, data, perm); err != nil {
		return &FileError{Path: path, Err: err}
	}
	return nil
}
