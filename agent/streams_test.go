package agent

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"dunlin/agent/source"
	"dunlin/engine"
	"dunlin/model"
	"dunlin/model/pack"
	"dunlin/sync/wire"
)

// seen returns the results of a source that the hub has. The lock is held.
func (h *testHub) seen(from string) (found []wire.Result) {
	for _, r := range h.results {
		if r.Source == from {
			found = append(found, r)
		}
	}
	return found
}

// A camera over HTTP and a program: their pictures are answered, what comes
// faster is dropped and counted, what is no picture makes no result, and a
// camera that is switched off and on again is found again.
func TestStreams(t *testing.T) {
	dark, bright := picture(t, 3, 1), picture(t, 252, 2)
	camera := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "multipart/x-mixed-replace; boundary=x")
		for i := 0; r.Context().Err() == nil; i++ {
			body := dark
			if i%2 == 1 {
				body = []byte("not a picture")
			}
			fmt.Fprintf(w, "--x\r\nContent-Length: %d\r\n\r\n%s\r\n", len(body), body)
			w.(http.Flusher).Flush()
			pause()
		}
	}))
	camera.Start()
	t.Cleanup(camera.Close)
	dir := t.TempDir()
	file := filepath.Join(dir, "bright.png")
	if err := os.WriteFile(file, bright, 0o600); err != nil {
		t.Fatal(err)
	}
	h := newTestHub(t)
	c, _ := h.config(t)
	c.Folder.Dir = ""
	c.Sources = []SourceConfig{
		{Name: "door", Kind: kindMJPEG, URL: camera.URL, EveryMS: 25},
		{Name: "pi", Kind: kindExec, Command: []string{"/bin/sh", "-c", `while cat "$1"; do sleep 0.05; done`, "sh", file}, EveryMS: 20},
	}
	if f := sourceCheck(c.Sources); f.err != nil {
		t.Fatal(f)
	}
	a, stop := run(t, c)
	h.want(h.offer(1, false), nil)
	h.until("results of both", func() bool { return len(h.seen("mjpeg:door")) > 4 && len(h.seen("exec:pi")) > 4 })
	wait(t, "unusable frames", func() bool { return a.Status().Sources[0].Unusable > 0 })
	h.mu.Lock()
	d, b := h.seen("mjpeg:door"), h.seen("exec:pi")
	h.mu.Unlock()
	ids := map[string]bool{}
	for i, r := range append(d, b...) {
		want, in := "dark", digestOf(dark)
		if i >= len(d) {
			want, in = "bright", digestOf(bright)
		}
		if r.Labels[0].Label != want || r.Input != in || r.Error != "" || ids[r.ID] || r.Clock.Wall.IsZero() {
			t.Errorf("result %+v", r)
		}
		ids[r.ID] = true
	}
	s := a.Status().Sources
	if s[0].Name != "mjpeg:door" || s[0].Dropped == 0 || s[0].Error != "" || s[1].Opened != 1 || s[0].Frames < s[0].Taken+s[0].Dropped {
		t.Errorf("%+v", s)
	}
	var text bytes.Buffer
	node{a}.Metrics(&text)
	if !strings.Contains(text.String(), `dunlin_source_dropped{source="mjpeg:door"}`) ||
		!strings.Contains(text.String(), `dunlin_results_total{source="exec",outcome="ok"}`) {
		t.Error("the metrics do not have the sources")
	}
	if v := a.figures(); v["source_frames"] == 0 || v["sources_lost"] != 0 {
		t.Errorf("figures %v", v)
	}
	camera.CloseClientConnections()
	wait(t, "the camera to be opened again", func() bool { s := a.Status().Sources[0]; return s.Opened > 1 && s.Error == "" })
	stop()
}

// The time of a frame is when it came, not when it was looked at.
func TestFrameTime(t *testing.T) {
	var c hubClock
	now := c.at(time.Time{})
	then := c.at(time.Now().Add(-time.Hour))
	if d := now.MonoMS - then.MonoMS; d < 3599_000 || d > 3601_000 {
		t.Errorf("an hour ago is %d ms ago", d)
	}
	if d := now.Wall.Sub(then.Wall); d < 3599*time.Second || d > 3601*time.Second || then.Sync != now.Sync {
		t.Errorf("an hour ago is %v ago", d)
	}
}

// offerSum packs a model that tells whether the sum of n numbers is large;
// input says how they are made.
func (h *testHub) offerSum(n int, input string) *wire.Offer {
	h.t.Helper()
	g := model.New("sum")
	g.Inputs, g.Outputs = []string{"x"}, []string{"scores"}
	g.Values["x"] = &model.Value{Type: model.F32, Shape: model.Shape{1, n}}
	w := make([]float32, 2*n)
	for i := range w {
		w[i] = float32(i%2)*2 - 1
	}
	g.AddConst("w", model.Of(model.F32, w, n, 2))
	g.AddConst("b", model.Of(model.F32, []float32{0.5, -0.5}, 2))
	g.Nodes = []*model.Node{
		{Op: "MatMul", Name: "matmul", In: []string{"x", "w"}, Out: []string{"h"}},
		{Op: "Add", Name: "add", In: []string{"h", "b"}, Out: []string{"scores"}},
	}
	program, err := engine.Compile(g, engine.Options{})
	if err != nil {
		h.t.Fatal(err)
	}
	s := program.NewSession()
	if err := s.Run(); err != nil {
		h.t.Fatal(err)
	}
	d, err := pack.Write(h.store, &pack.Pack{
		Name: "sum", Version: 1, Graph: g, Labels: []string{"small", "large"},
		Pipeline:   json.RawMessage(`{"inputs":[{"name":"x",` + input + `}],"outputs":[{"name":"scores","top":2}]}`),
		Provenance: json.RawMessage(`{}`),
		Exam: &pack.Exam{Tolerance: 1e-4, Cases: []pack.Case{{
			Inputs: []*model.Tensor{s.Input(0).Clone()}, Outputs: []*model.Tensor{s.Output(0).Clone()},
		}}},
	})
	if err != nil {
		h.t.Fatal(err)
	}
	return &wire.Offer{
		Kind: wire.OfferModel, Name: "sum", Version: 1, Manifest: string(d.Digest),
		Sig:   h.release.Sign(wire.OfferModel.Purpose(), []byte(d.Digest)),
		Trial: wire.TrialRules{Seconds: 1, MinRuns: 3, MaxMillis: 60_000},
	}
}

// A microphone's windows are answered by a model of sounds, which a picture
// is nothing for.
func TestSound(t *testing.T) {
	loud := bytes.Repeat([]byte{0xff, 0x7f}, 10)
	raw := filepath.Join(t.TempDir(), "raw")
	if err := os.WriteFile(raw, append(make([]byte, 20), loud...), 0o600); err != nil { // 10 ms silent, 10 ms loud
		t.Fatal(err)
	}
	h := newTestHub(t)
	c, _ := h.config(t)
	c.Sources = []SourceConfig{{
		Name: "ear", Kind: kindExec, Command: []string{"/bin/sh", "-c", `while cat "$1"; do sleep 0.05; done`, "sh", raw},
		Format: formatPCM, Rate: 1000, Channels: 1, WindowMS: 10,
	}}
	if f := sourceCheck(c.Sources); f.err != nil {
		t.Fatal(f)
	}
	a, _ := run(t, c)
	h.want(h.offerSum(8, `"kind":"sound","layout":"flat","sound":{"rate":1000,"features":"samples","frames":8,"level":"none"}`), nil)
	heard := map[string]bool{}
	h.until("silence and sound", func() bool {
		for _, r := range h.seen("exec:ear") {
			heard[r.Labels[0].Label] = true
		}
		return heard["small"] && heard["large"]
	})
	_, err := a.p.process(t.Context(), source.New("http", picture(t, 1, 1)), nil)
	if err == nil || !strings.Contains(err.Error(), "no RIFF WAVE header") {
		t.Errorf("a picture for a model of sounds: %v", err)
	}
}

// A sensor's lines are answered by a model of numbers; one that is none makes
// no result and stops nothing.
func TestLines(t *testing.T) {
	fifo := filepath.Join(t.TempDir(), "fifo")
	if err := syscall.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	h := newTestHub(t)
	c, _ := h.config(t)
	c.Sources = []SourceConfig{{Name: "bme", Kind: kindLines, Device: fifo}}
	if f := sourceCheck(c.Sources); f.err != nil {
		t.Fatal(f)
	}
	a, _ := run(t, c)
	h.want(h.offerSum(2, `"kind":"values","fields":["t","h"]`), nil)
	h.until("the model", func() bool { return h.ended(1) == wire.StateActive })
	w, err := os.OpenFile(fifo, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	for i, x := range []struct{ line, label string }{{`{"h": 40, "t": 21.5, "n": 1}`, "large"}, {"t;h", ""}, {"-3.5;1", "small"}} {
		if _, err := fmt.Fprintln(w, x.line); err != nil {
			t.Fatal(err)
		}
		if x.label == "" {
			wait(t, "the line that is none", func() bool { return a.Status().Sources[0].Unusable == 1 })
			continue
		}
		h.until("the result of "+x.line, func() bool {
			for _, r := range h.seen("lines:bme") {
				if r.Input == digestOf([]byte(x.line)) {
					return r.Labels[0].Label == x.label
				}
			}
			return false
		})
		if s := a.Status().Sources[0]; s.Frames != int64(i+1) || s.Error != "" {
			t.Errorf("%+v", s)
		}
	}
}

func TestCheckSources(t *testing.T) {
	var out bytes.Buffer
	good := []SourceConfig{{Name: "a", Kind: kindExec, Command: []string{"sh"}}, {Name: "b", Kind: kindMJPEG, URL: "http://10.0.0.5/"}, {Name: "c", Kind: kindV4L2, Device: "/no/video"}}
	if err := checkSources(good, "x.toml", &out); err != nil || !strings.Contains(out.String(), "/sh\n") || !strings.Contains(out.String(), "v4l2 /no/video, which is not there now") {
		t.Errorf("%v: %s", err, out.String())
	}
	bad := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(bad, []byte("no certificate"), 0o600); err != nil {
		t.Fatal(err)
	}
	for want, c := range map[string]SourceConfig{
		"source 1: command: exec: \"no-such-program\"": {Name: "a", Kind: kindExec, Command: []string{"no-such-program"}},
		"holds no certificate":                         {Name: "a", Kind: kindMJPEG, URL: "https://10.0.0.5/", CAFile: bad},
	} {
		if err := checkSources([]SourceConfig{c}, "x.toml", &out); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
		if c.CAFile != "" {
			if _, err := c.player(prompt{}); err == nil {
				t.Error("a player without its authority")
			}
		}
	}
}
