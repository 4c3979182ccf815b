package api

import (
	"encoding/json"
	"math"
	"net/http"
	"strconv"
	"time"

	"dunlin/hub/results"
	"dunlin/hub/rollout"
	"dunlin/internal/sign"
	"dunlin/sync/wire"
)

// maxBody bounds the JSON bodies; a command may carry a picture in base64.
const maxBody = 1 << 20

func (s *Server) listModels(http.ResponseWriter, *http.Request) (any, error) {
	return map[string]any{"models": notNil(s.o.Backend.Models())}, nil
}

// notNil makes JSON say [] where there is nothing.
func notNil[T any](v []T) []T {
	if v == nil {
		return []T{}
	}
	return v
}

func (s *Server) addModel(w http.ResponseWriter, r *http.Request) (any, error) {
	var in struct {
		Manifest string         `json:"manifest"`
		Sig      sign.Signature `json:"sig"`
	}
	if err := readJSON(w, r, &in, maxBody); err != nil {
		return nil, err
	}
	deadlines(w, 10*time.Minute) // every blob is hashed
	v, err := s.o.Backend.AddModel(in.Manifest, in.Sig)
	if err != nil {
		return nil, err
	}
	return v, nil
}

func (s *Server) listDevices(http.ResponseWriter, *http.Request) (any, error) {
	return map[string]any{"devices": notNil(s.o.Backend.Devices())}, nil
}

// device reads the device of a path.
func device(r *http.Request) (wire.Device, error) {
	d, err := wire.ParseDevice(r.PathValue("tenant") + "/" + r.PathValue("name"))
	if err != nil {
		return d, invalid("%w", err)
	}
	return d, nil
}

func (s *Server) enrol(w http.ResponseWriter, r *http.Request) (any, error) {
	var in struct {
		Tenant string `json:"tenant"`
		Name   string `json:"name"`
	}
	if err := readJSON(w, r, &in, 4<<10); err != nil {
		return nil, err
	}
	d, err := wire.ParseDevice(in.Tenant + "/" + in.Name)
	if err != nil {
		return nil, invalid("%w", err)
	}
	token, err := s.o.Backend.Enrol(d)
	if err != nil {
		return nil, err
	}
	return map[string]string{"device": d.String(), "token": token}, nil
}

func (s *Server) getDevice(_ http.ResponseWriter, r *http.Request) (any, error) {
	d, err := device(r)
	if err != nil {
		return nil, err
	}
	return value(s.o.Backend.Device(d))
}

// value makes an answer of a pair; with an error the value is not one.
func value[T any](v T, err error) (any, error) {
	if err != nil {
		return nil, err
	}
	return v, nil
}

func (s *Server) removeDevice(_ http.ResponseWriter, r *http.Request) (any, error) {
	d, err := device(r)
	if err != nil {
		return nil, err
	}
	return value(map[string]bool{"ok": true}, s.o.Backend.RemoveDevice(d))
}

func (s *Server) replaceToken(_ http.ResponseWriter, r *http.Request) (any, error) {
	d, err := device(r)
	if err != nil {
		return nil, err
	}
	token, err := s.o.Backend.ReplaceToken(d)
	return value(map[string]string{"device": d.String(), "token": token}, err)
}

func (s *Server) postCommand(w http.ResponseWriter, r *http.Request) (any, error) {
	d, err := device(r)
	if err != nil {
		return nil, err
	}
	var in struct {
		Name wire.CmdName    `json:"name"`
		Args json.RawMessage `json:"args"`
		TTL  float64         `json:"ttl_s"`
	}
	if err := readJSON(w, r, &in, maxBody); err != nil {
		return nil, err
	}
	if in.TTL < 0 || in.TTL > 30*24*3600 {
		return nil, invalid("ttl_s %v: want 0 to 2592000", in.TTL)
	}
	ttl := time.Duration(math.Ceil(in.TTL * float64(time.Second))) // the least part of a second is not "no limit given"
	id, err := s.o.Backend.Command(d, in.Name, in.Args, ttl)
	return value(map[string]string{"id": id}, err)
}

// getCommand answers at once, or with ?wait=SECONDS when the command ended or
// the time is over.
func (s *Server) getCommand(w http.ResponseWriter, r *http.Request) (any, error) {
	wait := 0.0
	if text := r.FormValue("wait"); text != "" {
		var err error
		if wait, err = strconv.ParseFloat(text, 64); err != nil || !(wait >= 0) {
			return nil, invalid("wait %q: want seconds", text)
		}
	}
	limit := min(time.Duration(min(wait, 1e6)*float64(time.Second)), maxWait)
	deadlines(w, requestTimeout+limit)
	timer := time.NewTimer(limit)
	defer timer.Stop()
	for {
		c, changed, err := s.o.Backend.CommandState(r.PathValue("id"))
		if err != nil || c.Done() || limit == 0 {
			return value(c, err)
		}
		select {
		case <-changed:
		case <-timer.C:
			return c, nil
		case <-r.Context().Done():
			return nil, r.Context().Err()
		}
	}
}

func (s *Server) listRollouts(http.ResponseWriter, *http.Request) (any, error) {
	return map[string]any{"rollouts": notNil(s.o.Backend.Rollouts())}, nil
}

func (s *Server) startRollout(w http.ResponseWriter, r *http.Request) (any, error) {
	var in RolloutRequest
	if err := readJSON(w, r, &in, maxBody); err != nil {
		return nil, err
	}
	return value(s.o.Backend.StartRollout(in))
}

func (s *Server) getRollout(_ http.ResponseWriter, r *http.Request) (any, error) {
	return value(s.o.Backend.Rollout(r.PathValue("id")))
}

func (s *Server) controlRollout(_ http.ResponseWriter, r *http.Request) (any, error) {
	action := rollout.EventKind(r.PathValue("action"))
	switch action {
	case rollout.Start, rollout.Pause, rollout.Resume, rollout.Abort:
		return value(s.o.Backend.ControlRollout(r.PathValue("id"), action))
	}
	return nil, invalid("action %q: want start, pause, resume or abort", action)
}

// ResultRow is one row of GET /v1/results and of the event "result".
type ResultRow struct {
	Device   string          `json:"device"`
	Epoch    string          `json:"epoch"`
	Seq      int64           `json:"seq"`
	ID       string          `json:"id"` // its place in the order of storing
	StoredAt time.Time       `json:"stored_at"`
	Result   json.RawMessage `json:"result"`

	Explanation *results.Explanation `json:"explanation,omitempty"`
}

// NewResultRow returns the JSON form of a row.
func NewResultRow(r results.Row) ResultRow {
	return ResultRow{
		Device: r.Device.String(), Epoch: r.Epoch, Seq: r.Seq, ID: strconv.FormatUint(r.ID, 10),
		StoredAt: time.Unix(0, int64(r.ID)).UTC(), Result: r.Body, Explanation: r.Explanation,
	}
}

func (s *Server) findResults(_ http.ResponseWriter, r *http.Request) (any, error) {
	q, err := query(r)
	if err != nil {
		return nil, err
	}
	p, err := s.o.Backend.Results(q)
	if err != nil {
		return nil, err
	}
	rows := make([]ResultRow, 0, len(p.Rows))
	for _, row := range p.Rows {
		rows = append(rows, NewResultRow(row))
	}
	out := map[string]any{"rows": rows}
	if p.Next != 0 {
		out["next"] = strconv.FormatUint(p.Next, 10)
	}
	return out, nil
}

func query(r *http.Request) (q results.Query, err error) {
	var errs []error
	fail := func(name, text, want string) { errs = append(errs, invalid("%s %q: want %s", name, text, want)) }
	q.Label, q.Input = r.FormValue("label"), r.FormValue("input")
	if text := r.FormValue("device"); text != "" {
		if q.Device, err = wire.ParseDevice(text); err != nil {
			errs = append(errs, invalid("%w", err))
		}
	}
	if text := r.FormValue("since"); text != "" {
		if q.Since, err = time.Parse(time.RFC3339, text); err != nil {
			fail("since", text, "a time like 2026-01-02T15:04:05Z")
		}
	}
	if text := r.FormValue("limit"); text != "" {
		if q.Limit, err = strconv.Atoi(text); err != nil || q.Limit < 1 || q.Limit > results.MaxLimit {
			fail("limit", text, "1 to "+strconv.Itoa(results.MaxLimit))
		}
	}
	if text := r.FormValue("after"); text != "" {
		if q.After, err = strconv.ParseUint(text, 10, 64); err != nil {
			fail("after", text, "the next of the page before")
		}
	}
	switch text := r.FormValue("order"); text {
	case "", "oldest":
	case "newest":
		q.Newest = true
	default:
		fail("order", text, "oldest or newest")
	}
	if len(errs) > 0 {
		return q, errs[0]
	}
	return q, nil
}

func (s *Server) summary(http.ResponseWriter, *http.Request) (any, error) {
	return value(s.o.Backend.Summary())
}

func (s *Server) metrics(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "text/plain; version=0.0.4")
	s.o.Backend.WriteMetrics(w)
}
