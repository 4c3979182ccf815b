package cli

import (
	"context"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"dunlin/internal/oci"
	"dunlin/internal/sign"
	"dunlin/model/pack"
)

func modelPushCommand() *cobra.Command {
	var hub hubFlags
	var asJSON bool
	c := &cobra.Command{
		Use:   "push PACK",
		Short: "Send a signed model to the hub's registry",
		Long: `Push sends the blobs of PACK that the hub has not, then registers the model. The hub
checks the signature against its release keys and refuses a version that is not above
the newest it has. No device gets the model before a rollout: dunlin fleet rollout.`,
		Example: `  dunlin model push garments-int8 --token-file hub/admin.token`,
		Args:    cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			api, err := hub.client()
			if err != nil {
				return err
			}
			l, m, err := openPack(args[0])
			if err != nil {
				return err
			}
			defer m.Close()
			digest := m.Digest
			sig, ok := pack.Signature(l, digest)
			if !ok {
				return withHint(fmt.Errorf("push %s: the pack is not signed", args[0]), "dunlin model sign %s --key FILE", args[0])
			}
			b := newBar(c.ErrOrStderr(), "sending", 1)
			sent, err := pushPack(c.Context(), api, l, digest, sig, b.set)
			b.done()
			if err != nil {
				return err
			}
			if asJSON {
				return printJSON(c.OutOrStdout(), map[string]any{"name": m.Name, "version": m.Version, "digest": digest, "bytes_sent": sent})
			}
			_, err = fmt.Fprintf(c.OutOrStdout(), "%s version %d registered (%s, %s sent)\n", m.Name, m.Version, digest, bytesText(sent))
			return err
		},
	}
	hub.register(c)
	jsonFlag(c, &asJSON)
	return c
}

// pushPack uploads a pack and registers it.
func pushPack(ctx context.Context, api *client, l *oci.Layout, digest string, sig sign.Signature, progress func(done, total int)) (int64, error) {
	sent, err := pushBlobs(ctx, api, l, digest, progress)
	if err != nil {
		return sent, err
	}
	return sent, api.do(ctx, "POST", "/v1/models", map[string]any{"manifest": digest, "sig": sig}, nil)
}

// pushBlobs uploads a manifest and its blobs, the manifest last, leaving out
// those that the hub has.
func pushBlobs(ctx context.Context, api *client, l *oci.Layout, digest string, progress func(done, total int)) (int64, error) {
	d, err := oci.ParseDigest(digest)
	if err != nil {
		return 0, err
	}
	manifest, err := l.Manifest(d)
	if err != nil {
		return 0, err
	}
	blobs := oci.Blobs(manifest)
	digests := make([]oci.Digest, 0, len(blobs)+1)
	for _, b := range blobs {
		digests = append(digests, b.Digest)
	}
	digests = append(digests, d)
	sent := int64(0)
	for i, b := range digests {
		progress(i, len(digests))
		n, err := pushBlob(ctx, api, l, b)
		if err != nil {
			return sent, err
		}
		sent += n
	}
	progress(len(digests), len(digests))
	return sent, nil
}

func pushBlob(ctx context.Context, api *client, l *oci.Layout, d oci.Digest) (int64, error) {
	path := "/v1/blob/" + d.String()
	if api.do(ctx, "HEAD", path, nil, nil) == nil {
		return 0, nil
	}
	f, size, err := l.OpenBlob(d)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	return size, api.do(ctx, "PUT", path, io.Reader(io.LimitReader(f, size)), nil)
}
