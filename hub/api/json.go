package api

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/http"

	"dunlin/hub/registry"
	"dunlin/hub/results"
	"dunlin/internal/oci"
	"dunlin/internal/sign"
	"dunlin/model/pack"
)

// answer is the body of every error.
type answer struct {
	Error string `json:"error"`
	Hint  string `json:"hint,omitempty"`
}

func refuse(w http.ResponseWriter, status int, text, hint string) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(answer{text, hint}) // a client that went away is no error
}

// json turns a handler that returns a value into one that sends it. nil
// without an error means that the handler has answered.
func (s *Server) json(h func(w http.ResponseWriter, r *http.Request) (any, error)) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		v, err := h(w, r)
		if err != nil {
			s.fail(w, r, err)
			return
		}
		if v == nil {
			return
		}
		data, err := json.Marshal(v)
		if err != nil {
			s.fail(w, r, err)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		w.Header().Set("Cache-Control", "no-store")
		_, _ = w.Write(append(data, '\n')) // a client that went away is no error
	})
}

// statusOf is the table from errors to statuses.
func statusOf(err error) int {
	var tooLarge *http.MaxBytesError
	var badDigest *oci.DigestError
	var badPack *pack.Error
	switch {
	case errors.Is(err, ErrNotFound), errors.Is(err, registry.ErrNotFound), errors.Is(err, results.ErrNoResult):
		return http.StatusNotFound
	case errors.As(err, &tooLarge), errors.Is(err, registry.ErrTooLarge):
		return http.StatusRequestEntityTooLarge
	case errors.Is(err, ErrConflict), errors.Is(err, registry.ErrOlder), errors.Is(err, registry.ErrReserved):
		return http.StatusConflict
	case errors.Is(err, ErrRefused), errors.Is(err, sign.ErrUnknownKey), errors.Is(err, sign.ErrBadSignature):
		return http.StatusForbidden
	case errors.Is(err, ErrInvalid), errors.Is(err, registry.ErrNoExam), errors.Is(err, registry.ErrDigest), errors.Is(err, registry.ErrRelease),
		errors.As(err, &badDigest), errors.As(err, &badPack):
		return http.StatusBadRequest
	case errors.Is(err, fs.ErrNotExist):
		return http.StatusNotFound
	}
	return http.StatusInternalServerError
}

func (s *Server) fail(w http.ResponseWriter, r *http.Request, err error) {
	if r.Context().Err() != nil {
		return // nobody waits for the answer
	}
	status, text, hint := statusOf(err), err.Error(), ""
	var hinted *HintError
	var badPack *pack.Error
	switch {
	case errors.As(err, &hinted):
		hint = hinted.Hint
	case errors.As(err, &badPack):
		hint = badPack.Hint
	case errors.Is(err, sign.ErrUnknownKey):
		hint = "sign it with a release key that the hub and its devices trust"
	case errors.Is(err, registry.ErrOlder):
		hint = "give it a greater version"
	}
	if status == http.StatusInternalServerError {
		s.o.Log.Error("request failed", "method", r.Method, "path", r.URL.Path, "error", err)
		text, hint = "the hub could not do it", "its log says why"
	}
	refuse(w, status, text, hint)
}

// readJSON reads a body of at most max bytes; fields that v does not have are
// an error, because they are mostly a misspelled word.
func readJSON(w http.ResponseWriter, r *http.Request, v any, max int64) error {
	d := json.NewDecoder(http.MaxBytesReader(w, r.Body, max))
	d.DisallowUnknownFields()
	if err := d.Decode(v); err != nil {
		return invalid("body: %w", err)
	}
	if d.More() {
		return invalid("body: more than one value")
	}
	return nil
}

// invalid is an error with status 400, where nothing in it says another.
func invalid(format string, args ...any) error {
	return fmt.Errorf("%w: %w", ErrInvalid, fmt.Errorf(format, args...))
}
