package probe

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"dunlin/facts"
	"dunlin/model"
	"dunlin/sync/wire"
)

// device is a Node with a model that adds its two inputs.
type device struct {
	down  bool
	block chan struct{} // Infer waits for it, where not nil
	begun chan struct{}
}

func (d *device) Live() error { return nil }

func (d *device) Ready() []Check {
	return []Check{{Name: "model", OK: !d.down}, {Name: "hub", OK: true, Note: "gone"}}
}
func (d *device) Status(context.Context) any { return map[string]string{"device": "shore/pi-1"} }
func (d *device) Metrics(w io.Writer)        { fmt.Fprintln(w, "dunlin_up 1") }
func (d *device) Facts() Facts               { return shelf{} }

// Learn says what it was taught: labels and bytes.
func (d *device) Learn(_ context.Context, model string, next func() (Lesson, error)) (any, error) {
	taught := map[string]string{}
	for {
		l, err := next()
		if err == io.EOF {
			return taught, nil
		}
		if err == nil && string(l.Data) == "often" {
			err = ErrOften
		}
		if err != nil {
			return nil, err
		}
		taught[l.Label] += string(l.Data)
	}
}

func (d *device) Learned(model string) (any, error) {
	if model != "adder" {
		return nil, ErrUnknownModel
	}
	return map[string]int{"kept": 3}, nil
}

func (d *device) Forget(context.Context, string) (any, error) { return nil, ErrOff }

var running = wire.Running{Name: "adder", Version: 3, Digest: "sha256:1"}

func (d *device) Model(name, version string) (Model, error) {
	if d.down {
		return Model{}, ErrNotReady
	}
	if name != "adder" || version != "" && version != "3" {
		return Model{}, fmt.Errorf("%s: %w", name, ErrUnknownModel)
	}
	return Model{
		Running: running,
		Inputs:  []Port{{"a", model.F32, model.Shape{1, 2}}, {"b", model.I64, model.Shape{2}}},
		Outputs: []Port{{"sum", model.F32, model.Shape{1, 2}}, {"flags", model.Bool, model.Shape{2}}, {"bytes", model.U8, model.Shape{2}}},
	}, nil
}

func (d *device) Infer(ctx context.Context, from string, picture []byte) (wire.Result, error) {
	if d.block != nil {
		d.begun <- struct{}{}
		<-d.block
	}
	if string(picture) == "bad" {
		return wire.Result{}, fmt.Errorf("no picture: %w", ErrInput)
	}
	return wire.Result{
		ID: "01J", Source: from, Model: running, Labels: []wire.Label{{Index: 4, Label: "coat", Score: 0.5, Entity: "http://e/c"}},
	}, nil
}

func (d *device) Tensors(_ context.Context, m wire.Running, in []*model.Tensor) ([]*model.Tensor, error) {
	if m != running {
		return nil, ErrSuperseded
	}
	sum := in[0].Clone()
	flags := model.Of(model.Bool, []uint8{0, 0}, 2)
	for i, v := range in[1].I64() {
		sum.F32()[i] += float32(v)
		if v > 0 {
			flags.Bools()[i] = 1
		}
	}
	return []*model.Tensor{sum, flags, model.Of(model.U8, []uint8{0, 255}, 2)}, nil
}

func (d *device) Explain(_ context.Context, q Question) (Explanation, error) {
	if d.block != nil {
		d.begun <- struct{}{}
		<-d.block
	}
	if q.Picture == nil {
		return Explanation{}, ErrNoPicture
	}
	return Explanation{Model: running, Method: q.Method, Class: 4, Label: q.Class, Score: 0.25, PNG: []byte("png"), Micros: q.Budget.Microseconds()}, nil
}

type shelf struct{}

func (shelf) Match(s, p, o facts.Term, limit int) ([]facts.Fact, error) {
	if s.Value == "broken" {
		return nil, errors.New("the card is broken")
	}
	return []facts.Fact{{S: s, P: p, O: o}}, nil
}

func (shelf) Describe(e facts.Term, depth, limit int) ([]facts.Fact, error) {
	return []facts.Fact{{S: e, P: facts.Resource("p"), O: facts.LangText(fmt.Sprint(depth, limit), "en")}}, nil
}

func (shelf) Search(label string, limit int) ([]facts.Term, error) {
	return []facts.Term{facts.Resource("http://e/" + label)}, nil
}
func (shelf) Enrich(iri string, limit int) ([]facts.Answer, error) { return nil, nil }

// serve starts the real server on loopback and on a socket.
func serve(t *testing.T, d *device, o Options) (base, socket string) {
	t.Helper()
	tcp, err := Listen("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	socket = filepath.Join(t.TempDir(), "s")
	unix, err := ListenSocket(socket)
	if err != nil {
		t.Fatal(err)
	}
	srv := Server(New(d, o), slog.New(slog.DiscardHandler))
	for _, l := range []net.Listener{tcp, unix} {
		go func() { _ = srv.Serve(l) }()
	}
	t.Cleanup(func() { _ = srv.Close() })
	return "http://" + tcp.Addr().String(), socket
}

// ask makes a request and returns the status and the body.
func ask(t *testing.T, method, url, kind, body string, head ...string) (int, string) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	if kind != "" {
		r.Header.Set("Content-Type", kind)
	}
	for i := 0; i+1 < len(head); i += 2 {
		r.Header.Set(head[i], head[i+1])
		if head[i] == "Host" {
			r.Host = head[i+1]
		}
	}
	res, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	var compact bytes.Buffer
	if json.Compact(&compact, text) == nil {
		return res.StatusCode, compact.String()
	}
	return res.StatusCode, string(text)
}

// The Open Inference Protocol v2, REST: required fields, their names, codes.
func TestOpenInferenceProtocol(t *testing.T) {
	base, _ := serve(t, &device{}, Options{Version: "1.2"})
	const good = `{"id":"7","inputs":[{"name":"b","shape":[2],"datatype":"INT64","data":[1,-2]},` +
		`{"name":"a","shape":[1,2],"datatype":"FP32","data":[[0.5,1e1]],"parameters":{"x":1}}],"outputs":[{"name":"sum"}]}`
	for _, c := range []struct {
		method, path, kind, body string
		status                   int
		want                     string
	}{
		{"GET", "/v2", "", "", 200, `{"extensions":["dunlin_picture"],"name":"dunlin-agent","version":"1.2"}`},
		{"GET", "/v2/health/live", "", "", 200, `{"live":true}`},
		{"GET", "/v2/health/ready", "", "", 200, `{"ready":true}`},
		{"GET", "/v2/models/adder/ready", "", "", 200, `{"name":"adder","ready":true}`},
		{"GET", "/v2/models/adder/versions/3/ready", "", "", 200, `{"name":"adder","ready":true}`},
		{"GET", "/v2/models/adder/versions/4/ready", "", "", 404, `{"error":"adder: no such model here"}`},
		{"GET", "/v2/models/adder", "", "", 200, `{"inputs":[{"name":"a","datatype":"FP32","shape":[1,2]},{"name":"b","datatype":"INT64","shape":[2]}],` +
			`"name":"adder","outputs":[{"name":"sum","datatype":"FP32","shape":[1,2]},{"name":"flags","datatype":"BOOL","shape":[2]},` +
			`{"name":"bytes","datatype":"UINT8","shape":[2]}],"platform":"dunlin","versions":["3"]}`},
		{
			"POST", "/v2/models/adder/infer", "application/json", good, 200,
			`{"model_name":"adder","model_version":"3","id":"7","outputs":[{"name":"sum","shape":[1,2],"datatype":"FP32","data":[1.5,8]}]}`,
		},
		{
			"POST", "/v2/models/adder/versions/3/infer", "", strings.Replace(good, `,"outputs":[{"name":"sum"}]`, "", 1), 200,
			`{"model_name":"adder","model_version":"3","id":"7","outputs":[{"name":"sum","shape":[1,2],"datatype":"FP32","data":[1.5,8]},` +
				`{"name":"flags","shape":[2],"datatype":"BOOL","data":[true,false]},{"name":"bytes","shape":[2],"datatype":"UINT8","data":[0,255]}]}`,
		},
		{
			"POST", "/v2/models/adder/infer", "image/png", "picture", 200,
			`{"model_name":"adder","model_version":"3","id":"01J","outputs":[{"name":"label","shape":[1],"datatype":"BYTES","data":["coat"]},` +
				`{"name":"score","shape":[1],"datatype":"FP32","data":[0.5]},{"name":"index","shape":[1],"datatype":"INT64","data":[4]},` +
				`{"name":"entity","shape":[1],"datatype":"BYTES","data":["http://e/c"]}]}`,
		},
		{"POST", "/v2/models/other/infer", "", good, 404, `{"error":"other: no such model here"}`},
		{"POST", "/v2/models/adder/infer", "", `{"inputs":[]}`, 400, `{"error":"request: 0 inputs, the model has 2"}`},
		{"POST", "/v2/models/adder/infer", "", strings.Replace(good, "1e1", "1e1,3", 1), 400, `{"error":"input \"a\": data: more than 2 elements"}`},
		{"POST", "/v2/models/adder/infer", "", strings.Replace(good, ",1e1", "", 1), 400, `{"error":"input \"a\": data: 1 elements, the shape has 2"}`},
		{"POST", "/v2/models/adder/infer", "", strings.Replace(good, "FP32", "FP64", 1), 400, `{"error":"input \"a\" is FP64 [1 2], want FP32 [1 2]"}`},
		{"POST", "/v2/models/adder/infer", "", strings.Replace(good, `"name":"b"`, `"name":"a"`, 1), 400, `{"error":"input \"a\" is INT64 [2], want FP32 [1 2]"}`},
		{"POST", "/v2/models/adder/infer", "", strings.Replace(good, `"name":"sum"`, `"name":"difference"`, 1), 400, `{"error":"output \"difference\": the model has none of that name"}`},
		{"POST", "/v2/models/adder/infer", "", "{", 400, `{"error":"request: unexpected end of JSON input"}`},
	} {
		status, body := ask(t, c.method, base+c.path, c.kind, c.body)
		if status != c.status || body != c.want {
			t.Errorf("%s %s %.40s\n got %d %s\nwant %d %s", c.method, c.path, c.body, status, body, c.status, c.want)
		}
	}
	if status, body := ask(t, "POST", base+"/v2/models/adder/infer", "application/octet-stream", good, "Inference-Header-Content-Length", "10"); status != 400 {
		t.Errorf("binary tensors: %d %s", status, body)
	}
}

func TestNotReady(t *testing.T) {
	base, _ := serve(t, &device{down: true}, Options{})
	for path, want := range map[string]int{
		"/livez": 200, "/healthz": 503, "/readyz": 503, "/v2/health/live": 200, "/v2/health/ready": 400,
		"/v2/models/adder/ready": 400, "/v2/models/adder": 503,
	} {
		if status, body := ask(t, "GET", base+path, "", ""); status != want {
			t.Errorf("%s: %d %s, want %d", path, status, body, want)
		}
	}
}

func TestOwnRoutes(t *testing.T) {
	base, socket := serve(t, &device{}, Options{})
	for path, want := range map[string]string{
		"/readyz?verbose": `{"checks":[{"name":"model","ok":true},{"name":"hub","ok":true,"note":"gone"}],"ready":true}`,
		"/metrics":        "dunlin_up 1\n",
		"/v1/status":      `{"device":"shore/pi-1"}`,
		"/v1/facts/match?s=http://e/s&o_text=red&o_lang=EN": `{"facts":[{"s":{"kind":"iri","value":"http://e/s"},"p":{"kind":"","value":""},` +
			`"o":{"kind":"literal","value":"red","datatype":"http://www.w3.org/1999/02/22-rdf-syntax-ns#langString","lang":"en"}}]}`,
		"/v1/facts/search?label=coat":         `{"entities":[{"kind":"iri","value":"http://e/coat"}]}`,
		"/v1/facts/enrich?iri=http://e/c":     `{"answers":[]}`,
		"/v1/facts/describe":                  `{"error":"parameter iri is missing: the input cannot be used"}`,
		"/v1/facts/match?s=broken":            `{"error":"the card is broken"}`,
		"/v1/facts/describe?iri=x&depth=99":   `{"error":"depth \"99\": want 1 to 4: the input cannot be used"}`,
		"/v1/facts/match?limit=0":             `{"error":"limit \"0\": want 1 to 1000: the input cannot be used"}`,
		"/v1/facts/match?o=http://x&o_text=x": `{"error":"o and o_text: give one: the input cannot be used"}`,
	} {
		if _, body := ask(t, "GET", base+path, "", ""); body != want {
			t.Errorf("%s\n got %s\nwant %s", path, body, want)
		}
	}
	if status, body := ask(t, "POST", base+"/v1/infer", "", "picture"); status != 200 || !strings.Contains(body, `"source":"http"`) {
		t.Errorf("infer: %d %s", status, body)
	}
	for body, want := range map[string]int{"bad": 400, "": 400} {
		if status, text := ask(t, "POST", base+"/v1/infer", "", body); status != want {
			t.Errorf("infer %q: %d %s, want %d", body, status, text, want)
		}
	}
	info, err := os.Stat(socket)
	if err != nil || info.Mode().Perm() != 0o660 {
		t.Errorf("socket: %v, %v", info.Mode(), err)
	}
	client := http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", socket)
	}}}
	res, err := client.Get("http://any-name/v1/status")
	if err != nil || res.StatusCode != 200 {
		t.Fatalf("over the socket: %v, %v", res, err)
	}
	res.Body.Close()
}

func TestGuards(t *testing.T) {
	base, _ := serve(t, &device{}, Options{MaxBody: 100})
	for _, c := range []struct {
		what   string
		method string
		body   string
		head   []string
		want   int
	}{
		{"a name rebound to us", "GET", "", []string{"Host", "evil.example"}, 421},
		{"localhost", "GET", "", []string{"Host", "LocalHost:99"}, 200},
		{"IPv6 loopback", "GET", "", []string{"Host", "[::1]:99"}, 200},
		{"another origin", "POST", "x", []string{"Origin", "https://evil.example"}, 403},
		{"another site", "POST", "x", []string{"Sec-Fetch-Site", "cross-site"}, 403},
		{"a program", "POST", "x", nil, 200},
		{"too large", "POST", strings.Repeat("x", 101), nil, 413},
	} {
		path := "/v1/infer"
		if c.method == "GET" {
			path = "/livez"
		}
		if status, body := ask(t, c.method, base+path, "", c.body, c.head...); status != c.want {
			t.Errorf("%s: %d %s, want %d", c.what, status, body, c.want)
		}
	}
}

func TestTooManyAtOnce(t *testing.T) {
	d := &device{block: make(chan struct{}), begun: make(chan struct{}, 2)}
	base, _ := serve(t, d, Options{MaxFlight: 2})
	done := make(chan int, 2)
	for range 2 {
		go func() {
			res, err := http.Post(base+"/v1/infer", "image/png", strings.NewReader("x"))
			if err != nil {
				done <- 0
				return
			}
			res.Body.Close()
			done <- res.StatusCode
		}()
	}
	<-d.begun
	<-d.begun
	if status, body := ask(t, "POST", base+"/v1/infer", "", "x"); status != http.StatusTooManyRequests {
		t.Errorf("the third: %d %s", status, body)
	}
	if status, _ := ask(t, "GET", base+"/livez", "", ""); status != 200 {
		t.Error("health waits for inferences")
	}
	close(d.block)
	for range 2 {
		if status := <-done; status != 200 {
			t.Errorf("one of the two: %d", status)
		}
	}
}

func TestListenOnLoopbackOnly(t *testing.T) {
	for _, addr := range []string{"0.0.0.0:0", ":0", "[::]:0", "192.168.1.1:80", "example.org:80", "127.0.0.1", "127.0.0.1:x"} {
		if l, err := Listen(addr); err == nil {
			l.Close()
			t.Errorf("listens on %s", addr)
		}
	}
	path := filepath.Join(t.TempDir(), "s")
	first, err := ListenSocket(path)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := ListenSocket(path); err == nil {
		t.Error("took the socket of a running agent")
	}
	first.(*net.UnixListener).SetUnlinkOnClose(false) // as after a kill
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	second, err := ListenSocket(path)
	if err != nil {
		t.Fatalf("a socket left behind: %v", err)
	}
	second.Close()
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := ListenSocket(path); err == nil {
		t.Error("replaced a file that is no socket")
	}
}

func FuzzParseRequest(f *testing.F) {
	m, _ := new(device).Model("adder", "")
	f.Add([]byte(`{"inputs":[{"name":"b","shape":[2],"datatype":"INT64","data":[1,-2]},{"name":"a","shape":[1,2],"datatype":"FP32","data":[[0.5],[1]]}]}`))
	f.Add([]byte(`{"inputs":[{"name":"a","shape":[1,2],"datatype":"FP32","data":[[[[[[[[[[[[[[[[[1]]]]]]]]]]]]]]]]]},{}]}`))
	f.Add([]byte(`{"inputs":[{"name":"b","shape":[2],"datatype":"INT64","data":{"a":1}},{"name":"a","shape":[1,2],"datatype":"FP32","data":"x"}]}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		_, inputs, err := parseRequest(text, m.Inputs)
		if err != nil {
			return
		}
		for i, in := range inputs {
			if err := in.Check(); err != nil || !in.Shape.Equal(m.Inputs[i].Shape) {
				t.Fatalf("input %d: %+v, %v", i, in, err)
			}
		}
	})
}

// One explanation is made at a time, a page of another origin has none made,
// and what is asked for wrongly is said.
func TestExplain(t *testing.T) {
	d := &device{block: make(chan struct{}), begun: make(chan struct{}, 1)}
	base, _ := serve(t, d, Options{MaxBody: 100})
	first := make(chan int, 1)
	go func() {
		status, _ := ask(t, "POST", base+"/v1/explain", "", "picture")
		first <- status
	}()
	<-d.begun
	if status, body := ask(t, "POST", base+"/v1/explain", "", "picture"); status != http.StatusTooManyRequests {
		t.Errorf("a second one meanwhile: %d %s", status, body)
	}
	close(d.block)
	if status := <-first; status != http.StatusOK {
		t.Errorf("the first one: %d", status)
	}
	d.block = nil
	for _, c := range []struct {
		method, query, body string
		status              int
		want                string
	}{
		{"POST", "", "picture", 200, "png"},
		{"POST", "?format=json&class=coat&method=cam", "picture", 200, `"method":"cam","class":4,"label":"coat","score":0.25`},
		{"POST", "?format=json&budget_ms=700", "picture", 200, `"micros":700000`},
		{"POST", "?budget_ms=20001", "picture", 400, "want 1 to 20000"},
		{"POST", "?size=9", "picture", 400, "budget_ms"},
		{"POST", "", "", 400, "empty"},
		{"POST", "", strings.Repeat("x", 101), 413, "100 bytes"},
		{"GET", "", "", 404, "no picture"},
		{"PUT", "", "picture", 405, ""},
	} {
		if status, body := ask(t, c.method, base+"/v1/explain"+c.query, "", c.body); status != c.status || !strings.Contains(body, c.want) {
			t.Errorf("%s %s: %d %s, want %d %s", c.method, c.query, status, body, c.status, c.want)
		}
	}
	if status, _ := ask(t, "GET", base+"/v1/explain", "", "", "Sec-Fetch-Site", "cross-site"); status != http.StatusForbidden {
		t.Errorf("for a page of another origin: %d", status)
	}
}
