package page_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"image"
	"image/png"
	"io"
	"net"
	"net/http"
	"slices"
	"sync"
	"testing"
	"time"

	"dunlin/facts"
	"dunlin/hub/api"
	"dunlin/hub/page"
	"dunlin/hub/registry"
	"dunlin/hub/results"
	"dunlin/hub/rollout"
	"dunlin/internal/sign"
	"dunlin/sync/wire"
)

const token = "a-token-of-the-test"

// fleet is a hub's data, served by the real API: four devices, a rollout, a
// graph, two models with their reports, and an hour of answers.
type fleet struct {
	api.Backend // nil: the page asks for none of the other methods

	mu       sync.Mutex // guards what follows
	devices  []api.Device
	rollouts []rollout.State
	versions []registry.Version
	graph    api.Graph
	rows     []results.Row // the oldest first
	blobs    map[string][]byte
	asked    []string // what was done to rollouts

	events api.Events
	server *http.Server
	addr   string
}

const home = "home"

func digest(c string) string { return "sha256:" + string(bytes.Repeat([]byte(c), 64/len(c))) }

func newFleet(t *testing.T) *fleet {
	now := time.Now().UTC()
	old := wire.Running{Name: "garments", Version: 1, Digest: digest("a1b2c3d4")}
	new := wire.Running{Name: "garments", Version: 2, Digest: digest("7f3e90aa"), Previous: old.Digest}
	at := &wire.FactsVersion{Graph: "garments", Version: 3}
	f := &fleet{
		graph: api.Graph{Name: "garments", Version: 3, Facts: 297, Added: 12, Removed: 4, Changed: now.Add(-2 * time.Hour)},
		blobs: map[string][]byte{},
	}
	report := func(state wire.State, v wire.Running, reason wire.Reason, text string) []wire.Report {
		return []wire.Report{{Kind: wire.OfferModel, Name: v.Name, Version: v.Version, Digest: v.Digest, State: state, Reason: reason, Error: text}}
	}
	device := func(name, board, kernels string, online bool, seen time.Duration, runs wire.Running, box wire.OutboxState, reports []wire.Report) {
		f.devices = append(f.devices, api.Device{
			Tenant: home, Name: name, Online: online, LastSeen: now.Add(-seen),
			Hello:    &wire.Hello{Epoch: "e1", OS: "linux/arm64", Agent: "0.1.0", Board: board, Kernels: kernels, Outbox: box},
			Reported: &wire.Reported{Model: &runs, Facts: at, Reports: reports},
		})
	}
	device("door", "Raspberry Pi 5 Model B", "dotprod", true, time.Second, new, wire.OutboxState{First: 40, Next: 40}, report(wire.StateActive, new, "", ""))
	device("hall", "Raspberry Pi 4 Model B", "neon", true, 4*time.Second, new, wire.OutboxState{First: 9, Next: 9},
		append(report(wire.StateTrial, new, "", ""), wire.Report{Kind: wire.OfferAgent, Name: "dunlin-agent", Version: 1_002_003, State: wire.StateReverted, Reason: wire.ReasonNoHub}))
	device("store", "Jetson Orin Nano", "dotprod", true, 9*time.Second, old, wire.OutboxState{First: 7, Next: 7},
		report(wire.StateRefused, new, wire.ReasonExam, "exam: case 2: output 0 differs"))
	device("yard", "Raspberry Pi Zero 2 W", "neon", false, 47*time.Minute, old, wire.OutboxState{First: 12, Next: 58, Dropped: 3}, report(wire.StateActive, old, "", ""))

	f.devices[1].Reported.Throttle = &wire.Throttle{Level: 2, Frames: 4, Threads: 2, TempC: 82.1, Why: "cpu is at 82.1 °C, its soft limit is 80 °C"}

	f.rollouts = []rollout.State{
		rolled("r2", now.Add(-4*time.Minute), rollout.Canary, "1 of 2 devices have not finished (0 are offline)", new,
			rollout.Device{Name: "home/door", Canary: true, Stage: rollout.Passed, Online: true, After: rollout.Figures{Runs: 31}},
			rollout.Device{Name: "home/hall", Canary: true, Stage: rollout.Trial, Online: true, After: rollout.Figures{Runs: 6}},
			rollout.Device{Name: "home/store", Stage: rollout.Waiting, Online: true},
			rollout.Device{Name: "home/yard", Stage: rollout.Waiting}),
		rolled("r1", now.Add(-26*time.Hour), rollout.Done, "4 of 4 devices passed", old),
	}
	f.versions = []registry.Version{
		f.pack(old, "fp16", 0.9269, 0.9269, 189_412, false, ""),
		f.pack(new, "", 0.9269, 0.9251, 121_870, true, theFront),
	}
	f.fill(now, new)
	f.listen(t, "127.0.0.1:0")
	t.Cleanup(f.stop)
	return f
}

func rolled(id string, at time.Time, p rollout.Phase, why string, m wire.Running, devices ...rollout.Device) rollout.State {
	return rollout.State{
		ID: id, Phase: p, Why: why, Created: at, Since: at, Devices: devices,
		New: rollout.Target{Name: m.Name, Version: m.Version, Digest: m.Digest},
	}
}

// pack adds the two blobs of a pack that the page reads.
func (f *fleet) pack(m wire.Running, to string, before, after float64, size int64, exact bool, certificate string) registry.Version {
	report := digest(m.Digest[7:11])
	f.blobs[report] = fmt.Appendf(nil, `{"quant":{"to":%q},%s"bytes":{"before":338169,"after":%d},"accuracy":[{"data":"samples","samples":200,"before":1,"after":1},{"data":"t10k","samples":10000,"before":%v,"after":%v}]}`, to, certificate, size, before, after)
	f.blobs[m.Digest] = fmt.Appendf(nil, `{"schemaVersion":2,"config":{"mediaType":"application/vnd.cncf.model.config.v1+json","digest":%[1]q,"size":1},"layers":[{"mediaType":"application/vnd.dunlin.model.report.v1+json","digest":%[1]q,"size":%[2]d}]}`, report, len(f.blobs[report]))
	return registry.Version{Name: m.Name, Version: m.Version, Manifest: m.Digest, Bytes: size, Exact: exact, Sig: sign.Signature{Key: "93ab1f0c22d4e870", Sig: []byte("s")}}
}

// theFront is a part of the report of a model that was chosen from a front.
const theFront = `"certificate":{"certified":true,"measure":"accuracy","max_drop":0.01,"confidence":0.95,"bound":"bernstein","samples":9488,"data":"fashion-mnist",
"float_accuracy":0.9269,"chosen":3,"front":[
{"name":"float32","bytes":326400,"certified":true,"median_ms":0.051},
{"name":"15 fp16","bytes":154500,"drop":0.0002,"bernstein":0.0024,"gain":0.0021,"certified":true,"median_ms":0.051},
{"name":"15 int8","bytes":87200,"drop":0.0006,"bernstein":0.0039,"gain":0.0027,"certified":true,"median_ms":0.022},
{"name":"6 int8, 9 int4","bytes":53900,"drop":0.0004,"bernstein":0.0051,"gain":0.0042,"certified":true,"median_ms":0.022},
{"name":"15 int4","bytes":50600,"drop":0.0126,"bernstein":0.0194,"gain":0.001,"certified":false,"median_ms":0.022}]},`

const thing = "https://dunlin.example/garments/"

// said are the facts that the demo's graph tells of an ankle boot.
func said() []facts.Answer {
	subject := thing + "kind/ankle-boot"
	one := func(p, label, o, iri string) facts.Answer {
		return facts.Answer{Subject: subject, Predicate: thing + "term/" + p, Label: label, Object: o, ObjectIRI: iri, Source: "dunlin example facts, written 2026, CC0", Graph: "garments@3"}
	}
	return []facts.Answer{
		one("material", "material", "leather", thing+"material/leather"),
		one("material", "material", "rubber", thing+"material/rubber"),
		one("cleaning", "cleaning", "Brush off dry dirt, wipe with a damp cloth, then care for the leather with polish or grease.", ""),
		one("hazard", "hazard", "high heel", thing+"hazard/heel"),
		one("recycling", "recycling", "shoes in pairs, tied together", thing+"stream/shoes"),
	}
}

// felt are the facts that a device's sensors tell.
func felt() []facts.Answer {
	one := func(p, o string, m facts.Measured) facts.Answer {
		return facts.Answer{Subject: "urn:dunlin:sensor/home/door/hall", Predicate: "urn:dunlin:quantity/" + p, Label: p, Object: o, Source: "sensor hall (bme280)", Measured: &m}
	}
	return []facts.Answer{
		one("temperature", "21.43 °C", facts.Measured{Value: 21.43, Unit: "°C", AgeMS: 300}),
		one("<b>dust", "0.0125", facts.Measured{Value: 0.0125, AgeMS: 4100}),
	}
}

// answer is one result of a device.
func answer(at time.Time, m wire.Running, label string, score float32, micros int64) wire.Result {
	labels := []wire.Label{{Index: 9, Label: label, Score: score, Entity: thing + "kind/ankle-boot"}, {Index: 7, Label: "Sneaker", Score: (1 - score) * 0.8}, {Index: 5, Label: "Sandal", Score: (1 - score) * 0.2}}
	return wire.Result{
		ID: "01", Clock: wire.Clock{Wall: at, Sync: wire.ClockNTP}, Source: "folder:inbox/t10k-00124.jpg", Input: digest("5e884898"),
		Model: m, Labels: labels, Facts: append(said(), felt()...), FactsAt: &wire.FactsVersion{Graph: "garments", Version: 3}, Micros: micros,
	}
}

// fill makes an hour of answers, thinner at its beginning.
func (f *fleet) fill(now time.Time, m wire.Running) {
	labels := []string{"Ankle boot", "Sneaker", "Bag", "Coat", "Dress", "Sandal", "Shirt", "Trouser"}
	for i := range 260 {
		back := time.Duration((i*i*7)%55000) * time.Millisecond * 60
		f.rows = append(f.rows, f.row([]string{"door", "hall", "store"}[i%3], int64(i/3+1), now.Add(-back), answer(now.Add(-back), m, labels[(i*i/5)%8], 0.55+float32(i*37%45)/100, int64(380+i*53%190+i%3*400))))
	}
	slices.SortFunc(f.rows, func(a, b results.Row) int { return int(int64(a.ID) - int64(b.ID)) })
}

func (f *fleet) row(device string, seq int64, stored time.Time, r wire.Result) results.Row {
	body, _ := json.Marshal(r)
	return results.Row{ID: uint64(stored.UnixNano()), Device: wire.Device{Tenant: home, Name: device}, Epoch: "e1", Seq: seq, Kind: wire.RecordResult, Body: body}
}

// tell adds a result as if it just arrived, and returns its event.
func (f *fleet) tell(device string, seq int64, r wire.Result) api.ResultRow {
	row := f.row(device, seq, time.Now(), r)
	f.mu.Lock()
	f.rows = append(f.rows, row)
	f.mu.Unlock()
	event := api.NewResultRow(row)
	f.events.Publish(api.EventResult, event)
	return event
}

// listen starts the server; stop ends it and every connection, as a killed
// hub does.
func (f *fleet) listen(t *testing.T, addr string) {
	t.Helper()
	s, err := api.New(api.Options{Backend: f, AdminToken: token, Events: &f.events, Page: page.Handler(), Loopback: true})
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	f.addr = l.Addr().String()
	f.server = &http.Server{Handler: s, ReadHeaderTimeout: 5 * time.Second}
	go f.server.Serve(l) //nolint:errcheck // it ends with stop
}

func (f *fleet) stop() { f.server.Close() }

// What follows is api.Backend, as far as the page asks for it.

func (f *fleet) DeviceOf(string) (wire.Device, bool) { return wire.Device{}, false }

type blob struct{ *bytes.Reader }

func (blob) Close() error { return nil }

func (f *fleet) OpenBlob(d string) (io.ReadSeekCloser, int64, error) {
	data, ok := f.blobs[d]
	if !ok {
		return nil, 0, api.ErrNotFound
	}
	return blob{bytes.NewReader(data)}, int64(len(data)), nil
}

// explain puts a picture beside the newest result and tells the page.
func (f *fleet) explain(t *testing.T) {
	t.Helper()
	heat := image.NewRGBA(image.Rect(0, 0, 28, 28))
	for i := range heat.Pix {
		heat.Pix[i] = uint8(i / 12)
	}
	var b bytes.Buffer
	if err := png.Encode(&b, heat); err != nil {
		t.Fatal(err)
	}
	f.mu.Lock()
	r := &f.rows[len(f.rows)-1]
	r.Explanation = &results.Explanation{Method: "cam", Label: "<b>Ankle boot</b>", At: time.Now(), PNG: b.Bytes()}
	row := *r
	f.mu.Unlock()
	f.events.Publish(api.EventExplain, api.NewResultRow(row))
}

func (f *fleet) Explanation(id uint64) (results.Explanation, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, r := range f.rows {
		if r.ID == id && r.Explanation != nil {
			return *r.Explanation, nil
		}
	}
	return results.Explanation{}, results.ErrNoResult
}

func (f *fleet) Models() []registry.Version   { return f.versions }
func (f *fleet) Graphs() ([]api.Graph, error) { return []api.Graph{f.graph}, nil }
func (f *fleet) Describe(graph, iri string) ([]facts.Answer, error) {
	if graph == f.graph.Name && iri == said()[0].Subject {
		return said(), nil
	}
	return nil, nil
}
func (f *fleet) Devices() []api.Device { return f.devices }

// theClaim is the line that every claim of this hub has.
const theClaim = "dunlin-claim:1.AAECAwQFBgcICQoLDA0OD2on0qtqJ-C7@http://10.0.0.5:7070"

func (f *fleet) MakeClaim(r api.ClaimRequest) (string, api.Claim, error) {
	if r.Tenant != home {
		return "", api.Claim{}, fmt.Errorf("tenant %q: %w", r.Tenant, api.ErrInvalid)
	}
	return theClaim, api.Claim{ID: "c1", Tenant: r.Tenant, Name: r.Name, Count: 1, NotAfter: time.Now().Add(time.Hour)}, nil
}

func (f *fleet) Rollouts() []rollout.State {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.rollouts)
}

func (f *fleet) ControlRollout(id string, e rollout.EventKind) (rollout.State, error) {
	f.mu.Lock()
	f.asked = append(f.asked, id+" "+string(e))
	f.rollouts[0], _ = rollout.Next(f.rollouts[0], rollout.Event{Kind: e, Why: "a person said so"}, time.Now())
	s := f.rollouts[0]
	f.mu.Unlock()
	f.events.Publish(api.EventRollout, s)
	return s, nil
}

// Results answers the newest first, filtered by what the page's two filters ask.
func (f *fleet) Results(q results.Query) (results.Page, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	var p results.Page
	for _, r := range slices.Backward(f.rows) {
		var body wire.Result
		if err := json.Unmarshal(r.Body, &body); err != nil {
			return p, err
		}
		if q.After != 0 && r.ID >= q.After || q.Device.Name != "" && q.Device != r.Device || q.Label != "" && q.Label != body.Labels[0].Label {
			continue
		}
		if len(p.Rows) == q.Limit {
			p.Next = p.Rows[q.Limit-1].ID
			break
		}
		p.Rows = append(p.Rows, r)
	}
	return p, nil
}

func (f *fleet) Summary() (api.Summary, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return api.Summary{
		Devices: len(f.devices), Online: 3, Models: len(f.versions), Rollouts: 1, Graphs: []api.Graph{f.graph},
		Results: results.Counts{Results: int64(len(f.rows)), Dropped: 3},
	}, nil
}
