package probe

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"strconv"
	"strings"

	"dunlin/model"
	"dunlin/sync/wire"
)

// The Open Inference Protocol v2 over HTTP. Field names, the codes of errors
// and the names of types are the protocol's; extensions are listed by GET /v2:
//
//	dunlin_picture   POST …/infer with a body of type image/*: the pack's own
//	                 preparation makes the inputs and its labels the answer

func (s *server) inference(m *http.ServeMux) {
	m.HandleFunc("GET /v2", s.serverMetadata)
	m.HandleFunc("GET /v2/{$}", s.serverMetadata)
	m.HandleFunc("GET /v2/health/live", s.serverLive)
	m.HandleFunc("GET /v2/health/ready", s.serverReady)
	for _, prefix := range []string{"/v2/models/{model}", "/v2/models/{model}/versions/{version}"} {
		m.HandleFunc("GET "+prefix, s.modelMetadata)
		m.HandleFunc("GET "+prefix+"/ready", s.modelReady)
		m.HandleFunc("POST "+prefix+"/infer", s.limited(s.infer))
	}
}

func (s *server) serverMetadata(w http.ResponseWriter, _ *http.Request) {
	answer(w, http.StatusOK, map[string]any{
		"name": "dunlin-agent", "version": s.o.Version, "extensions": []string{"dunlin_picture"},
	})
}

func (s *server) serverLive(w http.ResponseWriter, _ *http.Request) {
	err := s.node.Live()
	answer(w, health(err == nil), map[string]bool{"live": err == nil})
}

func (s *server) serverReady(w http.ResponseWriter, _ *http.Request) {
	ok := allOK(s.node.Ready())
	answer(w, health(ok), map[string]bool{"ready": ok})
}

// health is the protocol's: 200 for true, and a code of 4xx for false.
func health(ok bool) int {
	if ok {
		return http.StatusOK
	}
	return http.StatusBadRequest
}

// model finds the model of the path, or writes the error.
func (s *server) model(w http.ResponseWriter, r *http.Request) (Model, bool) {
	m, err := s.node.Model(r.PathValue("model"), r.PathValue("version"))
	if err != nil {
		failNode(w, err)
		return m, false
	}
	return m, true
}

func (s *server) modelReady(w http.ResponseWriter, r *http.Request) {
	_, err := s.node.Model(r.PathValue("model"), r.PathValue("version"))
	if err != nil && !errors.Is(err, ErrNotReady) {
		failNode(w, err)
		return
	}
	answer(w, health(err == nil), map[string]any{"name": r.PathValue("model"), "ready": err == nil})
}

// tensorMetadata is the protocol's $metadata_tensor.
type tensorMetadata struct {
	Name     string `json:"name"`
	Datatype string `json:"datatype"`
	Shape    []int  `json:"shape"`
}

func (s *server) modelMetadata(w http.ResponseWriter, r *http.Request) {
	m, ok := s.model(w, r)
	if !ok {
		return
	}
	describe := func(ports []Port) []tensorMetadata {
		out := make([]tensorMetadata, len(ports))
		for i, p := range ports {
			out[i] = tensorMetadata{p.Name, datatype(p.Type), append([]int{}, p.Shape...)}
		}
		return out
	}
	answer(w, http.StatusOK, map[string]any{
		"name": m.Running.Name, "versions": []string{version(m.Running)}, "platform": "dunlin",
		"inputs": describe(m.Inputs), "outputs": describe(m.Outputs),
	})
}

// version tells a model that learned from the signed one: "3+learned.2".
func version(r wire.Running) string {
	v := strconv.FormatInt(r.Version, 10)
	if r.Learned > 0 {
		v += "+learned." + strconv.FormatInt(r.Learned, 10)
	}
	if r.Form != "" {
		v += "+" + r.Form
	}
	return v
}

// inferRequest is $inference_request. Data stays text until its tensor's
// size is known to be right.
type inferRequest struct {
	ID      string          `json:"id"`
	Inputs  []requestTensor `json:"inputs"`
	Outputs []struct {
		Name string `json:"name"`
	} `json:"outputs"`
}

type requestTensor struct {
	Name     string          `json:"name"`
	Shape    []int           `json:"shape"`
	Datatype string          `json:"datatype"`
	Data     json.RawMessage `json:"data"`
}

// inferResponse is $inference_response.
type inferResponse struct {
	ModelName    string           `json:"model_name"`
	ModelVersion string           `json:"model_version"`
	ID           string           `json:"id,omitempty"`
	Outputs      []responseTensor `json:"outputs"`
}

type responseTensor struct {
	Name     string `json:"name"`
	Shape    []int  `json:"shape"`
	Datatype string `json:"datatype"`
	Data     any    `json:"data"`
}

func (s *server) infer(w http.ResponseWriter, r *http.Request) {
	m, ok := s.model(w, r)
	if !ok {
		return
	}
	kind, _, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	if err == nil && strings.HasPrefix(kind, "image/") {
		if res, ok := s.picture(w, r); ok {
			answer(w, http.StatusOK, pictureResponse(res))
		}
		return
	}
	if r.Header.Get("Inference-Header-Content-Length") != "" {
		fail(w, http.StatusBadRequest, "tensors in binary form are no extension of this server; send JSON")
		return
	}
	text, err := io.ReadAll(r.Body)
	if err != nil {
		failBody(w, err)
		return
	}
	req, inputs, err := parseRequest(text, m.Inputs)
	if err != nil {
		fail(w, http.StatusBadRequest, "%v", err)
		return
	}
	wanted, err := wantedOutputs(req, m.Outputs)
	if err != nil {
		fail(w, http.StatusBadRequest, "%v", err)
		return
	}
	outputs, err := s.node.Tensors(r.Context(), m.Running, inputs)
	if err != nil {
		failNode(w, err)
		return
	}
	res := inferResponse{ModelName: m.Running.Name, ModelVersion: version(m.Running), ID: req.ID}
	for _, i := range wanted {
		data, err := values(outputs[i])
		if err != nil {
			fail(w, http.StatusInternalServerError, "output %q: %v", m.Outputs[i].Name, err)
			return
		}
		res.Outputs = append(res.Outputs, responseTensor{
			m.Outputs[i].Name, append([]int{}, outputs[i].Shape...), datatype(outputs[i].Type), data,
		})
	}
	answer(w, http.StatusOK, res)
}

// parseRequest reads a request and makes the tensors that the model's inputs
// ask for; nothing larger is ever allocated.
func parseRequest(text []byte, ports []Port) (inferRequest, []*model.Tensor, error) {
	var req inferRequest
	if err := json.Unmarshal(text, &req); err != nil {
		return req, nil, fmt.Errorf("request: %w", err)
	}
	if len(req.Inputs) != len(ports) {
		return req, nil, fmt.Errorf("request: %d inputs, the model has %d", len(req.Inputs), len(ports))
	}
	inputs := make([]*model.Tensor, len(ports))
	for _, in := range req.Inputs {
		i := 0
		for i < len(ports) && ports[i].Name != in.Name {
			i++
		}
		if i == len(ports) {
			return req, nil, fmt.Errorf("input %q: the model has none of that name", in.Name)
		}
		if inputs[i] != nil {
			return req, nil, fmt.Errorf("input %q stands twice", in.Name)
		}
		p := ports[i]
		if in.Datatype != datatype(p.Type) || !p.Shape.Equal(in.Shape) {
			return req, nil, fmt.Errorf("input %q is %s %v, want %s %v", in.Name, in.Datatype, in.Shape, datatype(p.Type), p.Shape)
		}
		t, err := model.NewTensor(p.Type, p.Shape...)
		if err != nil {
			return req, nil, fmt.Errorf("input %q: %w", in.Name, err)
		}
		if err := parseData(in.Data, t); err != nil {
			return req, nil, fmt.Errorf("input %q: %w", in.Name, err)
		}
		inputs[i] = t
	}
	return req, inputs, nil
}

// wantedOutputs returns the indexes of the outputs asked for, all where the
// request names none.
func wantedOutputs(req inferRequest, ports []Port) ([]int, error) {
	var wanted []int
	if len(req.Outputs) == 0 {
		for i := range ports {
			wanted = append(wanted, i)
		}
		return wanted, nil
	}
	for _, o := range req.Outputs {
		i := 0
		for i < len(ports) && ports[i].Name != o.Name {
			i++
		}
		if i == len(ports) {
			return nil, fmt.Errorf("output %q: the model has none of that name", o.Name)
		}
		wanted = append(wanted, i)
	}
	return wanted, nil
}

// pictureResponse is the answer to a picture in the protocol's form; its id is
// the result's, under which the hub has it too.
func pictureResponse(res wire.Result) inferResponse {
	n := []int{len(res.Labels)}
	labels, entities := make([]string, n[0]), make([]string, n[0])
	scores, indexes := make([]float32, n[0]), make([]int64, n[0])
	for i, l := range res.Labels {
		labels[i], entities[i], scores[i], indexes[i] = l.Label, l.Entity, l.Score, int64(l.Index)
	}
	return inferResponse{
		ModelName: res.Model.Name, ModelVersion: version(res.Model), ID: res.ID,
		Outputs: []responseTensor{
			{"label", n, "BYTES", labels},
			{"score", n, "FP32", scores},
			{"index", n, "INT64", indexes},
			{"entity", n, "BYTES", entities},
		},
	}
}
