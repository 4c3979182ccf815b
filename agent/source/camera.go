package source

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"mime"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"
)

// Camera is a picture, or a stream of them, at an address.
type Camera struct {
	URL      string        // http or https; user and password in it are sent as basic authentication
	MaxBytes int           // of a picture
	Silence  time.Duration // a connection on which nothing comes for so long is given up
	TLS      *tls.Config   // nil: the system's authorities
}

// How long the parts of a request may take.
const (
	dialTime   = 10 * time.Second
	answerTime = 15 * time.Second // until the header of the answer
)

// CheckURL fails where a text is no address of a camera.
func CheckURL(text string) error {
	u, err := url.Parse(text)
	switch {
	case err != nil: // its text may hold a password
		return errors.New("not an address")
	case u.Scheme != "http" && u.Scheme != "https" || u.Host == "":
		return fmt.Errorf("%.60q: want http:// or https:// and a host", u.Redacted())
	}
	return nil
}

// client returns a client of this camera alone, and how to let it go.
func (c Camera) client() (*http.Client, func()) {
	t := &http.Transport{
		DialContext:            (&net.Dialer{Timeout: dialTime}).DialContext,
		TLSClientConfig:        c.TLS,
		TLSHandshakeTimeout:    dialTime,
		ResponseHeaderTimeout:  answerTime,
		MaxResponseHeaderBytes: 64 << 10,
	}
	return &http.Client{Transport: t, CheckRedirect: onward}, t.CloseIdleConnections
}

// onward follows few redirects, and none from TLS to plain text: the password
// went over TLS for a reason.
func onward(next *http.Request, before []*http.Request) error {
	if len(before) > 5 {
		return errors.New("more than 5 redirects")
	}
	if before[0].URL.Scheme == "https" && next.URL.Scheme != "https" {
		return errors.New("redirected from https to " + next.URL.Scheme)
	}
	return nil
}

// get asks for the address. The errors say nothing of its password, nor of
// its query, where many cameras want one.
func (c Camera) get(ctx context.Context, client *http.Client) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, c.URL, nil)
	if err != nil {
		return nil, errors.New("not an address")
	}
	res, err := client.Do(req)
	if err != nil {
		if e, ok := errors.AsType[*url.Error](err); ok {
			err = e.Err
		}
		return nil, fmt.Errorf("%s: %w", req.URL.Host, because(ctx, err))
	}
	if res.StatusCode == http.StatusOK {
		return res, nil
	}
	err = fmt.Errorf("%s: it answers %s", req.URL.Host, res.Status)
	if scheme := res.Header.Get("WWW-Authenticate"); res.StatusCode == http.StatusUnauthorized && len(scheme) >= 6 &&
		strings.EqualFold(scheme[:6], "digest") {
		err = fmt.Errorf("%w, and wants digest authentication: only basic is known here", err)
	}
	return nil, errors.Join(err, res.Body.Close())
}

// aliveReader tells of each read that brought something.
type aliveReader struct {
	r     io.Reader
	alive func()
}

func (r aliveReader) Read(p []byte) (int, error) {
	n, err := r.r.Read(p)
	if n > 0 {
		r.alive()
	}
	return n, err
}

// MJPEG plays a camera that answers with multipart/x-mixed-replace, as most
// with a web page of their own do.
type MJPEG struct{ Camera }

// Play implements Player.
func (m MJPEG) Play(ctx context.Context, got func([]byte)) error {
	client, free := m.client()
	defer free()
	ctx, alive, stop := watchdog(ctx, m.Silence)
	defer stop()
	res, err := m.get(ctx, client)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	kind := res.Header.Get("Content-Type")
	media, params, err := mime.ParseMediaType(kind)
	if err != nil && !errors.Is(err, mime.ErrInvalidMediaParameter) || !strings.HasPrefix(media, "multipart/") {
		hint := ""
		if strings.HasPrefix(media, "image/") {
			hint = "; a single picture is a snapshot"
		}
		return fmt.Errorf("%s: it answers with %.60q: want multipart/x-mixed-replace%s", res.Request.URL.Host, kind, hint)
	}
	next := newSplitter(aliveReader{res.Body, alive}, m.MaxBytes).next
	if b := boundary(kind, params); b != "" {
		next = newParts(aliveReader{res.Body, alive}, b, m.MaxBytes).next
	}
	for {
		data, err := next()
		if err != nil {
			return fmt.Errorf("%s: %w", res.Request.URL.Host, because(ctx, ended(err)))
		}
		if len(data) > 0 { // some send an empty part to keep the connection
			got(data)
		}
	}
}

// boundary returns the boundary of a Content-Type, "" where there is none.
// Some cameras write characters in it, without quotes, with which it is no
// media type.
func boundary(kind string, params map[string]string) string {
	if b := params["boundary"]; b != "" {
		return strings.Trim(b, "- ")
	}
	at := strings.Index(strings.ToLower(kind), "boundary=")
	if at < 0 {
		return ""
	}
	b, _, _ := strings.Cut(kind[at+len("boundary="):], ";")
	return strings.Trim(b, "- \"")
}

// ended puts in words that a stream ended.
func ended(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return errEnded
	}
	return err
}

// Snapshot plays a camera that answers with one picture, and asks it again
// and again.
type Snapshot struct {
	Camera
	Every time.Duration   // from one picture to the next; 0: 1 s, or only where Asked says
	Pace  *Pace           // makes that longer
	Asked <-chan struct{} // a picture is wanted now; nil: every so often alone
}

// Play implements Player.
func (s Snapshot) Play(ctx context.Context, got func([]byte)) error {
	client, free := s.client()
	defer free()
	return paced(ctx, beat{s.Every, s.Pace, s.Asked}, got, func(ctx context.Context) ([]byte, error) { return s.one(ctx, client) })
}

// one gets one picture.
func (s Snapshot) one(ctx context.Context, client *http.Client) ([]byte, error) {
	ctx, alive, stop := watchdog(ctx, s.Silence)
	defer stop()
	res, err := s.get(ctx, client)
	if err != nil {
		return nil, err
	}
	defer res.Body.Close()
	data, err := io.ReadAll(io.LimitReader(aliveReader{res.Body, alive}, int64(s.MaxBytes)+1))
	switch {
	case err != nil:
		err = because(ctx, ended(err))
	case len(data) > s.MaxBytes:
		err = fmt.Errorf("%w: more than %d bytes", errPartTooLarge, s.MaxBytes)
	case !isPicture(data):
		err = fmt.Errorf("it answers with %.60q: %w", res.Header.Get("Content-Type"), errNoImage)
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", res.Request.URL.Host, err)
	}
	return data, nil
}

// isPicture reports whether data begins as a JPEG or a PNG.
func isPicture(data []byte) bool {
	return bytes.HasPrefix(data, []byte{0xff, 0xd8, 0xff}) || bytes.HasPrefix(data, pngMagic)
}
