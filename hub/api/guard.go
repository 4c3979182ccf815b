package api

import (
	"crypto/hmac"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"net"
	"net/http"
	"strings"
	"time"
)

// cookieName is the session cookie of the page.
const cookieName = "dunlin_session"

// Limits of one request. Uploads, downloads and events set their own
// deadlines, as long as bytes move.
const (
	requestTimeout = 30 * time.Second
	maxWait        = 60 * time.Second // of a long poll, beyond the request's own time
)

// protect does what holds for every request: it refuses strange hosts and
// other origins, and sets the deadlines.
func (s *Server) protect(next http.Handler) http.Handler {
	origins := http.NewCrossOriginProtection()
	origins.SetDenyHandler(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		refuse(w, http.StatusForbidden, "a request of another origin", "use the page that the hub itself serves, or a token")
	}))
	inner := origins.Handler(next)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("Referrer-Policy", "no-referrer")
		h.Set("Cross-Origin-Resource-Policy", "same-origin")
		// A name that an attacker's DNS points at 127.0.0.1 makes a browser
		// send his page's requests here; their Host gives them away.
		if s.o.Loopback && !loopbackHost(r.Host) && (s.o.PublicHost == "" || !strings.EqualFold(r.Host, s.o.PublicHost)) {
			refuse(w, http.StatusMisdirectedRequest, "unknown host", "use http://127.0.0.1 or http://localhost")
			return
		}
		deadlines(w, requestTimeout)
		inner.ServeHTTP(w, r)
	})
}

// deadlines gives the rest of a request d to be read and answered in.
func deadlines(w http.ResponseWriter, d time.Duration) {
	c, at := http.NewResponseController(w), time.Now().Add(d)
	// A connection that has no deadlines is one in a test.
	_ = c.SetReadDeadline(at)
	_ = c.SetWriteDeadline(at)
}

func loopbackHost(host string) bool {
	if h, _, err := net.SplitHostPort(host); err == nil {
		host = h
	}
	ip := net.ParseIP(strings.Trim(host, "[]"))
	return strings.EqualFold(host, "localhost") || ip != nil && ip.IsLoopback()
}

// admin lets a request pass that carries the admin token or a session.
func (s *Server) admin(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !s.isAdmin(r) {
			s.unauthorized(w, r)
			return
		}
		next.ServeHTTP(w, r)
	})
}

func (s *Server) deviceOrAdmin(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !s.isAdmin(r) {
			if _, ok := s.o.Backend.DeviceOf(bearer(r)); !ok {
				s.unauthorized(w, r)
				return
			}
		}
		next.ServeHTTP(w, r)
	})
}

func (s *Server) unauthorized(w http.ResponseWriter, r *http.Request) {
	if _, ok := s.o.Backend.DeviceOf(bearer(r)); ok {
		refuse(w, http.StatusForbidden, "a device may only fetch blobs", "")
		return
	}
	w.Header().Set("WWW-Authenticate", `Bearer realm="dunlin hub"`)
	refuse(w, http.StatusUnauthorized, "no valid token", "send Authorization: Bearer TOKEN; the hub's own is in admin.token in its folder")
}

// bearer returns the token of the Authorization header, or "".
func bearer(r *http.Request) string {
	scheme, token, ok := strings.Cut(r.Header.Get("Authorization"), " ")
	if !ok || !strings.EqualFold(scheme, "Bearer") {
		return ""
	}
	return strings.TrimSpace(token)
}

func (s *Server) isAdmin(r *http.Request) bool {
	if token := bearer(r); token != "" {
		return equal(token, s.o.AdminToken)
	}
	c, err := r.Cookie(cookieName)
	return err == nil && equal(c.Value, s.session())
}

// session is the value of the cookie: it follows from the admin token, so it
// is good after a restart too, and it ends when the token is changed.
func (s *Server) session() string {
	mac := hmac.New(sha256.New, []byte(s.o.AdminToken))
	mac.Write([]byte("dunlin session v1"))
	return hex.EncodeToString(mac.Sum(nil))
}

func equal(a, b string) bool { return subtle.ConstantTimeCompare([]byte(a), []byte(b)) == 1 }

func (s *Server) openSession(w http.ResponseWriter, r *http.Request) (any, error) {
	var in struct {
		Token string `json:"token"`
	}
	if err := readJSON(w, r, &in, 4<<10); err != nil {
		return nil, err
	}
	if !equal(in.Token, s.o.AdminToken) {
		refuse(w, http.StatusUnauthorized, "wrong token", "the hub's token is in admin.token in its folder")
		return nil, nil
	}
	http.SetCookie(w, s.cookie(s.session(), 30*24*3600))
	return map[string]bool{"ok": true}, nil
}

func (s *Server) closeSession(w http.ResponseWriter, _ *http.Request) (any, error) {
	http.SetCookie(w, s.cookie("", -1))
	return map[string]bool{"ok": true}, nil
}

func (s *Server) cookie(value string, age int) *http.Cookie {
	return &http.Cookie{
		Name: cookieName, Value: value, Path: "/", MaxAge: age,
		HttpOnly: true, Secure: s.o.TLS, SameSite: http.SameSiteStrictMode,
	}
}
