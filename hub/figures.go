package hub

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/VictoriaMetrics/metrics"

	"dunlin/hub/api"
	"dunlin/hub/results"
	"dunlin/sync/wire"
)

// counts are what the hub counts since its start. The figures of all time are
// in the results.
type counts struct {
	unknown    atomic.Int64 // messages of devices or commands that are not known
	malformed  atomic.Int64 // messages that cannot be read
	crowded    atomic.Int64 // batches dropped because too many waited
	notStored  atomic.Int64 // batches that the disk did not take
	stored     atomic.Int64 // results
	duplicates atomic.Int64 // records that were stored already
	early      atomic.Int64 // records above the watermark
	delay      *metrics.Histogram

	set *metrics.Set

	mu      sync.Mutex // guards devices
	devices map[wire.Device]map[string]float64
}

func (c *counts) init(h *Hub) {
	c.set, c.devices = metrics.NewSet(), map[wire.Device]map[string]float64{}
	for name, n := range map[string]*atomic.Int64{
		`dunlin_hub_results_stored_total`:                     &c.stored,
		`dunlin_hub_records_duplicate_total`:                  &c.duplicates,
		`dunlin_hub_records_early_total`:                      &c.early,
		`dunlin_hub_messages_dropped_total{why="unknown"}`:    &c.unknown,
		`dunlin_hub_messages_dropped_total{why="malformed"}`:  &c.malformed,
		`dunlin_hub_messages_dropped_total{why="crowded"}`:    &c.crowded,
		`dunlin_hub_messages_dropped_total{why="not_stored"}`: &c.notStored,
	} {
		c.set.NewGauge(name, func() float64 { return float64(n.Load()) })
	}
	c.delay = c.set.NewHistogram(`dunlin_hub_result_commit_seconds`)
	c.set.NewGauge(`dunlin_hub_messages_dropped_total{why="queue"}`, func() float64 { return float64(h.linkDrops()) })
	c.set.NewGauge(`dunlin_hub_connections`, func() float64 { return float64(h.broker.Connections()) })
	c.set.NewGauge(`dunlin_hub_broker_up`, func() float64 {
		if l := h.link.Load(); l != nil && l.Connected() {
			return 1
		}
		return 0
	})
	for name, online := range map[string]bool{`dunlin_hub_devices`: false, `dunlin_hub_devices_online`: true} {
		c.set.NewGauge(name, func() float64 { return float64(h.countDevices(online)) })
	}
}

// maxMetrics bounds the values that are kept of one device.
const maxMetrics = 64

// metric keeps what a device said of itself last.
func (c *counts) metric(d wire.Device, values map[string]float64) {
	if len(values) > maxMetrics {
		c.malformed.Add(1)
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.devices[d] = values
}

func (c *counts) forget(d wire.Device) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.devices, d)
}

func (h *Hub) linkDrops() int64 {
	if l := h.link.Load(); l != nil {
		return l.Drops()
	}
	return 0
}

func (h *Hub) countDevices(onlineOnly bool) (n int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, d := range h.state.devices {
		if d.Online || !onlineOnly {
			n++
		}
	}
	return n
}

// WriteMetrics writes the hub's metrics, and what each device said of itself,
// in the Prometheus text format.
func (h *Hub) WriteMetrics(w io.Writer) {
	h.counts.set.WritePrometheus(w)
	if total, err := h.results.Total(); err == nil {
		fmt.Fprintf(w, "dunlin_hub_results %d\ndunlin_hub_results_errors %d\ndunlin_hub_results_bytes %d\ndunlin_hub_records_dropped_by_devices %d\n",
			total.Results, total.Errors, total.Bytes, total.Dropped)
	}
	h.counts.mu.Lock()
	defer h.counts.mu.Unlock()
	for d, values := range h.counts.devices {
		for _, name := range slices.Sorted(maps.Keys(values)) {
			fmt.Fprintf(w, "dunlin_device_metric{device=%q,name=%q} %v\n", d.String(), name, values[name])
		}
	}
}

// Results returns a page of results.
func (h *Hub) Results(q results.Query) (results.Page, error) { return h.results.Find(q) }

// Explain keeps an explanation of a result, and tells the page.
func (h *Hub) Explain(id uint64, e results.Explanation) error {
	row, err := h.results.Explain(id, e)
	if err == nil {
		h.events.Publish(api.EventExplain, api.NewResultRow(row))
	}
	return err
}

// Explanation returns the explanation of a result with its picture.
func (h *Hub) Explanation(id uint64) (results.Explanation, error) { return h.results.Explanation(id) }

// Summary returns the figures that the page shows first.
func (h *Hub) Summary() (api.Summary, error) {
	total, err := h.results.Total()
	if err != nil {
		return api.Summary{}, err
	}
	graphs, err := h.Graphs()
	if err != nil {
		return api.Summary{}, err
	}
	if graphs == nil {
		graphs = []api.Graph{}
	}
	c := &h.counts
	s := api.Summary{
		Models: len(h.registry.List()), Graphs: graphs, Results: total,
		Dropped: map[string]int64{
			"unknown": c.unknown.Load(), "malformed": c.malformed.Load(), "crowded": c.crowded.Load(),
			"not_stored": c.notStored.Load(), "queue": h.linkDrops(),
		},
		Hub: map[string]string{"version": h.o.Version, "http": h.HTTPURL(), "mqtt": h.MQTTURL(), "key": h.key.Public().ID()},
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	s.Devices = len(h.state.devices)
	for _, d := range h.state.devices {
		if d.Online {
			s.Online++
		}
	}
	for _, r := range h.state.rollouts {
		if !r.Phase.Ended() {
			s.Rollouts++
		}
	}
	return s, nil
}

// OpenBlob opens a blob for reading.
func (h *Hub) OpenBlob(digest string) (io.ReadSeekCloser, int64, error) {
	f, size, err := h.registry.OpenBlob(digest)
	if err != nil {
		return nil, 0, fmt.Errorf("%w: %w", api.ErrNotFound, err)
	}
	return f, size, nil
}

// PutBlob stores an uploaded blob.
func (h *Hub) PutBlob(digest string, body io.Reader) error { return h.registry.PutBlob(digest, body) }
