package probe

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strconv"
	"time"

	"dunlin/sync/wire"
)

// Question is what /v1/explain asks: which part of a picture speaks for a
// class.
type Question struct {
	Picture []byte        // nil: the newest one that was answered
	Model   string        // "": whichever answers
	Class   string        // label or index; "": the best
	Method  string        // "auto", "cam" or "occlusion"
	Draw    bool          // the map is to be drawn over the picture
	Budget  time.Duration // after which occlusion gives what it has
}

// Explanation is the answer to a Question.
type Explanation struct {
	Model    wire.Running `json:"model"`
	Input    string       `json:"input"` // "sha256:…" of the picture
	Method   string       `json:"method"`
	Class    int          `json:"class"`
	Label    string       `json:"label"`
	Score    float32      `json:"score"`
	Runs     int          `json:"runs"`     // of the network
	Complete bool         `json:"complete"` // false: the budget ended it
	Micros   int64        `json:"micros"`
	Width    int          `json:"width"` // of the map, over the network's whole input
	Height   int          `json:"height"`
	Values   []float32    `json:"values"` // row-major, positive: speaks for the class

	PNG []byte `json:"-"` // where Question.Draw
}

// Bounds of the time for one explanation.
const (
	usualBudget = 2 * time.Second
	mostBudget  = 20 * time.Second
)

// ErrNoPicture is wrapped where there is no newest picture; 404.
var ErrNoPicture = errors.New("no picture is at hand")

// explain answers with a PNG, or with JSON where format=json. One explanation
// is made at a time: it is many runs of the model.
func (s *server) explain(w http.ResponseWriter, r *http.Request) {
	// A page elsewhere cannot read the answer, but could have it made.
	if r.Header.Get("Sec-Fetch-Site") == "cross-site" {
		fail(w, http.StatusForbidden, "a page of another origin may not ask for explanations")
		return
	}
	q, err := question(r)
	if err != nil {
		fail(w, http.StatusBadRequest, "%v", err)
		return
	}
	select {
	case s.explaining <- struct{}{}:
		defer func() { <-s.explaining }()
	default:
		w.Header().Set("Retry-After", "2")
		fail(w, http.StatusTooManyRequests, "an explanation is being made")
		return
	}
	if r.Method == http.MethodPost {
		if q.Picture, err = io.ReadAll(r.Body); err == nil && len(q.Picture) == 0 {
			err = errors.New("the body is empty; send a PNG or a JPEG, or GET for the newest picture")
		}
		if err != nil {
			failBody(w, err)
			return
		}
	}
	x, err := s.node.Explain(r.Context(), q)
	if err != nil {
		failNode(w, err)
		return
	}
	if !q.Draw {
		answer(w, http.StatusOK, x)
		return
	}
	h := w.Header()
	h.Set("Content-Type", "image/png")
	h.Set("Dunlin-Method", x.Method)
	h.Set("Dunlin-Class", strconv.Itoa(x.Class))
	h.Set("Dunlin-Score", strconv.FormatFloat(float64(x.Score), 'g', -1, 32))
	w.WriteHeader(http.StatusOK)
	_, _ = w.Write(x.PNG)
}

// question reads the parameters; ones that are not known are errors.
func question(r *http.Request) (Question, error) {
	v := r.URL.Query()
	for name := range v {
		if !slices.Contains([]string{"model", "class", "method", "format", "budget_ms"}, name) {
			return Question{}, fmt.Errorf("parameter %.40q: want model, class, method, format, budget_ms", name)
		}
	}
	q := Question{Model: v.Get("model"), Class: v.Get("class"), Method: v.Get("method"), Budget: usualBudget}
	switch q.Method {
	case "":
		q.Method = "auto"
	case "auto", "cam", "occlusion":
	default:
		return q, fmt.Errorf("method %.40q: want auto, cam or occlusion", q.Method)
	}
	switch f := v.Get("format"); f {
	case "", "png":
		q.Draw = true
	case "json":
	default:
		return q, fmt.Errorf("format %.40q: want png or json", f)
	}
	if text := v.Get("budget_ms"); text != "" {
		n, err := strconv.Atoi(text)
		if err != nil || n < 1 || n > int(mostBudget.Milliseconds()) {
			return q, fmt.Errorf("budget_ms %.20q: want 1 to %d", text, mostBudget.Milliseconds())
		}
		q.Budget = time.Duration(n) * time.Millisecond
	}
	return q, nil
}
