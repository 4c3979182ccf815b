package api

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"image/png"
	"io"
	"net/http"
	"strconv"
	"unicode/utf8"

	"dunlin/hub/results"
	"dunlin/internal/chart"
	"dunlin/internal/oci"
	"dunlin/model/pack"
)

// Bounds on what is read for one picture.
const (
	maxReport  = 2 << 20
	maxSide    = 4096 // pixels of an explanation's side
	maxCaption = 200  // bytes of its label
)

// frontWidth and frontHeight suit a column of the page: letters are drawn
// about as large as those around them.
const frontWidth, frontHeight = 440, 300

// front draws the front that a model's report tells of: what was measured of
// each smaller form, and which of them this model is.
func (s *Server) front(w http.ResponseWriter, r *http.Request) (any, error) {
	version, err := strconv.ParseInt(r.PathValue("version"), 10, 64)
	if err != nil {
		return nil, invalid("version %.40q: want a number", r.PathValue("version"))
	}
	for _, v := range s.o.Backend.Models() {
		if v.Name != r.PathValue("name") || v.Version != version {
			continue
		}
		report, err := s.report(v.Manifest)
		if err != nil {
			return nil, err
		}
		f, err := chart.ReadFront(report)
		if errors.Is(err, chart.ErrNoFront) {
			return nil, fmt.Errorf("%s@%d: %w: %w", v.Name, v.Version, ErrNotFound, err)
		}
		if err != nil {
			return nil, invalid("%s@%d: %w", v.Name, v.Version, err)
		}
		picture := f.Size()
		picture.Width, picture.Height = frontWidth, frontHeight
		servePicture(w, r, "image/svg+xml", []byte(picture.SVG()))
		return nil, nil
	}
	return nil, fmt.Errorf("model %.80s@%d: %w", r.PathValue("name"), version, ErrNotFound)
}

// report reads the report of a pack, whose blobs are those that were hashed
// when it was registered.
func (s *Server) report(manifest string) ([]byte, error) {
	data, err := s.readBlob(manifest, oci.MaxManifest)
	if err != nil {
		return nil, err
	}
	m, err := oci.ParseManifest(data)
	if err != nil {
		return nil, invalid("manifest %s: %w", manifest, err)
	}
	for _, l := range m.Layers {
		if l.MediaType == pack.MediaTypeReport {
			return s.readBlob(l.Digest.String(), maxReport)
		}
	}
	return nil, fmt.Errorf("the pack has no report: %w", ErrNotFound)
}

func (s *Server) readBlob(digest string, max int64) ([]byte, error) {
	content, size, err := s.o.Backend.OpenBlob(digest)
	if err != nil {
		return nil, err
	}
	defer content.Close()
	if size > max {
		return nil, invalid("blob %s has %d bytes, at most %d are read here", digest, size, max)
	}
	return io.ReadAll(io.LimitReader(content, max))
}

// servePicture answers with a picture that the browser asks for again by its
// digest, and that runs nothing should somebody open it by itself.
func servePicture(w http.ResponseWriter, r *http.Request, kind string, data []byte) {
	sum := sha256.Sum256(data)
	tag := `"` + hex.EncodeToString(sum[:12]) + `"`
	h := w.Header()
	h.Set("Content-Type", kind)
	h.Set("Content-Security-Policy", "default-src 'none'; sandbox")
	h.Set("Cache-Control", "private, no-cache")
	h.Set("ETag", tag)
	if r.Header.Get("If-None-Match") == tag {
		w.WriteHeader(http.StatusNotModified)
		return
	}
	_, _ = w.Write(data) // a client that went away is no error
}

// resultID reads the id of a path, as GET /v1/results gives it.
func resultID(r *http.Request) (uint64, error) {
	id, err := strconv.ParseUint(r.PathValue("id"), 10, 64)
	if err != nil {
		return 0, invalid("result %.40q: want the id of a row", r.PathValue("id"))
	}
	return id, nil
}

// putExplanation keeps a picture of what a result rests on. The hub cannot ask
// for one, because an agent's HTTP is for its own machine; whoever can ask the
// agent puts it here.
func (s *Server) putExplanation(w http.ResponseWriter, r *http.Request) (any, error) {
	id, err := resultID(r)
	if err != nil {
		return nil, err
	}
	q := r.URL.Query()
	e := results.Explanation{Method: q.Get("method"), Label: q.Get("label")}
	if e.Method == "" || len(e.Method) > 40 || !utf8.ValidString(e.Method) {
		return nil, invalid("method %.60q: want how the picture was made, in at most 40 bytes", e.Method)
	}
	if len(e.Label) > maxCaption || !utf8.ValidString(e.Label) {
		return nil, invalid("label: want at most %d bytes of UTF-8", maxCaption)
	}
	if e.PNG, err = io.ReadAll(http.MaxBytesReader(w, r.Body, results.MaxExplanation)); err != nil {
		return nil, invalid("body: %w", err)
	}
	size, err := png.DecodeConfig(bytes.NewReader(e.PNG))
	if err != nil {
		return nil, invalid("body: %w", err)
	}
	if size.Width > maxSide || size.Height > maxSide {
		return nil, invalid("body: a picture of %d by %d pixels, at most %d a side", size.Width, size.Height, maxSide)
	}
	return value(map[string]bool{"ok": true}, s.o.Backend.Explain(id, e))
}

func (s *Server) getExplanation(w http.ResponseWriter, r *http.Request) (any, error) {
	id, err := resultID(r)
	if err != nil {
		return nil, err
	}
	e, err := s.o.Backend.Explanation(id)
	if err != nil {
		return nil, err
	}
	servePicture(w, r, "image/png", e.PNG)
	return nil, nil
}
