package source

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// playOne plays until the player ends, and returns the frames and why.
func playOne(t *testing.T, p Player) (got [][]byte, err error) {
	t.Helper()
	ctx, stop := context.WithTimeout(t.Context(), 60*time.Second)
	defer stop()
	err = p.Play(ctx, func(data []byte) { got = append(got, data) })
	if ctx.Err() != nil {
		t.Fatal("it did not end")
	}
	return got, err
}

// serve answers with fixed bytes, in small pieces.
func serve(t *testing.T, kind string, body []byte) *httptest.Server {
	t.Helper()
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", kind)
		for len(body) > 0 {
			n := min(37, len(body))
			if _, err := w.Write(body[:n]); err != nil {
				return
			}
			w.(http.Flusher).Flush()
			body = body[n:]
		}
	}))
	t.Cleanup(srv.Close)
	return srv
}

// The forms in which cameras send their pictures.
func TestMJPEGForms(t *testing.T) {
	a, b := shot(t, 1), shot(t, 250)
	for _, x := range []struct{ name, kind, before, between, after string }{
		{"as the RFC wants it", "multipart/x-mixed-replace; boundary=frame", "--frame\r\nContent-Type: image/jpeg\r\n\r\n", "\r\n--frame\r\nContent-Type: image/jpeg\r\n\r\n", "\r\n--frame--\r\n"},
		{"with lengths", "multipart/x-mixed-replace; boundary=\"frame\"", "--frame\r\nContent-Length: %d\r\n\r\n", "\r\n--frame\r\ncontent-length:%d\r\n\r\n", "\r\n--frame\r\n"},
		{"dashes in the header", "multipart/x-mixed-replace;boundary=--frame", "--frame\r\nContent-Length: %d\r\n\r\n", "\r\n--frame\r\nContent-Length: %d\r\n\r\n", ""},
		{"dashes doubled in the body", "multipart/x-mixed-replace;boundary=--frame", "----frame\r\n\r\n", "\r\n----frame\r\n\r\n", "\r\n----frame--"},
		{"lines end in LF", "multipart/x-mixed-replace; boundary=frame", "--frame\nX: y\n\n", "\n--frame\n\n", "\n--frame\n"},
		{"lines before the first", "multipart/x-mixed-replace; boundary=frame", "hello\r\n\r\n--frame\r\n\r\n", "\r\n--frame\r\n\r\n", "\r\n--frame\r\n"},
		{"no new line before the delimiter", "multipart/x-mixed-replace; boundary=frame", "--frame\r\nContent-Length: %d\r\n\r\n", "--frame\r\nContent-Length: %d\r\n\r\n", ""},
		{"a boundary that wants quotes", "multipart/x-mixed-replace; boundary=a:b", "--a:b\r\n\r\n", "\r\n--a:b\r\n\r\n", "\r\n--a:b\r\n"},
		{"no boundary at all", "multipart/x-mixed-replace", "", "\r\nrubbish\r\n", ""},
	} {
		form := func(text string, data []byte) string {
			if strings.Contains(text, "%d") {
				return fmt.Sprintf(text, len(data))
			}
			return text
		}
		body := form(x.before, a) + string(a) + form(x.between, b) + string(b) + x.after
		srv := serve(t, x.kind, []byte(body))
		got, err := playOne(t, MJPEG{Camera{URL: srv.URL, MaxBytes: 1 << 20}})
		if len(got) != 2 || !bytes.Equal(got[0], a) || !bytes.Equal(got[1], b) {
			t.Errorf("%s: %d pictures", x.name, len(got))
		}
		if !errors.Is(err, errEnded) {
			t.Errorf("%s: %v", x.name, err)
		}
	}
}

// What a camera can do wrong is said in words, in bounded memory, and never
// with the password.
func TestMJPEGErrors(t *testing.T) {
	large := "--b\r\n\r\n" + strings.Repeat("x", 5000)
	for _, x := range []struct{ name, kind, body, want string }{
		{"a picture", "image/jpeg", string(shot(t, 1)), "a single picture is a snapshot"},
		{"a page", "text/html", "<html>", `"text/html": want multipart`},
		{"no boundary comes", "multipart/x-mixed-replace; boundary=b", strings.Repeat("x\n", 5000), `no boundary "b"`},
		{"a huge part", "multipart/x-mixed-replace; boundary=b", "--b\r\nContent-Length: 5000\r\n\r\n", "too large: 5000 bytes, at most 4096"},
		{"a huge part without length", "multipart/x-mixed-replace; boundary=b", large, "too large: more than 4096"},
		{"a bad length", "multipart/x-mixed-replace; boundary=b", "--b\r\nContent-Length: many\r\n\r\n", "length of a part"},
		{"an endless header", "multipart/x-mixed-replace; boundary=b", "--b\r\n" + strings.Repeat("a: b\r\n", 100), "header of a part does not end"},
	} {
		srv := serve(t, x.kind, []byte(x.body))
		_, err := playOne(t, MJPEG{Camera{URL: strings.Replace(srv.URL, "http://", "http://me:secret@", 1) + "/?pwd=secret", MaxBytes: 4096}})
		if err == nil || !strings.Contains(err.Error(), x.want) || strings.Contains(err.Error(), "secret") {
			t.Errorf("%s: %v, want %q", x.name, err, x.want)
		}
	}
	gone := serve(t, "", nil)
	gone.Close()
	_, err := playOne(t, MJPEG{Camera{URL: strings.Replace(gone.URL, "http://", "http://me:secret@", 1), MaxBytes: 4096}})
	if err == nil || !strings.Contains(err.Error(), "refused") || strings.Contains(err.Error(), "secret") {
		t.Errorf("nobody listens: %v", err)
	}
	if err := CheckURL("http://me:secret@/"); err == nil || strings.Contains(err.Error(), "secret") {
		t.Errorf("no host: %v", err)
	}
	if err := CheckURL("rtsp://10.0.0.5/1"); err == nil {
		t.Error("rtsp was taken")
	}
}

// A camera that falls silent is given up and opened again.
func TestSilentCamera(t *testing.T) {
	var opened atomic.Int64
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "multipart/x-mixed-replace; boundary=b")
		fmt.Fprintf(w, "--b\r\n\r\n%s\r\n--b\r\n", shot(t, uint8(opened.Add(1))))
		w.(http.Flusher).Flush()
		<-r.Context().Done()
	}))
	t.Cleanup(srv.Close)
	camera := MJPEG{Camera{URL: srv.URL, MaxBytes: 1 << 20, Silence: 500 * time.Millisecond}}
	if got, err := playOne(t, camera); len(got) != 1 || err == nil || !strings.Contains(err.Error(), "nothing came for 500ms") {
		t.Errorf("%d pictures, %v", len(got), err)
	}
	s, frames := stream(t, "mjpeg:x", camera, 0)
	for i := range 3 {
		if f := next(t, frames); !bytes.Equal(f.Data, shot(t, uint8(i+2))) {
			t.Errorf("frame %d is not the one of that connection", i)
		}
	}
	if c := s.Counters(); c.Opened < 3 {
		t.Errorf("%+v", c)
	}
}

// A snapshot is asked for again and again, over TLS with the authority given
// and with the password of the address.
func TestSnapshot(t *testing.T) {
	var asked atomic.Int64
	srv := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if user, password, ok := r.BasicAuth(); !ok || user != "me" || password != "s" {
			w.Header().Set("WWW-Authenticate", `Digest realm="camera"`)
			http.Error(w, "no", http.StatusUnauthorized)
			return
		}
		w.Header().Set("Content-Type", "image/png")
		_, _ = w.Write(pngShot(t, uint8(asked.Add(1))))
	}))
	t.Cleanup(srv.Close)
	pool := x509.NewCertPool()
	pool.AddCert(srv.Certificate())
	camera := Snapshot{
		Camera: Camera{URL: strings.Replace(srv.URL, "https://", "https://me:s@", 1), MaxBytes: 1 << 20, Silence: 10 * time.Second, TLS: &tls.Config{RootCAs: pool}},
		Every:  5 * time.Millisecond,
	}
	_, frames := stream(t, "snapshot:x", camera, 0)
	seen := map[string]bool{}
	for range 4 {
		f := next(t, frames)
		seen[string(f.Data)] = isPicture(f.Data)
	}
	if len(seen) != 4 {
		t.Errorf("%d different pictures of 4", len(seen))
	}
	camera.URL = srv.URL
	if _, err := playOne(t, camera); err == nil || !strings.Contains(err.Error(), "401") || !strings.Contains(err.Error(), "only basic is known") {
		t.Errorf("without the password: %v", err)
	}
	camera.TLS = nil
	if _, err := playOne(t, camera); err == nil || !strings.Contains(err.Error(), "certificate") {
		t.Errorf("an unknown authority: %v", err)
	}
}

func TestSnapshotErrors(t *testing.T) {
	for _, x := range []struct {
		body []byte
		want string
	}{
		{[]byte("<html>log in"), "no JPEG or PNG"},
		{bytes.Repeat([]byte{0xff, 0xd8, 0xff}, 2000), "more than 4096 bytes"},
	} {
		srv := serve(t, "image/jpeg", x.body)
		if _, err := playOne(t, Snapshot{Camera: Camera{URL: srv.URL, MaxBytes: 4096}}); err == nil || !strings.Contains(err.Error(), x.want) {
			t.Errorf("%v, want %q", err, x.want)
		}
	}
	plain := serve(t, "image/jpeg", shot(t, 1))
	srv := httptest.NewTLSServer(http.RedirectHandler(plain.URL, http.StatusFound))
	t.Cleanup(srv.Close)
	pool := x509.NewCertPool()
	pool.AddCert(srv.Certificate())
	_, err := playOne(t, Snapshot{Camera: Camera{URL: srv.URL, MaxBytes: 4096, TLS: &tls.Config{RootCAs: pool}}})
	if err == nil || !strings.Contains(err.Error(), "redirected from https to http") {
		t.Errorf("a redirect to plain text: %v", err)
	}
}
