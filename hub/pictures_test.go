package hub_test

import (
	"bytes"
	"encoding/json"
	"encoding/xml"
	"errors"
	"image"
	"image/png"
	"io"
	"strings"
	"testing"

	"dunlin/hub"
	"dunlin/hub/api"
	"dunlin/hub/results"
	"dunlin/internal/sign"
)

const frontReport = `{"certificate":{"certified":true,"measure":"accuracy","max_drop":0.01,"bound":"bernstein","float_accuracy":0.92,"chosen":1,"front":[
{"name":"float32","bytes":326000,"certified":true},
{"name":"a <b>, c","bytes":87000,"drop":0.002,"bernstein":0.006,"gain":0.001,"certified":true}]}}`

// TestFront: a model whose report has a front has a picture of it, and one
// without has none.
func TestFront(t *testing.T) {
	key := newKey(t)
	s := run(t, hub.Options{Dir: t.TempDir(), ReleaseKeys: sign.Trust{key.Public()}})
	for i, report := range []string{``, `{"bytes":{"before":2,"after":1}}`, frontReport, `{"certificate":7}`} {
		l, manifest := packedWith(t, int64(i+1), true, report)
		s.upload(l, manifest)
		if status := s.add(manifest, key); status != 200 {
			t.Fatalf("version %d is not added: %d", i+1, status)
		}
	}
	header := map[string]string{"Authorization": "Bearer " + s.admin}
	status, body, h := s.do("GET", "/v1/models/garments/3/front.svg", header, "")
	if status != 200 || h.Get("Content-Type") != "image/svg+xml" || !strings.Contains(h.Get("Content-Security-Policy"), "default-src 'none'") {
		t.Fatalf("%d %v %s", status, h, body)
	}
	for d := xml.NewDecoder(strings.NewReader(body)); ; {
		if _, err := d.Token(); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatalf("not XML: %v: %s", err, body)
		}
	}
	if strings.Count(body, "<circle") != 2 || !strings.Contains(body, "a &lt;b&gt;, c") || strings.Contains(body, "<b>") {
		t.Errorf("the picture is %s", body)
	}
	header["If-None-Match"] = h.Get("ETag")
	if status, _, _ := s.do("GET", "/v1/models/garments/3/front.svg", header, ""); status != 304 {
		t.Errorf("asked with its ETag: %d, want 304", status)
	}
	for path, want := range map[string]int{"garments/1": 404, "garments/2": 404, "garments/4": 400, "garments/9": 404, "none/3": 404, "garments/x": 400} {
		if status, body, _ := s.do("GET", "/v1/models/"+path+"/front.svg", header, ""); status != want || !strings.HasPrefix(body, `{"error":`) {
			t.Errorf("%s: %d, want %d: %s", path, status, want, body)
		}
	}
}

func pngOf(t *testing.T, w, h int) string {
	t.Helper()
	var b bytes.Buffer
	if err := png.Encode(&b, image.NewGray(image.Rect(0, 0, w, h))); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// TestExplanation: a picture can be put beside a result, is shown with it, is
// there after a restart, and what is no such picture is refused.
func TestExplanation(t *testing.T) {
	dir := t.TempDir()
	s := run(t, hub.Options{Dir: dir})
	b := start(t, s.enrol("left"), t.TempDir())
	b.put(2)
	eventually(t, "the results are stored", b.drained)
	rows := func() (page struct{ Rows []api.ResultRow }) {
		s.must("GET", "/v1/results", nil, &page)
		return page
	}
	at := "/v1/results/" + rows().Rows[0].ID + "/explanation"
	header := map[string]string{"Authorization": "Bearer " + s.admin}
	heat := pngOf(t, 28, 28)
	for _, tc := range []struct {
		name, path, body string
		want             int
	}{
		{"no method", at, heat, 400},
		{"no picture", at + "?method=cam", "GIF89a", 400},
		{"nothing", at + "?method=cam", "", 400},
		{"too many bytes", at + "?method=cam", heat + strings.Repeat("x", results.MaxExplanation), 413},
		{"too many pixels", at + "?method=cam", pngOf(t, 5000, 1), 400},
		{"a long label", at + "?method=cam&label=" + strings.Repeat("x", 201), heat, 400},
		{"no such result", "/v1/results/7/explanation?method=cam", heat, 404},
		{"no number", "/v1/results/x/explanation?method=cam", heat, 400},
	} {
		if status, body, _ := s.do("PUT", tc.path, header, tc.body); status != tc.want {
			t.Errorf("%s: %d, want %d: %s", tc.name, status, tc.want, body)
		}
	}
	if status, _, _ := s.do("GET", at, header, ""); status != 404 {
		t.Errorf("a refused picture is there: %d", status)
	}
	if status, body, _ := s.do("PUT", at+"?method=cam&label=Bag", header, heat); status != 200 {
		t.Fatalf("%d %s", status, body)
	}
	s.stop()
	s = run(t, hub.Options{Dir: dir})
	header["Authorization"] = "Bearer " + s.admin
	status, body, h := s.do("GET", at, header, "")
	if status != 200 || body != heat || h.Get("Content-Type") != "image/png" || h.Get("X-Content-Type-Options") != "nosniff" {
		t.Errorf("%d, %d bytes, %v", status, len(body), h)
	}
	all := rows().Rows
	if e := all[0].Explanation; e == nil || e.Method != "cam" || e.Label != "Bag" || e.At.IsZero() || all[1].Explanation != nil {
		text, _ := json.Marshal(all)
		t.Errorf("the rows are %s", text)
	}
}
