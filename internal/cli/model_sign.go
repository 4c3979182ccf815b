package cli

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"dunlin/internal/oci"
	"dunlin/internal/sign"
	"dunlin/model/pack"
)

func modelSignCommand() *cobra.Command {
	var keyFile string
	var makeKey bool
	c := &cobra.Command{
		Use:   "sign PACK --key FILE",
		Short: "Sign a packed model",
		Long: `Sign writes an Ed25519 signature over the manifest's digest beside the manifest in
PACK's index. The manifest names every blob by its digest, so the signature covers all
of the pack. Devices answer only with models signed by a key that they trust: keep the
private key away from the hub, and give the hub the public one.`,
		Example: `  dunlin model sign --make-key --key release.pem        # release.pem and release.pem.pub
  dunlin model sign garments-int8 --key release.pem`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			switch {
			case keyFile == "":
				return usagef("say which key: --key FILE")
			case makeKey && len(args) == 0:
				return makeKeyPair(c.OutOrStdout(), keyFile)
			case makeKey || len(args) == 0:
				return usagef("give a PACK to sign, or --make-key alone")
			}
			key, err := sign.ReadPrivate(keyFile)
			if errors.Is(err, os.ErrNotExist) {
				return withHint(err, "make a key pair with: dunlin model sign --make-key --key %s", keyFile)
			}
			if err != nil {
				return err
			}
			digest, err := signPack(args[0], key)
			if err != nil {
				return err
			}
			_, err = fmt.Fprintf(c.OutOrStdout(), "%s: %s signed with key %s\n", args[0], digest, key.Public().ID())
			return err
		},
	}
	c.Flags().StringVar(&keyFile, "key", "", "private key file (PEM, PKCS #8, readable by its owner only)")
	c.Flags().BoolVar(&makeKey, "make-key", false, "make a new key pair: the private key in FILE, the public one in FILE.pub")
	return c
}

func makeKeyPair(w io.Writer, file string) error {
	if _, err := os.Lstat(file); err == nil {
		return withHint(fmt.Errorf("key file %s: %w", file, os.ErrExist), "a key that is overwritten is lost; choose another name")
	}
	key, err := sign.Generate()
	if err != nil {
		return err
	}
	if err := errors.Join(key.WriteFile(file), key.Public().WriteFile(file+".pub")); err != nil {
		return err
	}
	_, err = fmt.Fprintf(w, "%s: private key, keep it safe\n%s.pub: public key %s, for the hub (--release-key)\n", file, file, key.Public().ID())
	return err
}

// signPack signs the newest manifest of the pack in dir and returns its
// digest.
func signPack(dir string, key sign.PrivateKey) (string, error) {
	l, m, err := openPack(dir)
	if err != nil {
		return "", err
	}
	defer m.Close()
	return m.Digest, pack.Sign(l, m.Digest, key)
}

// openPack opens the layout in dir and its newest model.
func openPack(dir string) (*oci.Layout, *pack.Model, error) {
	if filepath.Ext(dir) == ".onnx" {
		return nil, nil, withHint(fmt.Errorf("%s is no packed model", dir), "make one with: dunlin model compress %s --calibrate PATH -o PACK", dir)
	}
	l, err := oci.Open(dir)
	if err != nil {
		return nil, nil, err
	}
	m, err := pack.ReadDir(dir)
	return l, m, err
}
