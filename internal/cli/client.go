package cli

import (
	"bytes"
	"cmp"
	"context"
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
	c.Flags().StringVar(&f.token, "token", "", "the hub's admin token (default $DUNLIN_TOKEN); --token-file keeps it out of the process list")
	c.Flags().StringVar(&f.tokenFile, "token-file", "", "file that holds the token: admin.token in the hub's folder")
}

// client speaks the hub's HTTP API.
type client struct {
	base, token string
	http        *http.Client
}

func (f *hubFlags) client() (*client, error) {
	token := cmp.Or(f.token, os.Getenv("DUNLIN_TOKEN"))
	if f.tokenFile != "" {
		text, err := os.ReadFile(f.tokenFile)
		if err != nil {
			return nil, err
		}
		token = strings.TrimSpace(string(text))
	}
	if token == "" {
		return nil, hintError{usagef("no token for the hub"), "give --token-file HUBDIR/admin.token, or set DUNLIN_TOKEN"}
	}
	base := cmp.Or(f.url, os.Getenv("DUNLIN_HUB"), "http://127.0.0.1:7070")
	if u, err := url.Parse(base); err != nil || u.Host == "" {
		return nil, usagef("hub address %q: want http://HOST:PORT", base)
	}
	return &client{strings.TrimRight(base, "/"), token, http.DefaultClient}, nil
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
	case e.Advice != "":
		return e.Advice
	case e.Status == http.StatusUnauthorized:
		return "the token is not this hub's: use admin.token from the hub's folder"
	}
	return ""
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
		var u *url.Error
		if errors.As(err, &u) {
			err = u.Err
		}
		return withHint(fmt.Errorf("hub %s: %w", c.base, err), "is the hub running there? start one with: dunlin hub")
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
