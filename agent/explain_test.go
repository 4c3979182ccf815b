package agent

import (
	"bytes"
	"encoding/json"
	"image/png"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"dunlin/agent/probe"
	"dunlin/model"
	"dunlin/model/pack"
	"dunlin/sync/wire"
)

// explained asks the agent for an explanation.
func explained(t *testing.T, a *Agent, method, query string, picture []byte) (status int, header http.Header, body []byte) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, "http://"+a.Addr()+"/v1/explain?"+query, bytes.NewReader(picture))
	if err != nil {
		t.Fatal(err)
	}
	res, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	if body, err = io.ReadAll(res.Body); err != nil {
		t.Fatal(err)
	}
	return res.StatusCode, res.Header, body
}

// pooled packs a network that ends in pooling and a dense layer: class 1 is for
// what is bright, 4 x 4 gray.
func (h *testHub) pooled(version int64) *wire.Offer {
	h.t.Helper()
	g := model.New("pooled")
	g.Inputs, g.Outputs = []string{"image"}, []string{"scores"}
	g.Values["image"] = &model.Value{Type: model.F32, Shape: model.Shape{1, 1, 4, 4}}
	g.AddConst("w", model.Of(model.F32, []float32{-1, 1}, 2, 1))
	g.AddConst("b", model.Of(model.F32, []float32{0.5, -0.5}, 2))
	g.Nodes = []*model.Node{
		{Op: "GlobalAveragePool", Name: "pool", In: []string{"image"}, Out: []string{"mean"}},
		{Op: "Flatten", Name: "flatten", In: []string{"mean"}, Out: []string{"flat"}, Attrs: map[string]model.Attr{"axis": int64(1)}},
		{Op: "Gemm", Name: "dense", In: []string{"flat", "w", "b"}, Out: []string{"logits"}, Attrs: map[string]model.Attr{"transB": int64(1)}},
		{Op: "Softmax", Name: "softmax", In: []string{"logits"}, Out: []string{"scores"}, Attrs: map[string]model.Attr{"axis": int64(1)}},
	}
	d, err := pack.Write(h.store, &pack.Pack{
		Name: "shade", Version: version, Graph: g, Labels: []string{"dark", "bright"},
		Pipeline: json.RawMessage(`{"inputs":[{"name":"image","color":"gray","width":4,"height":4}],"outputs":[{"name":"scores","top":2}]}`),
	})
	if err != nil {
		h.t.Fatal(err)
	}
	return &wire.Offer{
		Kind: wire.OfferModel, Name: "shade", Version: version, Manifest: string(d.Digest),
		Sig:   h.release.Sign(wire.OfferModel.Purpose(), []byte(d.Digest)),
		Trial: wire.TrialRules{Seconds: 1, MinRuns: 3, MaxMillis: 60_000},
	}
}

// The model that runs is explained, whichever it is: one without pooling by
// occlusion, and the one after it by its class activation map.
func TestExplain(t *testing.T) {
	h := newTestHub(t)
	c, _ := h.config(t)
	a, _ := run(t, c)
	bright := picture(t, 250, 1)
	if status, _, body := explained(t, a, "POST", "", bright); status != http.StatusServiceUnavailable {
		t.Errorf("without a model: %d %s", status, body)
	}
	h.want(h.offer(1, false), nil)
	h.until("version 1", func() bool { return h.ended(1) == wire.StateActive })
	if status, _, body := explained(t, a, "GET", "", nil); status != http.StatusNotFound || !strings.Contains(string(body), "POST one") {
		t.Errorf("before any picture: %d %s", status, body)
	}

	status, _, body := explained(t, a, "POST", "format=json", bright)
	var x probe.Explanation
	if err := json.Unmarshal(body, &x); err != nil || status != http.StatusOK {
		t.Fatalf("%d %s %v", status, body, err)
	}
	if x.Method != "occlusion" || x.Label != "bright" || x.Class != 1 || x.Input != digestOf(bright) || x.Model.Version != 1 ||
		!x.Complete || len(x.Values) != x.Width*x.Height || x.Runs < 5 {
		t.Errorf("explanation: %+v", x)
	}

	status, header, body := explained(t, a, "POST", "class=dark&method=occlusion&model=shade", bright)
	if img, err := png.Decode(bytes.NewReader(body)); err != nil || status != http.StatusOK || img.Bounds().Dx() != 256 {
		t.Errorf("picture: %d %v", status, err)
	}
	if header.Get("Content-Type") != "image/png" || header.Get("Dunlin-Method") != "occlusion" || header.Get("Dunlin-Class") != "0" {
		t.Errorf("picture: %v", header)
	}

	for query, want := range map[string]int{
		"method=cam": http.StatusBadRequest, "class=7": http.StatusBadRequest, "model=other": http.StatusNotFound,
		"method=magic": http.StatusBadRequest, "colour=red": http.StatusBadRequest, "format=gif": http.StatusBadRequest, "budget_ms=0": http.StatusBadRequest,
	} {
		if status, _, body := explained(t, a, "POST", query, bright); status != want || !strings.Contains(string(body), "error") {
			t.Errorf("%s: %d %s, want %d", query, status, body, want)
		}
	}
	for name, body := range map[string][]byte{"nothing": nil, "no picture": []byte("no picture")} {
		if status, _, text := explained(t, a, "POST", "", body); status != http.StatusBadRequest {
			t.Errorf("%s: %d %s", name, status, text)
		}
	}

	a.explainer.mu.Lock() // another explanation, which takes longer than the budget of this one
	time.AfterFunc(2*time.Second, a.explainer.mu.Unlock)
	if status, _, body := explained(t, a, "POST", "method=occlusion&budget_ms=1900", bright); status != http.StatusOK {
		t.Errorf("after a wait: %d %s", status, body)
	}

	h.want(h.pooled(2), nil)
	h.until("version 2", func() bool { return h.ended(2) == wire.StateActive })
	dark := picture(t, 3, 2)
	a.explainer.mu.Lock() // as while an explanation is made: no inference waits for it
	_, err := (node{a}).Infer(t.Context(), "test", dark)
	a.explainer.mu.Unlock()
	if err != nil {
		t.Fatal(err)
	}
	status, _, body = explained(t, a, "GET", "format=json", nil)
	if err := json.Unmarshal(body, &x); err != nil || status != http.StatusOK {
		t.Fatalf("%d %s %v", status, body, err)
	}
	if x.Method != "cam" || x.Runs != 1 || x.Width != 4 || x.Height != 4 || x.Input != digestOf(dark) || x.Label != "dark" || x.Model.Version != 2 {
		t.Errorf("the newest picture, by the newer model: %+v", x)
	}
}

// What explains holds on to a model only as long as it may be asked again, and
// to none that another has followed.
func TestExplainLetsGo(t *testing.T) {
	h := newTestHub(t)
	c, _ := h.config(t)
	a, stop := run(t, c)
	h.want(h.offer(1, false), nil)
	h.until("version 1", func() bool { return h.ended(1) == wire.StateActive })
	held := func() bool {
		a.explainer.mu.Lock()
		defer a.explainer.mu.Unlock()
		return a.explainer.model != nil
	}
	bright := picture(t, 250, 1)
	if status, _, body := explained(t, a, "POST", "", bright); status != http.StatusOK || !held() {
		t.Fatalf("%d %.100s, held: %v", status, body, held())
	}
	h.want(h.offer(2, false), nil)
	h.until("version 2", func() bool { return h.ended(2) == wire.StateActive })
	wait(t, "the model before to be let go", func() bool { return !held() })
	if status, _, body := explained(t, a, "POST", "", bright); status != http.StatusOK || !held() {
		t.Fatalf("%d %.100s, held: %v", status, body, held())
	}
	a.explainer.idle.Reset(time.Millisecond) // the minute is over
	wait(t, "the model to be let go", func() bool { return !held() })
	stop()
	if _, err := a.explainer.explain(t.Context(), probe.Question{Picture: bright, Method: "auto", Budget: time.Second}); err == nil {
		t.Error("a stopped agent explains")
	}
}
