package agent

import (
	"bytes"
	"encoding/json"
	"net/http"
	"path/filepath"
	"strings"
	"testing"

	"dunlin/facts"
	"dunlin/sync/outbox"
	"dunlin/sync/wire"
)

// Who reads a result's facts finds what the graph says, and then what the
// sensors said, of the sensor of this device.
func TestReadingsAreFacts(t *testing.T) {
	h := newTestHub(t)
	c, _ := h.config(t)
	c.Sensors = []SensorConfig{tank(200)}
	a, _ := run(t, c, func(a *Agent) { a.UseBuses(&adc{mv: 12.5}) })
	h.want(h.offer(1, false), h.graph(1))
	h.until("the model to be active", func() bool {
		return h.reported.Model != nil && h.reported.Facts != nil && h.reported.Facts.Version == 1
	})
	wait(t, "a reading", func() bool { return len(a.sensorStatus()[0].Readings) == 1 })
	res, err := http.Post("http://"+a.Addr()+"/v1/infer", "image/png", bytes.NewReader(picture(t, 250, 1)))
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	var r wire.Result
	if err := json.NewDecoder(res.Body).Decode(&r); err != nil || len(r.Facts) != 2 {
		t.Fatalf("%+v, %v", r, err)
	}
	graph, sensor := r.Facts[0], r.Facts[1]
	if graph.Object != "glare 1" || graph.Measured != nil || r.FactsAt == nil || r.FactsAt.Version != 1 {
		t.Errorf("of the graph: %+v", graph)
	}
	if sensor.Subject != "urn:dunlin:sensor/"+h.device.String()+"/tank" || sensor.Object != "12.5 cm" || sensor.Graph != "" || sensor.Measured == nil {
		t.Errorf("of the sensor: %+v", sensor)
	}
}

// A result that is too long for a record loses facts of the graph, of which
// the device has more, and none that was measured.
func TestLongFactsMakeRoom(t *testing.T) {
	box, err := outbox.Open(filepath.Join(t.TempDir(), "outbox.db"), outbox.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer box.Close()
	for _, c := range []struct{ known, bytes, measured, left int }{{5, 20_000, 2, 2}, {1, 60_000, 1, 0}, {9, 20_000, 0, 2}, {2, 20_000, 1, 2}} {
		var r wire.Result
		for range c.known {
			r.Facts = append(r.Facts, facts.Answer{Object: strings.Repeat("x", c.bytes)})
		}
		for i := range c.measured {
			r.Facts = append(r.Facts, facts.Answer{Object: "1 cm", Measured: &facts.Measured{Value: float64(i)}})
		}
		p := &pipeline{box: box}
		if err := p.keep(t.Context(), &r, nil); err != nil || graphFacts(r.Facts) != c.left || len(r.Facts) != c.left+c.measured {
			t.Errorf("of %d and %d: %d of %d left, %v", c.known, c.measured, graphFacts(r.Facts), len(r.Facts), err)
		}
	}
}
