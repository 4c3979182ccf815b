package api

import (
	"io"
	"net/http"
	"time"
)

// stall is how long a transfer may stand still before its connection is
// closed.
const stall = 60 * time.Second

// getBlob serves a blob, or ranges of it. A blob never changes, so caches
// between the hub and its devices may keep it for ever.
func (s *Server) getBlob(w http.ResponseWriter, r *http.Request) (any, error) {
	digest := r.PathValue("digest")
	content, _, err := s.o.Backend.OpenBlob(digest)
	if err != nil {
		return nil, err
	}
	defer content.Close()
	h := w.Header()
	h.Set("Content-Type", "application/octet-stream")
	h.Set("Cache-Control", "private, max-age=31536000, immutable")
	h.Set("ETag", `"`+digest+`"`)
	http.ServeContent(&moving{ResponseWriter: w}, r, "", time.Time{}, content)
	return nil, nil
}

// moving pushes the write deadline on with every piece that is written.
type moving struct{ http.ResponseWriter }

func (m *moving) Write(p []byte) (int, error) {
	deadlines(m.ResponseWriter, stall)
	return m.ResponseWriter.Write(p)
}

func (s *Server) putBlob(w http.ResponseWriter, r *http.Request) (any, error) {
	digest := r.PathValue("digest")
	if err := s.o.Backend.PutBlob(digest, &upload{w, r.Body}); err != nil {
		return nil, err
	}
	return map[string]string{"digest": digest}, nil
}

// upload pushes the read deadline on with every piece that is read.
type upload struct {
	w    http.ResponseWriter
	body io.Reader
}

func (u *upload) Read(p []byte) (int, error) {
	deadlines(u.w, stall)
	return u.body.Read(p)
}
