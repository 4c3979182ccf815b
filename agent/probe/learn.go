package probe

import (
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"strings"
)

// Learning: samples with their class, from which a device tunes the last
// layers of its model.
//
//	GET    /v1/models/{model}/learn                what was taught, and what came of it
//	POST   /v1/models/{model}/learn?label=Coat     the body is one sample
//	POST   /v1/models/{model}/learn                multipart/form-data: each field is a sample, its name
//	                                               the label, unless ?label= gives one for all
//	DELETE /v1/models/{model}/learn                forget all of it: the model answers as it was signed
//
// A sample is what POST /v1/infer takes: a picture, a sound, or values.

// Lesson is a sample with its label, as it came.
type Lesson struct {
	Label string
	Data  []byte
}

// maxLessons is how many samples one request may bring.
const maxLessons = 256

// maxLabel bounds the bytes of a label.
const maxLabel = 1 << 10

// Errors of learning, and their HTTP status.
var (
	ErrOff   = errors.New("learning is off on this device")     // 403
	ErrOften = errors.New("samples come faster than are taken") // 429
	ErrMany  = errors.New("too many samples in one request")    // 413
)

func (s *server) learning(m *http.ServeMux) {
	const path = "/v1/models/{model}/learn"
	m.HandleFunc("GET "+path, func(w http.ResponseWriter, r *http.Request) {
		s.answerLearn(w, func() (any, error) { return s.node.Learned(r.PathValue("model")) })
	})
	m.HandleFunc("DELETE "+path, func(w http.ResponseWriter, r *http.Request) {
		s.answerLearn(w, func() (any, error) { return s.node.Forget(r.Context(), r.PathValue("model")) })
	})
	m.HandleFunc("POST "+path, s.limited(func(w http.ResponseWriter, r *http.Request) {
		next, err := lessons(r)
		if err != nil {
			fail(w, http.StatusBadRequest, "%v", err)
			return
		}
		s.answerLearn(w, func() (any, error) { return s.node.Learn(r.Context(), r.PathValue("model"), next) })
	}))
}

func (s *server) answerLearn(w http.ResponseWriter, do func() (any, error)) {
	v, err := do()
	if err == nil {
		answer(w, http.StatusOK, v)
		return
	}
	status := 0
	switch {
	case errors.Is(err, ErrOff):
		status = http.StatusForbidden
	case errors.Is(err, ErrMany):
		status = http.StatusRequestEntityTooLarge
	case errors.Is(err, ErrOften):
		w.Header().Set("Retry-After", "10")
		status = http.StatusTooManyRequests
	case errors.As(err, new(*http.MaxBytesError)):
		failBody(w, err)
		return
	default:
		failNode(w, err)
		return
	}
	fail(w, status, "%v", err)
}

// lessons returns what reads the samples of a request, one after the other,
// and io.EOF after the last. Other errors wrap ErrInput or ErrMany, or are the
// body's.
func lessons(r *http.Request) (next func() (Lesson, error), err error) {
	label := r.URL.Query().Get("label")
	kind, _, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	if err != nil || !strings.HasPrefix(kind, "multipart/") {
		return oneLesson(r, label)
	}
	parts, err := r.MultipartReader()
	if err != nil {
		return nil, err
	}
	n := 0
	return func() (Lesson, error) {
		p, err := parts.NextPart()
		if err == io.EOF && n == 0 {
			return Lesson{}, fmt.Errorf("the form has no fields: %w", ErrInput)
		}
		if err != nil {
			return Lesson{}, bodyError(err)
		}
		if n++; n > maxLessons {
			return Lesson{}, fmt.Errorf("%w: at most %d", ErrMany, maxLessons)
		}
		l := Lesson{Label: label}
		if l.Label == "" {
			l.Label = p.FormName()
		}
		if l.Data, err = io.ReadAll(p); err != nil {
			return l, bodyError(err)
		}
		return l, l.check(n)
	}, nil
}

func oneLesson(r *http.Request, label string) (next func() (Lesson, error), err error) {
	if label == "" {
		return nil, errors.New("there is no label: give ?label=NAME, or send multipart/form-data with a field for each sample, named as its label")
	}
	done := false
	return func() (Lesson, error) {
		if done {
			return Lesson{}, io.EOF
		}
		done = true
		data, err := io.ReadAll(r.Body)
		if err != nil {
			return Lesson{}, bodyError(err)
		}
		l := Lesson{label, data}
		return l, l.check(1)
	}, nil
}

func (l Lesson) check(n int) error {
	switch {
	case l.Label == "" || len(l.Label) > maxLabel:
		return fmt.Errorf("sample %d: its label has %d bytes, want 1 to %d: %w", n, len(l.Label), maxLabel, ErrInput)
	case len(l.Data) == 0:
		return fmt.Errorf("sample %d: it is empty: %w", n, ErrInput)
	}
	return nil
}

// bodyError leaves the end and what is too large as they are; all else that
// is wrong with a body is its sender's mistake.
func bodyError(err error) error {
	if err == io.EOF || errors.As(err, new(*http.MaxBytesError)) {
		return err
	}
	return fmt.Errorf("%w: %w", ErrInput, err)
}
