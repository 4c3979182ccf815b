package probe

import (
	"context"
	"errors"
	"fmt"
	"net/http"
)

// fail writes an error as the Open Inference Protocol has it:
// {"error": "…"}.
func fail(w http.ResponseWriter, status int, format string, a ...any) {
	answer(w, status, map[string]string{"error": fmt.Sprintf(format, a...)})
}

// failBody tells a body that is too large from one that is wrong.
func failBody(w http.ResponseWriter, err error) {
	if large, ok := errors.AsType[*http.MaxBytesError](err); ok {
		fail(w, http.StatusRequestEntityTooLarge, "the body has more than %d bytes", large.Limit)
		return
	}
	fail(w, http.StatusBadRequest, "%v", err)
}

// failNode finds the status for what the node said.
func failNode(w http.ResponseWriter, err error) {
	status := http.StatusInternalServerError
	switch {
	case errors.Is(err, ErrUnknownModel), errors.Is(err, ErrNoPicture):
		status = http.StatusNotFound
	case errors.Is(err, ErrInput):
		status = http.StatusBadRequest
	case errors.Is(err, ErrNotReady), errors.Is(err, ErrSuperseded), errors.Is(err, context.Canceled):
		status = http.StatusServiceUnavailable
		w.Header().Set("Retry-After", "1")
	}
	fail(w, status, "%v", err)
}
