package cli

import (
	"bytes"
	"cmp"
	"context"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strings"

	"github.com/spf13/cobra"
)

// hubFlags say which hub to talk to, and as whom.
type hubFlags struct{ url, token, tokenFile string }

func (f *hubFlags) register(c *cobra.Command) {
	c.Flags().StringVar(&f.url, "hub", "", "address of the hub's HTTP API (default $DUNLIN_HUB, else http://127.0.0.1:7070)")
	c.Flags().StringVar(&f.token, "token", "", "the hub's admin token (default $DUNLIN_TOKEN, else that of a hub in ./dunlin-hub)")
	c.Flags().StringVar(&f.tokenFile, "token-file", "", "file that holds the token: admin.token in the hub's folder; keeps it out of the process list")
}

// client speaks the hub's HTTP API.
type client struct {
	base, token string
	http        *http.Client
}

func (f *hubFlags) client() (*client, error) {
	token, err := f.secret()
	if err != nil {
		return nil, err
	}
	base := cmp.Or(f.url, os.Getenv("DUNLIN_HUB"), "http://127.0.0.1:7070")
	if u, err := url.Parse(base); err != nil || u.Host == "" {
		return nil, usagef("hub address %q: want http://HOST:PORT", base)
	}
	return &client{strings.TrimRight(base, "/"), token, http.DefaultClient}, nil
}

// localToken is the token of a hub that was started in this folder with the
// default --dir.
const localToken = "dunlin-hub/admin.token"

// secret returns the token that was given, or else the one of a hub here.
func (f *hubFlags) secret() (string, error) {
	file := f.tokenFile
	if file == "" {
		if token := cmp.Or(f.token, os.Getenv("DUNLIN_TOKEN")); token != "" {
			return token, nil
		}
		file = localToken
	}
	text, err := os.ReadFile(file)
	if errors.Is(err, os.ErrNotExist) && f.tokenFile == "" {
		return "", hintError{usagef("no token for the hub"), "give --token-file HUBDIR/admin.token, or set DUNLIN_TOKEN"}
	}
	return strings.TrimSpace(string(text)), err
}

// apiError is an answer of the hub that is not a success.
type apiError struct {
	Method, Path string
	Status       int
	Text, Advice string
}

func (e *apiError) Error() string {
	return fmt.Sprintf("hub: %s %s: %s (status %d)", e.Method, e.Path, e.Text, e.Status)
}

// Hint is the hub's own, or what to do about the status.
func (e *apiError) Hint() string {
	switch {
	case e.Status == http.StatusUnauthorized:
		return "the token is not this hub's: use admin.token from the hub's folder"
	case e.Advice == "" && e.Status == http.StatusNotFound && strings.HasPrefix(e.Path, "/v1/devices/"):
		return "dunlin fleet list shows the devices"
	}
	return e.Advice
}

// do sends body (a reader as it is, anything else as JSON, nil for none) and
// decodes the answer into out, unless that is nil.
func (c *client) do(ctx context.Context, method, path string, body, out any) error {
	var r io.Reader
	kind := "application/json"
	switch b := body.(type) {
	case nil:
	case io.Reader:
		r, kind = b, "application/octet-stream"
	default:
		text, err := json.Marshal(b)
		if err != nil {
			return err
		}
		r = bytes.NewReader(text)
	}
	req, err := http.NewRequestWithContext(ctx, method, c.base+path, r)
	if err != nil {
		return err
	}
	req.Header.Set("Authorization", "Bearer "+c.token)
	req.Header.Set("Content-Type", kind)
	resp, err := c.http.Do(req)
	if err != nil {
		if ours := bodyError(body); ours != nil {
			return ours
		}
		var u *url.Error
		if errors.As(err, &u) {
			err = u.Err
		}
		hint := "is the hub running there? start one with: dunlin hub"
		if _, unknown := errors.AsType[x509.UnknownAuthorityError](err); unknown {
			hint = "if you signed its certificate yourself, name it: SSL_CERT_FILE=hub.crt"
		}
		return withHint(fmt.Errorf("hub %s: %w", c.base, err), "%s", hint)
	}
	defer resp.Body.Close()
	if resp.StatusCode/100 != 2 {
		e := &apiError{Method: method, Path: path, Status: resp.StatusCode}
		var said struct{ Error, Hint string }
		text, _ := io.ReadAll(io.LimitReader(resp.Body, 1<<16))
		if json.Unmarshal(text, &said) == nil && said.Error != "" {
			e.Text, e.Advice = said.Error, said.Hint
		} else {
			e.Text = cmp.Or(strings.TrimSpace(string(text)), resp.Status)
		}
		return e
	}
	if out == nil {
		_, err = io.Copy(io.Discard, resp.Body)
		return err
	}
	return json.NewDecoder(resp.Body).Decode(out)
}

// failing is a body that knows why it ended early: then that is the error,
// and not what the connection made of it.
type failing interface{ failure() error }

func bodyError(body any) error {
	if f, ok := body.(failing); ok {
		return f.failure()
	}
	return nil
}
